"""What the parts of VSS hand to each other: components, the volumes of a set, the set."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.windows.volumes import Volume
from labenv.windows.vss.codes import NONE, Phase, WriterState

if TYPE_CHECKING:
    from labenv.windows.host import Host
    from labenv.windows.vss.provider import Provider


class Context(Enum):
    """How long shadow copies live, and whether writers take part."""

    VOLATILE = "volatile"
    VOLATILE_NO_WRITERS = "volatile nowriters"
    PERSISTENT = "persistent"
    PERSISTENT_NO_WRITERS = "persistent nowriters"
    CLIENT_ACCESSIBLE = "clientaccessible"

    @property
    def persistent(self) -> bool:
        """Whether shadow copies outlive the requestor."""
        return self not in (Context.VOLATILE, Context.VOLATILE_NO_WRITERS)

    @property
    def writers(self) -> bool:
        """Whether writers take part."""
        return self in (Context.VOLATILE, Context.PERSISTENT)


class BackupType(Enum):
    """VSS_BACKUP_TYPE, as far as it matters here: after a full backup applications may truncate their logs."""

    FULL = "full"
    COPY = "copy"


class Method(Enum):
    """How the Hyper-V writer backs a VM up; what it is called depends on the era."""

    ONLINE = "online"
    SAVED = "saved"
    OFFLINE = "offline"


@dataclass(frozen=True)
class Component:
    r"""What a writer backs up as one.

    Attributes:
        path: logical path above the name, without a backslash at the ends; often empty.
        files: full paths of its files.
        volumes: GUIDs of the volumes that hold them; elsewhere: paths of files that lie on none of this host.
        vm: the virtual machine that it is, and how its writer would back it up.
    """

    writer: UUID
    path: str
    name: str
    caption: str
    files: tuple[str, ...]
    volumes: frozenset[UUID]
    elsewhere: tuple[str, ...] = ()
    selectable: bool = True
    vm: UUID | None = None
    method: Method | None = None
    reason: str = ""

    @property
    def logical(self) -> str:
        r"""``\path\name``, as DiskShadow writes it."""
        return f"\\{self.path}\\{self.name}" if self.path else f"\\{self.name}"


@dataclass
class Target:
    """A volume of a set with its shadow copy.

    ``presented`` is the shadow copy as a volume of this host, writable, between PreFinalCommit and PostFinalCommit.
    """

    shadow: UUID
    volume: Volume
    shown: str
    provider: Provider
    presented: Volume | None = None


@dataclass(frozen=True)
class Status:
    """Where a writer stands in one backup."""

    state: WriterState = WriterState.STABLE
    failure: int = NONE

    def after(self, phase: Phase, failure: int = NONE) -> Status:
        """The status after a notice that went well, or that the writer failed at."""
        return Status(phase.failed if failure else phase.after, failure)


@dataclass
class SnapshotSet:
    """A shadow copy set that is being created, or was.

    Attributes:
        components: what takes part, by writer.
        shown_on: the host whose disks the shadow copies are while they are recovered; None: the writer's own.
        status: where each writer stands; a writer's own state is that of the backup that it heard of last.
        recover: whether the shadow copies are written by writers after their creation (auto-recovery).
        restored: in a restore: whether all files are back.
        options: ``transportable``, ``plex``, ``noautorecover``, ... as the requestor set them.
    """

    id: UUID
    context: Context
    options: frozenset[str] = frozenset()
    targets: list[Target] = field(default_factory=list)
    components: list[Component] = field(default_factory=list)
    recover: bool = False
    status: dict[UUID, Status] = field(default_factory=dict)
    shown_on: Host | None = None
    restored: bool = False

    def target(self, volume: UUID) -> Target | None:
        """The shadow copy of a volume."""
        return next((t for t in self.targets if t.volume.guid == volume), None)

    def of(self, writer: UUID) -> list[Component]:
        """The components of a writer."""
        return [c for c in self.components if c.writer == writer]

    def by_provider(self) -> list[tuple[Provider, list[Target]]]:
        """The providers with their shadow copies."""
        found: list[tuple[Provider, list[Target]]] = []
        for target in self.targets:
            for provider, targets in found:
                if provider is target.provider:
                    targets.append(target)
                    break
            else:
                found.append((target.provider, [target]))
        return found
