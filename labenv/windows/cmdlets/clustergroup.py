"""Groups of the cluster, and virtual machines as its roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.windows.call import Call, Cmdlet
from labenv.windows.cluster import shapes as shape
from labenv.windows.cluster.errors import ClusterProblem, not_found
from labenv.windows.cluster.records import OFFLINE, VM, VM_CONFIGURATION, GroupRecord
from labenv.windows.cmdlets.clustertargets import cluster_of, groups, node_name, one_group, problem, waited
from labenv.windows.cmdlets.targets import texts

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster
    from labenv.windows.host import Host


def get_cluster_group(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterGroup by name, by -VMId, of nodes, or all."""
    made = cluster_of(host, call)
    chosen = groups(made, call, everything=True)
    known = made.by_group() if len(chosen) > 1 else None
    return [shape.group(made, g, known.get(g.id, []) if known is not None else None) for g in chosen]


def _again(made: FailoverCluster, group: GroupRecord) -> Sequence[object]:
    return [shape.group(made, made.group(group.id))]


async def start_cluster_group(host: Host, call: Call) -> Sequence[object]:
    """Start-ClusterGroup: everything in it online."""
    made = cluster_of(host, call)
    group = one_group(made, call)
    if call.get("ChooseBestNode"):
        best = made.groups.best_node(group)
        if best not in (None, group.owner) and made.resources.group_state(group) == OFFLINE:
            made.groups.transfer(group, str(best))
    await host.spend("windows.cluster.resource")
    await waited(made, call, partial(made.groups.online, group))
    return _again(made, group)


async def stop_cluster_group(host: Host, call: Call) -> Sequence[object]:
    """Stop-ClusterGroup: everything in it offline; virtual machines are saved."""
    made = cluster_of(host, call)
    group = one_group(made, call)
    await host.spend("windows.cluster.resource")
    await waited(made, call, partial(made.groups.offline, group))
    return _again(made, group)


async def move_cluster_group(host: Host, call: Call) -> Sequence[object]:
    """Move-ClusterGroup to a node, or to the best other one."""
    made = cluster_of(host, call)
    group = one_group(made, call)
    target = _target(made, call, group)
    try:
        made.groups.check_target(group, target)
    except ClusterProblem as error:
        raise problem(call, error, target=group.name) from error
    await waited(made, call, partial(made.groups.move, group, target))
    return _again(made, group)


def _target(made: FailoverCluster, call: Call, group: GroupRecord) -> str:
    target = node_name(made, call) or made.groups.best_node(group, without=group.owner)
    if target is None:
        raise problem(call, ClusterProblem(f"There is no other node that can have '{group.name}'."), target=group.name)
    return target


async def add_cluster_group(host: Host, call: Call) -> Sequence[object]:
    """Add-ClusterGroup: empty groups."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.resource")
    output: list[object] = []
    for name in texts(call["Name"]):
        if made.group_named(name) is not None:
            call.error(problem(call, ClusterProblem(f"The group '{name}' exists already."), target=name))
            continue
        group = made.add_group(name, str(call.get("GroupType") or "Unknown"), host.name)
        output.append(shape.group(made, group))
    return output


async def remove_cluster_group(host: Host, call: Call) -> None:
    """Remove-ClusterGroup; what is in it must go first, or goes with it (-RemoveResources).

    Its disks go to Available Storage; its virtual machine stays registered, and is not clustered any more.
    """
    made = cluster_of(host, call)
    await host.spend("windows.cluster.resource")
    for group in groups(made, call):
        try:
            _remove(made, group, everything=bool(call.get("RemoveResources")))
        except ClusterProblem as error:
            call.error(problem(call, error, target=group.name))


def _remove(made: FailoverCluster, group: GroupRecord, *, everything: bool) -> None:
    if group.core:
        raise ClusterProblem(f"'{group.name}' is one of the cluster's own groups.", code=5075)
    if made.resources_of(group) and not everything:
        raise ClusterProblem(f"'{group.name}' still has resources: remove them first.", code=5015)
    if group.moving:
        raise ClusterProblem(f"'{group.name}' is being moved.", code=5908)
    for disk in made.disks.disks_of(group):
        made.disks.give_back(disk)
    if group.vm is not None:
        made.machines.remove(group)
        return
    for resource in made.resources_of(group):
        del made.resource_table[str(resource.id)]
    del made.group_table[str(group.id)]


async def add_cluster_virtual_machine_role(host: Host, call: Call) -> Sequence[object]:
    """Add-ClusterVirtualMachineRole: makes a virtual machine of any node highly available."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.role")
    name = str(call.get("VMName") or call.get("VirtualMachine") or "")
    identity: UUID | None = call.get("VMId")
    found = made.machines.find(identity=identity, name=name)
    if found is None:
        raise not_found("node's virtual machine", identity or name)
    try:
        group = made.machines.add(*found, name=str(call.get("Name") or ""))
    except ClusterProblem as error:
        raise problem(call, error, target=found[1].name) from error
    return [shape.group(made, group)]


