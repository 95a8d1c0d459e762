"""Clusters for the tests: one in this process, and what is known of one behind TLS."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from labenv.clock import Clock
from labenv.faults import Faults
from labenv.ids import Ids
from labenv.ontap.array import Array
from labenv.ontap.blocks.store import BlockStore
from labenv.ontap.rest.call import parse_path
from labenv.ontap.spec import AggregateSpec, ClusterSpec, LifSpec, SvmSpec
from labenv.state import State

T = TypeVar("T")
GENERAL = {
    "1": "an entry of that name is there already",
    "2": "a value is missing or makes no sense",
    "3": "no such route, or not with this method",
    "4": "no such entry",
    "6": "not for this user",
    "8": "the entry is in use",
    "262179": "a parameter or field that the route does not have",
    "262188": "a field given twice, nested and dotted",
    "262196": "a field that the method does not set",
    "262197": "a value that is not of the field's type or range",
    "262198": "a body that is not JSON",
    "460770": "a job that failed for a reason of its own; also what an injected fault gives if it names none",
    "917536": "a job that failed because there is no space",
    "2621462": "no such SVM, or none that the request is for",
    "2621706": "an SVM's name and uuid that are not of the same one",
    "2621707": "an SVM is needed and none was given",
    "6691623": "a login that is not accepted",
}
"""Codes that any operation can give, of the framework around the operations: documented once, not for each."""
GENERIC = set(GENERAL)
MIB = 1 << 20
GIB = 1 << 30
PASSWORD = "admin-secret"
IQN = "iqn.1991-05.com.microsoft:hv1.lab.example"
START = datetime(2013, 3, 4, 8, tzinfo=UTC)

SPEC = ClusterSpec(
    name="cluster1",
    nodes=("cluster1-01", "cluster1-02"),
    aggregates=(AggregateSpec("aggr1", "cluster1-01", 8 * GIB), AggregateSpec("aggr2", "cluster1-02", 4 * GIB)),
    svms=(
        SvmSpec(
            "svm1",
            lifs=(
                LifSpec("svm1_mgmt", "10.0.0.20", "cluster1-01", "management"),
                LifSpec("svm1_iscsi_1", "10.0.1.21", "cluster1-01"),
                LifSpec("svm1_iscsi_2", "10.0.1.22", "cluster1-02"),
            ),
            password="vs-secret",
        ),
        SvmSpec("svm2", iscsi=False, password="other-secret"),
    ),
    admin_password="admin-secret",
    snapshot_limit=4,
    lifs=(LifSpec("cluster_mgmt", "10.0.0.10", "cluster1-01", "management"),),
)


class Prices(dict[str, float]):
    """Every operation takes a lab second unless a test says otherwise."""

    def __missing__(self, key: str) -> float:
        return 1.0


@dataclass
class Answer:
    """What an HTTP request got."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]


def _json(content: bytes) -> Any:
    return json.loads(content) if content.startswith(b"{") else {}


