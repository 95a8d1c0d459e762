"""Single files out of a backup, browsing it, and its disks in running VMs (TR 6.8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smhvlab.errors import Cancelled, NameTaken, NotAllowed, NotFound, NotUnique, SmhvLabError
from smhvlab.leftovers import leftovers
from smhvlab.record import PlannedStep
from tests.flows.checks import blocks_sound, picture
from tests.flows.conftest import Stock

ACCEPT = frozenset({"not-recovered"})
LETTER = "E:\\Docs\\letter.txt"


def test_a_file_of_a_guest_comes_back_as_it_was(stock: Stock) -> None:
    """Lost in the guest since, found by its path on one of the VM's disks; nothing but the copy is left."""
    site = stock.site
    before = picture(site)
    stock.lab.guest("app01").write_file(LETTER, "overwritten", flush=True)
    result = site.restore_file(stock.backup, "app01", guest_path=LETTER, to="C:\\letter.txt").run_sync().result
    assert (result.to, result.size) == ("C:\\letter.txt", len("as it was"))
    text = site.tools().host.run("Get-Content", {"LiteralPath": ["C:\\letter.txt"], "Raw": True})
    assert text == ["as it was"]
    assert picture(site) == before
    assert leftovers(site.tools(), pending=False) == []
    blocks_sound(stock.lab)


def test_a_file_that_is_copied_out_keeps_no_backup_of_its_vm(stock: Stock) -> None:
    """Only a restore of the VM takes its configuration away: while a file is copied its backup may begin."""
    planned: list[str] = []

    def gate(step: PlannedStep) -> bool:
        if step.name == "copy":
            planned.append(stock.site.backup("Set", consistency="crash").plan().state.name)
        return True

    flow = stock.site.restore_file(stock.backup, "app01", guest_path=LETTER, to="C:\\letter.txt")
    flow.gate = gate
    flow.run_sync()
    assert len(planned) == 1


def test_a_file_of_the_host_comes_back_beside_the_live_one(stock: Stock) -> None:
    """A whole virtual disk as of the backup, by the path that the host has it at; its VM goes on."""
    site = stock.site
    result = site.restore_file(stock.backup, host_path="V:\\app01\\app01_vhd2.vhd", to="V:\\old.vhd").run_sync().result
    (info,) = site.tools().host.run("Get-VHD", {"Path": ["V:\\old.vhd"]}, select=("FileSize",))
    assert info["FileSize"] == result.size
    assert site.vms().set_index("name").loc["app01", "state"] == "Running"


def test_what_somebody_puts_at_the_target_meanwhile_is_never_taken_for_the_copy(stock: Stock) -> None:
    """Before the copy, or beside it with its very length: both stay, and the copy itself goes when a run is undone."""
    site, host = stock.site, stock.site.tools().host
    before = picture(site)

    def meanwhile(name: str, to: str, text: str) -> Callable[[PlannedStep], bool]:
        def gate(step: PlannedStep) -> bool:
            if step.name == name:
                host.run("Set-Content", {"LiteralPath": to, "Value": text, "NoNewline": True})
            return True

        return gate

    early = site.restore_file(stock.backup, host_path="V:\\app01\\gone.txt", to="C:\\early.txt")
    early.gate = meanwhile("copy", "C:\\early.txt", "somebody's work")
    with pytest.raises(NotFound, match="holds no file"):
        early.run_sync()
    late = site.restore_file(stock.backup, "app01", guest_path=LETTER, to="C:\\late.txt")
    late.gate = meanwhile("put", "C:\\late.txt", "another's")
    with pytest.raises(NameTaken, match="during the copy"):
        late.run_sync()
    undone = site.restore_file(stock.backup, "app01", guest_path=LETTER, to="C:\\undone.txt")
    undone.gate = lambda step: step.name != "clean_up"
    with pytest.raises(Cancelled):
        undone.run_sync()
    wanted = {"early.txt": "somebody's work", "late.txt": "another's"}
    found = {path.rpartition("\\")[2] for path in site.tools().snapdrive.files("C:\\") if path.count("\\") == 1}
    assert {name for name in found if name.startswith(("early", "late", "undone"))} == set(wanted)
    for name, text in wanted.items():
        assert host.run("Get-Content", {"LiteralPath": [f"C:\\{name}"], "Raw": True}) == [text]
    assert picture(site) == before


REFUSED: tuple[tuple[dict[str, object], type[SmhvLabError], str], ...] = (
    ({"to": "C:\\x"}, NotAllowed, "host_path"),
    ({"to": "C:\\x", "vm": "app01", "guest_path": LETTER, "host_path": "V:\\x"}, NotAllowed, "host_path"),
    ({"to": "C:\\x", "guest_path": LETTER}, NotAllowed, "vm="),
    ({"to": "x", "vm": "app01", "guest_path": LETTER}, NotAllowed, "folder"),
    ({"to": "C:\\a<b>.txt", "vm": "app01", "guest_path": LETTER}, NotAllowed, "folder"),
    ({"to": "C:\\folder\\", "vm": "app01", "guest_path": LETTER}, NotAllowed, "folder"),
    ({"to": "C:\\x", "vm": "app01", "guest_path": "E:\\SQL\\*.mdf"}, NotAllowed, "folder"),
    ({"to": "C:\\smhvlab_x\\y", "vm": "app01", "guest_path": LETTER}, NotFound, "Make it"),
    ({"to": "V:\\app01\\app01_vhd0.vhd", "vm": "app01", "guest_path": LETTER}, NameTaken, "another file"),
    ({"to": "C:\\x", "vm": "web01", "guest_path": LETTER}, NotFound, "sql01, app01"),
    ({"to": "C:\\x", "vm": "app01", "guest_path": LETTER, "disk": 7}, NotFound, "It has 3"),
    ({"to": "C:\\x", "host_path": "S:\\x"}, NotFound, "V:\\"),
)


