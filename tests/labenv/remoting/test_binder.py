"""Parameter binding against Microsoft's signatures: the calls of the contract, and what Windows refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from labenv.windows.call import PsError
from labenv.windows.objects import PsObject
from labenv.windows.remoting.binder import Bound, bind
from labenv.windows.remoting.shapes import PAIRS
from labenv.windows.remoting.signatures import Signature, Signatures
from labenv.windows.remoting.values import Credential, ScriptBlock

TABLE = Signatures.load()
G = UUID(int=7)
VM = PsObject(("Microsoft.HyperV.PowerShell.VirtualMachine", "System.Object"), {"Name": "x"})
SNAPSHOT = PsObject(("Microsoft.HyperV.PowerShell.VMSnapshot", "System.Object"), {"Name": "x"})
RESOURCE = PsObject(("Microsoft.FailoverClusters.PowerShell.ClusterResource", "System.Object"), {"Name": "x"})


def signature(name: str) -> Signature:
    """The signature of a cmdlet that the table has."""
    found = TABLE.find(name)
    assert found is not None
    return found


def call(name: str, *positional: object, piped: PsObject | None = None, **parameters: object) -> Bound:
    """Bind a call."""
    arguments = [*((None, value) for value in positional), *parameters.items()]
    return bind(signature(name), arguments, piped=piped)


def refusal(name: str, *positional: object, piped: PsObject | None = None, **parameters: object) -> PsError:
    """The error of a call that does not bind."""
    with pytest.raises(PsError) as caught:
        call(name, *positional, piped=piped, **parameters)
    return caught.value


CALLS: list[tuple[str, dict[str, Any], str]] = [
    ("Get-InitiatorPort", {}, "ByNodeAddress"),
    ("New-IscsiTargetPortal", {"TargetPortalAddress": "192.0.2.1"}, ""),
    (
        "Connect-IscsiTarget",
        {
            "NodeAddress": "iqn.x",
            "TargetPortalAddress": "192.0.2.1",
            "InitiatorPortalAddress": "192.0.2.9",
            "IsMultipathEnabled": True,
            "IsPersistent": True,
        },
        "ByNodeAddress",
    ),
    ("Update-HostStorageCache", {}, ""),
    ("Get-Disk", {}, "ByName"),
    ("Set-Disk", {"Number": 1, "IsOffline": False}, "ByNumber"),
    ("Set-Disk", {"Number": 1, "IsReadOnly": False}, "ByNumberAttributes"),
    ("Set-Disk", {"Number": 1, "Guid": "{x}"}, "ByNumberAttributes"),
    ("Initialize-Disk", {"Number": 1, "PartitionStyle": "GPT"}, "ByNumber"),
    ("New-Partition", {"DiskNumber": 1, "UseMaximumSize": True}, "ByNumber"),
    ("Get-Partition", {"DiskNumber": 1}, "ByNumber"),
    ("Format-Volume", {"Path": "\\\\?\\Volume{x}\\", "Confirm": False}, "ByPaths"),
    ("Add-PartitionAccessPath", {"DiskNumber": 1, "PartitionNumber": 2, "AccessPath": "C:\\m"}, "ByNumber"),
    (
        "Set-Partition",
        {
            "DiskNumber": 1,
            "PartitionNumber": 2,
            "IsHidden": True,
            "IsReadOnly": True,
            "IsShadowCopy": True,
            "NoDefaultDriveLetter": True,
        },
        "ByNumberAttributes",
    ),
    ("Add-ClusterSharedVolume", {"Name": "d"}, ""),
    ("Get-ClusterSharedVolumeState", {"Name": "d"}, ""),
    ("Rename-Item", {"LiteralPath": "C:\\a", "NewName": "b"}, "ByLiteralPath"),
    ("Move-ClusterResource", {"Name": "d", "Group": "g"}, ""),
    ("New-VM", {"Name": "a", "NoVHD": True, "Generation": 1, "Path": "C:\\VMs"}, "No VHD"),
    (
        "Add-VMHardDiskDrive",
        {"VMName": "a", "ControllerType": "IDE", "ControllerNumber": 0, "ControllerLocation": 0, "Path": "p"},
        "VMName",
    ),
    (
        "Add-VMHardDiskDrive",
        {"VMName": "a", "ControllerType": "SCSI", "Path": "p", "AllowUnverifiedPaths": True},
        "VMName",
    ),
    ("Add-ClusterVirtualMachineRole", {"VMId": G}, ""),
    ("Set-Content", {"LiteralPath": "t", "Value": "x", "Encoding": "UTF8", "NoNewline": True}, "LiteralPath"),
    ("Move-Item", {"LiteralPath": "t", "Destination": "f"}, "LiteralPath"),
    ("Get-Content", {"LiteralPath": "t", "Raw": True, "Encoding": "UTF8"}, "LiteralPath"),
    ("Write-VolumeCache", {"Path": "\\\\?\\Volume{x}\\"}, "ByPaths"),
    ("Set-VM", {"Name": ["a", "b"], "CheckpointType": "ProductionOnly"}, "Name"),
    ("Checkpoint-VM", {"Name": ["a", "b"], "SnapshotName": "S", "Passthru": True}, "Name"),
    ("Remove-VMSnapshot", {"VMName": ["a"], "Name": "S", "Confirm": False}, "SnapshotName"),
    ("Import-VM", {"Path": "x.vmcx", "Register": True}, "Register"),
    ("Import-VM", {"Path": "x.vmcx", "Copy": True, "GenerateNewId": True}, "Copy"),
    ("Compare-VM", {"Path": "x.vmcx", "Register": True}, "Register"),
    ("Remove-ClusterGroup", {"VMId": G, "RemoveResources": True, "Force": True}, ""),
    ("Stop-ClusterResource", {"Name": "D", "Wait": 120}, ""),
    ("Suspend-ClusterResource", {"Name": "D", "RedirectedAccess": True}, ""),
    ("Copy-Item", {"LiteralPath": "a", "Destination": "b"}, "LiteralPath"),
    ("Set-VHD", {"Path": "p", "ResetDiskIdentifier": True, "Force": True}, "DiskIdentifier"),
    ("Mount-VHD", {"Path": "p", "NoDriveLetter": True, "Passthru": True}, ""),
    ("New-VHD", {"Differencing": True, "ParentPath": "a", "Path": "b"}, "Differencing"),
    ("New-VMSwitch", {"Name": "N", "SwitchType": "Private"}, "SwitchType"),
    ("Connect-VMNetworkAdapter", {"VMName": "a", "SwitchName": "N"}, "Name_SwitchName"),
    ("Register-ScheduledTask", {"TaskName": "a", "TaskPath": "\\x\\", "Xml": "<x/>", "Force": True}, "Xml"),
    ("Register-ClusteredScheduledTask", {"TaskName": "a", "TaskType": "ClusterWide", "Xml": "<x/>"}, "Xml"),
    ("Get-WinEvent", {"FilterHashtable": {"LogName": "Application"}, "MaxEvents": 5}, "HashQuerySet"),
    ("New-Item", {"ItemType": "Directory", "Path": "C:\\x"}, "pathSet"),
    (
        "Set-ItemProperty",
        {"LiteralPath": "HKLM:\\x", "Name": "a", "Value": 1, "Type": "DWord"},
        "propertyValueLiteralPathSet",
    ),
    ("Get-CimInstance", {"ClassName": "Win32_ServerFeature"}, "ClassNameComputerSet"),
    ("Get-VM", {}, "Name"),
    ("Get-VM", {"Id": G}, "Id"),
    ("Get-VMHardDiskDrive", {"VMName": "a"}, "VMName"),
    ("Start-Sleep", {"Seconds": 1}, "Seconds"),
    (
        "Invoke-Sqlcmd",
        {
            "ServerInstance": "sql01",
            "Database": "aa1",
            "Query": "x",
            "Username": "u",
            "Password": "p",
            "OutputAs": "DataRows",
            "QueryTimeout": 30,
            "TrustServerCertificate": True,
        },
        "ByConnectionParameters",
    ),
    ("Invoke-SmhvGuestCheck", {"VMId": G, "Credential": Credential("u", "p"), "Database": "aa1"}, "Default"),
]


@pytest.mark.parametrize(("name", "parameters", "chosen"), CALLS, ids=lambda v: v if isinstance(v, str) else "")
def test_the_calls_of_the_contract_bind(name: str, parameters: dict[str, Any], chosen: str) -> None:
    """Every call that the flows make fits one parameter set of the documented signature."""
    bound = call(name, **parameters)
    assert bound.parameter_set == chosen
    assert set(bound.parameters) == set(parameters) - {"Confirm"}


def test_every_pair_of_the_closed_list_binds() -> None:
    """The second half of every pair takes the first half's object from the pipeline."""
    extra: dict[str, dict[str, Any]] = {
        "set-vm": {"CheckpointType": "Production"},
        "add-vmharddiskdrive": {"Path": "p"},
        "set-clusterparameter": {"Name": "DiskIdGuid", "Value": "x"},
    }
    objects = {"get-vm": VM, "get-vmsnapshot": SNAPSHOT}
    for first, (identity, seconds) in PAIRS.items():
        assert signature(first).find(identity[0]) is not None
        for second in seconds:
            force = {"Confirm": False} if signature(second).asks else {}
            bound = call(second, piped=objects.get(first, RESOURCE), **extra.get(second, {}), **force)
            assert any(signature(second).parameters[p].pipeline is not None for p in bound.parameters)


