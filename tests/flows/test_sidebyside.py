"""Two copies of a VM side by side, and the preview of a restore: what is on the bytes, and what would be lost."""

from __future__ import annotations

import pytest

from smhvlab.errors import NotAllowed, NotFound
from smhvlab.mount.compare import Verdict
from tests.flows.checks import picture
from tests.flows.conftest import Stock


@pytest.mark.tr("R-10-02")
def test_two_copies_are_compared_down_to_the_guests_files(stock: Stock) -> None:
    """A transaction that was open while the copy was made is a hot journal in it; other files have equal digests."""
    site, guest = stock.site, stock.lab.guest("sql01")
    guest.insert("bb1", 20)
    guest.flush()
    quiet = site.backup("Set", consistency="crash").run_sync().result.backup.name
    guest.write_file("E:\\notes.txt", "on the disk", flush=True)
    guest.begin("bb1", 600)
    busy = site.backup("Set", consistency="crash").run_sync().result.backup.name
    before = picture(site)
    for name in (quiet, busy):
        site.mount(name, lun="sql01", guests=True).run_sync(accept={"not-recovered"})
    left, right = site.mounts()["name"]
    panel = site.side_by_side(left, right, "sql01")
    found = panel.comparison
    assert (found.hot("left"), found.hot("right")) == ((), ("\\SQL\\bb1.ldf",))
    assert [pair.path for pair in found.of(Verdict.RIGHT)] == ["\\notes.txt"]
    assert {pair.path for pair in found.of(Verdict.DIFFERS)} == {"\\SQL\\bb1.ldf", "\\SQL\\bb1.mdf"}
    same = found.of(Verdict.SAME)
    assert {pair.left.digest for pair in same if pair.left} == {pair.right.digest for pair in same if pair.right}
    picture_of_it = panel.render()
    assert "hot journal" in picture_of_it
    assert "bb2.mdf" not in picture_of_it
    panel.all.value = True
    assert "bb2.mdf" in panel.render()
    for name in (left, right):
        site.unmount(name).run_sync()
    assert picture(site) == before


@pytest.mark.tr("R-6.2-07", "R-10-01")
def test_a_transaction_under_way_is_hot_in_one_kind_and_rolled_back_in_the_other(stock: Stock) -> None:
    """Both kinds while a transaction is open: the crash-consistent copy has to play its journal back, the other not."""
    site = stock.site
    sql = site.tools().sql
    rows = sql.count("sql01", "bb1")
    held = sql.begin_held("sql01", "bb1", 600, minutes=4)
    crash = site.backup("Set", consistency="crash").run_sync().result.backup.name
    site.create_dataset("Own", ["sql01"])
    application = site.backup("Own").run_sync().result.backup.name
    site.mount(crash, lun="sql01", guests=True).run_sync(accept={"not-recovered"})
    site.mount(application, guests=True).run_sync()
    left, right = site.mounts()["name"]
    found = site.side_by_side(left, right, "sql01").comparison
    assert (found.left.recovered, found.right.recovered) == (False, True)
    assert (found.hot("left"), found.hot("right")) == (("\\SQL\\bb1.ldf",), ())
    assert {pair.path for pair in found.of(Verdict.DIFFERS)} == {"\\SQL\\bb1.ldf", "\\SQL\\bb1.mdf"}
    assert sql.finish(held) == rows + 600


def test_what_cannot_be_compared_is_told(stock: Stock) -> None:
    """Virtual disks that are not attached, and a VM that is not in the backup, name the next step."""
    site = stock.site
    site.mount(stock.backup, lun="app01").run_sync(accept={"not-recovered"})
    with pytest.raises(NotAllowed, match="not attached"):
        site.side_by_side(stock.backup, stock.backup, "app01")
    with pytest.raises(NotFound):
        site.side_by_side("nothing", stock.backup, "app01")


@pytest.mark.tr("R-6.7-02", "R-6.7-03")
def test_a_restores_preview_shows_what_is_replaced_and_what_is_newer(stock: Stock) -> None:
    """A VM's own LUN comes back with all its files, a shared one file by file; nothing is changed by looking."""
    site = stock.site
    newer = site.backup("Set", consistency="crash").run_sync().result.backup.name
    before = picture(site)
    own = site.restore_preview(stock.backup, "sql01")
    assert {file.path.rpartition(".")[2] for file in own.found.replaced} == {"xml", "bin", "vsv", "vhd"}
    assert [(n.volume, n.snapshot) for n in own.found.newer] == [("vm_sql01", newer)]
    assert "LUN clone split restore" in own.render()
    disk = next(vm for vm in site.tools().hyperv.vms() if vm.name == "app01").disks[0].path
    shared = site.restore_preview(stock.backup, "app01")
    assert disk in {file.path for file in shared.found.replaced}
    assert "files of others are on it" in shared.render()
    assert "powered off" in shared.render()
    assert picture(site) == before


def test_a_file_that_is_gone_is_shown_as_coming_back(stock: Stock) -> None:
    """The preview of a VM that lost a disk says so, and lists the warning that has to be accepted."""
    site = stock.site
    tools = site.tools()
    vm = tools.hyperv.vm("app01")
    tools.hyperv.ensure_off(vm.id)
    tools.host.run("Remove-Item", {"LiteralPath": vm.disks[0].path, "Force": True})
    panel = site.restore_preview(stock.backup, "app01")
    assert [file.path for file in panel.found.replaced if file.size is None] == [vm.disks[0].path]
    assert "it comes back" in panel.render()
    assert "not-running" in panel.render()
    assert "1 to confirm" in repr(panel)
