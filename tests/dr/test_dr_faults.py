"""What a bad day brings besides a dead site: each by its cause, told before anything is lost (TR 8)."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from netapp_ontap.resources.snapmirror_relationship import SnapmirrorRelationship
from netapp_ontap.resources.snapmirror_transfer import SnapmirrorTransfer

from labenv.lab import Lab
from smhvlab.dr.replication import Replication
from smhvlab.dr.sites import SitePair, couple
from smhvlab.errors import Cancelled, NotAllowed
from smhvlab.record import Outcome, PlannedStep
from smhvlab.site import connect
from tests.dr.scene import BACK, DOWN, VMS, backup, each, kill_primary, load, power, prepare, revive_primary, rows
from tests.dr.test_eras import digests, seen_before


def test_a_disaster_in_the_middle_of_a_transfer(pair: SitePair, lab: Lab) -> None:
    """A transfer under way is waited for while its source lives, else ended; what had arrived whole comes up."""
    prepare(pair)
    load(pair, 10)
    taken = backup(pair)
    load(pair, 20)
    late = backup(pair, update=False)
    there = Replication(pair.secondary.tools().storage)
    data, info = there.of_source("vm_sql01"), there.of_source("snapinfo")
    there.update([info])
    power(lab, "A", on=False, parts="hosts")
    pair.secondary.dr.connect_snapinfo().run_sync(accept={"primary-hosts-down"})
    there.wire.wait([there.wire.modify(SnapmirrorRelationship(uuid=data.uuid), {"throttle": 1})])
    there.wire.wait([there.wire.create(SnapmirrorTransfer(data.uuid))])
    with pytest.raises(NotAllowed, match="A transfer of svm1:vm_sql01 -> svm2:vm_sql01 is under way") as caught:
        pair.secondary.dr.failover().plan()
    assert "Wait for its end" in caught.value.next_action
    power(lab, "A", on=False, parts="storage")
    flow = pair.secondary.dr.failover()
    plan = flow.plan()
    assert [c.key for c in plan.confirmations] == ["primary-down", "transfer-cut", "newer-lost"]
    assert "svm1:vm_sql01 -> svm2:vm_sql01" in plan.confirmations[1].text
    assert late.name in plan.confirmations[2].text
    assert flow.run_sync(accept={c.key for c in plan.confirmations}).result.backups == (taken.name,)
    assert rows(lab) == each(10)


def test_snapinfo_that_is_older_than_the_data_is_told(pair: SitePair, lab: Lab) -> None:
    """A backup whose data arrived without its SnapInfo is asked about by name, and is lost if that is confirmed."""
    prepare(pair)
    load(pair, 10)
    taken = backup(pair)
    load(pair, 20)
    late = backup(pair, update=False)
    there = Replication(pair.secondary.tools().storage)
    there.update([there.of_source(volume) for volume in ("vm_sql01", "vm_shared")])
    kill_primary(lab)
    pair.secondary.dr.connect_snapinfo().run_sync(accept=DOWN)
    plan = pair.secondary.dr.failover().plan()
    (question,) = [c for c in plan.confirmations if c.key == "snapinfo-older"]
    assert late.name in question.text
    assert [name for name, _ in plan.state.backups] == [taken.name]


def unreachable(target: Path, *parts: str) -> dict[str, Any]:
    """The lab as one sees it when the line to these parts of site A is dead: nobody listens where it leads."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    seen: dict[str, Any] = json.loads(target.read_text("utf-8"))
    for part in parts:
        seen[part][0]["port"] = port
    return seen


def test_storage_that_only_cannot_be_managed(pair: SitePair, lab: Lab) -> None:
    """The VMs that are failed over are named and switched off, no others; not for SnapInfo; a cancel starts them."""
    prepare(pair)
    load(pair, 10)
    backup(pair)

    def running() -> set[str]:
        return {vm.name for vm in pair.primary.tools().hyperv.vms() if vm.running}

    before = running()
    accept = {"primary-storage-down"}
    with connect(unreachable(lab.profile, "storage"), site="A") as dark, connect(lab.profile, site="B") as there:
        couple(dark, there)
        there.dr.connect_snapinfo().run_sync(accept=accept)
        assert running() == before == {*VMS, "web01"}
        flow = there.dr.failover()
        plan = flow.plan()
        (question,) = plan.confirmations
        assert "sql01, app01 are switched off there" in question.text or "app01, sql01 are" in question.text
        seen: list[tuple[str, set[str]]] = []

        def gate(step: PlannedStep) -> bool:
            seen.append((step.name, running()))
            return step.name == "fence"

        flow.gate = gate
        with pytest.raises(Cancelled):
            flow.run_sync(plan=plan, accept=accept)
    assert seen == [("fence", before), ("break_mirrors", {"web01"})]
    assert running() == before


