"""Finding what the parameters of the FailoverClusters cmdlets select, and reporting what the cluster refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labenv.windows.call import Call, PsError
from labenv.windows.cluster.errors import ClusterProblem, not_found, not_reachable, not_running, refused
from labenv.windows.cluster.records import GroupRecord, NodeRecord, ResourceRecord
from labenv.windows.cmdlets.item import matches
from labenv.windows.cmdlets.targets import objects, prop, texts

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster
    from labenv.windows.host import Host


def cluster_of(host: Host, call: Call, *, parameter: str = "Cluster") -> FailoverCluster:
    """The cluster that a cmdlet acts on: that of this node, also if it is named."""
    made = host.cluster
    if made is None:
        raise not_running()
    names = texts(call.get(parameter))
    for name in names:
        short = name.split(".")[0].lower() or name
        if short not in (".", made.spec.name.lower(), *(n.lower() for n in made.nodes)):
            raise not_reachable(name)
    if not made.is_member(host.name) and not any(made.is_member(n) for n in made.nodes if n in names):
        raise not_running()
    return made


def problem(call: Call, error: ClusterProblem, *, target: object = None) -> PsError:
    """The error record of a refusal."""
    return refused(call.cmdlet, error.message, target=target)


def groups(made: FailoverCluster, call: Call, *, everything: bool = False) -> list[GroupRecord]:
    """Groups by -Name (patterns), -VMId, or pipeline objects; all visible ones if nothing is given."""
    visible = [g for g in made.group_table.values() if g.kind != "ClusterSharedVolume"]
    if "VMId" in call:
        found = made.group_of_vm(call["VMId"])
        if found is None:
            call.error(not_found("group of the virtual machine", call["VMId"]))
        return [found] if found is not None else []
    names = texts(call.get("Name")) or [str(prop(i, "Name")) for i in objects(call, "InputObject") if _is(i, "Group")]
    if not names:
        return sorted(visible, key=lambda g: g.name.lower()) if everything else []
    chosen: list[GroupRecord] = []
    for name in names:
        hits = [g for g in visible if matches(g.name, name)]
        if not hits and not any(c in name for c in "*?["):
            call.error(not_found("group", name))
        chosen += [g for g in hits if g not in chosen]
    return chosen


def _is(item: Any, kind: str) -> bool:
    return bool(item.types) and str(item.types[0]).endswith(f".Cluster{kind}")


def one_group(made: FailoverCluster, call: Call) -> GroupRecord:
    """Exactly one group; raises PsError."""
    missing: list[PsError] = []
    found = groups(made, replace(call, on_error=missing.append))
    if not found:
        raise missing[0] if missing else not_found("group", call.get("Name") or call.get("VMId") or "")
    return found[0]


def resources(made: FailoverCluster, call: Call, *, shared: bool | None = None) -> list[ResourceRecord]:
    """Resources by -Name (patterns), -VMId or pipeline objects; all if nothing is given.

    ``shared``: True only disks of shared volumes, False everything else, None both where they are named.
    """
    everything = sorted(made.resource_table.values(), key=lambda r: r.name.lower())
    if shared is not None:
        everything = [r for r in everything if r.shared == shared]
    if "VMId" in call:
        return [r for r in everything if r.vm == call["VMId"]]
    given = objects(call, "InputObject")
    names = texts(call.get("Name")) or [str(prop(i, "Name")) for i in given if not _is(i, "")]
    if not names:
        return everything if shared is not None else [r for r in everything if not r.shared]
    chosen: list[ResourceRecord] = []
    for name in names:
        hits = [r for r in everything if matches(r.name, name)]
        if not hits and not any(c in name for c in "*?["):
            call.error(not_found("shared volume" if shared else "resource", name))
        chosen += [r for r in hits if r not in chosen]
    return chosen


def one_resource(made: FailoverCluster, call: Call, *, shared: bool | None = None) -> ResourceRecord:
    """Exactly one resource; raises PsError."""
    missing: list[PsError] = []
    named = "Name" in call or call.input or "InputObject" in call
    found = resources(made, replace(call, on_error=missing.append), shared=shared) if named else []
    if not found:
        raise missing[0] if missing else not_found("resource", call.get("Name") or "")
    return found[0]


def nodes(made: FailoverCluster, call: Call, parameter: str = "Name") -> list[NodeRecord]:
    """Nodes by name or pipeline objects; all if nothing is given."""
    names = texts(call.get(parameter)) or [str(prop(i, "Name")) for i in objects(call, "InputObject") if _is(i, "Node")]
    if not names:
        return list(made.nodes.values())
    chosen: list[NodeRecord] = []
    for name in names:
        found = made.node_named(name)
        if found is None:
            call.error(not_found("node", name))
        elif found not in chosen:
            chosen.append(found)
    return chosen


def node_name(made: FailoverCluster, call: Call) -> str:
    """The node of -Node, or an empty string."""
    name = str(call.get("Node") or "")
    if name and made.node_named(name) is None:
        raise not_found("node", name)
    found = made.node_named(name) if name else None
    return found.name if found is not None else ""


async def waited(made: FailoverCluster, call: Call, operation: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an operation to its end, or go on without it after -Wait seconds; it then ends by itself."""
    if "Wait" not in call or isinstance(call["Wait"], bool):
        await guarded(call, operation())
        return
    done = made.clock.signal()
    problems: list[ClusterProblem] = []
    ended = False

    async def run() -> None:
        nonlocal ended
        try:
            await operation()
        except ClusterProblem as error:
            problems.append(error)
        finally:
            ended = True
            made.state.commit()
            done.set()

    async def wait() -> None:
        await made.clock.sleep(max(0, int(call["Wait"])))
        done.set()

    made.clock.spawn(run(), name=call.cmdlet)
    timer = made.clock.spawn(wait(), name=f"{call.cmdlet} -Wait")
    await done.wait()
    if ended:
        timer.cancel()
    if problems:
        raise problem(call, problems[0])


async def guarded(call: Call, operation: Awaitable[None], *, target: object = None) -> None:
    """Run an operation and report what the cluster refuses."""
    try:
        await operation
    except ClusterProblem as error:
        raise problem(call, error, target=target) from error
