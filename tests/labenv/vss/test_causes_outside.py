"""Named causes whose effect is not that of one backup on one host: the array, the cluster, the VMs' own identity."""

from __future__ import annotations

import pytest

from labenv.causes.model import CauseError
from labenv.devices import DeviceError
from labenv.windows.call import PsError
from labenv.windows.vss.arrayclient import ArrayError

from .bench import SQL01, Bench, backup

CSV1 = "C:\\ClusterStorage\\Volume1\\"
CSV_WRITER = "{1072ae1c-e5a7-4ea1-9e4a-6f7964656570}"
CLUSTERING = "Microsoft-Windows-FailoverClustering"


def _taken(bench: Bench) -> list[str]:
    return [lane for lane, step in bench.trace() if step == "freeze"]


@pytest.mark.tr("R-12-11")
def test_a_rename_that_is_refused(bench: Bench) -> None:
    """The array answers 13057 to a rename, and the Snapshot copy keeps the name of its set; the next rename works."""
    ran = bench.script(*backup(SQL01))
    key = bench.array.volume_key("vm_sql01")
    path = f"/storage/volumes/{key}/snapshots"
    first = bench.rest("GET", path, name=f"{{{ran.set_id}}}")["records"][0]["uuid"]
    bench.cause("rename-overload")
    client = bench.host.vss.settings.clients()[0]
    with pytest.raises(ArrayError, match="13057"):
        bench.go(client.request("PATCH", f"{path}/{first}", {"name": "nightly"}))
    assert f"{{{ran.set_id}}}" in bench.snapshots("vm_sql01")
    bench.go(client.run("PATCH", f"{path}/{first}", {"name": "nightly"}))
    assert "nightly" in bench.snapshots("vm_sql01")


def test_a_lun_that_goes_offline_and_comes_back(bench: Bench) -> None:
    """The VM stops with a storage error, its backup fails; with the LUN back it starts and is backed up."""
    bench.guest("sql01").insert("bb1", 40)
    bench.cause("lun-offline", volume="vm_sql01")
    with pytest.raises(DeviceError):
        bench.guest("sql01").insert("bb1", 1)
    assert bench.script(*backup(SQL01)).code == 1
    bench.mend("lun-offline")
    bench.run("Stop-VM", Name="sql01", TurnOff=True, Force=True)
    bench.run("Start-VM", Name="sql01")
    assert bench.guest("sql01").count("bb1") == 40
    assert bench.script(*backup(SQL01)).code == 0


def test_a_clone_beside_its_parent(bench: Bench, cluster: Bench) -> None:
    """On a host alone the clone arrives as a disk of its own; on a cluster it stays offline (Collision)."""
    disks = len(bench.run("Get-Disk"))
    bench.cause("clone-beside-parent", volume="vm_sql01")
    assert len(bench.run("Get-Disk")) == disks + 1
    bench.mend("clone-beside-parent")
    assert len(bench.run("Get-Disk")) == disks
    cluster.cause("clone-beside-parent", volume="csv1", host="hv1")
    number = max(d.properties["Number"] for d in cluster.run("Get-Disk"))
    with pytest.raises(PsError, match="Failover Clustering"):
        cluster.run("Set-Disk", Number=number, IsOffline=False)
    found = next(d for d in cluster.host.disks.present() if d.number == number)
    assert (found.offline, found.offline_reason) == (True, 4)
    cluster.mend("clone-beside-parent")
    assert number not in [d.properties["Number"] for d in cluster.run("Get-Disk")]


def test_a_mounted_backup_keeps_its_snapshot_copy_busy(bench: Bench) -> None:
    """It cannot be deleted while somebody uses a clone of it, and can be afterwards."""
    with pytest.raises(CauseError, match="no Snapshot copy"):
        bench.cause("backup-mounted", volume="vm_shared")
    ran = bench.script(*backup(SQL01))
    second = f"{{{ran.set_id}}}_backup"
    bench.cause("backup-mounted", volume="vm_sql01", snapshot=second)
    path = f"/storage/volumes/{bench.array.volume_key('vm_sql01')}/snapshots"
    uuid = bench.rest("GET", path, name=second)["records"][0]["uuid"]
    status, _ = bench.go(bench.array.call("DELETE", f"{path}/{uuid}", query={"return_timeout": "120"}, body=None))
    assert second in bench.snapshots("vm_sql01"), status
    bench.mend("backup-mounted")
    bench.rest("DELETE", f"{path}/{uuid}")
    assert second not in bench.snapshots("vm_sql01")


