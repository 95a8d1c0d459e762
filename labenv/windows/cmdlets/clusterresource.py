"""Resources of the cluster and their private properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from labenv.windows.call import Call, Cmdlet
from labenv.windows.cluster import log, parameters
from labenv.windows.cluster import shapes as shape
from labenv.windows.cluster import shapes_volumes as csv_shape
from labenv.windows.cluster.errors import ClusterProblem, not_found
from labenv.windows.cluster.records import ADDRESS, DISK, NAME, ONLINE, VM, VM_CONFIGURATION, ResourceRecord
from labenv.windows.cluster.resources import providers
from labenv.windows.cmdlets.clustertargets import cluster_of, one_resource, problem, resources, waited
from labenv.windows.cmdlets.item import matches
from labenv.windows.cmdlets.targets import many, texts

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster
    from labenv.windows.host import Host

TYPES = (ADDRESS, NAME, DISK, VM, VM_CONFIGURATION, "Cluster WMI Provider", "Distributed File System", "File Server")


def get_cluster_resource(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterResource; the disks of shared volumes only where they are named."""
    made = cluster_of(host, call)
    return [shape.resource(made, r) for r in resources(made, call)]


def _again(made: FailoverCluster, resource: ResourceRecord) -> Sequence[object]:
    current = made.resource(resource.id)
    return [csv_shape.shared_volume(made, current) if current.shared else shape.resource(made, current)]


async def start_cluster_resource(host: Host, call: Call) -> Sequence[object]:
    """Start-ClusterResource: online, with what it depends on."""
    made = cluster_of(host, call)
    resource = one_resource(made, call)
    await waited(made, call, partial(made.resources.online, resource))
    return _again(made, resource)


async def stop_cluster_resource(host: Host, call: Call) -> Sequence[object]:
    """Stop-ClusterResource: offline, after what depends on it. A shared volume vanishes from every node."""
    made = cluster_of(host, call)
    resource = one_resource(made, call)
    await waited(made, call, partial(made.resources.offline, resource))
    return _again(made, resource)


async def suspend_cluster_resource(host: Host, call: Call) -> Sequence[object]:
    """Suspend-ClusterResource: maintenance of a disk, or redirected access of a shared volume (-RedirectedAccess)."""
    return await _maintain(host, call, on=True)


async def resume_cluster_resource(host: Host, call: Call) -> Sequence[object]:
    """Resume-ClusterResource: ends maintenance, and redirected access that was asked for."""
    return await _maintain(host, call, on=False)


async def _maintain(host: Host, call: Call, *, on: bool) -> Sequence[object]:
    made = cluster_of(host, call)
    resource = one_resource(made, call)
    await host.spend("windows.cluster.resource")
    resource = made.resource(resource.id)
    try:
        if resource.kind != DISK:
            raise ClusterProblem(f"'{resource.name}' is not a disk: it has no maintenance.", code=1)
        if resource.state != ONLINE:
            raise ClusterProblem(f"'{resource.name}' is {resource.state}.", code=5004)
        if on and call.get("RedirectedAccess"):
            if not resource.shared:
                raise ClusterProblem(f"'{resource.name}' is not a Cluster Shared Volume.", code=5899)
            made.volumes.change(resource, redirected=True)
            if not made.spec.csvfs:  # version 1 says so on every other node, although nothing is wrong
                others = [h for h in made.members() if h.name != made.owner(resource)]
                for volume in made.volumes.of(resource):
                    log.volume_redirected(others, volume.path.rstrip("\\"), resource.name)
        else:
            made.put_resource(replace(resource, maintenance=on))
            if not on:
                made.volumes.change(resource, redirected=False)
    except ClusterProblem as error:
        raise problem(call, error, target=resource.name) from error
    return _again(made, resource)


async def move_cluster_resource(host: Host, call: Call) -> Sequence[object]:
    """Move-ClusterResource into another group; a disk comes along to the node that has the group."""
    made = cluster_of(host, call)
    resource = one_resource(made, call)
    group = made.group_named(str(call.get("Group") or ""))
    if group is None:
        raise not_found("group", call.get("Group") or "")
    await host.spend("windows.cluster.resource")
    try:
        if resource.shared or resource.kind in (VM, VM_CONFIGURATION):
            raise ClusterProblem(f"'{resource.name}' cannot be moved into another group.", code=5019)
        if any(made.resources.dependents(resource)) and group.id != resource.group:
            raise ClusterProblem(f"Other resources depend on '{resource.name}'.", code=5001)
        made.disks.change_group(resource, group)
    except ClusterProblem as error:
        raise problem(call, error, target=resource.name) from error
    return _again(made, resource)


async def remove_cluster_resource(host: Host, call: Call) -> None:
    """Remove-ClusterResource; a disk is offline afterwards, and any node may bring it online."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.resource")
    for resource in resources(made, call) if "Name" in call or call.input else []:
        try:
            if resource.shared:
                raise ClusterProblem(f"'{resource.name}' is a Cluster Shared Volume: remove that first.", code=5019)
            if resource.id == made.record.quorum:
                raise ClusterProblem(f"'{resource.name}' is the disk witness.", code=5068)
            if made.resources.dependents(resource) and not call.get("Force"):
                raise ClusterProblem(f"Other resources depend on '{resource.name}'.", code=5001)
            await made.resources.offline(resource)
            if resource.kind == DISK:
                made.disks.remove(made.resource(resource.id))
            else:
                del made.resource_table[str(resource.id)]
        except ClusterProblem as error:
            call.error(problem(call, error, target=resource.name))


async def add_cluster_resource_dependency(host: Host, call: Call) -> Sequence[object]:
    """Add-ClusterResourceDependency."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.resource")
    return _depend(made, call, add=True)


