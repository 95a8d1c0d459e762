"""Wizards: the parameters of a flow as a form, then its plan, its confirmations and its steps. There is nothing else.

A wizard knows no procedure: fields, choices that are fixed, and explanations come from the verb that makes the flow.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import ipywidgets as widgets

from smhvlab.errors import NotAllowed, SmhvLabError
from smhvlab.flow import Flow
from smhvlab.panels import html
from smhvlab.panels.background import Background
from smhvlab.panels.panel import Panel, button
from smhvlab.panels.stepper import StepperPanel

if TYPE_CHECKING:
    from smhvlab.site import Site

Choices = Callable[["Site", dict[str, Any]], Sequence[str]]
_MASTER: Final = "backup"  # what may be chosen for others hangs on it
_EMPTY: Final = "(none)"
_THREE: Final[dict[str, bool | None]] = {"(by default)": None, "yes": True, "no": False}


def _backups(site: Site, _: dict[str, Any]) -> Sequence[str]:
    return [backup.name for backup in reversed(site.tools().snapinfo.backups())]


def _vms(site: Site, given: dict[str, Any]) -> Sequence[str]:
    tools = site.tools()
    if "backup" not in given:
        return [vm.name for vm in tools.nodes.vms()]
    found = next((b for b in tools.snapinfo.backups() if b.name == given["backup"]), None)
    return sorted(vm.name for vm in found.vms) if found is not None else []


CHOICES: Final[dict[str, Choices]] = {
    "dataset": lambda site, _: [dataset.name for dataset in site.tools().snapinfo.datasets()],
    "backup": _backups,
    "vm": _vms,
    "policy": lambda site, _: list(site.policies()["name"]),
    "mount": lambda site, _: list(site.mounts()["name"]),
    "host": lambda site, _: site.tools().nodes.names,
}
"""What may be chosen for a parameter of such a name: read from the site when the form is shown."""


@dataclass(frozen=True)
class Field:
    """A parameter of a flow.

    Attributes:
        kind: its annotation as written.
        options: fixed values that it may have, empty if the annotation names none.
        about: what the verb's docstring says of it.
    """

    name: str
    kind: str
    default: Any
    options: tuple[str, ...]
    about: str

    @property
    def required(self) -> bool:
        """Whether the verb has no default for it."""
        return self.default is inspect.Parameter.empty


def fields_of(verb: Callable[..., Flow[Any]]) -> tuple[Field, ...]:
    """The parameters of a verb such as ``site.restore``, or of a flow's class, in their order."""
    target: Any = verb.__init__ if inspect.isclass(verb) else verb
    about = _explained(inspect.getdoc(verb) or "")
    found = []
    for parameter in inspect.signature(target).parameters.values():
        if parameter.name in ("self", "site"):
            continue
        kind = str(parameter.annotation)
        inside = re.fullmatch(r"Literal\[(.*)\]", kind)
        options = tuple(ast.literal_eval(f"({inside[1]},)")) if inside else ()
        found.append(Field(parameter.name, kind, parameter.default, options, about.get(parameter.name, "")))
    return tuple(found)


