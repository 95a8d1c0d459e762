"""What a clustered VM's role is set to, kept in SnapInfo so that it comes back after a disaster (TR 8, step 7).

A role is made anew at the other site and again at home; what an administrator had set of it would be lost both times.
It is recorded while the site is alive (protect, migrate, reverse), travels with SnapInfo, and is given to the new role.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import msgspec

from smhvlab.errors import PowerShellError
from smhvlab.site import Site
from smhvlab.wires.powershell import PowerShellWire, Record, Running
from smhvlab.wires.wave import collect

if TYPE_CHECKING:
    from smhvlab.snapinfo import SnapInfo

PART = "Roles"
"""Folder of SnapInfo: one below it for each cluster, in that a file for each time that something had changed."""

_MACHINE = "Virtual Machine"
_PROPERTIES = ("Priority", "AutoFailbackType", "FailoverThreshold", "FailoverPeriod")


class Named(Protocol):
    """A VM."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Role:
    """What the role of a VM is set to.

    Attributes:
        vm: id of the VM, ``name`` that of its role.
        priority: 3000 high, 2000 medium, 1000 low, 0: it is not started by itself.
        preferred: nodes that should have it, best first.
        possible: nodes that may have it; empty: all.
        failback: 1 if it goes back to its preferred owner, else 0.
        threshold, period: how many failures within how many hours move it.
    """

    vm: str
    name: str
    priority: int = 2000
    preferred: tuple[str, ...] = ()
    possible: tuple[str, ...] = ()
    failback: int = 0
    threshold: int = 0xFFFFFFFF
    period: int = 6

    def told(self, nodes: Collection[str]) -> str:
        """What of it is set on a cluster of these nodes, as a plan shows it."""
        parts = [f"priority {self.priority}"]
        for what, owners in (("preferred", self.preferred), ("possible", self.possible)):
            here = known(owners, nodes)
            if owners and not here:
                parts.append(f"{what} owners {', '.join(owners)} are no nodes here")
            elif owners:
                parts.append(f"{what} owners {', '.join(here)}")
        if self.failback:
            parts.append("failback")
        return ", ".join(parts)


def known(owners: Iterable[str], nodes: Collection[str]) -> tuple[str, ...]:
    """The owners that are nodes of a cluster, in their order and as the cluster writes them."""
    names = {name.casefold(): name for name in nodes}
    return tuple(names[owner.casefold()] for owner in owners if owner.casefold() in names)


def read_roles(site: Site, vms: Collection[str]) -> tuple[Role, ...]:
    """What the roles of VMs, given by their ids, are set to; VMs that are no roles, or no cluster, are left out."""
    nodes = site.tools().nodes
    if nodes.cluster is None or not vms:
        return ()
    host, vms = nodes.own().host, tuple(vms)
    machines = _machines(host)
    answers = collect(
        host.begin("Get-ClusterGroup", {"VMId": vm}, select=("Name", *_PROPERTIES), error_action="Continue")
        for vm in vms
    )
    groups = dict(zip(vms, answers, strict=True))
    found = [(vm, records[0]) for vm, records in groups.items() if records]
    owners = collect(
        host.begin("Get-ClusterOwnerNode", wanted, select=("OwnerNodes",))
        for _, group in found
        for wanted in ({"Group": str(group["Name"])}, {"Resource": machines[str(group["Name"])]})
    )
    names = [tuple(_name(node) for record in output for node in record["OwnerNodes"] or ()) for output in owners]
    everywhere = {name.casefold() for name in nodes}
    roles = []
    for (vm, group), preferred, possible in zip(found, names[::2], names[1::2], strict=True):
        priority, failback, threshold, period = (int(group[name]) for name in _PROPERTIES)
        limited = {name.casefold() for name in possible} != everywhere
        roles.append(
            Role(
                vm=vm,
                name=str(group["Name"]),
                priority=priority,
                preferred=preferred,
                possible=possible if limited else (),
                failback=failback,
                threshold=threshold,
                period=period,
            )
        )
    return tuple(sorted(roles, key=lambda role: (role.name, role.vm)))


def set_or_tell(site: Site, roles: Sequence[Role]) -> str:
    """As ``ensure_set``; a host that refuses is told of, for a VM must start after a disaster whatever its priority."""
    try:
        ensure_set(site, roles)
    except PowerShellError as error:
        return f"what the roles were set to is left to do ({error.message}): see Roles in SnapInfo"
    return ""


