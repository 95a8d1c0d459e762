"""What every notebook in the repository has to be: executed, small, the same on every machine, and begun alike."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "notebooks"
PATHS = sorted(path for path in HOME.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
MIMES = {"text/plain", "text/html", "application/vnd.plotly.v1+json", "image/svg+xml"}
NOTEBOOK_BYTES, OUTPUT_BYTES = 64_000, 20_000
IGNORED_OUTPUTS = 3
"""Cells in all notebooks together whose output nobody compares; each of them says why in the cell before."""

OF_A_MACHINE = {
    "a temporary folder": r"/tmp\b|/var/folders/|\\AppData\\|\\Temp\\",  # noqa: S108 - none is used
    "a home folder": r"/home/|/root/|/Users/|C:\\+Users\\",
    "a port": r"127\.0\.0\.1:|localhost:",
    "a memory address": r"\bat 0x[0-9a-f]{6,}",
    "a model id": r"model_id",
    "a secret": r"(?i)password\W{1,4}(?!\*|\.|\s|\))\w{4,}|BEGIN [A-Z ]*PRIVATE KEY|Authorization:",
    "a script": r"(?i)<script|javascript:|\bon(?:click|load|error)=",
    "another host": r"(?:src|href)=.?https?://",
}
"""What an output must not hold: it would differ elsewhere, or harm its reader."""

LESSONS = [path for path in PATHS if '"# Runbook: ' not in path.read_text("utf-8")]
"""A runbook is for work: it ends when the work is done, not with an exercise."""

every_notebook = pytest.mark.parametrize("path", PATHS, ids=[str(path.relative_to(HOME)) for path in PATHS])


def read(path: Path) -> dict[str, Any]:
    """A notebook as it is on disk."""
    notebook: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return notebook


def source(cell: dict[str, Any]) -> str:
    """A cell's text."""
    return "".join(cell["source"])


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The code cells of a notebook."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def tags(cell: dict[str, Any]) -> list[str]:
    """A cell's tags."""
    found: list[str] = cell["metadata"].get("tags", [])
    return found


def texts(output: dict[str, Any]) -> list[str]:
    """Everything that an output shows, mime by mime."""
    if output["output_type"] == "stream":
        return ["".join(output["text"])]
    if output["output_type"] == "error":
        return ["\n".join([output["ename"], output["evalue"], *output["traceback"]])]
    values = output["data"].values()
    return ["".join(value) if isinstance(value, list) else json.dumps(value) for value in values]


def test_there_are_notebooks() -> None:
    """The lessons are found, so that the tests below look at something."""
    assert {"00_start_here.ipynb", "02_restore.ipynb"} <= {path.name for path in PATHS}


@every_notebook
def test_it_was_executed_from_top_to_bottom(path: Path) -> None:
    """Execution counts are 1, 2, 3 ...: a notebook without outputs would be compared with nothing, and pass."""
    cells = code(read(path))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell["outputs"] for cell in cells)


@every_notebook
def test_it_holds_nothing_of_the_run_that_made_it(path: Path) -> None:
    """Metadata is the kernel's name alone; cell ids follow from the path; no widget state, no timings."""
    notebook = read(path)
    assert set(notebook["metadata"]) == {"kernelspec"}
    stem = "-".join(path.relative_to(HOME).with_suffix("").parts).replace("_", "-")[:56]
    assert [cell["id"] for cell in notebook["cells"]] == [f"{stem}-{n:02}" for n in range(len(notebook["cells"]))]
    assert all(set(cell["metadata"]) <= {"tags"} for cell in notebook["cells"])


@every_notebook
def test_errors_are_only_where_they_are_meant(path: Path) -> None:
    """An output of type error stands only in cells tagged raises-exception, and nothing goes to standard error."""
    for cell in code(read(path)):
        for output in cell["outputs"]:
            assert output["output_type"] != "error" or "raises-exception" in tags(cell), cell["id"]
            assert output.get("name") != "stderr", f"{cell['id']}: {output['text']}"


@every_notebook
def test_outputs_are_small_and_plain(path: Path) -> None:
    """Only mimes that anybody can show; at most 20 kB per output and 64 kB per notebook."""
    assert path.stat().st_size <= NOTEBOOK_BYTES
    for cell in code(read(path)):
        for output in cell["outputs"]:
            assert set(output.get("data", {})) <= MIMES, cell["id"]
            assert len(json.dumps(output)) <= OUTPUT_BYTES, cell["id"]


@every_notebook
@pytest.mark.parametrize("what", OF_A_MACHINE)
def test_nothing_is_of_one_machine(path: Path, what: str) -> None:
    """No path, port or address of the machine that ran it, no secret, no script and no address of another host."""
    for cell in read(path)["cells"]:
        shown = [text for output in cell.get("outputs", ()) for text in texts(output)]
        for text in (source(cell), *shown):
            found = re.search(OF_A_MACHINE[what], text)
            assert not found, f"{cell['id']} holds {what}: ...{text[max(0, found.start() - 60) : found.end() + 60]}..."


