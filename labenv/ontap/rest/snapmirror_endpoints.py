"""Paths of SnapMirror endpoints: ``SVM:volume``, with the SVM's name as it is known here."""

from __future__ import annotations

from labenv.interconnect import LinkDown
from labenv.ontap import peers
from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.rest.model import Body
from labenv.ontap.snapmirror_records import Endpoint


def split_path(path: str | None, end: str) -> tuple[str, str]:
    """(SVM, volume) of a path; raises 13303852 or 13303841."""
    text = path or ""
    svm, colon, volume = text.partition(":")
    if not colon:
        raise ApiError("13303852", path=text, target=f"{end}.path")
    if not svm or not volume or "/" in volume:
        raise ApiError("13303841", path=text, target=f"{end}.path")  # SVM, consistency group and object store
    return svm, volume


def local(core: Core, body: Body, end: str, *, missing: bool = False) -> tuple[Endpoint, r.Volume | None]:
    """An endpoint of this cluster and its volume.

    Args:
        missing: the volume need not exist.

    Raises:
        ApiError: 13303852, 13303841, 2621462, 13303878 or 13303925.
    """
    svm_name, volume_name = split_path(body.get(f"{end}.path"), end)
    given = body.get(f"{end}.svm.name")
    if given not in (None, "", svm_name):
        raise ApiError("13303878", fields=f"{end}.path, {end}.svm.name", target=end)
    svm = next((s for s in core.svms.values() if s.name == svm_name), None)
    if svm is None:
        raise ApiError("13303925", reason=f"there is no SVM {svm_name} in {core.spec.name}", target=f"{end}.path")
    if body.get(f"{end}.svm.uuid") not in (None, "", svm.uuid):
        raise ApiError("13303878", fields=f"{end}.path, {end}.svm.uuid", target=end)
    volume = core.find_volume(svm.uuid, volume_name)
    if volume is None and not missing:
        reason = f"there is no volume {volume_name} in SVM {svm_name}"
        raise ApiError("13303925", reason=reason, target=f"{end}.path")
    uuid = "" if volume is None else volume.uuid
    return Endpoint(core.spec.name, svm.uuid, svm_name, uuid, volume_name), volume


def is_local(core: Core, body: Body, end: str) -> bool:
    """Whether a path names an SVM of this cluster, and no other cluster is given."""
    cluster, uuid = body.get(f"{end}.cluster.name"), body.get(f"{end}.cluster.uuid")
    if cluster not in (None, "", core.spec.name) or uuid not in (None, "", core.identity["uuid"]):
        return False
    svm_name, _ = split_path(body.get(f"{end}.path"), end)
    return any(s.name == svm_name for s in core.svms.values())


def source_of(core: Core, body: Body, destination: Endpoint) -> Endpoint:
    """The source of a relationship, of this cluster or of a peered one.

    Raises:
        ApiError: 13303852, 13303841, 13303886 (no SVM peer), 13303925 (unreachable, or there is no such volume).
    """
    if is_local(core, body, "source"):
        source, volume = local(core, body, "source")
        assert volume is not None
        if source.svm != destination.svm and not peers.peered(core, destination.svm, source.svm):
            raise ApiError("13303886", svm=destination.svm_name, peer=source.svm_name, target="source.path")
        return source
    svm_name, volume_name = split_path(body.get("source.path"), "source")
    peer = peers.find_svm_peer(core, destination.svm, svm_name)
    cluster = body.get("source.cluster.name")
    if peer is None or peer.state != "peered" or cluster not in (None, "", peer.peer_cluster):
        raise ApiError("13303886", svm=destination.svm_name, peer=svm_name, target="source.path")
    try:
        there = core.interconnect.reach(core, peer.peer_cluster)
    except LinkDown as error:
        raise ApiError("13303925", reason=str(error), target="source.path") from None
    found = there.find_volume(peer.peer_svm, volume_name)
    if found is None:
        reason = f"there is no volume {volume_name} in SVM {svm_name}"
        raise ApiError("13303925", reason=reason, target="source.path")
    return Endpoint(there.spec.name, peer.peer_svm, svm_name, found.uuid, volume_name)
