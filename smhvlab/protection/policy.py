"""Policies: what is done for a dataset, when, and for how long it is kept (TR 5.2, 6.3 to 6.5), as readable TOML.

::

    name = "sql-hourly"
    dataset = "SQL"
    consistency = "application"

    [schedule]
    repeat = "hourly"

    [retention]
    keep = 30

Everything that does not fit is refused by the name of its field, with the nearest value that works.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any, Final, Literal, get_args, get_type_hints
from zoneinfo import available_timezones

import msgspec
import tomli_w

from smhvlab.errors import Misfit, NotAllowed, SmhvLabError
from smhvlab.protection.schedule import LAST, Repeat, Schedule, Weekday
from smhvlab.snapinfo import NAME
from smhvlab.wires.cmdlets import cmdlet


class Tag(StrEnum):
    """Retention tags (TR 6.3): backups of one tag are counted together; unlimited ones are never deleted."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    UNLIMITED = "unlimited"


class Level(StrEnum):
    """When a policy sends mail (TR 5.2); mail after every backup is discouraged there."""

    NEVER = "never"
    ERROR = "error"
    WARNING = "warning"
    ALWAYS = "always"


class Phase(StrEnum):
    """When a script runs (TR 6.5)."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long backups of a tag are kept (TR 6.3): the newest ``keep``, or those younger than ``days``.

    Attributes:
        tag: that of the schedule if it is not given.
    """

    tag: Tag | None = None
    keep: int | None = None
    days: float | None = None

    def __str__(self) -> str:
        if self.keep is not None:
            return f"the newest {self.keep}"
        if self.days is not None:
            return f"{self.days:g} days"
        return "never deleted"

    @property
    def age(self) -> timedelta | None:
        """The age above which a backup is deleted."""
        return None if self.days is None else timedelta(days=self.days)


@dataclass(frozen=True, kw_only=True)
class Script:
    """A command before or after the backup (TR 6.5): one cmdlet of the wire's table with its parameters.

    Attributes:
        server: the one host on which it runs, "" for all member hosts.
    """

    phase: Phase
    command: str
    parameters: dict[str, Any] = field(default_factory=dict)
    server: str = ""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a backup of the policy does besides (TR 5.2, 6.4, 12).

    Attributes:
        allow_saved_state: take VMs that cannot be backed up online in their saved state (application-consistent only).
        distributed: one backup for all nodes of a cluster (application-consistent only); None: where it is possible;
            false: a set on each node.
        replicate: update the SnapMirror relationships of the volumes afterwards.
        verify: check the backup's images afterwards.
    """

    allow_saved_state: bool = False
    distributed: bool | None = None
    replicate: bool = False
    verify: bool = False


@dataclass(frozen=True, kw_only=True)
class Notification:
    """Who hears of a run of this policy: mail at a level, and AutoSupport through the array's log (TR 5.4)."""

    level: Level = Level.ERROR
    to: tuple[str, ...] = ()
    autosupport: bool = False


