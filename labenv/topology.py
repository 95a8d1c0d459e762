"""The sites that can be started: TOML files, checked field by field."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from labenv.windows.inventory import Inventory

ERAS = ("2008r2", "2012", "2022")
"""SMHV 1.1 on Windows Server 2008 R2; SMHV 1.2 on 2012; today's Windows Server."""

SERVICES = ("iscsi", "management", "intercluster")
"""What a LIF can be for."""

ROLES = ("", "csv", "witness", "shared")
"""What a disk can be in a failover cluster."""

_ACCESS_PATH = re.compile(r"[A-Z]:\\")
_UNITS = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


class TopologyError(Exception):
    """A topology does not exist or its file does not fit; the message names the file, the field and the reason."""


class Size(int):
    """Bytes; written in a topology as an integer or as text such as ``"20GB"`` (units of 1024)."""


NOTHING = Size(0)
"""No bytes."""


@dataclass(frozen=True)
class Aggregate:
    """An aggregate and the node that owns it."""

    name: str
    node: str
    size: Size


@dataclass(frozen=True)
class Lif:
    """A logical interface; ``service`` is ``iscsi``, ``management`` or ``intercluster``."""

    name: str
    address: str
    node: str
    service: str


@dataclass(frozen=True)
class Svm:
    """An SVM (the TR's Vserver)."""

    name: str
    iscsi: bool
    lif: tuple[Lif, ...]


@dataclass(frozen=True)
class Cluster:
    """A storage cluster; ``site`` says where it stands (empty: all at one site), ``lif`` are its own interfaces.

    ``spares`` are disks that belong to no aggregate yet.
    """

    name: str
    version: str
    nodes: tuple[str, ...]
    snapshot_limit: int
    licences: tuple[str, ...]
    management: str
    aggregate: tuple[Aggregate, ...]
    svm: tuple[Svm, ...]
    site: str = ""
    lif: tuple[Lif, ...] = ()
    spares: Size = NOTHING


@dataclass(frozen=True)
class HyperVHost:
    """A Hyper-V host, where its LUNs come from, and its SnapInfo folder (empty: not set up)."""

    name: str
    address: str
    iqn: str
    storage: str
    svm: str
    igroup: str
    snapinfo: str = ""


@dataclass(frozen=True)
class Failover:
    """A failover cluster of hosts; ``igroup`` gets the initiators of all its nodes."""

    name: str
    nodes: tuple[str, ...]
    address: str
    igroup: str


@dataclass(frozen=True)
class Disk:
    """A LUN on a volume of its own, connected and formatted on a host.

    On a node of a failover cluster ``role`` says what it is there: empty (only this node sees it), ``csv`` (a cluster
    shared volume at ``access_path``), ``witness``, or ``shared`` (a cluster disk, in the group ``group`` if that is
    given, else in Available Storage). ``nodes``: only these are shown the LUN (asymmetric storage, TR 11.3).
    """

    host: str
    aggregate: str
    volume: str
    volume_size: Size
    lun: str
    lun_size: Size
    access_path: str
    label: str
    role: str = ""
    group: str = ""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GoldenVhd:
    """A fixed VHD of the golden image and the drive letter of its volume inside the guest."""

    name: str
    size: Size
    letter: str


@dataclass(frozen=True)
class GoldenDatabase:
    """A database of the golden image with the guest paths of its data and log file."""

    name: str
    data: str
    log: str


@dataclass(frozen=True)
class Golden:
    """The golden image (TR 2.2): a generalised guest on a volume of its own, and its Snapshot copy."""

    host: str
    aggregate: str
    volume: str
    volume_size: Size
    lun: str
    lun_size: Size
    access_path: str
    vm: str
    snapshot: str
    vhd: tuple[GoldenVhd, ...]
    database: tuple[GoldenDatabase, ...]


@dataclass(frozen=True)
class Vm:
    """A VM made from the golden image: on a FlexClone volume of its own (``volume``) or copied to ``path``.

    ``clustered``: it is a role of the failover cluster.
    """

    host: str
    name: str
    volume: str = ""
    path: str = ""
    clustered: bool = False


