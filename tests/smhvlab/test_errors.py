"""The error tree: drawn as it is, complete in what it says, safe to show and to pickle."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest
from IPython.core.interactiveshell import InteractiveShell

from smhvlab import errors
from smhvlab.errors import ConfirmationNeeded, JobFailed, OntapError, PlanChanged, PowerShellError, SmhvLabError

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, SmhvLabError)]


def test_the_drawing_is_the_tree() -> None:
    """The module's docstring draws every class under its base."""
    drawn: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│ ]*)(?:[├└]── )?([A-Z]\w+) {2,}", line)
        if match:
            depth = line.index(match[2])
            path = [entry for entry in path if entry[0] < depth]
            drawn[match[2]] = path[-1][1] if path else "Exception"
            path.append((depth, match[2]))
    assert drawn == {cls.__name__: cls.__base__.__name__ for cls in CLASSES if cls.__base__ is not None}


def test_all_names_every_class() -> None:
    """`__all__` is exactly the tree."""
    assert errors.__all__ == sorted(cls.__name__ for cls in CLASSES)


def make(kind: type[SmhvLabError]) -> SmhvLabError:
    """One error of a class."""
    extra = {"job": "j1"} if kind is JobFailed else {}
    return kind("It <b>failed</b>", next_action="Do & look", tr="6.2/3", state="Saved", why='because "so"', **extra)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_says_what_why_and_what_next(kind: type[SmhvLabError]) -> None:
    """Text and card hold message, state, cause, next action and TR section; the card is escaped."""
    error = make(kind)
    for text in ("It <b>failed</b>", "Saved", 'because "so"', "Do & look", "6.2/3"):
        assert text in str(error)
    card = error._repr_html_()
    assert "It &lt;b&gt;failed&lt;/b&gt;" in card
    assert "<b>" not in card
    assert "Do &amp; look" in card
    assert "var(--jp-" in card
    assert kind.__name__ in card


@pytest.mark.parametrize("kind", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_survives_pickling(kind: type[SmhvLabError]) -> None:
    """Errors travel between processes with all they carry."""
    error = make(kind)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


def test_the_wires_codes_are_fields() -> None:
    """Code, target, category and HRESULT can be branched on without reading text."""
    ontap = OntapError("x", next_action="y", code="1638555", target="uuid", status=409)
    assert (ontap.code, ontap.target, ontap.status) == ("1638555", "uuid", 409)
    shell = PowerShellError(
        "x", next_action="y", code="A,B.C", category="ObjectNotFound", target="vm", hresult=0x80070005
    )
    assert shell.error_id == "A"
    assert "0x80070005" in str(shell)
    assert "ObjectNotFound (vm)" in shell._repr_html_()
    assert PlanChanged("x", next_action="y", differences=["a", "b"]).why == "a; b"
    assert ConfirmationNeeded("x", next_action="y", needed=["restart"]).needed == ("restart",)


def test_a_notebook_shows_the_facts_and_no_frames(capsys: pytest.CaptureFixture[str]) -> None:
    """What failed, why and what to do next stand right below the cell, not under ninety lines of ours."""
    code = "from smhvlab.errors import NotFound\nraise NotFound('There is no VM x', next_action='Look at site.vms().')"
    InteractiveShell().run_cell(code)
    shown = capsys.readouterr().out
    assert shown.splitlines()[-2:] == ["NotFound: There is no VM x", "  Next: Look at site.vms()."]
    assert "Traceback" not in shown
