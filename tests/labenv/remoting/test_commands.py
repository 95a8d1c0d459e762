"""Commands of an unmodified pypsrp client: output, streams, errors."""

from __future__ import annotations

from typing import Any

from pypsrp.powershell import RunspacePool

from .conftest import VM_ID, command


def test_string_result(pool: RunspacePool) -> None:
    """A string comes back as a string."""
    assert command(pool, "Get-Service", {"Name": "hello"}).invoke() == ["hello"]


def test_object_result(pool: RunspacePool) -> None:
    """An object arrives with its type names and the types of its properties."""
    shell = command(pool, "Get-VM", {"Name": "vm1", "ErrorAction": "Stop"})
    (found,) = shell.invoke()
    assert not shell.had_errors
    assert found.types[0] == "Microsoft.HyperV.PowerShell.VirtualMachine"
    values: dict[str, Any] = found.adapted_properties
    assert values["Id"] == VM_ID
    assert values["State"] == "Running"
    assert values["Uptime"] == "PT1H"
    assert values["MemoryAssigned"] == 1 << 31
    assert values["IsClustered"] is False
    assert values["ParentSnapshotId"] is None
    assert values["HardDrives"] == ["Hard Drive on IDE controller number 0 at location 0"]
    assert found.extended_properties["VMName"] == "vm1"


def test_error(pool: RunspacePool) -> None:
    """ErrorAction Stop fails the pipeline with the cmdlet's error record."""
    shell = command(pool, "Get-VM", {"Name": "nobody", "ErrorAction": "Stop"})
    assert shell.invoke() == []
    assert shell.had_errors
    (error,) = shell.streams.error
    assert error.fq_error == "InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM"
    assert error.target_object == "nobody"
    assert error.category == 5