@dataclass(frozen=True)
class Change:
    """What somebody did to the site after it was built: a cmdlet on a host, or a request to an array.

    Attributes:
        host, cmdlet, parameters: run the cmdlet there.
        cluster, method, path, body: send the request; a path begins behind ``/api``.
        find: values of the one record of the path that is meant: its uuid is added to the path.
    """

    host: str = ""
    cmdlet: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    cluster: str = ""
    method: str = ""
    path: str = ""
    find: Mapping[str, object] = field(default_factory=dict)
    body: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Topology:
    """A whole site and what lives on it when it starts."""

    name: str
    title: str
    start: datetime
    era: str
    cluster: tuple[Cluster, ...]
    host: tuple[HyperVHost, ...]
    golden: Golden
    disk: tuple[Disk, ...] = ()
    vm: tuple[Vm, ...] = ()
    failover: tuple[Failover, ...] = ()
    inventory: tuple[Inventory, ...] = ()
    change: tuple[Change, ...] = ()

    def failover_of(self, host: str) -> Failover | None:
        """The failover cluster that a host is a node of."""
        return next((f for f in self.failover if host in f.nodes), None)

    def inventory_of(self, host: str) -> Inventory:
        """What is installed on a host, as far as it is unusual: of all tables that concern it, the later ones win."""
        found = Inventory()
        for each in self.inventory:
            if host in each.hosts or not each.hosts:
                found = found.changed_by(each)
        return found


def names() -> list[str]:
    """Names of the topologies that ship with the lab."""
    folder = files("labenv") / "topologies"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(name: str) -> Topology:
    """A shipped topology by name, or any topology by the path of its TOML file.

    A shipped one in another era has that behind its name: ``standalone-2022``.

    Raises:
        TopologyError: no such topology, or its file has a field that does not fit.
    """
    base, _, era = name.rpartition("-")
    other = {"era": era} if base in names() and era in ERAS else {}
    if name in names() or other:
        shipped = base if other else name
        text, where = (files("labenv") / "topologies" / f"{shipped}.toml").read_text("utf-8"), f"topology {name}"
    elif name.endswith(".toml"):
        try:
            text, where = Path(name).read_text("utf-8"), name
        except OSError as error:
            raise TopologyError(f"{name}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise TopologyError(f"{name}: not valid TOML: {error}") from error
    else:
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        if base in names():
            hint = f"; {base!r} is one, in the eras {', '.join(ERAS)}"
        raise TopologyError(f"no topology {name!r}: one of {', '.join(names())}, or the path of a .toml file{hint}")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TopologyError(f"{where}: not valid TOML: {error}") from error
    topology = typing.cast(Topology, _build(Topology, {"name": Path(name).stem, **tables, **other}, where, ""))
    _check(topology, where)
    return topology


def _build(kind: type, value: object, where: str, path: str) -> object:
    if not isinstance(value, Mapping):
        raise TopologyError(f"{where}: {path.removesuffix('.') or 'the file'} must be a table")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for key in value:
        if key not in fields:
            close = difflib.get_close_matches(key, list(fields), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(fields)}"
            raise TopologyError(f"{where}: unknown field {path + key!r}; {hint}")
    arguments: dict[str, object] = {}
    for key, known in fields.items():
        if key in value:
            arguments[key] = _convert(hints[key], value[key], where, path + key)
        elif known.default is dataclasses.MISSING and known.default_factory is dataclasses.MISSING:
            raise TopologyError(f"{where}: field {path + key!r} is missing")
    built: object = kind(**arguments)
    return built


def _convert(hint: object, value: object, where: str, path: str) -> object:
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list):
            raise TopologyError(f"{where}: {path} must be a list")
        inner = typing.get_args(hint)[0]
        return tuple(_convert(inner, item, where, f"{path}[{i}]") for i, item in enumerate(value))
    if hint is Size:
        return _size(value, where, path)
    if origin is Mapping:
        if not isinstance(value, dict):
            raise TopologyError(f"{where}: {path} must be a table")
        return value
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build(hint, value, where, path + ".")
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    wanted = getattr(hint, "__name__", str(hint))
    raise TopologyError(f"{where}: {path} is {value!r}, which is not of type {wanted}")


