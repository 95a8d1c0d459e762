"""VMs whose virtual switch is missing at the second site keep no other VM waiting (TR 8)."""

from __future__ import annotations

import pytest

from labenv.lab import Lab
from smhvlab.dr.sites import SitePair
from smhvlab.dr.switches import discard_lent, ensure_lent, switches
from smhvlab.errors import NotAllowed
from tests.dr.scene import VMS, backup, each, load, prepare, rows


@pytest.mark.tr("R-8-09")
def test_one_vm_without_its_switch_keeps_no_other_waiting(pair: SitePair, lab: Lab) -> None:
    """A rehearsal lends the switch; a failover tells of it where it can, starts the other VM, and is resumed."""
    first, there = pair.primary, pair.secondary
    first.tools().host.run("New-VMSwitch", {"Name": "LAN", "SwitchType": "Internal"})
    first.tools().host.run("Connect-VMNetworkAdapter", {"VMName": "sql01", "SwitchName": "LAN"})
    prepare(pair)
    load(pair, 10)
    backup(pair)
    before = switches(there.tools().nodes.own())
    assert there.dr.rehearse().run_sync().result.sound
    assert switches(there.tools().nodes.own()) == before
    hyperv = first.tools().hyperv
    hyperv.ensure_all_off([vm.id for vm in hyperv.vms()])
    there.dr.connect_snapinfo().run_sync(accept={"primary-up"})
    flow = there.dr.failover()
    asked = {question.key: question.text for question in flow.plan().confirmations}
    assert asked["switch-missing"].endswith("sql01 needs 'LAN'")
    with pytest.raises(NotAllowed, match="hv2 lacks virtual switches; not registered: sql01 needs 'LAN'") as caught:
        flow.run_sync(accept=set(asked))
    assert "New-VMSwitch -Name 'LAN'" in caught.value.next_action
    assert [(vm.name, vm.running) for vm in there.tools().nodes.vms()] == [("app01", True)]
    there.tools().host.run("New-VMSwitch", {"Name": "LAN", "SwitchType": "Internal"})
    done = flow.resume_sync().result
    assert (done.sound, {found.vm for found in done.databases}) == (True, set(VMS))
    assert rows(lab) == each(10)


def test_a_lent_switch_goes_and_one_that_somebody_made_stays(pair: SitePair) -> None:
    """Only what carries the mark is removed, though the names are the same."""
    node = pair.secondary.tools().nodes.own()
    before = switches(node)
    ensure_lent(node, ["LAN", "mark"], mark="mark")
    node.host.run("New-VMSwitch", {"Name": "Own", "SwitchType": "Internal"})
    discard_lent(node, ["LAN", "Own", "mark"], mark="mark")
    assert switches(node) == before | {"Own"}


@pytest.mark.long
def test_copies_are_made_without_the_switch(pair: SitePair, lab: Lab) -> None:
    """Copies beside the VMs need the switch for a moment only, and it is gone afterwards."""
    first, there = pair.primary, pair.secondary
    first.tools().host.run("New-VMSwitch", {"Name": "LAN", "SwitchType": "Internal"})
    first.tools().host.run("Connect-VMNetworkAdapter", {"VMName": "sql01", "SwitchName": "LAN"})
    prepare(pair)
    load(pair, 10)
    backup(pair)
    before = switches(there.tools().nodes.own())
    assert there.dr.rehearse(copies=True, vms=["sql01"]).run_sync().result.sound
    assert switches(there.tools().nodes.own()) == before
