"""Two runs of one second: the names that both have chosen go to the first, and the second takes nothing of its away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.errors import NameTaken, NotAllowed
from smhvlab.provisioning.array import ArraySetup
from smhvlab.record import PlannedStep
from smhvlab.site import Site
from tests.flows.checks import picture
from tests.flows.conftest import Start, Stock


@pytest.mark.parametrize("vms", [["web01"], ["sql01", "app01"]], ids=["one volume", "consistency group"])
@pytest.mark.parametrize("consistency", ["crash", "application"])
def test_the_second_backup_of_one_second_says_so_and_leaves_the_first(
    site: Site, consistency: Literal["crash", "application"], vms: list[str]
) -> None:
    """Two plans have one name: the first backup is kept whole, the second is refused and undone."""
    site.create_dataset("Set", vms)
    first, second = (site.backup("Set", consistency=consistency) for _ in range(2))
    plan, same = first.plan(), second.plan()
    assert plan.state.name == same.state.name
    first.run_sync(plan=plan)
    before = picture(site)
    with pytest.raises(NameTaken, match="another run has made") as caught:
        second.run_sync(plan=same)
    assert "Plan again" in caught.value.next_action
    assert picture(site) == before
    assert site.tools().snapinfo.backup(plan.state.name).run == plan.state.run


def test_the_second_backup_through_checkpoints_leaves_the_first(start: Start) -> None:
    """From Windows Server 2016 on too: the first backup and its Snapshot copies stay as they are."""
    with smhvlab.site.connect(start("standalone-2022").profile) as site:
        site.create_dataset("Set", ["app01"])
        first, second = site.backup("Set"), site.backup("Set")
        plan, same = first.plan(), second.plan()
        first.run_sync(plan=plan)
        before = picture(site)
        with pytest.raises(NameTaken, match="another run has made"):
            second.run_sync(plan=same)
        assert picture(site) == before


@pytest.mark.parametrize("at", ["ask_writers", "snapshots"])
def test_of_two_consoles_at_once_one_says_done(site: Site, lab: Lab, at: str) -> None:
    """Who first keeps something under the name has it: the other is refused and undone, and the backup is whole."""
    site.create_dataset("Set", ["web01"])
    with smhvlab.site.connect(lab.profile) as other:
        other.tools().host.now()
        mine, theirs = (one.backup("Set", consistency="crash") for one in (site, other))
        planned, plan = mine.plan(), theirs.plan()
        assert planned.state.name == plan.state.name
        refused: list[str] = []

        def gate(step: PlannedStep) -> bool:
            if step.name == at:
                try:
                    theirs.run_sync(plan=plan)
                except NameTaken as error:
                    refused.append(f"theirs: {error.next_action}")
            return True

        mine.gate = gate
        try:
            mine.run_sync(plan=planned)
        except NameTaken as error:
            refused.append(f"mine: {error.next_action}")
    assert refused == [f"{'mine' if at == 'ask_writers' else 'theirs'}: Plan again: a later second gives another name."]
    name = plan.state.name
    assert list(site.backups()["name"]) == [name]
    kept = site.snapshots()
    volumes = {volume.name for volume in (*plan.state.volumes, plan.state.snapinfo_volume)}
    assert set(kept.loc[kept["snapshot"] == name, "volume"]) == volumes
    metadata = [path for path in site.tools().snapinfo.files("Backups") if path.endswith(".txt")]
    assert [path.rpartition("\\")[2] for path in metadata] == [f"{name}.hv1.txt"]


def before(name: str, work: Callable[[], object]) -> Callable[[PlannedStep], bool]:
    """A gate that does some work before a step of that name."""

    def gate(step: PlannedStep) -> bool:
        if step.name == name:
            work()
        return True

    return gate


def test_two_mounts_of_one_second_are_two(stock: Stock) -> None:
    """Planned in one second, of one image: both are done, and unmounting one leaves the other."""
    site, host = stock.site, stock.site.tools().host
    first, second = (site.mount(stock.backup, lun="app01", at=at) for at in ("M:", "N:"))
    plan, other = first.plan(), second.plan()
    for flow, planned in ((first, plan), (second, other)):
        flow.run_sync(plan=planned, accept=["not-recovered"])
    assert host.run("Test-Path", {"LiteralPath": ["M:\\app01", "N:\\app01"]}) == [True, True]
    site.unmount("N:").run_sync()
    assert host.run("Test-Path", {"LiteralPath": ["M:\\app01", "N:\\app01"]}) == [True, False]


def test_a_mount_that_finds_its_folder_taken_leaves_the_other_s_disk_in_it(stock: Stock) -> None:
    """Two mounts planned for one folder: the second is undone, and the first keeps its mount point."""
    folder = "C:\\smhvlab\\here\\"
    with smhvlab.site.connect(stock.lab.profile) as other:
        mine, theirs = (one.mount(stock.backup, lun="app01", at=folder) for one in (stock.site, other))
        mine.gate = before("path", lambda: theirs.run_sync(accept=["not-recovered"]))
        with pytest.raises(NotAllowed, match="already is the mount point"):
            mine.run_sync(accept=["not-recovered"])
    assert list(stock.site.mounts()["path"]) == [folder]
    assert stock.site.tools().host.run("Test-Path", {"LiteralPath": f"{folder}app01"})[0]


@pytest.mark.parametrize("at", ["snapshot", "clone"])
def test_who_provisions_a_vm_meanwhile_keeps_it(site: Site, lab: Lab, at: str) -> None:
    """The name goes to another console between survey and step: this run is undone, the other's VM runs on."""
    with smhvlab.site.connect(lab.profile) as other:
        mine, theirs = site.provision("web02"), other.provision("web02")
        other.sleep(2)
        mine.gate = before(at, theirs.run_sync)
        with pytest.raises(NameTaken, match="web02"):
            mine.run_sync()
    assert site.tools().hyperv.vm("web02").state == "Running"
    volumes, copies = site.volumes(), site.snapshots()
    assert "web02" in set(volumes["name"])
    assert len([name for name in copies["snapshot"] if name.startswith("web02_")]) == 1


@pytest.mark.parametrize(
    ("given", "at", "said"),
    [
        ({"volume": "v8"}, "make_volume", "already has another volume v8"),
        ({"volume": "v9", "svm": "svm9", "addresses": ["10.10.1.91"]}, "make_svm", "SVM svm9 is there already"),
        ({"volume": "v9", "aggregate": "aggr9", "disks": 8}, "make_aggregate", "aggregate aggr9 is there already"),
    ],
    ids=["volume", "Vserver", "aggregate"],
)
def test_storage_that_another_console_prepares_meanwhile_stays(
    site: Site, lab: Lab, given: dict[str, Any], at: str, said: str
) -> None:
    """Planned in one second: who finds a volume, a Vserver or an aggregate made by others takes none of it away."""
    with smhvlab.site.connect(lab.profile) as other:
        other.tools().host.now()
        mine, theirs = (one.prepare_storage(size=size, **given) for one, size in ((site, "2GB"), (other, "1GB")))
        plan, planned = mine.plan(), theirs.plan()
        accept = {question.key for question in planned.confirmations}
        mine.gate = before(at, lambda: theirs.run_sync(plan=planned, accept=accept))
        with pytest.raises(NameTaken, match=said):
            mine.run_sync(plan=plan, accept=accept)
    setup = ArraySetup(site.tools().storage)
    volume = setup.one_volume(given["volume"])
    assert setup.portals(volume.svm)
    assert given.get("aggregate", "aggr1") in {one.name for one in setup.aggregates()}
