"""Every named cause at every edge: what it leaves, and that mending it is enough for the next backup."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labenv.causes.catalogue import CASES, CAUSES, markdown
from labenv.causes.model import EDGES, HYPERV_WRITER, PROVIDER_EDGES, WAITING_EDGES, WRITER_EDGES
from labenv.windows.vss.codes import WriterState

from .bench import SQL01, Bench, Ran, backup

ROOT = Path(__file__).resolve().parents[3]
VMMS = "Microsoft-Windows-Hyper-V-VMMS"
KILLED = -1073741510
STABLE = (1, 0)


@dataclass(frozen=True)
class Case:
    """A cause and what a backup of sql01 meets: its exit code, a text in what it prints, the Hyper-V writer's state,
    how many Snapshot copies and mapped clones stay, and the events (provider, id) that tell of it."""

    name: str
    options: dict[str, str] = field(default_factory=dict)
    code: int = 1
    text: str = ""
    state: tuple[int, int] = STABLE
    copies: int = 0
    clones: int = 0
    events: tuple[tuple[str, int], ...] = ()

    @property
    def id(self) -> str:
        return "-".join([self.name, *self.options.values()])


ENDS = ("PrepareForBackup", "Freeze", "Thaw")
"""Edges at which the writer's refusal ends the set; elsewhere the set is made all the same."""
MADE = {"PrepareForSnapshot": 2, "PostSnapshot": 2, "BackupComplete": 2, "BackupShutdown": 2}
FAILED_AT = {
    "Identify": 6, "PrepareForBackup": 7, "PrepareForSnapshot": 8, "Freeze": 9, "Thaw": 10, "PostSnapshot": 11,
    "BackupComplete": 12, "BackupShutdown": 15,
}  # fmt: skip
COMMITTED = PROVIDER_EDGES.index("CommitSnapshots")
SHOWN = PROVIDER_EDGES.index("PreFinalCommitSnapshots")


def _writer(edge: str) -> Case:
    text = "80042308" if edge == "Identify" else "" if edge == "BackupShutdown" else "800423f4"
    state = (FAILED_AT[edge], 0x800423F4)
    code = 0 if edge == "BackupShutdown" else 1
    return Case("writer-refuses", {"phase": edge}, code, text, state, MADE.get(edge, 0))


def _provider(edge: str, code: str) -> Case:
    seen = "80042306" if code == "0x80042306" else "8004230f"
    return Case("provider-refuses", {"phase": edge, "code": code}, text=seen, events=(("VSS", 12293),))


def _provider_dies(edge: str) -> Case:
    at = PROVIDER_EDGES.index(edge)
    left = (1 if at > COMMITTED else 0, 1 if at > SHOWN else 0)
    return Case(
        "provider-dies", {"phase": edge}, text="8004230f", copies=left[0], clones=left[1], events=(("VSS", 12293),)
    )


def _requestor_dies(edge: str) -> Case:
    order = ["create", *WAITING_EDGES, "end backup"]
    order.remove("BackupComplete")
    order.append("BackupComplete")
    at = order.index(edge)
    if at > order.index("PostFinalCommitSnapshots"):
        left = (2, 0)
    else:
        left = (int(at > order.index("CommitSnapshots")), int(at > order.index("PreFinalCommitSnapshots")))
    return Case("requestor-dies", {"phase": edge}, KILLED, copies=left[0], clones=left[1])


def _slow(edge: str) -> Case:
    frozen = edge in ("PreCommitSnapshots", "Freeze")
    held = {"flush": "80042313", "CommitSnapshots": "80042314"}.get(edge)
    if held:
        logged = (("VSS", 12298),) if edge == "CommitSnapshots" else ()
        return Case("slow-edge", {"phase": edge, "seconds": "61"}, text=held, events=logged)
    if frozen or edge in ("PostCommitSnapshots",):
        return Case("slow-edge", {"phase": edge, "seconds": "61"}, text="800423f2", state=(10, 0x800423F2))
    return Case("slow-edge", {"phase": edge, "seconds": "61"}, 0, copies=2)


