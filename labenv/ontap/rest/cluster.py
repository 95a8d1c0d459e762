"""/cluster, /cluster/nodes, /cluster/jobs, /cluster/licensing/licenses."""

from __future__ import annotations

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
from labenv.ontap.rest.query import Filter
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

    def wanted(self, call: Call, *, instance: bool, filters: Sequence[Filter] = ()) -> dict[str, set[str] | None]:
        wanted = super().wanted(call, instance=instance, filters=filters)
        hidden = () if call.svm is None else ("san_optimized", "disaggregated")  # not an SVM's business
        return {name: inner for name, inner in wanted.items() if name not in hidden}

    def href(self, record: Any) -> str:
        return "/api/cluster"

    def modify(self, call: Call, record: Any, body: Body) -> Now:
        def apply() -> None:
            for name, value in body.items():
                self.core.identity[name] = value

        return Now("cluster.modify", apply)


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
