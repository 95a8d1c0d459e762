"""The editor of policies: a form, the same as TOML, and beside each field what does not fit and what would (TR 5.2)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from zoneinfo import available_timezones

import ipywidgets as widgets
import tomli_w

from smhvlab.errors import Misfit, NotAllowed, SmhvLabError
from smhvlab.panels.editor import Editor
from smhvlab.protection.budget import LIMIT_KEY
from smhvlab.protection.policy import Level, Policy, Tag, advice, differences, from_document, from_toml
from smhvlab.protection.schedule import LAST, Repeat, Weekday

_LABEL: Final = {"description_width": "14em"}
_ON_DEMAND: Final = "on demand"
_USUAL_TAG: Final = "(that of the schedule)"
_OPTIONS: Final = {
    "allow_saved_state": "Save VMs that cannot take part",
    "replicate": "Update the mirrors",
    "verify": "Check the images",
}
_HINTS: Final = {
    "options.allow_saved_state": "VMs that cannot be backed up while they run stand still for it; else it fails.",
    "options.replicate": "After each backup its volumes' SnapMirror relationships are updated: the other site has it.",
    "options.verify": "After each backup its disks are mounted on the host and looked at, and taken away again.",
    "options.distributed": "Of VMs on several nodes of a cluster: one set for all, or a backup of each node by itself.",
    "retention.tag": "Backups of one dataset and tag are counted and deleted together.",
    "consistency": "application: the guests take part through VSS. crash: as after a power failure, and much quicker.",
}
# What a policy says of distributed backups, None if it leaves that to the era of the hosts.
_DISTRIBUTED: Final[Mapping[str, bool | None]] = {
    "(where it is possible)": None,
    "one backup for all nodes": True,
    "one on each node": False,
}
# Which repetition each field of a schedule belongs to; a field of another one is not shown and does not count.
_OF_REPEAT: Final = {
    "schedule.every": {Repeat.HOURLY},
    "schedule.days": {Repeat.WEEKLY},
    "schedule.day": {Repeat.MONTHLY},
    "schedule.at": set(Repeat),
    "schedule.timezone": set(Repeat),
}
_NUMBERS: Final = ("schedule.every", "schedule.day", "retention.keep", "retention.days")


class PolicyEditor(Editor[Policy]):
    """A form of one policy; see ``Editor``.

    Every field stands in the form except scripts, which are written as TOML in ``text``: "Take the text" reads it into
    the form. A policy that would fill a volume is saved with ``anyway`` ticked only. With another name it is a copy.
    """

    what = "Policy"

    def __init__(self, site: Any, name: str = "") -> None:
        self._scripts: list[dict[str, Any]] = []
        self.anyway = widgets.Checkbox(
            value=False, description="save it even if it fills a volume", tooltip="Accept the Snapshot budget's refusal"
        )
        self.text = widgets.Textarea(rows=12, description="TOML", tooltip="The same policy as text", style=_LABEL)
        self.text.layout.width, self.anyway.layout.width = "46em", "30em"
        super().__init__(site, name)
        self.text_button = self._button("Take the text", "Read the TOML into the form", self.take_text)
        folded = widgets.Accordion([widgets.VBox([self.text, self.text_button])], titles=["The same as text (TOML)"])
        self.view = self._layout(self.anyway, below=[folded], hints=_HINTS)

    def _names(self) -> Sequence[str]:
        tools = self.site.tools()
        self.inputs["dataset"].options = [dataset.name for dataset in tools.snapinfo.datasets()] or [""]
        return list(self.site.policies()["name"])

    def _make_inputs(self) -> dict[str, Any]:
        """A tooltip ends with the name that the field has in TOML, in scripts and in errors."""

        def text(name: str, label: str, about: str) -> tuple[str, Any]:
            return name, widgets.Text(description=label, tooltip=f"{about} ({name})", style=_LABEL)

        def choice(name: str, label: str, options: Sequence[str], about: str) -> tuple[str, Any]:
            about = f"{about} ({name})"
            return name, widgets.Dropdown(description=label, options=list(options), tooltip=about, style=_LABEL)

        def box(name: str, label: str, about: str, *, value: bool = False) -> tuple[str, Any]:
            return name, widgets.Checkbox(description=label, tooltip=f"{about} ({name})", value=value)

        days = widgets.SelectMultiple(
            description="On these days",
            options=[day.value for day in Weekday],
            rows=7,
            tooltip="Of the week (schedule.days)",
            style=_LABEL,
        )
        zone = widgets.Combobox(
            description="In the time zone",
            options=sorted(available_timezones()),
            tooltip="IANA name (schedule.timezone)",
            style=_LABEL,
        )
        found: list[tuple[str, Any]] = [
            text("name", "Name", "Letters, digits, _ and -"),
            choice("dataset", "Dataset", [""], "What is backed up"),
            choice(
                "consistency", "Consistency", ["application", "crash"], "Application-consistent is the TR's default"
            ),
            text("description", "Description", "What it is for"),
            box("enabled", "It is in force: its runs are due", "Its retention stays if not", value=True),
            choice("schedule.repeat", "It runs", [_ON_DEMAND, *(r.value for r in Repeat)], "When it runs"),
            text("schedule.every", "Hours between two runs", "A whole number"),
            text("schedule.at", "At", "HH:MM on the wall of the time zone"),
            ("schedule.days", days),
            text("schedule.day", "On this day of the month", f"1 to 28, or {LAST}"),
            ("schedule.timezone", zone),
            text("retention.keep", "Keep this many backups", "How many backups are kept"),
            text("retention.days", "Or keep each for days", "How many days each is kept"),
            choice("retention.tag", "Retention tag", [_USUAL_TAG, *Tag], "Backups of a tag are counted together"),
            *(box(f"options.{name}", label, _HINTS[f"options.{name}"]) for name, label in _OPTIONS.items()),
            choice("options.distributed", "Nodes of a cluster", list(_DISTRIBUTED), "Distributed backup (TR 12)"),
            choice("notification.level", "Mail from this level on", list(Level), "When mail is sent"),
            text("notification.to", "Mail to", "Addresses, with commas between them"),
            box("notification.autosupport", "Tell AutoSupport", "Through the array's log"),
        ]
        return dict(found)

    def _read(self, name: str) -> Policy:
        return self.site.policy(name)

    def _store(self, thing: Policy) -> Policy:
        return self.site.set_policy(thing, accept={LIMIT_KEY} if self.anyway.value else ())

    # --- between form and text

    def _show(self, thing: Policy | None) -> None:
        self._put(tomllib.loads(thing.toml()) if thing is not None else {})

    def _put(self, document: Mapping[str, Any]) -> None:
        """A document into the widgets; what it leaves out gets its usual value."""
        flat = {
            f"{table}.{key}" if table else key: value
            for table, entries in [("", document), *((k, v) for k, v in document.items() if isinstance(v, dict))]
            for key, value in entries.items()
        }
        usual = {"consistency": "application", "enabled": True, "schedule.at": "00:00", "schedule.timezone": "UTC"}
        usual |= {"schedule.every": "1", "schedule.day": "1", "schedule.repeat": _ON_DEMAND}
        usual |= {"retention.tag": _USUAL_TAG, "notification.level": Level.ERROR.value}
        for name, one in self.inputs.items():
            value = flat.get(name, usual.get(name))
            if name == "dataset" and value is None:
                value = next(iter(one.options), "")
            if name == "options.distributed":
                value = next((text for text, meant in _DISTRIBUTED.items() if meant is value), value)
            if isinstance(one, widgets.Checkbox):
                one.value = bool(value)
            elif isinstance(one, widgets.SelectMultiple):
                one.value = tuple(day for day in one.options if day in (value or ()))
            elif isinstance(one, widgets.Dropdown):
                if value not in one.options:
                    one.options = [*one.options, value]
                one.value = value
            else:
                one.value = ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)
        self._scripts = list(document.get("script", []))

    def document(self) -> dict[str, Any]:
        """What is in the form as a TOML document, without what has its usual value."""
        form = {name: one.value for name, one in self.inputs.items()}
        repeat = form["schedule.repeat"]
        found: dict[str, Any] = {}
        for name, value in form.items():
            table, _, key = name.rpartition(".")
            if table == "schedule" and (repeat == _ON_DEMAND or repeat not in _OF_REPEAT.get(name, {repeat})):
                continue
            given = _given(name, value)
            if given is not None or key in ("name", "dataset"):
                place = found.setdefault(table, {}) if table else found
                place[key] = value if given is None else given
        found.setdefault("retention", {})
        if self._scripts:
            found["script"] = self._scripts
        return found

    def _wanted(self) -> Policy:
        policy = from_document(self.document())
        if self.base is not None and self.base.name.casefold() == policy.name.casefold():
            return replace(policy, version=self.base.version, since=self.base.since)
        return policy

    def take_text(self) -> None:
        """Read the TOML of ``text`` into the form. Raises what does not fit; the form stays then."""
        policy = from_toml(self.text.value)
        self._blank = False
        self._filling = True
        try:
            self._show(policy)
        finally:
            self._filling = False
        self._changed()

    def take_nearest(self) -> None:
        """Put in the nearest value that the error names. Raises NotAllowed if it names none."""
        document = self.document()
        if not isinstance(self.error, Misfit) or not _mend(document, self.error):
            raise NotAllowed("There is no nearest value", next_action="Mend the field that the error names.")
        self._filling = True
        try:
            self._put(document)
        finally:
            self._filling = False
        self._changed()

    def _changed(self) -> None:
        super()._changed()
        if not self._filling:
            self.text.value = tomli_w.dumps(self.document())

    def _text(self) -> str:
        return str(self.text.value)

    def _different(self, theirs: Policy) -> list[str]:
        try:
            return differences(self._wanted(), theirs)
        except SmhvLabError:
            return ["yours does not fit any more: mend it first"]

    def _remarks(self) -> list[str]:
        return advice(self._wanted())

    def refresh(self) -> None:
        """Show the present state in the live view, and only the fields that count."""
        repeat = self.inputs["schedule.repeat"].value
        for name, repeats in _OF_REPEAT.items():
            self._display(self.inputs[name], repeat in repeats)
        super().refresh()


def _given(name: str, value: Any) -> Any:
    """A widget's value as TOML; None if it says nothing."""
    if isinstance(value, bool):
        return None if value is (name == "enabled") else value
    if isinstance(value, tuple):
        return list(value) or None
    if name == "options.distributed":
        return _DISTRIBUTED[value]
    text = value.strip()
    if name == "notification.to":
        return [part.strip() for part in text.split(",") if part.strip()] or None
    if not text or text == _USUAL_TAG:
        return None
    if name in _NUMBERS and re.fullmatch(r"-?\d+", text):
        return int(text)
    if name == "retention.days" and re.fullmatch(r"-?\d+\.\d+", text):
        return float(text)
    return text


def _mend(document: dict[str, Any], error: Misfit) -> bool:
    """Change a document to the nearest that works as an error names it; False if it does not name a value."""
    first = error.nearest.partition(", or ")[0]
    table, _, key = error.field.rpartition(".")
    place = document.setdefault(table, {}) if table else document
    if (left_out := re.fullmatch(r"no (\w+)", first)) is not None:
        place.pop(left_out[1], None)
        return True
    for text, inside in (
        (first, place if table else document.setdefault(error.field, {})),
        (f"{key} = {first}", place),
    ):
        try:
            found = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            continue
        if found and isinstance(inside, dict):
            inside.update(found)
            return True
    return False
