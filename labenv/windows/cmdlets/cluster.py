"""The cluster and its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from labenv.windows.call import Call, Cmdlet
from labenv.windows.cluster import shapes as shape
from labenv.windows.cluster.errors import ClusterProblem, not_found
from labenv.windows.cluster.records import DISK
from labenv.windows.cmdlets.clustertargets import cluster_of, guarded, nodes, problem, waited
from labenv.windows.cmdlets.targets import objects, prop, texts
from labenv.windows.objects import PsObject

if TYPE_CHECKING:
    from labenv.windows.host import Host


def get_cluster(host: Host, call: Call) -> Sequence[object]:
    """Get-Cluster."""
    return [shape.cluster(cluster_of(host, call, parameter="Name"))]


def get_cluster_node(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterNode."""
    made = cluster_of(host, call)
    return [shape.node(made, n) for n in nodes(made, call)]


async def start_cluster_node(host: Host, call: Call) -> Sequence[object]:
    """Start-ClusterNode: starts the cluster service; of this node if none is named."""
    made = host.cluster
    if made is None:
        cluster_of(host, call)
        return []
    chosen = nodes(made, call) if texts(call.get("Name")) or call.input else [made.nodes[host.name]]
    for node in chosen:
        name = node.name

        async def start(name: str = name) -> None:
            await made.membership.start(name)

        await waited(made, call, start)
    return [shape.node(made, made.nodes[n.name]) for n in chosen]


async def stop_cluster_node(host: Host, call: Call) -> Sequence[object]:
    """Stop-ClusterNode: its groups move to other nodes, then its cluster service stops."""
    made = cluster_of(host, call)
    chosen = nodes(made, call) if texts(call.get("Name")) or call.input else [made.nodes[host.name]]
    for node in chosen:
        name = node.name

        async def stop(name: str = name) -> None:
            await made.membership.stop(name)

        await waited(made, call, stop)
    return [shape.node(made, made.nodes[n.name]) for n in chosen]


async def suspend_cluster_node(host: Host, call: Call) -> Sequence[object]:
    """Suspend-ClusterNode: pauses a node; with -Drain its groups move away, live where that is possible."""
    made = cluster_of(host, call)
    chosen = nodes(made, call) if texts(call.get("Name")) or call.input else [made.nodes[host.name]]
    target = made.node_named(str(call.get("TargetNode") or ""))
    if call.get("TargetNode") and target is None:
        raise not_found("node", call["TargetNode"])
    for node in chosen:
        await host.spend("windows.cluster.resource")
        drain = made.membership.pause(
            node.name, drain=bool(call.get("Drain")), target=target.name if target is not None else ""
        )
        if call.get("Drain") and not call.get("Wait"):
            made.clock.spawn(_quietly(drain, made.state.commit), name=f"drain {node.name}")
            await made.clock.sleep(1)
        else:
            await guarded(call, drain)
    return [shape.node(made, made.nodes[n.name]) for n in chosen]


async def _quietly(operation: object, commit: object) -> None:
    try:
        await operation  # type: ignore[misc]  # a coroutine
    except ClusterProblem:
        return  # the node's DrainStatus says so
    finally:
        commit()  # type: ignore[operator]


async def resume_cluster_node(host: Host, call: Call) -> Sequence[object]:
    """Resume-ClusterNode: ends a pause."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.resource")
    chosen = nodes(made, call) if texts(call.get("Name")) or call.input else [made.nodes[host.name]]
    for node in chosen:
        try:
            made.membership.resume(node.name)
        except ClusterProblem as error:
            call.error(problem(call, error, target=node.name))
    return [shape.node(made, made.nodes[n.name]) for n in chosen]


def get_cluster_quorum(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterQuorum."""
    return [shape.quorum(cluster_of(host, call))]


