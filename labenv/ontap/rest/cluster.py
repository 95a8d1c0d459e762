"""/cluster, /cluster/nodes, /cluster/jobs, /cluster/licensing/licenses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.jobs import KEPT
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import (
    SVM_LINK,
    Access,
    Body,
    Codes,
    Field,
    Links,
    Now,
    Parameters,
    svm_fields,
)
from labenv.ontap.rest.values import Kind, show_time


def version_numbers(core: Core) -> tuple[int, int, int]:
    """(generation, major, minor) of the version that the cluster reports."""
    parts = [int(part) for part in core.spec.version.split(".")]
    generation, major, minor = (*parts, 0, 0, 0)[:3]
    return generation, major, minor


def full_version(core: Core) -> str:
    """The version as ONTAP prints it."""
    return f"NetApp Release {core.spec.version}: Mon Mar 04 08:00:00 UTC 2013"


VERSION_FIELDS = (
    Field("version.full", read=lambda core, _: full_version(core)),
    Field("version.generation", Kind.INTEGER, read=lambda core, _: version_numbers(core)[0]),
    Field("version.major", Kind.INTEGER, read=lambda core, _: version_numbers(core)[1]),
    Field("version.minor", Kind.INTEGER, read=lambda core, _: version_numbers(core)[2]),
)


class Clusters(Collection):
    """The cluster itself: one record without keys."""

    path = "/cluster"
    keys = ()
    access = Access.READ
    codes: ClassVar[Codes] = {"GET": ("262197",), "PATCH": ("262179", "262196", "262197")}
    methods = ("GET", "PATCH")
    fields = (
        Field("uuid", read=lambda core, _: core.identity["uuid"]),
        Field("name", read=lambda core, _: core.identity["name"], modify=True),
        *VERSION_FIELDS,
        Field("contact", read=lambda core, _: core.identity.get("contact"), modify=True),
        Field("location", read=lambda core, _: core.identity.get("location"), modify=True),
        Field("timezone.name", read=lambda core, _: "Etc/UTC"),
        Field("san_optimized", Kind.BOOLEAN, read=lambda core, _: False),
        Field("disaggregated", Kind.BOOLEAN, read=lambda core, _: False),
        Field(
            "management_interfaces",
            Kind.OBJECTS,
            read=lambda core, _: [
                {"uuid": lif.uuid, "name": lif.name, "ip.address": lif.address}
                for lif in core.lifs.values()
                if lif.svm is None and lif.service_policy == "default-management"
            ],
            items=(Field("uuid"), Field("name"), Field("ip.address")),
        ),
    )

    def records(self, call: Call) -> Iterable[str]:
        return (self.core.identity["uuid"],)

    def href(self, record: Any) -> str:
        return "/api/cluster"

    def modify(self, call: Call, record: Any, body: Body) -> Now:
        def apply() -> None:
            for name, value in body.items():
                self.core.identity[name] = value

        return Now("cluster.modify", apply)


class Nodes(Collection):
    """Controllers."""

    path = "/cluster/nodes"
    access = Access.CLUSTER
    codes: ClassVar[Codes] = {"GET": ("4", "262197")}
    fields = (
        Field("uuid", read=lambda core, n: n.uuid),
        Field("name", read=lambda core, n: n.name),
        Field("serial_number", read=lambda core, n: n.serial_number),
        Field("model", read=lambda core, n: "SIMBOX"),
        Field("state", read=lambda core, n: n.state),
        Field("membership", read=lambda core, n: "member"),
        Field("is_all_flash_optimized", Kind.BOOLEAN, read=lambda core, n: False, expensive=True),
        Field("is_all_flash_select_optimized", Kind.BOOLEAN, read=lambda core, n: False, expensive=True),
        Field("date", Kind.TIME, read=lambda core, n: show_time(core.now)),
        *VERSION_FIELDS,
        Field("ha.enabled", Kind.BOOLEAN, read=lambda core, n: len(core.nodes) > 1),
        Field(
            "ha.partners",
            Kind.OBJECTS,
            read=lambda core, n: [{"name": p.name, "uuid": p.uuid} for p in partners(core, n)],
            items=(Field("name"), Field("uuid")),
        ),
        Field(
            "management_interfaces",
            Kind.OBJECTS,
            read=lambda core, n: [
                {"name": lif.name, "uuid": lif.uuid, "ip.address": lif.address}
                for lif in core.lifs.values()
                if lif.svm is None and lif.home_node == n.name
            ],
            items=(Field("name"), Field("uuid"), Field("ip.address")),
        ),
    )

    def records(self, call: Call) -> Iterable[r.Node]:
        return self.core.nodes.values()


def partners(core: Core, node: r.Node) -> list[r.Node]:
    """The other node of an HA pair: nodes pair up in the order of the cluster."""
    nodes = list(core.nodes.values())
    index = nodes.index(node) ^ 1
    return [nodes[index]] if index < len(nodes) else []


class JobRecords(Collection):
    """Jobs. A reader that finds one unfinished waits a lab second, so that polling ends."""

    path = "/cluster/jobs"
    default = ("uuid",)
    polls = True
    methods = ("GET", "PATCH")
    codes: ClassVar[Codes] = {"GET": ("4", "262197"), "PATCH": ("4", "458762", "458783", "458784", "262197")}
    links: ClassVar[Links] = SVM_LINK
    parameters: ClassVar[Parameters] = {"PATCH": (Field("action", choices=("cancel", "pause", "resume")),)}
    fields = (
        Field("uuid", read=lambda core, j: j.uuid),
        Field("description", read=lambda core, j: j.description),
        Field("state", read=lambda core, j: j.state),
        Field("message", read=lambda core, j: job_message(j)),
        Field("code", Kind.INTEGER, read=lambda core, j: int(j.failure.code) if j.failure else 0),
        Field("error.message", read=lambda core, j: j.failure.message if j.failure else None),
        Field("error.code", read=lambda core, j: j.failure.code if j.failure else None),
        Field("error.target", read=lambda core, j: (j.failure.target or None) if j.failure else None),
        Field("start_time", Kind.TIME, read=lambda core, j: show_time(j.start_time)),
        Field("end_time", Kind.TIME, read=lambda core, j: None if j.end_time is None else show_time(j.end_time)),
        Field("node.name", read=lambda core, j: j.node),
        *svm_fields(create=False),
    )

    def records(self, call: Call) -> Iterable[r.Job]:
        now = self.core.now
        return [job for job in self.core.jobs.values() if job.end_time is None or job.end_time + KEPT >= now]

    def unfinished(self, record: r.Job) -> bool:
        return record.end_time is None

    def modify(self, call: Call, record: r.Job, body: Body) -> Now | None:
        if record.end_time is not None:
            raise ApiError("458762")
        raise ApiError("458784" if body.get("action") == "cancel" else "458783")


def job_message(job: r.Job) -> str:
    """What a job says of itself."""
    if job.failure is not None:
        return job.failure.message
    return "success" if job.state == "success" else f"{job.operation} is running"


LICENCES = ("base", "iscsi", "fcp", "flexclone", "snaprestore", "snapmirror", "snapmanagersuite", "snapvault")
"""Packages that the lab knows."""


class Licences(Collection):
    """Licensed packages. A key is a package's name followed by any text: the lab has no real keys."""

    path = "/cluster/licensing/licenses"
    keys = ("name",)
    default = ("name", "scope", "state")
    access = Access.CLUSTER
    methods = ("GET", "POST", "DELETE")
    codes: ClassVar[Codes] = {"GET": ("4", "262197"), "POST": ("1115132", "1115141"), "DELETE": ("4",)}
    fields = (
        Field("name", read=lambda core, x: x.name),
        Field("scope", read=lambda core, x: "cluster"),
        Field("state", read=lambda core, x: "compliant"),
        Field(
            "licenses",
            Kind.OBJECTS,
            read=lambda core, x: [{"owner": core.identity["name"], "active": True, "evaluation": False}],
            items=(Field("owner"), Field("active", Kind.BOOLEAN), Field("evaluation", Kind.BOOLEAN)),
        ),
        Field("keys", Kind.TEXTS, create=True),
    )

    def records(self, call: Call) -> Iterable[r.Licence]:
        return self.core.licences.values()

    def create(self, call: Call, body: Body) -> Now:
        names = [self._package(key) for key in body.get("keys") or [""]]

        def apply() -> r.Licence:
            for name in names:
                self.core.licences[name] = r.Licence(name)
            return self.core.licences[names[0]]

        return Now("licence.create", apply)

    def _package(self, key: str) -> str:
        name = key.lower().split("-")[0]
        if name not in LICENCES:
            raise ApiError("1115141", key=key, target="keys")
        if name in self.core.licences:
            raise ApiError("1115132", name=name, target="keys")
        return name

    def remove(self, call: Call, record: r.Licence) -> Now:
        def apply() -> None:
            del self.core.licences[record.name]

        return Now("licence.delete", apply)


