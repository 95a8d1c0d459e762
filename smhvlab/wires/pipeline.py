"""A PowerShell pipeline as the wire holds it: what is sent, how it reads as text, what it wrote, how it failed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from smhvlab.errors import PowerShellError, SmhvLabError, Unsendable
from smhvlab.wires.control import WireRequest
from smhvlab.wires.records import Record
from smhvlab.wires.values import Credential, argument_text, parameter_text, ps_value

if TYPE_CHECKING:
    from smhvlab.wires.powershell import PowerShellWire

_PROPERTY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Output(list[Any]):
    """What a pipeline wrote: `Record` objects and plain values, in order.

    Attributes:
        errors: with ``error_action="Continue"``, the errors that did not end it, by ``target`` and ``code``.
        warnings: texts of the warning stream.
    """

    def __init__(
        self,
        values: Iterable[object] = (),
        *,
        errors: Sequence[PowerShellError] = (),
        warnings: Sequence[str] = (),
    ) -> None:
        super().__init__(values)
        self.errors = tuple(errors)
        self.warnings = tuple(warnings)


@dataclass(frozen=True)
class NativeResult:
    """What a native program left.

    Attributes:
        lines: its output; the text is in the host's language, so it is shown and never parsed for proof.
        exit_code: %ERRORLEVEL%; success is proven by reading the site again, not by it.
        errors: lines that it wrote to its error output.
    """

    lines: tuple[str, ...]
    exit_code: int
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """A command of a pipeline: its name, and its parameters with their declared types in the order of sending."""

    name: str
    parameters: tuple[tuple[str, object, str], ...] = ()
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class PipelineText:
    """A pipeline that renders as a PowerShell line; statements are separated by semicolons."""

    statements: tuple[tuple[Part, ...], ...]

    def render(self, redact: Callable[[str], str]) -> str:
        """The line, exact and ready to paste; secrets stand as variables."""
        return "; ".join(
            " | ".join(
                " ".join(
                    [
                        part.name,
                        *(argument_text(text, redact=redact) for text in part.arguments),
                        *(parameter_text(name, value, kind, redact=redact) for name, value, kind in part.parameters),
                    ]
                )
                for part in statement
            )
            for statement in self.statements
        )


@dataclass
class Running:
    """A pipeline that was started by `PowerShellWire.begin`.

    Attributes:
        wire: the host's, which began it.
        title: e.g. ``Checkpoint-VM``.
        on_percent: told how far the command says that it is, if it says so.
        patience: real seconds after which it is stopped, from the last time that it was seen to get on.
        began: when the host took it, by its own clock, in whole seconds.
        output: what it wrote, once collected and if it succeeded.
        error: why it failed, once collected.
    """

    wire: PowerShellWire = field(repr=False)
    title: str
    request: WireRequest
    number: int
    text: PipelineText
    stops_on_error: bool
    patience: float
    polling: bool = False
    on_percent: Callable[[int], None] | None = None
    began: datetime | None = None
    output: Output | None = None
    error: SmhvLabError | None = None
    pipeline: Any = field(default=None, repr=False)
    deadline: float = field(init=False)
    _percent: int = field(default=-1, init=False, repr=False)

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + self.patience

    def tell_percent(self) -> None:
        """Hand on the last of the progress records that have come since the last look; what moves is given time."""
        records = self.pipeline.streams.progress
        percent = records[-1].percent_complete if records else None
        records.clear()
        if not isinstance(percent, int) or percent < 0:  # -1: it does not know
            return
        if percent != self._percent:
            self._percent, self.deadline = percent, time.monotonic() + self.patience
        if self.on_percent is not None:
            self.on_percent(percent)

    @property
    def ended(self) -> bool:
        """Whether it was collected."""
        return self.output is not None or self.error is not None


def power_shell_error(record: Any, title: str, endpoint: str) -> PowerShellError:
    """Our error for an ErrorRecord as pypsrp decodes it."""
    from psrpcore.types import ErrorCategory

    from smhvlab.wires.session import properties

    facts = properties(record.exception)
    hresult = facts.get("HResult")
    kinds = getattr(record.exception, "types", None) or []
    target = getattr(record, "target_object", None)
    message = record.details_message or facts.get("Message") or getattr(record, "_to_string", None) or ""
    try:
        category = ErrorCategory(int(record.category)).name
    except (TypeError, ValueError):
        category = ""
    text = target if isinstance(target, str) else getattr(target, "to_string", None)
    return PowerShellError(
        f"{title} on {endpoint}: {str(message).strip() or 'an error without a message'}".rstrip("."),
        code=record.fq_error or None,
        category=category,
        target=str(text or record.target_name or ""),
        exception=str(kinds[0]) if kinds else "",
        hresult=int(hresult) & 0xFFFFFFFF if isinstance(hresult, int) else None,
        next_action=_NEXT.get(category, "Read the state of the host again; its event logs tell more."),
    )


_NEXT = {
    "ObjectNotFound": "Check the name or id, that it is on this host, and that the service behind it runs there.",
    "InvalidArgument": "Check that what the parameters name exists on this host.",
    "PermissionDenied": "Give the user the rights on the host, or use the JEA role.",
    "ResourceExists": "Choose another name, or use what is there.",
    "ResourceBusy": "Wait until the other operation has ended, then try again.",
    "ResourceUnavailable": "Check that the service behind it is running on the host.",
    "InvalidOperation": "The object's state does not allow it: read its state, then decide.",
}


def pack(part: Part, *, credential: Callable[[Credential], object]) -> list[tuple[str, object]]:
    return [
        (name, ps_value(value, kind, where=f"{part.name} -{name}", credential=credential))
        for name, value, kind in part.parameters
    ]


def selecting(names: Sequence[str] | None) -> tuple[Part, ...]:
    if names is None:
        return ()
    if (
        isinstance(names, str)
        or not names
        or not all(isinstance(name, str) and _PROPERTY.match(name) for name in names)
    ):
        raise Unsendable(
            "Select-Object takes a list of property names, nothing else", next_action="Name the properties wanted."
        )
    return (Part("Select-Object", (("Property", list(names), "Bare[]"),)),)


def summary(values: Sequence[object], errors: Sequence[PowerShellError], redact: Callable[[str], str]) -> str:
    """One line about what came back, cut where no secret is left."""
    parts = [f"{len(values)} objects" if len(values) != 1 else "1 object"]
    if len(values) == 1 and not isinstance(values[0], Record):
        parts = [redact(str(values[0]))[:200]]
    if errors:
        parts.append(redact(f"{len(errors)} error{'s' if len(errors) > 1 else ''}: {errors[0].message}")[:400])
    return ", ".join(parts)
