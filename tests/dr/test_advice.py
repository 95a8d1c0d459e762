"""What would make a failover fail is told while nothing has happened yet (TR 8)."""

from __future__ import annotations

import dataclasses
import json

import pytest

from labenv.lab import Lab
from smhvlab.cli import main as cli
from smhvlab.dr.sites import SitePair
from smhvlab.errors import NotAllowed
from smhvlab.site import Site, connect
from smhvlab.snapdrive import HostDisk
from tests.dr.scene import DOWN, VMS, backup, each, kill_primary, load, prepare, rows

HOME = "C:\\VMs\\sql01\\"


def told(site: Site) -> dict[str, set[str]]:
    """Objects of the errors, and of what was not looked at, by rule."""
    found: dict[str, set[str]] = {}
    for entry in site.findings():
        if entry.rule.severity == "error" or entry.rule.id == "sites-compared":
            found.setdefault(entry.rule.id, set()).add(entry.object)
    return found


def spoil(pair: SitePair) -> dict[str, set[str]]:
    """VMs on a switch that the second site has under another name, and a mount point of theirs that is taken there."""
    host, there = pair.primary.tools().host, pair.secondary.tools()
    host.run("New-VMSwitch", {"Name": "LAN", "SwitchType": "Internal"})
    for vm in VMS:
        host.run("Connect-VMNetworkAdapter", {"VMName": vm, "SwitchName": "LAN"})
    there.host.run("New-VMSwitch", {"Name": "Office", "SwitchType": "Internal"})
    there.snapdrive.ensure_mounted(_own(pair), HOME)
    return {"failover-switch": {"hv2"}, "failover-mount-point": {HOME}}


def mend_mount(pair: SitePair) -> None:
    """The mount point is free again."""
    disk = _own(pair)
    path = {"DiskNumber": disk.number, "PartitionNumber": disk.partition, "AccessPath": HOME}
    pair.secondary.tools().host.run("Remove-PartitionAccessPath", path)


def mend_switch(pair: SitePair) -> None:
    """The switch has the name that the VMs know."""
    pair.secondary.tools().host.run("Rename-VMSwitch", {"Name": "Office", "NewName": "LAN"})


def _own(pair: SitePair) -> HostDisk:
    there = pair.secondary.tools().snapdrive
    disk = there.folder_disk("S:\\", there.disks())
    assert disk is not None
    return disk


@pytest.mark.tr("R-8-05", "R-8-06", "R-8-16", "R-8-17")
def test_sites_are_compared_before_the_disaster(pair: SitePair, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """A site alone says what it could not see; with the other each cause is told by either, and silent when mended."""
    first, there = pair.primary, pair.secondary
    first.create_dataset("All", VMS)
    first.dr.protect(["vm_sql01", "vm_shared"]).run_sync()
    arguments = ["advise", "--site", str(lab.profile), "--json"]
    assert cli.main(arguments) == 1
    alone = {e["id"] for e in json.loads(capsys.readouterr().out) if e["section"] == "8"}
    assert alone == {"snapinfo-mirrored", "sites-compared", "reading-c10"}
    first.dr.protect(["snapinfo"]).run_sync()
    wanted = spoil(pair)
    assert cli.main([*arguments, "--partner", f"{lab.profile}#B"]) == 1
    errors = [e for e in json.loads(capsys.readouterr().out) if e["severity"] == "error"]
    assert {e["id"]: {e["object"]} for e in errors} == wanted
    assert told(there) == wanted
    mend_mount(pair)
    mend_switch(pair)
    requests = len(first.log.entries)
    assert told(first) == {}
    assert [entry.title for entry in first.log.entries[requests:] if not entry.reads] == []
    profile = there.profile
    bare = dataclasses.replace(profile, storage=dataclasses.replace(profile.storage, svms=()))
    with connect(bare) as poor:
        first.partner = poor
        assert told(first) == {"mirror-credentials": {poor.name}}


@pytest.mark.long
@pytest.mark.tr("R-8-09")
def test_what_was_told_is_what_fails(pair: SitePair, lab: Lab) -> None:
    """The mount point is refused before anything is broken, the switch only by Hyper-V; mended, the run goes on."""
    prepare(pair)
    load(pair, 10)
    spoil(pair)
    backup(pair)
    kill_primary(lab)
    there = pair.secondary
    there.dr.connect_snapinfo().run_sync(accept=DOWN)
    assert told(there)["sites-compared"] == {there.name}
    with pytest.raises(NotAllowed, match="mount point of disk"):
        there.dr.failover().plan()
    mend_mount(pair)
    flow = there.dr.failover()
    with pytest.raises(NotAllowed, match="not registered: sql01 needs 'LAN'; app01 needs 'LAN'"):
        flow.run_sync(accept=DOWN)
    mend_switch(pair)
    assert flow.resume_sync().result.sound
    assert rows(lab) == each(10)
