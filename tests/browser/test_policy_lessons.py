"""The lessons on policies, retention and planning as a reader meets them: the editor is used, the dashboard looks."""

from __future__ import annotations

import pytest

from tests.browser.pages import CELLS, RUN, Screen, Workbench, assert_readable, cell_with, open_lesson

POLICIES = "backup/10_hosts_datasets_policies.ipynb"
RETENTION = "backup/11_schedules_and_retention.ipynb"
PLANNING = "provisioning/02_planning_and_best_practices.ipynb"


def finish(workbench: Workbench, screen: Screen, lesson: str, first: int) -> None:
    """Run the rest of a lesson; no cell of it ends in an error."""
    check = cell_with(workbench, "exercise.check()", lesson=lesson)
    screen.page.evaluate(RUN, [first, check + 1])
    screen.page.get_by_text("not solved yet").first.wait_for(timeout=120_000)
    assert not [outputs for _, outputs in screen.page.evaluate(CELLS) if "error" in outputs]


def test_a_policy_by_its_editor(workbench: Workbench, screen: Screen) -> None:
    """A field that does not fit says so beside itself; the nearest is taken, and what is saved is the next version."""
    page = open_lesson(screen, workbench.document(POLICIES))
    editor = cell_with(workbench, "site.policy_editor", lesson=POLICIES)
    page.evaluate(RUN, [0, editor + 1])
    view = page.locator(".jp-CodeCell", has_text="site.policy_editor(")
    keep = view.get_by_role("textbox", name="Keep this many backups")
    keep.fill("-3")
    keep.press("Tab")
    view.get_by_text("Use 1.").first.wait_for()
    screen.shoot("editor-misfit")
    assert_readable(screen, "editor")
    view.get_by_role("button", name="Take the nearest").click()
    keep.fill("25")
    keep.press("Tab")
    view.get_by_role("button", name="Save", exact=True).click()
    view.get_by_text("Saved as version 3").wait_for(timeout=30_000)
    screen.shoot("editor-saved")
    finish(workbench, screen, POLICIES, editor + 1)
    assert_readable(screen, "policies")
    assert screen.outside == set()


@pytest.mark.long
def test_the_lesson_on_retention(workbench: Workbench, screen: Screen) -> None:
    """All of it runs, and its plot is readable in both themes."""
    page = open_lesson(screen, workbench.document(RETENTION))
    finish(workbench, screen, RETENTION, 0)
    page.locator(".js-plotly-plot").first.wait_for()
    screen.shoot("retention")
    assert_readable(screen, "retention")
    assert screen.outside == set()


@pytest.mark.long
def test_the_dashboard_looks_again_while_the_kernel_works(workbench: Workbench, screen: Screen) -> None:
    """A look that is under way lets other cells run; the pictures of the lesson are readable."""
    page = open_lesson(screen, workbench.document(PLANNING))
    finish(workbench, screen, PLANNING, 0)
    view = page.locator(".jp-CodeCell", has_text="site.dashboard(limit=8)")
    view.get_by_role("button", name="Look again").click()
    parameters = cell_with(workbench, "site_name: str", lesson=PLANNING)
    page.evaluate(RUN, [parameters, parameters + 1])  # answers although the look is under way
    view.get_by_text("Looking at the site ...").wait_for(state="detached", timeout=60_000)
    screen.shoot("planning")
    assert_readable(screen, "planning")
    assert screen.outside == set()