def test_a_renamed_volume(bench: Bench) -> None:
    """Hosts and the provider do not notice, for they know it by its LUN; the array knows it by the new name only."""
    bench.cause("volume-renamed", volume="vm_sql01", to="vm_sql01_old")
    assert bench.array.volume_key("vm_sql01") is None
    assert bench.script(*backup(SQL01)).code == 0
    assert len(bench.snapshots("vm_sql01_old")) == 2
    bench.mend("volume-renamed")
    assert len(bench.snapshots("vm_sql01")) == 2


def test_a_renamed_switch(bench: Bench) -> None:
    """A VM whose configuration names the old switch cannot be registered; with the name back it can."""
    bench.run("New-VMSwitch", Name="Production", SwitchType="Private")
    bench.run("Connect-VMNetworkAdapter", VMName="sql01", SwitchName="Production")
    bench.run("Stop-VM", Name="sql01", Force=True)
    vm = bench.host.vm("sql01")
    config = bench.host.machines.configurations.path(vm)
    saved = bench.host.files.read(config)
    bench.run("Remove-VM", Name="sql01", Force=True)
    bench.host.files.write(config, saved)
    bench.cause("switch-renamed", switch="Production", to="Prod")
    report = bench.run("Compare-VM", Path=config, Register=True)[0]
    assert [i.properties["MessageId"] for i in report.properties["Incompatibilities"].items] == [33012]
    bench.mend("switch-renamed")
    bench.run("Import-VM", Path=config, Register=True)
    bench.run("Start-VM", Name="sql01")
    assert bench.script(*backup(SQL01)).code == 0


def test_a_backup_during_a_restore_lacks_the_vm(bench: Bench) -> None:
    """DiskShadow ends with 0 on the shared disk and took one VM only; the next backup has both."""
    bench.cause("vm-being-restored", vm="web01")
    ran = bench.script(*backup("V:\\"))
    assert ran.code == 0
    assert _taken(bench) == ["guest app01"]
    bench.mend("vm-being-restored")
    assert bench.site.vm_states()["web01"] == "Running"
    assert bench.script(*backup("V:\\")).code == 0
    assert _taken(bench)[1:] == ["guest app01", "guest web01"]


def test_a_vm_that_was_made_anew(bench: Bench) -> None:
    """Its name and its data are the same, its id is not: a component by the old id is not there to verify."""
    guest = bench.guest("sql01")
    guest.insert("bb1", 30)
    old = bench.host.vm("sql01").id
    bench.cause("vm-made-anew", vm="sql01")
    assert bench.host.vm("sql01").id != old
    assert bench.guest("sql01").count("bb1") == 30
    target = f'"Microsoft Hyper-V VSS Writer:\\{str(old).upper()}"'
    assert "80042308" in bench.script(*backup(SQL01, verify=target)).text
    bench.mend("vm-made-anew")
    assert bench.host.vm("sql01").id == old
    assert bench.script(*backup(SQL01, verify=target)).code == 0


@pytest.mark.parametrize("edge", ["PrepareForSnapshot", "PostSnapshot"])
def test_a_node_that_is_lost_at_an_edge(cluster: Bench, edge: str) -> None:
    """The coordinator's CSV writer fails with 0x80042400; with the node back all its VMs are in the next set."""
    bench = cluster
    bench.guest("web01").insert("bb1", 20)
    bench.cause("node-lost", host="hv2", at=edge)
    ran = bench.script(f"writer verify {CSV_WRITER}", *backup(CSV1), on="hv1")
    assert ran.code == 1
    assert bench.host.vss.csv.failure == 0x80042400
    assert [e.id for e in bench.events(CLUSTERING, 1135, 1177)] == [1135, 1177]  # two nodes without a witness
    assert bench.script("delete shadows all", on="hv1").code == 0
    bench.mend("node-lost")
    bench.run("Start-Sleep", Seconds=120)
    again = bench.script(*backup(CSV1), on="hv1")
    assert again.code == 0, again.text
    assert bench.guest("web01").count("bb1") == 20
    assert bench.site.causes.active() == []


