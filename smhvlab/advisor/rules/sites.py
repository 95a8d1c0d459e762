"""Two sites: what would make a failover fail, seen before it is needed (TR 8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from smhvlab.advisor import facts as f
from smhvlab.advisor.rule import Hit, Severity, listed, rule
from smhvlab.advisor.rules.array import MIRRORED
from smhvlab.advisor.site_facts import Facts


@dataclass(frozen=True)
class Way:
    """A direction in which VMs can be failed over: from ``near``, where they are, to ``far``.

    Attributes:
        mirrors: the relationships that bring data there, by their source, ``svm:volume``.
    """

    near: Facts
    far: Facts
    mirrors: dict[str, f.Mirror]

    @property
    def vms(self) -> list[f.Vm]:
        """The VMs that would come: those of datasets, all of whose LUNs are mirrored."""
        members = {identity for dataset in self.near.datasets for identity in dataset.members}
        return [
            vm
            for vm in self.near.vms
            if vm.id in members and self.near.luns(vm) and all(_end(lun) in self.mirrors for lun in self.near.luns(vm))
        ]

    def mounts(self) -> Iterator[tuple[str, f.Mirror, bool, list[str]]]:
        """Mount points that have to be the same: each with its mirror, whether it is a shared volume, and its VMs."""
        found: dict[str, tuple[str, f.Mirror, bool, list[str]]] = {}
        for vm in self.vms:
            for _, path in self.near.files(vm):
                home = self.near.home(vm.host, path)
                if home is None or home.lun is None:
                    continue
                mount = _mount(path, home.csv, home.disk)
                entry = found.setdefault(
                    mount.casefold(), (mount, self.mirrors[_end(home.lun)], home.csv is not None, [])
                )
                if vm.name not in entry[3]:
                    entry[3].append(vm.name)
        yield from found.values()

    def taken(self, path: str, end: str) -> str:
        """What has a mount point at the other site, "" if it is free or the LUN of that end has it."""
        for cluster in self.far.clusters:
            for csv in cluster.csvs:
                if csv.path.rstrip("\\").casefold() == path.rstrip("\\").casefold():
                    home = self.far.home(self.far.hosts[0].name, csv.path)
                    if home is None or home.lun is None or _end(home.lun) != end:
                        return f"the shared volume {csv.name} of {cluster.name}"
        for host in self.far.hosts:
            for disk in host.disks:
                lun = self.far.lun_of(disk)
                if path.casefold() in {own.casefold() for own in disk.paths} and (lun is None or _end(lun) != end):
                    return f"disk {disk.number} of {host.name}" + (f" ({lun.name})" if lun is not None else "")
        return ""


def _end(lun: f.Lun) -> str:
    return f"{lun.svm}:{lun.volume}"


def _mount(path: str, csv: f.Csv | None, disk: f.Disk | None) -> str:
    if csv is not None:
        return csv.path.rstrip("\\") + "\\"
    inside = (path + "\\").casefold()
    known = [own for own in (disk.paths if disk is not None else ()) if inside.startswith(own.casefold())]
    return max(known, key=len, default="")


def ways(facts: Facts) -> Iterator[Way]:
    """The directions in which mirrors bring data between the site and its partner."""
    if facts.partner is None:
        return
    for near, far in ((facts, facts.partner), (facts.partner, facts)):
        mirrors = {m.source: m for m in far.array.mirrors if m.source_cluster == near.array.name}
        live = {source: m for source, m in mirrors.items() if m.state in MIRRORED}
        if live:
            yield Way(near, far, live)


@rule(
    "sites-compared",
    section="8",
    rows=("R-8-05",),
    severity=Severity.NOTE,
    looks_at="peers and mirrors of the array; whether the other site is connected",
    why="Whether a failover would succeed can only be told from both sites.",
    fix="Connect the other site too: smhvlab advise --partner, or smhvlab.dr.sites.couple(site, other).",
)
def sites_compared(facts: Facts) -> Iterator[Hit]:
    away = any(m.source_cluster != m.destination_cluster for m in facts.mirrors)
    if facts.partner is None and (away or facts.array.peers):
        what = "mount points, virtual switches, VMs, SVMs, interfaces and credentials of the other site"
        yield Hit(facts.name or facts.array.name, f"Not looked at ({facts.apart}): {what}.")


@rule(
    "failover-mount-point",
    section="8",
    rows=("R-8-06",),
    severity=Severity.ERROR,
    looks_at="mount points and kinds of disk of mirrored VMs; those of the other site's hosts",
    why="A VM knows its files by their path: its LUN must be the same kind of disk at the same mount point there.",
    fix="Give the other disk another drive letter or folder; pair a failover cluster with a failover cluster.",
)
def failover_mount_point(facts: Facts) -> Iterator[Hit]:
    for way in ways(facts):
        alone = [host.name for host in way.far.hosts if not host.cluster]
        for mount, mirror, shared, vms in way.mounts():
            if shared and alone:
                yield Hit(
                    mount, f"{listed(vms)} lie on a shared volume, and {listed(alone)} is in no failover cluster."
                )
            elif holder := way.taken(mount, mirror.destination):
                yield Hit(mount, f"{listed(vms)} of {way.near.name} need it, and {holder} has it at {way.far.name}.")
        if way.far.snapinfo_luns():
            continue  # catalogues are merged: the other one is read in a folder of its own
        for host in way.near.hosts:
            home = way.near.home(host.name, way.near.snapinfo(host)) if way.near.snapinfo(host) else None
            if home is None or home.lun is None or _end(home.lun) not in way.mirrors:
                continue
            mount = _mount(way.near.snapinfo(host), home.csv, home.disk)
            if holder := way.taken(mount, way.mirrors[_end(home.lun)].destination):
                yield Hit(mount, f"SnapInfo of {way.near.name} needs it, and {holder} has it at {way.far.name}.")
                break


@rule(
    "failover-switch",
    section="8",
    rows=("R-8-05", "R-8-09"),
    severity=Severity.ERROR,
    looks_at="virtual switches of mirrored VMs; those of the other site's hosts",
    why="Hyper-V does not register a VM whose virtual switch is not on the host, and by then the mirrors are broken.",
    fix="Make a virtual switch of the same name on each host of the other site, or rename the one that is there.",
)
def failover_switch(facts: Facts) -> Iterator[Hit]:
    for way in ways(facts):
        wanted: dict[str, list[str]] = {}
        for vm in way.vms:
            for switch in dict.fromkeys(vm.switches):
                wanted.setdefault(switch, []).append(vm.name)
        for host in way.far.known("switches"):
            having = {name.casefold() for name in host.switches}
            for switch, vms in sorted(wanted.items()):
                if switch.casefold() not in having:
                    yield Hit(host.name, f"It has no virtual switch {switch}, which {listed(vms)} are connected to.")


@rule(
    "failover-vm-free",
    section="8",
    rows=("R-8-09",),
    severity=Severity.ERROR,
    looks_at="ids of mirrored VMs; VMs that are registered at the other site",
    why="A VM is registered with its own id, which a host can have once.",
    fix="Remove what an earlier failover has left: site.dr.return_to_normal() there, or remove the VM.",
)
def failover_vm_free(facts: Facts) -> Iterator[Hit]:
    for way in ways(facts):
        for vm in way.vms:
            if vm.id in way.far.vm:
                there = way.far.vm[vm.id]
                yield Hit(vm.name, f"It is registered on {there.host} at {way.far.name} too, {there.state}.")


@rule(
    "failover-path",
    section="8",
    rows=("R-8-05", "R-8-06"),
    severity=Severity.ERROR,
    looks_at="SVMs of mirrors' destinations, their igroups and interfaces; initiators of the hosts there",
    why="LUNs of another SVM than the one whose igroup and interfaces the hosts use cannot be connected.",
    fix="Replicate into the SVM that serves the hosts there, with their igroup and an interface that is up.",
)
def failover_path(facts: Facts) -> Iterator[Hit]:
    for way in ways(facts):
        array = way.far.array
        initiators = {name for host in way.far.hosts for name in host.initiators[:1]}
        for svm in sorted({m.destination.partition(":")[0] for m in way.mirrors.values()}):
            serving = [g.name for g in array.igroups if g.svm == svm and initiators <= set(g.initiators)]
            if initiators and not serving:
                names = listed(host.name for host in way.far.hosts)
                yield Hit(svm, f"No igroup of it holds the initiators of {names}.")
            data = [lif for lif in array.lifs if lif.svm == svm and any(_serves_luns(s) for s in lif.services)]
            if not any(lif.up for lif in data) and "lifs" not in array.unknown:
                yield Hit(svm, f"No interface for LUNs is up on {array.name}.")


def _serves_luns(service: str) -> bool:
    return "iscsi" in service or "fcp" in service


@rule(
    "failover-alike",
    section="8",
    rows=("R-8-05",),
    severity=Severity.WARNING,
    looks_at="Windows and failover clustering of the hosts of both sites",
    why="The second site's host or cluster has to be the same as that of the primary.",
    fix="Bring both sites to the same Windows; pair a host with a host, a cluster with a cluster.",
)
def failover_alike(facts: Facts) -> Iterator[Hit]:
    for way in ways(facts):
        here, there = way.near.era, way.far.era
        if f.ERAS.index(there) < f.ERAS.index(here):
            yield Hit(way.far.name, f"Its hosts are of era {there}, those of {way.near.name} of era {here}.")
        roles = [vm.name for vm in way.vms if vm.clustered]
        if roles and not way.far.clusters:
            yield Hit(way.far.name, f"It is no failover cluster: {listed(roles)} will not be highly available.")


@rule(
    "mirror-credentials",
    section="8",
    rows=("R-8-16",),
    severity=Severity.ERROR,
    looks_at="logins of both clusters and of the SVMs at both ends of the mirrors",
    why="An update needs the cluster's (C-server) and the Vserver's login of source and destination.",
    fix="Add the user of the SVM to the site's profile, and its password to the keyring.",
)
def mirror_credentials(facts: Facts) -> Iterator[Hit]:
    for site in (facts, *([facts.partner] if facts.partner is not None else [])):
        for text in site.refused:
            yield Hit(site.name, f"{text.rstrip('.')}.")