FAR = {"method": "POST", "path": "*/snapshots"}
TABLE = [
    *map(_writer, WRITER_EDGES),
    *(_provider(edge, code) for edge in PROVIDER_EDGES for code in ("0x80042306", "0x80004005")),
    *map(_provider_dies, PROVIDER_EDGES),
    *map(_requestor_dies, ("create", *WAITING_EDGES, "end backup")),
    *map(_slow, WAITING_EDGES),
    Case("slow-host-disk", text="80042313"),
    Case("slow-host-disk", {"seconds": "9"}, 0, copies=2),
    Case("slow-lookup", text="800423f2", state=(10, 0x800423F2)),
    Case("slow-array", text="80042314", events=(("Navssprv", 4364), ("VSS", 12298))),
    Case("slow-array", {"seconds": "8"}, 0, copies=2, events=(("Navssprv", 4089),)),
    Case("busy-guest-writer", text="800423f3", state=(8, 0x800423F3), copies=2, events=((VMMS, 10102),)),
    Case("revert-fails", {"vm": "sql01"}, 1, "800423f3", (11, 0x800423F3), 2, events=((VMMS, 10104),)),
    Case("callback-denied", code=0, copies=2, events=(("VSS", 8194),)),
    Case("service-does-not-start", text="80070422", events=(("VSS", 8193),)),
    Case("service-does-not-start", {"service": "Navssprv"}, text="80070422", events=(("VSS", 8193),)),
    Case("service-does-not-start", {"service": "vmms", "times": "0"}, text="80042308"),
    Case("service-stopped", text="80070422", events=(("VSS", 8193),)),
    Case("service-stopped", {"service": "Navssprv"}, text="80070422", events=(("VSS", 8193),)),
    Case("service-stopped", {"service": "vds"}, text="80070422", events=(("VSS", 8193),)),
    Case("service-stopped", {"service": "vmms"}, text="80042308"),
    Case("no-path-to-clone", text="80042320", events=(("VSS", 12289), ("VSS", 12293))),
    Case("no-path-to-clone", {"times": "2"}, 0, copies=2),
    *(Case(n, FAR, text="80042306", events=(("Navssprv", 4363),)) for n in ("array-refuses", "array-silent")),
    Case("array-forgets-reply", FAR, text="80042306", events=(("Navssprv", 4363),)),
    Case("second-requestor", {"volume": "V:\\"}, text="80042316"),
    Case("provider-login-wrong", text="80042306", events=(("Navssprv", 4363),)),
    Case("integration-service-off", {"vm": "sql01"}, 0, copies=2),
    Case("guest-volume-full", {"vm": "sql01"}, 1, "800423f4", (8, 0x800423F4), 2, events=((VMMS, 10102),)),
    Case("guest-volume-small", {"vm": "sql01"}, 0, copies=2),
    Case("guest-too-new", {"vm": "sql01"}, 0, copies=2),
    Case("no-scsi-controller", {"vm": "sql01"}, 0, copies=2, events=((VMMS, 10103),)),
    Case("checkpoints-elsewhere", {"vm": "sql01", "folder": "V:\\"}, 0, copies=2),
    Case("physical-disk-copied", {"vm": "sql01"}, 1, "800423f3", (11, 0x800423F3), 2, events=((VMMS, 10103),)),
    Case("slow-clone-sharing", code=0, copies=2),
    Case("snapshots-full", {"volume": "vm_sql01"}, text="80042317", copies=8),
    Case("snapshots-full", {"volume": "vm_sql01", "leave": "1"}, text="80042317", copies=7),
    Case("checkpoint-left", {"vm": "sql01"}, 0, copies=2),
    Case("replica-enabled", {"vm": "sql01"}, 0, copies=2),
    Case("fibre-channel-adapter", {"vm": "sql01"}, 0, copies=2),
    Case("boots-from-lun", {"volume": "vm_sql01"}, 0, copies=2),
    Case("lun-unmapped", {"volume": "vm_sql01"}, text="80042"),
    Case("path-lost", text="80042"),
]


def _footprint(bench: Bench) -> dict[str, object]:
    """What a mended site has in common with the one before."""
    found = bench.footprint()
    return {
        key: found[key] for key in ("luns", "maps", "creating", "guests", "areas", "states", "checkpoints", "store")
    }


