"""Exercises: unsolved at first, told apart from almost solved, and solved by the solution that the lesson gives."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from labenv.lab import Lab
from smhvlab.exercises import first as exercises
from smhvlab.exercises.first import Reached, Verdict
from smhvlab.site import Site

HOME = Path(__file__).resolve().parent.parent / "notebooks"
LESSONS = sorted(
    path
    for path in HOME.rglob("*.ipynb")
    if ".ipynb_checkpoints" not in path.parts and '"exercise"' in path.read_text("utf-8")
)
SAMPLE = {
    "00_start_here.ipynb",
    "provisioning/01_golden_image_and_clone.ipynb",
    "backup/01_crash_consistent_backup.ipynb",
    "backup/05_application_consistent_backup.ipynb",
    "backup/10_hosts_datasets_policies.ipynb",
    "dr/01_replicate_and_rehearse.ipynb",
}
"""Lessons whose exercises are solved each time; the others' in the long run, for each lesson is run by nbval anyway."""

SOLUTION = re.compile(r"<summary>Solution</summary>\s+```python\n(.*?)```", re.DOTALL)
ASK = "print('passed', exercise.check().passed)"


def named(path: Path) -> Any:
    """A lesson as a parameter of a test, a long one if it is not of the sample."""
    name = path.relative_to(HOME).as_posix()
    return pytest.param(path, id=name, marks=() if name in SAMPLE else pytest.mark.long)


@pytest.mark.parametrize("path", [named(path) for path in LESSONS])
def test_the_solution_solves_it(path: Path) -> None:
    """The whole lesson is run: its check fails where the exercise begins, and passes after the folded solution."""
    notebook: Any = nbformat.read(path, as_version=4)
    solution = SOLUTION.search("".join(cell.source for cell in notebook.cells[-2:]))
    assert solution is not None
    exercise = next(n for n, cell in enumerate(notebook.cells) if "exercise" in cell.metadata.get("tags", []))
    added = [nbformat.v4.new_code_cell(text) for text in (ASK, solution[1], ASK)]
    notebook.cells[exercise + 1 : exercise + 1] = added
    NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    assert [added[n].outputs[0].text.strip() for n in (0, 2)] == ["passed False", "passed True"]
    assert not [output for output in added[1].outputs if output.output_type == "error"]


def test_what_hints_tell_to_call_is_there(site: Site) -> None:
    """Each call that a hint names begins at the site, and there is such a thing: it runs as it stands."""
    texts = [
        "".join(part.value if isinstance(part, ast.Constant) else "x" for part in getattr(hint, "values", [hint]))
        for path in sorted(Path(exercises.__file__).parent.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Goal"
        for hint in node.args[2:3]
        if isinstance(hint, ast.Constant | ast.JoinedStr)
    ]
    assert len(texts) > 20
    known = {"site": site, "tools": site.tools()}
    called = 0
    for text in texts:
        for chain in re.findall(r"(?<![\w.)])([a-z_]+(?:\(\))?(?:\.\w+(?:\(\)(?=\.))?)+)\(", text):
            first, *rest = re.sub(r"^pair\.(primary|secondary)\.", "site.", chain.replace("()", "")).split(".")
            assert first in known, f"{chain}: nobody has {first}"
            assert first == "site" or "tools = site.tools()" in text, f"{chain}: the lesson has no {first}"
            thing: Any = known[first]
            for name in rest:
                thing = getattr(thing, name)
                thing = thing() if name == "tools" else thing
            called += 1
    assert called > 20


def test_the_sample_is_of_this_tree() -> None:
    """A lesson that got another name does not drop out of the sample."""
    assert {path.relative_to(HOME).as_posix() for path in LESSONS} >= SAMPLE


def missing(verdict: Verdict) -> str:
    """What the verdict says about the one goal that it found missing."""
    (found,) = [finding for finding in verdict.findings if finding.reached is Reached.NO]
    assert found.hint
    return found.missing


def test_a_vm_that_was_made_by_hand_does_not_count(site: Site) -> None:
    """A blank VM of the right name is not provisioned from the golden image; the check says so and reads only."""
    exercise = exercises.second_vm(site, vm="web03")
    assert missing(exercise.check()) == "The host has no VM web03"
    site.tools().hyperv.ensure_blank("web03", folder="C:\\VMs\\")
    before = site.log.counts().changes
    verdict = exercise.check()
    assert not verdict.passed
    assert "do not lie on one volume" in missing(verdict)
    assert site.log.counts().changes == before


def test_remains_of_the_attempt_by_hand_are_found(site: Site) -> None:
    """The VM alone is not enough: the Snapshot copy of the failed attempt has to go too."""
    exercise = exercises.half_made_vm(site, vm="shop01")
    exercise.prepare()
    exercise.prepare()
    site.tools().storage.discard_volume("shop01", svm="svm1")
    site.provision("shop01").run_sync()
    assert "shop01_by_hand" in missing(exercise.check())


def test_a_backup_without_a_common_point_is_told(site: Site) -> None:
    """The group that was left over hinders the common point; a backup of too few VMs is told as well."""
    exercise = exercises.one_point_in_time(site)
    exercise.prepare()
    exercise.prepare()
    site.create_dataset("Shop", ["app01"])
    assert missing(exercise.check()) == "sql01, web01 not in the dataset"
    site.backup("Shop", consistency="crash").run_sync()
    site.change_dataset("Shop", ["app01", "sql01", "web01"])
    assert "does not hold sql01, web01" in missing(exercise.check())
    site.sleep(1)
    site.backup("Shop", consistency="crash").run_sync()
    assert "no common point" in missing(exercise.check())


def test_rows_that_were_never_restored_are_told(site: Site, lab: Lab) -> None:
    """600 rows are not the 100 of the backup; one backup is not two; wrong rows are told by database and number."""
    exercise = exercises.sql_server_test(site)
    site.provision("sql02").run_sync()
    assert "no backup of sql02" in missing(exercise.check())
    site.create_dataset("Test", ["sql02"])
    first = site.backup("Test", consistency="crash").run_sync().result.backup
    assert "one backup" in missing(exercise.check())
    lab.guest("sql02").insert("aa1", 600)
    site.backup("Test", consistency="crash").run_sync()
    assert missing(exercise.check()) == "aa1 holds 600 rows"
    volume = site.tools().storage.volume("sql02", svm="svm1")
    assert volume is not None
    site.tools().storage.discard_snapshots([volume], first.name)
    assert missing(exercise.check()) == f"The Snapshot copies of {first.name} are gone"


def test_a_verdict_is_text_and_picture() -> None:
    """Both name the goal, what is missing and the hint, escaped; what comes later is not looked at."""
    goals = (
        exercises.Goal("One", lambda: "", "none needed"),
        exercises.Goal("Two", lambda: "<b>gone</b>", "look"),
        exercises.Goal("Three", lambda: pytest.fail("looked at too early"), "later"),
    )
    verdict = exercises.Exercise("three goals", "2.2", goals).check()
    assert [finding.reached for finding in verdict.findings] == [Reached.YES, Reached.NO, Reached.LATER]
    assert "Hint: look" in repr(verdict)
    assert "&lt;b&gt;gone" in verdict._repr_html_()
    assert "<b>gone" not in verdict._repr_html_()
