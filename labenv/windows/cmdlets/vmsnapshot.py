"""Checkpoints: Checkpoint-VM, Get-VMSnapshot, Restore-VMSnapshot, Remove-VMSnapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labenv.windows import shapes_hyperv as shape
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets.item import matches
from labenv.windows.cmdlets.targets import snapshots, texts, vms
from labenv.windows.errors import FileProblem, hyperv, hyperv_file
from labenv.windows.records import SnapshotRecord
from labenv.windows.vmconfig import is_moving

if TYPE_CHECKING:
    from labenv.windows.host import Host


async def checkpoint_vm(host: Host, call: Call) -> Sequence[object] | None:
    """Checkpoint-VM of one VM after the other."""
    output: list[object] = []
    for vm in vms(host, call):
        default = f"{vm.name} - ({host.clock.time:%m/%d/%Y - %H:%M:%S})"
        try:
            made = await host.checkpoints.create(vm, str(call.get("SnapshotName") or default))
        except PsError as error:
            error.target = error.target or vm.name
            call.error(error)
            continue
        except FileProblem as error:
            call.error(hyperv_file(f"Checkpoint operation for '{vm.name}' failed.", error))
            continue
        output.append(shape.snapshot(host, made))
    return output if call.get("Passthru") else None


def _chosen(host: Host, call: Call) -> list[SnapshotRecord]:
    if "Id" in call:
        record = host.machines.snapshots.get(str(call["Id"]))
        if record is None:
            text = f'Hyper-V was unable to find a checkpoint with id "{call["Id"]}".'
            raise hyperv("InvalidParameter", text, target=call["Id"])
        return [record]
    given = snapshots(host, call)
    if given:
        return given
    names = texts(call.get("Name"))
    found: list[SnapshotRecord] = []
    machines = vms(host, _of_vms(call))
    for vm in machines:
        found += [s for s in host.machines.snapshots_of(vm) if not names or any(matches(s.name, n) for n in names)]
    if "SnapshotType" in call:
        found = [s for s in found if s.kind == call["SnapshotType"]]
    for name in names:
        if machines and not any(c in name for c in "*?[") and not any(s.name.lower() == name.lower() for s in found):
            text = f'Hyper-V was unable to find a checkpoint matching the given criteria: "{name}".'
            call.error(hyperv("InvalidParameter", text, target=name))
    return found


def _of_vms(call: Call) -> Call:
    """The same call without -Name, which here names checkpoints."""
    parameters = {key: value for key, value in call.parameters.items() if key != "Name"}
    return Call(call.cmdlet, parameters, call.parameter_set, call.input, on_error=call.on_error)


def get_vm_snapshot(host: Host, call: Call) -> Sequence[object]:
    """Get-VMSnapshot of VMs, by name, type or id."""
    return [shape.snapshot(host, record) for record in _chosen(host, call)]


async def restore_vm_snapshot(host: Host, call: Call) -> Sequence[object] | None:
    """Restore-VMSnapshot: what the VM wrote since the checkpoint is dropped."""
    output: list[object] = []
    for record in _chosen(host, call):
        try:
            vm = await host.checkpoints.apply(record)
        except FileProblem as error:
            raise hyperv_file("Failed to apply a checkpoint.", error) from error
        output.append(shape.virtual_machine(host, vm))
    return output if call.get("Passthru") else None


async def remove_vm_snapshot(host: Host, call: Call) -> None:
    """Remove-VMSnapshot; the disks merge afterwards, while the VM shows ``MergingDisks``."""
    await host.spend("windows.vm.checkpoint")
    for record in _chosen(host, call):
        vm = host.machines.vms[str(record.vm)]
        if is_moving(vm):
            text = f"Failed to delete checkpoint '{record.name}': the virtual machine '{vm.name}' is being moved."
            call.error(hyperv("InvalidState", text, target=vm.name))
            continue
        doomed = [record]
        if call.get("IncludeAllChildSnapshots"):
            doomed = [*reversed(_below(host, record)), record]
        for each in doomed:
            try:
                host.checkpoints.remove(each)
            except FileProblem as error:
                call.error(hyperv_file(f"Failed to delete checkpoint '{each.name}'.", error))
        host.clock.spawn(host.checkpoints.run_merges(record.vm), name=f"merge {record.name}")


def _below(host: Host, record: SnapshotRecord) -> list[SnapshotRecord]:
    found = []
    for each in host.machines.snapshots.values():
        if each.parent == record.id:
            found += [each, *_below(host, each)]
    return found


COMMANDS: Mapping[str, Cmdlet] = {
    "Checkpoint-VM": checkpoint_vm,
    "Get-VMSnapshot": get_vm_snapshot,
    "Restore-VMSnapshot": restore_vm_snapshot,
    "Remove-VMSnapshot": remove_vm_snapshot,
}
"""The cmdlets of this module."""
