"""What changes between the survey of a restore and its point of no return is seen before anything is lost (TR 6.7)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labenv.lab import Lab
from smhvlab.errors import NotAllowed, NotFound
from smhvlab.protection.policy import Retention
from smhvlab.protection.retention import Doomed, carry_out, retain, snapinfo_volume
from smhvlab.record import Outcome, PlannedStep
from smhvlab.site import Site
from tests.flows.checks import picture, sound
from tests.flows.conftest import Stock
from tests.flows.test_backup_stations import stations


class Interrupted(BaseException):
    """The process ends here: nothing in the product may handle this."""


def interrupt() -> None:
    """End the process."""
    raise Interrupted


def interfering(flow: Any, at: str, what: Callable[[], object]) -> Any:
    """The flow, with something that somebody else does once while it waits for the approval of a step."""
    waiting = [what]

    def gate(step: PlannedStep) -> bool:
        if step.name == at and waiting:
            waiting.pop()()
        return True

    flow.gate = gate
    return flow


def where(site: Site, vm: str) -> list[tuple[str, str]]:
    """Host and state of a VM, once for each host on which it is registered."""
    vms = site.vms()
    found = vms[vms["name"] == vm]
    return list(zip(found["host"], found["state"], strict=True))


def test_a_vm_that_has_moved_is_not_restored_under_itself(cluster_site: Site, cluster_lab: Lab) -> None:
    """Moved to another node before it is switched off or before it is removed: refused, undone, and it runs once."""
    site, tools = cluster_site, cluster_site.tools()
    site.create_dataset("Set", ["file01"])
    name = site.backup("Set", consistency="crash").run_sync().result.backup.name
    before = picture(site)
    looked = site.restore_preview(name, "file01").found.replaced  # the LUN is seen on its own node only
    assert {file.path.rpartition("\\")[2] for file in looked} >= {f"file01_vhd{n}.vhd" for n in range(3)}
    for at in ("power_off", "remove_role"):
        (home, _) = where(site, "file01")[0]
        other = next(node for node in tools.nodes.names if node != home)

        def move(other: str = other, at: str = at) -> None:
            live = at == "power_off"  # one that is off is moved with its group
            tools.host.run(
                "Move-ClusterVirtualMachineRole" if live else "Move-ClusterGroup", {"Name": "file01", "Node": other}
            )

        flow = interfering(site.restore(name, "file01"), at, move)
        with pytest.raises(NotAllowed, match=f"file01 is on {other} now, and was on {home}") as caught:
            flow.run_sync()
        assert caught.value.next_action.startswith("Plan the restore again")
        assert flow.record.outcome is Outcome.UNDONE
        assert where(site, "file01") == [(other, "Running")]
        assert picture(site) == before
    sound(cluster_lab, "file01")


def test_a_vm_that_somebody_registers_elsewhere_meanwhile_never_runs_twice(cluster_site: Site) -> None:
    """Between removal and registration: the run stops, says where the VM is, and goes on when it is gone there."""
    site, tools = cluster_site, cluster_site.tools()
    site.create_dataset("Set", ["sql01"])
    backup = site.backup("Set", consistency="crash").run_sync().result.backup
    vm = backup.vms[0]
    other = next(node for node in tools.nodes.names if node != vm.host)
    there = tools.nodes[other].hyperv
    flow = interfering(
        site.restore(backup.name, "sql01"), "register", lambda: there.ensure_registered(vm.id, vm.configuration_file)
    )
    with pytest.raises(NotAllowed, match=f"sql01 is registered on {other}, and is being restored on {vm.host}"):
        flow.run_sync()
    assert flow.record.outcome is Outcome.STOPPED
    with pytest.raises(NotAllowed, match=f"sql01 is registered on {other}"):
        flow.resume_sync()
    there.host.run("Copy-Item", {"LiteralPath": vm.configuration_file, "Destination": "C:\\kept.xml"})
    there.ensure_removed(vm.id)
    there.host.run("Copy-Item", {"LiteralPath": "C:\\kept.xml", "Destination": vm.configuration_file})
    assert flow.resume_sync().outcome is Outcome.DONE
    assert where(site, "sql01") == [(vm.host, "Running")]


def test_a_vm_that_was_started_again_is_not_removed(site: Site) -> None:
    """Somebody switches it on while the removal waits for its approval: refused, and it runs on."""
    site.create_dataset("Set", ["sql01"])
    backup = site.backup("Set", consistency="crash").run_sync().result.backup
    hyperv = site.tools().hyperv
    flow = interfering(site.restore(backup.name, "sql01"), "remove", lambda: hyperv.ensure_running(backup.vms[0].id))
    with pytest.raises(NotAllowed, match="sql01 is Running on hv1 again"):
        flow.run_sync()
    assert flow.record.outcome is Outcome.UNDONE
    assert where(site, "sql01") == [("hv1", "Running")]


def test_files_that_came_to_a_lun_meanwhile_are_not_wiped_with_it(stock: Stock) -> None:
    """Before the VM is removed the restore is undone; after that it stops, and goes on when they are moved away."""
    site, host = stock.site, stock.site.tools().host
    folder, kept = "C:\\VMs\\sql01\\new02", "C:\\new02"

    def arrive() -> None:
        host.run("New-Item", {"Path": folder, "ItemType": "Directory", "Force": True})
        host.run("Set-Content", {"LiteralPath": f"{folder}\\new02.vhd", "Value": "another VM's disk"})

    for at, outcome in (("remove", Outcome.UNDONE), ("restore_luns", Outcome.STOPPED)):
        flow = interfering(site.restore(stock.backup, "sql01"), at, arrive)
        with pytest.raises(NotAllowed, match=r"1 file\(s\) have come to /vol/vm_sql01/golden") as caught:
            flow.run_sync()
        assert f"{folder}\\new02.vhd" in (caught.value.why or "")
        assert flow.record.outcome is outcome
        host.run("Remove-Item", {"LiteralPath": kept, "Recurse": True, "Force": True}, error_action="Continue")
        host.run("Copy-Item", {"LiteralPath": folder, "Destination": kept, "Recurse": True})
        host.run("Remove-Item", {"LiteralPath": folder, "Recurse": True, "Force": True})
    assert flow.resume_sync().outcome is Outcome.DONE
    assert host.run("Get-Content", {"LiteralPath": f"{kept}\\new02.vhd"}) == ["another VM's disk"]
    sound(stock.lab, "sql01")


def test_a_backup_is_not_deleted_under_its_restore(stock: Stock, tmp_path: Path) -> None:
    """Another station cannot delete it by hand or by retention while a restore from it works; then it can."""
    with stations(stock.lab, tmp_path) as (one, two):
        held: list[str] = []

        def delete() -> None:
            with pytest.raises(NotAllowed, match=f"{stock.backup} cannot be deleted now") as caught:
                two.delete_backup(stock.backup).plan()
            held.append(caught.value.why or "")
            tools, nothing = two.tools(), {"": Retention(keep=0)}
            volume = snapinfo_volume(tools)
            late = Doomed(tuple(tools.snapinfo.backups()))  # chosen before the restore was announced
            for done in (retain(tools, "Set", nothing, now=two.now(), volume=volume), carry_out(tools, late)):
                assert (done.deleted, done.held) == ((), ((stock.backup, held[0]),))
            assert list(two.backups()["name"]) == [stock.backup]

        assert interfering(one.restore(stock.backup, "sql01"), "power_off", delete).run_sync().outcome is Outcome.DONE
        assert held[0].startswith(f"a restore from it is under way: sql01 from {stock.backup}, by ")
        assert two.delete_backup(stock.backup).plan()


def test_a_deletion_that_was_planned_before_the_restore_began_is_stopped(stock: Stock, tmp_path: Path) -> None:
    """Each side marks before it looks: the deletion finds the announcement, and the backup is offered again."""
    with stations(stock.lab, tmp_path) as (one, two):
        deletion = two.delete_backup(stock.backup)
        restore: list[Any] = []

        def begin() -> None:
            flow = one.restore(stock.backup, "sql01")
            restore.append(interfering(flow, "power_off", interrupt))
            with pytest.raises(Interrupted):
                restore[0].run_sync()

        with pytest.raises(NotAllowed, match=f"{stock.backup} cannot be deleted now"):
            interfering(deletion, "mark", begin).run_sync(accept={"last-backup"})
        assert deletion.record is not None
        assert deletion.record.outcome is Outcome.UNDONE
        assert list(two.backups()["name"]) == [stock.backup]
        assert restore[0].resume_sync().outcome is Outcome.DONE


def test_a_restore_whose_backup_was_deleted_meanwhile_takes_nothing_away(stock: Stock) -> None:
    """By somebody who asks nobody: the Snapshot copies are looked for once more, and the VM runs on."""
    site = stock.site
    before = where(site, "sql01")
    volume = site.tools().storage.volume("vm_sql01", svm="svm1")
    assert volume is not None
    flow = interfering(
        site.restore(stock.backup, "sql01"),
        "remove",
        lambda: site.tools().storage.discard_snapshots([volume], stock.backup),
    )
    with pytest.raises(NotFound, match=rf"The Snapshot copy {stock.backup} of volume .* is gone"):
        flow.run_sync()
    assert flow.record.outcome is Outcome.UNDONE
    assert where(site, "sql01") == before
    sound(stock.lab, "sql01")
