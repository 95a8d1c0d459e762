"""Who is asking: Basic for each request, Negotiate (NTLM) for each connection."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import spnego
from spnego._ntlm_raw.crypto import ntowfv1

from labenv.windows.remoting.transport import Connection

_STORE = "NTLM_USER_FILE"
_LARGEST_TOKEN = 16384


@dataclass(frozen=True)
class Verdict:
    """The outcome: a user, or the WWW-Authenticate values of a 401; ``headers`` go with a success too."""

    user: str | None
    headers: tuple[bytes, ...] = ()


class Authenticator:
    """Checks the Authorization header against ``DOMAIN\\user`` -> password."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = {name.lower(): (name, password) for name, password in users.items()}
        self._basic: dict[bytes, str] = {}  # headers that were right, so that they are not decoded each time
        self._contexts: WeakKeyDictionary[Connection, Any] = WeakKeyDictionary()
        self._authenticated: WeakKeyDictionary[Connection, str] = WeakKeyDictionary()

    def check(self, header: bytes | None, connection: Connection | None) -> Verdict:
        """Judge a request. Negotiate is offered only if the server tells connections apart."""
        offers = (b'Basic realm="WSMAN"',) if connection is None else (b"Negotiate", b'Basic realm="WSMAN"')
        if header is None:
            user = self._authenticated.get(connection) if connection is not None else None
            return Verdict(user, () if user else offers)
        known = self._basic.get(header)
        if known is not None:
            return Verdict(known)
        scheme, _, token = header.partition(b" ")
        if scheme.lower() == b"basic":
            user = self._password(token)
            if user is not None:
                self._basic[header] = user
            return Verdict(user, () if user else offers)
        if scheme.lower() in (b"negotiate", b"ntlm") and connection is not None:
            return self._negotiate(scheme, token, connection, offers)
        return Verdict(None, offers)

    def _password(self, token: bytes) -> str | None:
        try:
            name, _, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        known = self._users.get(name.lower())
        if known is None and "\\" not in name:
            same = [entry for full, entry in self._users.items() if full.rpartition("\\")[2] == name.lower()]
            known = same[0] if len(same) == 1 else None
        expected = known[1] if known else ""
        right = hmac.compare_digest(expected.encode(), password.encode())
        return known[0] if known and right else None

    def _negotiate(self, scheme: bytes, token: bytes, connection: Connection, offers: tuple[bytes, ...]) -> Verdict:
        self._authenticated.pop(connection, None)
        context = self._contexts.pop(connection, None)
        try:
            data = base64.b64decode(token, validate=True)
            if not data or len(data) > _LARGEST_TOKEN:
                return Verdict(None, offers)
            with self._store():
                if context is None:
                    context = spnego.server(protocol="ntlm" if scheme.lower() == b"ntlm" else "negotiate")
                answer = context.step(data)
        except Exception:  # a broken token may fail anywhere in its parsers; it is a refusal all the same
            return Verdict(None, offers)
        header = scheme + b" " + base64.b64encode(answer) if answer else b""
        if not context.complete:
            self._contexts[connection] = context
            return Verdict(None, (header,) if header else offers)
        known = self._users.get(str(context.client_principal).lower())
        if known is None:
            return Verdict(None, offers)
        self._authenticated[connection] = known[0]
        return Verdict(known[0], (header,) if header else ())

    @contextmanager
    def _store(self) -> Iterator[None]:
        """Show pyspnego our users for the time of one step: it reads them only from a file named by the environment.

        The file holds hashes, is private, and is gone afterwards. Nothing else runs meanwhile: one thread, no await.
        """
        handle, name = tempfile.mkstemp(prefix="labenv-")
        before = os.environ.get(_STORE)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                for number, (user, password) in enumerate(self._users.values(), 1000):
                    file.write(f"{user}:{number}:{'0' * 32}:{ntowfv1(password).hex().upper()}:[U]:LCT-00000000\n")
            os.environ[_STORE] = name
            yield
        finally:
            if before is None:
                os.environ.pop(_STORE, None)
            else:
                os.environ[_STORE] = before
            Path(name).unlink(missing_ok=True)
