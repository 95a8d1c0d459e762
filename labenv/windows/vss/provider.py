"""What VSS asks of a provider, and the system's own one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.windows.errors import FileProblem
from labenv.windows.files import windows_errors
from labenv.windows.volumes import Volume
from labenv.windows.vss import codes
from labenv.windows.vss.codes import VssError
from labenv.windows.vss.model import SnapshotSet, Target
from labenv.windows.vss.records import ArrayCopy, ShadowRecord

if TYPE_CHECKING:
    from labenv.windows.host import Host

SYSTEM = UUID("b5946137-7b9f-4925-af80-51abd60b20d5")
"""Id of the system provider."""

FOLDER = "System Volume Information"
SUFFIX = "{3808876b-c176-4e48-b7ae-04046e6cc752}"
LEAST_FREE = 32 << 20


class Provider(ABC):
    """A VSS provider. Steps come in the order of the methods; each acts on the targets that are its own.

    Every failure is a ``VssError``. A provider without anything to do in a step does nothing in it.
    """

    id: UUID
    name: str
    kind: str
    version: str
    service: str

    def reset(self) -> None:
        """The host has started: nothing is under way."""

    @abstractmethod
    async def supports(self, volume: Volume) -> bool:
        """Whether it can make shadow copies of a volume (of all LUNs behind it)."""

    async def begin_prepare(self, work: SnapshotSet, target: Target) -> None:
        """A volume is part of the set: get everything ready that takes time."""

    async def end_prepare(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """Every volume is known; what was started is finished now."""

    async def pre_commit(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """Writers are frozen: the commit follows."""

    async def commit(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """Make the copies; VSS holds all writes for at most ten seconds."""

    async def post_commit(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """Writes flow again."""

    async def pre_final_commit(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """Writers are thawed. If the set is recovered, ``target.presented`` is a writable volume afterwards."""

    async def post_final_commit(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """Writers have recovered what they wanted to: the shadow copies never change again."""

    async def abort(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """The set is given up: nothing of it may stay. Never raises."""

    def device(self, target: Target) -> str:
        """The device of a finished shadow copy on this host; empty if there is none."""
        return ""

    def area(self, target: Target) -> str:
        """The difference area of a finished software shadow copy."""
        return ""

    def copies(self, target: Target) -> tuple[ArrayCopy, ...]:
        """The Snapshot copies of a finished hardware shadow copy."""
        return ()

    @abstractmethod
    async def exists(self, record: ShadowRecord) -> bool:
        """Whether a shadow copy is still there."""

    @abstractmethod
    async def delete(self, record: ShadowRecord) -> None:
        """Delete a shadow copy."""


class SystemProvider(Provider):
    """The system's copy-on-write provider.

    The lab makes the difference area's file and keeps nothing in it: such a shadow copy can be listed and deleted, and
    it occupies its LUN, but its contents cannot be read.
    """

    id = SYSTEM
    name = "Microsoft Software Shadow Copy provider 1.0"
    kind = "System"
    version = "1.0.0.7"
    service = "swprv"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._numbers = 0

    async def supports(self, volume: Volume) -> bool:
        """Any volume with a file system."""
        return self._host.volumes.formatted(volume) is not None

    async def commit(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """Create the difference areas."""
        for target in targets:
            volume = target.volume
            try:
                with windows_errors(volume.name):
                    system = self._host.volumes.file_system(volume)
                    if system.free < LEAST_FREE:
                        text = f"volume {target.shown} has {system.free} bytes free, too few for a difference area"
                        raise VssError(codes.INSUFFICIENT_STORAGE, text)
                    if not system.exists(f"\\{FOLDER}"):
                        system.mkdir(f"\\{FOLDER}")
                    system.create(f"\\{FOLDER}\\{{{target.shadow}}}{SUFFIX}", size=1 << 20).close()
            except FileProblem as error:
                raise VssError(codes.UNEXPECTED_PROVIDER_ERROR, error.message) from error

    async def abort(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """Delete the difference areas again."""
        for target in targets:
            self._remove(self.area(target))

    def device(self, target: Target) -> str:
        """The next shadow copy device."""
        self._numbers += 1
        return f"\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy{self._numbers}"

    def area(self, target: Target) -> str:
        """Its file on the volume itself."""
        return f"{target.volume.name}{FOLDER}\\{{{target.shadow}}}{SUFFIX}"

    async def exists(self, record: ShadowRecord) -> bool:
        """While its volume and its difference area are there."""
        return self._host.files.exists(record.area)

    async def delete(self, record: ShadowRecord) -> None:
        """Delete the difference area."""
        self._remove(record.area)

    def _remove(self, path: str) -> None:
        if self._host.files.exists(path):
            self._host.files.remove(path)
