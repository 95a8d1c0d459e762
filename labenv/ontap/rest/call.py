"""One request to the API, parsed: who asks, which path, which query parameters, which body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, unquote_plus

from labenv.ontap.errors import ApiError, invalid_value
from labenv.ontap.records import Failure, User
from labenv.ontap.rest.query import split_unquoted
from labenv.ontap.rest.values import parse_boolean

GENERAL = (
    "fields",
    "order_by",
    "max_records",
    "return_timeout",
    "return_records",
    "ignore_unknown_fields",
    "privilege_level",
    "continue_on_failure",
    "serial_records",
)
"""Query parameters that every route takes."""


@dataclass(frozen=True)
class Call:
    """A request.

    Attributes:
        segments: path below ``/api``, each segment decoded (``%2F`` stays inside its segment).
        query: parameters by name, the last one of each name; ``general`` are those that every route knows.
        svm: uuid of the SVM that the request is confined to (SVM administrator, or tunnelled).
        parts: parts of a multipart body by name.
        parents, keys: keys in the path, of what the collection is in and of one record.
        doom: asked when the request's job begins: why it is to fail, None unless that is wanted.
    """

    method: str
    segments: tuple[str, ...]
    user: User
    query: Mapping[str, str] = field(default_factory=dict)
    general: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    svm: str | None = None
    hal: bool = True
    multipart: bool = False
    parts: Mapping[str, bytes] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    doom: Callable[[], Failure | None] = lambda: None

    @property
    def path(self) -> str:
        """The path as one would write it."""
        return "/" + "/".join(self.segments)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean parameter, of the query or one that every route knows; raises 262197."""
        text = self.general.get(name, self.query.get(name))
        if text is None:
            return default
        try:
            return parse_boolean(text)
        except ValueError:
            raise invalid_value(text, name, "boolean") from None

    def number(self, name: str, *, default: int, low: int, high: int) -> int:
        """An integer parameter within bounds; raises 262197 as ONTAP words it."""
        text = self.general.get(name)
        if text is None or text == "":
            return default
        try:
            value = int(text)
        except ValueError:
            raise invalid_value(text, name, f"{low}..{high}") from None
        if not low <= value <= high:
            raise invalid_value(text, name, f"{low}..{high}")
        return value

    def whole(self, name: str, *, default: int) -> int:
        """A parameter of the route's own that is a whole number, not negative; raises 262197."""
        text = self.query.get(name, str(default))
        if not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise invalid_value(text, name, "integer")
        return int(text)

    @property
    def return_timeout(self) -> int:
        """Lab seconds to wait for a job (0..120)."""
        return self.number("return_timeout", default=15 if self.method == "GET" else 0, low=0, high=120)


@dataclass(frozen=True)
class Reply:
    """An answer: HTTP status, JSON body (or raw bytes with their type), headers."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    content_type: str = ""

    @classmethod
    def multipart(cls, data: bytes, *, name: str, boundary: str) -> Reply:
        """Bytes as the only part of a ``multipart/form-data`` body."""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n'
        head += "Content-Type: application/octet-stream\r\n\r\n"
        raw = head.encode("ascii") + data + f"\r\n--{boundary}--\r\n".encode("ascii")
        return cls(200, raw=raw, content_type=f"multipart/form-data; boundary={boundary}")


def parse_path(raw: bytes) -> tuple[str, ...]:
    """Segments of a path as it was sent; empty ones (trailing and double slashes) do not count."""
    return tuple(unquote(part) for part in raw.decode("latin-1").split("?", 1)[0].split("/") if part)


def parse_query(raw: str) -> tuple[dict[str, str], dict[str, str]]:
    """(query, general) parameters of a query string; ``+`` is a space, a repeated name counts once, the last."""
    own: dict[str, str] = {}
    general: dict[str, str] = {}
    for pair in raw.split("&"):
        name, _, value = pair.partition("=")
        name = unquote_plus(name)
        if name:
            (general if name in GENERAL else own)[name] = unquote_plus(value)
    return own, general


def parse_multipart(content_type: str, body: bytes) -> dict[str, bytes]:
    """Contents of the parts of a ``multipart/form-data`` body by name; raises ``ApiError`` 2."""
    boundary = ""
    for parameter in split_unquoted(content_type, ";"):
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "boundary":
            boundary = value.strip('"')
    if not boundary:
        raise ApiError("2", reason="the multipart body has no boundary")
    parts: dict[str, bytes] = {}
    for section in (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1"))[1:]:
        if section.startswith(b"--"):
            break
        head, _, content = section.partition(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            key, _, disposition = line.partition(b":")
            if key.strip().lower() != b"content-disposition":
                continue
            for parameter in split_unquoted(disposition.decode("utf-8", "replace"), ";"):
                name, _, value = parameter.strip().partition("=")
                if name == "name":
                    parts[value.strip('"')] = content
    return parts
