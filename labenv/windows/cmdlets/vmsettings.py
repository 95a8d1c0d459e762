"""Settings of VMs that can be read: processors, memory, BIOS or firmware, IDE controllers, ports, replication."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from labenv.windows import shapes_settings as shape
from labenv.windows.call import Call, Cmdlet
from labenv.windows.cmdlets.targets import snapshots, texts, vms
from labenv.windows.cmdlets.vhd import failed, vhd_path
from labenv.windows.errors import FileProblem, hyperv
from labenv.windows.records import SnapshotRecord, VmRecord

if TYPE_CHECKING:
    from labenv.windows.host import Host
    from labenv.windows.objects import PsObject

Owner = tuple[VmRecord, SnapshotRecord | None]


def _owners(host: Host, call: Call) -> list[Owner]:
    """The VMs, or the checkpoint, whose settings are asked for."""
    found: list[Owner] = [(s.configuration, s) for s in snapshots(host, call)]
    return found or [(vm, None) for vm in vms(host, call)]


def _each(make: Callable[[Host, VmRecord, SnapshotRecord | None], PsObject]) -> Cmdlet:
    def get(host: Host, call: Call) -> Sequence[object]:
        return [make(host, vm, snapshot) for vm, snapshot in _owners(host, call)]

    return get


def _of_generation(number: int, what: str, make: Callable[[Host, VmRecord, SnapshotRecord | None], PsObject]) -> Cmdlet:
    def get(host: Host, call: Call) -> Sequence[object]:
        output: list[object] = []
        for vm, snapshot in _owners(host, call):
            if vm.generation != number:
                text = f"'{vm.name}' has no {what}: it is a virtual machine of generation {vm.generation}."
                call.error(hyperv("InvalidOperation", text, target=vm.name))
            else:
                output.append(make(host, vm, snapshot))
        return output

    return get


def get_vm_ide_controller(host: Host, call: Call) -> Sequence[object]:
    """Get-VMIdeController: two of each VM of generation 1, none of generation 2."""
    wanted = call.get("ControllerNumber")
    return [
        shape.ide_controller(host, vm, number, snapshot)
        for vm, snapshot in _owners(host, call)
        for number in range(2 if vm.generation == 1 else 0)
        if wanted in (None, number)
    ]


def get_vm_com_port(host: Host, call: Call) -> Sequence[object]:
    """Get-VMComPort: two, which lead nowhere."""
    wanted = call.get("Number")
    return [
        shape.com_port(host, vm, number, snapshot)
        for vm, snapshot in _owners(host, call)
        for number in (1, 2)
        if wanted in (None, number)
    ]


def get_vm_replication(host: Host, call: Call) -> Sequence[object]:
    """Get-VMReplication: of VMs that Hyper-V Replica copies; one asked for by name that it does not is an error."""
    named = bool(texts(call.get("VMName")) or call.get("VM") or call.input)
    output: list[object] = []
    for vm in vms(host, call, all_if_none=True):
        if vm.replicated:
            output.append(shape.replication(host, vm))
        elif named and not any("*" in name or "?" in name for name in texts(call.get("VMName"))):
            text = f"Replication is not enabled for virtual machine '{vm.name}'."
            call.error(hyperv("InvalidOperation", text, target=vm.name))
    return output


def get_vm_host_cluster(host: Host, call: Call) -> Sequence[object]:
    """Get-VMHostCluster: the failover cluster of this host."""
    output: list[object] = []
    for name in texts(call.get("ClusterName")):
        made = host.cluster
        if made is None or name.split(".")[0].lower() not in (".", "localhost", made.spec.name.lower()):
            text = f"The cluster '{name}' cannot be reached from '{host.name.upper()}'."
            call.error(hyperv("ObjectNotFound", text, target=name))
        else:
            output.append(shape.host_cluster(host, made.spec.name))
    return output


def get_vm_host_supported_version(host: Host, call: Call) -> Sequence[object]:
    """Get-VMHostSupportedVersion, or with -Default the one of new VMs."""
    versions = host.spec.configuration_versions
    shown = versions[-1:] if call.get("Default") else versions
    return [shape.supported_version(host, v, default=v == versions[-1]) for v in shown]


def test_vhd(host: Host, call: Call) -> Sequence[object]:
    """Test-VHD: whether a virtual disk with everything that it is based on can be used."""
    output: list[object] = []
    for path in (vhd_path(p) for p in texts(call.get("Path"))):
        try:
            host.vhds.open(path).close()
        except FileProblem as error:
            call.error(failed(path, "validate", error))
        else:
            output.append(True)
    return output


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-VMProcessor": _each(shape.processor),
    "Get-VMMemory": _each(shape.memory),
    "Get-VMBios": _of_generation(1, "BIOS", shape.bios),
    "Get-VMFirmware": _of_generation(2, "firmware settings", shape.firmware),
    "Get-VMIdeController": get_vm_ide_controller,
    "Get-VMComPort": get_vm_com_port,
    "Get-VMReplication": get_vm_replication,
    "Get-VMHostCluster": get_vm_host_cluster,
    "Get-VMHostSupportedVersion": get_vm_host_supported_version,
    "Test-VHD": test_vhd,
}
"""The cmdlets of this module."""
