"""The array's part of SnapDrive: volumes, LUNs, Snapshot copies, clones and LUN maps, found by names chosen before.

Every ``ensure_*`` leaves the thing there and every ``discard_*`` leaves it gone, whether or not an earlier try got
through: after a lost reply or a killed process they look first. Many at once go in one wave: all requests are sent,
then all jobs are waited for together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netapp_ontap.resources.consistency_group import ConsistencyGroup
from netapp_ontap.resources.consistency_group_snapshot import ConsistencyGroupSnapshot
from netapp_ontap.resources.igroup import Igroup
from netapp_ontap.resources.job import Job
from netapp_ontap.resources.license_package import LicensePackage
from netapp_ontap.resources.lun import Lun
from netapp_ontap.resources.lun_map import LunMap
from netapp_ontap.resources.snapshot import Snapshot
from netapp_ontap.resources.volume import Volume

from smhvlab.errors import NameTaken, NotFound, NotUnique, OntapError, UnknownOutcome
from smhvlab.wires.ontap import OntapWire, Pending

NAA_PREFIX = "600A0980"
"""Registered identifier of ONTAP's LUNs: a host's UniqueId is this and the hexadecimal form of the serial number."""

GONE = "4"  # ONTAP: entry doesn't exist
_GROUP_GONE = "53411843"  # as above, for a consistency group
IN_ANOTHER_GROUP = "53411865"  # ONTAP: the volume is in another consistency group
_VOLUMES_AT_ONCE = 50
"""Volumes asked for in one GET; more would make the address too long."""
_PATIENCE = 10
"""Seconds that ONTAP may take over a single change before it answers that a job goes on with it."""


@dataclass(frozen=True)
class VolumeRef:
    """A volume by identity; the name is what people read."""

    uuid: str
    name: str
    svm: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class LunRef:
    """A LUN: its name is ``/vol/VOLUME/PATH``; ``unique_id`` is how a host sees it."""

    uuid: str
    name: str
    svm: str
    volume: VolumeRef
    serial_number: str
    size: int

    def __str__(self) -> str:
        return self.name

    @property
    def unique_id(self) -> str:
        """UniqueId of the disk on a host."""
        return NAA_PREFIX + self.serial_number.encode("ascii").hex().upper()

    @property
    def path(self) -> str:
        """Path inside the volume, e.g. ``/lun1``."""
        return "/" + self.name.split("/", 3)[3]

    def in_snapshot(self, snapshot: str, path: str = "") -> str:
        """Name of an image in a Snapshot copy of this LUN's volume: that at a path, or the LUN itself as it was then.

        For a backup's image always give the path that SnapInfo recorded: the LUN's own may be the state of a crash.
        """
        return f"/vol/{self.volume.name}/.snapshot/{snapshot}{path or self.path}"


class Storage:
    """The storage cluster of a site."""

    def __init__(self, wire: OntapWire) -> None:
        self.wire = wire

    # --- reading

    def luns(self) -> list[LunRef]:
        """Every LUN that the credentials can see."""
        fields = "uuid,name,svm.name,serial_number,space.size,location.volume.name,location.volume.uuid"
        return [_lun(record) for record in self.wire.collect(Lun, fields=fields)]

    def lun(self, name: str, *, svm: str) -> LunRef:
        """The LUN of a name. Raises NotFound."""
        fields = "uuid,name,svm.name,serial_number,space.size,location.volume.name,location.volume.uuid"
        for record in self.wire.collect(Lun, fields=fields, name=name, **{"svm.name": svm}):
            return _lun(record)
        raise NotFound(f"There is no LUN {name} in SVM {svm}", next_action="List the LUNs with site.luns().", tr="2.2")

    def luns_by_disk(self, unique_ids: Iterable[str]) -> dict[str, LunRef]:
        """The LUNs behind host disks, by UniqueId; disks that are no LUN of this array are left out."""
        wanted = {unique_id.upper() for unique_id in unique_ids}
        return {lun.unique_id: lun for lun in self.luns() if lun.unique_id in wanted}

    def volume(self, name: str, *, svm: str) -> VolumeRef | None:
        """The volume of a name, or None."""
        for record in self.wire.collect(Volume, fields="uuid,name,svm.name", name=name, **{"svm.name": svm}):
            return VolumeRef(record["uuid"], record["name"], record["svm"]["name"])
        return None

    def present(self, uuid: str, *, name: str, svm: str) -> VolumeRef:
        """The volume of an identity under its present name, else the one that has the name now (a mirror's other side).

        Raises NotFound.
        """
        for record in self.wire.collect(Volume, fields="uuid,name,svm.name", uuid=uuid):
            return VolumeRef(record["uuid"], record["name"], record["svm"]["name"])
        found = self.volume(name, svm=svm)
        if found is None:
            raise NotFound(f"The volume {name} of SVM {svm} is gone", next_action="Look at site.volumes().")
        return found

    def volume_details(self, volume: VolumeRef, fields: str) -> Mapping[str, Any]:
        """Fields of one volume. Raises NotFound."""
        for record in self.wire.collect(Volume, fields=fields, uuid=volume.uuid):
            return record
        raise NotFound(f"The volume {volume} is gone", next_action="Look at site.volumes().")

    def snapshots(self, volume: VolumeRef) -> list[dict[str, Any]]:
        """Snapshot copies of a volume: uuid, name, create_time, size, owners (absent when nobody holds it)."""
        return self.wire.collect(Snapshot, volume.uuid, fields="uuid,name,create_time,size,owners")

    def snapshots_of(self, volumes: Iterable[VolumeRef]) -> dict[str, list[dict[str, Any]]]:
        """As ``snapshots``, by the volume's UUID; nothing for one that is gone. One request for fifty volumes."""
        found: dict[str, list[dict[str, Any]]] = {volume.uuid: [] for volume in volumes}
        uuids = list(found)
        fields = "uuid,name,create_time,size,owners,volume.uuid"
        for start in range(0, len(uuids), _VOLUMES_AT_ONCE):
            query = {"volume.uuid": uuids[start : start + _VOLUMES_AT_ONCE]}
            for record in self.wire.collect(Snapshot, "*", fields=fields, **query):
                found[record["volume"]["uuid"]].append(record)
        return found

    def igroup_for(self, initiators: Collection[str], *, svm: str = "") -> tuple[str, str]:
        """Name and SVM of the initiator group of these initiators together; others beside them do only if it must be.

        ``svm``: only one of this SVM will do. Raises NotFound, NotUnique.
        """
        first, wanted = min(initiators), frozenset(initiators)
        query = {"initiators.name": first} | ({"svm.name": svm} if svm else {})
        found = {
            (r["svm"]["name"], r["name"]): frozenset(i["name"] for i in r["initiators"])
            for r in self.wire.collect(Igroup, fields="name,svm.name,initiators.name", **query)
        }
        holding = [key for key, held in found.items() if wanted <= held]
        exact = [key for key in holding if found[key] == wanted] or holding
        if len(exact) == 1:
            svm, name = exact[0]
            return name, svm
        names = ", ".join(sorted(wanted))
        if not exact:
            raise NotFound(
                f"No initiator group holds {names}",
                next_action="Create an igroup of type hyper_v with these initiators on the SVM that serves them.",
                tr="6.8/7",
            )
        raise NotUnique(
            f"Several initiator groups hold {names}: {', '.join(f'{svm}/{name}' for svm, name in exact)}",
            next_action="Leave these initiators together in one group of the SVM.",
            tr="6.8/7",
        )

    def igroups(self, svm: str) -> dict[str, frozenset[str]]:
        """The initiator groups of an SVM and the initiators in each."""
        records = self.wire.collect(Igroup, fields="name,initiators.name", **{"svm.name": svm})
        return {r["name"]: frozenset(i["name"] for i in r.get("initiators", ())) for r in records}

    def ensure_igroup(self, name: str, initiators: Iterable[str], *, svm: str, mark: str = "") -> None:
        """A Hyper-V initiator group of exactly these; ``mark``: its comment if it is made. Raises NameTaken."""
        wanted, held = sorted(initiators), self.igroups(svm).get(name)
        if held is not None and held != frozenset(wanted):
            raise NameTaken(
                f"The initiator group {name} of SVM {svm} holds others than {', '.join(wanted)}",
                next_action="Somebody has made it meanwhile: plan again, which chooses another name.",
                tr="6.8/7",
            )
        if held is None:
            body = {
                "name": name,
                "svm": {"name": svm},
                "os_type": "hyper_v",
                "protocol": "iscsi",
                "initiators": [{"name": initiator} for initiator in wanted],
                **({"comment": mark} if mark else {}),
            }
            self.wire.wait([self.wire.create(Igroup, body)])

    def discard_igroup(self, name: str, *, svm: str, mark: str = "") -> None:
        """No initiator group of this name, unless LUNs are still mapped to it, or it was made with another mark."""
        query = {"svm.name": svm}
        for record in self.wire.collect(Igroup, fields="uuid,comment" if mark else "uuid", name=name, **query):
            if mark and record.get("comment") != mark:
                continue
            if not self.wire.collect(LunMap, fields="igroup.uuid", **query, **{"igroup.name": name}):
                self.wire.wait([self.wire.remove(Igroup, {"uuid": record["uuid"]})])

    def licences(self) -> frozenset[str]:
        """Names of the licences; empty if these credentials may not see them (an SVM's user)."""
        try:
            return frozenset(record["name"] for record in self.wire.collect(LicensePackage, fields="name,state"))
        except OntapError:
            return frozenset()

    def luns_of_initiators(self) -> dict[str, list[str]]:
        """Names of the LUNs that each initiator is shown, by the initiator's name; one request."""
        found: dict[str, set[str]] = {}
        for record in self.wire.collect(LunMap, fields="lun.name,igroup.initiators"):
            for initiator in record.get("igroup", {}).get("initiators", ()):
                found.setdefault(str(initiator), set()).add(record["lun"]["name"])
        return {initiator: sorted(names) for initiator, names in found.items()}

    def rename_snapshots(self, volumes: Sequence[VolumeRef], old: str, new: str) -> None:
        """The Snapshot copy of each volume that was called ``old`` is called ``new``, all in one wave.

        Raises:
            NotFound: a volume has neither.
            NameTaken: a volume has both: ``new`` is somebody else's.
        """
        pending = []
        for volume in volumes:
            copies = {copy["name"]: copy["uuid"] for copy in self.snapshots(volume)}
            if new in copies and old in copies:
                raise _copy_taken(volume, new)
            if new in copies:
                continue
            if old not in copies:
                raise NotFound(
                    f"The Snapshot copy {old} of volume {volume} is gone",
                    next_action="Somebody has deleted it meanwhile: take the backup again.",
                    tr="12",
                )
            copy = Snapshot.from_dict({"volume": {"uuid": volume.uuid}, "uuid": copies[old]})
            pending.append(self.wire.modify(copy, {"name": new}))
        self.wire.wait(pending)

    def discard_renamed(self, volumes: Sequence[VolumeRef], old: str, new: str) -> None:
        """No Snapshot copy is left that ``rename_snapshots`` has renamed so; where ``old`` is, ``new`` is not of it."""
        for volume in volumes:
            if self.snapshot(volume, old) is None:
                self.discard_snapshots([volume], new)

    def open_jobs(self) -> list[str]:
        """Descriptions of the unfinished jobs on volumes, LUNs, Snapshot copies and consistency groups."""
        records = self.wire.collect(Job, fields="description,state", state="queued|running|paused")
        parts = ("/api/storage/", "/api/application/", "/api/protocols/san/")
        return [text for r in records if any(part in (text := r.get("description", "")) for part in parts)]

    # --- Snapshot copies

    def ensure_snapshots(self, volumes: Sequence[VolumeRef], name: str, *, comment: str = "") -> None:
        """A Snapshot copy of this name in each volume, all in one wave; only where it is refused is it looked for.

        Raises NameTaken if there is one that was made with another comment.
        """
        pending: list[Pending] = []
        # Of a wave all are sent before the first is waited for.
        patience = {"return_timeout": _PATIENCE} if len(volumes) == 1 else {}
        refused: dict[VolumeRef, Exception] = {}
        for volume in volumes:
            body = {"volume": {"uuid": volume.uuid}, "name": name, "comment": comment}
            try:
                pending.append(self.wire.create(Snapshot, body, **patience))
            except OntapError as error:
                refused[volume] = error
        sent = [volume for volume in volumes if volume not in refused]
        failures = dict(zip(sent, self.wire.settle(pending), strict=True))
        for volume in volumes:
            failure = refused.get(volume) or failures[volume]
            if failure is None:
                continue
            if isinstance(failure, UnknownOutcome) or (found := self._copy(volume, name)) is None:
                raise failure
            if comment and found.get("comment") != comment:
                raise _copy_taken(volume, name)

    def snapshot(self, volume: VolumeRef, name: str) -> str | None:
        """UUID of a volume's Snapshot copy of this name, or None."""
        for record in self.wire.collect(Snapshot, volume.uuid, fields="uuid,name", name=name):
            uuid: str = record["uuid"]
            return uuid
        return None

    def _copy(self, volume: VolumeRef, name: str) -> Mapping[str, Any] | None:
        for record in self.wire.collect(Snapshot, volume.uuid, fields="uuid,name,comment", name=name):
            return record
        return None

    def discard_snapshots(self, volumes: Sequence[VolumeRef], name: str, *, comment: str = "") -> None:
        """No Snapshot copy of this name in any of the volumes; with a comment: none that was made with it."""
        pending = []
        for volume in volumes:
            found = self._copy(volume, name)
            if found is not None and (not comment or found.get("comment") == comment):
                pending.append(self.wire.remove(Snapshot, {"volume": {"uuid": volume.uuid}, "uuid": found["uuid"]}))
        self.wire.wait(pending)

    # --- one point in time over several volumes

    def groups(self) -> dict[str, tuple[str, frozenset[str]]]:
        """Name and UUIDs of the volumes of each consistency group, by the group's UUID."""
        records = self.wire.collect(ConsistencyGroup, fields="uuid,name,volumes.uuid")
        return {r["uuid"]: (r["name"], frozenset(v["uuid"] for v in r.get("volumes", ()))) for r in records}

    def grouped_volumes(self) -> set[str]:
        """UUIDs of all volumes that are in some consistency group already."""
        return {volume for _, volumes in self.groups().values() for volume in volumes}

    def ensure_group(self, name: str, volumes: Sequence[VolumeRef]) -> str:
        """A consistency group of this name over the volumes; returns its UUID."""
        body = {
            "name": name,
            "svm": {"name": volumes[0].svm},
            "volumes": [{"name": v.name, "provisioning_options": {"action": "add"}} for v in volumes],
        }
        refusal: OntapError | None = None
        try:
            self.wire.wait([self.wire.create(ConsistencyGroup, body, return_timeout=_PATIENCE)])
        except OntapError as error:  # an earlier try may have got through
            refusal = error
        found = self.group(name)
        if found is None:
            raise refusal or NotFound(
                f"The consistency group {name} did not appear", next_action="Look at the array's jobs."
            )
        return found

    def group(self, name: str) -> str | None:
        """UUID of the consistency group of this name, or None."""
        for record in self.wire.collect(ConsistencyGroup, fields="uuid,name", name=name):
            uuid: str = record["uuid"]
            return uuid
        return None

    def ensure_group_snapshot(self, group: str, volumes: Sequence[VolumeRef], name: str, *, comment: str = "") -> None:
        """One crash-consistent Snapshot copy over a consistency group: the same instant in every volume."""
        body = {"consistency_group": {"uuid": group}, "name": name, "comment": comment, "consistency_type": "crash"}
        try:
            self.wire.wait([self.wire.create(ConsistencyGroupSnapshot, body, return_timeout=_PATIENCE)])
        except OntapError:  # an earlier try may have got through
            there = [volume for volume in volumes if self.snapshot(volume, name) is not None]
            if there and not self.has_group_snapshot(group, name, comment=comment):
                raise _copy_taken(there[0], name) from None
            if len(there) < len(volumes):
                raise

    def has_group_snapshot(self, group: str, name: str, *, comment: str) -> bool:
        """Whether a consistency group has a Snapshot copy of this name and comment; those of volumes have none."""
        found = self.wire.collect(ConsistencyGroupSnapshot, group, fields="name,comment", name=name)
        return any(record.get("comment", "") == comment for record in found)

    def discard_group(self, name: str, *, uuid: str = "") -> None:
        """No consistency group of this name; its volumes and their Snapshot copies stay. ``uuid``: if it is known."""
        known = uuid or self.group(name)
        if known is None:
            return
        try:
            self.wire.wait([self.wire.remove(ConsistencyGroup, {"uuid": known}, return_timeout=_PATIENCE)])
        except OntapError as error:
            if error.code != _GROUP_GONE:
                raise

    # --- volumes

    def ensure_volume_clone(self, name: str, *, parent: VolumeRef, snapshot: str) -> VolumeRef:
        """A FlexClone volume of this name from a Snapshot copy. Raises NameTaken if another volume has the name."""
        found = self.volume(name, svm=parent.svm)
        if found is None:
            body = {
                "name": name,
                "svm": {"name": parent.svm},
                "clone": {
                    "is_flexclone": True,
                    "parent_volume": {"name": parent.name},
                    "parent_snapshot": {"name": snapshot},
                },
            }
            self.wire.wait([self.wire.create(Volume, body)])
            found = self.volume(name, svm=parent.svm)
            if found is None:
                raise NotFound(f"The volume {name} did not appear", next_action="Look at the array's jobs.")
            return found
        if not self._is_clone(found, parent, snapshot):
            raise NameTaken(
                f"The SVM {parent.svm} already has another volume {name}", next_action="Choose another name.", tr="2.2"
            )
        return found

    def _is_clone(self, volume: VolumeRef, parent: VolumeRef, snapshot: str) -> bool:
        origin = self.volume_details(volume, "clone.parent_volume.uuid,clone.parent_snapshot.name").get("clone", {})
        of_parent = origin.get("parent_volume", {}).get("uuid") == parent.uuid
        return bool(of_parent and origin.get("parent_snapshot", {}).get("name") == snapshot)

    def discard_volume_clone(self, name: str, *, parent: VolumeRef, snapshot: str) -> None:
        """No FlexClone volume of this name from the Snapshot copy; another volume of the name stays."""
        found = self.volume(name, svm=parent.svm)
        if found is not None and self._is_clone(found, parent, snapshot):
            self.discard_volume(name, svm=parent.svm)

    def discard_volume(self, name: str, *, svm: str) -> None:
        """No volume of this name; its LUN maps go first."""
        volume = self.volume(name, svm=svm)
        if volume is None:
            return
        for record in self.wire.collect(
            Lun, fields="uuid,name,svm.name", **{"svm.name": svm, "location.volume.name": name}
        ):
            self.discard_map(record["uuid"])
        self.wire.wait([self.wire.remove(Volume, {"uuid": volume.uuid})])

    # --- LUNs

    def discard_lun(self, name: str, *, svm: str) -> None:
        """No LUN of this name; its maps go first."""
        try:
            lun = self.lun(name, svm=svm)
        except NotFound:
            return
        self.discard_map(lun.uuid)
        self.wire.wait([self.wire.remove(Lun, {"uuid": lun.uuid})])

    def restore_lun(self, lun: LunRef, *, snapshot: str, path: str = "") -> None:
        """The LUN's contents go back to an image in a Snapshot copy (``in_snapshot``).

        UUID, serial number and maps stay, so hosts see the same disk; newer Snapshot copies survive. The host must have
        the disk offline. TR 6.7: LUN clone split restore.
        """
        change = {"clone": {"source": {"name": lun.in_snapshot(snapshot, path)}}}
        self.wire.wait([self.wire.modify(Lun(uuid=lun.uuid), change)])

    # --- LUN maps

    def igroups_of(self, lun_uuid: str) -> list[str]:
        """Names of the initiator groups that a LUN is mapped to."""
        records = self.wire.collect(LunMap, fields="igroup.name", **{"lun.uuid": lun_uuid})
        return sorted(str(record["igroup"]["name"]) for record in records)

    def ensure_map(self, lun: LunRef, igroup: str) -> None:
        """The LUN is mapped to an initiator group of its SVM."""
        if self._maps(lun.uuid, igroup):
            return
        body = {"lun": {"name": lun.name}, "igroup": {"name": igroup}, "svm": {"name": lun.svm}}
        self.wire.wait([self.wire.create(LunMap, body)])

    def discard_map(self, lun_uuid: str, igroup: str | None = None) -> None:
        """The LUN is not mapped (to the group, or to any)."""
        for group in self._maps(lun_uuid, igroup):
            mapping = LunMap.from_dict({"lun": {"uuid": lun_uuid}, "igroup": {"uuid": group}})
            try:
                self.wire.wait([self.wire.remove(mapping)])
            except OntapError as error:
                if error.code != GONE:
                    raise

    def _maps(self, lun_uuid: str, igroup: str | None) -> list[str]:
        query = {"lun.uuid": lun_uuid} | ({"igroup.name": igroup} if igroup else {})
        return [record["igroup"]["uuid"] for record in self.wire.collect(LunMap, fields="igroup.uuid", **query)]


def _copy_taken(volume: VolumeRef, name: str) -> NameTaken:
    return NameTaken(
        f"The volume {volume} has a Snapshot copy {name} that another run has made",
        why="both were planned in the same second",
        next_action="Plan again: a later second gives another name.",
        tr="6.2",
    )


def _lun(record: Mapping[str, Any]) -> LunRef:
    place = record["location"]["volume"]
    svm: str = record["svm"]["name"]
    return LunRef(
        uuid=record["uuid"],
        name=record["name"],
        svm=svm,
        volume=VolumeRef(place["uuid"], place["name"], svm),
        serial_number=record["serial_number"],
        size=record["space"]["size"],
    )
