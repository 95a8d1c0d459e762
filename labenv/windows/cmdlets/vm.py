"""Virtual machines: Get-VM, New-VM, Set-VM, Rename-VM, Start-VM, Stop-VM, Save-VM, Remove-VM, Get-VMHost."""

from __future__ import annotations

import ntpath
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from labenv.windows import shapes_hyperv as shape
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets.targets import texts, vms
from labenv.windows.cmdlets.vhd import make
from labenv.windows.errors import FileProblem, hyperv, hyperv_file
from labenv.windows.objects import Int64, PsList, PsObject
from labenv.windows.places import VIRTUAL_DISKS, VIRTUAL_MACHINES
from labenv.windows.records import DriveRecord, VmRecord
from labenv.windows.vmconfig import is_active, is_moving
from labenv.windows.volumes import full_path

if TYPE_CHECKING:
    from labenv.windows.host import Host

ALREADY = "The virtual machine is already in the specified state."


def get_vm(host: Host, call: Call) -> Sequence[object]:
    """Get-VM by name (patterns), by id, or all."""
    if "Id" in call:
        vm = host.machines.get(call["Id"])
        if vm is None:
            text = f'Hyper-V was unable to find a virtual machine with id "{call["Id"]}".'
            raise hyperv("InvalidParameter", text, target=call["Id"])
        return [shape.virtual_machine(host, vm)]
    return [shape.virtual_machine(host, vm) for vm in vms(host, call, all_if_none=True)]


async def new_vm(host: Host, call: Call) -> Sequence[object]:
    """New-VM: with no disk, an existing one or a new one; its files go below -Path in a folder of its name."""
    await host.spend("windows.vm.new")
    name = str(call.get("Name") or "New Virtual Machine")
    generation = int(call.get("Generation") or 1)
    if generation == 2 and host.spec.era != "2022":
        raise hyperv("InvalidParameter", "Generation 2 virtual machines came with Windows Server 2012 R2.", target=name)
    switch = str(call.get("SwitchName") or "")
    if switch and host.machines.switch(switch) is None:
        raise hyperv(
            "InvalidParameter", f'Hyper-V was unable to find a virtual switch with name "{switch}".', target=switch
        )
    base = str(call["Path"]) if "Path" in call else VIRTUAL_MACHINES
    path = ntpath.join(full_path(base), name) if "Path" in call else base
    vm_id = host.ids.uuid("vm", host.name, name)
    vm = VmRecord(
        id=vm_id,
        name=name,
        generation=generation,
        version=host.spec.configuration_version,
        path=path,
        snapshot_path=path,
        created=host.clock.time,
        memory=int(call.get("MemoryStartupBytes") or (512 << 20 if host.spec.era == "2012" else 1 << 30)),
        checkpoint_type="Production" if host.spec.era == "2022" else "Standard",
        smart_paging_path=path,
        dvd=generation == 1,
        adapters=(host.machines.new_adapter(vm_id, switch=switch),),
    )
    try:
        if "NewVHDPath" in call or "VHDPath" in call:
            vm = replace(vm, drives=(_first_drive(host, call, vm),))
        host.machines.create(vm)
    except FileProblem as error:
        raise hyperv_file("Failed to create a new virtual machine.", error) from error
    return [shape.virtual_machine(host, vm)]


def _first_drive(host: Host, call: Call, vm: VmRecord) -> DriveRecord:
    path = str(call.get("VHDPath") or call["NewVHDPath"])
    if not ntpath.isabs(path):
        path = ntpath.join(VIRTUAL_DISKS, path)
    path = full_path(path)
    if "NewVHDPath" in call:
        make(host, path, size=int(call["NewVHDSizeBytes"]))
    else:
        host.vhds.info(path)
    return DriveRecord("IDE" if vm.generation == 1 else "SCSI", 0, 0, path)


_FIELDS = {
    "Notes": "notes",
    "ProcessorCount": "processors",
    "MemoryStartupBytes": "memory",
    "MemoryMinimumBytes": "memory_minimum",
    "MemoryMaximumBytes": "memory_maximum",
    "CheckpointType": "checkpoint_type",
    "AutomaticCheckpointsEnabled": "automatic_checkpoints",
    "AutomaticStartAction": "start_action",
    "AutomaticStartDelay": "start_delay",
    "AutomaticStopAction": "stop_action",
    "AutomaticCriticalErrorAction": "critical_error_action",
    "AutomaticCriticalErrorActionTimeout": "critical_error_timeout",
    "SnapshotFileLocation": "snapshot_path",
    "SmartPagingFilePath": "smart_paging_path",
    "NewVMName": "name",
}
_ONLY_WHEN_OFF = ("ProcessorCount", "MemoryStartupBytes", "DynamicMemory", "StaticMemory")


