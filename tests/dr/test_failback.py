"""Failback to the first site and back to the original direction (TR 8, failback steps 1 to 11, return to normal)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labenv.lab import Lab
from smhvlab.dr.landing import Ground
from smhvlab.dr.replication import Replication
from smhvlab.dr.reverse import Way
from smhvlab.dr.sites import SitePair
from smhvlab.errors import ConfirmationNeeded, ConnectionFailed, NotAllowed
from smhvlab.flow import Flow
from smhvlab.record import Event, StepStarted
from tests.dr.scene import VMS, backup, destroy_volumes, each, kill_primary, load, power, prepare, revive_primary, rows

DOWN = {"primary-down"}
BACK = {"lose-primary", "stop-primary"}


def fail_over(pair: SitePair, lab: Lab) -> None:
    """Ten rows replicated, twenty lost; the second site runs the VMs and writes five."""
    prepare(pair)
    load(pair, 10)
    backup(pair)
    load(pair, 20)
    kill_primary(lab)
    pair.secondary.dr.connect_snapinfo().run_sync(accept=DOWN)
    pair.secondary.dr.failover().run_sync(accept=DOWN)
    load(pair, 5, at="secondary")


@pytest.mark.tr("R-8-12", "R-8-14", "R-8-15")
def test_a_site_that_was_only_down_gets_the_changes_and_its_vms_back(pair: SitePair, lab: Lab) -> None:
    """Reverse resync sends only what changed; the VMs go home with every row of the second site; mirrors turn again."""
    fail_over(pair, lab)
    revive_primary(lab)
    full = sum(pair.secondary.mirrors().query("source != 'svm1:snapinfo'")["total"])
    flow = pair.secondary.dr.reverse()
    plan = flow.plan()
    assert {r.way for r in plan.state.returns if r.holds == "VMs"} == {Way.RESYNC}
    done = flow.run_sync(plan=plan, accept=BACK).result
    data = sum(m.transferred for m in done.mirrors if "snapinfo" not in str(m))
    assert 0 < data < full / 10
    load(pair, 3, at="secondary")
    backup(pair, at="secondary")
    load(pair, 2, at="secondary")
    back = pair.primary.dr.failback().run_sync(accept={"downtime"}).result
    assert back.sound
    assert {f"{f.vm}/{f.database}": f.rows for f in back.databases} == each(20)
    assert rows(lab) == each(20)
    assert back.transferred > 0
    assert len(pair.primary.backups()) == 2
    assert list(pair.primary.mirrors()["direction"].unique()) == ["out"]
    with pytest.raises(ConfirmationNeeded):
        pair.secondary.dr.return_to_normal().run_sync()
    normal = pair.secondary.dr.return_to_normal().run_sync(accept={"give-up"}).result
    assert {m.state for m in normal.mirrors} == {"snapmirrored"}
    assert {str(m.destination) for m in normal.mirrors} == {"svm2:snapinfo", "svm2:vm_shared", "svm2:vm_sql01"}
    assert len(pair.secondary.vms()) == 0
    assert not any("V:" in paths or "sql01" in paths for paths in pair.secondary.disks()["paths"])
    load(pair, 1)
    last = backup(pair)
    mirrors = Replication(pair.secondary.tools().storage)
    assert all(last.name in mirrors.copies(v).values() for v in _volumes(pair))
    assert lab.inspect.check() == []


def _volumes(pair: SitePair) -> list[object]:
    storage = pair.secondary.tools().storage
    return [storage.volume(name, svm="svm2") for name in ("vm_sql01", "vm_shared")]


@pytest.mark.long
@pytest.mark.tr("R-8-12")
@pytest.mark.parametrize("stayed", [False, True])
def test_a_destroyed_site_gets_everything_on_new_storage(pair: SitePair, lab: Lab, stayed: bool) -> None:
    """Volumes of the first site are gone: all is initialised; a host that stayed up lets go of the dead disks."""
    fail_over(pair, lab)
    full = sum(pair.secondary.mirrors().query("source != 'svm1:snapinfo'")["total"])
    lab.storage("cluster1").power_on()
    if stayed:
        lab.host("hv1").power_on()
    destroy_volumes(pair.primary, ("vm_sql01", "vm_shared", "snapinfo"))
    if not stayed:
        lab.host("hv1").power_on()
    flow = pair.secondary.dr.reverse()
    assert {r.way for r in flow.plan().state.returns} == {Way.INITIALISE}
    done = flow.run_sync(accept={"stop-primary"}).result
    assert pair.secondary.mirrors().query("direction == 'in'").empty  # SnapInfo's, too: nobody can resync them
    assert sum(m.transferred for m in done.mirrors if "snapinfo" not in str(m)) >= full / 2
    back = pair.primary.dr.failback().run_sync(accept={"downtime"}).result
    assert back.sound
    assert rows(lab) == each(15)
    assert pair.primary.tools().snapinfo.folder() == "S:\\SnapInfo"
    assert len(pair.primary.backups()) == 1
    normal = pair.secondary.dr.return_to_normal().run_sync(accept={"give-up"}).result
    assert {str(m) for m in normal.mirrors} >= {"svm1:vm_shared -> svm2:vm_shared", "svm1:vm_sql01 -> svm2:vm_sql01"}
    assert "svm1:snapinfo_b -> svm2:snapinfo_b_dr" in {str(m) for m in normal.mirrors}  # it came home as another volume
    taken = backup(pair)
    assert set(pair.primary.dr.what_if()["backup"]) == {taken.name}


@pytest.mark.long
@pytest.mark.tr("R-8-13")
def test_without_the_extra_update_what_was_written_since_is_lost(pair: SitePair, lab: Lab) -> None:
    """Left out, the forced update costs the rows since the last transfer; the plan asks whether that is meant."""
    fail_over(pair, lab)
    revive_primary(lab)
    pair.secondary.dr.reverse().run_sync(accept=BACK)
    load(pair, 7, at="secondary")
    flow = pair.primary.dr.failback(update=False)
    with pytest.raises(ConfirmationNeeded) as asked:
        flow.run_sync(accept={"downtime"})
    assert list(asked.value.needed) == ["no-update"]
    flow.run_sync(accept={"downtime", "no-update"})
    assert rows(lab) == each(15)


@pytest.mark.long
def test_a_second_disaster_in_the_middle_of_the_failback(pair: SitePair, lab: Lab) -> None:
    """The second site dies after the data went back: the first fails over to the backup that arrived with them."""
    fail_over(pair, lab)
    revive_primary(lab)
    pair.secondary.dr.reverse().run_sync(accept=BACK)
    load(pair, 4, at="secondary")
    taken = backup(pair, at="secondary")
    load(pair, 9, at="secondary")
    lab.storage("cluster2").power_off()
    lab.host("hv2").power_off()
    with pytest.raises(NotAllowed, match="does not answer as a whole") as caught:
        pair.primary.dr.failback().plan()
    assert "failover" in caught.value.next_action
    pair.primary.dr.connect_snapinfo(volume="snapinfo_b").run_sync(accept=DOWN)
    done = pair.primary.dr.failover().run_sync(accept=DOWN).result
    assert done.backups == (taken.name,)
    assert rows(lab) == each(19)


def test_what_makes_a_failback_impossible_is_told_first(pair: SitePair, lab: Lab) -> None:
    """Nothing failed over, a site that is not back, no mirror home, VMs that still run: one clear error each."""
    prepare(pair)
    with pytest.raises(NotAllowed, match="No volume was failed over"):
        pair.secondary.dr.reverse().plan()
    with pytest.raises(NotAllowed, match="lives on volumes that are mirrored"):
        pair.primary.dr.failback().plan()
    load(pair, 10)
    backup(pair)
    kill_primary(lab)
    pair.secondary.dr.connect_snapinfo().run_sync(accept=DOWN)
    pair.secondary.dr.failover().run_sync(accept=DOWN)
    with pytest.raises(NotAllowed, match="is not back yet"):
        pair.secondary.dr.reverse().plan()
    revive_primary(lab)
    with pytest.raises(NotAllowed, match="runs here"):
        pair.secondary.dr.return_to_normal().plan()


@pytest.mark.tr("R-8-15")
def test_nothing_is_returned_to_normal_before_the_vms_are_home(pair: SitePair, lab: Lab) -> None:
    """VMs that are off over there, that only this site has, or whose volumes there are mirrors: nothing is resynced."""
    fail_over(pair, lab)
    revive_primary(lab)
    normal = pair.secondary.dr.return_to_normal()
    for site in (pair.primary, pair.secondary):  # maintenance, and nobody has failed back
        hyperv = site.tools().hyperv
        hyperv.ensure_all_off([vm.id for vm in hyperv.vms()])
    with pytest.raises(NotAllowed, match=r"app01 does not run on dr-pair-A") as caught:
        normal.plan()
    assert "Fail back first" in caught.value.next_action
    there = pair.secondary.tools().hyperv
    ids = [vm.id for vm in there.vms()]
    there.ensure_all_running(ids)
    pair.secondary.dr.reverse().run_sync(accept={"lose-primary"})
    with pytest.raises(NotAllowed, match="app01 does not run on dr-pair-A"):
        normal.plan()
    assert rows(lab) == each(15)
    there.ensure_all_off(ids)
    there.ensure_all_removed(ids)
    with pytest.raises(NotAllowed, match=r"svm1:vm_s\w+ is not writable on dr-pair-A: it is a mirror"):
        normal.plan()


@pytest.mark.long
@pytest.mark.tr("R-8-05", "R-8-08", "R-8-14", "R-8-15")
def test_snapinfo_goes_there_and_back_with_a_second_site_that_has_none(pair: SitePair, lab: Lab) -> None:
    """The TR's basic scenario: SnapInfo is taken over at its mount point, comes home by resync, is mirrored again."""
    tools = pair.secondary.tools()
    own = tools.storage.lun("/vol/snapinfo_b/snapinfo", svm="svm2")
    tools.snapdrive.discard_connection(own, igroup="hv2", access_path="S:\\")
    prepare(pair)
    load(pair, 10)
    backup(pair)
    kill_primary(lab)
    info = pair.secondary.dr.connect_snapinfo().run_sync(accept=DOWN).result
    assert (info.merged, info.folder, len(info.backups)) == (False, "S:\\SnapInfo", 1)
    pair.secondary.dr.failover().run_sync(accept=DOWN)
    load(pair, 5, at="secondary")
    revive_primary(lab)
    done = pair.secondary.dr.reverse().run_sync(accept=BACK).result
    assert {entry.way for entry in done.returns} == {Way.RESYNC}
    backup(pair, at="secondary")
    pair.primary.dr.failback().run_sync(accept={"downtime"})
    assert rows(lab) == each(15)
    assert len(pair.primary.backups()) == 2
    normal = pair.secondary.dr.return_to_normal().run_sync(accept={"give-up"}).result
    assert {str(m.destination) for m in normal.mirrors} == {"svm2:snapinfo", "svm2:vm_shared", "svm2:vm_sql01"}
    assert not any("S:" in paths for paths in pair.secondary.disks()["paths"])


