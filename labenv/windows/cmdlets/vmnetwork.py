"""Virtual switches and network adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from labenv.windows import shapes_hyperv as shape
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets.item import matches
from labenv.windows.cmdlets.targets import many, objects, texts, vms
from labenv.windows.errors import FileProblem, hyperv, hyperv_file
from labenv.windows.records import SwitchRecord, VmRecord
from labenv.windows.vmconfig import is_active

if TYPE_CHECKING:
    from labenv.windows.host import Host


def _not_found(name: str) -> PsError:
    return hyperv("InvalidParameter", f'Hyper-V was unable to find a virtual switch with name "{name}".', target=name)


def get_vm_switch(host: Host, call: Call) -> Sequence[object]:
    """Get-VMSwitch by name (patterns), id, type, or all."""
    found = sorted(host.machines.switches.values(), key=lambda s: s.name.lower())
    kinds, ids = texts(call.get("SwitchType")), many(call.get("Id"))
    if "Name" in call:
        name = str(call["Name"])
        found = [s for s in found if matches(s.name, name)]
        if not found and not any(c in name for c in "*?["):
            raise _not_found(name)
    found = [s for s in found if (not kinds or s.kind in kinds) and (not ids or s.id in ids)]
    return [shape.switch(host, s) for s in found]


async def new_vm_switch(host: Host, call: Call) -> Sequence[object]:
    """New-VMSwitch: private, internal, or external over a network adapter."""
    await host.spend("windows.switch")
    name = str(call["Name"])
    adapter = next(iter(texts(call.get("NetAdapterName")) or texts(call.get("NetAdapterInterfaceDescription"))), "")
    record = SwitchRecord(
        id=host.ids.uuid("switch", host.name, name),
        name=name,
        kind=str(call.get("SwitchType") or "External"),
        notes=str(call.get("Notes") or ""),
        management_os=bool(call.get("AllowManagementOS", bool(adapter))),
        adapter=adapter,
    )
    host.machines.switches[str(record.id)] = record
    return [shape.switch(host, record)]


async def rename_vm_switch(host: Host, call: Call) -> Sequence[object] | None:
    """Rename-VMSwitch; registered VMs stay connected to it."""
    await host.spend("windows.switch")
    names = texts(call.get("Name")) or [str(i.properties.get("Name")) for i in objects(call, "VMSwitch")]
    fresh = str(call["NewName"])
    output: list[object] = []
    for name in names:
        record = host.machines.switch(name)
        if record is None:
            raise _not_found(name)
        changed = host.machines.switches[str(record.id)] = replace(record, name=fresh)
        for vm in list(host.vms.values()):
            if any(a.switch == record.name for a in vm.adapters):
                adapters = tuple(replace(a, switch=fresh) if a.switch == record.name else a for a in vm.adapters)
                _put(host, replace(vm, adapters=adapters))
        output.append(shape.switch(host, changed))
    return output if call.get("Passthru") else None


async def remove_vm_switch(host: Host, call: Call) -> None:
    """Remove-VMSwitch; adapters that were connected to it stay and are not connected."""
    await host.spend("windows.switch")
    names = texts(call.get("Name")) or [str(i.properties.get("Name")) for i in objects(call, "VMSwitch")]
    for name in names:
        found = [s for s in host.machines.switches.values() if matches(s.name, name)]
        if not found:
            call.error(_not_found(name))
        for record in found:
            del host.machines.switches[str(record.id)]


def get_vm_network_adapter(host: Host, call: Call) -> Sequence[object]:
    """Get-VMNetworkAdapter of VMs."""
    name = str(call.get("Name") or "*")
    chosen = host.machines.named("*") if call.get("All") else vms(host, call)
    return [shape.adapter(host, vm, a) for vm in chosen for a in vm.adapters if matches(a.name, name)]


async def connect_vm_network_adapter(host: Host, call: Call) -> Sequence[object] | None:
    """Connect-VMNetworkAdapter to the switch of a name."""
    await host.spend("windows.vm.set")
    switch = host.machines.switch(str(call["SwitchName"]))
    if switch is None:
        raise _not_found(str(call["SwitchName"]))
    return _connect(host, call, switch.name)


async def disconnect_vm_network_adapter(host: Host, call: Call) -> Sequence[object] | None:
    """Disconnect-VMNetworkAdapter."""
    await host.spend("windows.vm.set")
    return _connect(host, call, "")


def _connect(host: Host, call: Call, switch: str) -> Sequence[object] | None:
    names = texts(call.get("Name")) or ["*"]
    output: list[object] = []
    for vm in vms(host, call):
        changed = tuple(replace(a, switch=switch) if any(matches(a.name, n) for n in names) else a for a in vm.adapters)
        updated = _put(host, replace(vm, adapters=changed))
        output += [shape.adapter(host, updated, a) for a in changed]
    return output if call.get("Passthru") else None


def _put(host: Host, vm: VmRecord) -> VmRecord:
    try:
        return host.machines.put(vm)
    except FileProblem as error:
        raise hyperv_file(f"'{vm.name}' failed to modify its network adapter.", error) from error


async def add_vm_network_adapter(host: Host, call: Call) -> Sequence[object] | None:
    """Add-VMNetworkAdapter."""
    await host.spend("windows.vm.set")
    switch = str(call.get("SwitchName") or "")
    if switch and host.machines.switch(switch) is None:
        raise _not_found(switch)
    output: list[object] = []
    for vm in vms(host, call):
        if is_active(vm) and vm.generation == 1:
            text = f"'{vm.name}' failed to add a network adapter: it is running."
            call.error(hyperv("InvalidState", text, target=vm.name))
            continue
        added = host.machines.new_adapter(vm.id, name=str(call.get("Name") or "Network Adapter"), switch=switch)
        added = replace(added, legacy=bool(call.get("IsLegacy")), mac=str(call.get("StaticMacAddress") or added.mac))
        updated = _put(host, replace(vm, adapters=(*vm.adapters, added)))
        output.append(shape.adapter(host, updated, added))
    return output if call.get("Passthru") else None


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-VMSwitch": get_vm_switch,
    "New-VMSwitch": new_vm_switch,
    "Remove-VMSwitch": remove_vm_switch,
    "Rename-VMSwitch": rename_vm_switch,
    "Get-VMNetworkAdapter": get_vm_network_adapter,
    "Connect-VMNetworkAdapter": connect_vm_network_adapter,
    "Disconnect-VMNetworkAdapter": disconnect_vm_network_adapter,
    "Add-VMNetworkAdapter": add_vm_network_adapter,
}
"""The cmdlets of this module."""
