"""netapp-ontap, in its strict modes, drives two clusters over HTTPS through failover and failback."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvicorn
from netapp_ontap import HostConnection, NetAppRestError, config
from netapp_ontap.resources import (
    ClusterPeer,
    Lun,
    SnapmirrorPolicy,
    SnapmirrorRelationship,
    SnapmirrorTransfer,
    Snapshot,
    SvmPeer,
    Volume,
)

from labenv.certs import ensure_certificates

from .ontap_bench import MIB
from .snapmirror_bench import PASSPHRASE, PairBench

pytestmark = pytest.mark.filterwarnings("ignore::marshmallow.warnings.ChangedInMarshmallow4Warning")

T = TypeVar("T")


class ServedPair(PairBench):
    """Two clusters whose event loop is a server's."""

    def __post_init__(self) -> None:
        self.open()


@dataclass
class Sites:
    """Two clusters behind HTTPS, and the connections to them."""

    bench: PairBench
    loop: asyncio.AbstractEventLoop
    connections: list[HostConnection] = field(default_factory=list)

    def at(self, number: int) -> HostConnection:
        """Let netapp-ontap talk to a cluster from now on."""
        config.CONNECTION = self.connections[number - 1]
        return self.connections[number - 1]

    def within(self, function: Callable[[], T]) -> T:
        """Run a function in the lab's own thread."""

        async def work() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(30)

    def content(self, number: int, volume: str) -> bytes:
        """What a LUN holds."""
        return self.within(lambda: self.bench.content(number, volume))

    def scribble(self, number: int, volume: str, seed: int, blocks: int) -> bytes:
        """Change blocks of a LUN."""
        return self.within(lambda: self.bench.scribble(number, volume, seed, blocks=blocks))


def serve(folder: Path, sockets: list[socket.socket], ready: Callable[[Any], None], files: Mapping[str, Path]) -> None:
    """Serve two clusters until the server is told to stop."""

    async def main() -> None:
        bench = ServedPair(folder)
        apps = {s.getsockname()[1]: array.app for s, array in zip(sockets, bench.arrays, strict=True)}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await apps[scope["server"][1]](scope, receive, send)

        server = uvicorn.Server(
            uvicorn.Config(
                app,
                ssl_certfile=str(files["chain"]),
                ssl_keyfile=str(files["key"]),
                lifespan="off",
                ws="none",
                http="h11",
                log_level="critical",
                timeout_graceful_shutdown=2,
            )
        )
        ready((bench, server, asyncio.get_running_loop()))
        await server.serve(sockets=sockets)
        await asyncio.sleep(0.05)  # closed connections leave the loop
        await bench.clock.cancel_tasks()
        assert bench.blocks.check() == []
        bench.state.close()
        bench.blocks.close()
        shutil.rmtree(bench.folder / "blocks")

    asyncio.run(main())


@pytest.fixture
def sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sites]:
    """Two clusters behind HTTPS, in a thread of their own."""
    ca_file, chain, key = ensure_certificates(tmp_path / "tls", ["127.0.0.1"])
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    found: list[Any] = []
    event = threading.Event()

    def ready(parts: Any) -> None:
        found.extend(parts)
        event.set()

    thread = threading.Thread(target=serve, args=(tmp_path, sockets, ready, {"chain": chain, "key": key}))
    thread.start()
    assert event.wait(30)
    bench, server, loop = found
    sites = Sites(bench, loop)
    for name in ("STRICT_FIELD_ACCEPTANCE", "STRICT_ACCESS_MODIFIERS"):
        monkeypatch.setattr(config, name, True)
    monkeypatch.setattr(config, "CONNECTION", None)
    for listener in sockets:
        connection = HostConnection(
            "127.0.0.1",
            username="admin",
            password="admin-secret",
            port=listener.getsockname()[1],
            verify=str(ca_file),
            poll_interval=1,
            poll_timeout=60,
        )
        connection.session.trust_env = False
        sites.connections.append(connection)
    yield sites
    for connection in sites.connections:
        connection.session.close()
    server.should_exit = True
    thread.join(30)
    for listener in sockets:
        listener.close()
    assert not thread.is_alive()