def ensure_set(site: Site, roles: Sequence[Role]) -> None:
    """The roles of these VMs are set so, as far as the nodes that they name are nodes of this cluster."""
    nodes = site.tools().nodes
    if nodes.cluster is None or not roles:
        return
    now = {role.vm: role for role in read_roles(site, [role.vm for role in roles])}
    collect(_begin_changes(nodes.own().host, roles, now, names=tuple(nodes)))


def _begin_changes(
    host: PowerShellWire, roles: Sequence[Role], now: Mapping[str, Role], *, names: tuple[str, ...]
) -> Iterator[Running]:
    machines = _machines(host)
    for role in roles:
        present = now.get(role.vm)
        if present is None:
            continue
        for owners, have, target in (
            (known(role.preferred, names), present.preferred, {"Group": present.name}),
            (known(role.possible, names), present.possible, {"Resource": machines[present.name]}),
        ):
            if owners and owners != have:
                yield host.begin("Set-ClusterOwnerNode", {**target, "Owners": list(owners)})
        wanted = _properties(role)
        if wanted != _properties(present):
            name = present.name.replace("\\", "\\\\").replace('"', '\\"')
            query = {
                "Namespace": "root/MSCluster",
                "Query": f'SELECT * FROM MSCluster_ResourceGroup WHERE Name="{name}"',  # noqa: S608  # WQL, and escaped
                "Property": wanted,
            }
            yield host.begin("Set-CimInstance", query)


def record(site: Site, roles: Sequence[Role], snapinfo: SnapInfo, *, cluster: str) -> None:
    """Keep what the roles of a cluster are set to in a SnapInfo, if it is not what was recorded last."""
    if not roles:
        return
    before = {role.vm: role for role in recorded(snapinfo).get(cluster, ())}
    after = before | {role.vm: role for role in roles}
    if after == before:
        return
    text = msgspec.json.encode(sorted(after.values(), key=lambda role: (role.name, role.vm))).decode()
    leaf = site.now().strftime("%Y-%m-%d_%H.%M.%S.json")
    snapinfo.write_once(f"{snapinfo.folder()}\\{PART}\\{cluster}", leaf, text, "//")


def recorded(snapinfo: SnapInfo) -> dict[str, tuple[Role, ...]]:
    """The last record of each cluster that can be read in a SnapInfo, the newest one last."""
    files = [path for path in snapinfo.files(PART) if path.endswith(".json") and path.split("\\")[-3] == PART]
    read, _ = (
        snapinfo.read_sound(files, "//", partial(msgspec.json.decode, type=tuple[Role, ...])) if files else ({}, {})
    )
    newest = {path.split("\\")[-2]: path for path in sorted(read)}
    return {name: read[newest[name]] for name in sorted(newest, key=lambda name: newest[name].rpartition("\\")[2])}


def told_roles(vms: Sequence[Named], roles: Sequence[Role], nodes: Collection[str], *, cluster: str) -> tuple[str, ...]:
    """The roles that are made of VMs, and what they are set to, as a plan shows it."""
    wanted = {role.vm: f": {role.told(nodes)}" for role in roles}
    return tuple(f"role {vm.name} of {cluster}{wanted.get(vm.id, '')}" for vm in vms)


def roles_for(snapinfo: SnapInfo, vms: Collection[str], *, cluster: str) -> tuple[Role, ...]:
    """What the roles of VMs are to be on a cluster: as was recorded last; owners as they were on that cluster."""
    books = recorded(snapinfo)
    last = {role.vm: role for roles in books.values() for role in roles}
    own = {role.vm: role for role in books.get(cluster, ())}
    return tuple(with_owners(last[vm], own.get(vm)) for vm in vms if vm in last)


def with_owners(role: Role, own: Role | None) -> Role:
    """A role with the owners that it had on a cluster, whose nodes alone they can name."""
    if own is None:
        return role
    return replace(role, preferred=own.preferred, possible=own.possible)


def _machines(host: PowerShellWire) -> dict[str, str]:
    """The resource that is a VM, by its group."""
    resources = host.run("Get-ClusterResource", select=("Name", "ResourceType", "OwnerGroup"))
    return {_name(r["OwnerGroup"]): str(r["Name"]) for r in resources if _name(r["ResourceType"]) == _MACHINE}


def _properties(role: Role) -> dict[str, int]:
    return dict(zip(_PROPERTIES, (role.priority, role.failback, role.threshold, role.period), strict=True))


def _name(value: object) -> str:
    return str(value["Name"]) if isinstance(value, Record) and "Name" in value else str(value)
