"""What two sites need before SnapMirror can run between them: intercluster LIFs, credentials, peers (TR 8)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netapp_ontap.resources.cluster import Cluster
from netapp_ontap.resources.cluster_peer import ClusterPeer
from netapp_ontap.resources.ip_interface import IpInterface
from netapp_ontap.resources.node import Node
from netapp_ontap.resources.svm_peer import SvmPeer

from smhvlab.errors import NotAllowed, NotFound, SmhvLabError
from smhvlab.secrets import Secret
from smhvlab.wires.ontap import OntapWire

_OFFERS = ("pending", "unidentified")
"""States of a peering that was never completed; a ``partial`` one is complete, some nodes do not reach the others."""


@dataclass(frozen=True)
class ClusterFacts:
    """A cluster as its peers know it: name, uuid, and the addresses of its intercluster LIFs."""

    name: str
    uuid: str
    addresses: tuple[str, ...]


def cluster_facts(wire: OntapWire) -> ClusterFacts:
    """Name and intercluster addresses of a cluster.

    Raises:
        NotAllowed: a node has no intercluster LIF that is up (TR 8: at least one is needed on each node).
    """
    identity = wire.read(Cluster(), fields="name,uuid")
    nodes = {str(record["name"]) for record in wire.collect(Node, fields="name")}
    lifs = wire.collect(
        IpInterface,
        fields="name,ip.address,state,enabled,location.node.name",
        **{"service_policy.name": "default-intercluster"},
    )
    up = [lif for lif in lifs if lif.get("state") == "up"]
    without = sorted(nodes - {str(lif["location"]["node"]["name"]) for lif in up})
    if without:
        raise NotAllowed(
            f"{identity['name']}: no intercluster LIF is up on {', '.join(without)}",
            next_action="Create one on each node, on a data port or a dedicated one, service policy "
            "default-intercluster, or bring the one that is down up.",
            tr="8",
        )
    return ClusterFacts(identity["name"], identity["uuid"], tuple(sorted(str(lif["ip"]["address"]) for lif in up)))


def peers_are_available(near: OntapWire, far: ClusterFacts) -> bool:
    """Whether a cluster is peered with another one, and reaches it now."""
    return any(
        record.get("status", {}).get("state") == "available"
        for record in near.collect(ClusterPeer, fields="uuid,name,remote.name,status.state")
        if record.get("remote", {}).get("name") == far.name
    )


def ensure_cluster_peers(near: OntapWire, far: OntapWire) -> None:
    """Two clusters are peered. The passphrase is made here, sent to both, and kept nowhere.

    Raises:
        NotAllowed: as `cluster_facts`, or they are peered but do not reach each other.
    """
    facts = cluster_facts(near), cluster_facts(far)
    if peers_are_available(near, facts[1]):
        return
    for wire, other in ((near, facts[1]), (far, facts[0])):
        for record in wire.collect(ClusterPeer, fields="uuid,remote.name,remote.ip_addresses,status.state"):
            remote = record.get("remote", {})
            if remote.get("name") == other.name or set(remote.get("ip_addresses", ())) & set(other.addresses):
                state = record.get("status", {}).get("state")
                if state not in _OFFERS:
                    raise NotAllowed(
                        f"The clusters {facts[0].name} and {facts[1].name} are peered but do not reach each other",
                        why=f"the peer is {state}",
                        next_action="Mend the link between their intercluster LIFs, on every node.",
                        tr="8",
                    )
                wire.wait([wire.remove(ClusterPeer.from_dict({"uuid": record["uuid"]}))])
    passphrase = secrets.token_urlsafe(24)
    for wire, other in ((near, facts[1]), (far, facts[0])):
        wire.log.hide(Secret(passphrase))
        body = {"authentication": {"passphrase": passphrase}, "remote": {"ip_addresses": list(other.addresses)}}
        wire.wait([wire.create(ClusterPeer.from_dict(body))])
    if not peers_are_available(near, facts[1]):
        raise NotFound(
            f"The clusters {facts[0].name} and {facts[1].name} were peered, yet the peer is not available",
            next_action="Look at /cluster/peers on both, and at the link between their intercluster LIFs.",
            tr="8",
        )


def svm_peered(wire: OntapWire, svm: str, peer: str) -> bool:
    """Whether an SVM may replicate with another one."""
    return any(
        record.get("state") == "peered"
        for record in wire.collect(SvmPeer, fields="state,svm.name,peer.svm.name", **{"svm.name": svm})
        if record.get("peer", {}).get("svm", {}).get("name") == peer
    )


def ensure_svm_peers(near: OntapWire, svm: str, far: OntapWire, peer: str, *, cluster: str) -> None:
    """An SVM and one of another (or the same) cluster are peered for SnapMirror: asked here, accepted there."""
    if not [r for r in _svm_peers(near, svm) if r["peer"]["svm"]["name"] == peer]:
        body = {
            "svm": {"name": svm},
            "peer": {"svm": {"name": peer}, "cluster": {"name": cluster}},
            "applications": ["snapmirror"],
        }
        near.wait([near.create(SvmPeer.from_dict(body))])
    for record in _svm_peers(far, peer):
        if record["peer"]["svm"]["name"] == svm and record["state"] == "pending":
            far.wait([far.modify(SvmPeer(uuid=record["uuid"]), {"state": "peered"})])
    if not svm_peered(near, svm, peer):
        raise NotFound(
            f"The SVMs {svm} and {peer} were not peered",
            next_action="Look at /svm/peers on both clusters: the offer has to be accepted there.",
            tr="8",
        )


def _svm_peers(wire: OntapWire, svm: str) -> list[dict[str, Any]]:
    records = wire.collect(SvmPeer, fields="uuid,state,svm.name,peer.svm.name,applications", **{"svm.name": svm})
    return [record for record in records if record.get("peer")]


def missing_credentials(cluster: OntapWire, svms: Sequence[tuple[str, OntapWire | SmhvLabError]]) -> list[str]:
    """What of the TR's credentials is missing or refused: the cluster's (C-server) and each Vserver's (TR 8).

    Args:
        cluster: the cluster's own login.
        svms: for each SVM its login, or the error that kept it from being made.
    """
    found = []
    try:
        cluster.collect(Node, fields="name")
    except SmhvLabError as error:
        found.append(f"cluster (C-server) {cluster.endpoint.name}: {error.message}")
    for name, login in svms:
        if isinstance(login, SmhvLabError):
            found.append(f"Vserver {name}: {login.message}")
            continue
        try:
            login.read(Cluster(), fields="version")
        except SmhvLabError as error:
            found.append(f"Vserver {name}: {error.message}")
    return found
