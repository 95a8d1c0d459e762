"""Every request of both wires, without secrets, as text that can be copied into a terminal."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from smhvlab.secrets import HIDDEN, Secret
from smhvlab.wires.control import Wire

_log = logging.getLogger(__name__)

TEXT_LIMIT = 16_000
"""Characters kept of one request's or reply's text."""

_SECRET_FIELDS = re.compile(
    r"""("(?:[\w.]*\.)?(?:password|passphrase|secret|keys?|token|certificate|private_key)"\s*:\s*)"""
    r"""("(?:[^"\\]|\\.)*"|\[[^\]]*\])""",
    re.IGNORECASE,
)


class RequestText(Protocol):
    """A request that can be shown; ``render`` is given the log's redaction."""

    def render(self, redact: Callable[[str], str]) -> str:
        """The text to copy, with no secret in it."""


@dataclass(frozen=True)
class WireEntry:
    """One request and what came of it.

    Attributes:
        number: 1, 2, ... in the order in which the requests left, over both wires.
        wire: which protocol.
        endpoint: the endpoint's name in the profile.
        reads: True if the request cannot change anything.
        title: short text, e.g. ``POST /storage/volumes`` or ``Get-VM``.
        request: the whole request as text to copy: a curl line or a PowerShell line.
        response: short text of what came back.
        status: HTTP status (0 if no answer came), or a pipeline's end state ``Completed``, ``Failed``, ``Stopped``.
        code: the wire's error code, "" if it succeeded.
        step: the flow's step that sent it, "" outside a flow.
        began, ended: by the clock of the endpoint, in whole seconds; None if it did not tell.
    """

    number: int
    wire: Wire
    endpoint: str
    reads: bool
    title: str
    request: str
    response: str
    status: str
    code: str
    step: str
    began: datetime | None = None
    ended: datetime | None = None

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return not self.code

    def curl(self) -> str:
        """The REST call as a curl line; needs ``$ONTAP`` (https://host:port) and ``$ONTAP_USER`` (user:password).

        A site with its own CA also needs ``CURL_CA_BUNDLE``. Raises ValueError for a PowerShell entry.
        """
        if self.wire is not Wire.REST:
            raise ValueError(f"Request {self.number} went over PowerShell; use powershell()")
        return self.request

    def powershell(self) -> str:
        """The pipeline as a PowerShell line for a session on the host. Raises ValueError for a REST entry."""
        if self.wire is not Wire.POWERSHELL:
            raise ValueError(f"Request {self.number} went over REST; use curl()")
        return self.request


@dataclass(frozen=True)
class WireCounts:
    """How many requests there were; polls and repeated long polls are not requests."""

    rest: int = 0
    powershell: int = 0
    reads: int = 0
    changes: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """Requests of both wires."""
        return self.rest + self.powershell


Listener = Callable[[WireEntry], None]


class WireLog:
    """The requests of a site, newest last; old ones are dropped, the counts stay right.

    Wires write from the thread of a run, panels read from another one: every method may be called from any thread.
    Listeners are called in the writing thread and must not block.

    Args:
        limit: how many entries are kept.
    """

    def __init__(self, *, limit: int = 5_000) -> None:
        self._entries: deque[WireEntry] = deque(maxlen=limit)
        self._listeners: list[Listener] = []
        self._secrets: dict[str, None] = {}
        self._counts: Counter[str] = Counter()
        self._number = 0
        self._lock = threading.RLock()

    def hide(self, secret: Secret) -> None:
        """From now on this secret's text is replaced wherever it would appear in an entry."""
        # Very short texts are hidden by field name only: blanking every "a" would make the log unreadable.
        if len(secret.reveal()) >= 4:
            with self._lock:
                self._secrets[secret.reveal()] = None

    def redact(self, text: str) -> str:
        """The text with known secrets and secret-looking JSON fields blanked."""
        with self._lock:
            secrets = sorted(self._secrets, key=len, reverse=True)
        for secret in secrets:
            text = text.replace(secret, HIDDEN)
        return _SECRET_FIELDS.sub(rf'\1"{HIDDEN}"', text)

    def start(self) -> int:
        """The number of the request that is about to leave."""
        with self._lock:
            self._number += 1
            return self._number

    def finish(
        self,
        number: int,
        *,
        wire: Wire,
        endpoint: str,
        reads: bool,
        title: str,
        request: RequestText,
        response: str,
        status: str,
        code: str = "",
        step: str = "",
        began: datetime | None = None,
        ended: datetime | None = None,
    ) -> WireEntry:
        """Record a request that has ended, and tell the listeners."""
        entry = WireEntry(
            number=number,
            wire=wire,
            endpoint=endpoint,
            reads=reads,
            title=self.redact(title),
            request=_clip(request.render(self.redact)),
            response=_clip(self.redact(response)),
            status=status,
            code=code,
            step=step,
            began=began,
            ended=ended,
        )
        with self._lock:
            # Requests that run side by side end in another order than they started in; the log keeps the starts'.
            position = len(self._entries)
            while position and self._entries[position - 1].number > number:
                position -= 1
            if len(self._entries) == self._entries.maxlen:
                self._entries.popleft()
                position = max(0, position - 1)
            self._entries.insert(position, entry)
            self._counts[wire.value] += 1
            self._counts["reads" if reads else "changes"] += 1
            self._counts["failed"] += bool(code)
            listeners = list(self._listeners)
        for listener in listeners:
            try:
                listener(entry)
            except Exception:  # who watches must not decide how a request ends
                _log.exception("A listener failed at request %d", number)
        return entry

    @property
    def entries(self) -> Sequence[WireEntry]:
        """The entries kept, in the order in which the requests left."""
        with self._lock:
            return tuple(self._entries)

    def counts(self) -> WireCounts:
        """How many requests there were since the log began or was cleared."""
        with self._lock:
            counts: Mapping[str, int] = dict(self._counts)
        return WireCounts(
            rest=counts.get(Wire.REST.value, 0),
            powershell=counts.get(Wire.POWERSHELL.value, 0),
            reads=counts.get("reads", 0),
            changes=counts.get("changes", 0),
            failed=counts.get("failed", 0),
        )

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have the listener called with every new entry; returns a function that ends it."""
        with self._lock:
            self._listeners.append(listener)

        def end() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return end

    def clear(self) -> None:
        """Forget the entries and counts; numbers go on."""
        with self._lock:
            self._entries.clear()
            self._counts.clear()


def _clip(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}... ({len(text)} characters)"