@pytest.mark.filterwarnings("ignore::marshmallow.warnings.ChangedInMarshmallow4Warning")  # netapp-ontap's
def test_a_vm_with_a_file_that_would_stay_behind_is_named(pair: SitePair, lab: Lab) -> None:
    """A VM that got a disk beyond the mirrors stops the failback by name; once that is mirrored too, it comes home."""
    fail_over(pair, lab)
    second = pair.secondary
    second.prepare_storage("extra", size="20GB").run_sync()
    second.create_disk("extra", size="5GB", at="W:").run_sync()
    revive_primary(lab)
    second.dr.reverse().run_sync(accept=BACK)
    host = second.tools().host
    for path, why in (("C:\\more.vhd", "on no LUN"), ("W:\\more.vhd", "/vol/extra/extra is not mirrored")):
        host.run("New-VHD", {"Path": path, "SizeBytes": 1 << 30, "Dynamic": True})
        place = {"VMName": "app01", "ControllerType": "SCSI", "ControllerNumber": 0, "ControllerLocation": 9}
        host.run("Add-VMHardDiskDrive", {**place, "Path": path})
        with pytest.raises(NotAllowed, match="app01 cannot come home: its file") as caught:
            pair.primary.dr.failback().plan()
        assert path in caught.value.message
        assert why in (caught.value.why or "")
        if path[0] == "C":
            host.run("Remove-VMHardDiskDrive", place)
    second.dr.protect(["extra"]).run_sync()
    back = pair.primary.dr.failback().run_sync(accept={"downtime"}).result
    assert set(back.vms) == {"app01", "sql01"}
    assert rows(lab) == each(15)
    assert any("W:" in paths for paths in pair.primary.disks()["paths"])


