"""/storage/volumes: FlexVols, FlexClone volumes, resize, state, efficiency, split, restore."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from labenv.ontap import records as r
from labenv.ontap import volumes
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError, invalid_value
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import (
    SVM_LINK,
    Body,
    Codes,
    Field,
    Later,
    Links,
    Parameters,
)
from labenv.ontap.rest.query import is_plain
from labenv.ontap.rest.values import Kind
from labenv.ontap.rest.volume_fields import EXTRA, FIELDS, RESTORE


class Volumes(Collection):
    """Volumes."""

    path = "/storage/volumes"
    methods = ("GET", "POST", "PATCH", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": (
            "524601", "787141", "917508", "917526", "917534", "917551", "917775", "917835", "917886", "917887",
            "917888",
            "918242", "918243", "918244", "918247", "918652", "1638600", "2621462", "2621706", "2621707",
            "13107307", "13107405",
        ),
        "PATCH": (
            "4", "524511", "524849", "917526", "917534", "917551", "917617", "917628", "917886", "917887", "917888",
            "918248", "918251", "918652", "1638480", "9437885", "9437886", "13107406",
        ),
        "DELETE": ("524615", "917531", "13107406"),
    }  # fmt: skip
    parameters: ClassVar[Parameters] = {
        "PATCH": tuple(Field(name) for name in RESTORE),
        "DELETE": (Field("force", Kind.BOOLEAN),),
    }
    links: ClassVar[Links] = {
        **SVM_LINK,
        "clone.parent_volume": "/api/storage/volumes/{clone.parent_volume.uuid}",
        "clone.parent_snapshot": (
            "/api/storage/volumes/{clone.parent_volume.uuid}/snapshots/{clone.parent_snapshot.uuid}"
        ),
        "aggregates": "/api/storage/aggregates/{uuid}",
    }
    fields = FIELDS

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        for name in RESTORE:  # dataops and Trident send it as query, Ansible in the body
            self.by_name[name] = Field(name, modify=True)

    def records(self, call: Call) -> Iterable[r.Volume]:
        name = call.query.get("name", "")
        if is_plain(name):
            return self.core.volumes_by_plain_name[name]
        return self.core.volumes.values()

    def keyed(self) -> Mapping[str, r.Volume]:
        return self.core.volumes

    # creating ---------------------------------------------------------------------------------------------------------

    def create(self, call: Call, body: Body) -> Later:
        core = self.core
        svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid"))
        name = body.get("name") or ""
        volumes.check_volume_name(name)
        volumes.require_free_name(core, svm, name)
        lock = f"volume-name:{svm.uuid}/{name}"
        if core.locked(lock):
            raise ApiError("13107405", name=name, svm=svm.name, target="name")
        if body.get("clone.is_flexclone") or any(part.startswith("clone.parent") for part in body):
            return self._clone(call, body, svm, name, lock)
        aggregate = self._aggregate(body)
        size = self._size(body, volumes.LEAST_SIZE)
        reserve = body.get("space.snapshot.reserve_percent")
        if reserve is not None and not 0 <= reserve <= 90:
            raise ApiError("917835", target="space.snapshot.reserve_percent")
        kind = body.get("type") or "rw"
        if kind == "ls":
            raise ApiError("13107307", target="type")
        arguments = {
            "svm": svm.uuid,
            "name": name,
            "aggregate": aggregate.uuid,
            "size": size,
            "type": kind,
            "state": self._state(body) or "online",
            "guarantee": body.get("guarantee.type") or "volume",
            "snapshot_policy": self._policy(body, svm.uuid) or ("none" if kind == "dp" else "default"),
            "snapshot_reserve": 5 if reserve is None else reserve,
            "comment": body.get("comment") or "",
            "dedupe": body.get("efficiency.dedupe") or "none",
            "compression": body.get("efficiency.compression") or "none",
            "extra": self._extra(body),
        }
        return Later("volume.create", arguments, node=aggregate.node, svm=svm.uuid, locks=(lock,), name=name)

    def _clone(self, call: Call, body: Body, svm: r.Svm, name: str, lock: str) -> Later:
        core = self.core
        parent = self._parent_volume(call, body, svm)
        for field in ("size", "space.size", "aggregates"):
            if body.get(field) is not None:
                raise ApiError("918247", field=field, target=field)
        if body.get("type") not in (None, "rw"):
            raise ApiError("918244", type=body["type"], target="type")
        wanted, uuid = body.get("clone.parent_snapshot.name"), body.get("clone.parent_snapshot.uuid")
        snapshot = None
        if wanted or uuid:
            copies = core.snapshots_of(parent.uuid)
            snapshot = next((s for s in copies if (s.name == wanted if wanted else s.uuid == uuid)), None)
            if snapshot is None:
                raise ApiError("1638600", snapshot=wanted or uuid, target="clone.parent_snapshot", status=400)
            if uuid and snapshot.uuid != uuid:
                raise ApiError("918243", target="clone.parent_snapshot")
        arguments = {
            "svm": svm.uuid,
            "name": name,
            "parent": parent.uuid,
            "snapshot": snapshot.uuid if snapshot else "",
            "snapshot_name": snapshot.name if snapshot else "",
            "guarantee": body.get("guarantee.type") or "",
            "comment": body.get("comment") or "",
            "split": bool(body.get("clone.split_initiated")),
            "extra": self._extra(body),
        }
        doomed = None if parent.state == "online" else ApiError("917775", name=parent.name)
        return Later(
            "volume.clone", arguments, node=core.node_of(parent).name, svm=svm.uuid, locks=(lock,), name=name,
            doomed=doomed,
        )  # fmt: skip

    def _parent_volume(self, call: Call, body: Body, svm: r.Svm) -> r.Volume:
        core = self.core
        name, uuid = body.get("clone.parent_volume.name"), body.get("clone.parent_volume.uuid")
        owner = svm
        if body.get("clone.parent_svm.name") or body.get("clone.parent_svm.uuid"):
            owner = core.svm(name=body.get("clone.parent_svm.name"), uuid=body.get("clone.parent_svm.uuid"))
        for volume in core.volumes.values():
            if call.svm not in (None, volume.svm):
                continue  # only the cluster's administrator clones across SVMs
            if uuid and volume.uuid == uuid:
                return volume
            if not uuid and volume.name == name and volume.svm == owner.uuid:
                return volume
        raise ApiError("524601", name=name or uuid or "", target="clone.parent_volume", status=400)

    def _aggregate(self, body: Body) -> r.Aggregate:
        given = body.get("aggregates") or []
        if len(given) != 1:
            raise ApiError("918242", target="aggregates")
        name, uuid = given[0].get("name"), given[0].get("uuid")
        for aggregate in self.core.aggregates.values():
            if (aggregate.uuid == uuid) if uuid else (aggregate.name == name):
                if name and aggregate.name != name:
                    raise ApiError("787141", target="aggregates")
                return aggregate
        raise ApiError("917508", name=name or uuid, target="aggregates.name", status=400)

    @staticmethod
    def _size(body: Body, default: int) -> int:
        size = body.get("size")
        if size is None:
            size = body.get("space.size")
        if size is None:
            return default
        if size < volumes.LEAST_SIZE:
            raise ApiError("917534", size=size, least=volumes.LEAST_SIZE, target="size")
        return int(size)

    def _policy(self, body: Body, svm: str) -> str | None:
        name, uuid = body.get("snapshot_policy.name"), body.get("snapshot_policy.uuid")
        if not name and not uuid:
            return None
        for policy in self.core.policies.values():
            if name in (None, policy.name) and uuid in (None, policy.uuid) and policy.svm in (None, svm):
                return policy.name
        raise ApiError("917551", policy=name or uuid, target="snapshot_policy", status=400)

    @staticmethod
    def _state(body: Body) -> str | None:
        state = body.get("state")
        if state is not None and state not in ("online", "offline", "restricted"):
            raise ApiError("918652", state=state, target="state")
        return state

    @staticmethod
    def _extra(body: Body) -> dict[str, Any]:
        kept = {name: body[name] for name in EXTRA if body.get(name) is not None}
        fraction = kept.get("space.fractional_reserve", 0)
        if fraction not in (0, 100):
            raise invalid_value(fraction, "space.fractional_reserve", "0|100")
        return kept

    # changing ---------------------------------------------------------------------------------------------------------

    def modify(self, call: Call, record: r.Volume, body: Body) -> Later | None:
        core = self.core
        common: dict[str, Any] = {"node": core.node_of(record).name, "svm": record.svm}
        lock = f"volume:{record.uuid}"
        doomed = ApiError("13107406", name=record.name) if core.locked(lock) else None
        if any(body.get(name) for name in RESTORE):
            return self._restore(record, body, common, lock, doomed)
        values = self._values(record, body)
        split = bool(body.get("clone.split_initiated"))
        if split and values:
            raise ApiError("918248", field=next(iter(values)), target="clone.split_initiated")
        if split and record.clone is None:
            raise ApiError("917628", target="clone.split_initiated")
        deduplicate = body.get("efficiency.scanner.state") == "running"
        if not values and not split and not deduplicate:
            return None
        if split and doomed is None:
            doomed = self._no_split(record)
        locks = (lock, f"split:{record.uuid}", f"snapshots:{record.uuid}") if split else (lock,)
        arguments = {"volume": record.uuid, "values": values, "split": split, "deduplicate": deduplicate}
        seconds = core.costs["ontap.volume.split"] if split else None
        return Later("volume.modify", arguments, locks=locks, doomed=doomed, seconds=seconds, **common)

    def _no_split(self, record: r.Volume) -> ApiError | None:
        """Why a FlexClone volume cannot be split now: it is not online, or an end of a mirror."""
        if record.state != "online":
            return ApiError("9437885", name=record.name)
        end = self.core.replication.end_of(record.uuid)
        reason = f"volume {record.name} is the {end} of a SnapMirror relationship"
        return ApiError("524849", reason=reason) if end else None

    def _restore(
        self, record: r.Volume, body: Body, common: dict[str, Any], lock: str, doomed: ApiError | None
    ) -> Later:
        core = self.core
        for name in body:
            if name not in RESTORE:
                raise ApiError("918251", field=name, target=name)
        if record.type != "rw":  # a mirror is brought to an older copy by breaking it
            raise ApiError("917628", target="restore_to.snapshot")
        wanted, uuid = body.get(RESTORE[0]), body.get(RESTORE[1])
        snapshot = next(
            (s for s in core.snapshots_of(record.uuid) if wanted in (None, s.name) and uuid in (None, s.uuid)), None
        )
        missing = ApiError("4", target="restore_to.snapshot") if snapshot is None else None
        return Later(
            "volume.restore",
            {"volume": record.uuid, "snapshot": snapshot.uuid if snapshot else ""},
            locks=(lock, f"revert:{record.uuid}"),
            doomed=doomed or missing,
            **common,
        )

    def _values(self, record: r.Volume, body: Body) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if body.get("name") is not None:
            volumes.check_volume_name(body["name"])
            values["name"] = body["name"]
            other = self.core.find_volume(record.svm, body["name"])
            if other is not None and other.uuid != record.uuid:
                svm = self.core.svms[record.svm]
                raise ApiError("917526", name=body["name"], svm=svm.name, target="name")
        if body.get("size") is not None or body.get("space.size") is not None:
            values["size"] = self._size(body, record.size)
        state = self._state(body)
        if state is not None:
            values["state"] = state
        policy = self._policy(body, record.svm)
        if policy is not None:
            if record.type != "rw":
                raise ApiError("917617", name=record.name, target="snapshot_policy")
            values["snapshot_policy"] = policy
        if body.get("space.snapshot.reserve_percent") is not None:
            values["snapshot_reserve"] = body["space.snapshot.reserve_percent"]
        for name, attribute in (
            ("comment", "comment"),
            ("guarantee.type", "guarantee"),
            ("efficiency.dedupe", "dedupe"),
            ("efficiency.compression", "compression"),
        ):
            if body.get(name) is not None:
                values[attribute] = body[name]
        if body.get("efficiency.state") == "disabled":
            values |= {"dedupe": "none", "compression": "none"}
        elif body.get("efficiency.state") == "enabled" and record.dedupe == "none":
            values.setdefault("dedupe", "background")
        extra = self._extra(body)
        if extra:
            values["extra"] = {**record.extra, **extra}
        return values

    def remove(self, call: Call, record: r.Volume) -> Later:
        core = self.core
        if record.is_svm_root and any(v.svm == record.svm and v.uuid != record.uuid for v in core.volumes.values()):
            raise ApiError("917531")
        lock = f"volume:{record.uuid}"
        doomed = ApiError("13107406", name=record.name) if core.locked(lock) else None
        if doomed is None and core.clones_of(record.uuid):
            doomed = ApiError("524615", name=record.name)
        return Later(
            "volume.delete", {"volume": record.uuid}, node=core.node_of(record).name, svm=record.svm, locks=(lock,),
            doomed=doomed,
        )  # fmt: skip

    def not_found(self, values: Sequence[str]) -> ApiError:
        return ApiError("4", target="uuid")
