"""Getting the data back: from the site that runs the VMs to the one that was lost (TR 8, failback steps 1 to 3)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape

from smhvlab.dr.landing import Ground, Spot, landing_of
from smhvlab.dr.peering import cluster_facts, ensure_cluster_peers, ensure_svm_peers
from smhvlab.dr.replication import End, Mirror, common_copy
from smhvlab.dr.roles import Role, ensure_set, read_roles, record
from smhvlab.dr.sites import (
    DrProcedure,
    check_credentials,
    free_volume,
    homes_by_vm,
    life_of,
    snapinfo_lun,
    volume_names,
)
from smhvlab.dr.superseded import refuse_connected, refuse_running
from smhvlab.errors import NotAllowed
from smhvlab.mount.clusterdisk import AVAILABLE_STORAGE, ClusterDisks
from smhvlab.mount.image import Placement
from smhvlab.record import Confirmation
from smhvlab.site import Site
from smhvlab.steps import step
from smhvlab.storage import LunRef, VolumeRef


class Way(StrEnum):
    """How a volume gets its data back: decided by a common Snapshot copy, never by a state's name."""

    RESYNC = "resync"
    INITIALISE = "initialise"


@dataclass(frozen=True)
class Return:
    """One volume on its way back.

    Attributes:
        source: here, where the VMs run.
        destination: on the other site.
        common: the Snapshot copy that both have, "" if the other site has lost its volume.
        old: the relationship in the first direction, None if there was none.
        holds: ``VMs`` or ``SnapInfo``.
    """

    source: End
    destination: End
    way: Way
    common: str
    old: Mirror | None
    holds: str

    def __str__(self) -> str:
        how = f"resync from {self.common}" if self.way is Way.RESYNC else "initialise: everything travels"
        return f"{self.source} -> {self.destination}: {how}"


@dataclass(frozen=True)
class Connection:
    """A LUN that a host of the other site has."""

    lun: LunRef
    igroup: str
    spot: Spot

    def __str__(self) -> str:
        return f"{self.lun} at {self.spot if self.spot.access_path else 'no mount point'}"


@dataclass(frozen=True)
class Leftover:
    """A VM that the other site still has registered from these volumes.

    Attributes:
        here: whether it is registered on this site too: only then its registration there goes.
        role: whether it is one of a failover cluster there, and is not any more afterwards.
    """

    id: str
    name: str
    running: bool
    here: bool
    role: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {'switched off and removed' if self.here else 'switched off'}"


@dataclass(frozen=True)
class ReverseState:
    """What reversing touches on the other site, and each volume's way.

    Attributes:
        roles: what its VMs' roles are set to; ``nodes``: those of its cluster.
        lost: relationships of the first direction whose source was destroyed; SnapInfo's is one though it was merged.
    """

    returns: tuple[Return, ...]
    connections: tuple[Connection, ...]
    leftovers: tuple[Leftover, ...]
    svms: tuple[str, str]
    clusters: tuple[str, str]
    roles: tuple[Role, ...] = ()
    nodes: tuple[str, ...] = ()
    lost: tuple[Mirror, ...] = ()


@dataclass(frozen=True, repr=False)
class Reversed:
    """Relationships from here to the other site, mirrored."""

    returns: tuple[Return, ...]
    mirrors: tuple[Mirror, ...]

    @property
    def transferred(self) -> int:
        """Bytes that travelled."""
        return sum(mirror.transferred for mirror in self.mirrors)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        ways = {str(r.destination): r.way for r in self.returns}
        return "\n".join(f"{m}: {ways[str(m.destination)]}, {m.transferred:,} bytes" for m in self.mirrors)

    def _repr_html_(self) -> str:
        ways = {str(r.destination): r.way for r in self.returns}
        rows = "".join(
            f"<tr><td>{escape(str(m))}</td><td>{ways[str(m.destination)]}</td><td>{m.transferred:,}</td></tr>"
            for m in self.mirrors
        )
        return f"<table><tr><th>relationship</th><th>how</th><th>bytes</th></tr>{rows}</table>"