def test_unknown_parameter() -> None:
    """A name that the cmdlet has not, even as an abbreviation, is not found."""
    error = refusal("Get-VM", Nam="x")
    assert (error.error_id, error.category) == ("NamedParameterNotFound", "InvalidArgument")
    assert error.suffix == "Microsoft.HyperV.PowerShell.Commands.GetVM"
    assert refusal("Get-Disk", Serial="x").suffix == "Get-Disk"


def test_ambiguous_abbreviations() -> None:
    """An abbreviation of several parameters is ambiguous; one of a single parameter is not accepted either."""
    error = refusal("Get-VMHardDiskDrive", Controller="SCSI")
    assert (error.error_id, error.category) == ("AmbiguousParameter", "InvalidArgument")
    assert "-ControllerType" in error.message
    assert refusal("Get-VMHardDiskDrive", ControllerT="SCSI").error_id == "NamedParameterNotFound"


def test_checkpoint_type_belongs_to_the_machine() -> None:
    """Checkpoint-VM has no CheckpointType: that is a setting of the VM."""
    assert refusal("Checkpoint-VM", Name="a", CheckpointType="Production").error_id == "NamedParameterNotFound"


def test_mixed_parameter_sets() -> None:
    """Parameters of different sets do not go together."""
    error = refusal("Set-Disk", Number=1, IsOffline=False, IsReadOnly=False)
    assert (error.error_id, error.category) == ("AmbiguousParameterSet", "InvalidArgument")
    assert refusal("Get-VM", Name="a", Id=G).error_id == "AmbiguousParameterSet"
    assert refusal("Import-VM", Path="p", Register=True, GenerateNewId=True).error_id == "AmbiguousParameterSet"


