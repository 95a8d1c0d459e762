"""A VM in its backup and as it is now: what differs, whose a file is, what fits (TR 6.7)."""

from __future__ import annotations

from collections.abc import Iterable

from smhvlab.errors import NotAllowed
from smhvlab.hyperv import Vm
from smhvlab.nodes import Node
from smhvlab.restore.state import RestoreLun
from smhvlab.snapinfo import Backup, BackupLun, BackupVm


def places_of(backup: Backup, vm: BackupVm) -> list[BackupLun]:
    """The LUNs of the backup that hold something of the VM."""
    paths = [vm.configuration_file, *vm.parents]
    if vm.parents:
        paths.append(vm.checkpoints + "\\")
    used = {disk.unique_id for disk in vm.disks} | {
        lun.unique_id for path in paths if (lun := backup.lun_of(path, vm.id))
    }
    return [lun for lun in backup.luns_of(vm.id) if lun.unique_id in used]


def owned(then: BackupVm, now: Vm | None) -> set[str]:
    """Files that are the VM's own, now or then."""
    found = [*(disk.path for disk in then.disks), *then.parents, *then.leaves.values()]
    if now is not None:
        found += [*(disk.path for disk in now.disks if not disk.passthrough), *now.parents]
    return folded(found)


def folded(texts: Iterable[str]) -> set[str]:
    """Texts as they are compared: Windows' paths and names have no case."""
    return {text.casefold() for text in texts}


def need_unused(paths: Iterable[str], then: BackupVm, strangers: Iterable[Vm]) -> None:
    """No other VM runs from a file that comes back, even one of the same name. Raises NotAllowed."""
    wanted = folded(paths)
    for vm in strangers:
        for disk in vm.disks:
            if disk.path.casefold() in wanted:
                raise NotAllowed(
                    f"{disk.path} belongs to another VM now: {vm.name} ({vm.id}) on {vm.host}",
                    next_action="Move the disks of that VM elsewhere, or remove it, then restore.",
                    why=f"the restore of {then.name} ({then.id}) would overwrite it",
                    tr="6.7",
                )


def need_room(node: Node, lun: RestoreLun, vm: str, needed: int) -> None:
    """A file copy of so many bytes fits on the LUN beside what is there. Raises NotAllowed."""
    volumes = node.host.run("Get-Volume", {"FilePath": lun.access_path}, select=("SizeRemaining",))
    free = int(volumes[0]["SizeRemaining"])
    if needed > free:
        raise NotAllowed(
            f"{lun.access_path} has {free:,} bytes free, the copies of {vm} need {needed:,}",
            next_action="Grow the LUN, or move the other files away: a LUN that only holds this VM comes back as a "
            "whole.",
            why=f"{lun.others} file(s) of others are on it, so the files are copied beside those that they replace",
            tr="6.7",
        )


def warnings_of(then: BackupVm, now: Vm | None, host: str) -> tuple[tuple[str, str], ...]:
    """The warnings of TR 6.7 by key: each has to be accepted before anything is changed."""
    if now is None:
        return (("not-running", f"{then.name} is not registered on the host any more"),)
    found = []
    before = folded(disk.path for disk in then.disks)
    present = folded(disk.path for disk in now.disks if not disk.passthrough)
    if now.host != host:
        found.append(("not-running", f"{now.name} is not on {host} but on {now.host}: it is taken away there"))
    elif not now.running:
        found.append(("not-running", f"{now.name} is not running on this host ({now.state})"))
    if len(present) > len(before):
        text = f"{now.name} has {len(present)} VHDs now and {len(before)} in the backup: the others stay unattached"
        found.append(("more-vhds", text))
    if len(present) < len(before):
        text = f"{now.name} has {len(present)} VHDs now and {len(before)} in the backup: all of these come back"
        found.append(("fewer-vhds", text))
    if now.configuration.casefold() != then.configuration.casefold():
        found.append(("location", f"{now.name} has moved from {then.configuration} to {now.configuration}"))
    elif then.checkpoints and now.checkpoints.casefold() != then.checkpoints.casefold():
        text = f"the checkpoints of {now.name} have moved from {then.checkpoints} to {now.checkpoints}"
        found.append(("location", text))
    if len(present) == len(before) and present != before:
        found.append(("vhd-paths", f"names or paths of the VHDs of {now.name} have changed since the backup"))
    return tuple(found)