def make(name: str, number: int, kind: str = "rw") -> Volume:
    """A thin volume of a cluster's SVM."""
    volume = Volume.from_dict(
        {
            "name": name,
            "svm": {"name": f"svm{number}"},
            "aggregates": [{"name": "aggr1"}],
            "size": 256 * MIB,
            "type": kind,
            "guarantee": {"type": "none"},
        }
    )
    volume.post(hydrate=True)
    return volume


def peer(sites: Sites) -> None:
    """Clusters and SVMs, as an administrator of each site does it."""
    for number, other in ((1, 2), (2, 1)):
        sites.at(number)
        offer = ClusterPeer.from_dict(
            {
                "authentication": {"passphrase": PASSPHRASE},
                "remote": {"ip_addresses": [f"10.{other}.2.1", f"10.{other}.2.2"]},
            }
        )
        offer.post(hydrate=True)
    assert ClusterPeer.find(name="cluster1", fields="*").status.state == "available"
    sites.at(1)
    ask = SvmPeer.from_dict(
        {
            "svm": {"name": "svm1"},
            "peer": {"svm": {"name": "svm2"}, "cluster": {"name": "cluster2"}},
            "applications": ["snapmirror"],
        }
    )
    ask.post(hydrate=True)
    assert ask.state == "initiated"
    sites.at(2)
    accept = SvmPeer.find(name="svm1")
    accept.state = "peered"
    accept.patch()


def settle(relationship: SnapmirrorRelationship) -> SnapmirrorRelationship:
    """Poll until no transfer is under way."""
    while True:
        relationship.get()
        if relationship.transfer.state not in ("queued", "transferring"):
            return relationship


def ask(relationship: SnapmirrorRelationship, state: str, **more: Any) -> None:
    """PATCH a state."""
    wish = SnapmirrorRelationship(uuid=relationship.uuid)
    wish.state = state
    for name, value in more.items():
        setattr(wish, name, value)
    wish.patch()


def protect(sites: Sites, policy: str = "MirrorAllSnapshots") -> SnapmirrorRelationship:
    """A volume with a LUN at the first site, mirrored to the second."""
    peer(sites)
    sites.at(1)
    make("vol1", 1)
    lun = {"name": "/vol/vol1/lun1", "svm": {"name": "svm1"}, "os_type": "hyper_v", "space": {"size": 32 * MIB}}
    Lun.from_dict(lun).post()
    sites.scribble(1, "vol1", 1, 64)
    sites.at(2)
    make("vol1_dr", 2, "dp")
    relationship = SnapmirrorRelationship.from_dict(
        {
            "source": {"path": "svm1:vol1"},
            "destination": {"path": "svm2:vol1_dr"},
            "policy": {"name": policy},
        }
    )
    relationship.post(hydrate=True)
    assert relationship.state == "uninitialized"
    ask(relationship, "snapmirrored")
    return settle(relationship)


def test_a_mirror_from_its_creation_to_its_release(sites: Sites) -> None:
    """Create, initialise, update, quiesce, resume, break, resync, delete and release; bytes at each station."""
    relationship = protect(sites)
    assert (relationship.state, relationship.healthy) == ("snapmirrored", True)
    assert relationship.transfer.bytes_transferred == 64 * 4096
    changed = sites.scribble(1, "vol1", 2, 5)
    transfer = SnapmirrorTransfer(relationship.uuid)
    transfer.post(hydrate=True)
    assert settle(relationship).transfer.bytes_transferred == 5 * 4096
    assert sites.content(2, "vol1_dr") == changed
    assert relationship.lag_time.startswith("PT")
    ask(relationship, "paused")
    with pytest.raises(NetAppRestError, match="not updated"):
        SnapmirrorTransfer(relationship.uuid).post()
    ask(relationship, "snapmirrored")
    ask(relationship, "broken_off")
    sites.scribble(2, "vol1_dr", 3, 20)
    ask(relationship, "snapmirrored")
    assert settle(relationship).last_transfer_type == "resync"
    assert sites.content(2, "vol1_dr") == changed
    listed = [t.state for t in SnapmirrorTransfer.get_collection(relationship.uuid, fields="**")]
    assert listed == ["success"] * 3
    SnapmirrorRelationship(uuid=relationship.uuid).delete(destination_only=True)
    sites.at(1)
    (left,) = SnapmirrorRelationship.get_collection(list_destinations_only=True)
    SnapmirrorRelationship(uuid=left.uuid).delete(source_only=True)
    volume = Volume.find(name="vol1")
    assert list(Snapshot.get_collection(volume.uuid)) == []


