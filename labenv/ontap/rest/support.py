"""/support/ems: what applications report to the array, and its events; /security/audit/messages: who changed what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from labenv.ontap import records as r
from labenv.ontap.errors import ApiError
from labenv.ontap.events import emit
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import Access, Body, Codes, Field, Now
from labenv.ontap.rest.values import Kind, show_time

SEVERITIES = ("emergency", "alert", "error", "notice", "informational", "debug")


class ApplicationLogs(Collection):
    """POST only: an application's event (SnapDrive's and SMHV's AutoSupport messages)."""

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
        for name in ("computer_name", "event_source", "app_version", "event_id", "event_description", "severity"):
            if body.get(name) in (None, ""):
                raise ApiError("983173", reason=f'"{name}" is needed', target=name)
        category = body.get("category") or ""
        text = (
            f"{body['computer_name']}: {body['event_source']} {body['app_version']}: ({body['event_id']}) "
            f"{category}: {body['event_description']}"
        )

        def apply() -> r.Event:
            return emit(
                self.core,
                f"app.log.{body['severity']}",
                severity=body["severity"],
                text=text,
                source=body["event_source"],
                computer_name=body["computer_name"],
                event_source=body["event_source"],
                app_version=body["app_version"],
                category=category,
                event_id=body["event_id"],
                event_description=body["event_description"],
                autosupport_required=str(bool(body.get("autosupport_required"))).lower(),
            )

        return Now("application_log.create", apply)


class Events(Collection):
    """EMS events of the array, and those that applications reported."""

    path = "/support/ems/events"
    keys = ("node.name", "index")
    default = ("node.name", "index", "message.name")
    access = Access.CLUSTER
    codes: ClassVar[Codes] = {"GET": ("4", "262197")}
    fields = (
        Field("index", Kind.INTEGER, read=lambda core, e: e.index),
        Field("time", Kind.TIME, read=lambda core, e: show_time(e.time)),
        Field("node.name", read=lambda core, e: e.node),
        Field("node.uuid", read=lambda core, e: core.node(e.node).uuid),
        Field("message.name", read=lambda core, e: e.name),
        Field("message.severity", read=lambda core, e: e.severity, choices=SEVERITIES),
        Field("source", read=lambda core, e: e.source),
        Field("log_message", read=lambda core, e: e.text),
        Field(
            "parameters",
            Kind.OBJECTS,
            read=lambda core, e: [{"name": name, "value": value} for name, value in e.parameters.items()] or None,
            items=(Field("name"), Field("value")),
        ),
    )

    def records(self, call: Call) -> Iterable[r.Event]:
        return self.core.events.values()


class AuditMessages(Collection):
    """Requests that change something: who sent them, with which application (``X-Dot-Client-App``), how they ended."""

    path = "/security/audit/messages"
    keys = ("node.uuid", "index")
    default = ("node.name", "node.uuid", "index", "timestamp")
    access = Access.CLUSTER
    codes: ClassVar[Codes] = {"GET": ("4", "262197")}
    fields = (
        Field("index", Kind.INTEGER, read=lambda core, a: a.index),
        Field("timestamp", Kind.TIME, read=lambda core, a: show_time(a.time)),
        Field("node.name", read=lambda core, a: a.node),
        Field("node.uuid", read=lambda core, a: core.node(a.node).uuid),
        Field("application", read=lambda core, a: "http"),
        Field("user", read=lambda core, a: a.user),
        Field("scope", read=lambda core, a: "cluster" if a.svm is None else "svm"),
        Field("svm.name", read=lambda core, a: core.svms[a.svm].name if a.svm in core.svms else None),
        Field("input", read=lambda core, a: a.input),
        Field("location", read=lambda core, a: a.location or None),
        Field("state", read=lambda core, a: a.state, choices=("pending", "success", "error")),
        Field("message", read=lambda core, a: "; ".join(part for part in (a.client_app, a.message) if part) or None),
    )

    def records(self, call: Call) -> Iterable[r.AuditEntry]:
        return self.core.audit.values()
