"""Two lessons on backups as a reader meets them: the wizard is clicked through, files are compared side by side."""

from __future__ import annotations

import nbformat

from tests.browser.pages import CELLS, RUN, Screen, Workbench, assert_readable, cell_with, open_lesson

STEPS = "backup/05_application_consistent_backup.ipynb"
BYTES = "backup/06_both_kinds_on_the_bytes.ipynb"


def finish(workbench: Workbench, screen: Screen, lesson: str, first: int) -> None:
    """Run the rest of a lesson; no cell of it ends in an error."""
    cells = len(nbformat.read(workbench.folder / lesson, as_version=4).cells)
    screen.page.evaluate(RUN, [first, cells])
    screen.page.get_by_text("not solved yet").first.wait_for()
    assert not [outputs for _, outputs in screen.page.evaluate(CELLS) if "error" in outputs]


def test_a_backup_by_its_wizard_and_its_timeline(workbench: Workbench, screen: Screen) -> None:
    """Another value means another plan; Run all takes the steps; the timeline has its plot and its lanes."""
    page = open_lesson(screen, workbench.document(STEPS))
    wizard = cell_with(workbench, 'site.wizard("backup")', lesson=STEPS)
    page.evaluate(RUN, [0, wizard + 1])
    view = page.locator(".jp-CodeCell", has_text='site.wizard("backup")')
    view.get_by_text("planned", exact=True).first.wait_for()
    form = view.get_by_role("combobox")
    form.nth(1).select_option("crash")
    view.get_by_role("button", name="Run all").wait_for(state="detached")
    form.nth(1).select_option("application")
    screen.shoot("wizard-form")
    view.get_by_role("button", name="Make a plan").click()
    view.get_by_text("planned", exact=True).first.wait_for()
    screen.shoot("wizard-planned")
    assert_readable(screen, "wizard")
    finish(workbench, screen, STEPS, wizard + 1)
    timeline = page.locator(".jp-CodeCell", has_text="timeline = site.vss_timeline").first
    timeline.locator(".js-plotly-plot").first.wait_for()
    assert timeline.get_by_text("hv1: provider").count() >= 1
    screen.shoot("timeline")
    assert_readable(screen, "timeline")
    assert screen.outside == set()


def test_two_copies_side_by_side(workbench: Workbench, screen: Screen) -> None:
    """The open transaction's journal is hot on one side only; a tick shows the files that are equal."""
    page = open_lesson(screen, workbench.document(BYTES))
    finish(workbench, screen, BYTES, 0)
    view = page.locator(".jp-CodeCell", has_text="site.side_by_side(left, right, vm)")
    assert view.get_by_text("hot journal").count() == 1
    assert view.get_by_text("none is hot").count() == 1
    view.get_by_role("checkbox", name="equal files too").check()
    view.get_by_text("bootmgr").wait_for()
    screen.shoot("side-by-side")
    assert_readable(screen, "side by side")
    assert screen.outside == set()
