"""What a simulated storage cluster is made of, as a topology file states it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AggregateSpec:
    """A pool of disks on a node; ``size`` in bytes."""

    name: str
    node: str
    size: int


@dataclass(frozen=True)
class LifSpec:
    """A logical network interface.

    Attributes:
        address: IPv4 address in the lab's own network; iSCSI portals answer at it on port 3260.
        node: home node.
        service: ``iscsi`` (data), ``management`` or ``intercluster``.
    """

    name: str
    address: str
    node: str
    service: str = "iscsi"


@dataclass(frozen=True)
class SvmSpec:
    """A storage virtual machine (the TR's Vserver) with its own administrator."""

    name: str
    iscsi: bool = True
    lifs: tuple[LifSpec, ...] = ()
    user: str = "vsadmin"
    password: str = ""


@dataclass(frozen=True)
class ClusterSpec:
    """A storage cluster as it is when the lab is first started.

    Attributes:
        version: ONTAP version that it reports, such as ``9.15.1``.
        licences: names of the licensed packages, such as ``iscsi`` and ``snaprestore``.
        snapshot_limit: Snapshot copies that a volume can hold (255 in the TR's era, 1,023 from 9.4).
        lifs: interfaces of the cluster itself (cluster management, intercluster).
    """

    name: str
    version: str = "9.15.1"
    nodes: tuple[str, ...] = ()
    aggregates: tuple[AggregateSpec, ...] = ()
    svms: tuple[SvmSpec, ...] = ()
    admin_user: str = "admin"
    admin_password: str = ""
    licences: tuple[str, ...] = ("iscsi", "flexclone", "snaprestore", "snapmirror")
    snapshot_limit: int = 1023
    lifs: tuple[LifSpec, ...] = ()
