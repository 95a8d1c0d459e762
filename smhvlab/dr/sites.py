"""Two sites: which one answers, how they are coupled, and what their disaster recovery flows share (TR 8)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from netapp_ontap.resources.cluster import Cluster
from netapp_ontap.resources.cluster_peer import ClusterPeer

from smhvlab.dr.replication import Replication
from smhvlab.errors import ConnectionFailed, NoAnswer, NotAllowed, NotFound, PowerShellError, SmhvLabError
from smhvlab.hyperv import Vm
from smhvlab.nodes import home_of
from smhvlab.procedure import Procedure
from smhvlab.record import Confirmation
from smhvlab.secrets import Secrets
from smhvlab.site import Site, connect
from smhvlab.snapdrive import HostDisk
from smhvlab.storage import LunRef, VolumeRef
from smhvlab.wires.control import Seam
from smhvlab.wires.ontap import OntapWire

if TYPE_CHECKING:
    from smhvlab.panels.sites import SitesPanel

S = TypeVar("S")


@dataclass(frozen=True)
class SitePair:
    """Two coupled sites; closing the pair closes both."""

    primary: Site
    secondary: Site

    def __enter__(self) -> SitePair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def panel(self, *, every: float = 10) -> SitesPanel:
        """Both sites and their relationships; looked at again without blocking the kernel.

        Args:
            every: seconds between two looks while "Keep looking" is on.
        """
        from smhvlab.panels.sites import SitesPanel

        return SitesPanel(self, every=every)

    def close(self) -> None:
        """Close both sites, and end a lab that was started for them."""
        self.secondary.close()
        self.primary.close()


def couple(primary: Site, secondary: Site) -> SitePair:
    """Make two sites partners: one log, and one run at a time on both. The second one's connections are opened anew.

    Raises:
        NotAllowed: both are the same site; a run is under way on the second one.
    """
    if primary.name == secondary.name:
        raise NotAllowed(
            f"Both sites have the profile {primary.name}", next_action="Name two different profiles.", tr="8"
        )
    if secondary.control.busy.locked():
        raise NotAllowed(f"A run is under way on {secondary.name}", next_action="Wait for its end, or cancel it.")
    secondary.disconnect()  # its wires still write into its own log, and ask its own control
    secondary.log, secondary.control = primary.log, primary.control
    primary.partner, secondary.partner = secondary, primary
    return SitePair(primary, secondary)


def connect_pair(
    target: str | Path | Mapping[str, object],
    *,
    primary: str = "A",
    secondary: str = "B",
    seam: Seam | None = None,
) -> SitePair:
    """Both sites of a lab, coupled.

    Args:
        target: as ``smhvlab.connect`` takes it: ``endpoints.json``, or ``lab:TOPOLOGY``.
        primary: the site that has the VMs now.
        secondary: the one that has their mirrors.
        seam: called around each request of either site (kill tests).

    Raises:
        ProfileError: the lab cannot be reached.
        NotFound: it has no such site.
    """
    first = connect(target, site=primary, seam=seam)
    folder = first.profile.journals
    second = target if isinstance(target, Mapping) or folder is None else folder.parent / "endpoints.json"
    return couple(first, connect(second, site=secondary))


def connect_partner(site: Site, other: str = "B") -> SitePair:
    """The pair of a site and another one.

    Args:
        site: the primary.
        other: a site of the same lab by its letter, or whatever ``smhvlab.connect`` takes.

    Raises:
        ProfileError, NotFound: as ``smhvlab.connect``.
    """
    folder = site.profile.journals
    if folder is not None and len(other) == 1:
        return couple(site, connect(folder.parent / "endpoints.json", site=other))
    return couple(site, connect(other))


@dataclass(frozen=True)
class Life:
    """What of a site answers. The text says why the other part does not.

    Attributes:
        array: whether the storage cluster answers.
        hosts: whether the Hyper-V host answers.
        running: names of the VMs that run there, by id.
    """

    array: bool
    hosts: bool
    running: Mapping[str, str]
    finding: str

    @property
    def dead(self) -> bool:
        """Whether nothing answers."""
        return not self.array and not self.hosts


def life_of(site: Site | None) -> Life:
    """Look whether a site is alive: primary dead, half-dead, or merely unreachable cannot be told apart from here.

    Raises:
        NotAllowed: something of it answers, and tells nothing: a wrong password, an untrusted certificate, a quota.
    """
    if site is None:
        return Life(False, False, {}, "no profile of the other site was given")
    array = hosts = False
    findings, running = [], {}
    tools = site.tools()
    try:
        tools.rest.read(Cluster(), fields="name")
        array = True
    except NoAnswer as error:
        findings.append(error.message)
    except ConnectionFailed as error:
        raise _not_down(site, error) from error
    try:
        running = {vm.id: vm.name for vm in tools.nodes.vms() if vm.running}
        hosts = True
    except NoAnswer as error:
        findings.append(error.message)
    except ConnectionFailed as error:
        raise _not_down(site, error) from error
    return Life(array, hosts, running, "; ".join(findings) or "storage and hosts answer")


def _not_down(site: Site, error: ConnectionFailed) -> NotAllowed:
    return NotAllowed(
        f"Whether {site.name} is alive is not known: {error.message}",
        code=error.code,
        why="what answers is not down, and may run the VMs" + (f"; {error.why}" if error.why else ""),
        next_action=f"{error.next_action} The user, password and ca_file are those of the profile {site.name}.",
        tr="8",
    )


class DrProcedure(Procedure[S]):
    """A flow that knows the other site too."""

    @property
    def other(self) -> Site:
        """The other site. Raises NotAllowed if this one stands alone."""
        if self.site.partner is None:
            raise NotAllowed(
                f"The site {self.site.name} has no partner",
                next_action="Connect both: smhvlab.dr.sites.couple(primary, secondary), or --partner on the command "
                "line.",
                tr="8",
            )
        return self.site.partner

    @property
    def replication(self) -> Replication:
        """SnapMirror as this site's cluster manages it."""
        return Replication(self.storage)

    def with_peers(self, fence: Fence, clusters: Iterable[str]) -> Fence:
        """The fence with what the peering tells of the other site's clusters, if that is all that can be asked."""
        if fence.asked:
            return fence
        wanted = set(clusters)
        records = self.site.tools().rest.collect(ClusterPeer, fields="remote.name,status.state")
        lives = {r["remote"]["name"] for r in records if (r.get("status") or {}).get("state") == "available"}
        return replace(fence, peers=tuple(sorted(lives & wanted)))

    @property
    def other_replication(self) -> Replication:
        """SnapMirror as the other site's cluster manages it."""
        return Replication(self.other.tools().storage)


