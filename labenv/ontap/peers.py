"""Peering of clusters and of SVMs: offers, their acceptance by passphrase, and what SVMs may do with each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from labenv.interconnect import LinkDown
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.snapmirror_records import ClusterPeer, SvmPeer


def find_cluster_peer(core: Core, name: str | None, uuid: str | None = None) -> ClusterPeer | None:
    """The peering with a cluster by the peering's or the cluster's name, or by uuid."""
    for peer in core.replication.cluster_peers.values():
        if name not in (None, "", peer.name, peer.cluster) or uuid not in (None, "", peer.uuid, peer.cluster_uuid):
            continue
        return peer
    return None


def establish(core: Core, peer: ClusterPeer) -> ClusterPeer:
    """Store a peering; if the other cluster has one that fits, both are available from now on."""
    replication = core.replication
    other = core.interconnect.peek(peer.cluster) if peer.cluster else None
    match = None if other is None else _match(core, other, peer)
    if other is not None and match is not None:
        peer = dataclasses.replace(peer, state="available")
        del other.replication.cluster_peers[match.uuid]
        uuid = core.identity["uuid"]
        other.replication.cluster_peers[uuid] = dataclasses.replace(
            match,
            uuid=uuid,
            name=core.spec.name if match.cluster == "" else match.name,
            cluster=core.spec.name,
            cluster_uuid=uuid,
            addresses=match.addresses or peer_addresses(core),
            state="available",
        )
    replication.cluster_peers[peer.uuid] = peer
    return peer


def peer_addresses(core: Core) -> tuple[str, ...]:
    """Every intercluster address of a cluster, up or not."""
    return tuple(lif.address for lif in core.lifs.values() if lif.service_policy == "default-intercluster")


def _match(core: Core, other: Core, peer: ClusterPeer) -> ClusterPeer | None:
    """The other cluster's side of a peering: an open offer, or one that names this cluster; the passphrase decides."""
    for candidate in other.replication.cluster_peers.values():
        open_offer = candidate.cluster == "" and candidate.state == "pending"
        if (
            (open_offer or candidate.cluster == core.spec.name)
            and candidate.passphrase == peer.passphrase
            and candidate.until > core.now
        ):
            return candidate
    return None


def shown_status(core: Core, peer: ClusterPeer) -> str:
    """``available``, ``unavailable`` while the other cluster does not answer, or ``pending``."""
    if peer.state != "available":
        return peer.state
    try:
        core.interconnect.reach(core, peer.cluster)
    except LinkDown:
        return "unavailable"
    return "available"


# SVMs -----------------------------------------------------------------------------------------------------------------


def find_svm_peer(core: Core, svm: str, name: str) -> SvmPeer | None:
    """The peered SVM that an SVM (by uuid) knows under a name."""
    return next((p for p in core.replication.svm_peers.values() if p.svm == svm and p.name == name), None)


def peered(core: Core, svm: str, peer: str) -> bool:
    """Whether an SVM may replicate from or to another one, both by uuid."""
    return any(
        p.svm == svm and p.peer_svm == peer and p.state == "peered" and "snapmirror" in p.applications
        for p in core.replication.svm_peers.values()
    )


def require_free_name(core: Core, svm: str, name: str, *, but: str = "") -> None:
    """Raise 9896086 if a name of a peer is already that of an SVM or of another peer."""
    taken = any(s.name == name for s in core.svms.values()) or any(
        p.svm == svm and p.name == name and p.uuid != but for p in core.replication.svm_peers.values()
    )
    if taken:
        raise ApiError("9896086", name=name, target="name")


