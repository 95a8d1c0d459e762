"""What counts as down, and what runs at the other site: only what does not answer is down (TR 8)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labenv.lab import Lab
from smhvlab.dr.sites import SitePair, couple, life_of
from smhvlab.errors import NotAllowed
from smhvlab.site import connect
from tests.dr.scene import VMS, backup, kill_primary, prepare


@pytest.mark.parametrize("part", ["storage", "hosts", "certificate"])
def test_a_wrong_password_is_no_dead_site(pair: SitePair, lab: Lab, part: str) -> None:
    """What refuses the user, or is not trusted, is alive: there is no plan that would fence it, and it says why."""
    prepare(pair)
    good = pair.primary.profile
    wrong = {
        "storage": replace(good, storage=replace(good.storage, user="nobody")),
        "hosts": replace(good, hyperv=tuple(replace(host, user="nobody") for host in good.hyperv)),
        "certificate": replace(good, storage=replace(good.storage, ca_file=None)),
    }
    with connect(wrong[part]) as poor:
        couple(poor, pair.secondary)
        with pytest.raises(NotAllowed, match=r"Whether dr-pair-A is alive is not known: .*(nobody|trusted)") as caught:
            pair.secondary.dr.connect_snapinfo().plan()
    assert "may run the VMs" in (caught.value.why or "")
    assert ("ca_file" if part == "certificate" else "Check user and password") in caught.value.next_action
    assert "profile dr-pair-A" in caught.value.next_action


def test_what_does_not_answer_is_down(pair: SitePair, lab: Lab) -> None:
    """Without power storage and hosts are down, each by itself."""
    lab.storage("cluster1").power_off()
    half = life_of(pair.primary)
    lab.host("hv1").power_off()
    assert (half.array, half.hosts, life_of(pair.primary).dead) == (False, True, True)


@pytest.mark.filterwarnings("ignore::marshmallow.warnings.ChangedInMarshmallow4Warning")  # netapp-ontap's
def test_a_vm_that_runs_elsewhere_on_the_other_site_is_a_split_brain(pair: SitePair, lab: Lab) -> None:
    """A VM whose files were moved to another LUN of the first site runs there still: it is refused by its id."""
    prepare(pair)
    backup(pair)
    first, there = pair.primary, pair.secondary
    first.prepare_storage("new", size="140GB").run_sync()
    first.create_disk("new", size="100GB", at="W:").run_sync()
    first.tools().host.run("Move-VMStorage", {"Name": "app01", "DestinationStoragePath": "W:\\app01"})
    hyperv = first.tools().hyperv
    for name in ("sql01", "web01"):
        hyperv.ensure_off(hyperv.vm(name).id)
    there.dr.connect_snapinfo().run_sync(accept={"primary-up"})
    with pytest.raises(NotAllowed, match=r"Both sites are alive: app01 \(in W:\\app01\) run on dr-pair-A"):
        there.dr.failover().plan()
    hyperv.ensure_off(hyperv.vm("app01").id)
    assert [vm.name for vm in there.dr.failover().plan().state.vms] == sorted(VMS, reverse=True)


def test_a_site_that_nobody_asked_is_not_called_down(pair: SitePair, lab: Lab) -> None:
    """Without a partner the question says so, and what the peering knows: a living primary needs a word of its own."""
    prepare(pair)
    backup(pair)
    with connect(lab.profile, site="B") as alone:
        (asked,) = alone.dr.connect_snapinfo().plan().confirmations
        assert asked.key == "primary-not-asked"
        assert "the peering with cluster1 is available" in asked.text
        kill_primary(lab)
        (asked,) = alone.dr.connect_snapinfo().plan().confirmations
        assert (asked.key, "nobody has asked the primary" in asked.text) == ("primary-down", True)