def test_redirected_access_that_was_left(cluster: Bench) -> None:
    """The state says that a user asked for it; mending ends it, also if somebody has done so before."""
    bench = cluster
    bench.cause("redirected-access-left")
    states = {s.properties["StateInfo"].name for s in bench.run("Get-ClusterSharedVolumeState")}
    assert "FileSystemRedirected" in states
    bench.mend()
    states = {s.properties["StateInfo"].name for s in bench.run("Get-ClusterSharedVolumeState")}
    assert states == {"Direct"}
    assert bench.script(*backup(CSV1), on="hv1").code == 0


def test_a_node_without_smb_on_the_cluster_network(cluster: Bench) -> None:
    """5120 and 5142 are on that node alone; it loses the volumes of other owners, its roles go on elsewhere."""
    bench = cluster
    bench.guest("web01").insert("bb1", 20)
    bench.cause("cluster-network-unbound", host="hv2")
    assert [e.id for e in bench.events(CLUSTERING, 5120, 5142, on="hv2")][:2] == [5120, 5142]
    assert bench.events(CLUSTERING, 5120, 5142, on="hv1") == []
    assert bench.run_on("hv2", "Test-Path", LiteralPath=f"{CSV1}web01") == [False]
    bench.run("Start-Sleep", Seconds=120)
    assert "web01" in [v.name for v in bench.hosts["hv1"].vms.values()]
    assert bench.guest("web01").count("bb1") == 20
    bench.mend("cluster-network-unbound")
    assert bench.run_on("hv2", "Test-Path", LiteralPath=f"{CSV1}web01") == [True]
    assert bench.script(*backup(CSV1), on="hv1").code == 0


@pytest.mark.parametrize("edge", ["PrepareForSnapshot", "CommitSnapshots", "PostSnapshot"])
@pytest.mark.parametrize("name", ["path-lost", "lun-unmapped"])
def test_storage_that_is_lost_at_an_edge(bench: Bench, name: str, edge: str) -> None:
    """The set fails; with the storage back, and after what a doctor does, the VM's data is whole and a backup works."""
    bench.guest("sql01").insert("bb1", 20)
    options = {"volume": "vm_sql01"} if name == "lun-unmapped" else {}
    bench.cause(name, at=edge, **options)
    ran = bench.script(*backup(SQL01))
    recovered = (name, edge) == ("lun-unmapped", "PostSnapshot")  # the clone has a mapping of its own
    assert ran.code == (0 if recovered else 1), ran.text
    assert bench.host.vss.creating is None
    bench.mend()
    bench.run("Update-HostStorageCache")
    bench.run("Start-Sleep", Seconds=60)
    if bench.site.vm_states()["sql01"] != "Running":
        bench.run("Stop-VM", Name="sql01", TurnOff=True, Force=True)
        bench.run("Start-VM", Name="sql01")
    assert bench.guest("sql01").count("bb1") == 20
    again = bench.script(*backup(SQL01))
    assert again.code == 0, again.text


def test_a_vm_that_does_not_start(bench: Bench) -> None:
    """Without the right to log on nothing starts; on another processor a saved VM needs its saved state removed."""
    rows = bench.guest("sql01").insert("bb1", 20)
    bench.cause("logon-right-missing")
    assert bench.vm_state("sql01") == "Running"
    assert bench.script(*backup(SQL01)).code == 0
    bench.run("Stop-VM", Name="sql01", Force=True)
    with pytest.raises(PsError, match="0x80070569"):
        bench.run("Start-VM", Name="sql01")
    assert bench.vm_state("sql01") == "Off"
    bench.mend()
    bench.run("Start-VM", Name="sql01")
    bench.run("Save-VM", Name="sql01")
    bench.cause("processor-differs")
    with pytest.raises(PsError, match="processor-specific"):
        bench.run("Start-VM", Name="sql01")
    assert [e.id for e in bench.events("Microsoft-Windows-Hyper-V-VMMS", 12030)] == [12030, 12030]
    assert bench.vm_state("sql01") == "Saved"
    bench.run("Remove-VMSavedState", VMName="sql01")
    bench.run("Start-VM", Name="sql01")
    assert bench.guest("sql01").count("bb1") == rows


