"""PreRestore and PostRestore of the Hyper-V writer, and the service that ends when nobody uses it."""

from __future__ import annotations

import pytest

from labenv.windows.vss import codes
from labenv.windows.vss.codes import VssError
from labenv.windows.vss.restore import RestoreComponents, read_metadata

from .bench import SQL01, Bench, backup, put_back

CAB = "C:\\Windows\\Temp\\x.cab"
HYPERV_WRITER = "Microsoft Hyper-V VSS Writer"


def _session(bench: Bench) -> RestoreComponents:
    session = RestoreComponents(bench.host.vss, read_metadata(bench.host.files.read(CAB)))
    bench.go(session.gather_writer_metadata())
    return session


@pytest.mark.tr("R-9-03", "R-9-04")
def test_a_restore_between_the_two_notices(bench: Bench) -> None:
    """PreRestore deletes the VM, the requestor puts the files back, PostRestore registers it with the data of then."""
    guest = bench.guest("sql01")
    guest.insert("bb1", 40)
    vm = bench.host.vm("sql01")
    made = bench.script(*backup(SQL01))
    assert made.code == 0
    bench.guest("sql01").insert("bb1", 60)
    session = _session(bench)
    bench.go(session.pre_restore())
    assert bench.host.machines.get(vm.id) is None
    put_back(bench, made)
    bench.go(session.post_restore())
    session.release()
    assert bench.states()[HYPERV_WRITER] == (1, 0)
    again = bench.host.vm("sql01")
    assert (again.id, again.state) == (vm.id, "Off")
    bench.run("Start-VM", Name="sql01")
    assert bench.guest("sql01").count("bb1") == 40
    assert bench.guest("sql01").checkdb("bb1").ok
    steps = [step for lane, step in bench.trace() if lane == HYPERV_WRITER]
    assert steps[-2:] == ["PreRestore", "PostRestore"]


def test_diskshadow_loads_the_metadata_of_a_backup(bench: Bench) -> None:
    """BEGIN RESTORE and END RESTORE send the notices; without the files the VM cannot be registered: state 14."""
    made = bench.script(*backup(SQL01))
    ran = bench.script(f"load metadata {CAB}", "begin restore", "end restore")
    assert ran.code == 1
    assert "800423f4" in ran.text
    assert bench.states()[HYPERV_WRITER] == (14, 0x800423F4)
    assert "sql01" not in bench.site.vm_states()
    put_back(bench, made)
    assert bench.script(f"load metadata {CAB}", "begin restore", "end restore").code == 0
    assert bench.states()[HYPERV_WRITER] == (1, 0)
    assert bench.site.vm_states()["sql01"] == "Off"


@pytest.mark.parametrize(("phase", "state"), [("PreRestore", 13), ("PostRestore", 14)])
def test_a_writer_that_fails_in_a_restore(bench: Bench, phase: str, state: int) -> None:
    """Its state tells at which notice; after PreRestore failed the VM is as it was."""
    made = bench.script(*backup(SQL01))
    bench.fault("vss.writer", "error", phase=phase, code_="0x800423f4", writer=HYPERV_WRITER)
    ran = bench.script(f"load metadata {CAB}", "begin restore")
    if phase == "PreRestore":
        assert ran.code == 1
        assert bench.site.vm_states()["sql01"] == "Running"
    else:
        put_back(bench, made)
        assert bench.script(f"load metadata {CAB}", "begin restore", "end restore").code == 1
    assert bench.states()[HYPERV_WRITER] == (state, 0x800423F4)


def test_calls_of_a_restore_out_of_order(bench: Bench) -> None:
    """Each call has its place; files that are not all back are told to the writer, which refuses."""
    bench.script(*backup(SQL01))
    session = RestoreComponents(bench.host.vss, read_metadata(bench.host.files.read(CAB)))
    for early in (session.pre_restore(), session.post_restore()):
        with pytest.raises(VssError, match="BAD_STATE"):
            bench.go(early)
    bench.go(session.gather_writer_metadata())
    bench.go(session.pre_restore())
    with pytest.raises(VssError) as caught:
        bench.go(session.post_restore(restored=False))
    assert caught.value.code == codes.WRITER_NONRETRYABLE
    session.release()
    session.release()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["load metadata C:\\none.cab"], "cannot be read"),
        (["load metadata C:\\Windows\\Temp\\x.dsh"], "cannot be read"),
        (["begin restore"], "LOAD METADATA"),
        (["end restore"], "BEGIN RESTORE"),
        (["load everything"], "METADATA"),
        (["begin everything"], "BACKUP or RESTORE"),
    ],
)
def test_restore_commands_that_cannot_be(bench: Bench, lines: list[str], says: str) -> None:
    """The message says what is missing; nothing was done to any VM."""
    before = bench.site.vm_states()
    ran = bench.script(*lines)
    assert (ran.code, says in ran.text) == (1, True), ran.text
    assert bench.site.vm_states() == before


def _status(bench: Bench, name: str) -> str:
    return str(bench.run("Get-Service", Name=name)[0].properties["Status"].name)