def _clean(bench: Bench) -> None:
    """What the doctor of a site would do: copies and clones that nobody owns are deleted."""
    key = bench.array.volume_key("vm_sql01")
    for lun in bench.rest("GET", "/storage/luns", name="*.rws", fields="uuid,lun_maps")["records"]:
        for each in lun.get("lun_maps", ()):
            bench.rest("DELETE", f"/protocols/san/lun-maps/{lun['uuid']}/{each['igroup']['uuid']}")
        bench.run("Update-HostStorageCache")
        bench.rest("DELETE", f"/storage/luns/{lun['uuid']}")
    bench.run("Start-Sleep", Seconds=120)
    for record in bench.rest("GET", f"/storage/volumes/{key}/snapshots", fields="name")["records"]:
        bench.rest("DELETE", f"/storage/volumes/{key}/snapshots/{record['uuid']}")


def _count(bench: Bench) -> tuple[int, int]:
    own = [name for name in bench.snapshots("vm_sql01") if name.startswith(("{", "daily"))]
    return len(own), len([name for name in bench.luns() if name.endswith(".rws")])


def _run(bench: Bench) -> Ran:
    return bench.script(*backup(SQL01))


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.id)
def test_a_cause_its_effect_and_the_next_backup(bench: Bench, case: Case) -> None:
    """Writers, Snapshot copies, clones, event log and guest are as they should be; a backup after mending succeeds."""
    bench.guest("sql01").insert("bb1", 50)
    before = _footprint(bench)
    base = _count(bench)
    bench.cause(case.name, **case.options)
    ran = _run(bench)
    assert (ran.code, case.text in ran.text) == (case.code, True), ran.text
    assert bench.states()[HYPERV_WRITER] == case.state
    assert _count(bench) == (base[0] + case.copies, base[1] + case.clones)
    for provider, number in case.events:
        assert bench.events(provider, number), (provider, number)
    bench.mend(case.name)
    bench.run("Start-Sleep", Seconds=90)
    assert bench.guest("sql01").count("bb1") == 50
    assert bench.guest("sql01").checkdb("bb1").ok
    assert bench.site.faults.rules() == []
    assert bench.site.causes.active() == []
    _clean(bench)
    again = _run(bench)
    assert again.code == 0, again.text
    assert set(bench.states().values()) == {STABLE}
    first = f"{{{again.set_id}}}"
    assert bench.snapshots("vm_sql01") == [first, f"{first}_backup"]
    files = bench.guest_files(bench.image("vm_sql01", f"{first}_backup", f"/golden_{first}.rws"), "\\sql01", "sql01")
    assert not any(files["F"].read_file("\\SQL\\bb1.ldf")[:8])
    _clean(bench)
    after = _footprint(bench)
    assert {key: after[key] for key in before} == before


OUTSIDE = {
    "rename-overload", "lun-offline", "clone-beside-parent", "backup-mounted", "volume-renamed", "switch-renamed",
    "hotfix-missing", "node-lost", "redirected-access-left", "cluster-network-unbound", "vm-being-restored",
    "vm-made-anew", "logon-right-missing", "processor-differs", "disk-on-share",
}  # fmt: skip
"""Causes whose effect is not that of one backup on one host: the tests below."""


def test_the_table_knows_every_cause_edge_and_case() -> None:
    """No cause without a test, no edge without one of a refusal, and no case without a cause."""
    assert {case.name for case in TABLE} | OUTSIDE == set(CAUSES)
    for names, edges in (
        (("writer-refuses",), WRITER_EDGES),
        (("provider-refuses", "provider-dies"), PROVIDER_EDGES),
        (("requestor-dies", "slow-edge"), WAITING_EDGES),
    ):
        for name in names:
            assert set(edges) <= {case.options["phase"] for case in TABLE if case.name == name}
    assert {c.case for c in CAUSES.values()} - {0} == set(range(1, len(CASES) + 1))
    assert len(CASES) == 20
    assert set(FAILED_AT.values()) == {s.value for s in WriterState if s.failed} - {13, 14}
    assert set(EDGES) == set(WRITER_EDGES) | set(PROVIDER_EDGES) | {"flush"}


def test_the_page_of_the_causes_is_up_to_date() -> None:
    """docs/faults.md is what the catalogue says."""
    assert (ROOT / "docs" / "faults.md").read_text("utf-8") == markdown()


def test_every_row_of_a_cause_is_a_row_of_the_report() -> None:
    """A cause names rows that exist."""
    known = {line.split(",", 1)[0] for line in (ROOT / "smhvlab" / "tr4004.csv").read_text("utf-8").splitlines()}
    assert {row for each in CAUSES.values() for row in each.rows} <= known
