"""Every collection that the API has, in the order in which coverage lists them."""

from __future__ import annotations

from labenv.ontap.core import Core
from labenv.ontap.rest import (
    clones,
    cluster,
    groups,
    iscsi,
    lun_maps,
    luns,
    network,
    peers,
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
    cluster.Nodes,
    cluster.JobRecords,
    cluster.Licences,
    peers.ClusterPeers,
    cluster.Schedules,
    network.Aggregates,
    network.Svms,
    peers.SvmPeers,
    network.Interfaces,
    iscsi.IscsiServices,
    iscsi.Igroups,
    iscsi.Initiators,
    luns.Luns,
    lun_maps.LunMaps,
    clones.FileClone,
    volumes.Volumes,
    snapshots.Snapshots,
    cluster.SnapshotPolicies,
    groups.Groups,
    groups.GroupSnapshots,
    snapmirror_policies.MirrorPolicies,
    snapmirror_relationships.Relationships,
    snapmirror_transfers.Transfers,
    support.ApplicationLogs,
    support.Events,
)


def collections(core: Core) -> list[Collection]:
    """The API of one cluster."""
    return [collection(core) for collection in COLLECTIONS]
