"""Every edge of the state machine with what can go wrong there, and what is left afterwards."""

from __future__ import annotations

import pytest

from labenv.windows.vss.hyperv import FAILED, REVERT

from .bench import SQL01, Bench, backup

HYPERV_WRITER = "Microsoft Hyper-V VSS Writer"
VMMS = "Microsoft-Windows-Hyper-V-VMMS"


def _again(bench: Bench) -> None:
    """The same backup, now that the cause is gone."""
    ran = bench.script(*backup(SQL01))
    assert ran.code == 0, ran.text
    assert set(bench.states().values()) == {(1, 0)}
    assert f"{{{ran.set_id}}}_backup" in bench.snapshots("vm_sql01")


def _drop_shadows(bench: Bench) -> None:
    assert bench.script("delete shadows all").code == 0


@pytest.mark.parametrize(
    ("phase", "vm", "state", "event"),
    [
        ("PrepareForSnapshot", "", 8, 0),
        ("PrepareForSnapshot", "sql01", 8, FAILED),
        ("PostSnapshot", "", 11, 0),
        ("PostSnapshot", "sql01", 11, REVERT),
    ],
)
def test_a_veto_that_does_not_end_the_set(bench: Bench, phase: str, vm: str, state: int, event: int) -> None:
    """The set is made all the same; the requestor learns from the writer's status, and cleans up."""
    before = bench.footprint()
    bench.fault("vss.writer", "error", phase=phase, vm=vm or "", code_="0x800423f3", writer=HYPERV_WRITER)
    ran = bench.script(*backup(SQL01))
    assert ran.code == 1
    assert "800423f3" in ran.text
    assert bench.states()[HYPERV_WRITER] == (state, 0x800423F3)
    assert f"[{state}] Failed" in bench.vssadmin("writers").text
    assert len(bench.snapshots("vm_sql01")) == 2
    assert [e.id for e in bench.events(VMMS, FAILED, REVERT)] == ([event] if event else [])
    _drop_shadows(bench)
    assert bench.footprint() == before
    _again(bench)


@pytest.mark.parametrize(("phase", "state"), [("PrepareForBackup", 7), ("Freeze", 9), ("Thaw", 10), ("Identify", 6)])
def test_a_veto_that_ends_the_set(bench: Bench, phase: str, state: int) -> None:
    """Nothing is left on the array or in the guests; the writer shows where it failed until the next backup."""
    before = bench.footprint()
    bench.fault("vss.writer", "error", phase=phase, code_="0x800423f4", writer=HYPERV_WRITER)
    ran = bench.script(*backup(SQL01))
    assert ran.code == 1
    assert ("80042308" if phase == "Identify" else "800423f4") in ran.text
    assert bench.states()[HYPERV_WRITER] == (state, 0x800423F4)
    assert bench.footprint() == before
    _again(bench)


def test_a_failed_backup_complete_keeps_the_set(bench: Bench) -> None:
    """The shadow copies are there; only the writer did not note the backup."""
    bench.fault("vss.writer", "error", phase="BackupComplete", code_="0x800423f4", writer=HYPERV_WRITER)
    ran = bench.script(*backup(SQL01))
    assert ran.code == 1
    assert bench.states()[HYPERV_WRITER] == (12, 0x800423F4)
    assert bench.snapshots("vm_sql01") == [f"{{{ran.set_id}}}", f"{{{ran.set_id}}}_backup"]
    _drop_shadows(bench)
    _again(bench)


PROVIDER = (
    "BeginPrepareSnapshot",
    "EndPrepareSnapshots",
    "PreCommitSnapshots",
    "CommitSnapshots",
    "PostCommitSnapshots",
    "PreFinalCommitSnapshots",
    "PostFinalCommitSnapshots",
)


@pytest.mark.parametrize("phase", PROVIDER)
@pytest.mark.parametrize(("code", "seen"), [("0x80042306", "80042306"), ("0x80004005", "8004230f")])
def test_a_provider_that_fails_ends_the_whole_set(bench: Bench, phase: str, code: str, seen: str) -> None:
    """VSS lets only known codes through, logs 12293 with the routine's name, and nothing of the set stays."""
    before = bench.footprint()
    bench.fault("vss.provider", "error", phase=phase, code_=code)
    ran = bench.script(*backup(SQL01))
    assert ran.code == 1
    assert f"Returned HRESULT: {seen}" in ran.text
    logged = bench.events("VSS", 12293)
    assert len(logged) == 1
    assert phase in logged[0].message
    assert bench.footprint() == before
    assert set(bench.states().values()) == {(1, 0)}
    _again(bench)


