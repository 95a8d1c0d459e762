"""/cluster/peers and /svm/peers."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Iterable
from typing import Any, ClassVar

from labenv.clock import SECOND
from labenv.interconnect import LinkDown, intercluster_addresses
from labenv.ontap import peers
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError, invalid_value
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import SVM_LINK, Access, Body, Codes, Field, Later, Links, Now, svm_fields
from labenv.ontap.rest.values import Kind, show_time
from labenv.ontap.snapmirror_records import ClusterPeer, SvmPeer

DAY = 24 * 3600
LEAST_PASSPHRASE = 8
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_.\-]{0,43}$")
_DURATION = re.compile(r"^P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$")
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789+/"


def _authentication(core: Core, peer: ClusterPeer) -> str:
    if peer.state == "available":
        return "ok"
    return "pending" if peer.until > core.now else "problem"


@dataclasses.dataclass(frozen=True)
class FreshOffer(ClusterPeer):
    """A peering as the answer to its POST shows it, and nothing ever again: with the passphrase that was made."""


class ClusterPeers(Collection):
    """Peerings with other clusters."""

    path = "/cluster/peers"
    access = Access.CLUSTER
    methods = ("GET", "POST", "PATCH", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": (
            "4653058", "4653075", "4653076", "4653215", "4653236", "4653368", "4653671", "4655058", "4656069",
            "4656071", "4656072", "4656077", "4656080", "4656100",
        ),
        "PATCH": ("4", "4653075", "4653215", "4653236", "4653368", "4653671", "4655058", "4656072", "4656080"),
        "DELETE": ("4", "4653079"),
    }  # fmt: skip
    fields = (
        Field("uuid", read=lambda core, p: p.uuid),
        Field("name", read=lambda core, p: p.name, create=True, modify=True),
        Field("authentication.in_use", read=lambda core, p: "ok" if p.state == "available" else "absent"),
        Field("authentication.state", read=_authentication),
        Field(
            "authentication.expiry_time",
            read=lambda core, p: show_time(p.until) if p.state == "pending" else None,
            create=True,
            modify=True,
        ),
        Field(
            "authentication.passphrase",
            read=lambda core, p: p.passphrase if isinstance(p, FreshOffer) else None,
            create=True,
            modify=True,
        ),
        Field("authentication.generate_passphrase", Kind.BOOLEAN, create=True, modify=True),
        Field(
            "encryption.proposed",
            read=lambda core, p: p.encryption,
            create=True,
            modify=True,
            choices=("none", "tls_psk"),
        ),
        Field("encryption.state", read=lambda core, p: p.encryption if p.state == "available" else "none"),
        Field("ipspace.name", read=lambda core, p: "Default", create=True),
        Field(
            "initial_allowed_svms",
            Kind.OBJECTS,
            read=lambda core, p: [{"name": core.svms[u].name, "uuid": u} for u in p.allowed if u in core.svms] or None,
            create=True,
            modify=True,
            items=(Field("name"), Field("uuid")),
        ),
        Field("peer_applications", Kind.TEXTS, read=lambda core, p: list(p.applications), create=True, modify=True),
        Field("remote.ip_addresses", Kind.TEXTS, read=lambda core, p: list(p.addresses) or None, create=True,
              modify=True),
        Field("remote.name", read=lambda core, p: p.cluster or None),
        Field("remote.serial_number", read=lambda core, p: _serial(core, p)),
        Field("status.state", read=peers.shown_status),
        Field("status.update_time", Kind.TIME, read=lambda core, p: show_time(core.now)),
    )  # fmt: skip

    def records(self, call: Call) -> Iterable[ClusterPeer]:
        return self.core.replication.cluster_peers.values()

    # creating ---------------------------------------------------------------------------------------------------------

    def create(self, call: Call, body: Body) -> Now:
        core = self.core
        addresses = tuple(body.get("remote.ip_addresses") or ())
        passphrase = body.get("authentication.passphrase") or ""
        generate = bool(body.get("authentication.generate_passphrase"))
        if not addresses and not generate:
            raise ApiError("4656069" if passphrase else "4656077", target="remote.ip_addresses")
        if not passphrase and not generate:
            raise ApiError("4656080", target="authentication")
        if passphrase and len(passphrase) < LEAST_PASSPHRASE:
            raise ApiError("4653236", least=LEAST_PASSPHRASE, target="authentication.passphrase")
        until = self._until(body)
        there = self._remote(addresses)
        name = body.get("name") or ("" if there is None else there.spec.name)
        self._check_name(name)
        if not intercluster_addresses(core):
            raise ApiError("4653671")
        if there is not None:
            self._check_remote(there)
        allowed = tuple(self._svms(body))
        applications = tuple(body.get("peer_applications") or ("snapmirror",))

        def apply() -> ClusterPeer:
            secret = passphrase or core.ids.text("ontap.passphrase", core.spec.name, length=24, alphabet=_ALPHABET)
            uuid = core.new_uuid("cluster-peer", name) if there is None else there.identity["uuid"]
            offer = name or f"Clus_{uuid[:4]}"
            peer = ClusterPeer(
                uuid=uuid,
                name=offer,
                create_time=core.now,
                passphrase=secret,
                until=until,
                cluster="" if there is None else there.spec.name,
                cluster_uuid="" if there is None else there.identity["uuid"],
                addresses=addresses,
                encryption=body.get("encryption.proposed") or "tls_psk",
                allowed=allowed,
                applications=applications,
            )
            peer = peers.establish(core, peer)
            return FreshOffer(**vars(peer)) if generate else peer

        return Now("cluster_peer.create", apply)

    def _until(self, body: Body) -> int:
        """When a passphrase ends to be accepted: a duration or a time; an hour if nothing is said."""
        text = body.get("authentication.expiry_time")
        if not text:
            return self.core.now + 3600 * SECOND
        match = _DURATION.match(text)
        if match is None:
            raise invalid_value(text, "authentication.expiry_time", "ISO 8601 duration")
        weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        length = (weeks * 7 + days) * DAY + hours * 3600 + minutes * 60 + seconds
        if length > 7 * DAY:
            raise ApiError("4655058", target="authentication.expiry_time")
        return self.core.now + length * SECOND

    def _remote(self, addresses: Iterable[str]) -> Core | None:
        """The cluster behind the addresses; raises 4653368, 4653058, 4656100 or 4653215."""
        core, found = self.core, None
        for address in addresses:
            try:
                ipaddress.ip_address(address)
            except ValueError:
                raise ApiError("4653368", address=address, target="remote.ip_addresses") from None
            for lif in core.lifs.values():
                if lif.address == address:
                    own = lif.service_policy == "default-intercluster"
                    raise ApiError("4653058" if own else "4656100", address=address, target="remote.ip_addresses")
            there = core.interconnect.at_address(address)
            if there is None or address not in peers.peer_addresses(there):
                reason = f"no intercluster interface has the address {address}"
                raise ApiError("4653215", reason=reason, target="remote.ip_addresses")
            found = there
        return found

    def _check_remote(self, there: Core) -> None:
        core = self.core
        if there.spec.name == core.spec.name:
            raise ApiError("4656071")
        if any(p.cluster == there.spec.name for p in core.replication.cluster_peers.values()):
            raise ApiError("4653076", name=there.spec.name, target="remote.ip_addresses")
        try:
            core.interconnect.reach(core, there.spec.name)
        except LinkDown as error:
            raise ApiError("4653215", reason=str(error), target="remote.ip_addresses") from None

    def _check_name(self, name: str, *, but: str = "") -> None:
        if name and not _NAME.match(name):
            raise ApiError("4656072", name=name, target="name")
        if name == self.core.spec.name:
            raise ApiError("4656071", target="name")
        if any(p.name == name and p.uuid != but for p in self.core.replication.cluster_peers.values()):
            raise ApiError("4653075", name=name, target="name")

    def _svms(self, body: Body) -> Iterable[str]:
        for element in body.get("initial_allowed_svms") or []:
            if element.get("name") == "*":
                yield "*"
            else:
                yield self.core.svm(name=element.get("name"), uuid=element.get("uuid")).uuid

    # changing ---------------------------------------------------------------------------------------------------------

    def modify(self, call: Call, record: ClusterPeer, body: Body) -> Now | None:
        core = self.core
        if not body:
            return None
        values: dict[str, Any] = {}
        if body.get("name"):
            self._check_name(body["name"], but=record.uuid)
            values["name"] = body["name"]
        passphrase = body.get("authentication.passphrase") or ""
        generate = bool(body.get("authentication.generate_passphrase"))
        if passphrase and len(passphrase) < LEAST_PASSPHRASE:
            raise ApiError("4653236", least=LEAST_PASSPHRASE, target="authentication.passphrase")
        if "authentication.generate_passphrase" in body and not generate and not passphrase:
            raise ApiError("4656080", target="authentication")
        until = self._until(body)
        if body.get("remote.ip_addresses"):
            there = self._remote(body["remote.ip_addresses"])
            if there is not None and record.cluster not in ("", there.spec.name):
                raise ApiError("4653215", reason="the addresses are another cluster's", target="remote.ip_addresses")
            values["addresses"] = tuple(body["remote.ip_addresses"])
            if not intercluster_addresses(core):
                raise ApiError("4653671")
        if body.get("encryption.proposed"):
            values["encryption"] = body["encryption.proposed"]
        if "initial_allowed_svms" in body:
            values["allowed"] = tuple(self._svms(body))
        if body.get("peer_applications"):
            values["applications"] = tuple(body["peer_applications"])

        def apply() -> None:
            changed = dataclasses.replace(record, **values)
            if passphrase or generate:
                secret = passphrase or core.ids.text("ontap.passphrase", core.spec.name, length=24, alphabet=_ALPHABET)
                changed = dataclasses.replace(changed, passphrase=secret, until=until, state="pending")
                peers.establish(core, changed)
            else:
                core.replication.cluster_peers[record.uuid] = changed

        return Now("cluster_peer.modify", apply)

    def remove(self, call: Call, record: ClusterPeer) -> Now:
        core = self.core
        if any(p.peer_cluster == record.cluster for p in core.replication.svm_peers.values()):
            raise ApiError("4653079", reason=f"SVMs are peered with cluster {record.cluster}")

        def apply() -> None:
            del core.replication.cluster_peers[record.uuid]
            there = core.interconnect.peek(record.cluster) if record.cluster else None
            if there is not None:
                other = peers.find_cluster_peer(there, core.spec.name)
                if other is not None:  # it stays there until its administrator deletes it
                    there.replication.cluster_peers[other.uuid] = dataclasses.replace(
                        other, state="pending", passphrase="", until=0
                    )

        return Now("cluster_peer.delete", apply)


def _serial(core: Core, peer: ClusterPeer) -> str | None:
    there = core.interconnect.peek(peer.cluster) if peer.cluster else None
    return None if there is None else next((n.serial_number for n in there.nodes.values()), None)


class SvmPeers(Collection):
    """Peerings of SVMs."""

    path = "/svm/peers"
    methods = ("GET", "POST", "PATCH", "DELETE")
    default = ("uuid", "name")
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": ("9896086", "26345575", "26345578", "26345579", "26345580", "26345581"),
        "PATCH": ("4", "9896086", "26345576", "26345577", "26345579", "26345581"),
        "DELETE": ("4", "9895956", "26345578"),
    }
    links: ClassVar[Links] = SVM_LINK
    fields = (
        Field("uuid", read=lambda core, p: p.uuid),
        Field("name", read=lambda core, p: p.name, create=True, modify=True),
        *svm_fields(),
        Field("peer.svm.name", read=lambda core, p: p.peer_svm_name, create=True),
        Field("peer.svm.uuid", read=lambda core, p: p.peer_svm, create=True),
        Field("peer.cluster.name", read=lambda core, p: p.peer_cluster, create=True),
        Field("peer.cluster.uuid", read=lambda core, p: _cluster_uuid(core, p), create=True),
        Field("applications", Kind.TEXTS, read=lambda core, p: list(p.applications), create=True, modify=True),
        Field("state", read=lambda core, p: p.state, modify=True),
        Field("force", Kind.BOOLEAN, create=True, modify=True),
    )

    def records(self, call: Call) -> Iterable[SvmPeer]:
        return self.core.replication.svm_peers.values()

    def create(self, call: Call, body: Body) -> Later:
        core = self.core
        if call.user.svm is not None:
            raise ApiError("6")  # to ask for a peering is the cluster's administrator's; to accept it is not
        if not (body.get("svm.name") or body.get("svm.uuid")):
            raise ApiError("26345580", target="svm")
        if not (body.get("peer.svm.name") or body.get("peer.svm.uuid")):
            raise ApiError("26345580", target="peer.svm")
        try:
            svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid"))
        except ApiError as error:
            raise ApiError("26345578", svm=body.get("svm.name"), reason=error.message, target="svm") from None
        cluster = self._cluster(body)
        applications = body.get("applications") or ["snapmirror"]
        for application in applications:
            if application not in ("snapmirror", "flexcache", "file_copy", "lun_copy"):
                raise ApiError("26345579", value=application, field="applications", target="applications")
        if body.get("name"):
            peers.require_free_name(core, svm.uuid, body["name"])
        name = body.get("name") or body.get("peer.svm.name") or ""
        if cluster != core.spec.name and name:
            peers.require_free_name(core, svm.uuid, name)
        arguments = {
            "svm": svm.uuid,
            "cluster": cluster,
            "peer_svm_name": body.get("peer.svm.name") or "",
            "peer_svm_uuid": body.get("peer.svm.uuid") or "",
            "name": body.get("name") or "",
            "applications": applications,
        }
        return Later("svm_peer.create", arguments, node=_node(core), svm=svm.uuid, name=name)

    def _cluster(self, body: Body) -> str:
        core = self.core
        name, uuid = body.get("peer.cluster.name"), body.get("peer.cluster.uuid")
        if not name and not uuid:
            return core.spec.name
        if name in (None, core.spec.name) and uuid in (None, core.identity["uuid"]):
            return core.spec.name
        peer = peers.find_cluster_peer(core, name, uuid)
        if peer is None and name and uuid and peers.find_cluster_peer(core, name) is not None:
            raise ApiError("26345575", target="peer.cluster")
        if peer is None or peer.state != "available":
            reason = "it is not peered" if peer is None else "its peering is pending"
            raise ApiError("26345581", cluster=name or uuid, reason=reason, target="peer.cluster")
        return peer.cluster

    def modify(self, call: Call, record: SvmPeer, body: Body) -> Later:
        if not any(body.get(name) for name in ("state", "name", "applications")):
            raise ApiError("26345577")
        state = body.get("state") or ""
        if state and state not in ("peered", "rejected", "suspended", "initiated", "pending", "initializing"):
            raise ApiError("26345576", state=record.state, wanted=state, target="state")
        arguments = {
            "peer": record.uuid,
            "name": body.get("name") or "",
            "state": state,
            "applications": body.get("applications") or [],
        }
        return Later("svm_peer.modify", arguments, node=_node(self.core), svm=record.svm)

    def remove(self, call: Call, record: SvmPeer) -> Later:
        return Later("svm_peer.delete", {"peer": record.uuid}, node=_node(self.core), svm=record.svm)


def _node(core: Core) -> str:
    return next(iter(core.nodes.values())).name


def _cluster_uuid(core: Core, peer: SvmPeer) -> str | None:
    there = core.interconnect.peek(peer.peer_cluster)
    return None if there is None else there.identity["uuid"]
