"""What a restore of a VM touches, does and leaves to be done (TR 6.7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from html import escape
from typing import Any

from smhvlab.flow import CHOSEN
from smhvlab.mount.image import Image
from smhvlab.snapinfo import Backup, BackupVm
from smhvlab.storage import LunRef, VolumeRef


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
        shown: how the image is mounted beside the LUN for a file copy, None when the LUN itself is restored. Each
            survey chooses other names: two plans that differ in nothing else are equal.
        files: what is copied back.
        image: path of the consistent image inside the Snapshot copy.
        resource: name of its disk among the cluster's resources, "" for a disk of one host.
        present: the files that were on a LUN that is restored as a whole when that was decided.
    """

    lun: LunRef
    snapshot: str
    method: Method
    access_path: str
    others: int = 0
    shown: Image | None = field(default=None, compare=False)
    files: tuple[FileCopy, ...] = ()
    image: str = ""
    resource: str = ""
    present: tuple[str, ...] = field(default=(), compare=False)

    def source(self, file: FileCopy) -> str:
        """Where a file that is copied is read: in the image that is mounted beside the LUN."""
        assert self.shown is not None, "a LUN that is restored as a whole has no image beside it"
        return self.shown.access_path + file.inside

    def __str__(self) -> str:
        why = f", {self.others} file(s) of others are on it" if self.others else ""
        return f"{self.lun} from {self.snapshot}: {self.method.value}{why}"


@dataclass(frozen=True)
class RestoreState:
    """What one restore touches and creates.

    Attributes:
        host: the host on which the VM is restored; ``was_on``: where it is registered now, "" nowhere.
        role: the VM's group in the failover cluster, "" if it has none; ``role_was``: what to set again by hand.
        safety: the backup that is taken of the present state first, None for none; ``volumes``: of its LUNs.
        script: a cmdlet that runs on the host in the end, "" for none; ``told``: what came of it.
        taken: when the backup was taken.
    """

    backup: str
    consistency: str
    vm: BackupVm
    was_running: bool
    host: str
    was_on: str
    role: str
    role_was: tuple[str, ...]
    luns: tuple[RestoreLun, ...]
    warnings: tuple[tuple[str, str], ...]
    script: str
    script_parameters: dict[str, Any]
    volumes: tuple[VolumeRef, ...]
    stamp: str = field(metadata=CHOSEN)
    safety: Backup | None = field(default=None, metadata=CHOSEN)
    told: str = ""
    taken: str = ""

    @property
    def cloned(self) -> tuple[RestoreLun, ...]:
        """LUNs that are restored as a whole."""
        return tuple(lun for lun in self.luns if lun.method is Method.LUN_CLONE)

    @property
    def copied(self) -> tuple[RestoreLun, ...]:
        """LUNs from which files are copied."""
        return tuple(lun for lun in self.luns if lun.method is Method.FILE_COPY)

    @property
    def shown(self) -> tuple[Image, ...]:
        """The images that are mounted for copying."""
        return tuple(lun.shown for lun in self.copied if lun.shown is not None)

    @property
    def files(self) -> tuple[tuple[RestoreLun, FileCopy], ...]:
        """Every file that is copied back, with its LUN."""
        return tuple((lun, file) for lun in self.copied for file in lun.files)

    @property
    def starts(self) -> bool:
        """Whether the VM is started in the end."""
        return self.was_running or self.vm.state == "Running"


@dataclass(frozen=True)
class Restored:
    """A VM that was restored."""

    vm: str
    backup: str
    methods: tuple[str, ...]
    checklist: tuple[str, ...]
    safety: str = ""
    script: str = ""

    def __str__(self) -> str:
        lines = [f"{self.vm} is back as of {self.backup}", *(f"  {text}" for text in self.methods)]
        lines += [f"  The state before it is kept in {self.safety}"] * bool(self.safety)
        lines += [f"  {self.script}"] * bool(self.script)
        return "\n".join(lines + [f"  To do by hand: {text}" for text in self.checklist])

    def _repr_html_(self) -> str:
        told = [*self.methods, *([f"The state before it is kept in {self.safety}"] if self.safety else [])]
        methods = "".join(f"<li>{escape(text)}</li>" for text in [*told, *([self.script] if self.script else [])])
        checklist = "".join(f"<li>{escape(text)}</li>" for text in self.checklist)
        return (
            f"<p><b>{escape(self.vm)}</b> is back as of <code>{escape(self.backup)}</code></p>"
            f"<ul>{methods}</ul><p>To do by hand:</p><ul>{checklist or '<li>nothing</li>'}</ul>"
        )