@pytest.mark.long
def test_a_site_that_is_merely_unreachable(pair: SitePair, lab: Lab) -> None:
    """Nobody can tell it from a dead one, as is confirmed; once it is back both histories are told, and one goes."""
    prepare(pair)
    load(pair, 10)
    backup(pair)
    with (
        connect(unreachable(lab.profile, "storage", "hyperv"), site="A") as dark,
        connect(lab.profile, site="B") as there,
    ):
        couple(dark, there)
        (question,) = there.dr.connect_snapinfo().plan().confirmations
        assert question.key == "primary-down"
        assert "make sure that it is really down" in question.text
        there.dr.connect_snapinfo().run_sync(accept=DOWN)
        assert there.dr.failover().run_sync(accept=DOWN).result.sound
    first, second = pair.primary, pair.secondary
    load(pair, 7)  # the first site has gone on all the time
    load(pair, 5, at="secondary")
    with pytest.raises(NotAllowed, match="runs here"):
        second.dr.return_to_normal().plan()
    flow = second.dr.reverse()
    plan = flow.plan()
    (both,) = [c.text for c in plan.confirmations if c.key == "stop-primary"]
    assert "sql01, app01 run on both sites now" in both or "app01, sql01 run on both sites now" in both
    flow.run_sync(plan=plan, accept=BACK)
    assert first.dr.failback().run_sync(accept={"downtime"}).result.sound
    assert rows(lab) == each(15)


@pytest.mark.long
def test_credentials_that_are_missing_when_the_data_go_back(pair: SitePair, lab: Lab) -> None:
    """Both clusters and Vservers are logged in to before the first change; the one that is missing is named."""
    prepare(pair)
    load(pair, 10)
    backup(pair)
    kill_primary(lab)
    pair.secondary.dr.connect_snapinfo().run_sync(accept=DOWN)
    pair.secondary.dr.failover().run_sync(accept=DOWN)
    revive_primary(lab)
    profile = pair.primary.profile
    bare = dataclasses.replace(profile, storage=dataclasses.replace(profile.storage, svms=()))
    with connect(bare) as poor:
        pair.secondary.partner = poor
        with pytest.raises(NotAllowed, match="Credentials are missing") as caught:
            pair.secondary.dr.reverse().plan()
    assert "Vserver svm1" in (caught.value.why or "")
    assert set(pair.secondary.mirrors()["state"]) == {"uninitialized"}


@pytest.mark.long
@pytest.mark.tr("R-8-05")
def test_loads_run_up_to_the_moment_of_the_disaster(pair: SitePair, lab: Lab, tmp_path: Path) -> None:
    """Guests write all the time; what comes up are the bytes of the last backup carried over, with a whole ledger."""
    prepare(pair)
    for vm in VMS:
        for database in lab.guest(vm).databases():
            lab.guest(vm).load(database, 3, up_to=10_000)
    lab.clock.advance(60)
    low = {vm: lab.guest(vm).count("aa1") for vm in VMS}
    taken = backup(pair)
    lab.clock.advance(120)
    backup(pair, update=False)
    wanted = digests(lab, taken, tmp_path)
    kill_primary(lab)
    pair.secondary.dr.connect_snapinfo().run_sync(accept=DOWN)
    flow = pair.secondary.dr.failover()
    seen = seen_before(flow, "start", lab, taken, tmp_path)
    record = flow.run_sync(accept=DOWN)
    assert (record.outcome, seen) == (Outcome.DONE, [wanted])
    assert record.result.sound
    found = rows(lab)
    for vm in VMS:
        assert found[f"{vm}/aa1"] >= low[vm] - 60  # what the guest had not flushed is lost, a few seconds' worth