class ReverseReplication(DrProcedure[ReverseState]):
    """Get the data back to the other site."""

    tr = "8"

    def survey(self) -> ReverseState:
        """Decide for each volume whether a resync is enough, and find what the other site still does with it.

        Raises:
            NotAllowed: the other site does not answer as a whole, nothing was failed over, a credential is missing, or
                a volume there has nothing in common with ours.
        """
        life = life_of(self.other)
        if not (life.array and life.hosts):
            raise NotAllowed(
                f"The site {self.other.name} is not back yet",
                why=life.finding,
                next_action="Wait until its storage and hosts answer, or provide new ones under the same profile.",
                tr="8",
            )
        near, far = cluster_facts(self.site.tools().rest), cluster_facts(self.other.tools().rest)
        returns = tuple(self._returns(near.name, far.name))
        if not any(entry.holds == "VMs" for entry in returns):
            raise NotAllowed(
                "No volume was failed over to this site",
                next_action="Look at site.mirrors(): only mirrors that were broken off and are in use can be reversed.",
                tr="8",
            )
        svms = (returns[0].source.svm, returns[0].destination.svm)
        missing = check_credentials(self.site, [svms[0]]) + check_credentials(self.other, [svms[1]])
        if missing:
            raise NotAllowed(
                "Credentials are missing that an update of SnapMirror needs",
                why="; ".join(missing),
                next_action="Add the cluster's (C-server) and each Vserver's login of both sites to the profiles.",
                tr="8",
            )
        volumes = {(entry.destination.svm, entry.destination.volume) for entry in returns if entry.way is Way.RESYNC}
        leftovers = tuple(self._leftovers(volumes))
        return ReverseState(
            returns=returns,
            connections=tuple(find_connections(self.other, volumes)),
            leftovers=leftovers,
            roles=read_roles(self.other, [vm.id for vm in leftovers if vm.role]),
            nodes=tuple(self.other.tools().nodes),
            lost=tuple(self._lost(far.name)),
            svms=svms,
            clusters=(near.name, far.name),
        )

    def _returns(self, near: str, far: str) -> Iterator[Return]:
        mirrors = [m for m in self.replication.mirrors() if m.broken]
        info, _ = snapinfo_lun(self.site)
        far_svm = mirrors[0].source.svm if mirrors else landing_of(self.other).svm
        theirs, ours = volume_names(self.other, far_svm), volume_names(self.site, info.svm)
        used = {
            lun.volume.name for homes in homes_by_vm(self.site, self.nodes.vms()).values() for lun, _ in homes.values()
        }
        for mirror in mirrors:
            here = ours.get(mirror.destination.volume)
            if here is None or (here.name not in used and here != info.volume):
                continue
            source = End(near, here.svm, here.name)
            destination = End(far, mirror.source.svm, mirror.source.volume)
            holds = "SnapInfo" if here == info.volume else "VMs"
            yield self._return(source, destination, here, theirs.get(mirror.source.volume), mirror, holds)
        if info.volume.name not in {m.destination.volume for m in mirrors}:  # this site's own SnapInfo holds both
            known = {str(m.source): m.destination for m in self.other_replication.mirrors()}
            source = End(near, info.svm, info.volume.name)
            taken = dict[str, object](theirs)
            end = known.get(str(source)) or End(far, far_svm, free_volume(taken, info.volume.name))
            yield Return(source, end, Way.INITIALISE, "", None, "SnapInfo")

    def _lost(self, far: str) -> Iterator[Mirror]:
        known: dict[str, dict[str, VolumeRef]] = {}
        for mirror in (m for m in self.replication.mirrors() if m.source.cluster == far):
            there = known.setdefault(mirror.source.svm, volume_names(self.other, mirror.source.svm))
            if mirror.broken and mirror.source.volume not in there:
                yield mirror

    def _return(
        self, source: End, destination: End, here: VolumeRef, there: VolumeRef | None, old: Mirror, holds: str
    ) -> Return:
        if there is None:
            return Return(source, destination, Way.INITIALISE, "", old, holds)
        present = self.other_replication.into(destination.volume, svm=destination.svm)
        common = common_copy(self.replication.copies(here), self.other_replication.copies(there))
        if common:
            return Return(source, destination, Way.RESYNC, common, old, holds)
        if present is not None and present.source.volume == source.volume:  # an earlier run was interrupted
            return Return(source, destination, Way.INITIALISE, "", old, holds)
        raise NotAllowed(
            f"{destination} and {source} have no Snapshot copy in common",
            why="a resync needs one; an initialisation needs a volume that does not exist yet",
            next_action=f"Rename or delete the volume {destination.volume} on {self.other.name} after you have seen "
            "what it holds, then plan again: it is then initialised.",
            tr="8",
        )

    def _leftovers(self, volumes: set[tuple[str, str]]) -> Iterator[Leftover]:
        tools = self.other.tools()
        here = {vm.id for vm in self.nodes.vms()}
        roles = Ground(self.other).roles()
        machines = tools.nodes.vms()
        places = homes_by_vm(self.other, machines)
        for vm in machines:
            homes = [(lun.svm, lun.volume.name) for lun, _ in places[vm.id].values()]
            if vm.id in here or any(home in volumes for home in homes):
                yield Leftover(vm.id, vm.name, vm.running, vm.id in here, vm.id in roles)

    def confirmations(self, state: ReverseState) -> Sequence[Confirmation]:
        """What the other site has written since, and loses."""
        lost = [r for r in state.returns if r.way is Way.RESYNC]
        found = []
        if lost:
            since = "; ".join(f"{r.destination} after {r.common}" for r in lost)
            text = f"what {self.other.name} has written is lost: {since}"
            found.append(Confirmation(key="lose-primary", text=text, tr="8"))
        if running := [vm.name for vm in state.leftovers if vm.running and vm.here]:
            text = f"{', '.join(running)} run on both sites now: what they wrote on {self.other.name} is lost"
            found.append(Confirmation(key="stop-primary", text=text, tr="8"))
        return found

    @step(
        "Record in SnapInfo what the other site's roles are set to",
        tr="8/FB11",
        items=lambda s: tuple(f"{role.name}: {role.told(s.nodes)}" for role in s.roles),
        when=lambda s: bool(s.roles),
        otherwise="it has no roles of these VMs",
    )
    def record_roles(self, s: ReverseState) -> None:
        record(self.site, s.roles, self.snapinfo, cluster=self.other.tools().nodes.cluster or "")

    @step(
        "Switch off what the other site has of these VMs",
        tr="8",
        items=lambda s: s.leftovers,
        when=lambda s: bool(s.leftovers),
        otherwise="it has none of them",
    )
    def stop(self, s: ReverseState) -> None:
        refuse_running(self.other, [vm.id for vm in s.leftovers if not vm.running])
        for node, vms in self.other.tools().nodes.by_node([vm.id for vm in s.leftovers]):
            node.hyperv.ensure_all_off(vms)
        Ground(self.other).discard_roles([vm.id for vm in s.leftovers])

    @stop.undo
    def start(self, s: ReverseState) -> None:
        Ground(self.other).ensure_roles([vm.id for vm in s.leftovers if vm.role])
        ensure_set(self.other, s.roles)
        for node, vms in self.other.tools().nodes.by_node([vm.id for vm in s.leftovers if vm.running]):
            node.hyperv.ensure_all_running(vms)

    @step(
        "Disconnect the LUNs from the other site's hosts",
        tr="8",
        items=lambda s: s.connections,
        when=lambda s: bool(s.connections),
        otherwise="its hosts have none of them",
    )
    def disconnect(self, s: ReverseState) -> None:
        for connection in self.track(s.connections):
            drop_connection(self.other, connection)

    @disconnect.undo
    def reconnect(self, s: ReverseState) -> None:
        ground = Ground(self.other)
        for connection in s.connections:
            if connection.spot.access_path:
                ground.ensure_connected(connection.lun, connection.spot, igroup=connection.igroup)
            else:
                self.other.tools().storage.ensure_map(connection.lun, connection.igroup)

    @step("Peer the sites", tr="8", items=lambda s: (*s.clusters, *s.svms))
    def peer(self, s: ReverseState) -> None:
        near, far = self.site.tools().rest, self.other.tools().rest
        ensure_cluster_peers(near, far)
        ensure_svm_peers(near, s.svms[0], far, s.svms[1], cluster=s.clusters[1])

    @step(
        "Replicate back to the other site",
        tr="8/FB1-3",
        items=lambda s: s.returns,
        counts=lambda s: {"ontap.snapmirror.start": len(s.returns)},
        pivot=True,
    )
    def replicate(self, s: ReverseState) -> None:
        there = self.other_replication
        refuse_connected(self.other, [entry.destination for entry in s.returns if entry.way is Way.RESYNC])
        if any(entry.way is Way.INITIALISE for entry in s.returns):
            Ground(self.other).rescan()  # hosts that stayed up forget the disks of LUNs that were destroyed
        for entry in s.returns:
            if entry.old is not None:  # its reference copy there is newer than the one in common, and has to let go
                there.release(entry.old.uuid, keep=True)
        there.mirror_all([there.ensure_mirror(r.source, r.destination) for r in self.track(s.returns)])

    @step(
        "Remove the VMs' registration there",
        tr="8",
        items=lambda s: tuple(vm.name for vm in s.leftovers if vm.here),
        when=lambda s: any(vm.here for vm in s.leftovers),
        otherwise="it has none of them",
    )
    def remove(self, s: ReverseState) -> None:
        refuse_running(self.other, [vm.id for vm in s.leftovers])
        # Only now: removing a VM deletes its configuration file, if its disk is there.
        for node, vms in self.other.tools().nodes.by_node([vm.id for vm in s.leftovers if vm.here]):
            node.hyperv.ensure_all_removed(vms)

    @step(
        "Give up relationships whose source was destroyed",
        tr="8/FB2",
        items=lambda s: _dead(s),
        when=lambda s: bool(_dead(s)),
        otherwise="each first direction can be resynchronised later",
    )
    def give_up(self, s: ReverseState) -> None:
        present = {m.uuid for m in self.replication.mirrors()}
        for mirror in _dead(s):
            if mirror.uuid in present:
                self.replication.delete(mirror)

    def result(self, state: ReverseState) -> Reversed:
        """The relationships, and the bytes that travelled."""
        wanted = {str(r.destination) for r in state.returns}
        mirrors = [m for m in self.other_replication.mirrors() if str(m.destination) in wanted]
        return Reversed(state.returns, tuple(mirrors))


