"""The wizards: a flow's own parameters as a form, its plan before its run, its confirmations as boxes to tick."""

from __future__ import annotations

import html

import ipywidgets as widgets
import pytest

from smhvlab.errors import NotAllowed
from smhvlab.panels.panel import VIEW
from smhvlab.panels.wizard import Wizard, fields_of
from smhvlab.record import Outcome
from smhvlab.restore.vm import RestoreVm
from smhvlab.site import Site
from tests.flows.conftest import Stock


def finished(wizard: Wizard) -> Outcome | None:
    """Take all steps of what was planned."""
    assert wizard.stepper is not None
    wizard.stepper.run_all()
    wizard.stepper.wait()
    return wizard.stepper.outcome


def test_the_form_is_the_flows_parameters_and_nothing_else(site: Site) -> None:
    """Names, order, defaults and explanations come from the verb; the class gives the same names."""
    wizard = site.wizard("mount")
    assert list(wizard.inputs) == [field.name for field in fields_of(site.mount)]
    assert isinstance(wizard.inputs["guests"], widgets.Checkbox)
    three = site.wizard("backup")
    assert "distributed" not in three.values
    three.fill(distributed=False)
    assert three.values["distributed"] is False
    assert wizard.inputs["copy"].value == "recovered"
    assert "drive letter" in next(field.about for field in wizard.fields if field.name == "at")
    assert [field.name for field in fields_of(RestoreVm)] == [field.name for field in fields_of(site.restore)]
    assert [field.name for field in fields_of(site.restore) if field.required] == ["backup", "vm"]


def test_a_site_without_datasets_is_told_and_nothing_is_made(site: Site) -> None:
    """A refusal is an error with a next step for scripts, a card for readers; a wrong choice names the right ones."""
    wizard = site.wizard("backup")
    with pytest.raises(NotAllowed, match="needs dataset"):
        wizard.prepare()
    wizard.prepare_button.click()
    assert wizard.stepper is None
    assert "needs dataset" in wizard.render()
    with pytest.raises(NotAllowed, match="cannot be chosen"):
        wizard.fill(dataset="SQL")
    with pytest.raises(NotAllowed, match="no parameter"):
        wizard.fill(colour="red")
    with pytest.raises(NotAllowed, match="makes no flow"):
        site.wizard("vms")


@pytest.mark.tr("R-6.7-05")
def test_a_backup_and_a_restore_by_their_wizards(site: Site) -> None:
    """The restore offers that backup's VMs; its warnings are boxes, and nothing runs before they are ticked."""
    site.create_dataset("Web", ["web01"])
    backup = site.wizard("backup")
    backup.fill(dataset="Web", consistency="crash")
    assert backup.prepare().steps["snapshots"].plan is not None
    assert len(site.backups()) == 0  # planned, not run
    assert finished(backup) is Outcome.DONE
    site.tools().hyperv.ensure_off(site.tools().hyperv.vm("web01").id)
    restore = site.wizard("restore")
    assert restore.inputs["vm"].options == ("web01",)
    stepper = restore.prepare()
    assert list(stepper.confirmations) == ["not-running"]
    assert stepper.run_button.disabled
    assert finished(restore) is None
    assert restore.stepper is stepper
    stepper.accept("not-running")
    assert finished(restore) is Outcome.DONE
    assert "✓ done" in restore.render()
    steps = len(stepper.steps)
    assert f"done, {steps} of {steps} steps" in repr(restore)
    restore.fill(safety_backup=True)  # the record of what was done stays until the next plan
    assert restore.stepper is stepper
    with pytest.raises(NotAllowed, match="plan cannot be carried out"):
        stepper.run_all()
    assert list(restore.prepare().confirmations.values()) == []
    assert restore.stepper is not stepper


def test_another_value_is_another_flow(site: Site) -> None:
    """A plan that does not fit the form any more is put away."""
    site.create_dataset("Web", ["web01"])
    site.create_dataset("App", ["app01"])
    wizard = site.wizard("backup")
    wizard.fill(dataset="Web")
    wizard.prepare()
    assert wizard.body.children
    wizard.fill(dataset="App")
    assert wizard.stepper is None
    assert not wizard.body.children
    bundle = wizard._repr_mimebundle_()
    assert {"text/plain", "text/html", VIEW} <= set(bundle)
    assert "App" in bundle["text/html"]


def test_the_choices_that_hang_on_a_backup_are_read_aside(stock: Stock) -> None:
    """A reader who chooses another backup gets its VMs, and the form answers meanwhile; so does Read again."""
    site = stock.site
    site.create_dataset("Web", ["web01"])
    newer = site.backup("Web", consistency="crash").run_sync().result.backup.name
    wizard = site.wizard("restore")
    assert (wizard.inputs["backup"].value, wizard.inputs["vm"].options) == (newer, ("web01",))
    wizard.inputs["backup"].value = stock.backup
    wizard.wait()
    assert (wizard.inputs["vm"].options, wizard.inputs["vm"].value) == (("app01", "sql01"), "app01")
    for name, bad, good in (("disk", "two", 2), ("script_parameters", "Path", {"Path": "C:\\a=b", "ItemType": "File"})):
        form = site.wizard("restore_file" if name == "disk" else "restore")
        form.inputs[name].value = bad
        form.inputs["to" if name == "disk" else "script"].value = "New-Item"
        form.prepare_button.click()
        assert f"{name} is {bad!r}" in html.unescape(form.render())
        form.inputs[name].value = "2" if name == "disk" else r"Path = C:\a=b; ItemType=File"
        assert form.values[name] == good
    stock.lab.faults.set("windows.cmdlet", "error", match={"cmdlet": "Get-ChildItem"}, code="x")
    wizard.again_button.click()
    wizard.wait()
    assert wizard.error is not None
    stock.lab.faults.clear()
    wizard.again_button.click()
    wizard.wait()
    assert wizard.error is None
    assert wizard.inputs["vm"].value == "app01"
