"""The REST wire: ONTAP's API through netapp-ontap, with our own waiting, errors and log.

netapp-ontap gives the resource classes (paths, keys, schemas) and the session. Switched off are its retries, which
would send a DELETE again after a lost reply, and its polling, which would wait in real time job by job.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote_plus

from smhvlab.errors import JobFailed, NotFound, NotUnique, ProtocolError, UnknownOutcome, Unsendable
from smhvlab.profile import StorageEndpoint
from smhvlab.secrets import Secret
from smhvlab.wires.control import WireControl
from smhvlab.wires.jobs import Pending, settle
from smhvlab.wires.log import WireLog
from smhvlab.wires.rest import LOCATION, RestAdapter, collection_path, jobs_of, keeps, query_text, title_of
from smhvlab.wires.transport import harden, quiet

if TYPE_CHECKING:
    import requests

__all__ = ["JsonObject", "OntapWire", "Pending", "Resource"]

Resource: TypeAlias = Any
"""A netapp-ontap resource, or one of its classes; the library has no types."""

JsonObject: TypeAlias = dict[str, Any]

CONNECT_SECONDS, READ_SECONDS = 6.0, 45.0
LUN_DATA_STEP = 1 << 20
"""Most bytes of a LUN that one request may read or write."""


class OntapWire:
    """One user's connection to one cluster. Used by one thread; opens at the first request.

    Args:
        endpoint: the cluster, or `StorageEndpoint.as_svm` for an SVM's own user.
        secret: the user's password.
        log: where requests are recorded.
        control: cancel flag, seam and step of the run.
        read_only: refuse every change before it leaves.
        proxy: HTTP proxy, None to connect directly.
        sleep: how `wait` waits between polls, given seconds; the site's, so that it works in lab time.
    """

    def __init__(
        self,
        endpoint: StorageEndpoint,
        secret: Secret,
        *,
        log: WireLog,
        control: WireControl | None = None,
        read_only: bool = False,
        proxy: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.endpoint = endpoint
        self.log = log
        self.control = control or WireControl()
        self.read_only = read_only
        self.sleep = sleep
        self._secret = secret
        self._proxy = proxy
        self._host: Any = None
        self._adapter = RestAdapter(
            endpoint=endpoint,
            log=log,
            control=self.control,
            read_only=read_only,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
        )
        log.hide(secret)

    # --- reading -----------------------------------------------------------------------------------------------------

    def collect(
        self, resource: Resource, *parents: object, fields: str | Sequence[str] = (), **query: object
    ) -> list[JsonObject]:
        """All records of a collection that match, as ONTAP's own JSON objects. Pages are followed.

        Args:
            resource: a resource class, e.g. ``netapp_ontap.resources.volume.Volume``.
            parents: keys of the parents in the path, e.g. the volume's uuid for ``Snapshot``.
            fields: what to return besides the keys; "*" for the usual, "**" for all.
            query: filters, dotted names by ``**{"svm.name": "svm1"}``. None asks for unset, a sequence for any of.

        Raises:
            OntapError, ConnectionFailed, Cancelled
        """
        params = query_text(query)
        if fields:
            params["fields"] = fields if isinstance(fields, str) else ",".join(fields)
        connection = self._connection()
        url: str = connection.origin + collection_path(resource, parents)
        found: list[JsonObject] = []
        while url:
            body = _json(connection.session.get(url, params=params))
            found += body.get("records", [])
            following = body.get("_links", {}).get("next", {}).get("href")
            url, params = connection.origin + following if following else "", {}  # the link holds the query again
        return found

    def find(
        self, resource: Resource, *parents: object, fields: str | Sequence[str] = "*", **query: object
    ) -> JsonObject | None:
        """The one record that matches, or None. Raises `NotUnique` if there are several; else as `collect`."""
        records = self.collect(resource, *parents, fields=fields, **query)
        if len(records) > 1:
            raise NotUnique(
                f"{self.endpoint.name} has {len(records)} of {resource.__name__} with {_filter_text(query)}",
                next_action="Name the SVM or volume too, so that one is meant.",
            )
        return records[0] if records else None

    def one(
        self, resource: Resource, *parents: object, fields: str | Sequence[str] = "*", **query: object
    ) -> JsonObject:
        """The one record that matches. Raises `NotFound`, `NotUnique`; else as `collect`."""
        record = self.find(resource, *parents, fields=fields, **query)
        if record is None:
            raise NotFound(
                f"{self.endpoint.name} has no {resource.__name__} with {_filter_text(query)}",
                next_action="Check the name, and that this user may see it.",
            )
        return record

    def read(self, resource: Resource, *, fields: str | Sequence[str] = (), **query: object) -> JsonObject:
        """One resource by its keys (``Volume(uuid=u)``), or one without keys (``Cluster()``).

        Raises:
            OntapError: with code ``4`` if it does not exist.
        """
        params = query_text(query)
        if fields:
            params["fields"] = fields if isinstance(fields, str) else ",".join(fields)
        connection = self._connection()
        response = connection.session.get(connection.origin + resource.instance_location, params=params)
        return _json(response)

    # --- changing ----------------------------------------------------------------------------------------------------

    def create(self, resource: Resource, body: Mapping[str, Any] | None = None, /, **query: object) -> Pending:
        """POST a resource. ``return_records=True`` has the new record in `Pending.records`.

        Args:
            resource: the resource; with ``body`` its class.
            body: sent as it is, but for the parents' keys, which are the path's; ONTAP refuses what it does not know.
                Without it netapp-ontap's schema decides what is sent: a field that it does not know, or calls
                read-only, is refused as `Unsendable` before anything is sent.
            query: query parameters.

        Raises:
            OntapError, ConnectionFailed, UnknownOutcome, ReadOnlyRefused, Unsendable, Cancelled
        """
        connection = self._connection()
        if body is not None:
            sent = {name: value for name, value in body.items() if f"{{{name}[" not in resource._path}
            url = connection.origin + collection_path(resource, (body,))
            data, kind = (
                json.dumps(sent, sort_keys=True, ensure_ascii=False).encode(),
                {"Content-Type": "application/json"},
            )
            return self._pending(connection.session.post(url, data=data, headers=kind, params=query_text(query)))
        with self._expecting(keeps(resource)):
            answer = resource.post(poll=False, connection=connection, **query_text(query))
        return self._pending(answer.http_response)

    def create_many(
        self, resource: Resource, records: Sequence[Resource], *parents: object, **query: object
    ) -> Pending:
        """POST several resources of one class in one request, e.g. one Snapshot copy each of many volumes."""
        connection = self._connection()

        checks = [keeps(record) for record in records]

        def check(body: Mapping[str, object]) -> None:
            sent = body.get("records")
            for one, record in zip(checks, sent if isinstance(sent, list) else [], strict=True):
                one(record)

        with self._expecting(check):
            answer = resource.post_collection(records, *parents, poll=False, connection=connection, **query_text(query))
        return self._pending(answer.http_response)

    def modify(self, resource: Resource, changes: Mapping[str, object] | None = None, **query: object) -> Pending:
        """PATCH a resource, given by its keys: ``modify(Volume(uuid=u), {"size": n})``.

        Args:
            resource: the resource; without ``changes``, what was set on it since it was made is sent.
            changes: the body, sent as it is (dotted names are fine). netapp-ontap's schema would leave out fields
                that it does not know, e.g. ``restore_to``; ONTAP itself refuses them with a code.
            query: query parameters, e.g. ``**{"restore_to.snapshot.name": s}``.

        Raises:
            Unsendable: there is nothing to send: no body and no query.
            OntapError, ConnectionFailed, UnknownOutcome, ReadOnlyRefused, Cancelled
        """
        connection = self._connection()
        params = query_text(query)
        if changes is not None:
            response = connection.session.patch(
                connection.origin + resource.instance_location, json=dict(changes), params=params
            )
            return self._pending(response)

        def check(body: Mapping[str, object]) -> None:
            if not body and not params:
                raise Unsendable(
                    f"A change of {type(resource).__name__} holds nothing that netapp-ontap would send",
                    next_action="Pass the fields as `changes`.",
                )

        with self._expecting(check):
            answer = resource.patch(poll=False, connection=connection, **params)
        return self._pending(answer.http_response)

    def remove(self, resource: Resource, keys: Mapping[str, Any] | None = None, /, **query: object) -> Pending:
        """DELETE a resource, given by its keys, or by its class and ``keys``, e.g. ``(Volume, {"uuid": u})``.

        Raises:
            OntapError: with code ``4`` if it does not exist; a busy Snapshot copy fails in the job, see `wait`.
            ConnectionFailed, UnknownOutcome, ReadOnlyRefused, Cancelled
        """
        if keys is not None:
            connection = self._connection()
            url = f"{connection.origin}{collection_path(resource, (keys,))}/{quote_plus(keys[resource._keys[-1]])}"
            return self._pending(connection.session.delete(url, params=query_text(query)))
        answer = resource.delete(poll=False, connection=self._connection(), **query_text(query))
        return self._pending(answer.http_response)

    # --- LUN data ----------------------------------------------------------------------------------------------------

    def read_lun(self, uuid: str, *, offset: int, size: int) -> bytes:
        """Bytes of a LUN, e.g. its partition table; at most 1 MiB a request, so larger sizes take several.

        netapp-ontap decodes the answer as text and fails on binary data, so this goes through its session directly.

        Raises:
            OntapError, ProtocolError, ConnectionFailed, Cancelled
        """
        from requests_toolbelt.multipart.decoder import MultipartDecoder

        connection = self._connection()
        found = bytearray()
        while len(found) < size:
            at, step = offset + len(found), min(LUN_DATA_STEP, size - len(found))
            response = connection.session.get(
                f"{connection.origin}/api/storage/luns/{uuid}",
                params={"data.offset": at, "data.size": step},
                headers={"Accept": "multipart/form-data"},
            )
            try:
                parts = MultipartDecoder.from_response(response).parts
                data = next((part.content for part in parts if b'name="data"' in _disposition(part)), b"")
            except (ValueError, KeyError, LookupError):
                data = b""
            if len(data) != step:
                raise ProtocolError(
                    f"{self.endpoint.name} gave {len(data)} of {step} bytes of a LUN",
                    next_action="Check that the range lies within the LUN.",
                )
            found += data
        return bytes(found)

    def write_lun(self, uuid: str, data: bytes, *, offset: int) -> None:
        """Overwrite bytes of a LUN that no host uses, at most 1 MiB.

        Raises:
            Unsendable: more than 1 MiB.
            OntapError, ConnectionFailed, UnknownOutcome, ReadOnlyRefused, Cancelled
        """
        if len(data) > LUN_DATA_STEP:
            raise Unsendable(
                f"{len(data)} bytes are too many for one write to a LUN", next_action="Write at most 1 MiB at a time."
            )
        connection = self._connection()
        response = connection.session.patch(
            f"{connection.origin}/api/storage/luns/{uuid}", params={"data.offset": offset}, files={"data": data}
        )
        self.wait([self._pending(response)])

    # --- jobs --------------------------------------------------------------------------------------------------------

    @contextmanager
    def polling(self) -> Iterator[None]:
        """Requests in the block are polls: neither counted, nor logged, nor shown to the seam."""
        with self._adapter.polling():
            yield

    def wait(
        self,
        pending: Iterable[Pending],
        *,
        interval: float = 1.0,
        timeout: float = 86_400.0,
        abandon: bool = False,
    ) -> None:
        """Wait until all the given requests' jobs have ended; raise the first failure in their order.

        Args:
            pending: what `create`, `modify` and `remove` returned; those without an open job are done already.
            interval: seconds between polls, by the wire's `sleep`.
            timeout: seconds of sleep after which jobs that still run are given up.
            abandon: on cancel leave at once, for jobs that may run for hours. By default they are waited for first, so
                that undo does not look too early.

        Raises:
            JobFailed: with the job's code.
            UnknownOutcome: ONTAP no longer knows a job (it keeps them for 300 s after their end), or it still runs
                after the timeout.
            Cancelled, ConnectionFailed
        """
        for failure in self.settle(pending, interval=interval, timeout=timeout, abandon=abandon):
            if failure is not None:
                raise failure

    def settle(
        self,
        pending: Iterable[Pending],
        *,
        interval: float = 1.0,
        timeout: float = 86_400.0,
        abandon: bool = False,
    ) -> list[JobFailed | UnknownOutcome | None]:
        """As `wait`, but return each request's failure, None for success, in their order."""
        return settle(self, list(pending), interval=interval, timeout=timeout, abandon=abandon)

    # --- connection --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connection; a later request opens it again."""
        if self._host is not None:
            self._host.session.close()
            self._host = None

    def __enter__(self) -> OntapWire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connection(self) -> Any:
        if self._host is None:
            # Imported at the first request: a session that only plans over PowerShell never pays for it.
            import requests
            from netapp_ontap.host_connection import HostConnection

            quiet("netapp_ontap")
            # The library's types say str and bool; bytes keep a password that is not Latin-1, a path names the CA.
            make: Any = HostConnection
            host = make(
                self.endpoint.host,
                port=self.endpoint.port,
                username=self.endpoint.user.encode(),
                password=self._secret.reveal().encode(),
                verify=self.endpoint.ca_file or True,
            )
            session = requests.Session()
            harden(session, ca_file=self.endpoint.ca_file, proxy=self._proxy)
            # netapp-ontap mounts its own, retrying adapter unless one is mounted at exactly this address.
            session.mount(host.origin, self._adapter)
            host._request_session = session
            self._host = host
        return self._host

    @contextmanager
    def _expecting(self, check: Callable[[Mapping[str, object]], None]) -> Iterator[None]:
        self._adapter.check_body = check
        try:
            yield
        finally:
            self._adapter.check_body = None

    def _pending(self, response: requests.Response) -> Pending:
        body = _json(response) if response.content.strip() else {}
        records = body.get("records")
        return Pending(
            title=title_of(response.request),
            endpoint=self.endpoint.name,
            status=response.status_code,
            # 200 and 201 carry the link of a job that has ended already.
            jobs=jobs_of(body) if response.status_code == 202 else (),
            location=response.headers.get(LOCATION, ""),
            records=tuple(records) if isinstance(records, list) else (),
        )


def _json(response: requests.Response) -> JsonObject:
    body = response.json()
    return body if isinstance(body, dict) else {}


def _disposition(part: Any) -> bytes:
    return bytes(part.headers.get(b"Content-Disposition", b""))


def _filter_text(query: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in query_text(query).items()) or "any name"