@dataclass
class Bench:
    """A cluster with its own event loop; ``do`` and ``http`` are blocking."""

    folder: Path
    spec: ClusterSpec = SPEC
    prices: Prices = field(default_factory=Prices)
    connection: Any = None  # what a server tells of the client's connection

    def __post_init__(self) -> None:
        self.runner = asyncio.Runner()
        self.open()

    def open(self) -> None:
        self.state = State(self.folder / "state.db")
        self.clock = Clock(START)
        self.ids = Ids(1, self.state)
        self.blocks = BlockStore(self.folder / "blocks", self.state, capacity=16 * GIB)
        self.faults = Faults(self.clock)
        self.array = Array(
            spec=self.spec,
            clock=self.clock,
            state=self.state,
            ids=self.ids,
            blocks=self.blocks,
            costs=self.prices,
            faults=self.faults,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def close(self) -> None:
        """Stop, and look at the blocks."""
        try:
            self.run(self.clock.cancel_tasks())
            self.array.close()
            assert self.blocks.check() == []
            self.state.commit()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Give tasks, files and the event loop back, whatever state they are in."""
        self.run(self.clock.cancel_tasks())
        self.state.db.close()
        self.blocks.close()
        self.runner.close()

    def kill(self) -> None:
        """End the process without a commit, and start again on what is stored."""
        now = self.clock.now
        self.run(self.clock.cancel_tasks())
        self.state.db.close()
        self.blocks.close()  # writes nothing: gives the files back, which a real kill does too
        self.open()
        self.clock.set(now)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def advance(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> tuple[int, Any]:
        """Status and body of an in-process request; dots in parameter names are written ``__``."""
        names = {name.replace("__", "."): str(value) for name, value in query.items()}

        async def work() -> tuple[int, Any]:
            with self.clock.request():
                return await self.array.call(method, path, query=names, body=body)

        status, answer = self.run(work())
        self._check_declared(method, path, answer)
        return status, answer

    def _check_declared(self, method: str, path: str, answer: Any) -> None:
        """Every error must be one that the collection says it can give."""
        segments = parse_path(path.removeprefix("/api").encode())
        route = self.array.dispatcher.route(segments)
        if "error" in answer and "state" not in answer and route is not None and method in route.collection.methods:
            code = answer["error"]["code"]
            assert code in GENERIC or code in route.collection.codes[method], (method, path, answer)

    def do(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """Body of an in-process request that waits for its job and must succeed."""
        wait = {} if method == "GET" else {"return_timeout": 120}
        status, answer = self.call(method, path, body, **wait, **query)
        assert status < 300, answer
        return answer

    def one(self, path: str, **query: Any) -> Any:
        """The only record that a query finds, with all its fields."""
        records = self.do("GET", path, **{"fields": "**", **query})["records"]
        assert len(records) == 1, records
        return records[0]

    def http(
        self,
        method: str,
        url: str,
        body: Any = None,
        *,
        user: str = "admin",
        password: str = PASSWORD,
        **headers: str,
    ) -> Answer:
        """An HTTP request to the ASGI application; a bytes body is sent as it is."""
        path, _, query = url.partition("?")
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        names = {"authorization": f"Basic {token}", **{k.replace("_", "-").lower(): v for k, v in headers.items()}}
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent: list[Any] = []

        messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": content, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return messages.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        scope: dict[str, Any] = {
            "type": "http",
            "state": {"connection": self.connection} if self.connection is not None else {},
            "method": method,
            "path": path,
            "raw_path": path.encode("ascii"),
            "query_string": query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in names.items() if v],
        }
        self.run(self.array.app(scope, receive, send))
        if not sent:
            return Answer(0, {}, b"")
        if path.startswith("/api") and "X_Dot_SVM_Name" not in headers:
            self._check_declared(method, path, _json(sent[1]["body"]))
        got = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], got, sent[1]["body"])

    # what most tests need ---------------------------------------------------------------------------------------------

    def volume(self, name: str = "vol1", size: int = GIB, **more: Any) -> str:
        """Make a thin volume; its uuid."""
        body = {
            "name": name,
            "svm": {"name": "svm1"},
            "aggregates": [{"name": "aggr1"}],
            "size": size,
            "guarantee": {"type": "none"},
            **more,
        }
        self.do("POST", "/storage/volumes", body)
        return self.one("/storage/volumes", name=name)["uuid"]

    def lun(self, name: str = "/vol/vol1/lun1", size: int = 64 * MIB, **more: Any) -> str:
        """Make a thin LUN; its uuid."""
        body = {"name": name, "svm.name": "svm1", "os_type": "hyper_v", "space.size": size, **more}
        self.do("POST", "/storage/luns", {"space.guarantee.requested": False, **body})
        return self.one("/storage/luns", name=name)["uuid"]

    def igroup(self, name: str = "hv1", initiator: str = IQN) -> str:
        """Make an initiator group; its uuid."""
        body = {"name": name, "svm.name": "svm1", "os_type": "hyper_v", "protocol": "iscsi"}
        self.do("POST", "/protocols/san/igroups", {**body, "initiators": [{"name": initiator}]})
        return self.one("/protocols/san/igroups", name=name)["uuid"]

    def map(self, lun: str = "/vol/vol1/lun1", igroup: str = "hv1") -> None:
        """Map a LUN."""
        body = {"lun.name": lun, "igroup.name": igroup, "svm.name": "svm1"}
        self.do("POST", "/protocols/san/lun-maps", body)

    def snapshot(self, volume: str, name: str) -> str:
        """Make a Snapshot copy; its uuid."""
        self.do("POST", f"/storage/volumes/{volume}/snapshots", {"name": name})
        return self.one(f"/storage/volumes/{volume}/snapshots", name=name)["uuid"]

    def units(self) -> list[Any]:
        """What the host's initiator sees."""
        (target,) = self.array.targets("10.0.1.21")
        return list(self.array.logical_units(IQN, target.name))


@dataclass(frozen=True)
class Served:
    """A cluster behind HTTPS on loopback."""

    bench: Bench
    port: int
    ca_file: Path
    loop: asyncio.AbstractEventLoop

    def within(self, function: Callable[[], T]) -> T:
        """Run a function in the lab's own thread."""

        async def work() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(30)


class ServedBench(Bench):
    def __post_init__(self) -> None:
        self.open()
