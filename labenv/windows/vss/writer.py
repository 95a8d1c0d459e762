"""What VSS asks of a writer, and the writers of the operating system."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from labenv.windows.errors import FileProblem
from labenv.windows.vss.codes import NONE, Phase, WriterState
from labenv.windows.vss.model import Component, SnapshotSet, Status

if TYPE_CHECKING:
    from labenv.windows.host import Host


class Writer:
    """A writer with its state, which lives as long as the process that it runs in.

    The methods are the notices in their order. A ``VssError`` that one raises is the writer's veto: its code becomes
    the failure, and the state the one that belongs to the notice.
    """

    id: UUID
    name: str
    state: WriterState
    failure: int
    usage = "VSS_UT_USERDATA"
    service = "CryptSvc"

    def __init__(self, host: Host) -> None:
        self.host = host
        self.instance = UUID(bytes=host.ids.digest("vss writer", host.spec.name, self.name)[:16], version=4)
        self.reset_state()

    def reset(self) -> None:
        """The writer's process has started: it is stable and knows nothing of earlier backups."""
        self.reset_state()

    async def identify(self) -> list[Component]:
        """What it could back up now."""
        return []

    async def prepare_backup(self, work: SnapshotSet) -> None:
        """The components have been chosen."""

    async def prepare_snapshot(self, work: SnapshotSet) -> None:
        """The shadow copies are about to be made; what takes long is done here."""

    async def freeze(self, work: SnapshotSet) -> None:
        """Stop writing."""

    async def thaw(self, work: SnapshotSet) -> None:
        """Go on writing."""

    async def post_snapshot(self, work: SnapshotSet) -> None:
        """The shadow copies are there, and may still be changed if the set is recovered."""

    async def backup_complete(self, work: SnapshotSet, *, succeeded: bool) -> None:
        """The requestor has saved what it wanted."""

    async def pre_restore(self, work: SnapshotSet) -> None:
        """Let go of what is about to be replaced."""

    async def post_restore(self, work: SnapshotSet) -> None:
        """What was replaced can be used again."""

    def abort(self, work: SnapshotSet) -> None:
        """The set is given up."""

    def shutdown(self, work: SnapshotSet) -> None:
        """The requestor has gone, in order or not."""

    def moved(self, work: SnapshotSet, phase: Phase, failure: int = NONE) -> None:
        """Note the outcome of a notice."""
        status = work.status[self.id] = work.status.get(self.id, Status()).after(phase, failure)
        self.state, self.failure = status.state, status.failure

    def settle(self, work: SnapshotSet) -> None:
        """The backup is over for this writer; a failure stays to be seen until it hears of the next one."""
        status = work.status.get(self.id, Status())
        if not status.state.failed:
            work.status[self.id] = Status()
            self.reset_state()

    def reset_state(self) -> None:
        """Stable, no failure."""
        self.state = WriterState.STABLE
        self.failure = NONE


class FileWriter(Writer):
    """A writer of the operating system whose component is a set of files on the system volume."""

    usage = "VSS_UT_SYSTEMSERVICE"

    def __init__(self, host: Host, *, id: UUID, name: str, component: str, files: tuple[str, ...]) -> None:  # noqa: A002 - the writer's own id
        self.id = id
        self.name = name
        super().__init__(host)
        self._component = component
        self._files = files

    async def identify(self) -> list[Component]:
        """Its one component."""
        try:
            volume = self.host.volumes.resolve("C:\\")[0].guid
        except FileProblem:
            return []
        return [Component(self.id, "", self._component, self._component, self._files, frozenset([volume]))]


def system_writers(host: Host) -> list[Writer]:
    """The writers that every host has."""
    wanted = (
        ("e8132975-6f93-4464-a53e-1050253ae220", "System Writer", "System Files", ("C:\\Windows\\System32\\*",)),
        ("afbab4a2-367d-4d15-a586-71dbb18f8485", "Registry Writer", "Registry", ("C:\\Windows\\System32\\config\\*",)),
        ("542da469-d3e1-473c-9f4f-7847f01fc64f", "COM+ REGDB Writer", "COM+ REGDB", ("C:\\Windows\\Registration\\*",)),
        ("a6ad56c2-b509-4e6c-bb19-49d8f43532f0", "WMI Writer", "WMI", ("C:\\Windows\\System32\\wbem\\repository\\*",)),
    )
    return [FileWriter(host, id=UUID(i), name=n, component=c, files=f) for i, n, c, f in wanted]
