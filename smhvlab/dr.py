"""Two sites: which one answers, how they are coupled, and what their disaster recovery flows share (TR 8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from netapp_ontap.resources.cluster import Cluster

from smhvlab.errors import ConnectionFailed, NotAllowed, NotFound, SmhvLabError
from smhvlab.hyperv import Vm
from smhvlab.procedure import Procedure
from smhvlab.replication import Replication
from smhvlab.secrets import Secrets
from smhvlab.site import Site, connect
from smhvlab.storage import LunRef, VolumeRef
from smhvlab.wires.control import Seam
from smhvlab.wires.ontap import OntapWire

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

    def close(self) -> None:
        """Close both sites, and end a lab that was started for them."""
        self.secondary.close()
        self.primary.close()


def couple(primary: Site, secondary: Site) -> SitePair:
    """Make two sites partners: one log, one brake, and one run at a time on both.

    Raises:
        NotAllowed: both are the same site.
    """
    if primary.name == secondary.name:
        raise NotAllowed(
            f"Both sites have the profile {primary.name}", next_action="Name two different profiles.", tr="8"
        )
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
    """Look whether a site is alive: primary dead, half-dead, or merely unreachable cannot be told apart from here."""
    if site is None:
        return Life(False, False, {}, "no profile of the other site was given")
    array = hosts = False
    findings, running = [], {}
    tools = site.tools()
    try:
        tools.rest.read(Cluster(), fields="name")
        array = True
    except ConnectionFailed as error:
        findings.append(error.message)
    try:
        running = {vm.id: vm.name for vm in tools.hyperv.vms() if vm.running}
        hosts = True
    except ConnectionFailed as error:
        findings.append(error.message)
    return Life(array, hosts, running, "; ".join(findings) or "storage and hosts answer")


class DrProcedure(Procedure[S]):
    """A flow that knows the other site too."""

    @property
    def other(self) -> Site:
        """The other site. Raises NotAllowed if this one stands alone."""
        if self.site.partner is None:
            raise NotAllowed(
                f"The site {self.site.name} has no partner",
                next_action="Connect both sites: smhvlab.dr.couple(primary, secondary), or --partner on the command "
                "line.",
                tr="8",
            )
        return self.site.partner

    @property
    def replication(self) -> Replication:
        """SnapMirror as this site's cluster manages it."""
        return Replication(self.storage)

    @property
    def other_replication(self) -> Replication:
        """SnapMirror as the other site's cluster manages it."""
        return Replication(self.other.tools().storage)


def homes(site: Site, vms: Iterable[Vm]) -> dict[str, tuple[LunRef, str]]:
    """The LUNs that hold VMs' files, with their mount points, by UniqueId; what is elsewhere is left out."""
    tools = site.tools()
    disks = tools.snapdrive.disks()
    paths = {p for vm in vms for p in (vm.configuration + "\\", *(d.path for d in vm.disks if not d.passthrough))}
    used = {}
    for path in sorted(paths):
        disk = tools.snapdrive.folder_disk(path, disks)
        if disk is not None:
            used[disk.unique_id] = min(disk.access_paths, key=len)
    luns = tools.storage.luns_by_disk(used)
    return {unique_id: (lun, used[unique_id]) for unique_id, lun in luns.items()}


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
    return found[disk.unique_id], min(disk.access_paths, key=len)


def serving_svm(site: Site) -> tuple[str, str]:
    """Name of the igroup of a site's host, and its SVM."""
    tools = site.tools()
    return tools.storage.igroup_of(tools.snapdrive.initiator())


def check_credentials(site: Site, svms: Iterable[str]) -> list[str]:
    """Which of the credentials that an update needs are missing: cluster and Vservers of both ends (TR 8)."""
    from smhvlab.peering import missing_credentials

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
