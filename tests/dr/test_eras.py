"""The image that is recovered at the other site, in each era and with either of the TR's end states (TR 6.2, 8)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from labenv import lab as labs
from labenv.lab import Lab
from smhvlab.dr.images import Manner
from smhvlab.dr.replication import Replication
from smhvlab.dr.sites import SitePair, connect_pair
from smhvlab.flow import Flow
from smhvlab.record import Event, StepStarted
from smhvlab.snapinfo import Backup
from tests.dr.scene import BACK, DOWN, VMS, backup, each, kill_primary, load, prepare, revive_primary, rows
from tests.flows.images import digest, guest_volumes, has_notes, hot
from tests.flows.test_backup_images import disturb
from tests.flows.test_right_image import FILE


@contextmanager
def era_lab(era: str) -> Iterator[Lab]:
    """Two sites in an era."""
    with labs.start(f"dr-pair-{era}") as lab:
        yield lab
        assert lab.status()["failures"] == []


def digests(lab: Lab, taken: Backup, folder: Path, *, live: str = "", vms: Collection[str] = ()) -> dict[str, str]:
    """Of guests' files in the image that SnapInfo names, or in the ``live`` LUN of another cluster; of all ``vms``."""
    found = {}
    for vm in (vm for vm in taken.vms if not vms or vm.name in vms):
        lun = taken.lun_of(vm.configuration_file, vm.id)
        assert lun is not None
        place = replace(lun, volume=f"cluster1:{lun.volume}")
        if live:
            place = replace(lun, volume=f"{live}:{lun.volume}", path=lun.path.rpartition("_{")[0] or lun.path)
        with guest_volumes(lab, vm, place, folder, snapshot=None if live else "") as volumes:
            if taken.consistency == "application":
                assert has_notes(volumes)
                assert not hot(volumes)
            found[vm.name] = digest(volumes)
    return found


def seen_before(
    flow: Flow[object], step: str, lab: Lab, taken: Backup, folder: Path, *, vms: Collection[str] = ()
) -> list[dict[str, str]]:
    """Lets a flow tell, once it runs, what lies on the second site's LUNs when a step begins."""
    seen: list[dict[str, str]] = []

    def hear(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == step:
            seen.append(digests(lab, taken, folder, live="cluster2", vms=vms))

    flow.on_event = hear
    return seen


def scene(pair: SitePair, lab: Lab, consistency: str) -> Backup:
    """Rows, an open transaction and an unflushed file; a backup of that, carried over; more rows; no first site."""
    prepare(pair)
    load(pair, 10)
    disturb(lab, *VMS)
    taken = backup(pair, consistency=consistency)
    for vm in VMS:
        lab.guest(vm).commit("bb1")
    load(pair, 20)
    return taken


@pytest.mark.tr("R-8-07", "R-8-09", "R-6.2-07")
@pytest.mark.parametrize("manner", ["", pytest.param("other", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "era",
    [pytest.param("2008r2", marks=pytest.mark.long), pytest.param("2012", marks=pytest.mark.long), "2022"],
)
def test_the_recovered_image_is_the_one_that_runs(era: str, manner: str, tmp_path: Path) -> None:
    """At the second site each VM starts from the image that auto-recovery or a checkpoint made, byte for byte."""
    with era_lab(era) as lab, connect_pair(lab.profile) as pair:
        taken = scene(pair, lab, "application")
        wanted = digests(lab, taken, tmp_path)
        kill_primary(lab)
        there = pair.secondary
        own, other = (Manner.TODAY, Manner.TR) if era == "2022" else (Manner.TR, Manner.TODAY)
        wish = other if manner else ""
        there.dr.connect_snapinfo(manner=wish).run_sync(accept=DOWN)
        flow = there.dr.failover(manner=wish)
        plan = flow.plan()
        assert plan.state.manner is (other if manner else own)
        (breaks,) = [row for row in plan.steps if row.name == "break_mirrors"]
        assert ["uninitialized" in item for item in breaks.items] == [plan.state.manner is Manner.TR] * 2
        seen = seen_before(flow, "start", lab, taken, tmp_path)
        done = flow.run_sync(accept=DOWN).result
        assert seen == [wanted]
        assert done.sound
        assert {f.database: f.rows for f in done.databases} == {"aa1": 10, "bb1": 110, "bb2": 10, "bb3": 10}
        disks = {vm.id: {disk.path for disk in vm.disks} for vm in there.tools().nodes.vms()}
        assert disks == {vm.id: {disk.path for disk in vm.disks} for vm in taken.vms}
        assert [lab.guest(vm).read_file(FILE) for vm in VMS] == ["in the cache"] * 2
        states = {m.uuid: m.state for m in Replication(there.tools().storage).mirrors()}
        for volume in plan.state.volumes:
            assert volume.end_state(plan.state.manner).split()[0] == states[volume.mirror.uuid]


@pytest.mark.long
@pytest.mark.tr("R-8-13", "R-8-14")
@pytest.mark.parametrize("era", ["2008r2", "2012", "2022"])
def test_the_forced_update_either_way(era: str) -> None:
    """An application-consistent backup with update does what the forced update does; what is written later is lost."""
    with era_lab(era) as lab:
        with connect_pair(lab.profile) as pair:
            prepare(pair)
            load(pair, 10)
            backup(pair, consistency="application")
            kill_primary(lab)
            pair.secondary.dr.connect_snapinfo().run_sync(accept=DOWN)
            pair.secondary.dr.failover().run_sync(accept=DOWN)
            revive_primary(lab)
            pair.secondary.dr.reverse().run_sync(accept=BACK)
            load(pair, 5, at="secondary")
            backup(pair, at="secondary", consistency="application")
            lab.checkpoint("backed-up")
        for later, update, expected in ((0, False, 15), (7, False, 15), (7, True, 22)):
            lab.restore("backed-up")
            with connect_pair(lab.profile) as pair:
                if later:
                    load(pair, later, at="secondary")
                accept = {"downtime"} if update else {"downtime", "no-update"}
                assert pair.primary.dr.failback(update=update).run_sync(accept=accept).result.sound
                assert rows(lab) == each(expected)
                assert len(pair.primary.backups()) == 2