@dataclass(frozen=True, kw_only=True, repr=False)
class Policy:
    """One policy of one dataset (TR 5.2).

    Attributes:
        consistency: ``application`` (the TR's default) or ``crash``.
        schedule: None for a policy that only backups on demand use.
        since: runs before this moment are not due; set when the policy is first saved.
        enabled: a policy that is not enabled has no due runs; its retention stays.
        version: number of the stored version that this is, or was made from; 0 for a new one.
        removed: the policy was taken away by this version.
    """

    name: str
    dataset: str
    consistency: Literal["application", "crash"] = "application"
    description: str = ""
    enabled: bool = True
    schedule: Schedule | None = None
    retention: Retention
    options: Options = Options()
    notification: Notification = Notification()
    script: tuple[Script, ...] = ()
    since: datetime | None = None
    version: int = 0
    removed: bool = False

    def __str__(self) -> str:
        when = "on demand" if self.schedule is None else str(self.schedule)
        return f"{self.name}: {self.consistency}-consistent backup of {self.dataset} {when}; keeps {self.retention}"

    def __repr__(self) -> str:
        return f"Policy({self}, version {self.version})"

    @property
    def tag(self) -> Tag:
        """The retention tag of its backups."""
        if self.retention.tag is not None:
            return self.retention.tag
        return Tag.UNLIMITED if self.schedule is None else Tag(self.schedule.repeat.value)

    def toml(self) -> str:
        """The policy as TOML, without what has its usual value; ``from_toml`` reads it again."""
        return tomli_w.dumps(_sparse(self))

    def _repr_html_(self) -> str:
        from smhvlab.panels import html

        rows = [[html.text(name), html.text(text)] for name, text in self.facts().items()]
        return html.card(f"Policy {self.name}", "", html.table(["", ""], rows))

    def facts(self) -> Mapping[str, str]:
        """The policy in words, by the name of its part."""
        options = [f.name.replace("_", " ") for f in fields(self.options) if getattr(self.options, f.name)]
        options += ["not distributed"] * (self.options.distributed is False)
        scripts = [f"{s.phase}: {s.command}{f' on {s.server}' if s.server else ''}" for s in self.script]
        mail = f"{self.notification.level} to {', '.join(self.notification.to)}" if self.notification.to else "nobody"
        told = {
            "dataset": self.dataset,
            "consistency": self.consistency,
            "schedule": "on demand" if self.schedule is None else str(self.schedule),
            "retention": f"{self.retention}, tag {self.tag}",
            "options": ", ".join(options) or "none",
            "scripts": "; ".join(scripts) or "none",
            "mail": mail + (", and AutoSupport" if self.notification.autosupport else ""),
            "version": str(self.version or "not saved"),
        }
        return told if self.enabled else {**told, "enabled": "no"}


