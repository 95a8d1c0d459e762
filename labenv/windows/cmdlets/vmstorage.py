"""Move-VMStorage."""

from __future__ import annotations

import ntpath
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labenv.windows import shapes_hyperv as shape
from labenv.windows.call import Call, Cmdlet
from labenv.windows.cmdlets.targets import many, vms
from labenv.windows.errors import FileProblem, hyperv, hyperv_file
from labenv.windows.records import VmRecord
from labenv.windows.storagemove import StorageMove
from labenv.windows.vmconfig import is_moving
from labenv.windows.volumes import full_path

if TYPE_CHECKING:
    from labenv.windows.host import Host


async def move_vm_storage(host: Host, call: Call) -> Sequence[object] | None:
    """Move-VMStorage: to one folder (-DestinationStoragePath), or file by file (-Vhds) and folder by folder.

    The VM runs on meanwhile and shows that its storage moves; nothing else can be done to it.
    """
    await host.spend("windows.vm.set")
    output: list[object] = []
    move = StorageMove(machines=host.machines, files=host.files, vhds=host.vhds)
    for vm in vms(host, call):
        if is_moving(vm) or vm.status or vm.merges or vm.state not in ("Running", "Off", "Saved"):
            text = f"Virtual machine '{vm.name}' could not be moved: it is busy."
            call.error(hyperv("InvalidState", text, target=vm.name))
            continue
        try:
            targets, path, snapshots = _plan(call, move, vm)
            keep = bool(call.get("RetainVhdCopiesOnSource"))
            moved = await move.move(vm, targets, path=path, snapshot_path=snapshots, keep=keep)
        except FileProblem as error:
            call.error(hyperv_file(f"Migration of the storage of '{vm.name}' failed.", error))
            continue
        output.append(shape.virtual_machine(host, moved))
    return output or None


def _plan(call: Call, move: StorageMove, vm: VmRecord) -> tuple[dict[str, str], str | None, str | None]:
    """Old file -> new file, and where the configuration and the checkpoints go."""
    if "DestinationStoragePath" in call:
        folder = full_path(str(call["DestinationStoragePath"]))
        disks = ntpath.join(folder, "Virtual Hard Disks")
        return {f: ntpath.join(disks, ntpath.basename(f)) for f in move.chains(vm)}, folder, folder
    targets = {}
    known = {f.lower(): f for f in move.chains(vm)}
    for table in many(call.get("Vhds")):
        if not isinstance(table, Mapping):
            continue
        named = {str(k).lower(): full_path(str(v)) for k, v in table.items()}
        source = known.get(named.get("sourcefilepath", "").lower())
        if source is None or "destinationfilepath" not in named:
            text = f"Each of -Vhds names a disk of '{vm.name}' as SourceFilePath, and a DestinationFilePath."
            raise hyperv("InvalidParameter", text, target=vm.name)
        targets[source] = named["destinationfilepath"]
    path = full_path(str(call["VirtualMachinePath"])) if "VirtualMachinePath" in call else None
    snapshots = full_path(str(call["SnapshotFilePath"])) if "SnapshotFilePath" in call else None
    return targets, path, snapshots


COMMANDS: Mapping[str, Cmdlet] = {"Move-VMStorage": move_vm_storage}
"""The cmdlets of this module."""