@every_notebook
def test_it_opens_like_all_others(path: Path) -> None:
    """Title, TR sections, aims and minutes; then the parameters; then a set-up that checks itself."""
    first, parameters, setup, *_ = read(path)["cells"]
    assert first["cell_type"] == "markdown"
    opening = source(first)
    assert re.match(r"# \S", opening)
    assert re.search(r"\*\*TR-4004:\*\* (?:section|sections) \d", opening)
    assert re.search(r"\*\*Time:\*\* about \d+ minutes", opening)
    assert re.search(r"You will be able to\n\n(?:- .+\n){2,}", opening)
    assert tags(parameters) == ["parameters"]
    lines = source(parameters).splitlines()
    assert lines[0].startswith('site_name: str = "lab:')
    for line in lines:
        assert re.fullmatch(r"\w+: \w+ = .+  # .+", line), f"not typed and commented: {line}"
    assert "smhvlab.connect(site_name)" in source(setup)
    assert source(setup).rstrip().endswith("site.check()")


@every_notebook
def test_its_set_up_found_the_site_in_order(path: Path) -> None:
    """The stored check says True in every row."""
    setup = code(read(path))[1]
    shown = "".join(texts(setup["outputs"][0]))
    assert "True" in shown
    assert "False" not in shown


@pytest.mark.parametrize("path", LESSONS, ids=[str(path.relative_to(HOME)) for path in LESSONS])
def test_it_shows_an_error_card_and_ends_with_an_exercise(path: Path) -> None:
    """Something goes wrong on purpose; the exercise is not solved as stored; its solution is folded away."""
    notebook = read(path)
    cards = [t for cell in code(notebook) for output in cell["outputs"] for t in texts(output) if ">Next<" in t]
    assert cards
    exercises = [cell for cell in code(notebook) if "exercise" in tags(cell)]
    assert len(exercises) == 1
    verdict = "".join(texts(exercises[0]["outputs"][0]))
    assert "not solved yet" in verdict
    assert "Hint:" in verdict
    assert re.search(r"<summary>Solution</summary>\n\n```python\n", "".join(source(c) for c in notebook["cells"][-2:]))


@every_notebook
def test_links_between_notebooks_lead_somewhere(path: Path) -> None:
    """A relative link names a file that exists."""
    for cell in read(path)["cells"]:
        if cell["cell_type"] == "markdown":
            for target in re.findall(r"\]\((?!https?:)([^)#]+)", source(cell)):
                assert (path.parent / target).exists(), f"{cell['id']}: {target}"


@every_notebook
def test_rows_of_the_tr_exist(path: Path) -> None:
    """Tags tr:... name rows of smhvlab/tr4004.csv."""
    known = {line.split(",", 1)[0] for line in (ROOT / "smhvlab" / "tr4004.csv").read_text("utf-8").splitlines()}
    named = {tag[3:] for cell in read(path)["cells"] for tag in tags(cell) if tag.startswith("tr:")}
    assert named
    assert named <= known


def test_few_outputs_are_left_uncompared() -> None:
    """At most three cells in all notebooks are tagged nbval-ignore-output, and the cell before tells why."""
    ignored = 0
    for path in PATHS:
        before: dict[str, Any] = {"source": []}
        for cell in read(path)["cells"]:
            assert "nbval-skip" not in tags(cell), cell["id"]
            if "nbval-ignore-output" in tags(cell):
                ignored += 1
                assert "not compared" in source(before), f"{cell['id']}: the cell before does not say why"
            before = cell
    assert ignored <= IGNORED_OUTPUTS


@every_notebook
def test_papermill_finds_its_parameters(path: Path) -> None:
    """The parameters can be replaced from outside: papermill reads their names, types and comments."""
    from papermill.inspection import inspect_notebook

    found = inspect_notebook(str(path))
    assert found["site_name"]["inferred_type_name"] == "str"
    assert all(parameter["help"] for parameter in found.values())


def test_the_index_has_every_lesson_and_each_leads_to_the_next() -> None:
    """The index lists all notebooks, and from the first lesson a chain of links reaches the last."""
    index = re.findall(r"^\| \[[^]]+\]\(([^)]+\.ipynb)\)", (HOME / "README.md").read_text("utf-8"), re.M)
    assert sorted(index) == sorted(path.relative_to(HOME).as_posix() for path in PATHS)
    lessons = [name for name in index if name != "dr/failover.ipynb"]  # that is a runbook
    for here, following in pairwise(lessons):
        last = source(read(HOME / here)["cells"][-1])
        links = re.findall(r"\]\(([^)]+\.ipynb)\)", last.partition("**Next:**")[2])
        assert links, f"{here} leads nowhere"
        assert (HOME / here).parent.joinpath(links[0]).resolve() == (HOME / following).resolve(), here