def from_toml(text: str) -> Policy:
    """The policy of a TOML text. Raises NotAllowed, with the field and the nearest value that works."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotAllowed(
            "This is no TOML", why=str(error), next_action="Mend the line that it names.", tr="5.2"
        ) from error
    return from_document(document)


def from_document(document: Mapping[str, Any]) -> Policy:
    """The policy of a TOML document. Raises NotAllowed, with the field and the nearest value that works."""
    name = document.get("name", "policy")
    _known(name, document, Policy, "")
    try:
        policy: Policy = msgspec.convert(document, Policy, strict=True)
    except msgspec.ValidationError as error:
        raise _misfit(name, str(error)) from error
    if policy.since is not None and policy.since.tzinfo is None:
        policy = replace(policy, since=policy.since.replace(tzinfo=UTC))
    validate(policy)
    return policy


def validate(policy: Policy) -> None:
    """Refuse a policy that cannot work. Raises NotAllowed, with the field and the nearest value that works."""

    def refuse(where: str, why: str, nearest: str, tr: str = "5.2") -> Misfit:
        said = f"Policy {policy.name}: {where} {why}"
        return Misfit(said, next_action=f"Use {nearest}.", field=where, nearest=nearest, tr=tr)

    if not NAME.match(policy.name):
        better = "".join(c if NAME.match(c) else "-" for c in policy.name)[:60] or "hourly"
        raise refuse("name", f"is {policy.name!r}: 1 to 60 of the characters a-z, A-Z, 0-9, _ and -", f'"{better}"')
    if not policy.dataset:
        raise refuse("dataset", "is missing", "the name of a dataset")
    for problem in (*_schedule(policy.schedule), *_retention(policy), *_options(policy), *_notification(policy)):
        raise refuse(*problem)
    for number, script in enumerate(policy.script):
        try:
            info = cmdlet(script.command)
            for parameter in script.parameters:
                info.parameter(parameter)
        except SmhvLabError as error:
            where = f"script[{number}].command" if error.message.startswith("smhvlab") else f"script[{number}]"
            raise Misfit(
                f"Policy {policy.name}: {where}: {error.message}",
                why="a script is one cmdlet with its parameters; script text is never sent to a host",
                next_action=error.next_action,
                field=where,
                tr="6.5",
            ) from error


_Problem = tuple[str, str, str, str]


def _schedule(schedule: Schedule | None) -> list[_Problem]:
    """Where, why, nearest and section of what is wrong with a schedule."""
    if schedule is None:
        return []
    found: list[_Problem] = []

    def add(field_name: str, why: str, nearest: str) -> None:
        found.append((f"schedule.{field_name}", why, nearest, "6.3"))

    if (better := _clock(schedule.at)) != schedule.at:
        add("at", f"is {schedule.at!r}, which is no time HH:MM", f'"{better}"')
    if schedule.timezone not in _zones():
        close = difflib.get_close_matches(schedule.timezone, sorted(_zones()), n=1, cutoff=0.4)
        add("timezone", f"is {schedule.timezone!r}, which is no time zone", f'"{close[0] if close else "UTC"}"')
    hourly = schedule.repeat is Repeat.HOURLY
    if hourly and not 1 <= schedule.every <= 23:
        add("every", f"is {schedule.every}", "1, or up to 23 hours" if schedule.every < 1 else 'repeat = "daily"')
    if not hourly and schedule.every != 1:
        add("every", f"is for hourly schedules, this one is {schedule.repeat}", "no every")
    weekly = schedule.repeat is Repeat.WEEKLY
    if weekly and not schedule.days:
        add("days", "is empty", 'days = ["monday"]')
    if not weekly and schedule.days:
        add("days", f"is for weekly schedules, this one is {schedule.repeat}", 'repeat = "weekly", or no days')
    if schedule.repeat is Repeat.MONTHLY:
        if schedule.day != LAST and not (isinstance(schedule.day, int) and 1 <= schedule.day <= 28):
            late = isinstance(schedule.day, int) and schedule.day > 28
            why = f"is {schedule.day!r}, which not every month has" if late else f"is {schedule.day!r}"
            add("day", why, f'"{LAST}"' if late or isinstance(schedule.day, str) else "1")
    elif schedule.day != 1:
        add("day", f"is for monthly schedules, this one is {schedule.repeat}", "no day")
    return found


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())  # it reads a whole folder


def _retention(policy: Policy) -> list[_Problem]:
    retention, tr = policy.retention, "6.3"
    if policy.tag is Tag.UNLIMITED:
        if retention.keep is None and retention.days is None:
            return []
        if retention.tag is None:
            return [("retention.tag", "is missing; without a schedule there is none", '"daily"', tr)]
        where = "retention.keep" if retention.days is None else "retention.days"
        return [(where, "does not go with the tag unlimited", "neither keep nor days, or another tag", tr)]
    if retention.keep is None and retention.days is None:
        return [("retention", "says neither keep nor days", 'keep = 30, or tag = "unlimited"', tr)]
    if retention.keep is not None and retention.days is not None:
        return [("retention", "says both keep and days", "one of them", tr)]
    if retention.keep is not None and retention.keep < 1:
        return [("retention.keep", f"is {retention.keep}", "1", tr)]
    if retention.days is not None and not retention.days > 0:
        return [("retention.days", f"is {retention.days:g}", "1", tr)]
    if retention.days is not None and retention.days > 36_500:
        return [("retention.days", f"is {retention.days:g}", 'tag = "unlimited" and no days', tr)]
    return []


def _options(policy: Policy) -> list[_Problem]:
    if policy.consistency == "application":
        return []
    found: list[_Problem] = []
    why = "does not go with crash-consistent backups"
    if policy.options.allow_saved_state:
        found.append(("options.allow_saved_state", why, 'false, or consistency = "application"', "6.4"))
    if policy.options.distributed:
        found.append(("options.distributed", why, 'false, or consistency = "application"', "12"))
    return found


def _notification(policy: Policy) -> list[_Problem]:
    for address in policy.notification.to:
        local, at, domain = address.rpartition("@")
        if not (local and at and domain) or any(c.isspace() or c in "<>,;" for c in address):
            nearest = "an address like storage@example.org"
            return [("notification.to", f"holds {address!r}, which is no mail address", nearest, "5.4")]
    return []


def advice(policy: Policy) -> list[str]:
    """What the TR advises against in a policy that works."""
    found = []
    if policy.notification.level is Level.ALWAYS and policy.notification.to:
        found.append("Mail after every backup becomes unmanageable; the TR prefers errors and warnings (5.2).")
    if policy.tag is Tag.UNLIMITED and policy.schedule is not None:
        found.append("Its backups stay until somebody deletes them, and count against the volume's limit (6.3).")
    if policy.options.allow_saved_state:
        found.append("A saved-state backup can mean downtime: not for mission-critical VMs (6.4; 13 says otherwise).")
    if any(s.phase is Phase.BEFORE and "$" in str(s.parameters) for s in policy.script):
        found.append("Variables are replaced in the phase after the backup only; before it they stay as written (6.5).")
    return found


def differences(mine: Policy, theirs: Policy) -> list[str]:
    """Field by field what two versions of a policy say differently."""
    one, other = _flat(_sparse(mine)), _flat(_sparse(theirs))
    names = sorted((one.keys() | other.keys()) - {"version", "since"})
    return [
        f"{name}: yours {one.get(name, 'not set')}, theirs {other.get(name, 'not set')}"
        for name in names
        if one.get(name) != other.get(name)
    ]


# --- reading and writing ---------------------------------------------------------------------------------------------


def _known(name: str, table: Mapping[str, Any], kind: type, path: str) -> None:
    """Refuse a field that the class does not have, and name the one that may have been meant."""
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    for key, value in table.items():
        if key not in names:
            close = difflib.get_close_matches(key, names, n=1)
            nearest = close[0] if close else f"one of {', '.join(names)}"
            told = f"Policy {name}: there is no field {path}{key}"
            raise Misfit(told, next_action=f"Use {nearest}.", field=f"{path}{key}", tr="5.2")
        inner = next((t for t in (hints[key], *get_args(hints[key])) if isinstance(t, type) and is_dataclass(t)), None)
        if inner is not None and isinstance(value, dict):
            _known(name, value, inner, f"{path}{key}.")
        elif inner is not None and isinstance(value, list):
            for number, entry in enumerate(value):
                if isinstance(entry, dict):
                    _known(name, entry, inner, f"{path}{key}[{number}].")


def _misfit(name: object, told: str) -> Misfit:
    """msgspec's complaint in our words: the field, and for a choice the nearest one."""
    why, _, place = told.partition(" - at `")
    where = place.rstrip("`").removeprefix("$").lstrip(".")
    nearest = why.partition("`")[2].partition("`")[0]
    if why.startswith("Invalid enum value"):
        choices = _CHOICES.get(re.sub(r"\[.*?\]", "", where).rpartition(".")[2], ())
        said = why.partition("'")[2].rpartition("'")[0]
        close = difflib.get_close_matches(said, choices, n=1, cutoff=0.3)
        nearest = f'"{close[0]}"' if close else f"one of {', '.join(choices)}"
        text = f"Policy {name}: {where} is {said!r}"
        return Misfit(text, next_action=f"Use {nearest}.", field=where, nearest=nearest, tr="5.2")
    if why.startswith("Object missing"):
        missing = f"{where}.{nearest}".lstrip(".")
        return Misfit(f"Policy {name}: {missing} is missing", next_action=f"Add {missing}.", field=missing, tr="5.2")
    kinds = _KINDS.get(nearest.partition(" |")[0], "a value of the kind that is expected")
    text = f"Policy {name}: {where or 'it'} does not fit"
    return Misfit(text, why=why, next_action=f"Write {kinds}.", field=where, tr="5.2")


