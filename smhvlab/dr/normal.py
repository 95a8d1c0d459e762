"""Back to the original direction: the second site is cleaned up and mirrored to again (TR 8, "return to normal")."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from smhvlab.dr.landing import Ground, Spot, landing_of
from smhvlab.dr.protect import Protected
from smhvlab.dr.replication import End, common_copy
from smhvlab.dr.reverse import Connection, drop_connection, find_connections
from smhvlab.dr.sites import DrProcedure, free_volume, homes_by_vm, life_of, snapinfo_lun, volume_names
from smhvlab.dr.superseded import refuse_connected, refuse_running
from smhvlab.errors import NotAllowed, NotFound
from smhvlab.mount.image import Placement
from smhvlab.record import Confirmation
from smhvlab.steps import step
from smhvlab.storage import VolumeRef


@dataclass(frozen=True)
class NormalState:
    """What is taken from this site, and what is mirrored to it again.

    Attributes:
        vms: (id, name) of the VMs that run on the other site again.
        links: (source there, destination here, newest common Snapshot copy, "" if everything has to travel).
        taken: the other site's SnapInfo, if its hosts lost it to a failover that went no further.
    """

    vms: tuple[tuple[str, str], ...]
    connections: tuple[Connection, ...]
    links: tuple[tuple[End, End, str], ...]
    taken: Connection | None = None


class ReturnToNormal(DrProcedure[NormalState]):
    """Clean this site up and mirror to it again."""

    tr = "8"

    def survey(self) -> NormalState:
        """Find the VMs that both sites have, their LUNs here, and the volumes there that they live on now.

        Raises:
            NotAllowed: the other site does not answer, a VM runs here, one that lies on a volume that becomes a mirror
                again does not run there, or such a volume is itself a mirror there.
        """
        life = life_of(self.other)
        if not (life.array and life.hosts):
            raise NotAllowed(
                f"The site {self.other.name} does not answer as a whole",
                why=life.finding,
                next_action="Nothing is removed here until the VMs run there.",
                tr="8",
            )
        there = {vm.id: vm for vm in self.other.tools().nodes.vms()}
        machines = self.nodes.vms()
        mine = [vm for vm in machines if vm.id in there]
        for vm in mine:
            if vm.running:
                raise NotAllowed(
                    f"{vm.name} runs here",
                    why="what it writes here would be lost in the resync",
                    next_action=f"Fail back first: dr.failback() on {self.other.name} shuts it down here.",
                    tr="8",
                )
        places = homes_by_vm(self.site, machines)
        homes = homes_by_vm(self.other, [there[vm.id] for vm in mine])
        pairs: dict[VolumeRef, VolumeRef] = {}
        volumes = set()
        for vm in mine:
            by_path = {path: lun for lun, path in homes[vm.id].values()}
            for lun, path in places[vm.id].values():
                volumes.add((lun.svm, lun.volume.name))
                if path in by_path:
                    pairs[lun.volume] = by_path[path].volume
        links = tuple(self._links(pairs))
        targets = {(here.svm, here.volume) for _, here, _ in links}
        running = {vm.id for vm in there.values() if vm.running}
        for vm in machines:
            lying = {str(lun) for lun, _ in places[vm.id].values() if (lun.svm, lun.volume.name) in targets}
            if lying and vm.id not in running:
                raise NotAllowed(
                    f"{vm.name} does not run on {self.other.name}",
                    why=f"its files here are on {', '.join(sorted(lying))}: the resync would take them away",
                    next_action=f"Fail back first: dr.failback() on {self.other.name}. If it is there and is to stay "
                    "off, see that it has its data there, and remove its registration here.",
                    tr="8/normal 1",
                )
        self._refuse_mirrors(source for source, _, _ in links)
        info, _ = snapinfo_lun(self.site)
        if (info.svm, info.volume.name) in targets:  # it came with the failover, and goes with it
            volumes.add((info.svm, info.volume.name))
        connections = find_connections(self.site, volumes)
        links, taken = self._catalogue(links)
        vms = tuple((vm.id, vm.name) for vm in mine)
        return NormalState(vms, tuple(sorted(connections, key=str)), links, taken)

    def _catalogue(
        self, links: tuple[tuple[End, End, str], ...]
    ) -> tuple[tuple[tuple[End, End, str], ...], Connection | None]:
        """The links, with one for a SnapInfo that came home as another volume; its LUN, if the hosts there lost it."""
        try:
            info, _ = snapinfo_lun(self.other)
        except NotFound:
            return links, self._taken({(source.svm, source.volume) for source, _, _ in links})
        end = (info.svm, info.volume.name)
        known = {(m.source.svm, m.source.volume) for m in self.replication.mirrors()}
        if not links or end in known | {(source.svm, source.volume) for source, _, _ in links}:
            return links, None
        svm = links[0][1].svm
        name = free_volume(dict[str, object](volume_names(self.site, svm)), info.volume.name)
        source = End(self.other.profile.storage.name, *end)
        return (*links, (source, End(self.site.profile.storage.name, svm, name), "")), None

    def _taken(self, ends: Collection[tuple[str, str]]) -> Connection | None:
        """The LUN of the other site's SnapInfo: the one of these volumes that no host there has; its drive is free."""
        tools = self.other.tools()
        luns = [lun for lun in tools.storage.luns() if (lun.svm, lun.volume.name) in ends]
        lost = [lun for lun in luns if not tools.storage.igroups_of(lun.uuid)]
        drive = tools.snapinfo.folder()[:3]
        taken = {path.casefold() for disk in tools.nodes.disks() for path in disk.access_paths}
        if len(lost) != 1 or drive.casefold() in taken:
            return None
        landing = landing_of(self.other)
        kind = Placement.GROUP if landing.cluster else Placement.DEDICATED
        return Connection(lost[0], landing.igroup, Spot(drive, "", kind))

    def _links(self, pairs: dict[VolumeRef, VolumeRef]) -> Iterator[tuple[End, End, str]]:
        """Relationships of the first direction: those that are broken off, and those that were given up."""
        near, far = self.site.profile.storage.name, self.other.profile.storage.name
        broken = [m for m in self.replication.mirrors() if m.broken]
        if broken:
            ours = volume_names(self.site, broken[0].destination.svm)
            theirs = volume_names(self.other, broken[0].source.svm)
            for mirror in broken:
                here, there = ours.get(mirror.destination.volume), theirs.get(mirror.source.volume)
                if here is not None and there is not None:
                    pairs.setdefault(here, there)
        for here, there in sorted(pairs.items(), key=lambda pair: pair[0].name):
            common = common_copy(self.other_replication.copies(there), self.replication.copies(here))
            if common:
                yield End(far, there.svm, there.name), End(near, here.svm, here.name), common

    def _refuse_mirrors(self, sources: Iterable[End]) -> None:
        storage = self.other.tools().storage
        for end in sources:
            volume = storage.volume(end.volume, svm=end.svm)
            if volume is None or storage.volume_details(volume, "type")["type"] != "rw":
                raise NotAllowed(
                    f"{end} is not writable on {self.other.name}: it is a mirror",
                    why="the data come from this site still, and would be taken back to what they were",
                    next_action=f"Fail back first: dr.failback() on {self.other.name}.",
                    tr="8/normal 2",
                )

    def confirmations(self, state: NormalState) -> Sequence[Confirmation]:
        """What this site gives up."""
        names = ", ".join(name for _, name in state.vms) or "no VM"
        text = f"{names} and their disks are taken from this site; it becomes a mirror of {self.other.name} again"
        if state.links:
            since = "; ".join(f"{here} after {common}" for _, here, common in state.links if common)
            text += f", and what was written here since is lost: {since}"
        return (Confirmation(key="give-up", text=text, tr="8"),)

    @step(
        "Delete the VMs from this site",
        tr="8/normal 1",
        items=lambda s: tuple(name for _, name in s.vms),
        when=lambda s: bool(s.vms),
        otherwise="it has none of them",
        pivot=True,
    )
    def remove(self, s: NormalState) -> None:
        wanted = [vm for vm, _ in s.vms]
        refuse_running(self.site, wanted)
        for node, vms in self.nodes.by_node(wanted):
            node.hyperv.ensure_all_off(vms)
        Ground(self.site).discard_roles(wanted)
        for node, vms in self.nodes.by_node(wanted):
            node.hyperv.ensure_all_removed(vms)

    @step(
        "Disconnect their disks",
        tr="8/normal 1",
        items=lambda s: s.connections,
        when=lambda s: bool(s.connections),
        otherwise="none is connected",
    )
    def disconnect(self, s: NormalState) -> None:
        refuse_running(self.site, [vm for vm, _ in s.vms])
        for connection in self.track(s.connections):
            drop_connection(self.site, connection)

    @step(
        "Resync from the other site",
        tr="8/normal 2",
        items=lambda s: tuple(
            f"{there} -> {here} {f'from {common}' if common else '(initialise: everything travels)'}"
            for there, here, common in s.links
        ),
        counts=lambda s: {"ontap.snapmirror.start": len(s.links)},
        pivot=True,
    )
    def resync(self, s: NormalState) -> None:
        here = self.replication
        refuse_connected(self.site, [destination for _, destination, _ in s.links])
        known = {mirror.uuid for mirror in self.other_replication.mirrors()}
        for mirror in here.outgoing():  # a failback could not tell this site, which did not answer, that they are over
            if mirror.uuid not in known and mirror.destination.cluster == self.other.profile.storage.name:
                here.release(mirror.uuid, keep=True)
        here.mirror_all([here.ensure_mirror(source, destination) for source, destination, _ in self.track(s.links)])

    @step(
        "Give the other site its SnapInfo LUN back",
        tr="8",
        items=lambda s: (s.taken,),
        when=lambda s: s.taken is not None,
        otherwise="its hosts have it",
    )
    def give_back(self, s: NormalState) -> None:
        assert s.taken is not None
        ground, folder = Ground(self.other), self.other.tools().snapinfo.folder()
        ground.ensure_connected(s.taken.lun, s.taken.spot, igroup=s.taken.igroup)
        if not ground.node.host.run("Test-Path", {"LiteralPath": folder})[0]:
            raise NotFound(
                f"There is no SnapInfo in {folder} of {self.other.name}: {s.taken.lun} is connected there now",
                next_action="Look what the LUN holds; connect the one that holds SnapInfo, or set its folder "
                "(site.set_snapinfo), and resume.",
                tr="5.4",
            )

    def result(self, state: NormalState) -> Protected:
        """The relationships of the first direction."""
        wanted = {str(here) for _, here, _ in state.links}
        return Protected(tuple(m for m in self.replication.mirrors() if str(m.destination) in wanted))
