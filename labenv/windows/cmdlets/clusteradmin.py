"""The cluster as a whole: stopping and starting it, its log, who may use it, and resources made by hand."""

from __future__ import annotations

import ntpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cluster import log
from labenv.windows.cluster import shapes as shape
from labenv.windows.cluster.errors import ClusterProblem, not_found
from labenv.windows.cluster.resources import providers
from labenv.windows.cmdlets.clusterresource import TYPES
from labenv.windows.cmdlets.clustertargets import cluster_of, guarded, nodes, problem
from labenv.windows.cmdlets.targets import texts
from labenv.windows.errors import FileProblem
from labenv.windows.shapes_files import item
from labenv.windows.volumes import full_path

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster
    from labenv.windows.host import Host

_LEVELS = {1: "ERR", 2: "ERR", 3: "WARN", 4: "INFO"}


async def stop_cluster(host: Host, call: Call) -> None:
    """Stop-Cluster: the cluster service stops on every node; virtual machines are saved first."""
    made = cluster_of(host, call)
    for group in reversed(made.groups.ordered()):
        if group.vm is not None:
            await guarded(call, made.machines.save_if_running(group))
    await host.spend("windows.cluster.service")
    made.membership.stop_all()


async def start_cluster(host: Host, call: Call) -> Sequence[object]:
    """Start-Cluster: the cluster service starts on every node that is on; what was online comes online."""
    made = host.cluster
    if made is None:
        cluster_of(host, call, parameter="Name")
        return []
    for node in list(made.nodes.values()):
        if made.hosts[node.name].powered:
            await guarded(call, made.membership.start(node.name))
    return [shape.cluster(made)]


async def get_cluster_log(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterLog: writes NODE_cluster.log into the destination (or C:\\Windows\\Cluster\\Reports)."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.resource")
    folder = full_path(str(call.get("Destination") or "C:\\Windows\\Cluster\\Reports"))
    output: list[object] = []
    for node in nodes(made, call, "Node"):
        if not made.is_member(node.name):
            call.error(problem(call, ClusterProblem(f"The node '{node.name}' does not answer.", code=1722)))
            continue
        path = ntpath.join(folder, f"{node.name}_cluster.log")
        try:
            host.files.mkdir(folder)
            host.files.write(path, _log(made, node.name).encode())
        except FileProblem as error:
            raise problem(call, ClusterProblem(error.message), target=path) from error
        output.append(item(host, path, host.files.stat(path)))
    return output


def _log(made: FailoverCluster, node: str) -> str:
    lines = [f"[=== Cluster {made.spec.name} : {node} ===]"]
    lines += [f"[=== {n.name} : {n.state} : id {n.number} ===]" for n in made.nodes.values()]
    for event in reversed(made.hosts[node].events.newest_first()):
        if event.provider == log.PROVIDER:
            lines.append(f"{event.time:%Y/%m/%d-%H:%M:%S.000} {_LEVELS[event.level]:<5} [{event.id}] {event.message}")
    return "\r\n".join(lines) + "\r\n"


def get_cluster_access(host: Host, call: Call) -> Sequence[object]:
    """Get-ClusterAccess: administrators have full access."""
    made = cluster_of(host, call)
    users = ["BUILTIN\\Administrators", "NT AUTHORITY\\SYSTEM", f"{made.spec.domain}\\Administrator"]
    wanted = [u.lower() for u in texts(call.get("User"))]
    for name in wanted:
        if name not in (u.lower() for u in users):
            call.error(not_found("user", name))
    return [shape.access(u) for u in users if not wanted or u.lower() in wanted]


