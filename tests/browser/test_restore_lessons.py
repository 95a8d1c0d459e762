"""The lessons on restore and mount as a reader meets them: the wizard's boxes are ticked, a file is copied out."""

from __future__ import annotations

import pytest

from tests.browser.pages import RUN, Screen, Workbench, assert_readable, cell_with, open_lesson
from tests.browser.test_backup_lessons import finish

RESTORE = "backup/02_restore.ipynb"
MOUNT = "backup/03_mount_and_single_file_restore.ipynb"


@pytest.mark.long
def test_a_restore_by_its_wizard(workbench: Workbench, screen: Screen) -> None:
    """Run all is grey until both warnings are ticked; other choices of the form mean another plan."""
    page = open_lesson(screen, workbench.document(RESTORE))
    wizard = cell_with(workbench, 'site.wizard("restore")', lesson=RESTORE)
    page.evaluate(RUN, [0, wizard + 1])
    view = page.locator(".jp-CodeCell", has_text='site.wizard("restore")')
    everything = view.get_by_role("button", name="Run all")
    assert everything.is_disabled()
    screen.shoot("restore-warnings", of=view)
    assert_readable(screen, "warnings")
    view.get_by_role("checkbox", name="not-running").check()
    assert everything.is_disabled()
    view.get_by_role("checkbox", name="fewer-vhds").check()
    everything.click()
    view.get_by_text("done", exact=True).first.wait_for(timeout=60_000)
    screen.shoot("restore-done", of=view)
    assert_readable(screen, "restored")
    finish(workbench, screen, RESTORE, wizard + 1)
    assert page.get_by_text("what it would do").count() >= 2
    screen.shoot("restore-lesson")
    assert screen.outside == set()


@pytest.mark.long
def test_a_file_out_of_the_tree(workbench: Workbench, screen: Screen) -> None:
    """Up to the VMs and down again to a guest's file, which is copied out; what does nothing cannot be pressed."""
    page = open_lesson(screen, workbench.document(MOUNT))
    tree = cell_with(workbench, "tree = site.tree(backup.name)", lesson=MOUNT)
    page.evaluate(RUN, [0, tree + 1])
    view = page.locator(".jp-CodeCell", has_text="tree = site.tree(backup.name)")
    up, down, out = (view.get_by_role("button", name=name, exact=True) for name in ("Up", "Open", "Copy out"))
    entries = view.get_by_role("listbox")
    entries.wait_for()
    for name in ("SQL", "disk 1", "app01"):
        up.click()
        entries.get_by_role("option", name=name, exact=True).wait_for()
    screen.shoot("tree-disks", of=view)
    for name, inside in (("app01", "disk 1"), ("disk 1", "SQL"), ("SQL", "bb2.mdf")):
        entries.select_option(name)
        assert out.is_disabled()
        down.click()
        entries.get_by_role("option", name=inside, exact=True).wait_for()
    entries.select_option("bb2.mdf")
    assert down.is_disabled()
    view.get_by_role("textbox", name="Copy to").fill("C:\\bb2_then.mdf")
    view.get_by_role("textbox", name="Copy to").press("Tab")
    out.click()
    view.get_by_text("planned", exact=True).first.wait_for()
    screen.shoot("tree-planned", of=view)
    assert_readable(screen, "tree")
    view.get_by_role("button", name="Run all").click()
    view.get_by_text("done", exact=True).first.wait_for(timeout=60_000)
    screen.shoot("tree-copied", of=view)
    finish(workbench, screen, MOUNT, tree + 1)
    screen.shoot("mount-lesson")
    assert_readable(screen, "mount lesson")
    assert screen.outside == set()