def homes(site: Site, vms: Iterable[Vm]) -> dict[str, tuple[LunRef, str]]:
    """The LUNs that hold VMs' files, with their mount points, by UniqueId; what is elsewhere is left out."""
    return {unique_id: home for found in homes_by_vm(site, vms).values() for unique_id, home in found.items()}


def homes_by_vm(site: Site, vms: Iterable[Vm]) -> dict[str, dict[str, tuple[LunRef, str]]]:
    """As ``homes``, for each VM by its id; the same number of requests however many VMs there are."""
    tools = site.tools()
    disks, shared = tools.nodes.disks(), tools.nodes.shared_volumes()
    luns = {lun.unique_id: lun for lun in tools.storage.luns()}
    found: dict[str, dict[str, tuple[LunRef, str]]] = {}
    for vm in vms:
        used = found.setdefault(vm.id, {})
        for path in (vm.configuration + "\\", *(d.path for d in vm.disks if not d.passthrough)):
            disk = home_of(path, host=vm.host, disks=disks, shared=shared)
            if disk is not None and disk.unique_id in luns:
                used[disk.unique_id] = (luns[disk.unique_id], mount_of(path, disk))
    return found


def mount_of(path: str, disk: HostDisk) -> str:
    """The access path by which a file's path reaches its disk; a disk may have others beside it."""
    return max((a for a in disk.access_paths if path.casefold().startswith(a.casefold())), key=len)


