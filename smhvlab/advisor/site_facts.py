"""The whole of what is known, with the way of every path down to its volume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from smhvlab.advisor import facts as f
from smhvlab.advisor import plans as p


@dataclass(frozen=True, kw_only=True)
class Home:
    """Where a path of a host lies: its disk, the shared volume, the LUN and the volume, as far as each exists."""

    disk: f.Disk | None = None
    csv: f.Csv | None = None
    cluster_disk: f.ClusterDisk | None = None
    lun: f.Lun | None = None
    volume: f.Volume | None = None

    @property
    def shared(self) -> bool:
        """Whether the nodes of a cluster share it."""
        return self.csv is not None or self.cluster_disk is not None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One look at a site. Rules are functions of this and of nothing else.

    Attributes:
        now: the site's time.
        hosts: those that answered.
        silent: hosts that did not answer, and why.
        console: name of the computer on which the toolkit runs.
        plans: whether datasets and their policies could be read.
        reports: folder for reports that the site's settings name, "" if they name none.
        notified: whether somebody hears of events, by mail or AutoSupport.
        name: the site's profile.
        partner: the other site of a pair, as it looked at the same time; None if it was not looked at.
        apart: why it was not.
        refused: logins of this site that updates of its mirrors need and that are missing or refused (TR 8).
    """

    now: datetime
    hosts: tuple[f.Host, ...] = ()
    silent: tuple[tuple[str, str], ...] = ()
    clusters: tuple[f.Cluster, ...] = ()
    vms: tuple[f.Vm, ...] = ()
    array: f.Array = field(default_factory=f.Array)
    datasets: tuple[p.Dataset, ...] = ()
    backups: tuple[p.Backup, ...] = ()
    console: str = ""
    plans: bool = True
    reports: str = ""
    notified: bool = False
    name: str = ""
    partner: Facts | None = None
    apart: str = "no other site is connected"
    refused: tuple[str, ...] = ()

    # --- eras and limits

    @property
    def era(self) -> str:
        """The era of the site's hosts: the earliest, as that decides what the others may do."""
        return min((host.era for host in self.hosts), key=f.ERAS.index, default="2012")

    @property
    def snapshot_limit(self) -> int:
        """Snapshot copies that a volume may hold: 255 for SMHV and its SnapDrive, else what ONTAP allows."""
        return 1023 if self.era == "2022" and self.array.version >= (9, 4, 0) else 255

    # --- mirrors

    @cached_property
    def mirrors(self) -> tuple[f.Mirror, ...]:
        """Relationships that end or begin at this array; of those that begin here the other site tells their state."""
        theirs = self.partner.array.mirrors if self.partner is not None else ()
        coming = (m for m in theirs if m.source_cluster == self.array.name)
        found: dict[tuple[str, str, str], f.Mirror] = {}
        for mirror in (*self.array.mirrors, *coming, *self.array.outgoing):
            found.setdefault((mirror.source, mirror.destination_cluster, mirror.destination), mirror)
        return tuple(found.values())

    # --- lookups

    def known(self, part: str) -> Iterator[f.Host]:
        """The hosts of which a part (a field of ``Host``) could be read."""
        return (host for host in self.hosts if part not in host.unknown)

    @cached_property
    def host(self) -> dict[str, f.Host]:
        """Hosts by name in lower case."""
        return {host.name.casefold(): host for host in self.hosts}

    @cached_property
    def vm(self) -> dict[str, f.Vm]:
        """VMs by id."""
        return {vm.id: vm for vm in self.vms}

    @cached_property
    def volume(self) -> dict[tuple[str, str], f.Volume]:
        """Volumes by SVM and name."""
        return {(volume.svm, volume.name): volume for volume in self.array.volumes}

    @cached_property
    def _luns(self) -> dict[str, f.Lun]:
        return {lun.unique_id.upper(): lun for lun in self.array.luns if lun.unique_id}

    @cached_property
    def _by_guid(self) -> dict[str, f.Disk]:
        disks = [disk for host in self.hosts for disk in host.disks if disk.guid]
        # every node shows a shared disk; the one that has it knows more of it
        return {bare(disk.guid): disk for disk in sorted(disks, key=lambda disk: bool(disk.volumes))}

    @cached_property
    def _places(self) -> dict[str, list[tuple[str, Home]]]:
        """Host -> mount points in lower case, longest first, with what lies below each."""
        places = {}
        for host in self.hosts:
            # shared volumes first: the node that owns one also has a disk at its path
            found = [
                (csv.path.rstrip("\\").casefold() + "\\", self._home_of_csv(csv))
                for cluster in self.clusters
                if cluster.name == host.cluster
                for csv in cluster.csvs
            ]
            found += [
                (path.casefold(), self.home_of_disk(disk, cluster=host.cluster))
                for disk in host.disks
                for path in disk.paths
            ]
            places[host.name.casefold()] = sorted(found, key=lambda place: -len(place[0]))
        return places

    @cached_property
    def _homes(self) -> dict[tuple[str, str], Home | None]:
        return {}

    def lun_of(self, disk: f.Disk) -> f.Lun | None:
        """The LUN behind a disk."""
        return self._luns.get(disk.unique_id.upper())

    def home_of_disk(self, disk: f.Disk, *, cluster: str = "") -> Home:
        """Where a disk comes from, and whether a cluster shares it."""
        lun = self.lun_of(disk)
        shared = next(
            (d for c in self.clusters if c.name == cluster for d in c.disks if same_guid(d.guid, disk.guid)), None
        )
        return Home(disk=disk, cluster_disk=shared, lun=lun, volume=self._volume_of(lun))

    def _home_of_csv(self, csv: f.Csv) -> Home:
        disk = self._by_guid.get(bare(csv.guid)) if csv.guid else None
        lun = self.lun_of(disk) if disk is not None else None
        return Home(disk=disk, csv=csv, lun=lun, volume=self._volume_of(lun))

    def _volume_of(self, lun: f.Lun | None) -> f.Volume | None:
        return self.volume.get((lun.svm, lun.volume)) if lun is not None else None

    def home(self, host: str, path: str) -> Home | None:
        """Where a path of a host lies; None: on no disk that the host shows."""
        key = (host.casefold(), path.casefold())
        if key not in self._homes:
            text = key[1] + "\\"
            places = self._places.get(key[0], [])
            self._homes[key] = next((home for start, home in places if text.startswith(start)), None)
        return self._homes[key]

    def files(self, vm: f.Vm) -> list[tuple[str, str]]:
        """What a VM consists of: (kind, path) of its configuration, its checkpoints' folder and each VHD."""
        found = [("configuration", vm.configuration), ("checkpoint folder", vm.checkpoint_folder)]
        found += [("VHD", disk.path) for disk in vm.disks if not disk.passthrough]
        return [(kind, path) for kind, path in found if path]

    @cached_property
    def _luns_of_vms(self) -> dict[str, tuple[f.Lun, ...]]:
        found = {}
        for vm in self.vms:
            homes = (self.home(vm.host, path) for _, path in self.files(vm))
            found[vm.id] = tuple(dict.fromkeys(home.lun for home in homes if home is not None and home.lun is not None))
        return found

    def luns(self, vm: f.Vm) -> tuple[f.Lun, ...]:
        """The LUNs that hold files of a VM."""
        return self._luns_of_vms.get(vm.id, ())

    @cached_property
    def vms_on(self) -> dict[f.Lun, tuple[f.Vm, ...]]:
        """LUN -> the VMs that have files on it."""
        found: dict[f.Lun, list[f.Vm]] = {}
        for vm in self.vms:
            for lun in self.luns(vm):
                found.setdefault(lun, []).append(vm)
        return {lun: tuple(vms) for lun, vms in found.items()}

    def members(self, dataset: p.Dataset) -> list[f.Vm]:
        """The VMs of a dataset that exist."""
        return [self.vm[identity] for identity in dataset.members if identity in self.vm]

    def volumes_of(self, dataset: p.Dataset) -> set[tuple[str, str]]:
        """(SVM, name) of the volumes of a dataset's VMs."""
        return {(lun.svm, lun.volume) for vm in self.members(dataset) for lun in self.luns(vm)}

    def snapinfo(self, host: f.Host) -> str:
        """A host's SnapInfo folder, "" if it is not set."""
        return host.value(f.SMHV_KEY, "SnapInfoPath")

    def snapinfo_luns(self) -> set[f.Lun]:
        """The LUNs that hold SnapInfo."""
        homes = (self.home(host.name, path) for host in self.hosts if (path := self.snapinfo(host)))
        return {home.lun for home in homes if home is not None and home.lun is not None}


def same_guid(one: str, other: str) -> bool:
    """Whether two GUIDs are one, with or without braces."""
    return bool(one) and bare(one) == bare(other)


def bare(guid: str) -> str:
    """A GUID without braces, in lower case."""
    return guid.strip("{}").casefold()
