"""What must still hold of a VM, its LUNs and its backup at a restore's point of no return (TR 6.7).

Between the survey and that point lie copies of files and approvals, which can take hours: meanwhile the VM can have
moved to another node, other files can have come to its LUN, and another station can have deleted the backup.
"""

from __future__ import annotations

from smhvlab.errors import NotAllowed, NotFound
from smhvlab.hyperv import AT_REST, Vm
from smhvlab.nodes import Node, Nodes
from smhvlab.restore.changes import folded
from smhvlab.restore.state import RestoreLun, RestoreState
from smhvlab.snapinfo import SnapInfo
from smhvlab.storage import Storage


def need_in_place(nodes: Nodes, s: RestoreState) -> None:
    """The VM is registered where the survey has found it, and nowhere else. Raises NotAllowed."""
    found = _registered(nodes, s)
    _need_hosts(found, s)
    if not found:
        raise NotAllowed(
            f"{s.vm.name} is not registered on {s.was_on} any more, nor anywhere else",
            next_action="Find out who has removed it, and plan the restore again.",
            why="the restore was planned for a VM that is there",
            tr="6.7",
        )


def need_off(nodes: Nodes, s: RestoreState) -> None:
    """The VM has not moved and is off still, or is registered nowhere. Raises NotAllowed."""
    found = _registered(nodes, s)
    _need_hosts(found, s)
    for vm in found:
        if vm.state not in AT_REST:
            raise NotAllowed(
                f"{vm.name} is {vm.state} on {vm.host} again",
                next_action="Find out who has started it, and switch it off or plan the restore again.",
                why="the restore had switched it off: its files would be replaced under it",
                tr="6.7",
            )


def need_unregistered(nodes: Nodes, s: RestoreState, *, but: str = "") -> None:
    """No host has the VM, ``but`` that on which it is restored. Raises NotAllowed: it would run twice."""
    others = [vm.host for vm in _registered(nodes, s) if vm.host.casefold() != but.casefold()]
    if others:
        raise NotAllowed(
            f"{s.vm.name} is registered on {', '.join(others)}, and is being restored on {s.host}",
            next_action=f"Move it to {but} (Move-VM): Remove-VM would delete the configuration file that was restored."
            if but
            else "Remove it there (Remove-VM): its files come from the backup.",
            why="it would be registered twice, and run twice from the same files",
            tr="6.7",
        )


def _registered(nodes: Nodes, s: RestoreState) -> list[Vm]:
    return [vm for vm in nodes.vms() if vm.id == s.vm.id]


def _need_hosts(found: list[Vm], s: RestoreState) -> None:
    for vm in found:
        if vm.host.casefold() != s.was_on.casefold():
            raise NotAllowed(
                f"{s.vm.name} is on {vm.host} now, and was {f'on {s.was_on}' if s.was_on else 'registered nowhere'} "
                "when the restore was planned",
                next_action=f"Plan the restore again, or move the VM back to {s.was_on} first."
                if s.was_on
                else "Plan the restore again.",
                why=f"it is {vm.state}: what is restored on {s.host} would be written under it",
                tr="6.7",
            )
        if vm.doing:
            raise NotAllowed(
                f"{vm.name} is busy on {vm.host}: {vm.doing}",
                next_action="Wait until that has ended, then try again.",
                tr="6.7",
            )


def need_images(storage: Storage, snapinfo: SnapInfo, s: RestoreState) -> None:
    """The images of the LUNs that go back as a whole are there, and nobody deletes the backup.

    What is copied needs none any more. Raises NotFound; NotAllowed: the backup's file is damaged.
    """
    if not s.cloned:
        return
    snapinfo.backup(s.backup)
    there = storage.snapshots_of(dict.fromkeys(lun.lun.volume for lun in s.cloned))
    for lun in s.cloned:
        if lun.snapshot not in {record["name"] for record in there[lun.lun.volume.uuid]}:
            raise NotFound(
                f"The Snapshot copy {lun.snapshot} of volume {lun.lun.volume} is gone",
                next_action="Restore from another backup; this one can no longer be used for this VM.",
                why="it was deleted since the restore was planned, or a volume restore went back behind it",
                tr="6.7",
            )


def need_no_strangers(nodes: Nodes, s: RestoreState) -> None:
    """No file of others has come to a LUN that goes back as a whole. Raises NotAllowed.

    A LUN that no node shows is offline: nothing can have come to it.
    """
    own = tuple(i.casefold() for i in (s.vm.id, s.vm.checkpoint) if i)
    known = folded((*(disk.path for disk in s.vm.disks), *s.vm.parents, *s.vm.leaves.values()))
    for lun in s.cloned:
        if (node := _viewer(nodes, s, lun)) is None:
            continue
        mine = known | folded(lun.present)
        strangers = [
            path
            for path in node.snapdrive.files(lun.access_path)
            if path.casefold() not in mine and not path.casefold().rpartition("\\")[2].startswith(own)
        ]
        if strangers:
            raise NotAllowed(
                f"{len(strangers)} file(s) have come to {lun.lun} since the restore of {s.vm.name} was planned",
                next_action=f"Move them off {lun.access_path} if they are of use, or delete them; then try again.",
                why=f"the LUN goes back as a whole and they would be gone; the first is {strangers[0]}",
                tr="6.7",
            )


def _viewer(nodes: Nodes, s: RestoreState, lun: RestoreLun) -> Node | None:
    """A node that has the LUN under its path now; a disk of the cluster can have gone to another one."""
    home = nodes[s.host]
    for node in (home, *(other for other in nodes.up() if other is not home)):
        if node.host.run("Test-Path", {"LiteralPath": lun.access_path})[0]:
            return node
    return None
