"""Events of the FailoverClustering provider, in the System log of the nodes that would write them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from labenv.windows.events import ERROR, INFORMATION, WARNING

if TYPE_CHECKING:
    from labenv.windows.host import Host

PROVIDER = "Microsoft-Windows-FailoverClustering"
SYSTEM = "System"
OPERATIONAL = "Microsoft-Windows-FailoverClustering/Operational"
CRITICAL = 1


def write(
    hosts: Iterable[Host], event: int, text: str, *, level: int, values: tuple[str, ...] = (), log: str = SYSTEM
) -> None:
    """One event on each host that is on."""
    for host in hosts:
        if host.powered:
            host.events.write(log, PROVIDER, event, text, level=level, values=values)


def node_removed(hosts: Iterable[Host], node: str) -> None:
    """1135: a node has left the active membership."""
    text = (
        f"Cluster node '{node}' was removed from the active failover cluster membership. The Cluster service on this "
        "node may have stopped, or the node has lost communication with other active nodes in the failover cluster."
    )
    write(hosts, 1135, text, level=CRITICAL, values=(node,))


def quorum_lost(hosts: Iterable[Host]) -> None:
    """1177: the cluster service stops because too few votes are left."""
    text = "The Cluster service is shutting down because quorum was lost."
    write(hosts, 1177, text, level=CRITICAL)


def resource_failed(hosts: Iterable[Host], resource: str, kind: str, group: str) -> None:
    """1069: a resource has failed."""
    text = f"Cluster resource '{resource}' of type '{kind}' in clustered role '{group}' failed."
    write(hosts, 1069, text, level=ERROR, values=(resource, group, kind))


def group_failed(hosts: Iterable[Host], group: str) -> None:
    """1205: a group could not be brought completely online or offline."""
    text = f"The Cluster service failed to bring clustered role '{group}' completely online or offline."
    write(hosts, 1205, text, level=ERROR, values=(group,))


def volume_paused(hosts: Iterable[Host], path: str, disk: str, reason: str) -> None:
    """5120: all I/O to a shared volume is queued until a path is there again."""
    text = (
        f"Cluster Shared Volume '{path}' ('{disk}') has entered a paused state because of '{reason}'. All I/O will "
        "temporarily be queued until a path to the volume is reestablished."
    )
    write(hosts, 5120, text, level=ERROR, values=(path, disk, reason))


def volume_redirected(hosts: Iterable[Host], path: str, disk: str) -> None:
    """5121: a node has no direct access; its I/O goes through the owner."""
    text = (
        f"Cluster Shared Volume '{path}' ('{disk}') is no longer directly accessible from this cluster node. I/O "
        "access will be redirected to the storage device over the network to the node that owns the volume."
    )
    write(hosts, 5121, text, level=WARNING, values=(path, disk))


def volume_lost(hosts: Iterable[Host], path: str, disk: str, error: str) -> None:
    """5142: a node cannot use a shared volume any more."""
    text = (
        f"Cluster Shared Volume '{path}' ('{disk}') is no longer accessible from this cluster node because of error "
        f"'{error}'. Please troubleshoot this node's connectivity to the storage device and network connectivity."
    )
    write(hosts, 5142, text, level=ERROR, values=(path, disk, error))


def group_moved(hosts: Iterable[Host], group: str, source: str, target: str) -> None:
    """1641: a group is on its way to another node."""
    text = f"Clustered role '{group}' is moving from cluster node '{source}' to cluster node '{target}'."
    write(hosts, 1641, text, level=INFORMATION, values=(group, source, target), log=OPERATIONAL)