async def remove_cluster_resource_dependency(host: Host, call: Call) -> Sequence[object]:
    """Remove-ClusterResourceDependency."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.resource")
    return _depend(made, call, add=False)


def _depend(made: FailoverCluster, call: Call, *, add: bool) -> Sequence[object]:
    resource = made.resource_named(str(call.get("Resource") or ""))
    provider = made.resource_named(str(call.get("Provider") or ""))
    if resource is None or provider is None:
        raise not_found("resource", call.get("Resource") if resource is None else call.get("Provider"))
    names = [n for n in providers(resource) if n != provider.name]
    if not add and len(names) == len(providers(resource)):
        text = f"'{resource.name}' does not depend on '{provider.name}'."
        raise problem(call, ClusterProblem(text, code=5002), target=resource.name)
    if add and provider.group != resource.group:
        text = f"'{resource.name}' and '{provider.name}' are not in the same group."
        raise problem(call, ClusterProblem(text, code=5001), target=resource.name)
    names += [provider.name] if add else []
    depends = "(" + " and ".join(f"[{n}]" for n in names) + ")" if names else ""
    return [shape.resource(made, made.put_resource(replace(resource, depends=depends)))]


def get_cluster_resource_dependency(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterResourceDependency."""
    made = cluster_of(host, call)
    wanted = texts(call.get("Resource"))
    found = [r for r in made.resource_table.values() if not wanted or any(matches(r.name, w) for w in wanted)]
    for name in wanted:
        if not any(matches(r.name, name) for r in found):
            call.error(not_found("resource", name))
    return [shape.dependency(r) for r in found]


def get_cluster_resource_type(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterResourceType."""
    made = cluster_of(host, call)
    wanted = texts(call.get("Name"))
    return [shape.resource_type(made, t) for t in TYPES if not wanted or any(matches(t, w) for w in wanted)]


async def test_cluster_resource_failure(host: Host, call: Call) -> Sequence[object]:
    """Test-ClusterResourceFailure: the resource fails, and the cluster's policy brings it back."""
    made = cluster_of(host, call)
    resource = one_resource(made, call)
    await host.spend("windows.cluster.resource")
    try:
        await made.monitor.failed(made.resource(resource.id))
    except ClusterProblem as error:
        raise problem(call, error, target=resource.name) from error
    return _again(made, resource)


def get_cluster_parameter(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterParameter of a resource that comes through the pipeline."""
    made = cluster_of(host, call)
    resource = one_resource(made, Call(call.cmdlet, {"InputObject": call.get("InputObject")}, input=call.input))
    known = parameters.values(made, resource)
    wanted = texts(call.get("Name"))
    output: list[object] = []
    for name in wanted or list(known):
        hits = [n for n in known if matches(n, name)]
        if not hits and not any(c in name for c in "*?["):
            call.error(not_found("property", name))
        output += [shape.parameter(resource, n, known[n]) for n in hits]
    return output


async def set_cluster_parameter(host: Host, call: Call) -> None:
    """Set-ClusterParameter of a resource that comes through the pipeline."""
    made = cluster_of(host, call)
    resource = one_resource(made, Call(call.cmdlet, {"InputObject": call.get("InputObject")}, input=call.input))
    await host.spend("windows.cluster.resource")
    given: dict[str, object] = {}
    for table in many(call.get("Multiple")):
        if isinstance(table, Mapping):
            given.update({str(k): v for k, v in table.items()})
    if "Name" in call:
        given[str(call["Name"])] = call.get("Value")
    later = False
    try:
        for name, value in given.items():
            if call.get("Delete"):
                parameters.remove(made, made.resource(resource.id), name)
            else:
                later |= parameters.change(
                    made, made.resource(resource.id), name, value, create=bool(call.get("Create"))
                )
    except ClusterProblem as error:
        raise problem(call, error, target=resource.name) from error
    if later:
        call.warning(
            f"The properties were stored, but not all changes will take effect until {resource.name} is taken offline "
            "and then online again."
        )


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-ClusterResource": get_cluster_resource,
    "Start-ClusterResource": start_cluster_resource,
    "Stop-ClusterResource": stop_cluster_resource,
    "Suspend-ClusterResource": suspend_cluster_resource,
    "Resume-ClusterResource": resume_cluster_resource,
    "Move-ClusterResource": move_cluster_resource,
    "Remove-ClusterResource": remove_cluster_resource,
    "Add-ClusterResourceDependency": add_cluster_resource_dependency,
    "Remove-ClusterResourceDependency": remove_cluster_resource_dependency,
    "Get-ClusterResourceDependency": get_cluster_resource_dependency,
    "Get-ClusterResourceType": get_cluster_resource_type,
    "Test-ClusterResourceFailure": test_cluster_resource_failure,
    "Get-ClusterParameter": get_cluster_parameter,
    "Set-ClusterParameter": set_cluster_parameter,
}
"""The cmdlets of this module."""
