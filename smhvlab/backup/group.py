"""Backups whose Snapshot copies are taken together: one point in time over several volumes (TR 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict, TypeVar

from smhvlab.backup.survey import BackupProcedure, BackupState
from smhvlab.errors import BackupFailed, OntapError
from smhvlab.flow import CHOSEN
from smhvlab.hyperv import Vm, VmDisk
from smhvlab.snapinfo import BackupVm
from smhvlab.storage import IN_ANOTHER_GROUP, VolumeRef

GROUPS = "smhvlab_"
"""How the names of groups begin that are there only while a backup takes its Snapshot copies."""


class Point(TypedDict):
    """The fields of a ``GroupedState`` that say how one point in time is reached."""

    existing_group: str
    group: str
    common_point: bool


@dataclass(frozen=True, kw_only=True)
class GroupedState(BackupState):
    """What a backup with a common point touches and creates.

    Attributes:
        group: name of the consistency group made for this backup, "" if none is.
        existing_group: UUID of a consistency group that already holds exactly these volumes, "" if none does.
        made_group: UUID of that which was made for this backup, "" before.
        taken: whether the step that takes the Snapshot copies has ended.
    """

    existing_group: str
    common_point: bool
    group: str = field(metadata=CHOSEN)
    made_group: str = field(default="", metadata=CHOSEN)
    taken: bool = field(default=False, metadata=CHOSEN)

    @property
    def point(self) -> str:
        """One sentence on the point in time."""
        if len(self.volumes) == 1:
            return "One volume: one Snapshot copy is one point in time."
        if self.common_point:
            return f"{len(self.volumes)} volumes were taken in one consistency group: one point in time for all."
        return f"{len(self.volumes)} volumes were taken one after the other: no common point in time."


S = TypeVar("S", bound=GroupedState)


class GroupedBackup(BackupProcedure[S]):
    """A backup that takes one Snapshot copy of every volume. It has no steps of its own."""

    def point(self, volumes: Sequence[VolumeRef], name: str, run: str) -> Point:
        """Existing group, name of a group to make, and whether there will be one point in time."""
        if len(volumes) == 1:
            return Point(existing_group="", group="", common_point=True)
        known, wanted = self.storage.groups(), {v.uuid for v in volumes}
        lasting = {uuid: held for uuid, (name, held) in known.items() if not name.startswith(GROUPS)}
        existing = next((uuid for uuid, held in lasting.items() if held == wanted), None)
        if existing is not None:
            return Point(existing_group=existing, group="", common_point=True)
        if any(held & wanted for _, held in known.values()) or len({v.svm for v in volumes}) > 1:
            return Point(existing_group="", group="", common_point=False)  # a volume can be in one group only
        return Point(existing_group="", group=f"{GROUPS}{name}_{run}".replace(".", "_"), common_point=True)

    def grouped(self, s: S) -> S:
        """With its consistency group; without a common point if another run has just taken one of the volumes."""
        try:
            return replace(s, made_group=self.storage.ensure_group(s.group, s.volumes))
        except OntapError as error:
            if error.code != IN_ANOTHER_GROUP:
                raise
            return replace(s, group="", common_point=False)

    def ungrouped(self, s: S) -> None:
        """The group that was made for this backup is gone."""
        if s.group:
            self.storage.discard_group(s.group, uuid=s.made_group)

    def take(self, s: GroupedState, *, what: str) -> None:
        """A Snapshot copy of every volume, in the group if there is one. Raises NameTaken: another run has made it."""
        comment = s.comment(what)
        if s.group or s.existing_group:
            group = s.existing_group or s.made_group or self.storage.ensure_group(s.group, s.volumes)
            self.patiently(lambda: self.storage.ensure_group_snapshot(group, s.volumes, s.name, comment=comment))
        else:
            self.patiently(lambda: self.storage.ensure_snapshots(s.volumes, s.name, comment=comment))

    def discard_taken(self, s: GroupedState, *, what: str) -> None:
        """No Snapshot copy that ``take`` has made is left; those of another run of the same name stay."""
        comment = s.comment(what)
        if not (s.group or s.existing_group):
            self.storage.discard_snapshots(s.volumes, s.name, comment=comment)
            return
        if s.run and not s.taken:  # a copy in a group has no comment of its own: as long as the group is there, ask it
            group = s.existing_group or s.made_group or self.storage.group(s.group)
            if not group or not self.storage.has_group_snapshot(group, s.name, comment=comment):
                return
        self.storage.discard_snapshots(s.volumes, s.name)

    def untouched(self, s: S, *, files: bool) -> S:
        """The VMs are still what the survey has found, now that the Snapshot copies are there.

        One whose migration has begun meanwhile is left out of the backup: see ``without_moving``.

        A restore that has begun meanwhile, from this station or another, takes a VM's configuration away: the backup
        would lack it, and nobody would notice before it is needed (TR 6.7).

        Args:
            files: whether the virtual disks must be the same too.

        Raises:
            BackupFailed: a VM is gone, or has other files; or all are being migrated.
        """
        now = {vm.id: vm for vm in self.nodes.vms()}
        s = self.without_moving(s, now.values())
        for vm in s.kept:
            seen = now.get(vm.id)
            if seen is None or seen.configuration != vm.configuration or (files and _files(seen) != _files(vm)):
                raise BackupFailed(
                    f"{vm.name} was changed while its Snapshot copies were taken",
                    vms=[vm.name],
                    why="its configuration is gone" if seen is None else "it has other files than before",
                    next_action="Wait for the end of what else is done to the VM (a restore, a move, a backup).",
                    tr="6.7",
                )
        return s


def _files(vm: Vm | BackupVm) -> list[str]:
    return [disk.path for disk in vm.disks if not (isinstance(disk, VmDisk) and disk.passthrough)]
