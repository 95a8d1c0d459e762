"""The editors of policies and datasets: fields that are named, values that work, and consoles that lose nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smhvlab.errors import ConfirmationNeeded, Misfit, NameTaken, NotAllowed
from smhvlab.panels.panel import VIEW
from smhvlab.panels.policyeditor import PolicyEditor
from smhvlab.protection.policy import Policy, Retention, Script, from_toml
from smhvlab.site import Site

HOURLY = {"name": "hourly", "dataset": "Apps", "consistency": "crash", "schedule.repeat": "hourly"}


@pytest.fixture
def editor(site: Site) -> PolicyEditor:
    """An empty form on a site with one dataset."""
    site.create_dataset("Apps", ["app01", "web01"])
    return site.policy_editor()


def test_a_blank_form_finds_no_fault_and_speaks_plainly(site: Site, editor: PolicyEditor) -> None:
    """Nothing is red before something was written or Save was pressed; labels are words, names are in the tooltips."""
    assert editor.error is None
    assert not any(note.value for note in editor.notes.values())
    assert repr(editor) == "PolicyEditor(a new one, new; empty)"
    assert editor.inputs["dataset"].options == ("Apps",)
    for name, one in editor.inputs.items():
        assert one.description
        assert not {".", "_"} & set(one.description)
        assert one.tooltip.endswith(f"({name})")
    editor.save_button.click()
    assert isinstance(editor.error, Misfit)
    assert editor.notes["name"].value
    editor.load("")
    assert editor.error is None
    editor.fill({"description": "x"})
    assert isinstance(editor.error, Misfit)


@pytest.mark.tr("R-5.2-03")
def test_a_policy_is_made_in_the_form(site: Site, editor: PolicyEditor) -> None:
    """What the form holds is what is stored, and what the text says; fields of other repetitions do not count."""
    editor.fill({**HOURLY, "schedule.every": "4", "schedule.at": "06:00", "retention.keep": "30"})
    editor.fill({"schedule.day": "31", "options.replicate": True, "notification.to": "a@example.org, b@example.org"})
    assert from_toml(editor.text.value) == replace(editor.save(), version=0, since=None)
    assert editor.saved == site.policy("hourly")
    assert "Saved as version 1" in editor.render()
    assert site.policy("hourly").notification.to == ("a@example.org", "b@example.org")
    again = site.policy_editor("hourly")
    assert again.document() == editor.document()
    assert repr(again) == "PolicyEditor(hourly, from version 1; fits)"
    assert VIEW in again._repr_mimebundle_()


def test_distributed_is_left_to_the_hosts_or_said_either_way(site: Site, editor: PolicyEditor) -> None:
    """The three answers are stored, told and read back as they were given."""
    one, two, three = editor.inputs["options.distributed"].options
    for number, (answer, meant) in enumerate(((two, True), (three, False), (one, None))):
        name = f"policy{number}"
        editor.load("")
        editor.fill({**HOURLY, "name": name, "consistency": "application", "retention.keep": "9"})
        editor.fill({"options.distributed": answer})
        assert editor.save().options.distributed is meant
        again = site.policy_editor(name)
        assert again.inputs["options.distributed"].value == answer
        assert again.document() == editor.document()
    assert site.policy("policy1").facts()["options"] == "not distributed"


@pytest.mark.parametrize(
    ("field", "value", "nearest"),
    [
        ("schedule.at", "26:00", "23:00"),
        ("schedule.every", "0", "1"),
        ("schedule.timezone", "Europe/Berlim", "Europe/Berlin"),
        ("name", "every hour!", "every-hour-"),
        ("retention.keep", "", "30"),
        ("retention.keep", "-3", "1"),
    ],
)
def test_the_nearest_that_works_is_one_press_away(editor: PolicyEditor, field: str, value: str, nearest: str) -> None:
    """A value that does not fit is told beside its field, nothing is saved, and the nearest can be taken."""
    editor.fill({**HOURLY, "retention.keep": "30", field: value})
    assert isinstance(editor.error, Misfit)
    with pytest.raises(Misfit):
        editor.save()
    told = [name for name, note in editor.notes.items() if note.value]
    assert told == [field] or editor.error.field == "retention"
    editor.nearest_button.click()
    assert editor.inputs[field].value == nearest
    assert editor.error is None


def test_an_error_without_a_nearest_value_is_told(editor: PolicyEditor) -> None:
    """Where no value can be named the form stays as it is, and says what is to be done."""
    editor.fill({**HOURLY, "retention.keep": "30", "retention.days": "7"})
    with pytest.raises(NotAllowed, match="no nearest"):
        editor.take_nearest()
    with pytest.raises(NotAllowed, match="no field"):
        editor.fill({"colour": "red"})
    with pytest.raises(NotAllowed, match="does not take"):
        editor.fill({"consistency": "perfect"})


@pytest.mark.tr("R-6.5-01")
def test_the_text_is_read_into_the_form(site: Site, editor: PolicyEditor) -> None:
    """Scripts are written as text and survive the form; a text that does not fit leaves the form as it was."""
    editor.fill({**HOURLY, "retention.keep": "5"})
    good = editor.text.value
    editor.text.value = good + '[[script]]\nphase = "after"\ncommand = "Get-Service"\nparameters = {Name = "vmms"}\n'
    editor.text_button.click()
    editor.fill({"retention.keep": "6"})
    saved = editor.save()
    assert saved.script == (Script(phase=saved.script[0].phase, command="Get-Service", parameters={"Name": "vmms"}),)
    assert saved.retention == Retention(keep=6)
    editor.text.value = "name = "
    editor.text_button.click()
    assert editor.error is not None
    assert "no TOML" in editor.error.message
    assert editor.inputs["retention.keep"].value == "6"


@pytest.mark.tr("R-6.1-04")
def test_the_second_console_is_told_and_loses_nothing(site: Site, editor: PolicyEditor) -> None:
    """Both edit version 1: the second sees what is different, and chooses; either way both texts are there."""
    editor.fill({**HOURLY, "retention.keep": "10"})
    editor.save()
    first, second = site.policy_editor("hourly"), site.policy_editor("hourly")
    first.fill({"retention.keep": "20"})
    second.fill({"retention.keep": "40"})
    first.save()
    second.save_button.click()
    second.wait()
    assert isinstance(second.error, NameTaken)
    assert "retention.keep: yours 40, theirs 20" in second.render()
    assert second.inputs["retention.keep"].value == "40"
    second.theirs_button.click()
    assert second.inputs["retention.keep"].value == "20"
    assert "keep = 40" in second.put_away
    third = site.policy_editor("hourly")
    third.base = site.policy_history("hourly")[0]  # read before the first console saved
    third.fill({"retention.keep": "50"})
    with pytest.raises(NameTaken):
        third.save()
    assert third.keep_mine().version == 3
    assert [policy.retention.keep for policy in site.policy_history("hourly")] == [10, 20, 50]


def test_a_policy_that_fills_a_volume_needs_a_tick(editor: PolicyEditor) -> None:
    """The budget's refusal is shown with the retention that fits; it can be saved all the same, on purpose."""
    editor.fill({**HOURLY, "retention.days": "30"})
    with pytest.raises(ConfirmationNeeded):
        editor.save()
    assert "retention.keep = 254" in editor.render()
    editor.anyway.value = True
    saved: Policy = editor.save()
    assert saved.retention == Retention(days=30)


@pytest.mark.tr("R-5.2-02")
def test_a_dataset_is_edited_in_its_form(site: Site) -> None:
    """VMs are chosen from the site; other datasets and unprotected VMs are told; the second console sees the first."""
    new = site.dataset_editor()
    new.fill({"name": "Apps", "vms": ("app01", "web01"), "description": "the shop"})
    new.save()
    assert "In no dataset: golden, sql01" in new.render()
    other = site.dataset_editor()
    other.fill({"name": "Web", "vms": ("web01",)})
    assert "web01 is in Apps too" in other.render()
    first, second = site.dataset_editor("Apps"), site.dataset_editor("Apps")
    assert first.inputs["name"].disabled
    first.fill({"vms": ("app01",)})
    first.save()
    second.fill({"vms": ("app01", "web01", "sql01")})
    with pytest.raises(NameTaken, match="another console"):
        second.save()
    assert {"only yours has sql01", "only yours has web01"} == set(
        second._different(site.tools().snapinfo.dataset("Apps"))
    )
    assert second.keep_mine().version == 3
    assert site.datasets().iloc[0]["vms"] == "app01, web01, sql01"
    with pytest.raises(NotAllowed):
        site.dataset_editor().save()
