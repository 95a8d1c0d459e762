"""The files of SnapInfo: two consoles at once, files that are none of ours, and damaged ones (TR 5.4)."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.errors import NameTaken, NotAllowed, PowerShellError
from smhvlab.leftovers import leftovers
from smhvlab.site import Site
from smhvlab.wires.control import Phase, WireRequest
from tests.flows.conftest import Start, Stock

POLICY = (
    'name = "{name}"\ndataset = "Set"\nconsistency = "crash"\n[schedule]\nrepeat = "{repeat}"\n[retention]\nkeep = 2\n'
)


def test_of_two_edits_at_once_one_is_saved_and_the_other_told(site: Site, lab: Lab) -> None:
    """Both write their drafts before either moves it: what A was told to be saved is there, and B is told."""
    site.create_dataset("Set", ["web01"])
    mine_there, theirs_there, saved = (threading.Event() for _ in range(3))
    told: dict[str, str] = {}

    def edit(console: Site, name: str) -> None:
        snapinfo = console.tools().snapinfo
        try:
            told[name] = snapinfo.write_dataset(replace(snapinfo.dataset("Set"), description=name)).description
        except NameTaken:
            told[name] = "told"

    with smhvlab.site.connect(lab.profile) as other:

        def first(request: WireRequest, phase: Phase) -> None:
            if phase is Phase.BEFORE and request.title == "Move-Item":
                mine_there.set()
                assert theirs_there.wait(30)

        def second(request: WireRequest, phase: Phase) -> None:
            if phase is Phase.BEFORE and request.title == "Move-Item":
                theirs_there.set()
                assert saved.wait(30)

        def theirs() -> None:
            assert mine_there.wait(30)
            edit(other, "B")
            other.release()

        site.control.seam, other.control.seam = first, second
        thread = threading.Thread(target=theirs)
        thread.start()
        edit(site, "A")
        saved.set()
        thread.join(30)
        site.control.seam = None
    assert told == {"A": "A", "B": "told"}
    assert site.tools().snapinfo.dataset("Set").description == "A"
    paths = {"LiteralPath": f"{site.tools().snapinfo.folder()}\\Datasets\\Set"}
    assert len(site.tools().host.run("Get-ChildItem", paths)) == 2


def test_a_dead_writer_s_draft_goes_with_the_next_edit(site: Site) -> None:
    """An old draft is swept when the dataset is written again; one that may still be written stays."""
    site.create_dataset("Set", ["web01"])
    host, folder = site.tools().host, f"{site.tools().snapinfo.folder()}\\Datasets\\Set"
    old, young = (f"{folder}\\000002.toml.{mark}.new" for mark in ("0a0a0a0a", "0b0b0b0b"))
    host.run("Set-Content", {"LiteralPath": old, "Value": "half"})
    site.sleep(2 * 3600)
    host.run("Set-Content", {"LiteralPath": young, "Value": "half"})
    site.change_dataset("Set", ["web01", "app01"])
    assert host.run("Test-Path", {"LiteralPath": [old, young]}) == [False, True]


def test_one_bad_file_does_not_block_the_site(stock: Stock) -> None:
    """Foreign and damaged files of SnapInfo: the rest goes on, and what is damaged is told where it is looked for."""
    site = stock.site
    site.create_dataset("Hurt", ["web01"])
    for name, repeat in (("whole", "hourly"), ("hurt", "daily")):
        site.set_policy(POLICY.format(name=name, repeat=repeat))
    site.sleep(2)
    good = site.backup("Set", consistency="crash").run_sync().result.backup.name
    host, folder = site.tools().host, site.tools().snapinfo.folder()
    bad = [
        f"{folder}\\Backups\\Set\\{stock.backup}.json",
        f"{folder}\\Datasets\\Hurt\\000001.toml",
        f"{folder}\\Policies\\hurt\\000001.toml",
    ]
    for path in (*bad, f"{folder}\\Datasets\\Set\\notes.txt", f"{folder}\\Policies\\read.me"):
        host.run("Set-Content", {"LiteralPath": path, "Value": "hello"})
    with smhvlab.site.connect(stock.lab.profile) as fresh:
        shown = fresh.backups().set_index("name")
        assert shown.loc[stock.backup, "type"] == "Damaged in SnapInfo"
        assert shown.loc[good, "type"] == "Crash-consistent"
        assert list(fresh.datasets()["name"]) == ["Set"]
        assert list(fresh.policies()["name"]) == ["whole"]
        fresh.restore(good, "sql01").plan()
        fresh.backup("Set", consistency="crash").plan()
        fresh.findings()
        for ask in (lambda: fresh.restore(stock.backup, "sql01"), lambda: fresh.backup("Hurt", consistency="crash")):
            with pytest.raises(NotAllowed, match="is damaged"):
                ask().plan()
        found = leftovers(fresh.tools(), pending=False)
        assert [one.name for one in found if one.kind == "file of SnapInfo"] == bad


def test_a_disk_that_has_moved_to_another_node_is_followed_by_a_deletion(start: Start) -> None:
    """A drive that is not there is no proof that a file is gone: the node that has it now is asked."""
    with smhvlab.site.connect(start("two-node-cluster-2012").profile) as site:
        tools = site.tools()
        site.create_dataset("Set", ["web01"])
        [path] = tools.snapinfo.files("Datasets")
        other = next(name for name in tools.nodes if name != tools.nodes.own().name)
        tools.host.run("Move-ClusterGroup", {"Name": "smhv_snapinfo", "Node": other})
        tools.snapinfo.discard(path)
        assert tools.snapinfo.files("Datasets") == []


def test_a_disk_that_is_nowhere_ends_a_deletion(site: Site) -> None:
    """What cannot be looked for is not taken for gone."""
    with pytest.raises(PowerShellError, match="Q"):
        site.tools().snapinfo.discard("Q:\\SnapInfo\\Backups\\one.json")
