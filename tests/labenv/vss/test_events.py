"""What a trainee reads in the event logs after each cause: log, source, level, lab time, machine, fields and names."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from labenv.windows.objects import PsList, PsObject

from .bench import SQL01, Bench, backup

APPLICATION, SYSTEM, VMMS = "Application", "System", "Microsoft-Windows-Hyper-V-VMMS-Admin"
CLUSTERING = "Microsoft-Windows-FailoverClustering"
CSV1 = "C:\\ClusterStorage\\Volume1"


@dataclass(frozen=True)
class Told:
    """An event and what leads to it: a cause, or a healthy backup if there is none."""

    number: int
    log: str
    source: str
    level: str
    cause: str = ""
    options: dict[str, str] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    fields: int = 1

    @property
    def id(self) -> str:
        return f"{self.number}-{self.cause or 'healthy'}"


BACKUP = [
    Told(4089, APPLICATION, "Navssprv", "Information", says=("milliseconds",), fields=2),
    Told(4364, APPLICATION, "Navssprv", "Error", "slow-array", says=("10",), fields=2),
    Told(12298, APPLICATION, "VSS", "Error", "slow-array", says=("0x80042314",)),
    Told(12289, APPLICATION, "VSS", "Error", "no-path-to-clone", says=("0x80042320", "did not arrive")),
    Told(12293, APPLICATION, "VSS", "Error", "provider-refuses", says=("CommitSnapshots", "0x80042306")),
    Told(8193, APPLICATION, "VSS", "Error", "service-stopped", {"service": "VSS"}, ("VSS", "0x80070422")),
    Told(8194, APPLICATION, "VSS", "Error", "callback-denied", says=("IVssWriterCallback", "0x80070005")),
    Told(10103, VMMS, "Microsoft-Windows-Hyper-V-VMMS", "Error", "no-scsi-controller", {"vm": "sql01"}, ("sql01",)),
]
CLUSTER = [
    Told(5120, SYSTEM, CLUSTERING, "Error", "lun-offline", {"volume": "csv1"}, (CSV1, "paused"), 3),
    Told(5142, SYSTEM, CLUSTERING, "Error", "lun-offline", {"volume": "csv1"}, (CSV1, "no longer accessible"), 3),
    Told(1069, SYSTEM, CLUSTERING, "Error", "lun-offline", {"volume": "csv1"}, ("Cluster resource", "failed"), 3),
]
REDIRECTED = Told(5121, SYSTEM, CLUSTERING, "Warning", "redirected-access-left", {}, (CSV1, "redirected"), 2)


def _read(bench: Bench, told: Told) -> PsObject:
    wanted = {"LogName": told.log, "ProviderName": told.source, "Id": told.number}
    found: PsObject = bench.run("Get-WinEvent", FilterHashtable=wanted, MaxEvents=1)[0]
    return found


def _check(bench: Bench, told: Told, *, begun: object) -> None:
    event = _read(bench, told)
    shown = event.properties
    assert (shown["LevelDisplayName"], shown["LogName"], shown["Id"]) == (told.level, told.log, told.number)
    assert shown["MachineName"] == bench.host.spec.fqdn
    assert begun <= shown["TimeCreated"] <= bench.site.clock.time  # type: ignore[operator]
    values = shown["Properties"]
    assert isinstance(values, PsList)
    assert len(values.items) >= told.fields
    assert all(item.text for item in values.items if isinstance(item, PsObject))
    assert [text for text in told.says if text not in str(event.notes["Message"])] == []


@pytest.mark.parametrize("told", BACKUP, ids=lambda told: told.id)
def test_an_event_of_a_backup(bench: Bench, told: Told) -> None:
    """It is in its log with the lab's time, its fields filled, and a text that names what it is about."""
    if told.cause:
        bench.cause(told.cause, **told.options)
    begun = bench.site.clock.time
    bench.script(*backup(SQL01))
    _check(bench, told, begun=begun)


def test_the_events_of_a_shared_volume_that_fails(cluster: Bench) -> None:
    """A pause, a failed disk and a lost volume are in the System log of a node, in that order, and name the volume."""
    begun = cluster.site.clock.time
    cluster.cause(CLUSTER[0].cause, **CLUSTER[0].options)
    cluster.run("Start-Sleep", Seconds=120)
    for told in CLUSTER:
        _check(cluster, told, begun=begun)
    paused, lost, failed = (_read(cluster, told).properties["RecordId"] for told in CLUSTER)
    assert paused < lost  # type: ignore[operator]
    assert paused < failed  # type: ignore[operator]


@pytest.mark.tr("R-AR-01")
def test_the_event_of_redirected_access(old_cluster: Bench) -> None:
    """In era 2008r2 a node that does not own a redirected volume warns, and names it."""
    begun = old_cluster.site.clock.time
    disk = old_cluster.run("Get-ClusterSharedVolume")[0].properties["Name"]
    old_cluster.cause(REDIRECTED.cause, disk=str(disk))
    told = [h for h in old_cluster.hosts.values() if any(e.id == 5121 for e in h.events.newest_first())]
    assert [h.name for h in told] == ["hv2"]
    event = told[0].events.newest_first()[0]
    assert event.time > begun
    assert [text for text in REDIRECTED.says if text not in event.message] == []
