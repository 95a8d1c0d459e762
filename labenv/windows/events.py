"""The host's event logs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from labenv.state import State
from labenv.windows.records import EventRecord
from labenv.windows.spec import HostSpec

VMMS = "Microsoft-Windows-Hyper-V-VMMS"
VMMS_ADMIN = "Microsoft-Windows-Hyper-V-VMMS-Admin"
WORKER = "Microsoft-Windows-Hyper-V-Worker"
WORKER_ADMIN = "Microsoft-Windows-Hyper-V-Worker-Admin"
LOGS = ("Application", "System", VMMS_ADMIN, WORKER_ADMIN, "Microsoft-Windows-Hyper-V-VMMS-Operational")
"""The logs that exist even while they are empty."""

ERROR, WARNING, INFORMATION = 2, 3, 4


class Events:
    """Event records by number, oldest first."""

    def __init__(self, *, spec: HostSpec, state: State, now: Callable[[], datetime]) -> None:
        self._records = state.table(f"windows.{spec.name}.event", EventRecord)
        self._now = now

    def write(
        self,
        log: str,
        provider: str,
        event: int,
        message: str,
        *,
        level: int = INFORMATION,
        values: tuple[str, ...] = (),
    ) -> None:
        """Append an event at the present lab time."""
        number = len(self._records) + 1
        self._records[str(number)] = EventRecord(number, log, provider, event, level, self._now(), message, values)

    def newest_first(self) -> list[EventRecord]:
        """Every event."""
        return sorted(self._records.values(), key=lambda e: -e.number)

    def logs(self) -> list[str]:
        """Names of the logs."""
        return sorted({*LOGS, *(e.log for e in self._records.values())})