class Schedules(Collection):
    """Job schedules, by cron fields or interval."""

    path = "/cluster/schedules"
    access = Access.READ
    methods = ("GET", "POST", "DELETE")
    codes: ClassVar[Codes] = {"GET": ("4", "262197"), "POST": ("1", "459760", "262179"), "DELETE": ("459758",)}
    fields = (
        Field("uuid", read=lambda core, s: s.uuid),
        Field("name", read=lambda core, s: s.name, create=True),
        Field("type", read=lambda core, s: "interval" if s.interval else "cron"),
        Field("interval", read=lambda core, s: s.interval or None, create=True),
        Field("cron.minutes", Kind.TEXTS, read=lambda core, s: list(s.minutes) or None, create=True),
        Field("cron.hours", Kind.TEXTS, read=lambda core, s: list(s.hours) or None, create=True),
        Field("cron.weekdays", Kind.TEXTS, read=lambda core, s: list(s.weekdays) or None, create=True),
    )

    def records(self, call: Call) -> Iterable[r.Schedule]:
        return self.core.schedules.values()

    def create(self, call: Call, body: Body) -> Now:
        name = body.get("name") or ""
        cron = {part: _numbers(body.get(f"cron.{part}")) for part in ("minutes", "hours", "weekdays")}
        if not name or (not body.get("interval") and not any(cron.values())):
            raise ApiError("459760")
        if any(s.name == name for s in self.core.schedules.values()):
            raise ApiError("1", target="name")

        def apply() -> r.Schedule:
            uuid = self.core.new_uuid("schedule", name)
            schedule = r.Schedule(uuid, name, body.get("interval") or "", **cron)
            self.core.schedules[uuid] = schedule
            return schedule

        return Now("schedule.create", apply)

    def remove(self, call: Call, record: r.Schedule) -> Now:
        for policy in self.core.policies.values():
            if any(copy.schedule == record.name for copy in policy.copies):
                raise ApiError("459758", name=record.name)

        def apply() -> None:
            del self.core.schedules[record.uuid]

        return Now("schedule.delete", apply)