async def set_vm(host: Host, call: Call) -> Sequence[object] | None:
    """Set-VM."""
    await host.spend("windows.vm.set")
    output: list[object] = []
    for vm in vms(host, call):
        if is_active(vm) and any(name in call for name in _ONLY_WHEN_OFF):
            call.error(_wrong_state(vm, "modify settings"))
            continue
        if (
            "CheckpointType" in call
            and call["CheckpointType"] in ("Production", "ProductionOnly")
            and host.spec.era != "2022"
        ):
            call.error(
                hyperv("InvalidParameter", "Production checkpoints came with Windows Server 2016.", target=vm.name)
            )
            continue
        if "SnapshotFileLocation" in call and host.machines.snapshots_of(vm):
            text = f"'{vm.name}' failed to modify settings: the checkpoints that it has keep their location."
            call.error(hyperv("OperationFailed", text, target=vm.name))
            continue
        changes = {field: call[name] for name, field in _FIELDS.items() if name in call}
        if "DynamicMemory" in call or "StaticMemory" in call:
            changes["dynamic_memory"] = bool(call.get("DynamicMemory"))
        changed = _put(host, call, replace(vm, **changes))
        if changed is not None:
            output.append(shape.virtual_machine(host, changed))
    return output if call.get("Passthru") else None


def _put(host: Host, call: Call, vm: VmRecord) -> VmRecord | None:
    try:
        return host.machines.put(vm)
    except FileProblem as error:
        call.error(hyperv_file(f"'{vm.name}' failed to modify settings. (Virtual machine ID {vm.id})", error))
        return None


def _wrong_state(vm: VmRecord, doing: str) -> PsError:
    text = f"'{vm.name}' failed to {doing}: the operation cannot be performed while the object is in its current state."
    return hyperv("InvalidState", text, target=vm.name)


async def rename_vm(host: Host, call: Call) -> Sequence[object] | None:
    """Rename-VM; its files keep their names."""
    await host.spend("windows.vm.set")
    output: list[object] = []
    for vm in vms(host, call):
        changed = _put(host, call, replace(vm, name=str(call["NewName"])))
        if changed is not None:
            output.append(shape.virtual_machine(host, changed))
    return output if call.get("Passthru") else None


async def _each(
    host: Host,
    call: Call,
    operation: Callable[[VmRecord], Awaitable[None]],
    *,
    states: Sequence[str],
    done: Sequence[str],
) -> Sequence[object] | None:
    output: list[object] = []
    for vm in vms(host, call):
        if vm.state in done:
            call.warning(ALREADY)
            await host.spend("windows.vm.set")
        elif vm.state not in states or is_moving(vm):
            call.error(_wrong_state(vm, "change state"))
        else:
            try:
                await operation(vm)
            except PsError as error:
                call.error(error)
            except FileProblem as error:
                call.error(hyperv_file(f"'{vm.name}' failed to change state.", error))
        current = host.machines.get(vm.id)
        if current is not None:
            output.append(shape.virtual_machine(host, current))
    return output if call.get("Passthru") else None


async def start_vm(host: Host, call: Call) -> Sequence[object] | None:
    """Start-VM: opens the virtual disks and boots what is on them. Takes ``windows.vm.start``."""
    return await _each(host, call, host.machines.start, states=("Off", "Saved"), done=("Running",))


async def stop_vm(host: Host, call: Call) -> Sequence[object] | None:
    """Stop-VM: asks the guest to shut down, cuts the power (-TurnOff), or saves (-Save)."""
    if call.get("TurnOff"):
        states = ("Running", "Paused", "PausedCritical")
        return await _each(host, call, host.machines.turn_off, states=states, done=("Off",))
    if call.get("Save"):
        return await save_vm(host, call)
    return await _each(host, call, host.machines.shutdown, states=("Running",), done=("Off",))


async def save_vm(host: Host, call: Call) -> Sequence[object] | None:
    """Save-VM."""
    return await _each(host, call, host.machines.save, states=("Running",), done=("Saved",))


