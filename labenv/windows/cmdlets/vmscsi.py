"""A VM's SCSI controllers: Get-, Add- and Remove-VMScsiController."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from labenv.windows import shapes_hyperv as shape
from labenv.windows.call import Call, Cmdlet
from labenv.windows.cmdlets.targets import objects, snapshots, vms
from labenv.windows.errors import FileProblem, hyperv, hyperv_file
from labenv.windows.records import SnapshotRecord, VmRecord
from labenv.windows.vmconfig import is_active

if TYPE_CHECKING:
    from labenv.windows.host import Host

MOST = 4


def get_vm_scsi_controller(host: Host, call: Call) -> Sequence[object]:
    """Get-VMScsiController of VMs or of a checkpoint."""
    wanted = call.get("ControllerNumber")
    found: list[tuple[VmRecord, SnapshotRecord | None]] = [(s.configuration, s) for s in snapshots(host, call)]
    found = found or [(vm, None) for vm in vms(host, call)]
    return [
        shape.scsi_controller(host, vm, number, snapshot)
        for vm, snapshot in found
        for number in range(vm.scsi_controllers)
        if wanted in (None, number)
    ]


def _changed(host: Host, vm: VmRecord, count: int) -> VmRecord:
    if is_active(vm):
        text = f"'{vm.name}' failed to modify device 'Synthetic SCSI Controller': it is running."
        raise hyperv("InvalidState", text, target=vm.name)
    try:
        return host.machines.put(replace(vm, scsi_controllers=count))
    except FileProblem as error:
        raise hyperv_file(f"'{vm.name}' failed to modify its SCSI controllers.", error) from error


async def add_vm_scsi_controller(host: Host, call: Call) -> Sequence[object] | None:
    """Add-VMScsiController: up to four, while the VM is off."""
    await host.spend("windows.vm.set")
    output: list[object] = []
    for vm in vms(host, call):
        if vm.scsi_controllers >= MOST:
            text = f"'{vm.name}' failed to add device 'Synthetic SCSI Controller': it has {MOST} already."
            raise hyperv("InvalidParameter", text, target=vm.name)
        changed = _changed(host, vm, vm.scsi_controllers + 1)
        output.append(shape.scsi_controller(host, changed, vm.scsi_controllers))
    return output if call.get("Passthru") else None


async def remove_vm_scsi_controller(host: Host, call: Call) -> Sequence[object] | None:
    """Remove-VMScsiController: with its disks; the numbers above it move down."""
    await host.spend("windows.vm.set")
    given = objects(call, "VMScsiController")
    chosen = [(vm, call.get("ControllerNumber")) for vm in vms(host, call)] if "VMName" in call else []
    chosen += [
        (vm, item.properties["ControllerNumber"])
        for item in given
        for vm in host.machines.named(str(item.properties["VMName"]))
    ]
    output: list[object] = []
    for vm, number in chosen:
        if not isinstance(number, int) or not 0 <= number < vm.scsi_controllers:
            text = f"'{vm.name}' has no SCSI controller {number}."
            raise hyperv("InvalidParameter", text, target=vm.name)
        output.append(shape.scsi_controller(host, vm, number))
        drives = [d for d in vm.drives if (d.controller_type, d.controller_number) != ("SCSI", number)]
        moved = tuple(
            replace(d, controller_number=d.controller_number - 1)
            if d.controller_type == "SCSI" and d.controller_number > number
            else d
            for d in drives
        )
        _changed(host, replace(vm, drives=moved), vm.scsi_controllers - 1)
    return output if call.get("Passthru") else None


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-VMScsiController": get_vm_scsi_controller,
    "Add-VMScsiController": add_vm_scsi_controller,
    "Remove-VMScsiController": remove_vm_scsi_controller,
}
"""The cmdlets of this module."""