def _numbers(values: Sequence[str] | None) -> tuple[int, ...]:
    try:
        return tuple(int(value) for value in values or ())
    except ValueError:
        raise ApiError("459760") from None


class SnapshotPolicies(Collection):
    """Snapshot policies."""

    path = "/storage/snapshot-policies"
    methods = ("GET", "POST", "PATCH", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": ("1638407", "1638408", "1638413", "1638451", "1638527", "2621462", "2621706"),
        "PATCH": ("262197",),
        "DELETE": ("1638415", "1638431"),
    }
    links: ClassVar[Links] = SVM_LINK
    fields = (
        Field("uuid", read=lambda core, p: p.uuid),
        Field("name", read=lambda core, p: p.name, create=True),
        Field("enabled", Kind.BOOLEAN, read=lambda core, p: p.enabled, create=True, modify=True),
        Field("comment", read=lambda core, p: p.comment or None, create=True, modify=True),
        Field("scope", read=lambda core, p: "cluster" if p.svm is None else "svm"),
        *svm_fields(),
        Field(
            "copies",
            Kind.OBJECTS,
            create=True,
            read=lambda core, p: [
                {
                    "schedule.name": copy.schedule,
                    "count": copy.count,
                    "prefix": copy.prefix,
                    "snapmirror_label": copy.snapmirror_label or None,
                }
                for copy in p.copies
            ],
            items=(
                Field("schedule.name"),
                Field("schedule.uuid"),
                Field("count", Kind.INTEGER),
                Field("prefix"),
                Field("snapmirror_label"),
            ),
        ),
    )

    def records(self, call: Call) -> Iterable[r.SnapshotPolicy]:
        return self.core.policies.values()

    def create(self, call: Call, body: Body) -> Now:
        core = self.core
        name = body.get("name") or ""
        if not name:
            raise ApiError("2", reason="a name is needed", target="name")
        svm = None
        if body.get("svm.name") or body.get("svm.uuid"):
            svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid")).uuid
        if any(p.name == name and p.svm in (svm, None) for p in core.policies.values()):
            raise ApiError("1638527", name=name, target="name")
        copies = tuple(self._copy(element) for element in body.get("copies") or [])
        total = sum(copy.count for copy in copies)
        if total > core.spec.snapshot_limit:
            raise ApiError("1638451", total=total, limit=core.spec.snapshot_limit)

        def apply() -> r.SnapshotPolicy:
            uuid = core.new_uuid("snapshot-policy", name)
            enabled = body.get("enabled")
            policy = r.SnapshotPolicy(
                uuid, name, copies, enabled=True if enabled is None else enabled, comment=body.get("comment") or "",
                svm=svm,
            )  # fmt: skip
            core.policies[uuid] = policy
            return policy

        return Now("snapshot_policy.create", apply)

    def _copy(self, element: Body) -> r.PolicyCopy:
        name = element.get("schedule.name")
        if not name:
            raise ApiError("1638408", target="copies.schedule.name")
        if element.get("count") is None:
            raise ApiError("1638407", target="copies.count")
        if not any(s.name == name for s in self.core.schedules.values()):
            raise ApiError("1638413", name=name, target="copies.schedule.name", status=400)
        label = element.get("snapmirror_label") or ""
        return r.PolicyCopy(name, element["count"], element.get("prefix") or name, label)

    def modify(self, call: Call, record: r.SnapshotPolicy, body: Body) -> Now:
        def apply() -> None:
            self.core.policies[record.uuid] = dataclasses.replace(record, **body)

        return Now("snapshot_policy.modify", apply)

    def remove(self, call: Call, record: r.SnapshotPolicy) -> Now:
        if record.name in ("default", "none"):
            raise ApiError("1638431", name=record.name)
        for volume in self.core.volumes.values():
            if volume.snapshot_policy == record.name:
                raise ApiError("1638415", name=record.name, volume=volume.name)

        def apply() -> None:
            del self.core.policies[record.uuid]

        return Now("snapshot_policy.delete", apply)