async def remove_vm(host: Host, call: Call) -> None:
    """Remove-VM: unregisters; the virtual disks stay."""
    await host.spend("windows.vm.remove")
    for vm in vms(host, call):
        if is_active(vm) or is_moving(vm):
            call.error(_wrong_state(vm, "remove"))
        else:
            host.machines.remove(vm)


async def remove_vm_saved_state(host: Host, call: Call) -> None:
    """Remove-VMSavedState: a saved VM is off afterwards."""
    await host.spend("windows.vm.set")
    for vm in vms(host, call):
        if vm.state != "Saved":
            call.error(_wrong_state(vm, "delete the saved state"))
        else:
            _put(host, call, replace(vm, state="Off"))


def get_vm_host(host: Host, _call: Call) -> Sequence[object]:
    """Get-VMHost."""
    versions = list(host.spec.configuration_versions)
    properties: dict[str, object] = {
        "LogicalProcessorCount": host.spec.processors,
        "ResourceMeteringSaveInterval": None,
        "HostNumaStatus": PsList("Microsoft.HyperV.PowerShell.VMHostNumaNode[]", []),
        "NumaStatus": PsList("Microsoft.HyperV.PowerShell.VMNumaNodeStatus[]", []),
        "IovSupport": False,
        "InternalNetworkAdapters": PsList("System.Object[]", []),
        "ExternalNetworkAdapters": PsList("System.Object[]", []),
        "SupportedVmVersions": PsList("System.Collections.Generic.List`1[[System.String]]", versions),
        "EnableEnhancedSessionMode": False,
        "FibreChannelWwnn": "C003FF0000FFFF00",
        "MacAddressMaximum": "00155D0AFFFF",
        "MacAddressMinimum": "00155D0A0000",
        "NumaSpanningEnabled": True,
        "VirtualHardDiskPath": VIRTUAL_DISKS,
        "VirtualMachinePath": VIRTUAL_MACHINES,
        "FullyQualifiedDomainName": host.spec.fqdn.partition(".")[2],
        "MemoryCapacity": Int64(host.spec.memory),
        "MaximumStorageMigrations": 2,
        "MaximumVirtualMachineMigrations": 2,
        "VirtualMachineMigrationEnabled": False,
        "Name": host.name.upper(),
        "ComputerName": host.name.upper(),
        "IsDeleted": False,
    }
    types = ["Microsoft.HyperV.PowerShell.VMHost", "Microsoft.HyperV.PowerShell.VirtualizationObject", "System.Object"]
    return [PsObject(types, properties, text=f"VMHost (Name = '{host.name.upper()}')")]


def get_vm_integration_service(host: Host, call: Call) -> Sequence[object]:
    """Get-VMIntegrationService, by VM and by service name."""
    wanted = [n.lower() for n in texts(call.get("Name"))]
    found = [s for vm in vms(host, call) for s in shape.integration_services(host, vm)]
    return [s for s in found if not wanted or str(s.properties["Name"]).lower() in wanted]


async def enable_vm_integration_service(host: Host, call: Call) -> None:
    """Enable-VMIntegrationService and Disable-VMIntegrationService."""
    await host.spend("windows.vm.set")
    known = {name.lower(): name for name, _ in shape.SERVICES}
    for vm in vms(host, call):
        off = set(vm.disabled_services)
        for name in texts(call.get("Name")):
            if name.lower() not in known:
                text = f'Hyper-V was unable to find an integration component matching criteria "{name}".'
                call.error(hyperv("InvalidParameter", text, target=name))
            elif call.cmdlet.startswith("Enable"):
                off.discard(known[name.lower()])
            else:
                off.add(known[name.lower()])
        _put(host, call, replace(vm, disabled_services=tuple(sorted(off))))


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-VM": get_vm,
    "New-VM": new_vm,
    "Set-VM": set_vm,
    "Rename-VM": rename_vm,
    "Start-VM": start_vm,
    "Stop-VM": stop_vm,
    "Save-VM": save_vm,
    "Remove-VM": remove_vm,
    "Remove-VMSavedState": remove_vm_saved_state,
    "Get-VMHost": get_vm_host,
    "Get-VMIntegrationService": get_vm_integration_service,
    "Enable-VMIntegrationService": enable_vm_integration_service,
    "Disable-VMIntegrationService": enable_vm_integration_service,
}
"""The cmdlets of this module."""