def test_the_service_ends_when_nobody_uses_it(bench: Bench) -> None:
    """Three minutes after the last requestor it stops and says 8224; a use in between keeps it, the next starts it."""
    assert _status(bench, "VSS") == "Stopped"
    bench.script(*backup(SQL01))
    assert _status(bench, "VSS") == "Running"
    bench.run("Start-Sleep", Seconds=170)
    bench.script("list writers status")
    bench.run("Start-Sleep", Seconds=170)
    assert _status(bench, "VSS") == "Running"
    assert bench.events("VSS", 8224) == []
    bench.run("Start-Sleep", Seconds=20)
    assert _status(bench, "VSS") == "Stopped"
    assert len(bench.events("VSS", 8224)) == 1
    assert bench.script(*backup(SQL01)).code == 0


@pytest.mark.parametrize("fixed", [False, True])
def test_the_service_ends_under_a_slow_clean_up(old_cluster: Bench, fixed: bool) -> None:
    """In the oldest era a provider that cleans up for more than three minutes is cut off, unless KB972623 is there."""
    bench = old_cluster
    csv = "C:\\ClusterStorage\\Volume1\\"
    if fixed:
        bench.host.inventory.set_hotfixes((*bench.host.inventory.record.hotfixes, "KB972623"))
    parameters = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\SWSvc\\Parameters"
    bench.run("Set-ItemProperty", LiteralPath=parameters, Name="CloneRetryInterval", Value=50, Type="DWord")
    bench.cause("redirected-access-left")
    bench.cause("slow-clone-sharing", seconds="400")
    bench.cause("provider-refuses", phase="PostFinalCommitSnapshots")
    assert bench.script(*backup(csv)).code == 1
    left = [name for name in bench.snapshots("csv1") if name.startswith("{")]
    assert len(left) == (0 if fixed else 1)


def test_disks_of_a_guests_own_initiator(bench: Bench) -> None:
    """The guest logs in past its host, uses the LUN over reboots, and no backup of the VM holds it."""
    guest = bench.guest("sql01")
    iqn = guest.do("initiator")
    group = {"name": "sql01_guest", "svm": {"name": "svm1"}, "os_type": "windows", "initiators": [{"name": iqn}]}
    bench.rest("POST", "/protocols/san/igroups", group)
    lun = {"name": "/vol/vm_shared/guest", "svm": {"name": "svm1"}, "os_type": "windows", "space": {"size": 64 << 20}}
    bench.rest("POST", "/storage/luns", lun)
    with pytest.raises(ValueError, match="shows no LUN"):
        guest.do("connect_portal", portal="10.10.1.21")
    mapping = {"lun": {"name": lun["name"]}, "igroup": {"name": "sql01_guest"}, "svm": {"name": "svm1"}}
    bench.rest("POST", "/protocols/san/lun-maps", mapping)
    disks = len(bench.run("Get-Disk"))
    letters = guest.do("connect_portal", portal="10.10.1.21", label="Logs")
    assert letters == ["G"]
    guest.write_file("G:\\on_the_array.txt", b"past the host", flush=True)
    guest.create_database("iscsi1", data="G:\\SQL\\i1.mdf", log="G:\\SQL\\i1.ldf")
    guest.insert("iscsi1", 5)
    bench.run("Update-HostStorageCache")
    assert len(bench.run("Get-Disk")) == disks
    ran = bench.script(*backup(SQL01))
    assert ran.code == 0, ran.text
    assert "iSCSI disks of its own" in bench.events("Microsoft-Windows-Hyper-V-VMMS", 10107)[0].message
    bench.cause("hotfix-missing")
    again = bench.script(*backup(SQL01))
    assert "800423f3" in again.text
    assert bench.states()[HYPERV_WRITER] == (8, 0x800423F3)
    bench.mend()
    assert bench.script(*backup(SQL01)).code == 0
    bench.run("Stop-VM", Name="sql01", Force=True)
    bench.run("Start-VM", Name="sql01")
    booted = bench.guest("sql01")
    assert booted.read_file("G:\\on_the_array.txt") == b"past the host"
    assert booted.count("iscsi1") == 5
    with pytest.raises(ValueError, match="no iSCSI target"):
        booted.do("connect_portal", portal="10.99.0.1")


def test_a_guests_load_goes_on_after_the_lab_was_started_again(bench: Bench) -> None:
    """Clients come back when the VM does; a VM that is shut down on purpose has none any more."""
    guest = bench.guest("sql01")
    guest.do("start_load", database="bb1", rows_per_second=5, up_to=100)
    bench.run("Start-Sleep", Seconds=4)
    assert guest.count("bb1") == 20
    bench.host.power_cut()
    bench.run("Start-Sleep", Seconds=2)
    bench.site.hosts[0].settle()
    seen = bench.guest("sql01").count("bb1")
    assert 20 <= seen <= 40
    bench.run("Start-Sleep", Seconds=60)
    assert bench.guest("sql01").count("bb1") == 100
    assert bench.guest("sql01").loads == []
    bench.guest("sql01").do("start_load", database="bb1", rows_per_second=1, up_to=10_000)
    bench.run("Stop-VM", Name="sql01", Force=True)
    bench.run("Start-VM", Name="sql01")
    assert bench.guest("sql01").loads == []