def _size(value: object, where: str, path: str) -> Size:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return Size(value)
    if isinstance(value, str):
        number, unit = value[:-2].strip(), value[-2:].upper()
        if unit in _UNITS and number.isdecimal() and int(number):
            return Size(int(number) * _UNITS[unit])
    raise TopologyError(f'{where}: {path} is {value!r}; write a size as bytes or like "20GB" (KB, MB, GB, TB)')


def _check(topology: Topology, where: str) -> None:
    """What the types cannot say: names that are used are defined once, and what is needed is there."""
    if topology.era not in ERAS:
        raise TopologyError(f"{where}: era is {topology.era!r}; one of {', '.join(ERAS)}")
    if topology.start.tzinfo is None:
        raise TopologyError(f"{where}: start needs a time zone, e.g. {topology.start.isoformat()}Z")
    for kind, things in (("cluster", topology.cluster), ("host", topology.host), ("golden.vhd", topology.golden.vhd)):
        if not things:
            raise TopologyError(f"{where}: {kind} is empty; a site needs at least one")
    machines = [c.name for c in topology.cluster] + [h.name for h in topology.host]
    _once(machines + [f.name for f in topology.failover], where, "name of a cluster or host")
    for cluster in topology.cluster:
        _check_cluster(cluster, where)
    addresses = [lif.address for c in topology.cluster for lif in (*c.lif, *(x for s in c.svm for x in s.lif))]
    _once([*addresses, *(c.management for c in topology.cluster)], where, "address")
    clusters = {c.name: c for c in topology.cluster}
    for host in topology.host:
        _known(host.storage, clusters, where, f"storage of host {host.name}")
        svms = {s.name: s for s in clusters[host.storage].svm}
        _known(host.svm, svms, where, f"svm of host {host.name}")
        if not svms[host.svm].iscsi or all(lif.service != "iscsi" for lif in svms[host.svm].lif):
            raise TopologyError(f"{where}: svm of host {host.name} is {host.svm!r}, which has no iSCSI LIF")
    for inventory in topology.inventory:
        for name in inventory.hosts:
            _known(name, [each.name for each in topology.host], where, "host of an inventory")
    for failover in topology.failover:
        _check_failover(topology, failover, where)
    for change in topology.change:
        if bool(change.cmdlet) == bool(change.method):
            raise TopologyError(f"{where}: a change needs either cmdlet or method, and not both")
        if change.cmdlet:
            _known(change.host, [each.name for each in topology.host], where, f"host of the change {change.cmdlet}")
        else:
            _known(change.cluster, clusters, where, f"cluster of the change {change.method} {change.path}")
    _check_contents(topology, where)


def _check_failover(topology: Topology, failover: Failover, where: str) -> None:
    hosts = {h.name: h for h in topology.host}
    if len(failover.nodes) < 2:
        raise TopologyError(f"{where}: nodes of failover {failover.name} are fewer than two")
    for node in failover.nodes:
        _known(node, hosts, where, f"node of failover {failover.name}")
    stores = {(hosts[n].storage, hosts[n].svm) for n in failover.nodes}
    if len(stores) > 1:
        raise TopologyError(f"{where}: nodes of failover {failover.name} do not all use one SVM")
    _once([n for f in topology.failover for n in f.nodes], where, "node of a failover")
    _once([*(f.igroup for f in topology.failover), *(h.igroup for h in topology.host)], where, "igroup")
    witnesses = [d.volume for d in topology.disk if d.host in failover.nodes and d.role == "witness"]
    if len(witnesses) > 1:
        raise TopologyError(f"{where}: failover {failover.name} has {len(witnesses)} witness disks; at most one")