def test_what_cannot_be_restored_is_refused_before_anything_is_made(stock: Stock) -> None:
    """One error that says what would do."""
    before = stock.site.log.counts().changes
    for arguments, error, hint in REFUSED:
        with pytest.raises(error) as caught:
            stock.site.restore_file(stock.backup, **arguments).run_sync()  # type: ignore[arg-type]
        assert hint in caught.value.next_action
    assert stock.site.log.counts().changes == before


@pytest.mark.long
def test_a_file_that_no_disk_or_several_disks_hold_is_told_and_nothing_is_left(stock: Stock) -> None:
    """The folder SQL is on every disk; a file of one name on two of them needs the disk's number."""
    site = stock.site
    before = picture(site)
    with pytest.raises(NotFound, match="no_such"):
        site.restore_file(stock.backup, "app01", guest_path="E:\\no_such", to="C:\\x").run_sync()
    with pytest.raises(NotUnique, match="2 virtual disks"):
        site.restore_file(stock.backup, "app01", guest_path="E:\\twice.txt", to="C:\\x").run_sync()
    assert picture(site) == before
    site.restore_file(stock.backup, "app01", guest_path="E:\\twice.txt", to="C:\\x", disk=2).run_sync()


@pytest.mark.tr("R-6.8-08", "R-6.8-09")
def test_a_disk_of_the_backup_goes_into_a_running_vm_and_comes_back(stock: Stock) -> None:
    """Mount, hot-add, a new drive in the guest with the file of then, remove, unmount: and the site is as before."""
    site = stock.site
    before = picture(site)
    site.mount(stock.backup, lun="app01", at="M:").run_sync(accept=ACCEPT)
    drives = site.tools().sql.drives("web01")
    site.hot_add("M:", "app01", to="web01", disk=1).run_sync()
    (new,) = site.tools().sql.drives("web01") - drives
    assert stock.lab.guest("web01").read_file(f"{new}:\\Docs\\letter.txt") == "as it was"
    stock.lab.guest("web01").write_file(f"{new}:\\Docs\\letter.txt", "changed by the guest", flush=True)
    with pytest.raises(NotAllowed, match="web01"):
        site.unmount("M:").plan()
    site.create_dataset("Borrower", ["web01"])
    with pytest.raises(NotAllowed, match=r"web01 has M:.* on the FlexClone volume") as refused:
        site.backup("Borrower", consistency="crash").plan()
    assert "site.detach" in str(refused.value.next_action)
    site.detach("M:").run_sync()
    assert site.tools().sql.drives("web01") == drives
    with pytest.raises(NotFound, match="No VM"):
        site.detach("M:").plan()
    site.unmount("M:").run_sync()
    assert picture(site) == before


def test_the_files_of_host_and_guests_are_browsed(stock: Stock) -> None:
    """As a table and as a tree; without the guests' disks attached the tree says what to do."""
    site = stock.site
    before = picture(site)
    tree = site.tree()
    for name in ("Set", stock.backup, "app01", "disk 1"):
        tree.enter(name)
    assert "is not mounted" in repr(tree)
    site.mount(stock.backup, lun="app01", guests=True).run_sync(accept=ACCEPT)
    assert list(site.browse(stock.backup)["name"]) == ["app01", "web01"]
    table = site.browse(stock.backup, "app01", path="E:\\Docs")
    assert list(table[["disk", "name", "size"]].iloc[0]) == [1, "letter.txt", len("as it was")]
    with pytest.raises(NotFound, match="nothing"):
        site.browse(stock.backup, "app01", path="\\nothing")
    with pytest.raises(NotFound, match="sql01"):
        site.browse(stock.backup, "sql01")
    tree.go(tree.path)
    tree.enter("Docs")
    assert [node.name for node in tree.nodes] == ["letter.txt"]
    assert "letter.txt" in tree.render()
    tree.enter("letter.txt")
    tree.leave()
    assert tree.path[-1] == "disk 1"
    tree.entries.value = "Docs"
    assert (tree.down.disabled, tree.copy.disabled) == (False, True)
    tree.down.click()
    tree.wait()
    assert (tree.path[-1], tree.down.disabled, tree.copy.disabled) == ("Docs", True, False)
    tree.to.value = "C:\\out.txt"
    tree.copy.click()
    assert tree.stepper is not None
    tree.stepper.wait()
    tree.stepper.run_all()
    tree.stepper.wait()
    assert site.tools().host.run("Get-Content", {"LiteralPath": ["C:\\out.txt"], "Raw": True}) == ["as it was"]
    with pytest.raises(NotFound, match="is no file of Set"):
        tree.copy_out("none.txt", to="C:\\x")
    tree.up.click()
    tree.wait()
    tree.go(("Set", stock.backup, "files of the host", "app01"))
    assert "app01_vhd1.vhd" in repr(tree)
    assert tree.copy_out("app01_vhd1.vhd", to="C:\\x.vhd").plan().state.path == "V:\\app01\\app01_vhd1.vhd"
    site.unmount(stock.backup).run_sync()
    assert picture(site) == before
    assert leftovers(site.tools(), pending=False) == []
