"""The REST client of the hardware provider: plain requests to an array's management address, over the lab's network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from labenv.clock import Clock
from labenv.fabric import Fabric, FabricError, Message
from labenv.faults import ConnectionDropped

PATIENCE = 300
"""Lab seconds after which a job that still runs is given up."""


class ArrayError(Exception):
    """A storage system refused a request, or did not answer (code ``""``)."""

    def __init__(self, code: str, message: str, status: int = 0) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        self.message = message
        self.status = status


class ArrayClient:
    """One storage system as one user. Calls must come from a lab task or a request that holds time."""

    def __init__(self, *, fabric: Fabric, clock: Clock, address: str, user: str, password: str) -> None:
        self._fabric = fabric
        self._clock = clock
        self.address = address
        token = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        self._headers = [
            (b"authorization", f"Basic {token}".encode("ascii")),
            (b"accept", b"application/json"),
            (b"content-type", b"application/json"),
            (b"x-dot-client-app", b"navssprv"),
        ]

    async def request(
        self, method: str, path: str, body: Mapping[str, object] | None = None, /, **query: object
    ) -> dict[str, Any]:
        """The body of an answer; raises ``ArrayError``. A name in ``query`` is written with ``__`` for a dot."""
        try:
            app = self._fabric.management(self.address)
        except FabricError as error:
            raise ArrayError("", str(error)) from error
        parameters = {name.replace("__", "."): str(value) for name, value in query.items()}
        scope: Message = {
            "type": "http",
            "method": method,
            "path": f"/api{path}",
            "raw_path": quote(f"/api{path}", safe="/*").encode("ascii"),
            "query_string": urlencode(parameters).encode("ascii"),
            "headers": self._headers,
        }
        content = b"" if body is None else json.dumps(body).encode("utf-8")
        status = 0
        answer = bytearray()

        async def receive() -> Message:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                answer.extend(message["body"])

        try:
            await app(scope, receive, send)
        except ConnectionDropped as error:
            raise ArrayError("", f"the connection to {self.address} was closed without an answer") from error
        decoded: dict[str, Any] = json.loads(bytes(answer)) if answer else {}
        if status >= 400:
            problem = decoded.get("error", {})
            raise ArrayError(str(problem.get("code", "")), str(problem.get("message", status)), status)
        return decoded

    async def records(self, path: str, **query: object) -> list[dict[str, Any]]:
        """The records of a collection."""
        found: list[dict[str, Any]] = (await self.request("GET", path, None, **query)).get("records", [])
        return found

    async def start(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, patience: int = 0
    ) -> str:
        """Start a job; returns its uuid (empty if it was done at once). The array waits for it for ``patience``."""
        answer = await self.request(method, path, body, return_timeout=patience)
        return str(answer.get("job", {}).get("uuid", ""))

    async def wait(self, *jobs: str) -> list[ArrayError | None]:
        """Wait for jobs; gives the failure of each, in their order. Looking at an unfinished one takes a second."""
        waiting = [job for job in jobs if job]
        failures: dict[str, ArrayError] = {}
        give_up = self._clock.now + PATIENCE * 1_000_000
        while waiting:
            fields = "state,error.code,error.message"
            for record in await self.records("/cluster/jobs", uuid="|".join(waiting), fields=fields):
                if record["state"] == "failure":
                    error = record.get("error", {})
                    failures[record["uuid"]] = ArrayError(str(error.get("code", "")), str(error.get("message", "")))
                if record["state"] in ("success", "failure"):
                    waiting.remove(record["uuid"])
            if waiting and self._clock.now >= give_up:
                failures.update({job: ArrayError("", f"job {job} did not end") for job in waiting})
                break
        return [failures.get(job) for job in jobs]

    async def run(self, method: str, path: str, body: Mapping[str, object] | None = None) -> None:
        """Do something to its end; raises ``ArrayError`` if it fails."""
        failure = (await self.wait(await self.start(method, path, body, patience=120)))[0]
        if failure is not None:
            raise failure
