"""Restore of one VM from a backup (TR 6.7): by LUN clone where the LUN is the VM's own, by file copy otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from html import escape

from smhvlab.doctor import unfinished
from smhvlab.errors import NotAllowed, NotFound, PowerShellError
from smhvlab.flow import CHOSEN
from smhvlab.hyperv import Vm, differencing
from smhvlab.procedure import Procedure
from smhvlab.record import Confirmation
from smhvlab.runner import path_of
from smhvlab.site import stamp
from smhvlab.snapinfo import Backup, BackupLun, BackupVm
from smhvlab.steps import step
from smhvlab.storage import LunRef, VolumeRef

IN_USE = "RemoveFileSystemItemIOError"
"""What Remove-Item says of a file that somebody has open."""

_ATTEMPTS = 60  # ten seconds apart


class Method(StrEnum):
    """How the files of one LUN come back (TR 6.7)."""

    LUN_CLONE = "LUN clone split restore"
    FILE_COPY = "file copy"


@dataclass(frozen=True)
class FileCopy:
    """A file that is copied back: its path inside the LUN's volume and on the host."""

    inside: str
    target: str

    @property
    def partial(self) -> str:
        """Where the copy grows until it is whole."""
        return self.target + ".partial"

    def __str__(self) -> str:
        return self.target


@dataclass(frozen=True)
class RestoreLun:
    """One LUN of the restore and how it is treated.

    Attributes:
        others: files on the LUN that are not the VM's: the reason for a file copy.
        clone: name of the temporary LUN clone, "" when the LUN itself is restored. Each survey chooses another one, and
            another mount: two plans that differ in nothing else are equal.
        mount: where the clone is mounted, with a final backslash.
        files: what is copied back.
        image: path of the consistent image inside the Snapshot copy.
    """

    lun: LunRef
    snapshot: str
    method: Method
    access_path: str
    others: int = 0
    clone: str = field(default="", compare=False)
    mount: str = field(default="", compare=False)
    files: tuple[FileCopy, ...] = ()
    image: str = ""

    def __str__(self) -> str:
        why = f", {self.others} file(s) of others are on it" if self.others else ""
        return f"{self.lun} from {self.snapshot}: {self.method.value}{why}"


@dataclass(frozen=True)
class RestoreState:
    """What one restore touches and creates."""

    backup: str
    consistency: str
    vm: BackupVm
    was_running: bool
    igroup: str
    luns: tuple[RestoreLun, ...]
    warnings: tuple[tuple[str, str], ...]
    stamp: str = field(metadata=CHOSEN)

    @property
    def cloned(self) -> tuple[RestoreLun, ...]:
        """LUNs that are restored as a whole."""
        return tuple(lun for lun in self.luns if lun.method is Method.LUN_CLONE)

    @property
    def copied(self) -> tuple[RestoreLun, ...]:
        """LUNs from which files are copied."""
        return tuple(lun for lun in self.luns if lun.method is Method.FILE_COPY)

    @property
    def files(self) -> tuple[tuple[RestoreLun, FileCopy], ...]:
        """Every file that is copied back, with its LUN."""
        return tuple((lun, file) for lun in self.copied for file in lun.files)


@dataclass(frozen=True)
class Restored:
    """A VM that was restored."""

    vm: str
    backup: str
    methods: tuple[str, ...]
    checklist: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.vm} is back as of {self.backup}", *(f"  {text}" for text in self.methods)]
        return "\n".join(lines + [f"  To do by hand: {text}" for text in self.checklist])

    def _repr_html_(self) -> str:
        methods = "".join(f"<li>{escape(text)}</li>" for text in self.methods)
        checklist = "".join(f"<li>{escape(text)}</li>" for text in self.checklist)
        return (
            f"<p><b>{escape(self.vm)}</b> is back as of <code>{escape(self.backup)}</code></p>"
            f"<ul>{methods}</ul><p>To do by hand:</p><ul>{checklist or '<li>nothing</li>'}</ul>"
        )