async def add_cluster_resource(host: Host, call: Call) -> Sequence[object]:
    """Add-ClusterResource: a resource without a life of its own, in a group, offline."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.resource")
    group = made.group_named(str(call.get("Group") or ""))
    if group is None:
        raise not_found("group", call.get("Group") or "")
    name, kind = str(call["Name"]), str(call["ResourceType"])
    known = {t.lower(): t for t in TYPES}
    if kind.lower() not in known:
        raise not_found("resource type", kind)
    if made.resource_named(name) is not None:
        raise problem(call, ClusterProblem(f"The resource '{name}' exists already.", code=5010), target=name)
    if known[kind.lower()] in ("Physical Disk", "Virtual Machine", "Virtual Machine Configuration"):
        text = f"The lab makes resources of type '{kind}' with Add-ClusterDisk and Add-ClusterVirtualMachineRole."
        raise problem(call, ClusterProblem(text), target=name)
    return [shape.resource(made, made.add_resource(name, known[kind.lower()], group))]


async def set_cluster_resource_dependency(host: Host, call: Call) -> None:
    """Set-ClusterResourceDependency: a whole expression such as ``([A] and [B])``; empty: none."""
    made = cluster_of(host, call)
    await host.spend("windows.cluster.resource")
    resource = made.resource_named(str(call.get("Resource") or ""))
    if resource is None:
        raise not_found("resource", call.get("Resource") or "")
    changed = replace(resource, depends=str(call.get("Dependency") or ""))
    for name in providers(changed):
        provider = made.resource_named(name)
        if provider is None:
            raise not_found("resource", name)
        if provider.group != resource.group:
            text = f"'{resource.name}' and '{name}' are not in the same group."
            raise problem(call, ClusterProblem(text, code=5001), target=resource.name)
    made.put_resource(changed)


_QUERY = re.compile(r"""\s*select\s+\*\s+from\s+(\w+)\s+where\s+Name\s*=\s*(["'])(.*)\2\s*""", re.IGNORECASE)
_PRIORITIES = (0, 1000, 2000, 3000)
_COUNTS = {"failoverthreshold": "failover_threshold", "failoverperiod": "failover_period"}


async def set_cim_instance(host: Host, call: Call) -> None:
    """Set-CimInstance -Query of one MSCluster_ResourceGroup by its name: what no cmdlet of the cluster's module sets.

    A query that finds nothing changes nothing, as on Windows.
    """
    query = _QUERY.fullmatch(str(call.get("Query") or ""))
    space = str(call.get("Namespace") or "root/cimv2").replace("\\", "/").lower()
    if query is None or query[1].lower() != "mscluster_resourcegroup" or space != "root/mscluster":
        raise _refused("0x80041010", "The lab sets properties of one MSCluster_ResourceGroup, by its name, only.")
    made = cluster_of(host, call)
    await host.spend("windows.cluster.resource")
    group = made.group_named(query[3].replace("\\\\", "\\").replace('\\"', '"'))
    if group is None:
        return
    changes: dict[str, int | bool] = {}
    for name, value in dict(call["Property"]).items():
        key, number = str(name).lower(), int(value) if isinstance(value, (int, str)) and str(value).isdecimal() else -1
        if key == "priority" and number in _PRIORITIES:
            changes["priority"] = number
        elif key == "autofailbacktype" and number in (0, 1):
            changes["failback"] = bool(number)
        elif key in _COUNTS and 0 <= number <= 0xFFFFFFFF:
            changes[_COUNTS[key]] = number
        else:
            raise _refused("0x80041008", f"Invalid parameter: {name} = {value}")
    made.put_group(replace(group, **changes))  # type: ignore[arg-type]  # each key has its own type


def _refused(code: str, text: str) -> PsError:
    return PsError(
        text,
        error_id=f"HRESULT {code}",
        category="InvalidArgument",
        exception="Microsoft.Management.Infrastructure.CimException",
    )


COMMANDS: Mapping[str, Cmdlet] = {
    "Set-CimInstance": set_cim_instance,
    "Stop-Cluster": stop_cluster,
    "Start-Cluster": start_cluster,
    "Get-ClusterLog": get_cluster_log,
    "Get-ClusterAccess": get_cluster_access,
    "Add-ClusterResource": add_cluster_resource,
    "Set-ClusterResourceDependency": set_cluster_resource_dependency,
}
"""The cmdlets of this module."""