def _explained(docstring: str) -> dict[str, str]:
    """The explanations of a docstring's ``Args`` by the parameter's name."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in docstring.partition("Args:\n")[2].splitlines():
        if not line.startswith("    "):
            break
        if head := re.match(r"    (\w+(?:, \w+)*): (.*)", line):
            names = head[1].split(", ")
            found.update(dict.fromkeys(names, head[2]))
        else:
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
    return {name: text.replace("``", "") for name, text in found.items()}


class Wizard(Panel):
    """A form of one flow's parameters, and under it the stepper of the flow that was made from them.

    In a notebook fill the form and press Make a plan; in a script ``wizard.fill(...)`` and ``wizard.prepare()`` do the
    same. ``wizard.stepper`` is then what runs it. A changed field means another flow, which has to be planned again.

    Args:
        site: where the choices come from, and whose requests are shown.
        verb: what makes the flow, e.g. ``site.backup``.
    """

    def __init__(self, site: Site, verb: Callable[..., Flow[Any]]) -> None:
        super().__init__()
        self.site = site
        self.verb = verb
        self.fields = fields_of(verb)
        self.stepper: StepperPanel | None = None
        self.error: BaseException | None = None
        self._filling = self._stale = False
        self._given: dict[str, Any] = {}
        self._reading: Background[dict[str, list[str]]] = Background(
            lambda: self._look(self._given), release=site.release, done=self._arrived, relay=self.relay
        )
        self.inputs: dict[str, Any] = {field.name: self._input(field) for field in self.fields}
        self.prepare_button = button(
            "Make a plan", "Make the flow and plan it; nothing is changed", self.start, relay=self.relay
        )
        self.again_button = button("Read again", "Read the choices anew", self.start_reread, relay=self.relay)
        self.body = widgets.VBox()
        form = [widgets.HBox([self.inputs[field.name], widgets.HTML(html.text(field.about))]) for field in self.fields]
        self.view = widgets.VBox(
            [*form, widgets.HBox([self.prepare_button, self.again_button]), self.picture, self.body]
        )
        self.reread()
        for name, one in self.inputs.items():
            one.observe(lambda _, name=name: self.relay(self._changed, name), names="value")

    def _input(self, field: Field) -> Any:
        label: dict[str, Any] = {
            "description": field.name.replace("_", " "),
            "tooltip": field.about or f"The flow's parameter {field.name}",
            "style": {"description_width": "9em"},
        }
        if field.kind == "bool":
            return widgets.Checkbox(value=bool(field.default), **label)
        if field.kind == "bool | None":
            return widgets.Dropdown(options=tuple(_THREE), **label)
        label["layout"] = {"width": "30em"}  # a backup's name with its time
        if field.options:
            value = field.options[0] if field.required else field.default
            return widgets.Dropdown(options=field.options, value=value, **label)
        if field.name in CHOICES:
            return widgets.Dropdown(options=(), **label)
        return widgets.Text(value="" if field.required or field.default is None else str(field.default), **label)

    # --- the form

    @property
    def values(self) -> dict[str, Any]:
        """The parameters as the flow takes them; optional ones that were left empty are left out.

        Raises:
            NotAllowed: what was written into a field cannot be read.
        """
        found = self._written()
        for field in self.fields:
            value = found.get(field.name)
            if isinstance(value, str) and value:
                if "int" in re.findall(r"\w+", field.kind):
                    found[field.name] = _number(field, value)
                elif field.kind.startswith("Mapping"):
                    found[field.name] = _pairs(field, value)
        return found

    def _written(self) -> dict[str, Any]:
        """As ``values``, but texts as they were written."""
        found: dict[str, Any] = {}
        for field in self.fields:
            value = self.inputs[field.name].value
            if field.kind == "bool | None":
                value = _THREE[value]
            if isinstance(value, str):
                value = "" if value == _EMPTY else value.strip()
            if value in ("", None) and not field.required:
                continue
            found[field.name] = "" if value is None else value
        return found

    def fill(self, **values: Any) -> None:
        """Set fields by the parameters' names. Raises NotAllowed for one that the flow has not, or does not take.

        What may be chosen for the later ones is read at once, in the calling thread.
        """
        self._filling = True
        try:
            for name, value in values.items():
                self._set(name, value)
                if name == _MASTER:
                    self._adopt(self._look(self._written()))
        finally:
            self._filling = False
        self._drop()

    def _set(self, name: str, value: Any) -> None:
        if name not in self.inputs:
            raise NotAllowed(
                f"{self._title()} has no parameter {name}",
                next_action=f"Its parameters are {', '.join(self.inputs)}.",
            )
        one = self.inputs[name]
        if isinstance(one, widgets.Dropdown) and one.options == tuple(_THREE):
            value = next((text for text, meant in _THREE.items() if meant is value), value)
        if isinstance(one, widgets.Dropdown) and value not in one.options:
            raise NotAllowed(
                f"{value!r} cannot be chosen for {name}",
                next_action=f"Choose one of {', '.join(map(str, one.options)) or 'nothing: there is none'}.",
            )
        one.value = value

    def reread(self) -> None:
        """Read what may be chosen from the site; what was chosen stays if it is still there."""
        try:
            self._arrived(self._look(self._written()), None)
        except SmhvLabError as error:
            self._arrived(None, error)

    def start_reread(self) -> None:
        """As ``reread``, in the background: what the button does."""
        if self._reading.busy:
            self._stale = True
            return
        self._given, self._stale = self._written(), False
        self._reading.start()
        self.again_button.disabled = True

    def wait(self, seconds: float = 60) -> None:
        """Block until the choices are read; for scripts. Raises TimeoutError."""
        self._reading.wait(seconds)

    def _look(self, given: dict[str, Any]) -> dict[str, list[str]]:
        """What may be chosen, by the parameter's name, if the others have these values; reads only."""
        given, found = dict(given), {}
        for field in self.fields:
            if field.name not in CHOICES or field.options:
                continue
            found[field.name] = list(CHOICES[field.name](self.site, given))
            if given.get(field.name) not in found[field.name]:
                given.pop(field.name, None)
                if field.required and found[field.name]:
                    given[field.name] = found[field.name][0]
        return found

    def _arrived(self, found: dict[str, list[str]] | None, error: BaseException | None) -> None:
        self.again_button.disabled = False
        if found is None:
            self.error = error
        else:
            self.error = None
            self._adopt(found)
        self.refresh()
        if self._stale:
            self.start_reread()

    def _adopt(self, found: dict[str, list[str]]) -> None:
        before, self._filling = self._filling, True
        try:
            for field in self.fields:
                if field.name in found:
                    one, chosen = self.inputs[field.name], self.inputs[field.name].value
                    one.options = found[field.name] if field.required else [_EMPTY, *found[field.name]]
                    one.value = chosen if chosen in one.options else next(iter(one.options), None)
        finally:
            self._filling = before

    def _changed(self, name: str) -> None:
        if self._filling:
            return
        if name == _MASTER and "vm" in self.inputs:
            self.start_reread()
        self._drop()

    def _drop(self) -> None:
        """Another flow is meant: the one that was planned is put away, unless it runs or was carried out."""
        if self.stepper is not None and not self.stepper.busy and self.stepper.outcome is None:
            self.stepper = None
            self.body.children = ()
        self.refresh()

    # --- the flow

    def make(self) -> StepperPanel:
        """The stepper of a flow with these parameters. Raises what the flow refuses."""
        values = self.values
        missing = [f.name for f in self.fields if f.required and not values[f.name]]
        if missing:
            raise NotAllowed(
                f"{self._title()} needs {' and '.join(missing)}",
                next_action="Fill the form; if there is nothing to choose, the site has none yet.",
            )
        self.stepper = StepperPanel(self.verb(**values), log=self.site.log)
        self.stepper.plan_button.layout.display = (
            "none"  # another plan is another flow, made by the wizard's own button
        )
        self.body.children = (self.stepper.view,)
        self.error = None
        return self.stepper

    def prepare(self) -> StepperPanel:
        """Make the flow and plan it now, in the calling thread. Raises what its survey raises."""
        stepper = self.make()
        stepper.plan()
        self.refresh()
        return stepper

    def start(self) -> None:
        """Make the flow and plan it in the background; a refusal is shown as a card."""
        if self.stepper is not None and self.stepper.busy:
            return
        try:
            self.make().start_plan()
        except SmhvLabError as error:
            self.stepper, self.error = None, error
            self.body.children = ()
        self.refresh()

    # --- the picture

    def _title(self) -> str:
        words: str = inspect.getdoc(self.verb) or str(getattr(self.verb, "__name__", "flow"))
        return re.split(r"[.:(]", words.splitlines()[0])[0].strip()

    def refresh(self) -> None:
        """Show the present state in the live view: the stepper below shows itself."""
        self.picture.value = self._card()

    def describe(self) -> str:
        """What it makes, from which parameters, and how far that is."""
        given = ", ".join(f"{name}={value!r}" for name, value in self._written().items())
        state = self.stepper.describe() if self.stepper is not None else "not planned yet"
        return f"Wizard({self._title()}: {given}; {state})"

    def render(self) -> str:
        """The form as a table, then the stepper's picture or the refusal."""
        values = self._written()
        rows = [
            [
                html.text(field.name.replace("_", " ")),
                html.text(values.get(field.name, "") if values.get(field.name, "") != "" else "-"),
                html.text("needed" if field.required else "optional"),
                html.text(field.about),
            ]
            for field in self.fields
        ]
        form = html.card(self._title(), html.table(["Parameter", "Value", "", "About"], rows), accent=html.BUSY)
        below = self.stepper.render() if self.stepper is not None else ""
        return form + below + self._card()

    def _card(self) -> str:
        if isinstance(self.error, SmhvLabError):
            return self.error._repr_html_()
        return "" if self.error is None else html.card(type(self.error).__name__, html.text(self.error))


def _pairs(field: Field, value: str) -> dict[str, str]:
    found = [part.partition("=") for part in value.split(";") if part.strip()]
    if not all(name.strip() and equals for name, equals, _ in found):
        raise NotAllowed(
            f"{field.name} is {value!r}, which is no list of names and values",
            next_action=r"Write Name=value, more of them with a semicolon between: Path=C:\done; ItemType=Directory.",
        )
    return {name.strip(): text.strip() for name, _, text in found}


def _number(field: Field, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise NotAllowed(f"{field.name} is {value!r}, which is no whole number", next_action="Write digits.") from None
