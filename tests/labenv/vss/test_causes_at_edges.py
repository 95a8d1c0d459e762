"""What changes a site in the middle of a set: every such cause at every edge, what it leaves, and the next backup."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest

from labenv.causes.model import HYPERV_WRITER, WAITING_EDGES
from labenv.devices import DeviceError
from labenv.windows.machines import VmNotRunning

from .bench import SQL01, Bench, backup

ROWS = [
    ("path-lost", "", "4*1/2302/1/0 1*1/2302/8/0 5*1/2302/1/0 2*1/2320/1/0 1*1/23fe/11/0 1*1/23fe/1/0 1*0/-/1/2"),
    ("lun-unmapped", "", "3*1/2306/1/0 1*1/2302/1/0 1*1/2302/8/0 5*1/2302/1/0 2*1/23f3/11/2 3*0/-/1/2"),
    ("lun-offline", "", "4*1/2302/1/0 1*1/2302/8/0 5*1/2302/1/0 5*0/-/1/2"),
    ("guest-volume-full", "", "5*1/23f4/8/2 10*0/-/1/2"),
    ("integration-service-off", "", "15*0/-/1/2"),
    ("snapshots-full", "", "9*1/2317/1/8 5*1/2317/1/7 1*0/-/1/8"),
    ("service-stopped", "Navssprv", "2*1/0422/1/0 7*1/230f/1/0 5*1/230f/1/1 1*0/-/1/2"),
    ("service-stopped", "vmms", "2*1/2319/7/0 3*1/2319/8/2 1*1/2319/9/0 5*1/2319/10/0 2*1/2319/11/2 2*1/2319/12/2"),
    ("provider-login-wrong", "", "3*1/2306/1/0 12*0/-/1/2"),
]
"""A cause, the service if it takes one, and for so many edges one after the other: the script's exit code, the end of
its HRESULT, the state of the Hyper-V writer, and the Snapshot copies that stay.
"""

OPTIONS = {
    "path-lost": {},
    "lun-unmapped": {"volume": "vm_sql01"},
    "lun-offline": {"volume": "vm_sql01"},
    "guest-volume-full": {"vm": "sql01"},
    "integration-service-off": {"vm": "sql01"},
    "snapshots-full": {"volume": "vm_sql01"},
    "provider-login-wrong": {},
}


def _cases() -> list[object]:
    found: list[object] = []
    for name, service, text in ROWS:
        outcomes = [o for count, o in (part.split("*") for part in text.split()) for _ in range(int(count))]
        for edge, outcome in zip(WAITING_EDGES, outcomes, strict=True):
            marks = [] if service and edge == "CommitSnapshots" else [pytest.mark.long]
            where = f"{name}{service and '-'}{service}-{edge}"
            found.append(pytest.param(name, service, edge, outcome, id=where, marks=marks))
    return found


def _clean(bench: Bench) -> None:
    """What the doctor of a site would do."""
    key = bench.array.volume_key("vm_sql01")
    for lun in bench.rest("GET", "/storage/luns", name="*.rws", fields="uuid,lun_maps")["records"]:
        for each in lun.get("lun_maps", ()):
            bench.rest("DELETE", f"/protocols/san/lun-maps/{lun['uuid']}/{each['igroup']['uuid']}")
        bench.run("Update-HostStorageCache")
        bench.rest("DELETE", f"/storage/luns/{lun['uuid']}")
    bench.run("Start-Sleep", Seconds=120)
    for record in bench.rest("GET", f"/storage/volumes/{key}/snapshots", fields="name")["records"]:
        bench.rest("DELETE", f"/storage/volumes/{key}/snapshots/{record['uuid']}")


@pytest.mark.parametrize(("name", "service", "edge", "outcome"), _cases())
def test_a_change_in_the_middle_of_a_set(bench: Bench, name: str, service: str, edge: str, outcome: str) -> None:
    """Writers and Snapshot copies are as the table says, nothing is under way; after mending all data is there."""
    bench.guest("sql01").insert("bb1", 20)
    bench.cause(name, at=edge, **({"service": service} if service else OPTIONS[name]))
    ran = bench.script(*backup(SQL01))
    code = re.search(r"HRESULT: \w{4}(\w{4})", ran.text)
    state, copies = bench.states()[HYPERV_WRITER][0], len(bench.snapshots("vm_sql01"))
    assert f"{ran.code}/{code[1] if code else '-'}/{state}/{copies}" == outcome
    assert bench.host.vss.creating is None
    bench.mend()
    _clean(bench)
    bench.run("Update-HostStorageCache")
    bench.run("Start-Sleep", Seconds=60)
    with suppress(
        DeviceError, VmNotRunning
    ):  # the first that it reads tells a VM that its disk has gone: it is paused then
        bench.guest("sql01").count("bb1")
    if bench.site.vm_states()["sql01"] != "Running":
        bench.run("Stop-VM", Name="sql01", TurnOff=True, Force=True)
        bench.run("Start-VM", Name="sql01")
    assert bench.guest("sql01").count("bb1") == 20
    assert bench.guest("sql01").checkdb("bb1").ok
    again = bench.script(*backup(SQL01))
    assert again.code == 0, again.text
    assert bench.states()[HYPERV_WRITER] == (1, 0)
    assert bench.site.blocks.check() == []