def create_svm_peer(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of POST svm/peers: asked for in both clusters; peered at once inside one, or where it is allowed."""
    cluster = args["cluster"]
    try:
        there = core.interconnect.reach(core, cluster)
    except LinkDown as error:
        raise ApiError("26345581", cluster=cluster, reason=str(error)) from None
    svm = core.svm(uuid=args["svm"])
    wanted, uuid = args["peer_svm_name"], args["peer_svm_uuid"]
    peer = next((s for s in there.svms.values() if s.name == wanted or s.uuid == uuid), None)
    if peer is None:
        raise ApiError("26345578", svm=wanted or uuid, reason=f"cluster {cluster} has none of that name")
    local = there is core
    name = args["name"] or peer.name
    if not local:
        require_free_name(core, svm.uuid, name)
    elif find_svm_peer(core, svm.uuid, name) is not None:
        raise ApiError("9896086", name=name, target="name")
    applications = tuple(args["applications"])
    back = _name_there(there, peer.uuid, svm.name, local=local)
    allowed = local or _allowed(there, core, peer.uuid)
    mine = SvmPeer(
        core.new_uuid("svm-peer", svm.name, name), svm.uuid, name, peer.uuid, peer.name, cluster, applications,
        "peered" if allowed else "initiated",
    )  # fmt: skip
    core.replication.svm_peers[mine.uuid] = mine
    theirs = SvmPeer(
        there.new_uuid("svm-peer", peer.name, back), peer.uuid, back, svm.uuid, svm.name, core.spec.name,
        applications, "peered" if allowed else "pending",
    )  # fmt: skip
    there.replication.svm_peers[theirs.uuid] = theirs
    return mine.uuid


def _name_there(there: Core, svm: str, name: str, *, local: bool) -> str:
    """What the other cluster calls our SVM: its name, with a number if that is taken there."""
    taken = {p.name for p in there.replication.svm_peers.values() if p.svm == svm}
    if not local:
        taken |= {s.name for s in there.svms.values()}
    number, free = 0, name
    while free in taken:
        number += 1
        free = f"{name}.{number}"
    return free


def _allowed(there: Core, here: Core, svm: str) -> bool:
    peer = find_cluster_peer(there, here.spec.name)
    return peer is not None and ("*" in peer.allowed or svm in peer.allowed)


def counterpart(core: Core, peer: SvmPeer) -> tuple[Core, SvmPeer] | None:
    """The other side of an SVM peering; None if it is gone."""
    there = core.interconnect.peek(peer.peer_cluster)
    if there is None:
        return None
    for other in there.replication.svm_peers.values():
        if other.svm == peer.peer_svm and other.peer_svm == peer.svm and other.peer_cluster == core.spec.name:
            return there, other
    return None


NEXT = {
    ("pending", "peered"): "peered",
    ("pending", "rejected"): "rejected",
    ("peered", "suspended"): "suspended",
    ("suspended", "peered"): "peered",
}
"""(state, wanted state) -> the new state."""


def modify_svm_peer(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of PATCH svm/peers: accept, reject, suspend, resume; local name; applications."""
    peer = core.replication.svm_peers.get(args["peer"])
    if peer is None:
        raise ApiError("4", target="uuid")
    values: dict[str, Any] = {}
    if args["name"]:
        require_free_name(core, peer.svm, args["name"], but=peer.uuid)
        values["name"] = args["name"]
    if args["applications"]:
        values["applications"] = tuple(args["applications"])
    wanted = args["state"]
    if wanted and wanted != peer.state:
        state = NEXT.get((peer.state, wanted))
        if state is None:
            raise ApiError("26345576", state=peer.state, wanted=wanted, target="state")
        try:
            core.interconnect.reach(core, peer.peer_cluster)
        except LinkDown as error:
            raise ApiError("26345581", cluster=peer.peer_cluster, reason=str(error)) from None
        values["state"] = state
        found = counterpart(core, peer)
        if found is not None:
            there, other = found
            there.replication.svm_peers[other.uuid] = dataclasses.replace(other, state=state)
    core.replication.svm_peers[peer.uuid] = dataclasses.replace(peer, **values)


def delete_svm_peer(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of DELETE svm/peers, on both sides if the other cluster answers."""
    peer = core.replication.svm_peers.get(args["peer"])
    if peer is None:
        raise ApiError("4", target="uuid")
    replication = core.replication
    ends = [(x.source, x.destination) for x in replication.relationships.values()]
    ends += [(x.source, x.destination) for x in replication.destinations.values()]
    for source, destination in ends:
        if {source.svm, destination.svm} == {peer.svm, peer.peer_svm}:
            path = f"{destination.svm_name}:{destination.volume_name}"
            raise ApiError("9895956", reason=f"SnapMirror replicates to {path}")
    try:
        core.interconnect.reach(core, peer.peer_cluster)
    except LinkDown as error:
        raise ApiError("26345578", svm=peer.peer_svm_name, reason=str(error)) from None
    found = counterpart(core, peer)
    if found is not None:
        there, other = found
        there.replication.svm_peers.pop(other.uuid, None)
    core.replication.svm_peers.pop(peer.uuid, None)
