"""One HTTPS exchange with ONTAP: where refusals, the seam, the log and the errors are."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus, unquote, urlsplit, urlunsplit

import requests

from smhvlab.errors import OntapError, ProtocolError, ReadOnlyRefused, SmhvLabError, UnknownOutcome, Unsendable
from smhvlab.profile import StorageEndpoint
from smhvlab.wires.control import Wire, WireControl, WireRequest
from smhvlab.wires.kept import KeptAdapter
from smhvlab.wires.log import WireLog
from smhvlab.wires.ontap_codes import advice
from smhvlab.wires.transport import LOOK_IT_UP, Sent, date_of, explain, was_sent, wrong_password

READING = frozenset({"GET", "HEAD", "OPTIONS"})
LOCATION = "X-Resource-Location"
"""Where the adapter moves the Location header: netapp-ontap would poll and sleep on it by itself."""


@dataclass(frozen=True)
class CurlText:
    """A REST request that renders as a curl line with ``$ONTAP`` and ``$ONTAP_USER``."""

    method: str
    path: str
    content_type: str
    body: bytes

    def render(self, redact: Callable[[str], str]) -> str:
        """The line; a binary body is left to a file ``$BODY``."""
        words = ["curl -sS"]
        if self.method != "GET":
            words.append(f"-X {self.method}")
        words.append('-u "$ONTAP_USER"')
        # The library encodes more than a query needs; a reader wants to see fields=name,size and name=*.
        path = redact(self.path.replace("%2C", ",").replace("%2A", "*"))
        # Only the variable must be expanded by the shell; whatever else it could act on goes into single quotes.
        words.append(f'"$ONTAP"{shlex.quote(path)}' if re.search(r'[$`"\\!]', path) else f'"$ONTAP{path}"')
        if self.body:
            words.append(f"-H {shlex.quote('Content-Type: ' + self.content_type)}")
            try:
                words.append(f"-d {shlex.quote(redact(self.body.decode()))}")
            except UnicodeDecodeError:
                words.append(f'--data-binary @"$BODY"  # {len(self.body)} bytes')
        return " ".join(words)


class RestAdapter(KeptAdapter):
    """Sends without retries; looks at cancel and read_only first, logs, and turns failures into our errors.

    Attributes:
        check_body: called with the JSON body of the next change before it leaves, to refuse what was left out of it.
    """

    def __init__(
        self,
        *,
        endpoint: StorageEndpoint,
        log: WireLog,
        control: WireControl,
        read_only: bool,
        timeout: tuple[float, float],
    ) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._log = log
        self._control = control
        self._read_only = read_only
        self._timeout = timeout
        self._polling = False
        self.check_body: Callable[[Mapping[str, object]], None] | None = None

    @contextmanager
    def polling(self) -> Iterator[None]:
        """Requests in the block are polls: neither counted, nor logged, nor shown to the seam."""
        before, self._polling = self._polling, True
        try:
            yield
        finally:
            self._polling = before

    def send(  # type: ignore[override]  # the base declares every option; all that we were given goes on to it
        self, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        """One exchange. Raises errors of our tree only, besides what the seam raises."""
        # requests writes a space as "+", which ONTAP takes for a plus sign.
        parts = urlsplit(request.url or "")
        request.url = urlunsplit(parts._replace(query=parts.query.replace("+", "%20")))
        options["timeout"] = options.get("timeout") or self._timeout
        title = title_of(request)
        reads = (request.method or "GET") in READING
        sent = Sent(self._endpoint.name, title, reads)
        if not reads:
            self._refuse(request, title)
        if self._polling:
            with self._control.waiting(title):
                return self._judge(self._exchange(request, options, sent), title, reads)
        asked = WireRequest(Wire.REST, self._endpoint.name, reads, title)
        self._control.before(asked)
        number = self._log.start()
        status, summary, code = "0", "", ""
        ended: datetime | None = None
        try:
            with self._control.waiting(title):
                response = self._exchange(request, options, sent)
            ended = date_of(response)
            status, summary = str(response.status_code), _summary(response, self._log.redact)
            response = self._judge(response, title, reads)
        except SmhvLabError as error:
            summary, code = error.message, error.code or type(error).__name__
            raise
        except BaseException as interruption:
            summary, code = "interrupted", type(interruption).__name__
            raise
        finally:
            self._log.finish(
                number,
                wire=Wire.REST,
                endpoint=self._endpoint.name,
                reads=reads,
                title=title,
                request=_curl(request),
                response=summary,
                status=status,
                code=code,
                step=self._control.step,
                ended=ended,
            )
        self._control.after(asked)
        return response

    def _refuse(self, request: requests.PreparedRequest, title: str) -> None:
        if self._read_only:
            raise ReadOnlyRefused(
                f"{title} would change {self._endpoint.name}, which was opened read-only",
                next_action="Connect without read_only if the site may be changed.",
            )
        if self.check_body is not None:
            check, self.check_body = self.check_body, None
            check(_body_object(request))

    def _exchange(self, request: requests.PreparedRequest, options: Mapping[str, Any], sent: Sent) -> requests.Response:
        try:
            return self._send_once(request, options)
        except requests.exceptions.RequestException as problem:
            # A read whose kept-alive connection was closed under it may be sent once more; a change never.
            lost = isinstance(problem, requests.exceptions.ConnectionError) and was_sent(problem)
            if not (sent.reads and lost):
                raise explain(problem, sent) from problem
        try:
            return self._send_once(request, options)
        except requests.exceptions.RequestException as problem:
            raise explain(problem, sent) from problem

    def _send_once(self, request: requests.PreparedRequest, options: Mapping[str, Any]) -> requests.Response:
        response = super().send(request, **options)
        # Read the body here, so that a connection that breaks in the middle is seen here too.
        _ = response.content
        return response

    def _judge(self, response: requests.Response, title: str, reads: bool) -> requests.Response:
        status = response.status_code
        if status == 401:
            raise wrong_password(self._endpoint.name, self._endpoint.user)
        error = _error_of(response)
        if error is None and status >= 500 and not reads:
            raise UnknownOutcome(
                f"{self._endpoint.name} gave no usable answer to {title}",
                code=str(status),
                why=f"HTTP {status} without an ONTAP error",
                next_action=LOOK_IT_UP,
            )
        if error is None and (status >= 300 or not _is_ours(response)):
            raise ProtocolError(
                f"{self._endpoint.name} answered {title} with something that is not ONTAP's",
                code=str(status),
                why=f"HTTP {status}, {response.headers.get('Content-Type', 'no content type')}",
                next_action="Check the address and port in the profile, and any proxy between.",
            )
        if error is not None and status >= 400:
            code = str(error.get("code", ""))
            known = advice(code)
            raise OntapError(
                f"{self._endpoint.name} refused {title}: {error.get('message', '')}".rstrip(" .:"),
                code=code,
                target=str(error["target"]) if error.get("target") else None,
                status=status,
                tr=known.tr or None,
                next_action=known.next_action,
            )
        if "Location" in response.headers:
            response.headers[LOCATION] = response.headers.pop("Location")
        return response


def collection_path(resource: Any, parents: Sequence[object]) -> str:
    """The path of a resource class's collection below its parents: their keys, or one object that holds them.

    As netapp-ontap makes it, without the objects that it makes on the way.
    """
    given = list(parents)

    def key(found: re.Match[str]) -> str:
        if isinstance(given[0], Mapping):
            return quote_plus(str(given[0][found[1]][found[2]]))
        return quote_plus(str(given.pop(0)))

    return re.sub(r"\{(\w+)\[(\w+)\]\}", key, resource._path)


def title_of(request: requests.PreparedRequest) -> str:
    """Method and path without ``/api`` and query, e.g. ``PATCH /storage/volumes/8d3c...``."""
    return f"{request.method} {unquote(urlsplit(request.url or '').path).removeprefix('/api')}"


def query_text(query: Mapping[str, object]) -> dict[str, str]:
    """Query parameters as ONTAP writes them: None is unset, a sequence any of its items, booleans in lower case."""

    def text(value: object) -> str:
        if value is None:
            return "null"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, (list, tuple, set, frozenset)):
            return "|".join(text(item) for item in value)
        return str(value)

    return {name: text(value) for name, value in query.items()}


def jobs_of(body: Mapping[str, object]) -> tuple[str, ...]:
    """uuids of the jobs that an answer names: one, or one for each record of a query-based change."""
    jobs = body.get("jobs")
    found = [body.get("job"), *(jobs if isinstance(jobs, list) else [])]
    return tuple(str(job["uuid"]) for job in found if isinstance(job, Mapping) and job.get("uuid"))


def keeps(resource: Any) -> Callable[[Mapping[str, object]], None]:
    """A check for the body that netapp-ontap is going to send for a new resource.

    It must be made before the resource is posted: the library drops what its schema does not know from the resource
    itself. The check raises `Unsendable` if something that was set is missing from the body.
    """
    keys = {key.partition(".")[0] for key in resource.path_keys}
    known = resource.to_dict()
    unknown = [(name,) for name in sorted(vars(resource).keys() - vars(type(resource)()).keys() - known.keys())]
    # The library spells some names that Python reserves with an underscore: `class_`.
    unknown = [path for path in unknown if path[0].rstrip("_") not in known]
    wanted = [path for path in (*unknown, *_paths(known)) if path[0] not in keys]

    def check(body: Mapping[str, object]) -> None:
        lost = sorted({".".join(path) for path in wanted if not _has(body, path)})
        if lost:
            raise Unsendable(
                f"netapp-ontap would leave {', '.join(lost)} out of a new {type(resource).__name__}",
                why="its schema does not know the field, or calls it read-only",
                next_action="Correct the name, or set it by a PATCH with `changes` afterwards.",
            )

    return check


def _paths(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _paths(inner, (*path, str(name)))
    else:
        yield path


def _has(value: object, path: Sequence[str]) -> bool:
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return False
        value = value[name]
    return True


def _body_object(request: requests.PreparedRequest) -> Mapping[str, object]:
    try:
        body = json.loads(request.body or b"{}")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _curl(request: requests.PreparedRequest) -> CurlText:
    parts = urlsplit(request.url or "")
    body = request.body or b""
    if isinstance(body, str):
        body = body.encode()
    return CurlText(
        method=request.method or "GET",
        path=parts.path + (f"?{parts.query}" if parts.query else ""),
        content_type=str(request.headers.get("Content-Type", "application/json")),
        body=body if isinstance(body, bytes) and body != b"{}" else b"",
    )


def _is_ours(response: requests.Response) -> bool:
    content = response.content.lstrip()
    return not content or content.startswith(b"{") or "multipart" in response.headers.get("Content-Type", "")


def _error_of(response: requests.Response) -> Mapping[str, object] | None:
    if response.status_code < 400:
        return None
    try:
        error = response.json().get("error")
    except (ValueError, AttributeError):
        return None
    return error if isinstance(error, dict) else None


def _summary(response: requests.Response, redact: Callable[[str], str]) -> str:
    """One line about an answer: how many records, which job, or the start of it, cut where no secret is left."""
    try:
        body = response.json()
    except ValueError:
        return f"{len(response.content)} bytes"
    if not isinstance(body, dict):
        return redact(response.text)[:200]
    jobs = jobs_of(body)
    if jobs:
        return f"job {', '.join(jobs)}"
    if "num_records" in body:
        return f"{body['num_records']} records"
    if not body:
        return "done"
    return redact(json.dumps({name: value for name, value in body.items() if name != "_links"}))[:500]