def _check_cluster(cluster: Cluster, where: str) -> None:
    here = f"of cluster {cluster.name}"
    if not cluster.nodes or not cluster.aggregate:
        raise TopologyError(f"{where}: {'aggregate' if cluster.nodes else 'nodes'} {here} is empty")
    if cluster.snapshot_limit < 1:
        raise TopologyError(f"{where}: snapshot_limit {here} is {cluster.snapshot_limit}; at least 1")
    numbers = tuple(int(part) for part in cluster.version.split(".") if part.isdigit())
    most = 1023 if numbers >= (9, 4) else 255
    if cluster.snapshot_limit > most:
        limit = f"at most {most} in ONTAP {cluster.version}"
        raise TopologyError(f"{where}: snapshot_limit {here} is {cluster.snapshot_limit}; {limit}")
    _once(cluster.nodes, where, f"node {here}")
    _once([a.name for a in cluster.aggregate], where, f"aggregate {here}")
    _once([s.name for s in cluster.svm], where, f"svm {here}")
    for aggregate in cluster.aggregate:
        _known(aggregate.node, cluster.nodes, where, f"node of aggregate {aggregate.name}")
    lifs = [*cluster.lif, *(lif for svm in cluster.svm for lif in svm.lif)]
    _once([cluster.management, *(lif.address for lif in lifs)], where, f"address {here}")
    for lif in lifs:
        _known(lif.node, cluster.nodes, where, f"node of LIF {lif.name}")
        _known(lif.service, SERVICES, where, f"service of LIF {lif.name}")


def _check_contents(topology: Topology, where: str) -> None:
    hosts = {h.name: h for h in topology.host}
    clusters = {c.name: c for c in topology.cluster}
    places: list[Golden | Disk] = [topology.golden, *topology.disk]
    for place in places:
        _known(place.host, hosts, where, f"host of volume {place.volume}")
        aggregates = [a.name for a in clusters[hosts[place.host].storage].aggregate]
        _known(place.aggregate, aggregates, where, f"aggregate of volume {place.volume}")
        if not _ACCESS_PATH.match(place.access_path):
            found = f"access_path of volume {place.volume} is {place.access_path!r}"
            raise TopologyError(f"{where}: {found}; write a drive or a folder on one, such as 'V:\\'")
    for disk in topology.disk:
        _known(disk.role, ROLES, where, f"role of volume {disk.volume}")
        if disk.role and topology.failover_of(disk.host) is None:
            raise TopologyError(f"{where}: role of volume {disk.volume} is {disk.role!r}, but {disk.host} is no node")
        failover = topology.failover_of(disk.host)
        for node in disk.nodes:
            _known(node, failover.nodes if failover is not None else (), where, f"node of volume {disk.volume}")
        if disk.nodes and (not disk.role or disk.host not in disk.nodes):
            raise TopologyError(f"{where}: nodes of volume {disk.volume} are for cluster disks, and name its host too")
        if disk.group and disk.role != "shared":
            raise TopologyError(f"{where}: group of volume {disk.volume} is for disks of the role 'shared' only")
    volumes = [place.volume for place in places] + [vm.volume for vm in topology.vm if vm.volume]
    _once(volumes, where, "volume")
    _once([vm.name for vm in topology.vm] + [topology.golden.vm], where, "name of a VM")
    letters = [vhd.letter for vhd in topology.golden.vhd]
    _once(letters, where, "letter of a golden.vhd")
    for database in topology.golden.database:
        for part in ("data", "log"):
            _known(getattr(database, part)[:1], letters, where, f"drive of {part} of golden.database {database.name}")
    for vm in topology.vm:
        _known(vm.host, hosts, where, f"host of VM {vm.name}")
        if bool(vm.volume) == bool(vm.path):
            raise TopologyError(f"{where}: VM {vm.name} needs either volume or path, and not both")
        if vm.clustered and topology.failover_of(vm.host) is None:
            raise TopologyError(f"{where}: VM {vm.name} is clustered, but {vm.host} is no node of a failover")


def _once(names: typing.Iterable[str], where: str, what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise TopologyError(f"{where}: {what} is {name!r} twice; names have to differ")
        seen.add(name)


def _known(name: str, known: typing.Iterable[str], where: str, what: str) -> None:
    options = list(known)
    if name not in options:
        raise TopologyError(f"{where}: {what} is {name!r}, which is not defined; one of {', '.join(options)}")
