"""Shadow copies of cluster shared volumes (Windows Server 2012 and later): one set for the VMs of all nodes.

The requestor's node is the coordinator. There the Hyper-V writer speaks for the local VMs and the CSV writer for those
of the other nodes, whose own Hyper-V writers do the work: in PrepareForSnapshot, and again on the copy, which the
coordinator shows to all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.windows.volumes import Volume
from labenv.windows.vss import codes
from labenv.windows.vss.codes import Phase, VssError
from labenv.windows.vss.model import Component, SnapshotSet
from labenv.windows.vss.provider import Provider
from labenv.windows.vss.records import ShadowRecord
from labenv.windows.vss.together import together
from labenv.windows.vss.writer import Writer

if TYPE_CHECKING:
    from labenv.windows.host import Host

CSV = UUID("1072ae1c-e5a7-4ea1-9e4a-6f7964656570")
"""Id of the CSV writer."""


class CsvProvider(Provider):
    """A provider that only coordinates the nodes; the copies are made by the hardware provider."""

    kind = "Software"
    version = "1.0.0.1"
    service = "ClusSvc"

    def __init__(self, id: UUID, name: str) -> None:  # noqa: A002 - the provider's own id
        self.id = id
        self.name = name

    async def supports(self, volume: Volume) -> bool:
        """Never by itself."""
        return False

    async def exists(self, record: ShadowRecord) -> bool:
        """It makes none."""
        return False

    async def delete(self, record: ShadowRecord) -> None:
        """It makes none."""
        raise VssError(codes.OBJECT_NOT_FOUND, f"{self.name} has no shadow copy {{{record.id}}}")


PROVIDERS: tuple[Provider, ...] = (
    CsvProvider(UUID("26d02976-b909-43ad-af7e-62a4f625e372"), "Microsoft CSV Shadow Copy Helper Provider"),
    CsvProvider(UUID("400a2ff4-5eb1-44b0-8a05-1fcac0bcf9ff"), "Microsoft CSV Shadow Copy Provider"),
)
"""What a node of a failover cluster has besides the others."""


def distributed(host: Host) -> bool:
    """Whether sets on a host reach over all nodes of its cluster."""
    cluster = host.cluster
    return cluster is not None and host.spec.era != "2008r2" and cluster.is_member(host.name)


def nodes(host: Host) -> list[Host]:
    """The hosts whose VMs may be on a host's volumes, itself first."""
    if host.cluster is None:
        return [host]
    return [host, *(h for h in host.cluster.members() if h is not host)]


def refusal(host: Host, volume: Volume) -> VssError | None:
    """Why a volume cannot be added on a host: version 1 has to be owned there and in redirected access (TR-4004 12)."""
    cluster = host.cluster
    if cluster is None or not volume.shared:
        return None
    busy = next((h for h in nodes(host) if h is not host and _has(h.vss.creating, volume)), None)
    if busy is not None:
        return VssError(codes.SET_IN_PROGRESS, f"{busy.name} is creating shadow copies of this shared volume")
    if host.spec.era != "2008r2":
        return None
    record = cluster.volume_table[str(volume.guid)]
    owner = cluster.owner(cluster.resource(record.resource))
    if owner != host.name:
        return VssError(codes.VOLUME_NOT_SUPPORTED, f"the shared volume belongs to {owner}: move it to this node first")
    if not record.redirected:
        return VssError(codes.VOLUME_NOT_SUPPORTED, "the shared volume is not in redirected access")
    return None


def _has(work: SnapshotSet | None, volume: Volume) -> bool:
    return work is not None and work.target(volume.guid) is not None


def redirect(host: Host, work: SnapshotSet, *, backup: bool) -> None:
    """Note that the shared volumes of a set are being backed up; access is redirected meanwhile."""
    if host.cluster is None:
        return
    for target in work.targets:
        if target.volume.shared and str(target.volume.guid) in host.cluster.volume_table:
            record = host.cluster.volume_table[str(target.volume.guid)]
            host.cluster.volume_table[str(target.volume.guid)] = replace(record, backup=backup)


