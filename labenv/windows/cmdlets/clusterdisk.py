"""Disks of the cluster and its shared volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from labenv.windows.call import Call, Cmdlet
from labenv.windows.cluster import shapes as shape
from labenv.windows.cluster import shapes_volumes as csv_shape
from labenv.windows.cluster.errors import ClusterProblem, not_found
from labenv.windows.cluster.records import DISK
from labenv.windows.cmdlets.clustertargets import cluster_of, node_name, one_resource, problem, resources, waited
from labenv.windows.cmdlets.targets import objects, prop, texts

if TYPE_CHECKING:
    from labenv.windows.host import Host


def get_cluster_available_disk(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterAvailableDisk: disks that every node sees (-All: some) and that the cluster does not have."""
    made = cluster_of(host, call)
    output: list[object] = []
    for record in made.disks.candidates(everything=bool(call.get("All"))):
        finder = next((h for h in made.members() if made.disks.seen(record.unique_id, h.name)), host)
        output.append(shape.available_disk(made, record, finder, made.record.disks + len(output) + 1))
    return output


async def add_cluster_disk(host: Host, call: Call) -> Sequence[object]:
    """Add-ClusterDisk: disks that come through the pipeline, from Get-Disk or Get-ClusterAvailableDisk."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.disk")
    output: list[object] = []
    for item in objects(call, "InputObject"):
        unique_id = str(prop(item, "UniqueId") or "")
        try:
            output.append(shape.resource(made, made.disks.add(unique_id, finder=host)))
        except ClusterProblem as error:
            call.error(problem(call, error, target=prop(item, "Number")))
    return output


def get_cluster_shared_volume(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterSharedVolume."""
    made = cluster_of(host, call)
    return [csv_shape.shared_volume(made, r) for r in resources(made, call, shared=True)]


async def add_cluster_shared_volume(host: Host, call: Call) -> Sequence[object]:
    """Add-ClusterSharedVolume: a disk of Available Storage becomes a folder below C:\\ClusterStorage on every node."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.disk")
    output: list[object] = []
    for name in texts(call.get("Name")) or [str(prop(i, "Name")) for i in objects(call, "InputObject")]:
        resource = made.resource_named(name)
        if resource is None or resource.kind != DISK:
            call.error(not_found("resource", name))
            continue
        try:
            output.append(csv_shape.shared_volume(made, made.volumes.add(resource)))
        except ClusterProblem as error:
            call.error(problem(call, error, target=name))
    return output


async def remove_cluster_shared_volume(host: Host, call: Call) -> Sequence[object]:
    """Remove-ClusterSharedVolume: its disk goes back to Available Storage, its folder goes from every node."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.disk")
    output: list[object] = []
    for resource in resources(made, call, shared=True) if "Name" in call or call.input else []:
        try:
            output.append(shape.resource(made, made.volumes.remove(resource)))
        except ClusterProblem as error:
            call.error(problem(call, error, target=resource.name))
    return output


async def move_cluster_shared_volume(host: Host, call: Call) -> Sequence[object]:
    """Move-ClusterSharedVolume: another node coordinates it; virtual machines on it do not notice."""
    made = cluster_of(host, call)
    resource = one_resource(made, call, shared=True)
    group = made.group_of(resource)
    target = node_name(made, call) or made.groups.best_node(group, without=group.owner)
    try:
        if target is None:
            raise ClusterProblem(f"There is no other node that can have '{resource.name}'.")
        made.groups.check_target(group, target)
    except ClusterProblem as error:
        raise problem(call, error, target=resource.name) from error
    await waited(made, call, partial(made.groups.move, group, target))
    return [csv_shape.shared_volume(made, made.resource(resource.id))]


def get_cluster_shared_volume_state(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterSharedVolumeState: how each node reaches each shared volume."""
    made = cluster_of(host, call)
    wanted = [n.lower() for n in texts(call.get("Node"))]
    for name in wanted:
        if made.node_named(name) is None:
            call.error(not_found("node", name))
    return [
        csv_shape.shared_volume_state(made, resource, volume, member)
        for resource in resources(made, call, shared=True)
        for volume in made.volumes.of(resource)
        for member in made.members()
        if not wanted or member.name.lower() in wanted
    ]


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-ClusterAvailableDisk": get_cluster_available_disk,
    "Add-ClusterDisk": add_cluster_disk,
    "Get-ClusterSharedVolume": get_cluster_shared_volume,
    "Add-ClusterSharedVolume": add_cluster_shared_volume,
    "Remove-ClusterSharedVolume": remove_cluster_shared_volume,
    "Move-ClusterSharedVolume": move_cluster_shared_volume,
    "Get-ClusterSharedVolumeState": get_cluster_shared_volume_state,
}
"""The cmdlets of this module."""
