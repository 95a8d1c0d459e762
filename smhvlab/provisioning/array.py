"""What an array needs before SnapDrive can make LUNs on it: aggregate, Vserver, iSCSI service, LIFs, volume (TR 2.2).

As in ``smhvlab.storage`` every ``ensure_*`` leaves the thing there and every ``discard_*`` leaves it gone, whether or
not an earlier try got through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netapp_ontap.resources.aggregate import Aggregate
from netapp_ontap.resources.igroup import Igroup
from netapp_ontap.resources.ip_interface import IpInterface
from netapp_ontap.resources.iscsi_service import IscsiService
from netapp_ontap.resources.lun import Lun
from netapp_ontap.resources.node import Node
from netapp_ontap.resources.svm import Svm
from netapp_ontap.resources.volume import Volume

from smhvlab.errors import NameTaken, NotFound, NotUnique
from smhvlab.storage import LunRef, Storage, VolumeRef

DATA, MANAGEMENT = "default-data-iscsi", "default-management"
"""Service policies of the two kinds of LIFs that a Vserver for SnapDrive needs."""


@dataclass(frozen=True)
class AggregateFacts:
    """An aggregate: its node, and its size and free space in bytes."""

    name: str
    node: str
    size: int
    available: int


@dataclass(frozen=True)
class Lif:
    """A logical interface of a Vserver; ``policy`` says what it serves."""

    name: str
    address: str
    netmask: str
    node: str
    policy: str

    def __str__(self) -> str:
        return f"{self.name} {self.address} on {self.node}"


@dataclass(frozen=True)
class NewVolume:
    """A volume that is to be made (TR 2.2/2): nothing is set aside for Snapshot copies, and none is scheduled.

    Attributes:
        thin: without a space guarantee.
        mark: its comment, by which a run knows its own work again.
    """

    name: str
    svm: str
    aggregate: str
    size: int
    thin: bool
    mark: str


class ArraySetup:
    """Makes and removes the ground on which volumes and LUNs stand."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.wire = storage.wire

    # --- reading

    def aggregates(self) -> list[AggregateFacts]:
        """The aggregates that the credentials can see, by name. Raises OntapError for the user of an SVM."""
        records = self.wire.collect(Aggregate, fields="name,node.name,space.block_storage", order_by="name")
        return [
            AggregateFacts(
                record["name"],
                record["node"]["name"],
                record["space"]["block_storage"]["size"],
                record["space"]["block_storage"]["available"],
            )
            for record in records
        ]

    def nodes(self) -> list[str]:
        """Names of the controllers."""
        return sorted(str(record["name"]) for record in self.wire.collect(Node, fields="name"))

    def svms(self) -> list[str]:
        """Names of the Vservers."""
        return sorted(str(record["name"]) for record in self.wire.collect(Svm, fields="name"))

    def svms_of(self, initiators: Sequence[str]) -> list[str]:
        """The Vservers that know any of these initiators: those with an initiator group that holds one."""
        wanted = set(initiators)
        records = self.wire.collect(Igroup, fields="name,svm.name,initiators.name")
        return sorted({r["svm"]["name"] for r in records if wanted & {i["name"] for i in r.get("initiators", ())}})

    def vserver(self, name: str) -> dict[str, str]:
        """A Vserver in the order and words of ``vserver show`` (appendix, step 3). Raises NotFound."""
        fields = "uuid,state,subtype,language,comment,snapshot_policy.name,aggregates.name,iscsi.enabled"
        found = self.wire.collect(Svm, fields=fields, name=name)
        if not found:
            raise NotFound(
                f"There is no SVM {name}", next_action=f"There is {', '.join(self.svms()) or 'none'}.", tr="App/3"
            )
        record = found[0]
        query = {"svm.name": name, "is_svm_root": "true"}
        roots = self.wire.collect(Volume, fields="name,aggregates.name", **query)
        root = roots[0] if roots else {}
        return {
            "Vserver": name,
            "Vserver UUID": record["uuid"],
            "Root Volume": root.get("name", "-"),
            "Aggregate": ", ".join(one["name"] for one in root.get("aggregates", ())) or "-",
            "Language": record.get("language", "-"),
            "Snapshot Policy": record.get("snapshot_policy", {}).get("name", "-"),
            "Comment": record.get("comment", ""),
            "List of Aggregates Assigned": ", ".join(one["name"] for one in record.get("aggregates", ())) or "-",
            "Vserver Admin State": record.get("state", "-"),
            "Allowed Protocols": "iscsi" if record.get("iscsi", {}).get("enabled") else "-",
            "iSCSI Target": self.target(name) or "-",
            "LIFs": ", ".join(str(lif["name"]) for lif in self.lifs() if lif.get("svm", {}).get("name") == name) or "-",
        }

    def target(self, svm: str) -> str:
        """The iSCSI target's qualified name of a Vserver whose service is on, "" without one."""
        fields = "enabled,target.name"
        for record in self.wire.collect(IscsiService, fields=fields, **{"svm.name": svm}):
            return str(record.get("target", {}).get("name", "")) if record.get("enabled") else ""
        return ""

    def lifs(self) -> list[dict[str, Any]]:
        """All LIFs: name, address, state, Vserver, service policy, services, node."""
        fields = "name,ip.address,state,svm.name,services,service_policy.name,location.home_node.name"
        return self.wire.collect(IpInterface, fields=fields, order_by="name")

    def portals(self, svm: str) -> tuple[str, ...]:
        """Addresses at which a Vserver's iSCSI target answers now."""
        mine = [lif for lif in self.lifs() if lif.get("svm", {}).get("name") == svm and lif.get("state") == "up"]
        return tuple(sorted(str(lif["ip"]["address"]) for lif in mine if "data_iscsi" in lif.get("services", ())))

    def volumes_named(self, name: str) -> list[VolumeRef]:
        """The volumes of a name, of any Vserver."""
        records = self.wire.collect(Volume, fields="uuid,name,svm.name", name=name)
        return [VolumeRef(record["uuid"], record["name"], record["svm"]["name"]) for record in records]

    def one_volume(self, name: str, *, svm: str = "") -> VolumeRef:
        """The volume of a name, of one Vserver or of any. Raises NotFound, NotUnique."""
        found = [volume for volume in self.volumes_named(name) if svm in ("", volume.svm)]
        if not found:
            raise NotFound(
                f"There is no volume {name}{' in SVM ' + svm if svm else ''}",
                next_action="List the volumes with site.volumes(), or make one with site.prepare_storage(...).",
                tr="2.2",
            )
        if len(found) > 1:
            raise NotUnique(
                f"The SVMs {', '.join(volume.svm for volume in found)} have a volume {name}",
                next_action="Name the one that is meant: svm=...",
                tr="2.2",
            )
        return found[0]

    def reserved(self, volume: VolumeRef) -> list[str]:
        """Names of the LUNs of a volume that have a space reservation (TR 2.2/8)."""
        query = {"svm.name": volume.svm, "location.volume.name": volume.name}
        records = self.wire.collect(Lun, fields="name,space.guarantee.requested", **query)
        return sorted(r["name"] for r in records if r["space"].get("guarantee", {}).get("requested"))

    # --- changing

    def ensure_aggregate(self, name: str, *, node: str, disks: int, again: bool) -> None:
        """An aggregate of this name on a node (TR 2.2/1). Raises NameTaken: it is there, and not by an earlier try."""
        if any(found.name == name for found in self.aggregates()):
            _need_again(again, f"aggregate {name}")
            return
        body = {"name": name, "node": {"name": node}, "block_storage": {"primary": {"disk_count": disks}}}
        self.wire.wait([self.wire.create(Aggregate.from_dict(body))])

    def discard_aggregate(self, name: str) -> None:
        """No aggregate of this name."""
        for record in self.wire.collect(Aggregate, fields="uuid", name=name):
            self.wire.wait([self.wire.remove(Aggregate.from_dict({"uuid": record["uuid"]}))])

    def ensure_svm(self, name: str, *, aggregate: str, mark: str) -> None:
        """A Vserver of this name that may use the aggregate (appendix, step 3). Raises NameTaken: it is another's."""
        for record in self.wire.collect(Svm, fields="name,comment", name=name):
            _need_again(record.get("comment") == mark, f"SVM {name}")
            return
        body = {"name": name, "aggregates": [{"name": aggregate}], "comment": mark}
        self.wire.wait([self.wire.create(Svm.from_dict(body))])

    def discard_svm(self, name: str, *, mark: str) -> None:
        """The Vserver is gone, unless it is somebody else's; its root volume goes with it."""
        for record in self.wire.collect(Svm, fields="uuid,comment", name=name):
            if record.get("comment") != mark:
                continue
            self.wire.wait([self.wire.remove(Svm.from_dict({"uuid": record["uuid"]}))])

    def ensure_service(self, svm: str, *, again: bool) -> None:
        """The Vserver is an iSCSI target (appendix, step 4). Raises NameTaken: it is, and not by an earlier try."""
        found = self.wire.collect(IscsiService, fields="enabled,svm.uuid", **{"svm.name": svm})
        if found and found[0].get("enabled"):
            _need_again(again, f"iSCSI service of {svm}")
        if not found:
            self.wire.wait([self.wire.create(IscsiService.from_dict({"svm": {"name": svm}, "enabled": True}))])
        elif not found[0].get("enabled"):
            service = IscsiService.from_dict({"svm": {"uuid": found[0]["svm"]["uuid"]}})
            self.wire.wait([self.wire.modify(service, {"enabled": True})])

    def discard_service(self, svm: str) -> None:
        """The Vserver is no iSCSI target."""
        for record in self.wire.collect(IscsiService, fields="enabled,svm.uuid", **{"svm.name": svm}):
            service = IscsiService.from_dict({"svm": {"uuid": record["svm"]["uuid"]}})
            if record.get("enabled"):
                self.wire.wait([self.wire.modify(service, {"enabled": False})])
            self.wire.wait([self.wire.remove(service)])

    def ensure_lifs(self, lifs: Sequence[Lif], *, svm: str, again: bool) -> None:
        """The Vserver has these LIFs (appendix, step 5); all in one wave.

        Raises NameTaken: it has one already, and not by an earlier try.
        """
        present = {lif["name"] for lif in self.lifs() if lif.get("svm", {}).get("name") == svm}
        if taken := [lif.name for lif in lifs if lif.name in present]:
            _need_again(again, f"LIF {taken[0]}")
        pending = []
        for lif in lifs:
            if lif.name not in present:
                body = {
                    "name": lif.name,
                    "svm": {"name": svm},
                    "scope": "svm",
                    "ip": {"address": lif.address, "netmask": lif.netmask},
                    "service_policy": {"name": lif.policy},
                    "location": {"home_node": {"name": lif.node}},
                }
                pending.append(self.wire.create(IpInterface.from_dict(body)))
        self.wire.wait(pending)

    def discard_lifs(self, lifs: Sequence[Lif], *, svm: str) -> None:
        """The Vserver has none of these LIFs."""
        wanted = {lif.name for lif in lifs}
        found = self.wire.collect(IpInterface, fields="uuid,name", **{"svm.name": svm})
        self.wire.wait(
            [self.wire.remove(IpInterface.from_dict({"uuid": r["uuid"]})) for r in found if r["name"] in wanted]
        )

    def ensure_volume(self, new: NewVolume) -> VolumeRef:
        """The volume is there. Raises NameTaken if somebody else has made one of its name meanwhile."""
        if self.storage.volume(new.name, svm=new.svm) is None:
            body = {
                "name": new.name,
                "svm": {"name": new.svm},
                "aggregates": [{"name": new.aggregate}],
                "size": new.size,
                "guarantee": {"type": "none" if new.thin else "volume"},
                "snapshot_policy": {"name": "none"},
                "space": {"snapshot": {"reserve_percent": 0}},
                "comment": new.mark,
            }
            self.wire.wait([self.wire.create(Volume.from_dict(body))])
        found = self.storage.volume(new.name, svm=new.svm)
        if found is None:
            raise NotFound(f"The volume {new.name} did not appear", next_action="Look at the array's jobs.", tr="2.2/2")
        if self.storage.volume_details(found, "comment").get("comment") != new.mark:
            raise NameTaken(
                f"The SVM {new.svm} already has another volume {new.name}",
                next_action="Choose another name.",
                tr="2.2/2",
            )
        return found

    def discard_volume(self, new: NewVolume) -> None:
        """The volume is gone, unless it is somebody else's."""
        found = self.storage.volume(new.name, svm=new.svm)
        if found is not None and self.storage.volume_details(found, "comment").get("comment") == new.mark:
            self.storage.discard_volume(new.name, svm=new.svm)

    def ensure_lun(self, name: str, *, svm: str, size: int, thin: bool, mark: str) -> LunRef:
        """A LUN for Hyper-V of this name (TR 2.2). Raises NameTaken if somebody else has made one meanwhile."""
        try:
            found = self.storage.lun(name, svm=svm)
        except NotFound:
            body = {
                "name": name,
                "svm": {"name": svm},
                "os_type": "hyper_v",
                "space": {"size": size, "guarantee": {"requested": not thin}},
                "comment": mark,
            }
            self.wire.wait([self.wire.create(Lun.from_dict(body))])
            found = self.storage.lun(name, svm=svm)
        if self._comment(found) != mark:
            raise NameTaken(
                f"The SVM {svm} already has another LUN {name}", next_action="Choose another name.", tr="2.2"
            )
        return found

    def ensure_unreserved(self, volume: VolumeRef) -> list[str]:
        """No LUN of the volume has a space reservation (TR 2.2/8); returns the names of those that had one."""
        names = self.reserved(volume)
        luns = [self.storage.lun(name, svm=volume.svm) for name in names]
        change = {"space": {"guarantee": {"requested": False}}}
        self.wire.wait([self.wire.modify(Lun(uuid=lun.uuid), change) for lun in luns])
        return names

    def discard_lun(self, name: str, *, svm: str, mark: str) -> None:
        """The LUN is gone, unless it is somebody else's."""
        try:
            found = self.storage.lun(name, svm=svm)
        except NotFound:
            return
        if self._comment(found) == mark:
            self.storage.discard_lun(name, svm=svm)

    def _comment(self, lun: LunRef) -> str:
        return str(self.wire.read(Lun(uuid=lun.uuid), fields="comment").get("comment", ""))

    def ensure_dedupe(self, volume: VolumeRef) -> None:
        """The volume is deduplicated in the background (TR 2.2/8)."""
        if self.dedupe(volume) == "none":
            self.wire.wait([self.wire.modify(Volume(uuid=volume.uuid), {"efficiency": {"dedupe": "background"}})])

    def discard_dedupe(self, volume: VolumeRef) -> None:
        """The volume is no longer deduplicated; blocks that are shared stay so."""
        if self.dedupe(volume) != "none":
            self.wire.wait([self.wire.modify(Volume(uuid=volume.uuid), {"efficiency": {"dedupe": "none"}})])

    def dedupe(self, volume: VolumeRef) -> str:
        """How the volume is deduplicated: ``none``, ``background``, ..."""
        return str(self.storage.volume_details(volume, "efficiency.dedupe").get("efficiency", {}).get("dedupe", "none"))


def _need_again(mine: bool, what: str) -> None:
    """Raise NameTaken for what was not there when the run was planned, and is not its own."""
    if not mine:
        raise NameTaken(
            f"The {what} is there already: somebody else has made it meanwhile",
            next_action="Plan again: what is there is used as it is.",
            tr="2.2",
        )
