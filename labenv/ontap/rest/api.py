"""Every collection that the API has, in the order in which coverage lists them."""

from __future__ import annotations

from labenv.ontap.core import Core
from labenv.ontap.rest import (
    cli,
    clones,
    cluster,
    empty,
    files,
    groups,
    iscsi,
    lun_maps,
    luns,
    network,
    nodes,
    peers,
    policies,
    portsets,
    reporting_nodes,
    security,
    sessions,
    snapmirror_policies,
    snapmirror_relationships,
    snapmirror_transfers,
    snapshots,
    support,
    volumes,
)
from labenv.ontap.rest.collection import Collection

COLLECTIONS: tuple[type[Collection], ...] = (
    cluster.Clusters,
    nodes.Nodes,
    cluster.JobRecords,
    cluster.Licences,
    peers.ClusterPeers,
    policies.Schedules,
    network.Aggregates,
    network.Svms,
    peers.SvmPeers,
    network.Interfaces,
    empty.FcInterfaces,
    empty.FcPorts,
    empty.FcLogins,
    iscsi.IscsiServices,
    sessions.IscsiSessions,
    empty.FcpServices,
    iscsi.Igroups,
    iscsi.Initiators,
    portsets.Portsets,
    portsets.PortsetInterfaces,
    luns.Luns,
    lun_maps.LunMaps,
    reporting_nodes.ReportingNodes,
    clones.FileClone,
    volumes.Volumes,
    snapshots.Snapshots,
    files.Files,
    empty.Qtrees,
    policies.SnapshotPolicies,
    groups.Groups,
    groups.GroupSnapshots,
    snapmirror_policies.MirrorPolicies,
    snapmirror_relationships.Relationships,
    snapmirror_transfers.Transfers,
    support.ApplicationLogs,
    support.Events,
    support.AuditMessages,
    security.Accounts,
    security.Certificates,
    *cli.TABLES,
)


def collections(core: Core) -> list[Collection]:
    """The API of one cluster."""
    return [collection(core) for collection in COLLECTIONS]
