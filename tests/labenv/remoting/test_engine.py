"""The engine inside the process, and the shapes of requests that it accepts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from labenv.clock import Clock
from labenv.windows.call import PsError
from labenv.windows.objects import PsObject
from labenv.windows.remoting.engine import Engine
from labenv.windows.remoting.shapes import PAIRS, recognise
from labenv.windows.remoting.values import Command, ScriptBlock
from smhvlab.wires import pairs as client

from .conftest import START, VM_ID, make_host


def run(cmdlet: str, parameters: dict[str, Any] | None = None, select: list[str] | None = None) -> list[Any]:
    """One cmdlet on a fresh host, as the lab's own code runs it."""

    async def body() -> list[Any]:
        clock = Clock(START)
        engine = Engine(make_host(clock), clock=clock)
        with clock.request(), clock.parked():
            return await engine.run(cmdlet, parameters, select=select)

    return asyncio.run(body())


def test_live_objects_come_back() -> None:
    """In the process objects are whole: nothing is flattened."""
    (found,) = run("Get-VM", {"Id": VM_ID})
    assert found.properties["State"].name == "Running"
    assert found.properties["HardDrives"].items[0].properties["Path"] == "C:\\VMs\\vm1.vhdx"


def test_selected_properties() -> None:
    """Selected properties are note properties, in order."""
    (found,) = run("Get-VM", {"Id": VM_ID}, ["Name", "Missing"])
    assert isinstance(found, PsObject)
    assert dict(found.notes) == {"Name": "vm1", "Missing": None}


def test_errors_are_raised() -> None:
    """Every error, also a non-terminating one, is raised."""
    with pytest.raises(PsError) as caught:
        run("Get-VM", {"Name": "nobody"})
    assert caught.value.error_id == "InvalidParameter"
    with pytest.raises(PsError) as caught:
        run("Get-Nothing")
    assert caught.value.error_id == "CommandNotFoundException"


def test_sleeping_and_the_clock() -> None:
    """Start-Sleep takes lab time, Get-Date tells it."""
    assert run("Start-Sleep", {"Seconds": 3600}) == []
    assert run("Get-Date") == [START]
    assert run("Get-Date", {"Date": "2020-01-01", "Hour": 5})[0].hour == 5


def test_the_lab_may_do_what_a_session_may_not() -> None:
    """Inside the process nobody's credentials are in the way."""
    assert run("Add-ClusterVirtualMachineRole", {"VMId": VM_ID}) == ["added"]


def statement(*commands: Command) -> Sequence[Command]:
    return commands


SELECT = Command("Select-Object", (("Property", ["Name"]),))
GET_VM = Command("Get-VM", (("Id", VM_ID),))


@pytest.mark.parametrize(
    ("statements", "error_id"),
    [
        ([], "EmptyPipeElement"),
        ([[Command("Get-VM", is_script=True)]], "ScriptsNotAllowed"),
        ([[Command("Get-VM", (("Name", ScriptBlock("x")),))]], "ScriptsNotAllowed"),
        ([[Command("Get-VM"), SELECT, SELECT]], "PipelineNotAllowed"),
        ([[GET_VM, Command("Stop-VM"), Command("Start-VM")]], "PipelineNotAllowed"),
        ([[GET_VM, Command("Remove-Item")]], "PipelineNotAllowed"),
        ([[Command("Get-VM"), Command("Stop-VM")]], "PipelineNotAllowed"),
        ([[Command("Get-VM", (("Id", [VM_ID, VM_ID]),)), Command("Stop-VM")]], "PipelineNotAllowed"),
        ([[Command("Get-VM", (("Id", VM_ID), ("Name", "a"))), Command("Stop-VM")]], "PipelineNotAllowed"),
        ([[SELECT, Command("Stop-VM")]], "PipelineNotAllowed"),
        ([[Command("diskshadow.exe"), SELECT]], "PipelineNotAllowed"),
        ([[Command("Get-VM")], [Command("Get-VM")]], "StatementsNotAllowed"),
        (
            [[Command("diskshadow.exe")], [Command("Get-Variable", (("Name", "PID"), ("ValueOnly", True)))]],
            "StatementsNotAllowed",
        ),
        ([[Command("diskshadow.exe")], [Command("Get-Variable", (("Name", "LASTEXITCODE"),))]], "StatementsNotAllowed"),
    ],
)
def test_other_shapes_are_refused(statements: list[list[Command]], error_id: str) -> None:
    """Whatever is not one of the four shapes is refused by name."""
    with pytest.raises(PsError) as caught:
        recognise(statements)
    assert caught.value.error_id == error_id


def test_client_and_lab_have_the_same_pairs() -> None:
    """The library may send exactly the pairs that the lab accepts."""
    sent = {(p.first.lower(), p.by.lower(), p.second.lower()) for p in client.PAIRS}
    assert sent == {(first, by[0], second) for first, (by, seconds) in PAIRS.items() for second in seconds}


def test_allowed_shapes() -> None:
    """A cmdlet, a pair, each with Select-Object, and a native program with its exit code."""
    assert recognise([[GET_VM]]).second is None
    pair = recognise([[GET_VM, Command("Get-VMIntegrationService"), SELECT]])
    assert pair.second is not None
    assert pair.select is SELECT
    ask = Command("Get-Variable", (("Name", "LASTEXITCODE"), ("ValueOnly", None)))
    native = recognise([[Command("C:\\Windows\\System32\\DiskShadow.exe", ((None, "/s"),))], [ask]])
    assert native.native
    assert native.exit_code
    assert recognise([[Command("vssadmin", ((None, "list"), (None, "writers")))]]).native
