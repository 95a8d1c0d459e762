"""The depth rules, against what a real host has sent, and what psrpcore makes of every kind of value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psrpcore.types
import pytest

from labenv.windows.call import PsError
from labenv.windows.objects import Int64, PsEnum, PsList, PsObject, UInt16, UInt32, UInt64
from labenv.windows.remoting.clixml import duration, moment, serialize
from labenv.windows.remoting.records import CATEGORIES, error_record, pipeline_state
from labenv.windows.remoting.select import Selection

from .conftest import parsed, vm

SERVICE = (
    '<Obj RefId="0"><TN RefId="0"><T>System.ServiceProcess.ServiceController</T><T>System.ComponentModel.Component</T>'
    "<T>System.MarshalByRefObject</T><T>System.Object</T></TN><ToString>winrm</ToString><Props>"
    '<B N="CanPauseAndContinue">false</B><B N="CanShutdown">true</B><B N="CanStop">true</B>'
    '<S N="DisplayName">Windows Remote Management (WS-Management)</S><Obj N="DependentServices" RefId="1">'
    '<TN RefId="1"><T>System.ServiceProcess.ServiceController[]</T><T>System.Array</T><T>System.Object</T></TN><LST>'
    '</LST></Obj><S N="MachineName">.</S><S N="ServiceName">winrm</S><Obj N="ServicesDependedOn" RefId="2">'
    '<TNRef RefId="1" /><LST><S>RPCSS</S><S>HTTP</S></LST></Obj><S N="ServiceHandle">SafeServiceHandle</S>'
    '<S N="Status">Running</S><S N="ServiceType">Win32OwnProcess</S><S N="StartType">Automatic</S><Nil N="Site" />'
    '<Nil N="Container" /></Props><MS><S N="Name">winrm</S><Ref N="RequiredServices" RefId="2" /></MS></Obj>'
)
"""A service as a real host has returned it (Server 2016), with an empty list written out."""


def text(value: object, depth: int = 1) -> str:
    """CLIXML without the byte order mark."""
    return serialize(value, depth=depth).decode().removeprefix("\ufeff")


def decode(value: object, depth: int = 1) -> Any:
    """The value after psrpcore has read it back."""
    return psrpcore.types.deserialize(parsed(text(value, depth)), None)  # type: ignore[arg-type]


def service(name: str) -> PsObject:
    """A service controller as it lives on a host."""
    kind = "System.ServiceProcess.ServiceController"
    types = (kind, "System.ComponentModel.Component", "System.MarshalByRefObject", "System.Object")
    return PsObject(types, {"ServiceName": name}, text=name)


def test_a_returned_object_is_flattened_as_a_real_host_does_it() -> None:
    """Enums and nested objects become text, lists stay lists of text, a repeated object becomes a reference."""
    needs = PsList("System.ServiceProcess.ServiceController[]", [service("RPCSS"), service("HTTP")])
    live = PsObject(
        service("winrm").types,
        {
            "CanPauseAndContinue": False,
            "CanShutdown": True,
            "CanStop": True,
            "DisplayName": "Windows Remote Management (WS-Management)",
            "DependentServices": PsList("System.ServiceProcess.ServiceController[]", []),
            "MachineName": ".",
            "ServiceName": "winrm",
            "ServicesDependedOn": needs,
            "ServiceHandle": PsObject(("SafeServiceHandle",), {"IsInvalid": False}),
            "Status": PsEnum("System.ServiceProcess.ServiceControllerStatus", "Running", 4),
            "ServiceType": PsEnum("System.ServiceProcess.ServiceType", "Win32OwnProcess", 16),
            "StartType": PsEnum("System.ServiceProcess.ServiceStartMode", "Automatic", 2),
            "Site": None,
            "Container": None,
        },
        notes={"Name": "winrm", "RequiredServices": needs},
        text="winrm",
    )
    assert text(live) == SERVICE


def test_selected_properties_keep_one_more_level() -> None:
    """An enum in a Selected object is an object with name and number; a nested object has its own properties."""
    command = PsObject(
        ("System.Management.Automation.CmdletInfo", "System.Object"),
        {"Name": "New-PSSession", "CommandType": PsEnum("System.Management.Automation.CommandTypes", "Cmdlet", 8)},
    )
    chosen = Selection(["Name", "CommandType", "ResolvedCommandName"]).of(command)
    assert text(chosen) == (
        '<Obj RefId="0"><TN RefId="0"><T>Selected.System.Management.Automation.CmdletInfo</T>'
        "<T>System.Management.Automation.PSCustomObject</T><T>System.Object</T></TN><MS>"
        '<S N="Name">New-PSSession</S><Obj N="CommandType" RefId="1"><TN RefId="1">'
        "<T>System.Management.Automation.CommandTypes</T><T>System.Enum</T><T>System.ValueType</T><T>System.Object</T>"
        '</TN><ToString>Cmdlet</ToString><I32>8</I32></Obj><Nil N="ResolvedCommandName" /></MS></Obj>'
    )


def test_a_cim_instance_is_never_flattened() -> None:
    """A CimInstance inside an object keeps its properties at any depth."""
    disk = PsObject(("Microsoft.Management.Infrastructure.CimInstance",), {"Number": UInt32(3)}, cim=True)
    holder = PsObject(("Holder", "System.Object"), {"Disk": disk, "Other": service("x")})
    back = decode(holder)
    assert back.Disk.Number == 3
    assert back.Other == "x"


@pytest.mark.parametrize(
    ("value", "tag", "written"),
    [
        (True, "B", "true"),
        (7, "I32", "7"),
        (-(1 << 31), "I32", "-2147483648"),
        (UInt16(7), "U16", "7"),
        (UInt32(1 << 31), "U32", "2147483648"),
        (UInt64(1 << 63), "U64", "9223372036854775808"),
        (Int64(7), "I64", "7"),
        (0.5, "Db", "0.5"),
        (Decimal("1.50"), "D", "1.50"),
        ("a", "S", "a"),
        (b"\x01\x02", "BA", "AQI="),
        (UUID(int=1), "G", "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "DT", "2026-01-02T03:04:05+00:00"),
        (timedelta(hours=26, minutes=1, microseconds=500), "TS", "P1DT2H1M0.0005S"),
    ],
)
def test_primitives_keep_their_type_at_any_depth(value: object, tag: str, written: str) -> None:
    """Every primitive has its own element, on its own and inside an object."""
    assert text(value) == f"<{tag}>{written}</{tag}>"
    assert f'<{tag} N="P">{written}</{tag}>' in text(PsObject(("T",), {"P": value}))


def test_nothing_that_has_no_form_is_written() -> None:
    """A value of an unknown kind is refused instead of being guessed."""
    with pytest.raises(TypeError):
        serialize(object())


@pytest.mark.parametrize(
    ("span", "written"),
    [
        (timedelta(0), "PT0S"),
        (timedelta(seconds=-1), "-PT1S"),
        (timedelta(days=2), "P2D"),
        (timedelta(minutes=90), "PT1H30M"),
        (timedelta(milliseconds=1500), "PT1.5S"),
    ],
)
def test_durations(span: timedelta, written: str) -> None:
    """A TimeSpan is written in its shortest form."""
    assert duration(span) == written


def test_fractions_of_a_moment_lose_their_zeros() -> None:
    """A DateTime has as many digits as it needs."""
    assert moment(datetime(2026, 1, 1, 0, 0, 0, 120000, tzinfo=UTC)) == "2026-01-01T00:00:00.12+00:00"


@pytest.mark.parametrize("name", ["a&b", 'quo"te', "emoji😀", "_x0041_", "tab\t"])
def test_names_and_texts_survive(name: str) -> None:
    """Property names and values of any characters come back as they were."""
    back = decode(PsObject(("T",), {name: name}))
    assert back[name] == name


def test_containers() -> None:
    """Lists, hashtables and lists inside them come back whole at the top; objects in them keep their properties."""
    back = decode([{"a": [1, "x"], "b": None}, vm("v")])
    assert back[0]["a"] == [1, "x"]
    assert back[0]["b"] is None
    assert back[1].Name == "v"
    assert back[1].State == "Running"


def test_select_expands_wildcards_and_spells_names_as_the_object_does() -> None:
    """A name with wildcards stands for all that match; a note hides a property of the same name."""
    item = PsObject(("T",), {"DiskNumber": 1, "DiskId": "x", "Size": 5}, notes={"Size": "five"})
    chosen = Selection(["disk*", "SIZE"]).of(item)
    assert isinstance(chosen, PsObject)
    assert dict(chosen.notes) == {"DiskNumber": 1, "DiskId": "x", "Size": "five"}


def test_every_category_has_its_number() -> None:
    """The categories are PowerShell's 32, in its order."""
    assert len(CATEGORIES) == 32
    assert (CATEGORIES["NotSpecified"], CATEGORIES["ObjectNotFound"], CATEGORIES["NotEnabled"]) == (0, 13, 31)


def test_error_records_are_read_by_psrpcore() -> None:
    """An error record and a failed state decode with id, category and target."""
    error = PsError("No <such> thing", error_id="Nope", category="ObjectNotFound", target=vm("v"), suffix="Get-Thing")
    back: Any = psrpcore.types.deserialize(
        parsed(error_record(error, cmdlet="Get-Thing").decode().removeprefix("\ufeff")),
        None,  # type: ignore[arg-type]
    )
    assert back.FullyQualifiedErrorId == "Nope,Get-Thing"
    assert back.CategoryInfo.Category.name == "ObjectNotFound"
    assert back.TargetObject.Name == "v"
    assert str(back) == "No <such> thing"
    assert b'<I32 N="PipelineState">5</I32>' in pipeline_state(5, error, cmdlet="Get-Thing")