_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "repeat": tuple(Repeat),
    "days": tuple(Weekday),
    "tag": tuple(Tag),
    "level": tuple(Level),
    "phase": tuple(Phase),
    "consistency": ("application", "crash"),
}


_KINDS: Final[Mapping[str, str]] = {
    "int": "a whole number, without quotes",
    "float": "a number, without quotes",
    "str": 'a text in quotes, e.g. "02:30"',
    "bool": "true or false, without quotes",
    "array": "a list in brackets",
    "datetime": "a moment such as 2013-03-04T08:00:00Z, without quotes",
}


def _clock(text: str) -> str:
    """The nearest time of the day HH:MM."""
    hours, _, minutes = text.partition(":")
    digits = ["".join(c for c in part if c.isdecimal()) for part in (hours, minutes.partition(":")[0])]
    hour, minute = (int(part[:4] or 0) for part in digits)
    return f"{min(hour, 23):02}:{min(minute, 59):02}"


def _sparse(value: Any) -> Any:
    """A policy as TOML values, without what has its usual value."""
    if is_dataclass(value) and not isinstance(value, type):
        table = {}
        for f in fields(value):
            content = getattr(value, f.name)
            usual = f.default_factory() if callable(f.default_factory) else f.default
            if content != usual and content is not None:
                table[f.name] = _sparse(content)
        return table
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple | list):
        return [_sparse(entry) for entry in value]
    return value


def _flat(table: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value
    return found
