"""What the editors share: a form of one thing that is kept in versions, checked, saved, not lost to another console.

Saving happens aside, so that the kernel stays free. If somebody else has saved since the form was read, theirs stands;
the form keeps what is in it, shows what is different, and can be saved as the next version or be put away.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import ipywidgets as widgets

from smhvlab.errors import Misfit, NameTaken, NotAllowed, SmhvLabError
from smhvlab.panels import html
from smhvlab.panels.background import Background, BackgroundPanel
from smhvlab.panels.panel import button

if TYPE_CHECKING:
    from smhvlab.site import Site

T = TypeVar("T")
NEW: Final = "(new)"
_WIDTH: Final = "30em"


class Editor(BackgroundPanel, Generic[T]):
    """A form; subclasses say what it edits.

    In a script: ``fill({...})``, then ``save()``. Attributes: ``base``, the version that the form was made from, None
    for a new one; ``theirs``, what another console has saved meanwhile; ``saved``, what was saved here; ``error``;
    ``put_away``, the text of an edit that was given up for theirs.

    Args:
        site: where it is read from and saved to.
        name: what to begin with, "" for a new one.
    """

    what = ""

    def __init__(self, site: Site, name: str = "") -> None:
        super().__init__()
        self.site = site
        self.base: T | None = None
        self.theirs: T | None = None
        self.saved: T | None = None
        self.error: SmhvLabError | None = None
        self.put_away = ""
        self._blank = True  # a new form into which nothing was put yet: there is nothing to find fault with
        self._filling = False
        self._pending: T | None = None
        self._work: Background[T] = Background(
            self._store_pending, release=site.release, done=self._stored, relay=self.relay
        )
        self.choice = widgets.Dropdown(options=[NEW], description=self.what, tooltip=f"The {self.what} to edit")
        self.inputs: dict[str, Any] = self._make_inputs()
        self.notes: dict[str, Any] = {name: widgets.HTML() for name in self.inputs}
        self.save_button = button(
            "Save", "Check it and save it as the next version", self.start, relay=self.relay, style="primary"
        )
        self.nearest_button = self._button("Take the nearest", "Put in the nearest value that works", self.take_nearest)
        self.mine_button = self._button("Save mine over theirs", "As the version after theirs", self.keep_mine)
        self.theirs_button = self._button("Take theirs", "Read theirs; mine stays below as text", self.take_theirs)
        self.again_button = self._button("Read again", "Read it from the site again; the form is lost", self.reread)
        self.choice.observe(lambda _: self.relay(self._chosen), names="value")
        for one in self.inputs.values():
            one.layout.width = _WIDTH
            one.observe(lambda _: self.relay(self._edited), names="value")
        self.choice.options = [NEW, *self._names()]
        self.load(name)

    def _layout(self, *more: Any, below: Sequence[Any] = (), hints: Mapping[str, str] = MappingProxyType({})) -> Any:
        """The tree of widgets: the choice, a row for each field, what is more, buttons, the picture, what is below."""
        rows = [
            widgets.HBox([one, widgets.HTML(html.text(hints.get(name, ""))), self.notes[name]])
            for name, one in self.inputs.items()
        ]
        buttons = [self.save_button, self.nearest_button, self.mine_button, self.theirs_button, self.again_button]
        return widgets.VBox([self.choice, *rows, *more, widgets.HBox(buttons), self.picture, *below])

    def _button(self, label: str, tooltip: str, work: Callable[[], object]) -> Any:
        def carefully() -> None:
            try:
                work()
            except SmhvLabError as error:
                self.error = error
                self.refresh()

        return button(label, tooltip, carefully, relay=self.relay)

    # --- what a subclass says

    @abstractmethod
    def _names(self) -> Sequence[str]:
        """What there is to edit."""

    @abstractmethod
    def _make_inputs(self) -> dict[str, Any]:
        """The widgets of the fields, by the fields' names."""

    @abstractmethod
    def _read(self, name: str) -> T:
        """The present version. Raises NotFound."""

    @abstractmethod
    def _show(self, thing: T | None) -> None:
        """Put a version into the widgets; None: an empty form."""

    @abstractmethod
    def _wanted(self) -> T:
        """What is in the form, as the version after ``base``. Raises what does not fit."""

    @abstractmethod
    def _store(self, thing: T) -> T:
        """Save it. Raises NameTaken, and what else saving raises."""

    @abstractmethod
    def _text(self) -> str:
        """What is in the form, as text to keep."""

    @abstractmethod
    def _different(self, theirs: T) -> list[str]:
        """What the form and theirs say differently."""

    def _shown(self, name: str) -> str:
        """A field's value as text."""
        value = self.inputs[name].value
        if isinstance(value, bool):
            return "yes" if value else "no"
        return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)

    def _remarks(self) -> list[str]:
        """What is worth saying of a form that fits."""
        return []

    def take_nearest(self) -> None:
        """Put in the nearest value that works, if the error names one."""
        raise NotAllowed("There is no nearest value", next_action="Mend the field that the error names.")

    # --- the form

    def load(self, name: str) -> None:
        """Read one from the site into the form; "" for a new one. Raises NotFound."""
        self._begin(self._read(name) if name else None)

    def reread(self) -> None:
        """Read again what is being edited; the form is lost."""
        self._filling = True
        try:
            chosen = self.choice.value
            self.choice.options = [NEW, *self._names()]
            self.choice.value = chosen if chosen in self.choice.options else NEW
        finally:
            self._filling = False
        self.load("" if self.choice.value == NEW else self.choice.value)

    def fill(self, values: Mapping[str, Any]) -> None:
        """Set fields by their names. Raises NotAllowed for one that there is not, or that does not take the value."""
        for name, value in values.items():
            if name not in self.inputs:
                raise NotAllowed(f"There is no field {name}", next_action=f"Fields are {', '.join(self.inputs)}.")
            try:
                self.inputs[name].value = value
            except Exception as error:  # traitlets' own, of a choice that there is not
                raise NotAllowed(
                    f"{name} does not take {value!r}", why=str(error), next_action="Choose another."
                ) from error

    @property
    def busy(self) -> bool:
        """Whether it is being saved."""
        return self._work.busy

    def _begin(self, thing: T | None) -> None:
        self._filling = True
        try:
            self._show(thing)
            self.base, self.theirs, self.saved, self.error = thing, None, None, None
            name = getattr(thing, "name", NEW)
            if name not in self.choice.options:
                self.choice.options = [*self.choice.options, name]
            self.choice.value = name
        finally:
            self._filling = False
        self._blank = thing is None
        self._changed()

    def _chosen(self) -> None:
        if not self._filling:
            try:
                self.load("" if self.choice.value == NEW else self.choice.value)
            except SmhvLabError as error:
                self.error = error
                self.refresh()

    def _edited(self) -> None:
        if not self._filling:
            self._blank = False
        self._changed()

    def _changed(self) -> None:
        """Check the form, and show what does not fit beside its field."""
        if self._filling:
            return
        self.saved = None
        if self.theirs is None:
            self.error = None if self._blank else self._misfit()
        self.refresh()

    def _misfit(self) -> SmhvLabError | None:
        try:
            self._wanted()
        except SmhvLabError as error:
            return error
        return None

    # --- saving

    def save(self) -> T:
        """Save the form as the next version, now and in the calling thread. Raises what is wrong; the form stays."""
        self._blank = False
        wanted = self._wanted()
        try:
            saved = self._store(wanted)
        except SmhvLabError as error:
            self._refused(error)
            raise
        self._done(saved)
        return saved

    def start(self) -> None:
        """Save it aside; ``await editor.settled()`` or ``editor.wait()`` for the end. What is wrong is shown."""
        if self.busy:
            return
        self._blank = False
        try:
            self._pending = self._wanted()
        except SmhvLabError as error:
            self.error = error
        else:
            self._work.start()
        self.refresh()

    def keep_mine(self) -> T:
        """Save the form as the version after theirs. Raises as ``save``."""
        if self.theirs is not None:
            self.base, self.theirs = self.theirs, None
        return self.save()

    def take_theirs(self) -> None:
        """Theirs comes into the form; what was in it stays in ``put_away``, and below the form."""
        if self.theirs is not None:
            self.put_away = self._text()
            self._begin(self.theirs)

    def _store_pending(self) -> T:
        assert self._pending is not None
        return self._store(self._pending)

    def _stored(self, saved: T | None, error: BaseException | None) -> None:
        if isinstance(error, SmhvLabError):
            self._refused(error)
        elif error is not None:
            raise error
        elif saved is not None:
            self._done(saved)

    def _refused(self, error: SmhvLabError) -> None:
        self.error = error
        if isinstance(error, NameTaken):
            self.theirs = self._read(self.inputs["name"].value)
        self.refresh()

    def _done(self, saved: T) -> None:
        self._begin(saved)
        self.saved = saved
        self.refresh()

    # --- the picture

    def refresh(self) -> None:
        """Show the present state in the live view."""
        where = getattr(self.error, "field", "")
        for name, note in self.notes.items():
            told = isinstance(self.error, Misfit) and (where == name or (name and where.startswith(f"{name}.")))
            note.value = html.sign("✗", str(self.error.next_action), html.BAD) if told and self.error else ""
        self.save_button.disabled = self.busy
        self._display(self.nearest_button, bool(getattr(self.error, "nearest", "")))
        self._display(self.mine_button, self.theirs is not None)
        self._display(self.theirs_button, self.theirs is not None)
        self.picture.value = self._state()

    def _display(self, widget: Any, shown: bool) -> None:
        widget.layout.display = "" if shown else "none"

    def _state(self) -> str:
        """What there is to say about the form: errors, the conflict, remarks, what was put away."""
        parts = []
        if self.busy:
            parts.append(html.text("Saving ..."))
        if self.saved is not None:
            parts.append(html.sign("✓", f"Saved as version {getattr(self.saved, 'version', '')}", html.GOOD))
        if self.error is not None:
            parts.append(self.error._repr_html_())
        if self.theirs is not None:
            rows = [[html.text(line)] for line in self._different(self.theirs)]
            parts.append(
                html.card("Another console was faster", html.table(["What is different"], rows), accent=html.WARN)
            )
        elif self.error is None and not self._blank:
            parts += [html.sign("!", remark, html.WARN) for remark in self._remarks()]
        if self.put_away:
            parts.append(html.details(html.text("What you had written"), html.code(self.put_away)))
        return "".join(html.tag("div", part) for part in parts)

    def describe(self) -> str:
        """What is edited, from which version, and whether it fits."""
        name = self.inputs["name"].value or "a new one"
        made = f"from version {getattr(self.base, 'version', 0)}" if self.base is not None else "new"
        state = "saved" if self.saved is not None else "empty" if self._blank else "fits"
        if self.error is not None:
            state = self.error.message
        return f"{type(self).__name__}({name}, {made}; {state})"

    def render(self) -> str:
        """The form as a table, then what there is to say about it."""
        shown = (name for name, one in self.inputs.items() if one.layout.display != "none")
        rows = [[html.text(self.inputs[name].description), html.text(self._shown(name) or "-")] for name in shown]
        title = f"{self.what} {self.inputs['name'].value or NEW}"
        return html.card(title, html.table(["Field", "Value"], rows), self._state(), accent=html.BUSY)