@pytest.mark.tr("R-9-08")
def test_a_slow_array_exceeds_the_ten_seconds(bench: Bench) -> None:
    """Navssprv logs 4364, the hold is cancelled, the late Snapshot copy is deleted; a retry succeeds with 4089."""
    before = bench.footprint()
    bench.fault("ontap.request", "delay", method="POST", path="*/snapshots", seconds_="12")
    ran = bench.script(*backup(SQL01))
    assert ran.code == 1
    assert "80042314" in ran.text
    assert [e.id for e in bench.events("Navssprv")] == [4364]
    assert bench.footprint() == before
    _again(bench)
    assert [e.id for e in bench.events("Navssprv")] == [4364, 4089]


@pytest.mark.tr("R-AP-02")
def test_the_success_event_names_set_and_milliseconds(bench: Bench) -> None:
    """Event 4089 of source Navssprv in the Application log."""
    ran = bench.script(*backup(SQL01))
    event = bench.run("Get-WinEvent", FilterHashtable={"LogName": "Application", "ProviderName": "Navssprv"})[0]
    assert event.properties["Id"] == 4089
    assert [v.properties["Value"] for v in event.properties["Properties"].items] == [str(ran.set_id), "1000"]
    text = f"completed CommitSnapshots for SnapshotSetId {{{ran.set_id}}} in 1000 milliseconds"
    assert text in event.notes["Message"]


@pytest.mark.parametrize("seconds", ["9", "11"])
def test_the_flush_has_ten_seconds_too(bench: Bench, seconds: str) -> None:
    """A host whose volume is slow to flush fails with its own code."""
    before = bench.footprint()
    bench.fault("vss.volume", "delay", phase="flush", seconds_=seconds)
    ran = bench.script(*backup(SQL01))
    assert ran.code == (0 if seconds == "9" else 1)
    assert ("80042313" in ran.text) == (seconds == "11")
    if ran.code:
        assert bench.footprint() == before


@pytest.mark.parametrize("seconds", ["55", "61"])
def test_writers_stay_frozen_for_a_minute_at_most(bench: Bench, seconds: str) -> None:
    """A provider that is slow before its commit lets the writers time out."""
    before = bench.footprint()
    bench.fault("vss.provider", "delay", phase="PreCommitSnapshots", seconds_=seconds)
    ran = bench.script(*backup(SQL01))
    if seconds == "55":
        assert ran.code == 0
        return
    assert "800423f2" in ran.text
    assert bench.states()[HYPERV_WRITER] == (10, 0x800423F2)
    assert "Last error: Timed out" in bench.vssadmin("writers").text
    assert bench.footprint() == before
    _again(bench)


@pytest.mark.parametrize("misses", [2, None])
def test_a_disk_that_does_not_arrive(bench: Bench, misses: int | None) -> None:
    """The host rescans again; if no path is ever claimed the set fails, and the clone does not stay mapped."""
    before = bench.footprint()
    bench.fault("windows.disk", "drop", times=misses, event="arrival")
    ran = bench.script(*backup(SQL01))
    if misses is not None:
        assert ran.code == 0, ran.text
        return
    assert "80042320" in ran.text
    assert "did not arrive" in bench.events("VSS", 12289)[0].message
    assert "PreFinalCommitSnapshots" in bench.events("VSS", 12293)[0].message
    assert bench.footprint() == before
    bench.site.faults.clear()
    _again(bench)


@pytest.mark.parametrize("service", ["VSS", "Navssprv"])
def test_a_service_that_does_not_start(bench: Bench, service: str) -> None:
    """8193 in the Application log; nothing was begun."""
    before = bench.footprint()
    bench.fault("windows.service", "error", service=service)
    ran = bench.script(*backup(SQL01))
    assert "80070422" in ran.text
    assert service in bench.events("VSS", 8193)[0].message
    assert bench.footprint() == before
    _again(bench)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/storage/luns"),
        ("GET", "/protocols/san/lun-maps"),
        ("POST", "/storage/volumes/*/snapshots"),
        ("POST", "/storage/luns"),
        ("POST", "/protocols/san/lun-maps"),
    ],
)
@pytest.mark.parametrize("effect", ["drop", "lose-reply", "error"])
def test_every_request_of_the_provider_can_fail(bench: Bench, method: str, path: str, effect: str) -> None:
    """Whether the request, its effect or only its answer is lost: the set fails, and nothing of it stays."""
    before = bench.footprint()
    bench.fault("ontap.request", effect, method=method, path=path)
    ran = bench.script(*backup(SQL01))
    assert ran.code == 1
    assert "80042306" in ran.text
    assert bench.events("Navssprv", 4363)
    assert bench.footprint() == before
    _again(bench)