def snapinfo_lun(site: Site) -> tuple[LunRef, str]:
    """The LUN of a site's SnapInfo and its mount point. Raises NotFound."""
    tools = site.tools()
    folder = tools.snapinfo.folder()
    disk = tools.snapdrive.folder_disk(folder + "\\", tools.snapdrive.disks())
    found = {} if disk is None else tools.storage.luns_by_disk([disk.unique_id])
    if disk is None or not found:
        raise NotFound(
            f"The SnapInfo folder {folder} is on no LUN of {site.profile.storage.name}",
            next_action="Put it on a LUN of its own: site.set_snapinfo(...). Only then can SnapMirror carry it.",
            tr="5.4",
        )
    return found[disk.unique_id], mount_of(folder, disk)


def check_credentials(site: Site, svms: Iterable[str]) -> list[str]:
    """Which of the credentials that an update needs are missing: cluster and Vservers of both ends (TR 8)."""
    from smhvlab.dr.peering import missing_credentials

    profile, secrets = site.profile, Secrets(site.profile, prompt=None)
    logins: list[tuple[str, OntapWire | SmhvLabError]] = []
    for svm in sorted(set(svms)):
        try:
            endpoint = profile.storage.as_svm(svm)
            wire = OntapWire(endpoint, secrets.of(endpoint), log=site.log, control=site.control, read_only=True)
            logins.append((svm, wire))
        except SmhvLabError as error:
            logins.append((svm, error))
    try:
        return missing_credentials(site.tools().rest, logins)
    finally:
        for _, login in logins:
            if isinstance(login, OntapWire):
                login.close()


def free_volume(taken: Mapping[str, object], name: str) -> str:
    """A volume name that is not taken: the name itself, or with ``_dr``, ``_dr2``, ... behind it."""
    candidates = (name, f"{name}_dr", *(f"{name}_dr{number}" for number in range(2, 100)))
    return next(candidate for candidate in candidates if candidate not in taken)


def volume_names(site: Site, svm: str) -> dict[str, VolumeRef]:
    """Volumes of an SVM by name."""
    from netapp_ontap.resources.volume import Volume

    records = site.tools().rest.collect(Volume, fields="uuid,name,svm.name", **{"svm.name": svm})
    return {r["name"]: VolumeRef(r["uuid"], r["name"], svm) for r in records}


# --- which of two sites may run the VMs


@dataclass(frozen=True)
class Fence:
    """What keeps the other site from running the VMs too.

    Attributes:
        maps: LUN maps of its array to be removed, as (LUN's uuid, its name, SVM, igroup).
        vms: VMs to be switched off on its hosts, since nobody can take their disks from them, as (id, name).
        finding: what of it answers.
        asked: whether the site was known at all.
        peers: if not, those of its clusters that this one's peering calls available.
    """

    array: bool
    hosts: bool
    maps: tuple[tuple[str, str, str, str], ...]
    vms: tuple[tuple[str, str], ...]
    finding: str = field(compare=False)
    asked: bool = True
    peers: tuple[str, ...] = ()

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.maps or self.vms)

    def confirmation(self, site: str) -> Confirmation:
        """What the user has to know about the other site before anything is broken."""
        if not self.asked and self.peers:
            key, text = (
                "primary-not-asked",
                f"nobody has asked {site}, for no other site was named (--partner), and its storage lives: the peering "
                f"with {', '.join(self.peers)} is available. Name it: else both sites may run the VMs",
            )
        elif not self.asked:
            key, text = (
                "primary-down",
                f"nobody has asked {site}, for no other site was named (--partner): make sure that it is really down",
            )
        elif not self.array and not self.hosts:
            key, text = "primary-down", f"{site} does not answer ({self.finding}): make sure that it is really down"
        elif not self.array:
            key, text = "primary-storage-down", f"the storage of {site} does not answer ({self.finding})"
            if self.vms:
                names = ", ".join(name for _, name in self.vms)
                text += f": {names} are switched off there; a cancel starts them again if their disks answer"
        elif not self.hosts:
            key, text = (
                "primary-hosts-down",
                f"the hosts of {site} do not answer ({self.finding}): their LUNs are taken",
            )
        else:
            key, text = "primary-up", f"{site} is alive and runs none of the VMs: its LUNs are taken from its hosts"
        return Confirmation(key=key, text=text, tr="8")


