"""A backup as a client sends it, over PowerShell remoting and REST, against the lab's own process."""

from __future__ import annotations

import re

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.errors import ConnectionFailed, SmhvLabError
from smhvlab.site import Site

from .bench import SQL01, backup


@pytest.mark.tr("R-6.2-02", "R-6.2-11")
def test_a_client_drives_a_set_and_proves_it_on_the_array(site: Site, lab: Lab) -> None:
    """The script goes over as a file; what it made is read from the event log and from the array."""
    tools = site.tools()
    script = "C:\\Windows\\Temp\\backup.dsh"
    lines = backup(SQL01)
    tools.host.run("Set-Content", {"LiteralPath": script, "Value": lines, "Encoding": "Ascii"})
    result = tools.host.native("diskshadow.exe", "/s", script)
    assert result.exit_code == 0, result.lines
    event = tools.host.run(
        "Get-WinEvent",
        {"FilterHashtable": {"LogName": "Application", "ProviderName": "Navssprv", "Id": 4089}, "MaxEvents": 1},
    )[0]
    set_id = str(event["Properties"][0])
    assert re.fullmatch(r"[0-9a-f-]{36}", set_id)
    volume = tools.storage.volume("vm_sql01", svm="svm1")
    assert volume is not None
    names = {s["name"] for s in tools.storage.snapshots(volume)}
    assert {f"{{{set_id}}}", f"{{{set_id}}}_backup"} <= names
    assert lab.status()["failures"] == []


@pytest.mark.parametrize("edge", ["PrepareForSnapshot", "CommitSnapshots", "PostSnapshot"])
def test_a_host_that_vanishes_in_the_middle_of_a_command(site: Site, lab: Lab, edge: str) -> None:
    """The client gets an error of its own kind; switched on again, the host answers and a backup succeeds."""
    tools = site.tools()
    script = "C:\\Windows\\Temp\\backup.dsh"
    lab.guest("sql01").insert("bb1", 10)
    tools.host.run("Set-Content", {"LiteralPath": script, "Value": backup(SQL01), "Encoding": "Ascii"})
    lab.faults.cause("node-lost", host="hv1", at=edge)
    with pytest.raises(SmhvLabError):
        tools.host.native("diskshadow.exe", "/s", script)
    assert lab.faults.changes() == [{"cause": "node-lost", "options": {"host": "hv1"}}]
    lab.faults.clear()
    with smhvlab.site.connect(lab.profile) as again:
        result = again.tools().host.native("diskshadow.exe", "/s", script)
        assert result.exit_code == 0, result.lines
    assert lab.guest("sql01").count("bb1") == 10
    assert lab.status()["failures"] == []


def test_a_host_whose_remoting_service_is_stopped(site: Site, lab: Lab) -> None:
    """Nothing answers there any more, and the client says that the host cannot be reached; started, it does."""
    host = site.tools().host
    lab.faults.cause("service-stopped", service="WinRM")
    with pytest.raises(ConnectionFailed):
        host.run("Get-Date", {})
    lab.faults.clear()
    assert host.run("Get-Service", {"Name": "WinRM"})[0]["Status"] == "Running"


def test_events_of_a_service_are_written_and_read(site: Site) -> None:
    """A registered source writes to its log; SnapManager's is registered; an unknown one is refused by name."""
    host = site.tools().host
    text = "Backup Failed for the following VM(s) since it cannot be backedup online or No VM to be found"
    event = {"LogName": "Application", "Source": "SnapMgrServiceHost", "EventId": 106, "EntryType": "Error"}
    host.run("Write-EventLog", {**event, "Message": text})
    wanted = {"LogName": "Application", "ProviderName": "SnapMgrServiceHost", "Id": 106}
    found = host.run("Get-WinEvent", {"FilterHashtable": wanted})[0]
    assert (found["Message"], found["LevelDisplayName"]) == (text, "Error")
    with pytest.raises(SmhvLabError) as caught:
        host.run("Write-EventLog", {**event, "Source": "Mine", "Message": text})
    assert "WriteEventLogCommand" in str(caught.value.code)
    host.run("New-EventLog", {"LogName": "Application", "Source": ["Mine"]})
    host.run("Write-EventLog", {**event, "Source": "Mine", "Message": "now"})
    with pytest.raises(SmhvLabError):
        host.run("New-EventLog", {"LogName": "Application", "Source": ["Mine"]})