def test_the_second_copy_fails_and_the_first_goes_too(bench: Bench) -> None:
    """One Snapshot copy of a set is no backup."""
    before = bench.footprint()
    key = bench.array.volume_key("vm_sql01")
    for number in range(7):
        bench.rest("POST", f"/storage/volumes/{key}/snapshots", {"name": f"old{number}"})
    full = bench.footprint()
    ran = bench.script(*backup(SQL01))
    assert "80042317" in ran.text  # the eighth was possible, the ninth is not
    assert bench.footprint() == full
    bench.rest("POST", f"/storage/volumes/{key}/snapshots", {"name": "old7"})
    assert "80042317" in bench.script(*backup(SQL01)).text
    for record in bench.rest("GET", f"/storage/volumes/{key}/snapshots", name="old*")["records"]:
        bench.rest("DELETE", f"/storage/volumes/{key}/snapshots/{record['uuid']}")
    assert bench.footprint() == before
    _again(bench)


@pytest.mark.tr("R-AG-02")
@pytest.mark.parametrize("tries", ["", "1"])
def test_clones_that_are_still_being_made(bench: Bench, monkeypatch: pytest.MonkeyPatch, tries: str) -> None:
    """The second copy is refused with 1520351 and tried again every ten seconds, as often as the registry says."""
    before = bench.footprint()
    monkeypatch.setitem(bench.site.costs.seconds, "ontap.lun.clone.sharing", 45.0)  # type: ignore[arg-type]
    parameters = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\SWSvc\\Parameters"
    if tries:
        bench.run("Set-ItemProperty", LiteralPath=parameters, Name="CloneMaxRetryCount", Value=1, Type="DWord")
    started = bench.site.clock.time
    ran = bench.script(*backup(SQL01))
    if tries:
        assert "80042306" in ran.text
        assert "clones backed by" in bench.events("Navssprv", 4363)[-1].message
        first = f"{{{ran.set_id}}}"
        assert bench.snapshots("vm_sql01") == [first]  # deleting it was refused as well: an orphan to clean up
        bench.run("Start-Sleep", Seconds=60)
        key = bench.array.volume_key("vm_sql01")
        for record in bench.rest("GET", f"/storage/volumes/{key}/snapshots", name=first)["records"]:
            bench.rest("DELETE", f"/storage/volumes/{key}/snapshots/{record['uuid']}")
        assert bench.footprint() == before
    else:
        assert ran.code == 0
        assert (bench.site.clock.time - started).total_seconds() > 45


def test_a_stopped_management_service_has_no_writer(bench: Bench) -> None:
    """Without vmms the Hyper-V writer is not listed and takes no part; `writer verify` finds out."""
    bench.fault("windows.service", "error", times=None, service="vmms")
    assert HYPERV_WRITER not in bench.vssadmin("writers").text
    assert bench.script(*backup(SQL01)).code == 1
    silent = bench.script(*backup(SQL01, verify=""))
    assert silent.code == 0  # a copy, and nobody was frozen
    assert not [lane for lane, step in bench.trace() if step == "freeze"]
    assert bench.script("delete shadows all").code == 0
    bench.site.faults.clear()
    _again(bench)


def test_a_denied_callback_is_only_noise(bench: Bench) -> None:
    """8194 is in many logs and is not why a backup fails."""
    bench.fault("vss.writer", "error", phase="PrepareForBackup", code_="0x80070005", writer=HYPERV_WRITER)
    ran = bench.script(*backup(SQL01))
    assert ran.code == 0, ran.text
    assert len(bench.events("VSS", 8194)) == 1


def test_writes_are_held_while_the_copy_is_made(bench: Bench) -> None:
    """A guest's load adds nothing between flush and release, however long the array takes, and catches up later."""
    guest = bench.guest("sql01")
    guest.do("start_load", database="bb1", rows_per_second=10, up_to=1_000_000)
    bench.fault("ontap.request", "delay", method="POST", path="*/snapshots", seconds_="8")
    ran = bench.script(*backup(SQL01))
    assert ran.code == 0, ran.text
    first = f"{{{ran.set_id}}}"
    flushed = next(e for e in bench.events("labenv") if e.values[2] == "CommitSnapshots")
    raw = bench.guest_files(bench.image("vm_sql01", first, "/golden"), "\\sql01", "sql01")
    newest = max(entry.modified for entry in raw["E"].listdir("\\SQL"))
    assert newest <= flushed.time
    assert guest.count("bb1") >= 10 * 20