class CsvWriter(Writer):
    """Speaks on one node for the Hyper-V writers of the others."""

    id = CSV
    name = "Cluster Shared Volume VSS Writer"
    service = "ClusSvc"

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._parts: dict[UUID, list[tuple[Host, SnapshotSet]]] = {}

    def reset(self) -> None:
        """The cluster service has started."""
        super().reset()
        self._parts.clear()

    async def identify(self) -> list[Component]:
        """The VMs of the other nodes that lie on shared volumes, and on nothing else."""
        found: list[Component] = []
        for host in nodes(self.host)[1:]:
            for component in await host.vss.hyperv.identify():
                if component.elsewhere or not component.volumes or not _all_shared(host, component):
                    continue
                found.append(replace(component, writer=self.id, path=host.name))
        return found

    async def prepare_backup(self, work: SnapshotSet) -> None:
        """Give each node its part of the set."""
        parts: list[tuple[Host, SnapshotSet]] = []
        for host in nodes(self.host)[1:]:
            mine = [replace(c, writer=host.vss.hyperv.id, path="") for c in work.of(self.id) if c.path == host.name]
            if not mine:
                continue
            part = SnapshotSet(work.id, work.context, work.options, work.targets, mine, work.recover)
            part.shown_on = self.host
            host.vss.current = host.vss.current or part
            host.vss.hyperv.reset_state()
            parts.append((host, part))
        self._parts[work.id] = parts
        await self._everywhere(Phase.PREPARE_BACKUP, work)

    async def prepare_snapshot(self, work: SnapshotSet) -> None:
        """The guests of all nodes become consistent, node beside node."""
        await self._everywhere(Phase.PREPARE_SNAPSHOT, work)

    async def freeze(self, work: SnapshotSet) -> None:
        """Nothing but the state of the other writers."""
        await self._everywhere(Phase.FREEZE, work)

    async def thaw(self, work: SnapshotSet) -> None:
        """As above."""
        await self._everywhere(Phase.THAW, work)

    async def post_snapshot(self, work: SnapshotSet) -> None:
        """Every owner of VMs turns theirs back on the copy that the coordinator shows, node beside node."""
        await self._everywhere(Phase.POST_SNAPSHOT, work)

    async def backup_complete(self, work: SnapshotSet, *, succeeded: bool) -> None:
        """Pass it on."""
        for host, part in self._parts.get(work.id, ()):
            await host.vss.notify(Phase.BACKUP_COMPLETE, [host.vss.hyperv], part, succeeded=succeeded)

    async def _everywhere(self, phase: Phase, work: SnapshotSet) -> None:
        parts = self._parts.get(work.id, [])
        outcomes = await together(self.host.clock, [self._one(phase, host, part) for host, part in parts])
        failures = [e for e in outcomes if e is not None]
        for error in failures:
            if not isinstance(error, VssError):
                raise error
        refused = [e for e in failures if isinstance(e, VssError)]
        if not refused:
            return
        detail = "; ".join(e.detail for e in refused)
        alone = len(refused) == len(parts) and len({e.code for e in refused}) == 1
        raise VssError(refused[0].code if alone else codes.WRITER_PARTIAL_FAILURE, detail)

    async def _one(self, phase: Phase, host: Host, part: SnapshotSet) -> None:
        cluster = self.host.cluster
        if cluster is None or not cluster.is_member(host.name):
            raise VssError(codes.CLUSTER_ERROR, f"node {host.name} is not in the cluster any more")
        if await host.vss.notify(phase, [host.vss.hyperv], part):
            status = part.status[host.vss.hyperv.id]
            raise VssError(status.failure, f"the Hyper-V writer of {host.name} has failed ({status.state.name})")

    def abort(self, work: SnapshotSet) -> None:
        """Pass it on."""
        for host, part in self._parts.get(work.id, ()):
            host.vss.hyperv.abort(part)
            host.vss.hyperv.settle(part)

    def shutdown(self, work: SnapshotSet) -> None:
        """Pass it on; the parts are forgotten."""
        for host, part in self._parts.pop(work.id, ()):
            host.vss.hyperv.shutdown(part)
            host.vss.hyperv.settle(part)
            if host.vss.current is part:
                host.vss.current = None


def _all_shared(host: Host, component: Component) -> bool:
    volumes = [host.volumes.get(guid) for guid in component.volumes]
    return all(volume is not None and volume.shared for volume in volumes)
