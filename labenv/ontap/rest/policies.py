"""/cluster/schedules and /storage/snapshot-policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from labenv.ontap import records as r
from labenv.ontap.errors import ApiError, invalid_value
from labenv.ontap.policies import policy_of
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
    Read,
    svm_fields,
)
from labenv.ontap.rest.values import Kind
from labenv.ontap.schedules import parse_interval
from labenv.ontap.snapshots import check_snapshot_name

CRON = {"minutes": (0, 59), "hours": (0, 23), "days": (1, 31), "months": (1, 12), "weekdays": (0, 6)}
"""Parts of a cron schedule and their bounds; weekday 0 is Sunday."""


def _cron_reader(part: str) -> Read:
    return lambda core, schedule: list(getattr(schedule, part)) or None


class Schedules(Collection):
    """Job schedules, by cron fields or interval."""

    path = "/cluster/schedules"
    access = Access.READ
    methods = ("GET", "POST", "PATCH", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": ("1", "459760", "262179"),
        "PATCH": ("459760", "461785", "461786"),
        "DELETE": ("459758",),
    }
    fields = (
        Field("uuid", read=lambda core, s: s.uuid),
        Field("name", read=lambda core, s: s.name, create=True),
        Field("type", read=lambda core, s: "interval" if s.interval else "cron"),
        Field("scope", read=lambda core, s: "cluster"),
        Field("interval", read=lambda core, s: s.interval or None, create=True, modify=True),
        *(
            Field(f"cron.{part}", Kind.TEXTS, read=_cron_reader(part), create=True, modify=True)
            for part in ("minutes", "hours", "days", "months", "weekdays")
        ),
    )

    def records(self, call: Call) -> Iterable[r.Schedule]:
        return self.core.schedules.values()

    def create(self, call: Call, body: Body) -> Now:
        name = body.get("name") or ""
        cron = _cron(body)
        interval = body.get("interval") or ""
        if not name or bool(interval) == any(cron.values()):
            raise ApiError("459760")
        _check_interval(interval)
        if any(s.name == name for s in self.core.schedules.values()):
            raise ApiError("1", target="name")

        def apply() -> r.Schedule:
            uuid = self.core.new_uuid("schedule", name)
            schedule = r.Schedule(uuid, name, interval, **cron)
            self.core.schedules[uuid] = schedule
            return schedule

        return Now("schedule.create", apply)

    def modify(self, call: Call, record: r.Schedule, body: Body) -> Now | None:
        values: dict[str, Any] = {part: numbers for part, numbers in _cron(body).items() if numbers}
        if values and record.interval:
            raise ApiError("461786", target="cron")
        if body.get("interval"):
            if not record.interval:
                raise ApiError("461785", target="interval")
            _check_interval(body["interval"])
            values = {"interval": body["interval"]}
        if not values:
            return None

        def apply() -> None:
            self.core.schedules[record.uuid] = dataclasses.replace(record, **values)

        return Now("schedule.modify", apply)

    def remove(self, call: Call, record: r.Schedule) -> Now:
        for policy in self.core.policies.values():
            if any(copy.schedule == record.name for copy in policy.copies):
                raise ApiError("459758", name=record.name)

        def apply() -> None:
            del self.core.schedules[record.uuid]

        return Now("schedule.delete", apply)


def _cron(body: Body) -> dict[str, tuple[int, ...]]:
    return {part: _numbers(part, body.get(f"cron.{part}")) for part in CRON}


def _numbers(part: str, values: Sequence[str] | None) -> tuple[int, ...]:
    try:
        numbers = tuple(sorted({int(value) for value in values or ()}))
    except ValueError:
        raise ApiError("459760") from None
    low, high = CRON[part]
    for number in numbers:
        if not low <= number <= high:
            raise invalid_value(number, f"cron.{part}", f"{low}..{high}")
    return numbers


def _check_interval(text: str) -> None:
    try:
        if text:
            parse_interval(text)
    except (ValueError, OverflowError):
        raise ApiError("459760") from None


class SnapshotPolicies(Collection):
    """Snapshot policies."""

    path = "/storage/snapshot-policies"
    methods = ("GET", "POST", "PATCH", "DELETE")
    shared = True
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": ("1638407", "1638408", "1638413", "1638451", "1638508", "1638527", "2621462", "2621706"),
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
        if len({copy.prefix for copy in copies}) < len(copies):
            raise ApiError("1638508", target="copies.prefix")
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
        if element["count"] < 1:
            raise invalid_value(element["count"], "copies.count", f"1..{self.core.spec.snapshot_limit}")
        prefix = element.get("prefix") or name
        try:
            check_snapshot_name(prefix)
        except ApiError:
            raise invalid_value(prefix, "copies.prefix", "name") from None
        return r.PolicyCopy(name, element["count"], prefix, element.get("snapmirror_label") or "")

    def modify(self, call: Call, record: r.SnapshotPolicy, body: Body) -> Now:
        values: dict[str, Any] = {name: value for name, value in body.items() if value is not None}

        def apply() -> None:
            self.core.policies[record.uuid] = dataclasses.replace(record, **values)

        return Now("snapshot_policy.modify", apply)

    def remove(self, call: Call, record: r.SnapshotPolicy) -> Now:
        if record.name in ("default", "none"):
            raise ApiError("1638431", name=record.name)
        for volume in self.core.volumes_by_policy[record.name]:
            if policy_of(self.core, volume) == record:
                raise ApiError("1638415", name=record.name, volume=volume.name)

        def apply() -> None:
            del self.core.policies[record.uuid]

        return Now("snapshot_policy.delete", apply)
