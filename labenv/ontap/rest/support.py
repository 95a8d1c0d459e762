"""/support/ems: what applications report to the array (SnapDrive's and SMHV's AutoSupport messages)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from labenv.ontap import records as r
from labenv.ontap.errors import ApiError
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import (
    Body,
    Codes,
    Field,
    Now,
)
from labenv.ontap.rest.values import Kind, show_time

SEVERITIES = ("emergency", "alert", "error", "notice", "informational", "debug")


class ApplicationLogs(Collection):
    """POST only: an application's event."""

    path = "/support/ems/application-logs"
    keys = ()
    default = ()
    methods = ("POST",)
    codes: ClassVar[Codes] = {"POST": ("262197", "983173")}
    fields = (
        Field("computer_name", create=True),
        Field("event_source", create=True),
        Field("app_version", create=True),
        Field("event_id", Kind.INTEGER, create=True),
        Field("category", create=True),
        Field("event_description", create=True),
        Field("severity", create=True, choices=SEVERITIES),
        Field("autosupport_required", Kind.BOOLEAN, create=True),
    )

    def records(self, call: Call) -> Iterable[Any]:
        return ()

    def href(self, record: Any) -> str:
        return "/api/support/ems/application-logs"

    def create(self, call: Call, body: Body) -> Now:
        core = self.core
        for name in ("computer_name", "event_source", "app_version", "event_id", "event_description", "severity"):
            if body.get(name) in (None, ""):
                raise ApiError("983173", reason=f'"{name}" is needed', target=name)

        def apply() -> r.ApplicationLog:
            index = len(core.application_logs) + 1
            log = r.ApplicationLog(
                index=index,
                time=core.now,
                node=next(iter(core.nodes.values())).name,
                severity=body["severity"],
                computer_name=body["computer_name"],
                event_source=body["event_source"],
                app_version=body["app_version"],
                category=body.get("category") or "",
                event_id=body["event_id"],
                event_description=body["event_description"],
                autosupport_required=bool(body.get("autosupport_required")),
            )
            core.application_logs[str(index)] = log
            return log

        return Now("application_log.create", apply)


class Events(Collection):
    """Events of the array; in the lab those that applications reported."""

    path = "/support/ems/events"
    keys = ("index",)
    default = ("index", "message.name")
    codes: ClassVar[Codes] = {"GET": ("4", "262197")}
    fields = (
        Field("index", Kind.INTEGER, read=lambda core, e: e.index),
        Field("time", Kind.TIME, read=lambda core, e: show_time(e.time)),
        Field("node.name", read=lambda core, e: e.node),
        Field("message.name", read=lambda core, e: f"app.log.{e.severity}"),
        Field("message.severity", read=lambda core, e: e.severity),
        Field("source", read=lambda core, e: e.event_source),
        Field(
            "log_message",
            read=lambda core, e: (
                f"app.log.{e.severity}: {e.computer_name}: {e.event_source} {e.app_version}: ({e.event_id}) "
                f"{e.category}: {e.event_description}"
            ),
        ),
        Field(
            "parameters",
            Kind.OBJECTS,
            read=lambda core, e: [
                {"name": "computer_name", "value": e.computer_name},
                {"name": "event_source", "value": e.event_source},
                {"name": "event_id", "value": str(e.event_id)},
                {"name": "event_description", "value": e.event_description},
            ],
            items=(Field("name"), Field("value")),
        ),
    )

    def records(self, call: Call) -> Iterable[r.ApplicationLog]:
        return self.core.application_logs.values()