async def set_cluster_quorum(host: Host, call: Call) -> Sequence[object]:
    """Set-ClusterQuorum: a disk witness, or none."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.resource")
    name = str(call.get("DiskWitness") or call.get("DiskOnly") or "")
    if name:
        resource = made.resource_named(name)
        if resource is None or resource.kind != DISK:
            raise not_found("resource", name)
        try:
            made.disks.make_witness(resource)
        except ClusterProblem as error:
            raise problem(call, error, target=name) from error
    elif call.get("NoWitness"):
        made.disks.make_witness(None)
    else:
        raise problem(call, ClusterProblem("The lab has disk witnesses only."))
    return [shape.quorum(made)]


def get_cluster_network(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterNetwork."""
    made = cluster_of(host, call)
    wanted = [n.lower() for n in texts(call.get("Name"))]
    found = [n for n in made.spec.networks if not wanted or n.name.lower() in wanted]
    for name in wanted:
        if all(n.name.lower() != name for n in found):
            call.error(not_found("network", name))
    return [shape.network(made, n) for n in found]


def get_cluster_network_interface(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterNetworkInterface."""
    made = cluster_of(host, call)
    only = [n.lower() for n in texts(call.get("Node"))]
    networks = [n.lower() for n in texts(call.get("Network"))]
    return [
        shape.network_interface(made, network, node)
        for node in made.nodes.values()
        for network in made.spec.networks
        if (not only or node.name.lower() in only) and (not networks or network.name.lower() in networks)
    ]


def get_cluster_owner_node(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterOwnerNode: preferred owners of a group, possible owners of a resource."""
    made = cluster_of(host, call)
    group_name, resource_name = _named(call)
    if resource_name:
        resource = made.resource_named(resource_name)
        if resource is None:
            raise not_found("resource", resource_name)
        names = made.resources.possible_owners(resource)
        return [shape.owner_nodes(resource.name, "ClusterResource", [shape.owner_node(made, n) for n in names])]
    group = made.group_named(group_name)
    if group is None:
        raise not_found("group", group_name)
    return [shape.owner_nodes(group.name, "ClusterGroup", [shape.owner_node(made, n) for n in group.preferred])]


def _named(call: Call) -> tuple[str, str]:
    group, resource = str(call.get("Group") or ""), str(call.get("Resource") or "")
    for item in objects(call, "InputObject"):
        if _kind(item) == "ClusterGroup":
            group = str(prop(item, "Name"))
        elif _kind(item) in ("ClusterResource", "ClusterSharedVolume"):
            resource = str(prop(item, "Name"))
    return group, resource


def _kind(item: PsObject) -> str:
    return item.types[0].rpartition(".")[2]


async def set_cluster_owner_node(host: Host, call: Call) -> None:
    """Set-ClusterOwnerNode."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.resource")
    owners = []
    for name in texts(call["Owners"]):
        node = made.node_named(name)
        if node is None:
            raise not_found("node", name)
        owners.append(node.name)
    group_name, resource_name = _named(call)
    if resource_name:
        resource = made.resource_named(resource_name)
        if resource is None:
            raise not_found("resource", resource_name)
        made.put_resource(replace(resource, owners=tuple(owners)))
        return
    group = made.group_named(group_name)
    if group is None:
        raise not_found("group", group_name)
    made.put_group(replace(group, preferred=tuple(owners)))


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-Cluster": get_cluster,
    "Get-ClusterNode": get_cluster_node,
    "Start-ClusterNode": start_cluster_node,
    "Stop-ClusterNode": stop_cluster_node,
    "Suspend-ClusterNode": suspend_cluster_node,
    "Resume-ClusterNode": resume_cluster_node,
    "Get-ClusterQuorum": get_cluster_quorum,
    "Set-ClusterQuorum": set_cluster_quorum,
    "Get-ClusterNetwork": get_cluster_network,
    "Get-ClusterNetworkInterface": get_cluster_network_interface,
    "Get-ClusterOwnerNode": get_cluster_owner_node,
    "Set-ClusterOwnerNode": set_cluster_owner_node,
}
"""The cmdlets of this module."""
