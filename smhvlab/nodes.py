"""The Hyper-V hosts of a site: one stand-alone host, or the nodes of one failover cluster (TR 5.1, 12)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from smhvlab.errors import ConnectionFailed, NoAnswer, NotFound, PowerShellError
from smhvlab.hyperv import HyperV, Vm
from smhvlab.profile import HostEndpoint
from smhvlab.snapdrive import HostDisk, SnapDrive
from smhvlab.sql import Sql
from smhvlab.wires.powershell import PowerShellWire, Record
from smhvlab.wires.wave import collect

REGISTRY = "HKLM:\\SOFTWARE\\NetApp\\SnapManager for Hyper-V\\Server"
"""Registry key of a host that holds SMHV's settings; SnapInfoPath is one of its values."""


@dataclass(frozen=True)
class Node:
    """One host and what can be done on it; belongs to one thread."""

    name: str
    host: PowerShellWire
    snapdrive: SnapDrive
    hyperv: HyperV
    sql: Sql


@dataclass(frozen=True)
class SharedVolume:
    """A cluster shared volume.

    Attributes:
        resource: name of its disk among the cluster's resources.
        path: where every node has it, with a final backslash.
        owner: the node that coordinates it.
        state: ``Online``, ``Offline``, ``Failed``, ...
        redirected: whether all access goes through the owner by somebody's wish (``Suspend-ClusterResource``).
    """

    resource: str
    path: str
    owner: str
    state: str
    redirected: bool