def survey_fence(
    other: Site | None,
    sources: Iterable[tuple[str, str]],
    *,
    beside: Iterable[tuple[str, str]] = (),
    vms: Collection[str] = (),
) -> Fence:
    """See that only one site will run the VMs of volumes, given as (SVM, volume) of the other site.

    Args:
        other: the other site, None if nothing is known of it.
        sources: the volumes whose LUNs its hosts must not have any more.
        beside: volumes from which no VM may run either.
        vms: ids of VMs that shall run here: they must not run there, wherever their files have gone since. They are
            switched off if its storage does not answer.

    Raises:
        NotAllowed: the other site is alive and runs such VMs: a split brain; or ``life_of`` cannot tell.
    """
    life = life_of(other)
    wanted = set(sources)
    watched = wanted | set(beside)
    maps: list[tuple[str, str, str, str]] = []
    off: list[tuple[str, str]] = []
    if other is not None and life.array:
        tools = other.tools()
        for lun in tools.storage.luns():
            if (lun.svm, lun.volume.name) in wanted:
                maps += [(lun.uuid, lun.name, lun.svm, igroup) for igroup in tools.storage.igroups_of(lun.uuid)]
    if other is not None and life.hosts:
        tools = other.tools()
        running = [vm for vm in tools.nodes.vms() if vm.running]
        if life.array:
            places = homes_by_vm(other, running)
            inside = {
                vm.id
                for vm in running
                if any((lun.svm, lun.volume.name) in watched for lun, _ in places[vm.id].values())
            }
            running = [vm for vm in running if vm.id in inside or vm.id in vms]
            if running:
                told = ", ".join(vm.name if vm.id in inside else f"{vm.name} (in {vm.configuration})" for vm in running)
                raise NotAllowed(
                    f"Both sites are alive: {told} run on {other.name}",
                    why="the same VM on two sites writes two histories of its data; one of them would be lost",
                    next_action="Check that site's hosts and storage. To move the VMs while it is well use the planned "
                    "migration (site.dr.migrate on it); if it must be given up, shut its VMs down first.",
                    tr="8",
                )
        else:
            off = [(vm.id, vm.name) for vm in running if vm.id in vms]
    asked = other is not None
    return Fence(life.array, life.hosts, tuple(sorted(maps)), tuple(sorted(off)), life.finding, asked=asked)


def put_fence(other: Site, fence: Fence) -> None:
    """Take the LUNs from the other site's hosts; switch off the VMs if its storage does not answer."""
    for lun, _, _, _ in fence.maps:
        other.tools().storage.discard_map(lun)
    for node, vms in other.tools().nodes.by_node([vm for vm, _ in fence.vms]) if fence.vms else ():
        node.hyperv.ensure_all_off(vms)


def lift_fence(other: Site, fence: Fence) -> None:
    """Give the LUNs back to the other site's hosts, and start the VMs that were switched off.

    Raises:
        PowerShellError: one does not start though the storage answers.
    """
    tools = other.tools()
    for _, name, svm, igroup in fence.maps:
        tools.storage.ensure_map(tools.storage.lun(name, svm=svm), igroup)
    for node, vms in tools.nodes.by_node([vm for vm, _ in fence.vms]) if fence.vms else ():
        try:
            node.hyperv.ensure_all_running(vms)
        except PowerShellError:
            if life_of(other).array:
                raise  # else their disks are gone, and they had stopped without us