class RestoreVm(Procedure[RestoreState]):
    """Restore a VM."""

    tr = "6.7"

    def __init__(self, site: object, *, backup: str, vm: str) -> None:
        super().__init__(site, backup=backup, vm=vm)
        self.backup = backup
        self.vm = vm

    def survey(self) -> RestoreState:
        """Find the backup's images and decide the method for each LUN.

        Raises:
            NotFound: no such backup, the VM is not in it, or a Snapshot copy of it is gone.
            NotAllowed: the VM was deleted (a crash-consistent backup cannot bring it back, TR 6.7), one of its LUNs is
                not connected where it was, or it had checkpoints and shares a LUN.
        """
        backup = self.snapinfo.backup(self.backup)
        then = _in_backup(backup, self.vm)
        now = self.hyperv.by_id(then.id)
        if now is None:
            raise NotAllowed(
                f"The VM {then.name} is not registered on the host any more",
                next_action=self._unfinished(then)
                or "A deleted VM can only be restored from an application-consistent backup; "
                "register it again from its configuration file if that still exists.",
                tr="6.7",
            )
        if now.has_checkpoints:
            now = self.hyperv.with_checkpoints(now)
        places = _places(backup, then)
        disks = self.snapdrive.disks()
        live = self.storage.luns_by_disk(place.unique_id for place in places)
        mark = stamp(self.site.now())
        luns = []
        for number, place in enumerate(places):
            lun = live.get(place.unique_id)
            disk = next((d for d in disks if d.unique_id == place.unique_id), None)
            if lun is None or disk is None or place.access_path.casefold() not in _folded(disk.access_paths):
                raise NotAllowed(
                    f"The LUN of {place.access_path} is not connected there",
                    next_action="Connect the LUN where it was at the time of the backup: same drive letter or folder.",
                    tr="6.7",
                )
            self._need_snapshot(lun.volume, place)
            luns.append(self._plan_lun(backup, place, lun, then, now, number=number, mark=mark))
        igroup, _ = self.storage.igroup_of(self.snapdrive.initiator())
        return RestoreState(
            backup=backup.name,
            consistency=backup.consistency,
            vm=then,
            was_running=now.running,
            igroup=igroup,
            luns=tuple(luns),
            warnings=_warnings(then, now),
            stamp=mark,
        )

    def _unfinished(self, vm: BackupVm) -> str:
        """What to do if an earlier restore of the VM was interrupted, "" if none was."""
        for found in unfinished(self.site.name, folder=self.site.journals):
            named = str(found.header.parameters.get("vm", "")).casefold()
            if found.header.flow == path_of(type(self)) and named in (vm.name.casefold(), vm.id.casefold()):
                return f"Its restore was interrupted: smhvlab doctor --resume {found.run} finishes it."
        return ""

    def _need_snapshot(self, volume: VolumeRef, place: BackupLun) -> None:
        if self.storage.snapshot(volume, place.snapshot) is None:
            raise NotFound(
                f"The Snapshot copy {place.snapshot} of volume {volume} is gone",
                next_action="Restore from another backup; this one can no longer be used for this VM.",
                why="it was deleted, or a volume restore went back behind it",
                tr="6.7",
            )

    def _plan_lun(
        self, backup: Backup, place: BackupLun, lun: LunRef, then: BackupVm, now: Vm, *, number: int, mark: str
    ) -> RestoreLun:
        access = place.access_path
        wanted = [disk.path for disk in then.disks if disk.unique_id == place.unique_id]
        if backup.lun_of(then.configuration_file, then.id) == place:
            wanted.append(then.configuration_file)
        files = tuple(FileCopy(path[len(access) :], path) for path in wanted)
        own = _folded(disk.path for disk in then.disks) | _folded(file.partial for file in files)
        others = [path for path in self.snapdrive.files(access) if not now.owns(path) and path.casefold() not in own]
        if not others:
            return RestoreLun(lun, place.snapshot, Method.LUN_CLONE, access, image=place.path)
        if any(differencing(path) for path in wanted):
            raise NotAllowed(
                f"{then.name} had checkpoints when {place.snapshot} was taken, and {lun} holds files of others",
                next_action="Move the other files off this LUN: a LUN that only holds this VM comes back as a whole, "
                "with its checkpoints. A file copy would separate them from the disks that they are based on.",
                why=f"{len(others)} other file(s), the first is {others[0]}",
                tr="6.7",
            )
        return RestoreLun(
            lun,
            place.snapshot,
            Method.FILE_COPY,
            access,
            others=len(others),
            clone=f"{lun.name}_restore_{mark}".replace(".", "_"),
            mount=f"C:\\smhvlab\\restore_{mark}_{number}\\",
            files=files,
            image=place.path,
        )

    def confirmations(self, state: RestoreState) -> Sequence[Confirmation]:
        """The warnings of TR 6.7 that hold here."""
        return tuple(Confirmation(key=key, text=text, tr="6.7") for key, text in state.warnings)

    @step(
        "Mount a clone of the backup's LUN beside the live one",
        tr="6.7",
        items=lambda s: tuple(lun.clone for lun in s.copied),
        counts=lambda s: {"ontap.lun.clone": len(s.copied), "windows.rescan": len(s.copied)},
        when=lambda s: bool(s.copied),
        otherwise="each LUN holds only files of this VM and is restored as a whole",
    )
    def mount(self, s: RestoreState) -> None:
        for lun in self.track(s.copied):
            source = lun.lun.in_snapshot(lun.snapshot, lun.image)
            clone = self.storage.ensure_lun_clone(lun.clone, source=source, svm=lun.lun.svm)
            self.snapdrive.ensure_connected(clone, igroup=s.igroup, access_path=lun.mount)

    @mount.undo
    def unmount(self, s: RestoreState) -> None:
        self._discard_clones(s)

    @step(
        "Copy the files back under other names",
        tr="6.7/2",
        items=lambda s: tuple(file.partial for _, file in s.files),
        when=lambda s: bool(s.copied),
        otherwise="no file has to be copied",
    )
    def copy(self, s: RestoreState) -> None:
        for lun, file in self.track(s.files):
            source = lun.mount + file.inside
            self._drop_copy(file)  # of an interrupted try; Windows may give it its full length before its contents
            self.host.run("Copy-Item", {"LiteralPath": source, "Destination": file.partial, "Force": True})
            if self._length(file.partial) != self._length(source):
                raise NotFound(
                    f"The copy of {file.target} is not complete",
                    next_action="Look for space on the volume and read the host's event log, then try again.",
                    tr="6.7",
                )

    @copy.undo
    def drop_copies(self, s: RestoreState) -> None:
        for _, file in s.files:
            self._drop_copy(file)

    def _drop_copy(self, file: FileCopy) -> None:
        """No half-made copy is there; the copying of a process that is dead by now may still have to end."""
        if not self.host.run("Test-Path", {"LiteralPath": file.partial})[0]:
            return
        for attempt in range(_ATTEMPTS):
            try:
                self.host.run("Remove-Item", {"LiteralPath": file.partial, "Force": True})
                return
            except PowerShellError as error:
                if error.error_id != IN_USE or attempt + 1 == _ATTEMPTS:
                    raise
                self.host.sleep(10)

    @step("Power off the VM", tr="6.7/1", items=lambda s: (s.vm.name,))
    def power_off(self, s: RestoreState) -> None:
        self.hyperv.ensure_off(s.vm.id)

    @power_off.undo
    def power_on(self, s: RestoreState) -> None:
        if s.was_running:
            self.hyperv.ensure_running(s.vm.id)

    @step("Remove the VM's registration", tr="6.7/1", items=lambda s: (s.vm.name,), pivot=True)
    def remove(self, s: RestoreState) -> None:
        self.hyperv.ensure_removed(s.vm.id)

    @step(
        "Restore the LUNs from the Snapshot copy",
        tr="6.7/2",
        items=lambda s: s.cloned,
        counts=lambda s: {"ontap.lun.clone": len(s.cloned)},
        when=lambda s: bool(s.cloned),
        otherwise="every LUN holds files of others",
    )
    def restore_luns(self, s: RestoreState) -> None:
        for lun in self.track(s.cloned):
            self.snapdrive.ensure_offline(lun.lun.unique_id)
            self.storage.restore_lun(lun.lun, snapshot=lun.snapshot, path=lun.image)
            disk = self.snapdrive.ensure_online(self.snapdrive.arrived(lun.lun))
            self.snapdrive.ensure_mounted(disk, lun.access_path)

    @step(
        "Put the copied files in place",
        tr="6.7/2",
        items=lambda s: tuple(file.target for _, file in s.files),
        when=lambda s: bool(s.copied),
        otherwise="no file was copied",
    )
    def swap(self, s: RestoreState) -> None:
        for _, file in self.track(s.files):
            if self._length(file.partial) is None:
                continue  # an earlier try has put it in place
            if self._length(file.target) is not None:
                self.host.run("Remove-Item", {"LiteralPath": file.target, "Force": True})
            self.host.run("Rename-Item", {"LiteralPath": file.partial, "NewName": file.target.rpartition("\\")[2]})

    @step("Register the VM", tr="6.7/3", items=lambda s: (s.vm.configuration_file,))
    def register(self, s: RestoreState) -> None:
        self.hyperv.ensure_registered(s.vm.id, s.vm.configuration_file)

    @step(
        "Start the VM",
        tr="6.7/4",
        items=lambda s: (s.vm.name,),
        counts=lambda s: {"windows.vm.start": 1},
        when=lambda s: s.was_running or s.vm.state == "Running",
        otherwise="it ran neither at the time of the backup nor before the restore",
    )
    def start(self, s: RestoreState) -> None:
        self.hyperv.ensure_running(s.vm.id)

    @step(
        "Remove the clone of the backup's LUN",
        tr="6.7",
        items=lambda s: tuple(lun.clone for lun in s.copied),
        when=lambda s: bool(s.copied),
        otherwise="none was made",
    )
    def clean_up(self, s: RestoreState) -> None:
        self._discard_clones(s)

    def _discard_clones(self, s: RestoreState) -> None:
        for lun in s.copied:
            try:
                clone: LunRef | None = self.storage.lun(lun.clone, svm=lun.lun.svm)
            except NotFound:
                clone = None
            self.snapdrive.discard_connection(clone, igroup=s.igroup, access_path=lun.mount)
            self.storage.discard_lun(lun.clone, svm=lun.lun.svm)

    def _length(self, path: str) -> int | None:
        """Length of a file in bytes, None if there is none."""
        if not self.host.run("Test-Path", {"LiteralPath": path})[0]:
            return None
        return int(self.host.run("Get-Item", {"LiteralPath": path}, select=("Length",))[0]["Length"])

    def result(self, state: RestoreState) -> Restored:
        """What was done, and what is left to do by hand."""
        checklist = [text for key, text in state.warnings if key.endswith("-vhds")]
        return Restored(state.vm.name, state.backup, tuple(str(lun) for lun in state.luns), tuple(checklist))


