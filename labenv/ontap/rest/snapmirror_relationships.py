"""/snapmirror/relationships."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar
from urllib.parse import urlencode

from labenv.clock import SECOND
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import Body, Codes, Field, Later, Links, Parameters
from labenv.ontap.rest.snapmirror_endpoints import is_local, local, source_of
from labenv.ontap.rest.snapmirror_fields import FIELDS, STATES, path_of
from labenv.ontap.rest.values import Kind
from labenv.ontap.snapmirror import QUIESCE_SECONDS
from labenv.ontap.snapmirror_policies import find_policy
from labenv.ontap.snapmirror_records import Destination, Relationship

RELEASE = ("source_only", "source_info_only")
FLAGS = ("destination_only", *RELEASE)
BREAK_ONLY = ("restore_to_snapshot", "force")
MIRROR_ONLY = ("preserve", "quick_resync")


class Relationships(Collection):
    """SnapMirror relationships: those that end here, or (``list_destinations_only``) those that begin here."""

    path = "/snapmirror/relationships"
    default = ("uuid", "source.path", "destination.path")
    methods = ("GET", "POST", "PATCH", "DELETE")
    svm_field = "destination.svm.uuid"
    polls = True
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": (
            "6619441", "6619546", "6619637", "6619699", "13303821", "13303841", "13303852", "13303868",
            "13303869", "13303873", "13303874", "13303878", "13303886", "13303925",
        ),
        "PATCH": (
            "4", "6619546", "6619637", "6619699", "13303808", "13303810", "13303817", "13303818", "13303821",
            "13303823", "13303829", "13303830", "13303831", "13303832", "13303833", "13303834", "13303835",
            "13303836", "13303837", "13303851", "13304003", "13304086", "13304120",
        ),
        "DELETE": ("4", "6619715", "13303815", "13303822", "13303855", "13304082"),
    }  # fmt: skip
    parameters: ClassVar[Parameters] = {
        "GET": (Field("list_destinations_only", Kind.BOOLEAN),),
        "POST": (Field("validate_only", Kind.BOOLEAN),),
        "PATCH": (Field("force", Kind.BOOLEAN), Field("validate_only", Kind.BOOLEAN), Field("restore_to_snapshot")),
        "DELETE": tuple(Field(name, Kind.BOOLEAN) for name in FLAGS),
    }
    links: ClassVar[Links] = {
        "policy": "/api/snapmirror/policies/{policy.uuid}",
        "source.svm": "/api/svm/svms/{source.svm.uuid}",
        "destination.svm": "/api/svm/svms/{destination.svm.uuid}",
        "transfer": "/api/snapmirror/relationships/{uuid}/transfers/{transfer.uuid}",
    }
    fields = FIELDS

    def records(self, call: Call) -> Iterable[Relationship | Destination]:
        replication = self.core.replication
        flags = [name for name in FLAGS if call.flag(name)]
        if len(flags) > 1:
            raise ApiError("13304082", fields=", ".join(flags))
        if call.flag("list_destinations_only") or any(name in RELEASE for name in flags):
            return replication.destinations.values()
        return replication.relationships.values()

    def visible(self, call: Call) -> list[Any]:
        records = list(self.records(call))
        if call.svm is None:
            return records
        return [
            record
            for record in records
            if call.svm == (record.source if isinstance(record, Destination) else record.destination).svm
        ]

    def unfinished(self, record: Relationship | Destination) -> bool:
        return self.core.replication.active(record.uuid) is not None

    def not_found(self, values: Sequence[str]) -> ApiError:
        return ApiError("4", target="uuid")

    # creating ---------------------------------------------------------------------------------------------------------

    def create(self, call: Call, body: Body) -> Later:
        core = self.core
        create = bool(body.get("create_destination.enabled"))
        restore = bool(body.get("restore"))
        at = self._destination_cluster(body, create=create)
        here = core if at is None else at
        destination, volume = local(here, body, "destination", missing=create)
        if call.svm not in (None, destination.svm) and at is None:
            raise ApiError("6")
        source = source_of(here, body if at is None else self._seen_from(here, body, destination.svm), destination)
        if source.volume == destination.volume:
            raise ApiError("6619441", target="destination.path")
        path = f"{destination.svm_name}:{destination.volume_name}"
        if restore and create:
            raise ApiError("13303869", target="create_destination")
        if volume is not None and (create or self._in_use(here, volume.uuid, restore=restore)):
            raise ApiError("6619637" if not create else "13303868", path=path, reason=f"volume {path} exists")
        if restore and volume is not None and volume.type != "rw":
            reason = f"{path} is a data protection volume"
            raise ApiError("13303925", reason=reason, target="destination.path")
        state = body.get("state")
        if state and state != "snapmirrored":
            raise ApiError("13303874", state=state, target="state")
        if state and not create:
            raise ApiError("13303873", target="state")
        policy = self._policy(here, body, destination.svm) or "Asynchronous"
        arguments = {
            "at": "" if at is None else at.spec.name,
            "source": dataclasses.asdict(source),
            "destination": dataclasses.asdict(destination),
            "policy": policy,
            "schedule": self._schedule(here, body) or "",
            "throttle": body.get("throttle") or 0,
            "restore": restore,
            "create": create,
            "aggregate": "",
            "initialize": state == "snapmirrored",
        }
        operation = "snapmirror.validate" if body.get("validate_only") else "snapmirror.create"
        location = urlencode({"destination.path": path})
        if at is not None:
            location += "&list_destinations_only=true"
        return Later(operation, arguments, node=_node(core), svm=call.svm, location=location)

    def _destination_cluster(self, body: Body, *, create: bool) -> Core | None:
        """The peered cluster that is to get the destination; None: this one."""
        if not create or is_local(self.core, body, "destination"):
            return None
        core = self.core
        name = (body.get("destination.path") or "").partition(":")[0]
        for peer in core.replication.svm_peers.values():
            wanted = body.get("destination.cluster.name")
            if peer.name == name and peer.state == "peered" and wanted in (None, "", peer.peer_cluster):
                there = core.interconnect.peek(peer.peer_cluster)
                if there is not None and there is not core:
                    body["destination.path"] = f"{peer.peer_svm_name}:{body['destination.path'].partition(':')[2]}"
                    body.pop("destination.svm.name", None)
                    return there
        return None

    def _seen_from(self, there: Core, body: Body, svm: str) -> Body:
        """The body with the source's SVM as the destination cluster knows it."""
        source, _ = local(self.core, body, "source")
        for peer in there.replication.svm_peers.values():
            if peer.svm == svm and peer.peer_svm == source.svm:
                return {"source.path": f"{peer.name}:{source.volume_name}"}
        raise ApiError("13303886", svm=there.svms[svm].name, peer=source.svm_name, target="source.path")

    @staticmethod
    def _in_use(here: Core, volume: str, *, restore: bool) -> bool:
        if restore:
            return here.replication.restoring(volume) is not None
        return here.replication.of_volume(volume) is not None

    @staticmethod
    def _policy(core: Core, body: Body, svm: str) -> str | None:
        name, uuid = body.get("policy.name"), body.get("policy.uuid")
        if not name and not uuid:
            return None
        policy = find_policy(core, name, uuid, svm=svm)
        if policy is None:
            raise ApiError("13303821", name=name or uuid, target="policy")
        return policy.name

    @staticmethod
    def _schedule(core: Core, body: Body) -> str | None:
        """Name of the schedule; empty: none is wanted; None: nothing is said."""
        if "transfer_schedule.name" not in body and "transfer_schedule.uuid" not in body:
            return None
        name, uuid = body.get("transfer_schedule.name"), body.get("transfer_schedule.uuid")
        if not name and not uuid:
            return ""
        for schedule in core.schedules.values():
            if name in (None, "", schedule.name) and uuid in (None, "", schedule.uuid):
                return schedule.name
        raise ApiError("6619699", name=name or uuid, target="transfer_schedule")

    # changing ---------------------------------------------------------------------------------------------------------

    def modify(self, call: Call, record: Relationship | Destination, body: Body) -> Later | None:
        assert isinstance(record, Relationship)
        if record.restore:
            raise ApiError("13303851")
        state = body.get("state") or ""
        self._check_state(state)
        self._check_flags(state, body)
        if self._reversed(record, body):
            return self._reverse(record, state)
        values = {
            name: value
            for name, value in (
                ("policy", self._policy(self.core, body, record.destination.svm)),
                ("schedule", self._schedule(self.core, body)),
                ("throttle", body.get("throttle")),
            )
            if value is not None
        }
        if not state and not values:
            return None
        arguments = {
            "relationship": record.uuid,
            "state": state,
            "values": values,
            "restore_to_snapshot": body.get("restore_to_snapshot") or "",
            "preserve": bool(body.get("preserve")),
        }
        operation = "snapmirror.validate" if body.get("validate_only") else "snapmirror.modify"
        seconds = self._seconds(record, state)
        return self._later(operation, arguments, record, seconds)

    def _later(
        self, operation: str, arguments: dict[str, Any], record: Relationship, seconds: float | None = None
    ) -> Later:
        return Later(operation, arguments, node=_node(self.core), svm=record.destination.svm, seconds=seconds)

    def _seconds(self, record: Relationship, state: str) -> float:
        """A request to pause waits for the transfer that is under way, but not for ever."""
        core = self.core
        transfer = core.replication.active(record.uuid)
        if state == "paused" and transfer is not None:
            left = (transfer.due - core.now) / SECOND + 0.001
            return min(QUIESCE_SECONDS, left if len(transfer.queue) <= 1 else QUIESCE_SECONDS)
        names = {"paused": "quiesce", "broken_off": "break", "snapmirrored": "resume"}
        return core.costs[f"ontap.snapmirror.{names.get(state, 'modify')}"]

    @staticmethod
    def _check_state(state: str) -> None:
        if not state or state in ("snapmirrored", "paused", "broken_off"):
            return
        if state not in STATES:
            raise ApiError("13303817", state=state, target="state")
        if state == "in_sync":
            raise ApiError("13303831", state=state, target="state")
        raise ApiError("13303829" if state == "uninitialized" else "13303830", state=state, target="state")

    @staticmethod
    def _check_flags(state: str, body: Body) -> None:
        if body.get("recover_after_break"):
            raise ApiError("13303834", field="recover_after_break", target="recover_after_break")
        for names, wanted, code in (
            (BREAK_ONLY, "broken_off", "13303835"),
            (MIRROR_ONLY, "snapmirrored", "13303836"),
        ):
            for name in names:
                if body.get(name) and state != wanted:
                    raise ApiError(code if state else "13303837", field=name, target=name)

    def _reversed(self, record: Relationship, body: Body) -> bool:
        """Whether a PATCH exchanges source and destination; raises 13304120 for other paths."""
        paths = body.get("source.path"), body.get("destination.path")
        now = path_of(self.core, record.source), path_of(self.core, record.destination)
        if paths == (None, None) or all(path in (None, own) for path, own in zip(paths, now, strict=True)):
            return False
        # the two clusters may know the SVMs by different names: the volumes decide
        there = self.core.interconnect.peek(record.source.cluster)
        names = {record.source.svm_name} | {s.name for s in there.svms.values()} if there is not None else set()
        turned = (
            paths[0] in (None, now[1]),
            paths[1] is None
            or paths[1] == now[0]
            or (paths[1].partition(":")[2] == now[0].partition(":")[2] and paths[1].partition(":")[0] in names),
        )
        if not all(turned):
            raise ApiError("13304120", target="source.path")
        return True

    def _reverse(self, record: Relationship, state: str) -> Later:
        if state != "snapmirrored":
            raise ApiError("13303833", state=state or "unchanged", wanted="the reverse of itself", target="state")
        if record.source.cluster == record.destination.cluster:
            raise ApiError("13304003")
        return self._later("snapmirror.reverse", {"relationship": record.uuid}, record)

    # deleting ---------------------------------------------------------------------------------------------------------

    def remove(self, call: Call, record: Relationship | Destination) -> Later:
        flags = [name for name in FLAGS if call.flag(name)]
        if isinstance(record, Destination):
            keep = flags == ["source_info_only"]
            arguments = {"relationship": record.uuid, "keep": keep}
            return Later("snapmirror.release", arguments, node=_node(self.core), svm=record.source.svm)
        if record.restore and flags:
            raise ApiError("13303855")
        arguments = {"relationship": record.uuid, "destination_only": "destination_only" in flags}
        return self._later("snapmirror.delete", arguments, record)


def _node(core: Core) -> str:
    return next(iter(core.nodes.values())).name