def test_a_checkpoint_that_was_left(bench: Bench) -> None:
    """The VM writes to leaves and shows a checkpoint of the type Recovery; mending merges it away with all data."""
    bench.cause("checkpoint-left", vm="sql01")
    kinds = [s.properties["SnapshotType"].name for s in bench.run("Get-VMSnapshot", VMName="sql01")]
    assert kinds == ["Recovery"]
    drives = bench.run("Get-VMHardDiskDrive", VMName="sql01")
    assert all(".avhd" in d.properties["Path"] for d in drives)
    bench.guest("sql01").insert("bb1", 25)
    bench.mend()
    assert bench.run("Get-VMSnapshot", VMName="sql01") == []
    assert bench.guest("sql01").count("bb1") == 25
    assert bench.guest("sql01").checkdb("bb1").ok


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("slow-aray", {}, "did you mean 'slow-array'"),
        ("slow-array", {"second": "1"}, "no option 'second'"),
        ("slow-array", {"seconds": "0"}, "above 0"),
        ("slow-array", {"times": "x"}, "no whole number"),
        ("slow-array", {"at": "Freeze"}, "only a change of the site waits"),
        ("node-lost", {}, "needs host"),
        ("node-lost", {"host": "hv9"}, "no host 'hv9'"),
        ("node-lost", {"host": "hv1", "at": "Lunch"}, "at is 'Lunch'"),
        ("writer-refuses", {"phase": "Melt"}, "one of Identify"),
        ("writer-refuses", {"code": "5"}, "no HRESULT"),
        ("guest-volume-full", {"vm": "none"}, "no VM 'none'"),
        ("guest-volume-full", {"vm": "sql01", "letter": "Q"}, "no volume Q"),
        ("snapshots-full", {"volume": "nowhere"}, "no volume 'nowhere'"),
        ("service-stopped", {"service": "Spooler2"}, "no service"),
        ("switch-renamed", {"switch": "none"}, "no switch 'none'"),
        ("path-lost", {"portal": "1.2.3.4"}, "no session"),
        ("redirected-access-left", {}, "no cluster"),
        ("cluster-network-unbound", {"host": "hv1"}, "no node"),
        ("checkpoints-elsewhere", {"vm": "sql01"}, "needs folder"),
        ("array-refuses", {"code": "x"}, "no number"),
    ],
)
def test_what_cannot_be_set_is_refused(bench: Bench, name: str, options: dict[str, str], says: str) -> None:
    """The message names the reason, and nothing is set or changed."""
    with pytest.raises(CauseError, match=says):
        bench.cause(name, **options)
    assert bench.site.causes.active() == []
    assert bench.site.faults.rules() == []


def test_a_change_is_made_once_and_survives_a_checkpoint(bench: Bench) -> None:
    """Setting it again is refused; a restore brings back the changes of that time, which can then be mended."""
    bench.cause("integration-service-off", vm="sql01")
    with pytest.raises(CauseError, match="is set already"):
        bench.cause("integration-service-off", vm="sql01")
    bench.runner.run(bench.site.checkpoint("broken"))
    bench.mend()
    assert bench.site.causes.active() == []
    bench.runner.run(bench.site.restore("broken"))
    assert [done.name for done in bench.site.causes.active()] == ["integration-service-off"]
    bench.mend("integration-service-off")
    assert "VSS" not in bench.host.vm("sql01").disabled_services


@pytest.mark.parametrize("edge", ["PrepareForSnapshot", "CommitSnapshots", "PostSnapshot"])
def test_a_shared_volume_that_pauses_at_an_edge(cluster: Bench, edge: str) -> None:
    """5120 on every node, and 5142 if it lasts; with the LUN back the roles start again with their data."""
    bench = cluster
    for vm in ("sql01", "web01"):
        bench.guest(vm).insert("bb1", 20)
    bench.cause("lun-offline", volume="csv1", at=edge)
    ran = bench.script(*backup(CSV1), on="hv1")
    assert ran.code == (0 if edge == "PostSnapshot" else 1), ran.text
    bench.run("Start-Sleep", Seconds=120)
    for node in ("hv1", "hv2"):
        assert {e.id for e in bench.events(CLUSTERING, 5120, 5142, on=node)} == {5120, 5142}
        assert bench.hosts[node].vss.creating is None
    bench.mend()
    bench.run("Start-Sleep", Seconds=300)
    for vm in ("sql01", "web01"):
        assert bench.guest(vm).count("bb1") == 20
        assert bench.guest(vm).checkdb("bb1").ok
    again = bench.script(*backup(CSV1), on="hv1")
    assert again.code == 0, again.text
