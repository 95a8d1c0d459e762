"""One invocation of a cmdlet: its bound parameters, its input, and the streams that it writes to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labenv.windows.host import Host


class PsError(Exception):
    """What a cmdlet reports as an ErrorRecord; raised it ends the cmdlet, passed to ``Call.error`` it does not.

    Attributes:
        error_id: the part of FullyQualifiedErrorId before the comma.
        category: name of the ErrorCategory, e.g. ``InvalidArgument``, ``ObjectNotFound``.
        target: TargetObject.
        exception: .NET type name of the exception.
        suffix: the part after the comma; None means the cmdlet's own class or function name.
    """

    def __init__(
        self,
        message: str,
        *,
        error_id: str,
        category: str,
        target: object = None,
        exception: str = "System.Exception",
        suffix: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_id = error_id
        self.category = category
        self.target = target
        self.exception = exception
        self.suffix = suffix


@dataclass
class Call:
    """A bound cmdlet invocation.

    ``parameters`` holds canonical names with converted values (str, int, bool, UUID, list, dict); a switch that was
    not given is absent. Common parameters (ErrorAction, Verbose, ...) are handled by the engine and not listed.
    A native program finds its arguments as ``parameters["Arguments"]`` (list of str), returns its lines of text and
    leaves its exit code in ``variables["LASTEXITCODE"]`` (0 if it sets none). For the second half of a pair, ``input``
    holds the one object that came through the pipeline; it is also in ``parameters`` under the parameter that takes it.
    """

    cmdlet: str
    parameters: Mapping[str, Any]
    parameter_set: str = ""
    input: Sequence[object] = ()
    output: list[object] = field(default_factory=list)
    on_error: Callable[[PsError], None] | None = None
    on_warning: Callable[[str], None] | None = None
    on_verbose: Callable[[str], None] | None = None
    on_progress: Callable[[str, str, int], None] | None = None
    user_can_delegate: bool = False
    variables: MutableMapping[str, object] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """A parameter's value, or the default if it was not given."""
        return self.parameters.get(name, default)

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]

    def __contains__(self, name: str) -> bool:
        return name in self.parameters

    def error(self, error: PsError) -> None:
        """Write a non-terminating error (ErrorAction Stop turns it into a terminating one)."""
        if self.on_error is None:
            raise error
        self.on_error(error)

    def warning(self, text: str) -> None:
        """Write to the warning stream."""
        if self.on_warning is not None:
            self.on_warning(text)

    def verbose(self, text: str) -> None:
        """Write to the verbose stream."""
        if self.on_verbose is not None:
            self.on_verbose(text)

    def progress(self, activity: str, status: str, percent: int) -> None:
        """Write a progress record."""
        if self.on_progress is not None:
            self.on_progress(activity, status, percent)


Cmdlet = Callable[["Host", Call], "Sequence[object] | Awaitable[Sequence[object] | None] | None"]
"""A cmdlet's implementation: returns its output objects (or None), or awaits lab time and then returns them."""
