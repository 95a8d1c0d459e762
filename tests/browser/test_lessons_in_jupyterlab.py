"""The first lesson as a reader meets it: `smhvlab lab`, JupyterLab, buttons that are clicked."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import nbformat

from tests.browser.pages import CELLS, FIRST, RUN, Screen, Workbench, assert_readable, cell_with, open_lesson


def test_the_workbench_opens_the_first_lesson(workbench: Workbench, screen: Screen) -> None:
    """The printed address leads to the first notebook: no login, no question, no news, and its pictures are shown."""
    page = open_lesson(screen, workbench.url)
    assert page.evaluate("() => jupyterapp.shell.currentWidget.context.path") == FIRST
    page.wait_for_timeout(1500)  # news and questions would come late
    assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0
    assert page.locator(".jp-OutputArea-output svg[role=img]").count() >= 3
    screen.shoot("opened")
    assert_readable(screen, "opened")
    assert screen.outside == set()


def test_the_first_lesson_by_its_buttons(workbench: Workbench, screen: Screen) -> None:
    """Plan, next step, run all, as a reader clicks them; the rest runs without an error, nothing leaves the machine."""
    page = open_lesson(screen, workbench.document(FIRST))
    panel = cell_with(workbench, "site.stepper(flow)")
    page.evaluate(RUN, [0, panel + 1])
    view = page.locator(".jp-CodeCell", has_text="site.stepper(flow)")
    view.get_by_role("button", name="Plan").click()
    view.get_by_text("planned", exact=True).first.wait_for()
    for title in (
        "Connect the disk in the Snapshot copy: FlexClone volume",
        "Map the cloned LUN and mount it on the host",
    ):
        view.get_by_role("button", name="Next step").click()
        view.get_by_text(f"waiting for your approval of: {title}").first.wait_for()
    screen.shoot("waiting")
    assert_readable(screen, "waiting")
    view.get_by_role("button", name="Run all").click()
    view.get_by_text("done", exact=True).wait_for(timeout=60_000)
    assert view.get_by_text("✓ done", exact=True).count() == 8  # the run and its seven steps
    assert view.get_by_role("button", name="Run all").is_disabled()  # only another plan begins again
    view.get_by_text("requests: 1, changes: 1").first.click()
    view.get_by_text("curl -sS -X POST").first.wait_for()  # the line of a request, to be copied
    cells = len(nbformat.read(workbench.folder / FIRST, as_version=4).cells)
    page.evaluate(RUN, [panel + 1, cells])
    page.get_by_text("not solved yet").first.wait_for()
    state = page.evaluate(CELLS)
    counts = [count for count, _ in state if count]
    assert len(counts) >= len(state) - 1  # the cell for the reader's own work is empty
    assert not [outputs for _, outputs in state if "error" in outputs]
    screen.shoot("run")
    assert_readable(screen, "run")
    assert screen.outside == set()


def test_ctrl_c_stops_lab_and_jupyterlab(brief_workbench: Workbench) -> None:
    """One Ctrl-C ends everything, says so, and leaves nothing listening."""
    code, printed = brief_workbench.interrupt()
    assert code == 0
    assert "have stopped" in printed
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", urlsplit(brief_workbench.url).port)) != 0
