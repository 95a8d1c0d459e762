"""SnapInfo: what is known of each backup, as write-once files on a LUN of its own (TR 5.4).

Layout below the SnapInfo folder::

    Datasets\\<dataset>\\<number>.toml       a dataset's versions; the highest number counts
    Backups\\<dataset>\\<backup>.json        one file per backup
    Backups\\<dataset>\\<backup>.deleted     its backup is being deleted: it is not offered any more
    Backups\\<dataset>\\<backup>.<host>.cab  what VSS on a host told of it (TR 12)
    Backups\\<dataset>\\<backup>.<host>.txt  what the Hyper-V writer on a host told for a crash-consistent one (TR 10)
    Backups\\<dataset>\\<backup>.verified    its backup was verified
    Mounts\\<mount>.json                    a backup that is mounted now (TR 6.8)
    Restores\\<vm id>.json                  a VM that is being restored now (TR 6.7)
    Policies\\<policy>\\<number>.toml         a policy's versions; the highest number counts
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import msgspec
import tomli_w

from smhvlab.backup.evidence import SetEvidence, VmEvidence
from smhvlab.errors import NameTaken, NotAllowed, NotFound, NotUnique, PowerShellError
from smhvlab.snapinfofiles import SnapInfoFiles, damage
from smhvlab.vss import set_of

NAME = re.compile(r"[A-Za-z0-9_-]{1,60}\Z")
"""What the name of a dataset may look like: it becomes a part of file and Snapshot copy names."""


def name_of(thing: object) -> str:
    """The name of a backup or a mount that was given itself; a name is what it is."""
    return str(getattr(thing, "name", thing))


@dataclass(frozen=True)
class DatasetMember:
    """A VM of a dataset; the id counts, the name is what it was called when it was added."""

    id: str
    name: str


@dataclass(frozen=True)
class Dataset:
    """A named group of VMs: the unit of backup (TR 5.2). ``removed``: it was taken away by this version."""

    name: str
    members: tuple[DatasetMember, ...]
    description: str = ""
    version: int = 0
    removed: bool = False


@dataclass(frozen=True)
class BackupLun:
    """Where one LUN's image of a backup is: everything that a restore needs to find it, and nothing else is asked.

    Attributes:
        snapshot: name of the Snapshot copy of ``volume``.
        path: path of the **consistent** image inside that Snapshot copy. After auto-recovery that is a clone beside the
            LUN, whose own path there holds what it would be after a crash (TR 6.2).
        access_path: where the host had it mounted.
        volume_path: the name that Windows had for it, with its GUID; "" in a backup that did not record it.
        shared: whether it was a cluster shared volume.
        vms: ids of the VMs for which this image is the consistent one; empty: for all that lie on the LUN. A shared
            volume has one image for each node where every node makes a set of its own (TR 12).
    """

    svm: str
    volume: str
    volume_uuid: str
    snapshot: str
    path: str
    lun_uuid: str
    serial_number: str
    unique_id: str
    disk_guid: str
    access_path: str
    shared: bool = field(default=False, repr=False)
    vms: tuple[str, ...] = field(default=(), repr=False)
    volume_path: str = field(default="", repr=False)


@dataclass(frozen=True)
class BackupDisk:
    """A VM's virtual disk in a backup, and the LUN (by UniqueId) that holds it."""

    path: str
    controller_type: str
    controller_number: int
    controller_location: int
    unique_id: str