class Nodes:
    """The hosts of a site by name; each is opened when it is first used.

    Args:
        endpoints: the hosts, in the profile's order.
        opener: makes a node; it must not send anything yet.
    """

    def __init__(self, endpoints: Sequence[HostEndpoint], opener: Callable[[HostEndpoint], Node]) -> None:
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._opener = opener
        self._opened: dict[str, Node] = {}
        self._own: str | None = None
        self._build: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all hosts, also of those that are down."""
        return tuple(self._endpoints)

    @property
    def cluster(self) -> str | None:
        """Name of the failover cluster, None for a stand-alone host."""
        return next(iter(self._endpoints.values())).cluster

    def __getitem__(self, name: str) -> Node:
        """The host of a name, whatever its case. Raises NotFound."""
        for known, endpoint in self._endpoints.items():
            if known.casefold() == name.casefold():
                if known not in self._opened:
                    self._opened[known] = self._opener(endpoint)
                return self._opened[known]
        raise NotFound(
            f"The site has no host {name}", next_action=f"Its hosts are {', '.join(self._endpoints)}.", tr="5.1"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._endpoints)

    def __len__(self) -> int:
        return len(self._endpoints)

    def close(self) -> None:
        """End all sessions."""
        for node in self._opened.values():
            node.host.close()

    # --- which of them

    def up(self) -> tuple[Node, ...]:
        """The hosts that take part now: the only one, or the nodes that the cluster does not call Down.

        Raises:
            ConnectionFailed: none of them tells; NoAnswer only if none of them answers at all.
        """
        if self.cluster is None:
            return (self[self.names[0]],)
        failure: ConnectionFailed | None = None
        for name in self._by_use():
            try:
                records = self[name].host.run("Get-ClusterNode", select=("Name", "State"))
            except ConnectionFailed as error:
                failure = error if failure is None or isinstance(failure, NoAnswer) else failure
                continue
            down = {str(r["Name"]).casefold() for r in records if str(r["State"]) == "Down"}
            if self._own is not None and self._own.casefold() in down:
                self._own = None
            return tuple(self[name] for name in self.names if name.casefold() not in down)
        assert failure is not None
        raise failure

    def _by_use(self) -> list[str]:
        """Names of all hosts, that which was used last first."""
        return sorted(self._endpoints, key=lambda name: name != self._own)

    def own(self) -> Node:
        """The host on which SnapInfo is kept and surveys are made: that which has the SnapInfo disk now."""
        if self._own is None:
            self._own = self.names[0] if self.cluster is None else self._find_own()
        return self[self._own]

    def _find_own(self) -> str:
        nodes = self.up()
        try:
            records = nodes[0].host.run("Get-ItemProperty", {"LiteralPath": REGISTRY, "Name": "SnapInfoPath"})
        except PowerShellError:
            return nodes[0].name
        folder = str(records[0]["SnapInfoPath"]).rstrip("\\")
        for path in (folder, folder[:3]):
            for node in nodes:
                try:
                    if node.host.run("Test-Path", {"LiteralPath": path})[0]:
                        return node.name
                except ConnectionFailed:
                    continue  # it went down a moment ago, and the cluster does not know it yet
        return nodes[0].name

    def look_again(self) -> None:
        """Forget which host has the SnapInfo disk: it may have moved."""
        if self.cluster is not None:
            self._own = None

    # --- over all of them

    def vms(self, among: Sequence[Node] | None = None) -> list[Vm]:
        """The VMs of all hosts, by name; two requests on each, in waves."""
        nodes = self.up() if among is None else among
        answers = iter(collect(one for node in nodes for one in node.hyperv.begin_vms()))
        found = [vm for node in nodes for vm in node.hyperv.read_vms(next(answers), next(answers))]
        return sorted(found, key=lambda vm: (vm.name.casefold(), vm.id))

    def by_node(self, vm_ids: Collection[str]) -> list[tuple[Node, list[str]]]:
        """The hosts on which VMs are registered now, each with the ids of those; the others are left out."""
        found: dict[str, list[str]] = {}
        for vm in self.vms():
            if vm.id in vm_ids:
                found.setdefault(vm.host, []).append(vm.id)
        return [(self[host], some) for host, some in sorted(found.items())]

    def of_vm(self, vm_id: str) -> Node | None:
        """The host on which a VM is registered now, or None."""
        for vm in self.vms():
            if vm.id == vm_id:
                return self[vm.host]
        return None

    def disks(self, among: Sequence[Node] | None = None) -> list[HostDisk]:
        """The disks of all hosts; a disk of the cluster once for each, with access paths where it is online."""
        nodes = self.up() if among is None else among
        answers = iter(collect(one for node in nodes for one in node.snapdrive.begin_disks()))
        return [disk for node in nodes for disk in node.snapdrive.read_disks(next(answers), next(answers))]

    def coordinator(self) -> Node:
        """The node that owns the cluster itself (the group of its name and address); a stand-alone host."""
        if self.cluster is None:
            return self.own()
        records = self.own().host.run("Get-ClusterGroup", select=("IsCoreGroup", "GroupType", "OwnerNode"))
        owners = [_name_of(record["OwnerNode"]) for record in records if str(record["GroupType"]) == "Cluster"]
        return self[owners[0]] if owners else self.own()

    def build(self) -> int:
        """Build number of the hosts' Windows, e.g. 9200; asked once."""
        if self._build is None:
            system = self.own().host.run("Get-CimInstance", {"ClassName": "Win32_OperatingSystem"})[0]
            self._build = int(system["BuildNumber"])
        return self._build

    def blind(self) -> dict[str, list[str]]:
        """By the resource of each shared volume the nodes that do not see its disk, and reach it through another."""
        found: dict[str, list[str]] = {}
        if self.cluster is None:
            return found
        records = self.own().host.run(
            "Get-ClusterSharedVolumeState", select=("Name", "Node", "BlockRedirectedIOReason")
        )
        for record in records:
            if str(record["BlockRedirectedIOReason"]) == "NoDiskConnectivity":
                found.setdefault(str(record["Name"]), []).append(str(record["Node"]))
        return found

    def shared_volumes(self) -> list[SharedVolume]:
        """The cluster shared volumes, by path; none on a stand-alone host."""
        if self.cluster is None:
            return []
        records = self.own().host.run(
            "Get-ClusterSharedVolume", select=("Name", "OwnerNode", "State", "SharedVolumeInfo")
        )
        found = [
            SharedVolume(
                resource=str(record["Name"]),
                path=str(info["FriendlyVolumeName"]) + "\\",
                owner=_name_of(record["OwnerNode"]),
                state=str(record["State"]),
                redirected=bool(info["RedirectedAccess"]),
            )
            for record in records
            for info in _several(record["SharedVolumeInfo"])
        ]
        return sorted(found, key=lambda volume: volume.path.casefold())


def home_of(path: str, *, host: str, disks: Sequence[HostDisk], shared: Sequence[SharedVolume]) -> HostDisk | None:
    """The disk on which a path of a host lies: one of its own, or a shared volume wherever that is owned."""
    matches: list[tuple[int, HostDisk]] = []
    for disk in disks:
        for access in disk.access_paths:
            if not path.casefold().startswith(access.casefold()):
                continue
            if disk.host.casefold() == host.casefold() or access.casefold() in {v.path.casefold() for v in shared}:
                matches.append((len(access), disk))
    return max(matches, key=lambda match: match[0])[1] if matches else None


def _several(value: object) -> list[Record]:
    """What PowerShell gave as a list, or as the only thing that would have been in it."""
    return list(value) if isinstance(value, list) else [] if value is None else [value]  # type: ignore[list-item]


def _name_of(node: object) -> str:
    """Name of a node that came as an object or as its text."""
    try:
        return str(node["Name"])  # type: ignore[index]  # a Record
    except (TypeError, KeyError):
        return str(node)