def test_missing_mandatory_parameter() -> None:
    """A mandatory parameter is named in the error, since nobody can be asked."""
    error = refusal("Get-VMHardDiskDrive", ControllerNumber=0)
    assert error.error_id == "MissingMandatoryParameter"
    assert "VMName" in error.message


def test_given_twice() -> None:
    """A parameter and its alias are the same parameter."""
    error = refusal("Get-VM", Name="a", VMName="b")
    assert error.error_id == "ParameterAlreadyBound"


def test_aliases_case_and_positions() -> None:
    """Names are looked up in any case, aliases count, and positional arguments find their place."""
    assert call("get-vm", vmname="a").parameters == {"Name": ["a"]}
    assert call("Get-VM", "a").parameters == {"Name": ["a"]}
    assert call("Get-VMHardDiskDrive", "a").parameter_set == "VMName"
    assert call("Set-Content", "C:\\f", "text").parameters == {"Path": ["C:\\f"], "Value": ["text"]}
    assert refusal("Get-VM", "a", "b").error_id == "PositionalParameterNotFound"


@pytest.mark.parametrize(
    ("name", "parameter", "value", "expected"),
    [
        ("Get-VM", "Name", "a", ["a"]),
        ("Get-VM", "Name", ["a", 7], ["a", "7"]),
        ("Get-VM", "Id", str(G), G),
        ("Start-Sleep", "Seconds", "12", 12),
        ("Start-Sleep", "Seconds", 2.5, 2),
        ("New-VM", "MemoryStartupBytes", "2GB", 2 << 30),
        ("New-VM", "MemoryStartupBytes", "0x10", 16),
        ("Set-Disk", "Number", "7", 7),
        ("Set-VM", "CheckpointType", "productiononly", "ProductionOnly"),
        ("Set-VM", "CheckpointType", 4, "ProductionOnly"),
        ("Get-Date", "Date", "2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("Set-Partition", "IsHidden", 1, True),
        ("Get-Partition", "DriveLetter", "C", ["C"]),
        ("Set-Content", "Value", "", [""]),
    ],
)
def test_conversions(name: str, parameter: str, value: object, expected: object) -> None:
    """PowerShell's conversions: arrays from scalars, numbers and ids from text, enums by name or number."""
    needed: dict[str, Any] = {
        "Set-VM": {"Name": "a"},
        "Set-Partition": {"DiskNumber": 1, "PartitionNumber": 1},
        "Set-Content": {"LiteralPath": "t"},
    }.get(name, {})
    converted = call(name, **needed, **{parameter: value}).parameters[parameter]
    assert converted == expected
    assert type(converted) is type(expected)


def test_timespans() -> None:
    """A TimeSpan is read from a TimeSpan, ticks or text."""
    for value in (timedelta(minutes=90), 54_000_000_000, "01:30:00"):
        found = call("New-ScheduledTaskTrigger", Once=True, At="2026-01-01", RepetitionInterval=value)
        assert found.parameters["RepetitionInterval"] == timedelta(minutes=90)


@pytest.mark.parametrize(
    ("name", "parameters", "error_id", "category"),
    [
        ("Get-VM", {"Id": "no guid"}, "CannotConvertArgumentNoMessage", "InvalidArgument"),
        ("Start-Sleep", {"Seconds": "soon"}, "CannotConvertArgumentNoMessage", "InvalidArgument"),
        ("Start-Sleep", {"Seconds": 1 << 31}, "CannotConvertArgumentNoMessage", "InvalidArgument"),
        ("Set-VM", {"Name": "a", "CheckpointType": "Best"}, "CannotConvertArgumentNoMessage", "InvalidArgument"),
        ("Stop-VM", {"VM": "vm1"}, "CannotConvertArgumentNoMessage", "InvalidArgument"),
        ("Stop-VM", {"Name": "a", "Force": "yes"}, "CannotConvertArgument", "InvalidArgument"),
        ("Set-Disk", {"Number": -1, "IsOffline": True}, "ParameterArgumentTransformationError", "InvalidData"),
        ("Set-Disk", {"Number": 1, "IsOffline": "no"}, "ParameterArgumentTransformationError", "InvalidData"),
        ("Connect-IscsiTarget", {"InputObject": "x"}, "ParameterArgumentTransformationError", "InvalidData"),
        ("New-VM", {"Name": "a", "Generation": 3}, "ParameterArgumentValidationError", "InvalidData"),
        ("Get-VMHardDiskDrive", {"VMName": ""}, "ParameterArgumentValidationErrorEmptyStringNotAllowed", "InvalidData"),
        ("Get-VMHardDiskDrive", {"VMName": None}, "ParameterArgumentValidationErrorNullNotAllowed", "InvalidData"),
        ("Get-VMHardDiskDrive", {"VMName": []}, "ParameterArgumentValidationErrorEmptyArrayNotAllowed", "InvalidData"),
        ("Get-VM", {"Credential": "user"}, "CannotConvertArgumentNoMessage", "InvalidArgument"),
        ("Get-VM", {"ErrorAction": "Explode"}, "CannotConvertArgumentNoMessage", "InvalidArgument"),
        ("Get-VM", {"ErrorAction": "Inquire"}, "CannotConvertArgumentNoMessage", "InvalidArgument"),
        ("Get-VM", {"Name": ScriptBlock("x")}, "ScriptsNotAllowed", "ParserError"),
        ("Invoke-CimMethod", {"MethodName": ScriptBlock("x")}, "ScriptsNotAllowed", "ParserError"),
    ],
)
def test_what_does_not_convert(name: str, parameters: dict[str, Any], error_id: str, category: str) -> None:
    """Classes and functions report an argument of the wrong type each in their own way."""
    error = refusal(name, **parameters)
    assert (error.error_id, error.category) == (error_id, category)


def test_switches() -> None:
    """A switch without a value is on, a switch that is off is absent."""
    assert call("Stop-VM", Name="a", TurnOff=None).parameters["TurnOff"] is True
    assert "TurnOff" not in call("Stop-VM", Name="a", TurnOff=False).parameters
    assert call("Set-Disk", Number=1, IsOffline=False).parameters["IsOffline"] is False


def test_common_parameters() -> None:
    """Common parameters are kept apart, by name, alias and number."""
    common = call("Get-VM", ea="stop", Verbose=True, wa=0).common
    assert (common.error_action, common.verbose, common.warning_action) == ("Stop", True, "SilentlyContinue")
    assert call("Get-VM").common.error_action == "Continue"
    assert call("Stop-VM", Name="a", WhatIf=True).common.what_if
    assert refusal("Get-VM", WhatIf=True).error_id == "NamedParameterNotFound"
    assert refusal("Get-VM", Confirm=False).error_id == "NamedParameterNotFound"


def test_questions_cannot_be_answered() -> None:
    """A cmdlet that asks fails, unless it is told not to ask or to force it."""
    assert refusal("Format-Volume", DriveLetter="E").error_id == "HostFunctionNotImplemented"
    assert refusal("Stop-VM", Name="a", Confirm=True).error_id == "HostFunctionNotImplemented"
    assert call("Format-Volume", DriveLetter="E", Confirm=False).parameters["DriveLetter"] == ["E"]
    assert call("Remove-VM", Name="a", Force=True).parameters["Force"] is True
    attended = bind(signature("Format-Volume"), [("DriveLetter", "E")], attended=True)
    assert attended.parameter_set == "ByDriveLetter"


def test_the_wrong_object_from_the_pipeline() -> None:
    """An object of another type does not bind."""
    assert refusal("Stop-VM", piped=SNAPSHOT).error_id == "InputObjectNotBound"
    assert refusal("Stop-VM", Name="a", piped=VM).error_id == "InputObjectNotBound"


def test_delegation_and_modules() -> None:
    """The table says which cmdlets need delegation and where each comes from."""
    assert signature("Add-ClusterVirtualMachineRole").needs_delegation
    assert not signature("Get-ClusterGroup").needs_delegation
    assert signature("Get-VHD").suffix == "Microsoft.Vhd.PowerShell.Cmdlets.GetVHD"
    assert TABLE.find("Get-NoSuchThing") is None
    assert signature("Hyper-V\\Get-VM").module == "Hyper-V"


def test_every_signature_is_well_formed() -> None:
    """Every cmdlet of the table has sets, a default among them, and parameters that are in some set."""
    for name in TABLE:
        one = signature(name)
        assert one.sets
        assert one.default is None or one.default in one.sets
        for parameter in one.parameters.values():
            assert parameter.roles
            assert set(parameter.roles) <= set(one.sets)
