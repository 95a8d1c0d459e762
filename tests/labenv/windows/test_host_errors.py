"""Errors with the ids that flows branch on."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from labenv.windows.call import PsError

from .bench import GIB, PORTAL, TARGET, Bench

CASES = {
    "disk number": ("Get-Disk", {"Number": 9}, "CmdletizationQuery_NotFound_Number", "ObjectNotFound"),
    "disk id": ("Get-Disk", {"UniqueId": "600A"}, "CmdletizationQuery_NotFound_UniqueId", "ObjectNotFound"),
    "partition": ("Get-Partition", {"DriveLetter": "Z"}, "CmdletizationQuery_NotFound_DriveLetter", "ObjectNotFound"),
    "volume": ("Get-Volume", {"DriveLetter": "Z"}, "CmdletizationQuery_NotFound_DriveLetter", "ObjectNotFound"),
    "initialised": ("Initialize-Disk", {"Number": 1}, "StorageWMI 41001", "NotSpecified"),
    "raw": ("New-Partition", {"DiskNumber": 2, "UseMaximumSize": True}, "StorageWMI 41000", "NotSpecified"),
    "offline": ("Initialize-Disk", {"Number": 3}, "StorageWMI 41003", "NotSpecified"),
    "full": ("New-Partition", {"DiskNumber": 1, "UseMaximumSize": True}, "StorageWMI 40000", "NotSpecified"),
    "file system": ("Format-Volume", {"DriveLetter": "V", "FileSystem": "ReFS"}, "StorageWMI 43001", "NotSpecified"),
    "access path": (
        "Add-PartitionAccessPath",
        {"DiskNumber": 1, "PartitionNumber": 2, "AccessPath": "C:\\missing"},
        "StorageWMI 42007",
        "NotSpecified",
    ),
    "letter": (
        "Add-PartitionAccessPath",
        {"DiskNumber": 1, "PartitionNumber": 2, "AccessPath": "C:"},
        "StorageWMI 42002",
        "NotSpecified",
    ),
    "portal": ("New-IscsiTargetPortal", {"TargetPortalAddress": "10.9.9.9"}, "HRESULT 0xefff0003", "NotSpecified"),
    "target": ("Connect-IscsiTarget", {"NodeAddress": "iqn.x"}, "HRESULT 0xefff0009", "NotSpecified"),
    "login": (
        "Connect-IscsiTarget",
        {"NodeAddress": TARGET, "TargetPortalAddress": PORTAL},
        "HRESULT 0xefff003f",
        "NotSpecified",
    ),
    "logout": ("Disconnect-IscsiTarget", {"NodeAddress": TARGET}, "HRESULT 0xefff0040", "NotSpecified"),
    "vm name": ("Get-VM", {"Name": "nobody"}, "InvalidParameter", "InvalidArgument"),
    "vm id": ("Get-VM", {"Id": uuid.UUID(int=5)}, "InvalidParameter", "InvalidArgument"),
    "stop": ("Stop-VM", {"Name": "nobody"}, "InvalidParameter", "InvalidArgument"),
    "no disk": ("Start-VM", {"Name": "broken"}, "OperationFailed", "NotSpecified"),
    "vhd": ("Get-VHD", {"Path": "V:\\missing.vhd"}, "ObjectNotFound", "ObjectNotFound"),
    "not a vhd": ("Get-VHD", {"Path": "V:\\text.vhd"}, "OperationFailed", "NotSpecified"),
    "vhd exists": (
        "New-VHD",
        {"Path": "V:\\empty.vhd", "SizeBytes": 8 << 20, "Dynamic": True},
        "OperationFailed",
        "NotSpecified",
    ),
    "drive": ("Add-VMHardDiskDrive", {"VMName": "empty", "Path": "V:\\no.vhd"}, "OperationFailed", "NotSpecified"),
    "place": (
        "Add-VMHardDiskDrive",
        {
            "VMName": "broken",
            "ControllerType": "IDE",
            "ControllerNumber": 0,
            "ControllerLocation": 0,
            "Path": "V:\\empty.vhd",
        },
        "InvalidOperation",
        "InvalidOperation",
    ),
    "switch": ("Get-VMSwitch", {"Name": "nothing"}, "InvalidParameter", "InvalidArgument"),
    "connect": (
        "Connect-VMNetworkAdapter",
        {"VMName": "empty", "SwitchName": "nothing"},
        "InvalidParameter",
        "InvalidArgument",
    ),
    "checkpoint": ("Get-VMSnapshot", {"VMName": "empty", "Name": "x"}, "InvalidParameter", "InvalidArgument"),
    "import": ("Import-VM", {"Path": "V:\\no.vmcx", "Register": True}, "InvalidParameter", "InvalidArgument"),
    "not a vm": ("Import-VM", {"Path": "V:\\text.vhd", "Register": True}, "OperationFailed", "NotSpecified"),
    "item": ("Get-Item", {"LiteralPath": "V:\\no"}, "PathNotFound", "ObjectNotFound"),
    "listing": ("Get-ChildItem", {"LiteralPath": "V:\\no"}, "PathNotFound", "ObjectNotFound"),
    "drive letter": ("Get-Item", {"LiteralPath": "Y:\\no"}, "DriveNotFound", "ObjectNotFound"),
    "content": ("Get-Content", {"LiteralPath": "V:\\no"}, "PathNotFound", "ObjectNotFound"),
    "directory": ("New-Item", {"Path": "V:\\empty", "ItemType": "Directory"}, "DirectoryExist", "ResourceExists"),
    "file": ("New-Item", {"Path": "V:\\text.vhd", "ItemType": "File"}, "NewItemIOError", "WriteError"),
    "children": ("Remove-Item", {"LiteralPath": "V:\\empty"}, "InvalidOperation", "InvalidOperation"),
    "rename": ("Rename-Item", {"LiteralPath": "V:\\text.vhd", "NewName": "empty"}, "RenameItemIOError", "WriteError"),
    "copy": (
        "Copy-Item",
        {"LiteralPath": "V:\\text.vhd", "Destination": "V:\\no\\x"},
        "System.IO.DirectoryNotFoundException",
        "NotSpecified",
    ),
    "write": (
        "Set-Content",
        {"LiteralPath": "V:\\no\\x", "Value": "x"},
        "GetContentWriterDirectoryNotFoundError",
        "ObjectNotFound",
    ),
    "hash": ("Get-FileHash", {"LiteralPath": "V:\\no"}, "FileNotFound", "ObjectNotFound"),
    "key": ("Get-ItemProperty", {"LiteralPath": "HKLM:\\no"}, "PathNotFound", "ObjectNotFound"),
    "events": (
        "Get-WinEvent",
        {"FilterHashtable": {"LogName": "System", "Id": 1}},
        "NoMatchingEventsFound",
        "ObjectNotFound",
    ),
    "no filter": ("Get-WinEvent", {"FilterHashtable": {"Id": 1}}, "LogProviderOrPathNeeded", "InvalidArgument"),
    "bad time": (
        "Get-WinEvent",
        {"FilterHashtable": {"LogName": "System", "StartTime": "yesterday"}},
        "BadEndTime",
        "InvalidArgument",
    ),
    "no event": (
        "Get-WinEvent",
        {"LogName": "System", "MaxEvents": 0},
        "ParameterArgumentValidationError",
        "InvalidData",
    ),
    "root": ("Remove-Item", {"LiteralPath": "V:\\", "Recurse": True}, "InvalidOperation", "InvalidOperation"),
    "log": ("Get-WinEvent", {"LogName": "Nothing"}, "NoMatchingLogsFound", "ObjectNotFound"),
    "class": ("Get-CimInstance", {"ClassName": "Win32_Nothing"}, "HRESULT 0x80041010", "MetadataError"),
    "service": ("Get-Service", {"Name": "nothing"}, "NoServiceFoundForGivenName", "ObjectNotFound"),
    "sql server": (
        "Invoke-Sqlcmd",
        {"ServerInstance": "nobody", "Username": "a", "Password": "b", "Query": "x"},
        "SqlExceptionError",
        "InvalidOperation",
    ),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A volume V:, a raw disk, an offline disk, a VM without disks and one whose disk is gone."""
    bench = Bench(tmp_path_factory.mktemp("errors"))

    async def build() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.online(bench.lun("raw"))
        bench.lun("offline", GIB)
        await bench.run("Update-HostStorageCache")
        await bench.run("New-VM", Name="empty", NoVHD=True, Path="V:\\")
        await bench.run("New-VM", Name="broken", NewVHDPath="V:\\gone.vhd", NewVHDSizeBytes=8 << 20, Path="V:\\")
        await bench.run("Remove-Item", LiteralPath="V:\\gone.vhd")
        await bench.run("New-VHD", Path="V:\\empty.vhd", SizeBytes=8 << 20, Dynamic=True)
        await bench.run("Set-Content", LiteralPath="V:\\text.vhd", Value="no disk at all")

    asyncio.run(build())
    return bench


