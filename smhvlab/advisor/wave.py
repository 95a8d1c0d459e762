"""Many reads at once on one host, each of which may fail without spoiling the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from smhvlab.errors import Cancelled, PowerShellError, SmhvLabError
from smhvlab.wires.powershell import Output, PowerShellWire, Running
from smhvlab.wires.wave import ended

_NOTHING = frozenset({"NoMatchingEventsFound", "GetHotFixNoEntriesFound"})
"""Errors that say no more than that there is nothing."""


class Wave:
    """Reads of one host: begun in order, collected in the same order.

    Attributes:
        unknown: part -> why it could not be read.
    """

    def __init__(self, wire: PowerShellWire) -> None:
        self.wire = wire
        self.unknown: dict[str, str] = {}
        self._running: dict[str, Running] = {}
        self._outputs: dict[str, Output] = {}

    def read(
        self, part: str, cmdlet: str, parameters: Mapping[str, object] | None = None, *, select: Sequence[str] = ()
    ) -> None:
        """Begin a read; what it cannot find is left out of its output."""
        self._begin(part, lambda: self.wire.begin(cmdlet, parameters, select=select or None, error_action="Continue"))

    def read_pair(
        self, part: str, first: tuple[str, Mapping[str, object]], second: tuple[str, Mapping[str, object]]
    ) -> None:
        """Begin a read of a pair."""
        self._begin(part, lambda: self.wire.begin_pair(first, second, error_action="Continue"))

    def _begin(self, part: str, start: Callable[[], Running]) -> None:
        try:
            self._running[part] = start()
        except PowerShellError as error:
            self._failed(part, error)

    def collect(self) -> None:
        """Wait for all that was begun. Raises ConnectionFailed, Cancelled; a refusal only makes its part unknown."""
        started, self._running = self._running, {}
        ended(iter(started.values()))
        for part, running in started.items():
            if running.output is not None:
                self._outputs[part] = running.output
            elif isinstance(running.error, PowerShellError):
                self._failed(part, running.error)
            elif running.error is not None:
                raise running.error

    def stop(self) -> None:
        """Stop what was begun and is not wanted any more."""
        for running in self._running.values():
            self.wire.abort(running, Cancelled())

    def _failed(self, part: str, error: SmhvLabError) -> None:
        if isinstance(error, PowerShellError) and error.error_id in _NOTHING:
            self._outputs[part] = Output([])
        else:
            self.unknown[part] = error.message

    def __getitem__(self, part: str) -> Output:
        """What a read gave; nothing if it failed."""
        return self._outputs.get(part) or Output([])