def _dead(state: ReverseState) -> tuple[Mirror, ...]:
    anew = (r.old for r in state.returns if r.way is Way.INITIALISE and r.old is not None)
    return tuple(dict.fromkeys((*anew, *state.lost)))


def find_connections(site: Site, volumes: Collection[tuple[str, str]]) -> Iterator[Connection]:
    """LUNs of volumes, given as (SVM, name), that hosts of a site have, and what they are there."""
    tools = site.tools()
    luns = [lun for lun in tools.storage.luns() if (lun.svm, lun.volume.name) in volumes]
    disks = {disk.unique_id: disk for disk in tools.nodes.disks() if disk.access_paths}
    shared = {volume.path.casefold() for volume in tools.nodes.shared_volumes()}
    cluster = None if tools.nodes.cluster is None else ClusterDisks(tools.nodes.own().host)
    for lun in luns:
        disk = disks.get(lun.unique_id)
        path = min(disk.access_paths, key=len) if disk is not None else ""
        spot = Spot(path, "")
        if disk is not None and path.casefold() in shared:
            spot = Spot(path, disk.guid, Placement.SHARED)
        elif disk is not None and cluster is not None and (group := cluster.group_of(disk.guid)):
            spot = Spot(path, disk.guid, Placement.GROUP, "" if group == AVAILABLE_STORAGE else group)
        for igroup in tools.storage.igroups_of(lun.uuid):
            yield Connection(lun, igroup, spot)


def drop_connection(site: Site, connection: Connection) -> None:
    """No host of a site has a LUN; one without a mount point is taken offline and unmapped all the same."""
    Ground(site).discard(connection.lun, connection.spot, igroup=connection.igroup)