async def move_cluster_virtual_machine_role(host: Host, call: Call) -> Sequence[object]:
    """Move-ClusterVirtualMachineRole: live by default; -Cancel ends a live migration that is under way."""
    made = cluster_of(host, call)
    group = one_group(made, call)
    if group.vm is None:
        raise problem(call, ClusterProblem(f"'{group.name}' is not a virtual machine."), target=group.name)
    if call.get("Cancel"):
        await host.spend("windows.cluster.resource")
        try:
            made.machines.cancel(made.group(group.id))
        except ClusterProblem as error:
            raise problem(call, error, target=group.name) from error
        return _again(made, group)
    target = _target(made, call, group)
    try:
        made.groups.check_target(group, target)
    except ClusterProblem as error:
        raise problem(call, error, target=group.name) from error
    kind = str(call.get("MigrationType") or "Live")
    operation = {
        "Live": partial(made.machines.live, group, target),
        "Quick": partial(made.machines.quick, group, target),
        "TurnOff": partial(made.machines.cold, group, target, shut_down=False),
        "Shutdown": partial(made.machines.cold, group, target, shut_down=True),
        "ShutdownForce": partial(made.machines.cold, group, target, shut_down=True),
    }[kind]
    await waited(made, call, operation)
    return _again(made, group)


async def update_cluster_virtual_machine_configuration(host: Host, call: Call) -> Sequence[object]:
    """Update-ClusterVirtualMachineConfiguration: the cluster follows what was changed on the virtual machine."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.resource")
    group = _of_configuration(made, call)
    try:
        made.machines.refresh_configuration(group)
    except ClusterProblem as error:
        raise problem(call, error, target=group.name) from error
    return [shape.resource(made, r) for r in made.resources_of(group) if r.kind == VM_CONFIGURATION]


def _of_configuration(made: FailoverCluster, call: Call) -> GroupRecord:
    name = str(call.get("Name") or "")
    resource = made.resource_named(name) if name else None
    if resource is not None and resource.kind in (VM, VM_CONFIGURATION):
        return made.group_of(resource)
    group = one_group(made, call)
    if group.vm is None:
        raise problem(call, ClusterProblem(f"'{group.name}' is not a virtual machine."), target=group.name)
    return group


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-ClusterGroup": get_cluster_group,
    "Start-ClusterGroup": start_cluster_group,
    "Stop-ClusterGroup": stop_cluster_group,
    "Move-ClusterGroup": move_cluster_group,
    "Add-ClusterGroup": add_cluster_group,
    "Remove-ClusterGroup": remove_cluster_group,
    "Add-ClusterVirtualMachineRole": add_cluster_virtual_machine_role,
    "Move-ClusterVirtualMachineRole": move_cluster_virtual_machine_role,
    "Update-ClusterVirtualMachineConfiguration": update_cluster_virtual_machine_configuration,
}
"""The cmdlets of this module."""