@pytest.mark.parametrize("case", sorted(CASES))
def test_error_id(site: Bench, case: str) -> None:
    """Each failure has the error id and the category that Windows gives it."""
    cmdlet, given, error_id, category = CASES[case]
    error: PsError = asyncio.run(site.fails(cmdlet, **given))
    assert (error.error_id, error.category) == (error_id, category), error.message


def test_wrong_state(bench: Bench) -> None:
    """A running VM is not removed or saved twice; starting it again only warns."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.vm("sql01", "V:\\")
        error = await bench.fails("Remove-VM", Name="sql01", Force=True)
        assert (error.error_id, error.category) == ("InvalidState", "InvalidOperation")
        error = await bench.fails("Set-VM", Name="sql01", ProcessorCount=4)
        assert error.error_id == "InvalidState"
        assert await bench.run("Start-VM", Name="sql01") == []
        error = await bench.fails(
            "Add-VMHardDiskDrive", VMName="sql01", ControllerType="IDE", Path="V:\\sql01\\vhd0.vhd"
        )
        assert error.error_id in ("InvalidState", "InvalidOperation")

    asyncio.run(go())


def test_import_refusals(bench: Bench) -> None:
    """Import-VM refuses an id that is registered and a switch that is missing; Compare-VM names each."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.run("New-VMSwitch", Name="Production", SwitchType="Private")
        vm = (await bench.run("New-VM", Name="a", NoVHD=True, Path="V:\\", SwitchName="Production"))[0]
        path = f"V:\\a\\Virtual Machines\\{str(vm.properties['Id']).upper()}.vmcx"
        assert (await bench.fails("Import-VM", Path=path, Register=True)).error_id == "OperationFailed"
        data = bench.host.files.read(path)
        await bench.run("Remove-VM", Name="a", Force=True)
        bench.host.files.write(path, data)
        await bench.run("Remove-VMSwitch", Name="Production", Force=True)
        report = (await bench.run("Compare-VM", Path=path, Register=True))[0]
        assert [i.properties["MessageId"] for i in report.properties["Incompatibilities"].items] == [33012]
        assert (await bench.fails("Import-VM", Path=path, Register=True)).error_id == "OperationFailed"
        await bench.run("New-VMSwitch", Name="Production", SwitchType="Private")
        await bench.run("Import-VM", Path=path, Register=True)
        await bench.run("New-VMSwitch", Name="Isolated", SwitchType="Private")
        await bench.run("Connect-VMNetworkAdapter", VMName="a", SwitchName="Isolated")
        await bench.run("Remove-VMSwitch", Name="Production", Force=True)
        adapter = (await bench.run("Get-VMNetworkAdapter", VMName="a"))[0]
        assert [adapter.properties[n] for n in ("SwitchName", "Connected")] == ["Isolated", True]

    asyncio.run(go())


def test_sql_login_is_needed(bench: Bench) -> None:
    """A wrong SQL password is refused before the statement is looked at."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.vm("sql01", "V:\\")
        bench.host.logins.add("smhv", "right")
        error = await bench.fails("Invoke-Sqlcmd", ServerInstance="sql01", Username="smhv", Password="x", Query="?")
        assert "Login failed" in error.message

    asyncio.run(go())