def _in_backup(backup: Backup, vm: str) -> BackupVm:
    for entry in backup.vms:
        if vm.casefold() in (entry.name.casefold(), entry.id.casefold()):
            return entry
    raise NotFound(
        f"The VM {vm} is not in the backup {backup.name}",
        next_action=f"It holds {', '.join(entry.name for entry in backup.vms)}.",
        tr="6.7",
    )


def _places(backup: Backup, vm: BackupVm) -> list[BackupLun]:
    """The LUNs of the backup that hold something of the VM."""
    paths = [vm.configuration_file, *vm.parents]
    if vm.parents:
        paths.append(vm.checkpoints + "\\")
    used = {disk.unique_id for disk in vm.disks} | {
        lun.unique_id for path in paths if (lun := backup.lun_of(path, vm.id))
    }
    return [lun for lun in backup.luns_of(vm.id) if lun.unique_id in used]


def _folded(texts: Iterable[str]) -> set[str]:
    return {text.casefold() for text in texts}


def _warnings(then: BackupVm, now: Vm) -> tuple[tuple[str, str], ...]:
    """The warnings of TR 6.7 by key: each has to be accepted before anything is changed."""
    found = []
    before, present = {d.path.casefold() for d in then.disks}, {d.path.casefold() for d in now.disks}
    if not now.running:
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
