"""The host's paths to its storage, as MPIO and the iSCSI driver notice them."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from labenv.windows.events import ERROR, INFORMATION, WARNING
from labenv.windows.records import DiskRecord, SessionRecord

if TYPE_CHECKING:
    from labenv.state import State
    from labenv.windows.host import Host

SYSTEM = "System"


class PathWatch:
    """Writes an event when a session loses its portal or gets it back (``state.Participant``).

    Whatever changes a path, on the array or on the host, ends in a commit; the watch looks after each.
    """

    def __init__(self, host: Host, state: State) -> None:
        self._host = host
        self._last = state.table(f"windows.{host.name}.path", bool)
        self._restoring = False

    # -- state.Participant -------------------------------------------------------------------------------------

    def write(self, db: sqlite3.Connection) -> None:
        """Nothing of its own."""

    def checkpoint(self, name: str, db: sqlite3.Connection) -> None:
        """Nothing of its own."""

    def restore(self, name: str, db: sqlite3.Connection) -> None:
        """What is seen until the records are back means nothing."""
        self._restoring = True

    def forget(self, name: str, db: sqlite3.Connection) -> None:
        """Nothing of its own."""

    def committed(self) -> None:
        """Look at the paths now."""
        if self._restoring:
            self._restoring = False
        elif self._host.powered:
            self.look()

    # ----------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Compare the sessions with what they were, and write what has changed."""
        initiator = self._host.initiator
        for identifier in [k for k in self._last if k not in initiator.sessions]:
            del self._last[identifier]
        lost: list[SessionRecord] = []
        back: list[SessionRecord] = []
        for identifier, session in initiator.sessions.items():
            up = initiator.reaches(session)
            if up != self._last.get(identifier, True):
                (back if up else lost).append(session)
            if up != self._last.get(identifier):
                self._last[identifier] = up
        events = self._host.events
        for session in lost:
            text = "Connection to the target was lost. The initiator will attempt to retry the connection."
            events.write(SYSTEM, "iScsiPrt", 20, text, level=ERROR, values=(session.target, session.portal))
        for session in back:
            text = "A connection to the target was lost, but Initiator successfully reconnected to the target."
            events.write(SYSTEM, "iScsiPrt", 34, text, level=INFORMATION, values=(session.target, session.portal))
        if lost or back:
            self._disks(lost=bool(lost))

    def _disks(self, *, lost: bool) -> None:
        events = self._host.events
        sessions = self._host.initiator.sessions.values()
        alive = sum(1 for s in sessions if self._host.initiator.reaches(s))
        for disk in self._host.disks.present():
            if disk.kind != "iscsi":
                continue
            name = device_name(disk)
            if not alive:
                text = f"All paths have failed. {name} will be removed."
                events.write(SYSTEM, "mpio", 20, text, level=ERROR, values=(name,))
            elif lost:
                text = (
                    f"{name} is currently in a degraded state. One or more paths have failed, though the process is "
                    "now complete."
                )
                events.write(SYSTEM, "mpio", 17, text, level=WARNING, values=(name,))
            else:
                text = f"A path to {name} came back: {alive} paths are there."
                events.write(SYSTEM, "mpio", 18, text, level=INFORMATION, values=(name,))


def device_name(disk: DiskRecord) -> str:
    """What the MPIO driver calls a disk."""
    return f"\\Device\\MPIODisk{disk.number}"
