"""The array's tables and what everything in it shares: clock, ids, blocks, costs, locks."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from labenv.clock import SECOND, Clock
from labenv.ids import Ids
from labenv.interconnect import Interconnect
from labenv.ontap import records as r
from labenv.ontap.errors import ApiError
from labenv.ontap.pool import Pool, PoolVolume
from labenv.ontap.snapmirror_records import Replication
from labenv.ontap.spec import ClusterSpec
from labenv.ontap.traffic import Traffic
from labenv.state import State, Table

R = TypeVar("R")

SERIAL_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789"
"""Characters of LUN serial numbers: none that needs escaping or looks like another."""


@dataclass(frozen=True)
class Login:
    """An iSCSI session as its initiator tells of it: iqn, target, portal address, own address, session identifier."""

    initiator: str
    target: str
    portal: str
    address: str
    identifier: str


class CostBook(Protocol):
    """Lab seconds by operation name."""

    def __getitem__(self, operation: str) -> float: ...


class Core:
    """Records of one storage cluster. Table names carry the cluster's name, so several clusters share a state."""

    def __init__(
        self,
        *,
        spec: ClusterSpec,
        clock: Clock,
        state: State,
        ids: Ids,
        blocks: Pool,
        costs: CostBook,
        interconnect: Interconnect | None = None,
    ) -> None:
        self.spec = spec
        self.clock = clock
        self.state = state
        self.ids = ids
        self.blocks = blocks
        self.costs = costs
        self.topology = 0  # grows with every change that can move a LUN's blocks; device caches compare it
        self.before_snapshot: Callable[[str], None] | None = None
        self.logins: Callable[[], Iterable[Login]] | None = None  # the hosts' iSCSI sessions
        self.traffic: defaultdict[str, Traffic] = defaultdict(Traffic)  # of each LUN; starts anew with the array
        self.trusts: Callable[[str], None] = lambda pem: None  # told of each authority of client certificates
        self.nodes = self._table("node", r.Node)
        self.aggregates = self._table("aggregate", r.Aggregate)
        self.svms = self._table("svm", r.Svm)
        self.users = self._table("user", r.User)
        self.authorities = self._table("authority", r.Authority)
        self.lifs = self._table("lif", r.Lif)
        self.volumes = self._table("volume", r.Volume)
        self.luns = self._table("lun", r.Lun)
        self.snapshots = self._table("snapshot", r.Snapshot)
        self.igroups = self._table("igroup", r.Igroup)
        self.maps = self._table("lun_map", r.LunMap)
        self.groups = self._table("group", r.ConsistencyGroup)
        self.group_snapshots = self._table("group_snapshot", r.GroupSnapshot)
        self.schedules = self._table("schedule", r.Schedule)
        self.policies = self._table("policy", r.SnapshotPolicy)
        self.licences = self._table("licence", r.Licence)
        self.events = self._table("event", r.Event)
        self.audit = self._table("audit", r.AuditEntry)
        self.portsets = self._table("portset", r.Portset)
        self.jobs = self._table("job", r.Job)
        self.windows = self._table("window", r.Window)
        self.identity = self._table("cluster", str)
        self.counters = self._table("counter", int)
        self.volumes_by_name = self.volumes.index(lambda v: (v.svm, v.name))
        self.volumes_by_plain_name = self.volumes.index(lambda v: v.name)
        self.volumes_by_origin = self.volumes.index(lambda v: None if v.clone is None else v.clone.volume)
        self.clones_by_snapshot = self.volumes.index(lambda v: None if v.clone is None else v.clone.snapshot)
        self.volumes_by_policy = self.volumes.index(lambda v: v.snapshot_policy)
        self.fences = self.group_snapshots.index(lambda s: s.fenced_until is not None)
        self.luns_by_volume = self.luns.index(lambda lun: lun.volume)
        self.luns_by_path = self.luns.index(lambda lun: (lun.volume, lun.path))
        self.snapshots_by_volume = self.snapshots.index(lambda s: s.volume)
        self.maps_by_lun = self.maps.index(lambda m: m.lun)
        self.maps_by_igroup = self.maps.index(lambda m: m.igroup)
        self.unfinished_jobs = self.jobs.index(lambda job: job.end_time is None)
        self.replication = Replication(state, spec.name)
        self.interconnect = Interconnect(state) if interconnect is None else interconnect
        self.interconnect.attach(self)

    def _table(self, kind: str, record_type: type[R]) -> Table[R]:
        return self.state.table(f"ontap.{self.spec.name}.{kind}", record_type)

    @property
    def now(self) -> int:
        """Lab time in microseconds."""
        return self.clock.now

    def count(self, kind: str) -> int:
        """The next whole number of a kind, from 1."""
        number = self.counters[kind] = self.counters.get(kind, 0) + 1
        return number

    def new_uuid(self, kind: str, *names: str) -> str:
        """The next uuid of a kind below some names."""
        return str(self.ids.uuid(f"ontap.{kind}", self.spec.name, *names))

    def new_serial(self, svm: str, name: str) -> str:
        """A LUN's 12 characters."""
        return self.ids.text("ontap.serial", self.spec.name, svm, name, length=12, alphabet=SERIAL_ALPHABET)

    # lookups ---------------------------------------------------------------------------------------------------------

    def svm(self, *, name: str | None = None, uuid: str | None = None) -> r.Svm:
        """The SVM of a request; raises 2621707, 2621462 or 2621706."""
        if not name and not uuid:
            raise ApiError("2621707", target="svm")
        found = self.svms.get(uuid) if uuid else self._named(self.svms.values(), name)
        if found is None:
            raise ApiError("2621462", svm=name or uuid, target="svm.name" if name else "svm.uuid", status=400)
        if name and found.name != name:
            raise ApiError("2621706", uuid=uuid, name=name, target="svm")
        return found

    @staticmethod
    def _named(records: Iterable[r.Svm], name: str | None) -> r.Svm | None:
        return next((record for record in records if record.name == name), None)

    def find_volume(self, svm: str, name: str) -> r.Volume | None:
        """The volume of a name in an SVM (by uuid)."""
        return self.volumes_by_name.first((svm, name))

    def find_lun(self, volume: str, path: str) -> r.Lun | None:
        """The LUN at a path in a volume (by uuid)."""
        return self.luns_by_path.first((volume, path))

    def luns_of(self, volume: str) -> list[r.Lun]:
        """The active LUNs of a volume."""
        return self.luns_by_volume[volume]

    def lun_name(self, lun: r.Lun) -> str:
        """``/vol/volume/lun``."""
        return f"/vol/{self.volumes[lun.volume].name}{lun.path}"

    def snapshots_of(self, volume: str) -> list[r.Snapshot]:
        """The Snapshot copies of a volume, oldest first."""
        return self.snapshots_by_volume[volume]

    def find_snapshot(self, volume: str, name: str) -> r.Snapshot | None:
        """The Snapshot copy of a name."""
        return next((s for s in self.snapshots_of(volume) if s.name == name), None)

    def maps_of(self, lun: str) -> list[r.LunMap]:
        """The maps of a LUN."""
        return self.maps_by_lun[lun]

    def find_igroup(self, svm: str, name: str) -> r.Igroup | None:
        """The initiator group of a name in an SVM (by uuid)."""
        return next((g for g in self.igroups.values() if g.svm == svm and g.name == name), None)

    def clones_of(self, volume: str) -> list[r.Volume]:
        """FlexClone volumes that share blocks with a volume."""
        return self.volumes_by_origin[volume]

    def pool(self, volume: str) -> PoolVolume:
        """The blocks of a volume."""
        return self.blocks.volume(volume)

    def node_of(self, volume: r.Volume) -> r.Node:
        """The node that serves a volume's aggregate now."""
        return self.serving_node(self.aggregates[volume.aggregate])

    def serving_node(self, aggregate: r.Aggregate) -> r.Node:
        """The node that serves an aggregate: its home, or the home's partner after a takeover."""
        home = self.node(aggregate.node)
        partner = self.partner(home)
        return partner if home.state != "up" and partner is not None and partner.state == "up" else home

    def partner(self, node: r.Node) -> r.Node | None:
        """The other node of an HA pair: nodes pair up in the order of the cluster."""
        nodes = list(self.nodes.values())
        index = nodes.index(node) ^ 1
        return nodes[index] if index < len(nodes) else None

    def node(self, name: str) -> r.Node:
        """A node by name; KeyError if there is none."""
        for node in self.nodes.values():
            if node.name == name:
                return node
        raise KeyError(name)

    # locks -----------------------------------------------------------------------------------------------------------

    def locks(self, *, but: str = "") -> Iterator[str]:
        """Everything that running operations hold, except what one job holds."""
        for job in self.unfinished_jobs[True]:
            if job.uuid != but:
                yield from job.locks
        for window in self.windows.values():
            if window.until > self.now:
                yield window.lock
        for record in self.fences[True]:
            for volume in record.fenced_volumes:
                yield f"snapshots:{volume}"
                yield f"volume:{volume}"

    def locked(self, lock: str, *, but: str = "") -> bool:
        """Whether a running operation holds a lock."""
        return any(held == lock for held in self.locks(but=but))

    def hold(self, lock: str, seconds: float) -> None:
        """Hold a lock in the background for lab seconds from now."""
        for key in [key for key, window in self.windows.items() if window.until <= self.now]:
            del self.windows[key]
        if seconds > 0:
            self.windows[lock] = r.Window(lock, self.now + round(seconds * SECOND))

    def settle(self, volume: r.Volume) -> None:
        """Let everything that hosts do to a volume's LUNs happen up to this moment."""
        if self.before_snapshot is not None and self.luns_by_volume.count(volume.uuid):
            self.before_snapshot(volume.uuid)

    # owners of Snapshot copies ---------------------------------------------------------------------------------------

    def snapshot_owners(self, snapshot: r.Snapshot) -> list[str]:
        """Who keeps a Snapshot copy from being deleted."""
        owners = list(snapshot.owners)
        if self.clones_by_snapshot.count(snapshot.uuid):
            owners.append("volume_clone")
        if self.locked(f"lun-clone:{snapshot.uuid}"):
            owners.append("lun_clone")
        if self.replication.holds(snapshot):
            owners.append("snapmirror")
        return owners

    def snapshot_busy(self, snapshot: r.Snapshot) -> bool:
        """Whether owners or an expiry time keep a Snapshot copy."""
        if snapshot.expiry_time is not None and snapshot.expiry_time > self.now:
            return True
        return any(not owner.endswith("dependent") for owner in self.snapshot_owners(snapshot))

    def change_lun(self, lun: r.Lun, **values: object) -> r.Lun:
        """Store a changed LUN."""
        changed = dataclasses.replace(lun, **values)  # type: ignore[arg-type]
        self.luns[lun.uuid] = changed
        self.topology += 1
        return changed

    def change_volume(self, volume: r.Volume, **values: object) -> r.Volume:
        """Store a changed volume."""
        changed = dataclasses.replace(volume, **values)  # type: ignore[arg-type]
        self.volumes[volume.uuid] = changed
        self.topology += 1
        return changed