@dataclass(frozen=True)
class BackupVm:
    """A VM in a backup.

    Attributes:
        host: the host on which it was; "" in a backup that did not record it.
        evidence: how consistent it is and why.
        checkpoint: id of the VM's checkpoint that the backup was made through, "" if it was not (era 2022). The VM
            configuration in the image then starts from the checkpoint's leaves, which hold the state of a crash.
        leaves: these leaves by the disk below, which is the consistent one and the only one that a restore may take.
        checkpoints: folder of its checkpoint files; "" in a backup that did not record it.
        parents: files that its disks are based on, if it had checkpoints.
    """

    id: str
    name: str
    state: str
    generation: int
    configuration: str
    configuration_file: str
    disks: tuple[BackupDisk, ...]
    checkpoints: str = field(default="", repr=False)
    parents: tuple[str, ...] = field(default=(), repr=False)
    host: str = field(default="", repr=False)
    evidence: VmEvidence | None = field(default=None, repr=False)
    checkpoint: str = field(default="", repr=False)
    leaves: dict[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Backup:
    """One backup of a dataset.

    Attributes:
        name: ``<Dataset>_MM-dd-yyyy_HH.mm.ss``; also the name of its Snapshot copies.
        consistency: ``crash`` or ``application``.
        common_point: whether all volumes were taken at one instant.
        engine: what made it consistent: ``Snapshot copies``, ``DiskShadow``, ``ProductionOnly checkpoints``.
        evidence: how consistent it is and why, in plain sentences.
        policy: name of the policy that asked for it, "" for a backup on demand.
        tag: the retention tag under which it is kept or deleted, "" if no policy deletes it (TR 6.3).
        sets: what hosts and array told while it was made.
        failed: VMs of the dataset that are not in it, each with the reason.
        warnings: what was there and is not supported, or was at work beside it.
        writers: hosts whose writers' metadata was asked for without a set (TR 10); it is kept beside the record.
        run: what the run that made it knows its own work by, "" in a backup that did not record it.
    """

    name: str
    dataset: str
    time: str
    consistency: str
    common_point: bool
    host: str
    vms: tuple[BackupVm, ...]
    luns: tuple[BackupLun, ...]
    evidence: tuple[str, ...] = ()
    excluded: tuple[str, ...] = field(default=())
    policy: str = ""
    tag: str = ""
    engine: str = ""
    sets: tuple[SetEvidence, ...] = field(default=(), repr=False)
    failed: tuple[str, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = field(default=(), repr=False)
    writers: tuple[str, ...] = field(default=(), repr=False)
    run: str = field(default="", repr=False)

    @property
    def registered_as(self) -> str:
        """The backup type as SMHV shows it (TR 6.2)."""
        return {"crash": "Crash-consistent", "application": "Application-consistent"}[self.consistency]

    def lun_of(self, path: str, vm_id: str = "") -> BackupLun | None:
        """The image that holds a path of the host, consistent for a VM; None: none of this backup."""
        matches = [lun for lun in self.luns_of(vm_id) if path.casefold().startswith(lun.access_path.casefold())]
        return max(matches, key=lambda lun: len(lun.access_path), default=None)

    def luns_of(self, vm_id: str) -> list[BackupLun]:
        """The images that may be taken for a VM; every one without an id."""
        return [lun for lun in self.luns if not vm_id or not lun.vms or vm_id in lun.vms]

    def named(self, vm: str, *, tr: str) -> BackupVm:
        """The VM of a name or id in this backup. Raises NotFound, NotUnique."""
        wanted = vm.casefold()
        found = [entry for entry in self.vms if wanted in (entry.id.casefold(), entry.name.casefold())]
        if len(found) > 1:
            raise NotUnique(
                f"{len(found)} VMs of the backup {self.name} are called {vm}",
                next_action=f"Name one by its id: {', '.join(entry.id for entry in found)}.",
                tr=tr,
            )
        if not found:
            raise NotFound(
                f"The VM {vm or repr(vm)} is not in the backup {self.name}",
                next_action=f"It holds {', '.join(entry.name for entry in self.vms)}.",
                tr=tr,
            )
        return found[0]

    def vm(self, vm_id: str) -> BackupVm:
        """The VM of an id in this backup. Raises NotFound."""
        for vm in self.vms:
            if vm.id == vm_id:
                return vm
        raise NotFound(f"The backup {self.name} does not hold the VM {vm_id}", next_action="Choose another backup.")


@dataclass(frozen=True)
class Catalogue:
    """What SnapInfo knows of backups.

    Attributes:
        backups: those that are offered, oldest first.
        deleted: those whose deletion has begun and is not finished, oldest first.
        verified: names of those that were verified.
        damaged: files of backups that cannot be read, with the reason; their backups are in no list.
    """

    backups: list[Backup]
    deleted: list[Backup]
    verified: frozenset[str]
    damaged: dict[str, str] = field(default_factory=dict)


class SnapInfo(SnapInfoFiles):
    """What the SnapInfo folder of a site, or a copy of it, knows of datasets and backups."""

    # --- datasets

    def datasets(self, listed: Sequence[str] | None = None) -> list[Dataset]:
        """The present version of every dataset that was not removed, by name; ``listed``: files listed already."""
        return [dataset for dataset in self.every_dataset(listed) if not dataset.removed]

    def every_dataset(self, listed: Sequence[str] | None = None) -> list[Dataset]:
        """The newest version of every dataset, a removal too, by name; ``listed``: files listed already."""
        return self._datasets(listed)[0]

    def _datasets(self, listed: Sequence[str] | None = None) -> tuple[list[Dataset], dict[str, str]]:
        """The newest version of every dataset; and the files of those that are damaged, with the reason."""
        newest = {name: (number, path) for name, number, path in self.versions("Datasets", listed)}
        found, damaged = self.read_sound([path for _, path in newest.values()], "#", _dataset)
        return [replace(found[path], version=n) for n, path in newest.values() if path in found], damaged

    def dataset(self, name: str, listed: Sequence[str] | None = None) -> Dataset:
        """A dataset's present version. Raises NotFound; NotAllowed: its file is damaged."""
        every, damaged = self._datasets(listed)
        known = [dataset for dataset in every if not dataset.removed]
        for dataset in known:
            if dataset.name.casefold() == name.casefold():
                return dataset
        for path, why in damaged.items():
            if path.rsplit("\\", 2)[1].casefold() == name.casefold():
                raise damage(path, why)
        names = ", ".join(dataset.name for dataset in known)
        raise NotFound(
            f"There is no dataset {name or repr(name)}",
            next_action=(f"The site has {names}: name one of these. " if names else "")
            + "Create it with site.create_dataset(name, vms).",
            tr="5.2",
        )

    def write_dataset(self, dataset: Dataset) -> Dataset:
        """Write the next version of a dataset. Raises NameTaken if another console was faster."""
        if not NAME.match(dataset.name):
            raise NotAllowed(
                f"{dataset.name!r} is no name for a dataset",
                next_action="Use 1 to 60 of the characters a-z, A-Z, 0-9, _ and -.",
                tr="5.2",
            )
        version = dataset.version + 1
        document = {
            "name": dataset.name,
            "description": dataset.description,
            "vm": [{"name": m.name, "id": m.id} for m in dataset.members],
        } | ({"removed": True} if dataset.removed else {})
        folder = f"{self.folder()}\\Datasets\\{dataset.name}"
        self.write_once(folder, f"{version:06}.toml", tomli_w.dumps(document), "#")
        return replace(dataset, version=version)

    # --- backups

    def backups(self) -> list[Backup]:
        """Every backup that was not deleted, oldest first."""
        return self.catalogue().backups

    def catalogue(self, listed: Sequence[str] | None = None) -> Catalogue:
        """Every backup with what else is known of it; two requests. ``listed``: files that were listed already."""
        files = self.files("Backups") if listed is None else listed
        marks = {
            suffix: {path.removesuffix(suffix) for path in files if path.endswith(suffix)}
            for suffix in (".deleted", ".verified")
        }
        known = [path for path in files if path.endswith(".json") and "\\Backups\\" in path]
        read, damaged = self.read_sound(known, "//", partial(msgspec.json.decode, type=Backup))
        found = {path.removesuffix(".json"): backup for path, backup in read.items()}
        ordered = sorted(found.items(), key=lambda entry: (entry[1].time, entry[1].name))
        return Catalogue(
            backups=[backup for stem, backup in ordered if stem not in marks[".deleted"]],
            deleted=[backup for stem, backup in ordered if stem in marks[".deleted"]],
            verified=frozenset(backup.name for stem, backup in ordered if stem in marks[".verified"]),
            damaged=damaged,
        )

    def damaged(self) -> dict[str, str]:
        """Files of datasets and backups that cannot be read, with the reason."""
        return self._datasets()[1] | self.catalogue().damaged

    def mark_verified(self, backup: Backup, evidence: str = "") -> None:
        """Record that a backup was verified: retention keeps at least one such backup (TR 6.3)."""
        self._write(self._home(backup), f"{backup.name}.verified", evidence, "#")

    def discard_verified_draft(self, dataset: str, name: str) -> None:
        """A mark of verification that was not finished is gone; a finished one stays."""
        self._gone([f"{self.folder()}\\Backups\\{dataset}\\{name}.verified.new"])

    def mark_deleted(self, backups: Sequence[Backup]) -> None:
        """The backups are not offered any more; their Snapshot copies may still be there."""
        marks = [f"{self._home(backup)}\\{backup.name}.deleted" for backup in backups]
        if not marks:
            return
        try:
            self.host.run("New-Item", {"Path": marks, "ItemType": "File"})
        except PowerShellError:
            there = self.host.run("Test-Path", {"LiteralPath": marks})
            missing = [mark for mark, is_there in zip(marks, there, strict=True) if not is_there]
            if len(missing) == len(marks):
                raise
            if missing:  # the others were there before
                self.host.run("New-Item", {"Path": missing, "ItemType": "File"})

    def unmark_deleted(self, backups: Sequence[Backup]) -> None:
        """The backups are offered again."""
        self._gone([f"{self._home(backup)}\\{backup.name}.deleted" for backup in backups])

    def forget(self, backups: Sequence[Backup]) -> None:
        """No file of the backups is left; the marks go last, so that a deletion that stopped here goes on next time."""
        stems = [f"{self._home(backup)}\\{backup.name}" for backup in backups]
        metadata = [
            f"{stem}.{leaf}"
            for stem, backup in zip(stems, backups, strict=True)
            for leaf in (*(f"{one.host}.cab" for one in backup.sets), *(f"{host}.txt" for host in backup.writers))
        ]
        self._gone(metadata + [stem + suffix for suffix in (".verified", ".json", ".deleted") for stem in stems])

    def _home(self, backup: Backup) -> str:
        return self._backups(backup.dataset)

    def backup(self, name: str, listed: Sequence[str] | None = None) -> Backup:
        """The backup of a name, whatever its case, as in Windows. Raises NotFound; NotAllowed: its file is damaged."""
        catalogue = self.catalogue(listed)
        known = catalogue.backups
        for backup in known:
            if backup.name.casefold() == name.casefold():
                return backup
        for path, why in catalogue.damaged.items():
            if path.casefold().endswith(f"\\{name}.json".casefold()):
                raise damage(path, why)
        of_dataset = [backup for backup in known if backup.dataset.casefold() == name.casefold()]
        newest = ", ".join(backup.name for backup in (of_dataset or known)[:-4:-1])
        advice = f"The newest {f'of the dataset {name} ' * bool(of_dataset)}are {newest}: see site.backups()."
        raise NotFound(
            f"There is no backup {name or repr(name)}",
            next_action=advice if newest else "There is none yet: make one with site.backup(DATASET).",
            tr="6.7",
        )

    def ensure_backup(self, backup: Backup) -> None:
        """The backup's file is there, written by the run that made the backup. Raises NameTaken: by another run."""
        text = msgspec.json.format(msgspec.json.encode(backup), indent=1).decode()
        leaf = f"{backup.name}.json"
        if not self._write(self._home(backup), leaf, text, "//"):
            self._need_mine(self._run_of(f"{self._home(backup)}\\{leaf}"), backup.name, backup.run)

    def discard_backup(self, dataset: str, name: str, *, run: str = "") -> None:
        """The file of a backup that was never finished is gone, unless another run has written it."""
        path = f"{self._backups(dataset)}\\{name}.json"
        there, draft = self.host.run("Test-Path", {"LiteralPath": [path, f"{path}.new"]})
        mine = there and (not run or self._run_of(path) in ("", run))
        self._gone([path] * bool(mine) + [f"{path}.new"] * bool(draft))

    def _run_of(self, path: str) -> str:
        return msgspec.json.decode(self.read_all([path], "//")[0], type=Backup).run

    def _need_mine(self, owner: str, name: str, run: str) -> None:
        if owner != run:
            raise NameTaken(
                f"SnapInfo has a backup {name} that another run has made",
                why="both were planned in the same second",
                next_action="Plan again: a later second gives another name.",
                tr="6.2",
            )

    def ensure_writers(self, dataset: str, name: str, host: str, lines: Sequence[str], *, run: str = "") -> None:
        """What the writers of a host have told of their VMs is kept with a backup (TR 6.2, 10).

        Raises NameTaken: another run keeps its own there.
        """
        folder, leaf = self._backups(dataset), f"{name}.{host}.txt"
        if not self._write(folder, leaf, "\r\n".join((f"# run {run}", *lines)), "#", draft=f".{run}.new"):
            self._need_mine(self._writers_run(f"{folder}\\{leaf}"), name, run)

    def discard_writers(self, dataset: str, name: str, hosts: Iterable[str], *, run: str = "") -> None:
        """What the writers of hosts have told this run is gone."""
        paths = [f"{self._backups(dataset)}\\{name}.{host}.txt" for host in hosts]
        there = self.host.run("Test-Path", {"LiteralPath": paths})
        mine = [
            path for path, is_there in zip(paths, there, strict=True) if is_there and self._writers_run(path) == run
        ]
        self._gone([*mine, *(f"{path}.{run}.new" for path in paths)])

    def _writers_run(self, path: str) -> str:
        head = self.read_all([path], "#")[0].partition("\r\n")[0]
        return head.removeprefix("# run ")

    def ensure_metadata(self, dataset: str, name: str, host: str, metadata: bytes) -> None:
        """What VSS on a host told of a backup - writers' metadata and components document - is kept with it (TR 12).

        Raises NameTaken: there is that of another set.
        """
        target = f"{self._backups(dataset)}\\{name}.{host}.cab"
        if self.host.run("Test-Path", {"LiteralPath": target})[0]:
            self._need_mine(set_of(self._metadata(target))[0], name, set_of(metadata)[0])
            return
        draft = f"{target}.{set_of(metadata)[0]}.new"
        self.host.run("New-Item", {"Path": self._backups(dataset), "ItemType": "Directory", "Force": True})
        self.host.run("Set-Content", {"LiteralPath": draft, "Value": metadata, "Encoding": "Byte"})
        self.host.run("Move-Item", {"LiteralPath": draft, "Destination": target})

    def discard_metadata(self, dataset: str, name: str, sets: Mapping[str, str]) -> None:
        """What VSS told of these sets, by host, is gone; that of another set of the same name stays."""
        paths = {f"{self._backups(dataset)}\\{name}.{host}.cab": one for host, one in sets.items()}
        if not paths:
            return
        there = self.host.run("Test-Path", {"LiteralPath": list(paths)})
        mine = [
            path
            for (path, one), is_there in zip(paths.items(), there, strict=True)
            if is_there and set_of(self._metadata(path))[0] == one
        ]
        self._gone([*mine, *(f"{path}.{one}.new" for path, one in paths.items())])

    def _metadata(self, path: str) -> bytes:
        output = self.host.run("Get-Content", {"LiteralPath": path, "Raw": True, "Encoding": "Byte"})
        return b"".join(part if isinstance(part, bytes) else bytes([int(part)]) for part in output)

    def _backups(self, dataset: str) -> str:
        return f"{self.folder()}\\Backups\\{dataset}"


def _dataset(text: str) -> Dataset:
    document: dict[str, Any] = tomllib.loads(text)
    members = tuple(DatasetMember(entry["id"], entry["name"]) for entry in document["vm"])
    removed = bool(document.get("removed", False))
    return Dataset(document["name"], members, document.get("description", ""), removed=removed)