@pytest.mark.long
def test_hosts_that_were_down_while_their_luns_were_taken_get_them_back(pair: SitePair, lab: Lab) -> None:
    """A host that started without its LUNs reads their partition tables when they come home, and the VMs start."""
    prepare(pair)
    load(pair, 10)
    backup(pair)
    power(lab, "A", on=False, parts="hosts")
    accept = {"primary-hosts-down"}
    pair.secondary.dr.connect_snapinfo().run_sync(accept=accept)
    pair.secondary.dr.failover().run_sync(accept=accept)
    load(pair, 5, at="secondary")
    power(lab, "A", on=True, parts="hosts")
    assert not any("V:" in paths for paths in pair.primary.disks()["paths"])
    pair.secondary.dr.reverse().run_sync(accept=BACK)
    assert pair.primary.dr.failback().run_sync(accept={"downtime"}).result.sound
    assert rows(lab) == each(15)


@pytest.mark.parametrize(
    "begun",
    ["break_mirrors", pytest.param("connect", marks=pytest.mark.long), pytest.param("release", marks=pytest.mark.long)],
)
def test_a_second_disaster_past_the_last_update_leaves_the_vms_running_at_home(
    pair: SitePair, lab: Lab, begun: str
) -> None:
    """The second site dies once all data are home: the failback ends there, and tells that it could not release."""
    fail_over(pair, lab)
    revive_primary(lab)
    pair.secondary.dr.reverse().run_sync(accept=BACK)
    load(pair, 2, at="secondary")
    flow = pair.primary.dr.failback()
    die_at(flow, begun, lambda: power(lab, "B", on=False))
    done = flow.run_sync(accept={"downtime"}).result
    assert done.sound
    assert rows(lab) == each(17)
    assert any("B does not answer" in text for text in done.relationships)
    power(lab, "B", on=True)
    normal = pair.secondary.dr.return_to_normal().run_sync(accept={"give-up"}).result
    assert {m.state for m in normal.mirrors} == {"snapmirrored"}
    assert set(pair.secondary.mirrors()["direction"]) == {"in"}  # what could not be released then is released now