def test_failover_and_failback(sites: Sites) -> None:
    """TR 8 over the wire: the first site is gone, break, work, then back by exchanged paths, and forward again."""
    relationship = protect(sites)
    sites.within(lambda: sites.bench.interconnect.set_down("cluster1"))
    ask(relationship, "broken_off")
    worked = sites.scribble(2, "vol1_dr", 3, 20)
    sites.within(lambda: sites.bench.interconnect.set_down("cluster1", False))
    turned = SnapmirrorRelationship(uuid=relationship.uuid)
    turned.source = {"path": "svm2:vol1_dr"}
    turned.destination = {"path": "svm1:vol1"}
    turned.state = "snapmirrored"
    config.STRICT_ACCESS_MODIFIERS = False
    turned.patch()
    sites.at(1)
    back = settle(SnapmirrorRelationship.find(**{"source.path": "svm2:vol1_dr"}))
    assert (back.state, back.transfer.bytes_transferred) == ("snapmirrored", 20 * 4096)
    assert sites.content(1, "vol1") == worked
    ask(back, "paused")
    ask(back, "broken_off")
    home = sites.scribble(1, "vol1", 4, 7)
    sites.at(2)
    forward = SnapmirrorRelationship.from_dict(
        {"source": {"path": "svm1:vol1"}, "destination": {"path": "svm2:vol1_dr"}}
    )
    forward.post(hydrate=True)
    assert forward.state == "broken_off"
    ask(forward, "snapmirrored")
    settle(forward)
    assert sites.content(2, "vol1_dr") == home
    sites.at(1)
    SnapmirrorRelationship(uuid=back.uuid).delete()


def test_restore_over_the_wire(sites: Sites) -> None:
    """A copy of the mirror brings the source volume back; the restore relationship is gone afterwards."""
    relationship = protect(sites)
    sites.at(1)
    volume = Volume.find(name="vol1")
    Snapshot(volume.uuid, name="good").post()
    good = sites.content(1, "vol1")
    sites.at(2)
    SnapmirrorTransfer(relationship.uuid).post()
    settle(relationship)
    sites.scribble(1, "vol1", 5, 30)
    sites.at(1)
    restore = SnapmirrorRelationship.from_dict(
        {"source": {"path": "svm2:vol1_dr"}, "destination": {"path": "svm1:vol1"}, "restore": True}
    )
    restore.post(hydrate=True)
    transfer = SnapmirrorTransfer(restore.uuid)
    transfer.source_snapshot = "good"
    transfer.post()
    while list(SnapmirrorRelationship.get_collection()):
        pass
    assert sites.content(1, "vol1") == good


def test_every_field_is_in_the_documented_model(sites: Sites) -> None:
    """All records with all fields pass the client's models."""
    relationship = protect(sites)
    found = {
        "transfers": len(list(SnapmirrorTransfer.get_collection(relationship.uuid, fields="**"))),
        "relationships": len(list(SnapmirrorRelationship.get_collection(fields="**"))),
        "policies": len(list(SnapmirrorPolicy.get_collection(fields="**"))),
        "cluster peers": len(list(ClusterPeer.get_collection(fields="**"))),
        "svm peers": len(list(SvmPeer.get_collection(fields="**"))),
    }
    assert found == {"transfers": 1, "relationships": 1, "policies": 5, "cluster peers": 1, "svm peers": 1}
