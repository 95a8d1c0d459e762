"""A storage cluster in this process, without sockets: what the benchmarks of the array itself measure."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labenv.clock import Clock
from labenv.ids import Ids
from labenv.ontap import snapshots, volumes
from labenv.ontap.array import Array
from labenv.ontap.blocks.store import BlockStore
from labenv.ontap.spec import AggregateSpec, ClusterSpec, SvmSpec
from labenv.state import State

MIB = 1 << 20
WORD = "bench"
SPEC = ClusterSpec(
    name="cluster1",
    nodes=("cluster1-01", "cluster1-02"),
    aggregates=(AggregateSpec("aggr1", "cluster1-01", 60 << 30),),
    svms=(SvmSpec("svm1", password=WORD),),
    admin_password=WORD,
)


class Costs(dict[str, float]):
    """Every operation takes a lab second, which costs no real time."""

    def __missing__(self, key: str) -> float:
        return 1.0


class Cluster:
    """One cluster; ``http`` is a request to its application, ``do`` one that waits for its job and must succeed."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self.state = State(folder / "state.db")
        self.clock = Clock(datetime(2013, 3, 4, 8, tzinfo=UTC))
        ids = Ids(1, self.state)
        self.blocks = BlockStore(folder / "blocks", self.state, capacity=64 << 30)
        self.array = Array(spec=SPEC, clock=self.clock, state=self.state, ids=ids, blocks=self.blocks, costs=Costs())
        token = base64.b64encode(f"admin:{WORD}".encode())
        self._headers = [(b"authorization", b"Basic " + token), (b"accept", b"application/json")]

    def close(self) -> None:
        """End it; the blocks have to be sound."""
        self.runner.run(self.clock.cancel_tasks())
        self.array.close()
        self.state.close()
        self.blocks.close()
        self.runner.close()

    def http(self, method: str, url: str, body: Any = None) -> Any:
        """The body of an answer."""
        path, _, query = url.partition("?")
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"" if body is None else json.dumps(body).encode()}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
        self.runner.run(self.array.app({**scope, "headers": self._headers}, receive, send))
        if sent[0]["status"] >= 300:
            raise RuntimeError(f"{method} {url}: {sent[1]['body']!r}")
        return json.loads(sent[1]["body"])

    def do(self, method: str, path: str, body: Any = None) -> Any:
        """A request that waits for its job."""
        return self.http(method, f"/api{path}{'&' if '?' in path else '?'}return_timeout=120", body)

    def fill(self, count: int, copies: int) -> None:
        """Make volumes with Snapshot copies each, as jobs would, but without a job and a request for each."""
        core = self.array.core
        (svm,) = core.svms.values()
        (aggregate,) = core.aggregates.values()
        plain = {
            "svm": svm.uuid, "aggregate": aggregate.uuid, "size": 20 * MIB, "type": "rw", "state": "online",
            "guarantee": "none", "snapshot_policy": "none", "snapshot_reserve": 5, "comment": "", "dedupe": "none",
            "compression": "none", "extra": {},
        }  # fmt: skip
        for number in range(count):
            uuid = volumes.create_volume(core, {**plain, "name": f"vol_{number:05}", "job": ""})
            for copy in range(copies):
                arguments = {"volume": uuid, "name": f"copy_{copy:03}", "comment": "", "expiry_time": None}
                snapshots.create_snapshot(core, {**arguments, "snapmirror_label": "", "job": ""})
            if number % 50 == 49:
                self.state.commit()
        self.state.commit()
