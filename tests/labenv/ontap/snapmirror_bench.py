"""Two storage clusters for the tests of peering and SnapMirror."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labenv.clock import Clock
from labenv.faults import Faults
from labenv.ids import Ids
from labenv.interconnect import Interconnect
from labenv.ontap.array import Array
from labenv.ontap.blocks.store import BlockStore
from labenv.ontap.spec import AggregateSpec, ClusterSpec, LifSpec, SvmSpec
from labenv.state import State

from .ontap_bench import GIB, MIB, START, Bench

RELATIONSHIPS = "/snapmirror/relationships"
PASSPHRASE = "a-long-passphrase"


def site(number: int) -> ClusterSpec:
    """Cluster number 1 or 2 with an SVM of its own and an intercluster interface on each node."""
    name = f"cluster{number}"
    nodes = (f"{name}-01", f"{name}-02")
    net = f"10.{number}"
    return ClusterSpec(
        name=name,
        nodes=nodes,
        aggregates=(AggregateSpec("aggr1", nodes[0], 4 * GIB), AggregateSpec("aggr2", nodes[1], 4 * GIB)),
        svms=(
            SvmSpec(
                f"svm{number}",
                lifs=(LifSpec("iscsi_1", f"{net}.1.21", nodes[0]), LifSpec("iscsi_2", f"{net}.1.22", nodes[1])),
                password="vs-secret",
            ),
        ),
        admin_password="admin-secret",
        snapshot_limit=20,
        lifs=tuple(LifSpec(f"ic_{i}", f"{net}.2.{i}", node, "intercluster") for i, node in enumerate(nodes, 1)),
    )


@dataclass
class PairBench(Bench):
    """Two clusters in one lab process; ``call`` and its kin talk to ``here``, by default the destination's."""

    def open(self) -> None:
        self.state = State(self.folder / "state.db")
        self.clock = Clock(START)
        self.times = self.state.table("bench.time", int)
        if "now" in self.times:
            self.clock.set(self.times["now"])
        self.state.before_commit(self._keep_time)
        self.ids = Ids(1, self.state)
        self.blocks = BlockStore(self.folder / "blocks", self.state, capacity=16 * GIB, log_records=4096)
        self.faults = Faults(self.clock)
        self.interconnect = Interconnect(self.state)
        self.arrays = [
            Array(
                spec=site(number),
                clock=self.clock,
                state=self.state,
                ids=self.ids,
                blocks=self.blocks,
                costs=self.prices,
                faults=self.faults,
                interconnect=self.interconnect,
            )
            for number in (1, 2)
        ]
        self.at(2)

    def discard(self) -> None:
        """Close, check the blocks and give the disk space back."""
        self.close()
        shutil.rmtree(self.folder / "blocks")

    def _keep_time(self) -> None:
        if self.times.get("now") != self.clock.now:
            self.times["now"] = self.clock.now

    def at(self, number: int) -> PairBench:
        """Talk to cluster 1 or 2 from now on."""
        self.array = self.arrays[number - 1]
        return self

    # peering ----------------------------------------------------------------------------------------------------------

    def peer_clusters(self) -> None:
        """Cluster 1 offers, cluster 2 accepts."""
        offer = {"authentication": {"passphrase": PASSPHRASE}, "remote": {"ip_addresses": ["10.2.2.1", "10.2.2.2"]}}
        self.at(1).do("POST", "/cluster/peers", offer)
        accept = {**offer, "remote": {"ip_addresses": ["10.1.2.1", "10.1.2.2"]}}
        self.at(2).do("POST", "/cluster/peers", accept)

    def peer_svms(self) -> None:
        """svm1 asks, svm2 accepts."""
        body = {"svm": {"name": "svm1"}, "peer": {"svm": {"name": "svm2"}, "cluster": {"name": "cluster2"}}}
        self.at(1).do("POST", "/svm/peers", {**body, "applications": ["snapmirror"]})
        uuid = self.at(2).one("/svm/peers")["uuid"]
        self.do("PATCH", f"/svm/peers/{uuid}", {"state": "peered"})

    def peer(self) -> None:
        """Clusters and SVMs."""
        self.peer_clusters()
        self.peer_svms()

    # volumes ----------------------------------------------------------------------------------------------------------

    def make(self, number: int, name: str, *, size: int = 256 * MIB, **more: Any) -> str:
        """A thin volume on a cluster's own SVM; its uuid."""
        self.at(number)
        body = {
            "name": name,
            "svm": {"name": f"svm{number}"},
            "aggregates": [{"name": "aggr1"}],
            "size": size,
            "guarantee": {"type": "none"},
            "snapshot_policy": {"name": "none"},
            **more,
        }
        self.do("POST", "/storage/volumes", body)
        return str(self.one("/storage/volumes", name=name)["uuid"])

    def disk(self, number: int, name: str, size: int = 32 * MIB) -> str:
        """A thin LUN; its uuid."""
        body = {"name": name, "svm.name": f"svm{number}", "os_type": "hyper_v", "space.size": size}
        self.at(number).do("POST", "/storage/luns", {"space.guarantee.requested": False, **body})
        return str(self.one("/storage/luns", name=name)["uuid"])

    def key(self, number: int, name: str) -> str:
        """Key of a volume's blocks."""
        found = self.arrays[number - 1].volume_key(name)
        assert found is not None
        return found

    def scribble(self, number: int, volume: str, seed: int, *, blocks: int = 64, path: str = "/lun1") -> bytes:
        """Write random blocks, each to another place, into a LUN; gives what the whole LUN holds then."""
        draw = random.Random(seed)
        file = self.blocks.volume(self.key(number, volume)).files[path]
        places = draw.sample(range(file.size // 4096), blocks)
        for place in places:
            file.write(place * 4096, draw.randbytes(4096))
        self.state.commit()
        return self.content(number, volume, path=path)

    def content(self, number: int, volume: str, *, path: str = "/lun1", snapshot: str | None = None) -> bytes:
        """What a LUN holds, now or in a Snapshot copy."""
        blocks = self.blocks.volume(self.key(number, volume))
        file = blocks.files[path] if snapshot is None else blocks.snapshots[snapshot].files[path]
        return file.read(0, file.size)

    def copies(self, number: int, volume: str) -> list[str]:
        """Names of a volume's Snapshot copies, oldest first."""
        path = f"/storage/volumes/{self.key(number, volume)}/snapshots"
        return [s["name"] for s in self.at(number).do("GET", path)["records"]]

    def snap(self, number: int, volume: str, name: str, **more: Any) -> None:
        """Make a Snapshot copy."""
        self.at(number).do("POST", f"/storage/volumes/{self.key(number, volume)}/snapshots", {"name": name, **more})

    # relationships ----------------------------------------------------------------------------------------------------

    def protect(self, policy: str = "MirrorAllSnapshots", *, blocks: int = 64) -> str:
        """svm1:vol1 with a LUN, svm2:vol1_dr for it, and the relationship between them; its uuid."""
        self.peer()
        self.make(1, "vol1")
        self.disk(1, "/vol/vol1/lun1")
        self.scribble(1, "vol1", 1, blocks=blocks)
        self.make(2, "vol1_dr", type="dp")
        return self.relate(policy)

    def relate(self, policy: str = "MirrorAllSnapshots") -> str:
        """The relationship from svm1:vol1 to svm2:vol1_dr; its uuid."""
        body = {"source": {"path": "svm1:vol1"}, "destination": {"path": "svm2:vol1_dr"}, "policy": {"name": policy}}
        self.at(2).do("POST", RELATIONSHIPS, body)
        return str(self.one(RELATIONSHIPS)["uuid"])

    def state_of(self, uuid: str) -> dict[str, Any]:
        """A relationship with all fields."""
        return dict(self.do("GET", f"{RELATIONSHIPS}/{uuid}", fields="**"))

    def patch(self, uuid: str, state: str, **body: Any) -> tuple[int, Any]:
        """Ask for a state; status and answer once the job has ended."""
        return self.call("PATCH", f"{RELATIONSHIPS}/{uuid}", {"state": state, **body}, return_timeout=120)

    def settle(self, uuid: str) -> dict[str, Any]:
        """Wait for the transfer that is under way; the relationship then."""
        for _ in range(10_000):
            shown = self.state_of(uuid)
            if shown.get("transfer", {}).get("state") not in ("queued", "transferring"):
                return shown
        raise AssertionError("the transfer does not end")

    def mirrored(self, uuid: str, state: str = "snapmirrored") -> dict[str, Any]:
        """Bring a relationship to snapmirrored and wait."""
        status, answer = self.patch(uuid, state)
        assert status == 200, answer
        return self.settle(uuid)

    def transfer(self, uuid: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Start a transfer and wait; the relationship then."""
        self.do("POST", f"{RELATIONSHIPS}/{uuid}/transfers", body or {})
        return self.settle(uuid)


def kind(pair: PairBench, number: int, volume: str) -> str:
    """Type of a volume: rw or dp."""
    return str(pair.at(number).do("GET", f"/storage/volumes/{pair.key(number, volume)}")["type"])


def lun_of(pair: PairBench, number: int, name: str) -> dict[str, Any]:
    """A LUN's record."""
    return dict(pair.at(number).one("/storage/luns", name=name))


def delete_copy(pair: PairBench, number: int, volume: str, name: str) -> tuple[int, Any]:
    """Delete a Snapshot copy; status and answer."""
    path = f"/storage/volumes/{pair.key(number, volume)}/snapshots"
    uuid = pair.at(number).do("GET", path, name=name)["records"][0]["uuid"]
    return pair.call("DELETE", f"{path}/{uuid}", return_timeout=9)


def clone(pair: PairBench, number: int, parent: str, name: str, **origin: Any) -> str:
    """A FlexClone volume; its uuid."""
    body = {
        "name": name,
        "svm": {"name": f"svm{number}"},
        "clone": {"is_flexclone": True, "parent_volume": {"name": parent}, **origin},
    }
    pair.at(number).do("POST", "/storage/volumes", body)
    return str(pair.one("/storage/volumes", name=name)["uuid"])


# what arrives ---------------------------------------------------------------------------------------------------------
