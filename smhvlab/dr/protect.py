"""Replication for disaster recovery: peers, relationships for data and SnapInfo volumes, first transfer (TR 8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape

from smhvlab.dr.landing import Ground, landing_of
from smhvlab.dr.peering import cluster_facts, ensure_cluster_peers, ensure_svm_peers, peers_are_available, svm_peered
from smhvlab.dr.replication import End, Mirror, Replication
from smhvlab.dr.roles import Role, read_roles, record
from smhvlab.dr.sites import DrProcedure, check_credentials, free_volume, homes, snapinfo_lun, volume_names
from smhvlab.errors import NotAllowed
from smhvlab.flow import CHOSEN
from smhvlab.site import Site
from smhvlab.steps import step
from smhvlab.storage import VolumeRef


@dataclass(frozen=True)
class Link:
    """A relationship to be: where it begins and where it ends.

    Attributes:
        existed: whether it was there before.
        holds: what the volume holds: ``VMs`` or ``SnapInfo``.
    """

    source: End
    destination: End
    holds: str
    existed: bool

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination} ({self.holds})"


@dataclass(frozen=True)
class ProtectState:
    """What replication touches: both clusters and SVMs, and one link per volume; what the VMs' roles are set to.

    Attributes:
        made: uuids of relationship and destination volume that this run has made, by the destination.
    """

    clusters: tuple[str, str]
    svms: tuple[str, str]
    cluster_peers: bool
    svm_peers: bool
    links: tuple[Link, ...]
    roles: tuple[Role, ...] = ()
    nodes: tuple[str, ...] = ()
    made: dict[str, tuple[str, str]] = field(default_factory=dict, metadata=CHOSEN)

    @property
    def local(self) -> bool:
        """Whether both ends are in one cluster."""
        return self.clusters[0] == self.clusters[1]


@dataclass(frozen=True, repr=False)
class Protected:
    """Relationships that are mirrored now."""

    mirrors: tuple[Mirror, ...]

    @property
    def transferred(self) -> int:
        """Bytes of the last transfers of all of them."""
        return sum(mirror.transferred for mirror in self.mirrors)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return "\n".join(f"{m}: {m.state}, {m.transferred:,} bytes" for m in self.mirrors)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(str(m))}</td><td>{escape(m.state)}</td><td>{m.transferred:,}</td></tr>"
            for m in self.mirrors
        )
        return f"<table><tr><th>relationship</th><th>state</th><th>bytes of the last transfer</th></tr>{rows}</table>"


class ProtectReplication(DrProcedure[ProtectState]):
    """Replicate data and SnapInfo.

    To the other site, or with ``inside`` to other volumes of the same cluster.
    """

    tr = "8"
    _again = False  # whether this goes on with, or takes back, what an earlier try has begun
    _begun: set[str] | None = None  # destinations that this process has begun to make; None: another process did

    def __init__(
        self, site: object, *, volumes: Sequence[str] = (), inside: bool = False, svm: str = "", schedule: str = ""
    ) -> None:
        super().__init__(site, volumes=tuple(volumes), inside=inside, svm=svm, schedule=schedule)
        self.volumes = tuple(volumes)
        self.inside = inside
        self.svm = svm
        self.schedule = schedule

    def survey(self) -> ProtectState:
        """Find the volumes of the datasets' VMs and of SnapInfo, and choose their destinations.

        Raises:
            NotAllowed: no partner, an intercluster LIF or a credential is missing, or there is nothing to replicate.
            NotFound: a volume that was named does not exist, or SnapInfo is on no LUN.
        """
        self._again, self._begun = False, None
        far = self.site if self.inside else self.other
        sources = list(self._sources())
        if not sources:
            raise NotAllowed(
                "There is nothing to replicate: no dataset has a VM on the array's LUNs",
                next_action="Create a dataset, or name volumes.",
                tr="8",
            )
        near_svm = sources[0][0].svm
        facts = cluster_facts(self.site.tools().rest) if not self.inside else None
        far_facts = cluster_facts(far.tools().rest) if not self.inside else None
        near_name = facts.name if facts else self.site.profile.storage.name
        far_name = far_facts.name if far_facts else near_name
        far_svm = self.svm or landing_of(far).svm
        missing = check_credentials(self.site, {end.svm for end, _ in sources}) + (
            [] if self.inside else check_credentials(far, [far_svm])
        )
        if missing:
            raise NotAllowed(
                "Credentials are missing that an update of SnapMirror needs",
                why="; ".join(missing),
                next_action="Add the cluster's (C-server) and each Vserver's login of both sites to the profiles.",
                tr="8",
            )
        return ProtectState(
            clusters=(near_name, far_name),
            svms=(near_svm, far_svm),
            cluster_peers=far_facts is None or peers_are_available(self.site.tools().rest, far_facts),
            svm_peers=(near_svm == far_svm and self.inside) or svm_peered(self.site.tools().rest, near_svm, far_svm),
            links=tuple(self._links(far, far_name, far_svm, near_name, sources)),
            roles=self._roles(),
            nodes=tuple(self.nodes),
        )

    def _roles(self) -> tuple[Role, ...]:
        if self.nodes.cluster is None:
            return ()
        members = {member.id for dataset in self.snapinfo.datasets() for member in dataset.members}
        return read_roles(self.site, sorted(members & Ground(self.site).roles()))

    def _sources(self) -> Iterator[tuple[End, str]]:
        """Volumes to be replicated, and what they hold."""
        cluster = self.site.profile.storage.name
        info, _ = snapinfo_lun(self.site)
        if self.volumes:
            there = volume_names(self.site, info.svm)
            for name in self.volumes:
                if name not in there:
                    raise NotAllowed(
                        f"There is no volume {name} in SVM {info.svm}",
                        next_action="Look at site.volumes().",
                        tr="8",
                    )
                yield End(cluster, info.svm, name), "SnapInfo" if name == info.volume.name else "VMs"
            return
        members = {member.id for dataset in self.snapinfo.datasets() for member in dataset.members}
        machines = [vm for vm in self.nodes.vms() if vm.id in members]
        found = homes(self.site, machines)
        if not found:
            return
        for volume in sorted({lun.volume for lun, _ in found.values()}, key=lambda v: v.name):
            yield End(cluster, volume.svm, volume.name), "VMs"
        yield End(cluster, info.svm, info.volume.name), "SnapInfo"

    def _links(
        self, far: Site, far_name: str, far_svm: str, near_name: str, sources: Sequence[tuple[End, str]]
    ) -> Iterator[Link]:
        taken: dict[str, object] = dict(volume_names(far, far_svm))
        known = {str(m.source): m for m in (self.replication if self.inside else self.other_replication).mirrors()}
        for end, holds in sources:
            source = End(near_name, end.svm, end.volume)
            present = known.get(str(source))
            if present is not None:
                yield Link(source, End(far_name, far_svm, present.destination.volume), holds, True)
                continue
            name = free_volume(taken, end.volume)
            taken[name] = end
            yield Link(source, End(far_name, far_svm, name), holds, False)

    @step(
        "Peer the clusters",
        tr="8",
        items=lambda s: s.clusters,
        when=lambda s: not s.cluster_peers,
        otherwise="they are peered, or there is only one",
    )
    def peer_clusters(self, s: ProtectState) -> None:
        ensure_cluster_peers(self.site.tools().rest, self.other.tools().rest)

    @step(
        "Peer the Vservers",
        tr="8",
        items=lambda s: s.svms,
        when=lambda s: not s.svm_peers,
        otherwise="they are peered, or it is one",
    )
    def peer_svms(self, s: ProtectState) -> None:
        far = self.site if s.local else self.other
        ensure_svm_peers(self.site.tools().rest, s.svms[0], far.tools().rest, s.svms[1], cluster=s.clusters[1])

    @step(
        "Create the relationships",
        tr="8",
        items=lambda s: s.links,
        counts=lambda s: {"ontap.volume.create": sum(not link.existed for link in s.links)},
    )
    def create(self, s: ProtectState) -> ProtectState:
        there = self.replication if s.local else self.other_replication
        new = [link for link in s.links if not link.existed]
        if new and not self._again:
            taken = self._volumes(s)
            self._begun = set()
            for link in new:
                if link.destination.volume in taken:
                    raise NotAllowed(
                        f"There is a volume {link.destination} by now",
                        why="the name was free when this run was planned: somebody else has made it since",
                        next_action="Plan again: another name is chosen, or its relationship is found.",
                        tr="8",
                    )
        made = {}
        for link in self.track(s.links):
            if self._begun is not None and not link.existed:
                self._begun.add(str(link.destination))
            mirror = there.ensure_mirror(link.source, link.destination, schedule=self.schedule)
            if not link.existed:
                made[str(link.destination)] = mirror.uuid
        volumes = self._volumes(s) if made else {}
        return replace(
            s,
            made={
                str(link.destination): (made[str(link.destination)], volumes[link.destination.volume].uuid)
                for link in new
                if link.destination.volume in volumes
            },
        )

    def _volumes(self, s: ProtectState) -> dict[str, VolumeRef]:
        return volume_names(self.site if s.local else self.other, s.svms[1])

    @create.undo
    def discard(self, s: ProtectState) -> None:
        there = self.replication if s.local else self.other_replication
        for link in s.links:
            if not link.existed and (self._begun is None or str(link.destination) in self._begun):
                self._discard(there, link, s.made.get(str(link.destination)))

    def _discard(self, there: Replication, link: Link, made: tuple[str, str] | None) -> None:
        """No relationship and volume that this run has made; what has come in their place since stays.

        What a dead process has begun is known by its ends, and holds nothing that was transferred.
        """
        end = link.destination
        found = there.into(end.volume, svm=end.svm)
        if found is not None and made is not None and found.uuid != made[0]:
            return
        there.discard_mirror(link.source, end)
        volume = there.storage.volume(end.volume, svm=end.svm)
        if volume is None or there.storage.volume_details(volume, "type")["type"] != "dp":
            return
        ours = volume.uuid == made[1] if made is not None else not there.storage.snapshots(volume)
        if ours and there.into(end.volume, svm=end.svm) is None:
            there.storage.discard_volume(end.volume, svm=end.svm)

    def settle(self, *, lost: bool) -> None:
        """As for every procedure; what is there by then may be what an earlier try has begun."""
        super().settle(lost=lost)
        self._again = True

    @step(
        "Record in SnapInfo what the VMs' roles are set to",
        tr="8/FO7",
        items=lambda s: tuple(f"{role.name}: {role.told(s.nodes)}" for role in s.roles),
        when=lambda s: bool(s.roles),
        otherwise="no VM is a role of a failover cluster",
    )
    def record_roles(self, s: ProtectState) -> None:
        record(self.site, s.roles, self.snapinfo, cluster=self.nodes.cluster or "")

    @step(
        "Initialise the relationships",
        tr="8",
        items=lambda s: tuple(link.destination for link in s.links),
        counts=lambda s: {"ontap.snapmirror.start": len(s.links)},
    )
    def initialise(self, s: ProtectState) -> None:
        there = self.replication if s.local else self.other_replication
        there.mirror_all([there.ensure_mirror(link.source, link.destination) for link in s.links])

    def result(self, state: ProtectState) -> Protected:
        """The relationships as they are now."""
        there = self.replication if state.local else self.other_replication
        wanted = {str(link.destination) for link in state.links}
        return Protected(tuple(m for m in there.mirrors() if str(m.destination) in wanted))