def test_a_return_to_normal_that_a_second_disaster_overtook_is_not_resumed(pair: SitePair, lab: Lab) -> None:
    """The first site dies before the resync and the VMs are failed over again: the old run does not overwrite them."""
    fail_over(pair, lab)
    revive_primary(lab)
    there = pair.secondary
    there.dr.reverse().run_sync(accept=BACK)
    pair.primary.dr.failback().run_sync(accept={"downtime"})
    flow = there.dr.return_to_normal()
    die_at(flow, "resync", lambda: kill_primary(lab))
    with pytest.raises(ConnectionFailed):
        flow.run_sync(accept={"give-up"})
    again = there.dr.failover()
    again.run_sync(accept={question.key for question in again.plan().confirmations})
    load(pair, 7, at="secondary")
    revive_primary(lab)
    with pytest.raises(NotAllowed, match="is in use again") as caught:
        flow.resume_sync()
    assert "plan anew" in caught.value.next_action
    assert {found.rows for found in Ground(there).check_databases(VMS)} == {17}


@pytest.mark.long
def test_an_undo_starts_no_vm_that_was_failed_over_since(pair: SitePair, lab: Lab) -> None:
    """The second site dies in the first steps of a failback: its VMs stay off there, once the first one runs them."""
    fail_over(pair, lab)
    revive_primary(lab)
    pair.secondary.dr.reverse().run_sync(accept=BACK)
    flow = pair.primary.dr.failback()
    die_at(flow, "refresh", lambda: power(lab, "B", on=False))
    with pytest.raises(ConnectionFailed):
        flow.run_sync(accept={"downtime"})
    again = pair.primary.dr.failover()
    again.run_sync(accept={question.key for question in again.plan().confirmations})
    power(lab, "B", on=True)
    off = [vm.name for vm in pair.secondary.tools().nodes.vms() if not vm.running]
    with pytest.raises(NotAllowed, match="run on dr-pair-A"):
        flow.undo_sync()
    assert [vm.name for vm in pair.secondary.tools().nodes.vms() if not vm.running] == off
    assert set(off) >= {"sql01", "app01"}


def test_a_false_alarm_leaves_the_first_site_with_its_snapinfo(pair: SitePair, lab: Lab) -> None:
    """Hosts were down while SnapInfo was taken over, and came back: the return to normal gives them their LUN."""
    prepare(pair)
    backup(pair)
    power(lab, "A", on=False, parts="hosts")
    pair.secondary.dr.connect_snapinfo().run_sync(accept={"primary-hosts-down"})
    power(lab, "A", on=True, parts="hosts")
    assert len(pair.primary.backups()) == 0
    normal = pair.secondary.dr.return_to_normal().run_sync(accept={"give-up"}).result
    assert [str(m) for m in normal.mirrors] == ["svm1:snapinfo -> svm2:snapinfo"]
    assert len(pair.primary.backups()) == 1
    taken = backup(pair)
    assert set(pair.primary.dr.what_if()["backup"]) == {taken.name}


def die_at(flow: Flow[Any], step: str, end: Callable[[], None]) -> None:
    """Something dies when a flow begins a step."""

    def hear(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == step:
            flow.on_event = None
            end()

    flow.on_event = hear
