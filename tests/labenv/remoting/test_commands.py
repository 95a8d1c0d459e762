"""Commands of an unmodified pypsrp client: output, streams, errors, stop, several at once."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psrpcore.types
import pytest
from pypsrp.complex_objects import GenericComplexObject, PSCredential, PSInvocationState
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.serializer import TaggedValue

from .conftest import VM_ID, Server, command, parsed


def failure(shell: PowerShell) -> Any:
    """The one error of a pipeline that failed."""
    shell.invoke()
    assert shell.had_errors
    (error,) = shell.streams.error
    return error


def test_string_result(pool: RunspacePool) -> None:
    """A string comes back as a string."""
    assert command(pool, "Get-Service", {"Name": "hello"}).invoke() == ["hello"]


@pytest.mark.parametrize(
    "text", ["plain", "ümläut 😀", "line\r\nbreak\ttab", "_x000A_ literal", "<&>\"'", "\x00\x1f\x85"]
)
def test_text_survives_both_ways(pool: RunspacePool, text: str) -> None:
    """Every character that a parameter can hold comes back unchanged."""
    assert command(pool, "Get-Service", {"Name": text}).invoke() == [text]


def test_object_result(pool: RunspacePool) -> None:
    """An object arrives with its live type names and the types of its properties."""
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


def test_generic_list_is_decoded_by_psrpcore(pool: RunspacePool) -> None:
    """A generic list, which pypsrp loses, is whole in the message: psrpcore reads it."""
    (found,) = command(pool, "Get-VM", {"Name": "vm1"}).invoke()
    decoded: Any = psrpcore.types.deserialize(parsed(found._xml), None)  # type: ignore[arg-type]
    assert list(decoded.NetworkAdapters) == ["nic0"]


def test_selected_properties_keep_order_and_gain_a_level(pool: RunspacePool) -> None:
    """Select-Object gives a Selected object, in the order asked for, with null for what is missing."""
    names = ["state", "Nothing", "HardDrives", "VMName"]
    (found,) = command(pool, "Get-VM", {"Name": "vm1"}, names).invoke()
    assert isinstance(found, GenericComplexObject)
    assert found.types[0] == "Selected.Microsoft.HyperV.PowerShell.VirtualMachine"
    values: dict[str, Any] = found.extended_properties
    assert list(values) == ["State", "Nothing", "HardDrives", "VMName"]
    assert values["State"].to_string == "Running"
    assert values["Nothing"] is None
    assert values["HardDrives"][0].adapted_properties["Path"] == "C:\\VMs\\vm1.vhdx"
    assert values["HardDrives"][0].adapted_properties["ControllerType"] == "IDE"


def test_terminating_error_has_id_category_reason_target(pool: RunspacePool) -> None:
    """ErrorAction Stop fails the pipeline with the cmdlet's error record."""
    error = failure(command(pool, "Get-VM", {"Name": "nobody", "ErrorAction": "Stop"}))
    assert error.fq_error == "InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM"
    assert error.target_object == "nobody"
    assert (error.category, error.activity, error.reason) == (5, "Get-VM", "VirtualizationException")
    assert error.message == "InvalidArgument: (nobody:String) [Get-VM], VirtualizationException"
    assert error.exception.types[0] == "Microsoft.HyperV.PowerShell.VirtualizationException"


def test_non_terminating_error_leaves_the_pipeline_completed(pool: RunspacePool) -> None:
    """With Continue the other objects arrive and the error is in its stream."""
    shell = command(pool, "Get-VM", {"Name": ["vm1", "nobody", "vm2"]})
    found = shell.invoke()
    assert [vm.adapted_properties["Name"] for vm in found] == ["vm1", "vm2"]
    assert not shell.had_errors
    assert [error.target_object for error in shell.streams.error] == ["nobody"]


def test_errors_can_be_silenced(pool: RunspacePool) -> None:
    """SilentlyContinue hides errors."""
    shell = command(pool, "Get-VM", {"Name": ["nobody", "vm1"], "ErrorAction": "SilentlyContinue"})
    assert len(shell.invoke()) == 1
    assert shell.streams.error == []


def test_other_streams(pool: RunspacePool) -> None:
    """Warning, verbose and progress arrive; verbose only when asked for, warnings unless silenced."""
    shell = command(pool, "Get-Service", {"Name": "x", "Verbose": True})
    shell.invoke()
    assert [str(w) for w in shell.streams.warning] == ["a warning"]
    assert [str(v) for v in shell.streams.verbose] == ["a detail"]
    assert [(p.activity, p.percent_complete) for p in shell.streams.progress] == [
        ("Preparing modules for first use.", 50)
    ]
    quiet = command(pool, "Get-Service", {"Name": "x", "WarningAction": "SilentlyContinue"})
    quiet.invoke()
    assert quiet.streams.warning == []
    assert quiet.streams.verbose == []


def test_unknown_command(pool: RunspacePool) -> None:
    """A name that is no command gives CommandNotFoundException with the name as target."""
    error = failure(command(pool, "Get-Nothing"))
    assert error.fq_error == "CommandNotFoundException"
    assert (error.category, error.target_object) == (13, "Get-Nothing")


def test_known_but_not_implemented_command(pool: RunspacePool) -> None:
    """A cmdlet that Windows has and the lab has not says so."""
    error = failure(command(pool, "Get-VMHost"))
    assert error.fq_error.startswith("NotImplementedByLab,")


def test_script_is_refused(pool: RunspacePool) -> None:
    """Script text does not run, whatever it is."""
    shell = PowerShell(pool)
    shell.add_script("Get-VM")
    assert failure(shell).fq_error == "ScriptsNotAllowed"
    block = command(pool, "Get-Service", {"Name": TaggedValue("SBK", "Get-VM")})
    assert failure(block).fq_error == "ScriptsNotAllowed"


def test_pair_and_what_is_no_pair(server: Server, pool: RunspacePool) -> None:
    """A listed pair runs the second cmdlet on the object of the first; another pipeline is refused."""
    shell = PowerShell(pool)
    shell.add_cmdlet("Get-VM").add_parameters({"Id": VM_ID, "ErrorAction": "Stop"})
    shell.add_cmdlet("Stop-VM").add_parameters({"TurnOff": True, "Force": True, "Confirm": False})
    shell.invoke()
    assert not shell.had_errors
    ((name, chosen, machines, parameters),) = server.host.log
    assert (name, chosen, machines, parameters["TurnOff"]) == ("Stop-VM", "VMObject", ["vm1"], True)
    assert len(server.commits) == 1
    wrong = PowerShell(pool)
    wrong.add_cmdlet("Get-VM").add_parameter("Name", "vm1").add_cmdlet("Stop-VM")
    assert failure(wrong).fq_error == "PipelineNotAllowed"
    assert len(server.host.log) == 1


def test_pair_without_an_object_does_nothing(server: Server, pool: RunspacePool) -> None:
    """If the first half finds nothing, the second half is not run."""
    shell = PowerShell(pool)
    shell.add_cmdlet("Get-VM").add_parameter("Id", UUID(int=99)).add_cmdlet("Stop-VM")
    assert shell.invoke() == []
    assert not shell.had_errors
    assert server.host.log == []


def test_native_program_and_its_exit_code(pool: RunspacePool) -> None:
    """A native program gives lines of text; the second statement reads its exit code."""
    shell = PowerShell(pool)
    shell.add_cmdlet("diskshadow.exe").add_argument("/s").add_argument("C:\\x.dsh").add_statement()
    shell.add_cmdlet("Get-Variable").add_parameters({"Name": "LASTEXITCODE", "ValueOnly": True})
    assert shell.invoke() == ["Microsoft DiskShadow version 1.0", "/s", "C:\\x.dsh", 2]
    assert command(pool, "Get-Variable", {"Name": "LASTEXITCODE", "ValueOnly": True}).invoke() == [2]
    pool.reset_runspace_state()
    again = command(pool, "Get-Variable", {"Name": "LASTEXITCODE", "ValueOnly": True, "ErrorAction": "Stop"})
    assert failure(again).fq_error.startswith("VariableNotFound,")


def test_other_statements_are_refused(pool: RunspacePool) -> None:
    """Two cmdlets as two statements are not a shape of this session."""
    shell = PowerShell(pool)
    shell.add_cmdlet("Get-VM").add_statement().add_cmdlet("Get-VM")
    assert failure(shell).fq_error == "StatementsNotAllowed"


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_large_output(pool: RunspacePool, size: int) -> None:
    """Output larger than an envelope comes in fragments over several answers."""
    assert command(pool, "Get-Random", {"Maximum": size}).invoke() == ["x" * size]


def test_large_input(server: Server, pool: RunspacePool) -> None:
    """A command larger than an envelope is sent in pieces and arrives whole."""
    text = "é" * 700_000
    command(pool, "Set-Content", {"LiteralPath": "C:\\t", "Value": text}).invoke()
    assert server.host.log == [("Set-Content", ["C:\\t"], [text])]
    assert len(server.commits) == 1


def test_reading_does_not_commit(server: Server, pool: RunspacePool) -> None:
    """A pipeline that only reads ends without a commit."""
    command(pool, "Get-VM").invoke()
    assert server.commits == []


def test_lab_time_passes_for_sleep_only(server: Server, pool: RunspacePool) -> None:
    """Start-Sleep moves lab time by what it sleeps, in no real time; Get-Date tells it."""
    before = server.clock.now
    command(pool, "Start-Sleep", {"Seconds": 86400}).invoke()
    assert server.clock.now - before == 86400 * 1_000_000
    (now,) = command(pool, "Get-Date").invoke()
    assert now.startswith(f"{server.clock.time:%Y-%m-%dT%H:%M:%S}")


def test_several_pipelines_of_one_pool(server: Server) -> None:
    """Four runspaces sleep at once, one runspace sleeps in turn."""
    for runspaces, expected in ((4, 10), (1, 40)):
        with server.pool(runspaces=runspaces) as pool:
            before = server.clock.now
            shells = [command(pool, "Start-Sleep", {"Seconds": 10}) for _ in range(4)]
            for shell in shells:
                shell.begin_invoke()
            for shell in shells:
                shell.end_invoke()
                shell.close()
            assert server.clock.now - before == expected * 1_000_000


def test_simulator_failure_is_told(server: Server, pool: RunspacePool) -> None:
    """A bug in a cmdlet fails that pipeline and is reported, the server goes on."""
    assert failure(command(pool, "Get-Host")).fq_error == "SimulatorFailure"
    assert [type(f) for f in server.failures] == [ZeroDivisionError]
    server.failures.clear()
    assert command(pool, "Get-Service", {"Name": "x"}).invoke() == ["x"]


def test_terminating_error_of_a_changing_cmdlet_still_commits(server: Server, pool: RunspacePool) -> None:
    """What a failed pipeline did before it failed is durable."""
    shell = command(pool, "New-VM", {"Name": "a"})
    assert failure(shell).fq_error == "ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.NewVM"
    assert shell.state == PSInvocationState.FAILED
    assert len(server.commits) == 1


def test_metadata(pool: RunspacePool) -> None:
    """The client can ask which commands there are."""
    (found,) = pool.get_command_metadata("stop-v*")
    assert found.name == "Stop-VM"
    names = [c.adapted_properties["Name"] for c in command(pool, "Get-Command", {"Name": "Get-VM*"}).invoke()]
    assert names == ["Get-VM"]


def test_input_objects_are_refused(pool: RunspacePool) -> None:
    """Objects sent into a pipeline are refused, not silently dropped."""
    shell = command(pool, "Get-VM")
    shell.invoke(["vm1"])
    assert [e.fq_error for e in shell.streams.error] == ["PipelineInputNotAllowed"]


def test_flushing_a_volume_is_a_change(server: Server, pool: RunspacePool) -> None:
    """A cmdlet with a harmless verb that changes something ends in a commit."""
    command(pool, "Write-VolumeCache", {"Path": "x"}).invoke()
    assert len(server.commits) == 1


def test_runspace_counts(pool: RunspacePool) -> None:
    """The pool answers what it is asked about its runspaces, and their number can be changed while it is open."""
    assert pool.get_available_runspaces() == 1
    pool.max_runspaces = 3
    assert pool.get_available_runspaces() == 3


def test_credential_parameter(server: Server, pool: RunspacePool) -> None:
    """A credential arrives decrypted at the cmdlet, after the exchange of keys."""
    pool.exchange_keys()
    secret = PSCredential(username="LAB\\dba", password="pass word é")
    parameters = {"VMId": VM_ID, "Credential": secret, "Database": "aa1"}
    assert command(pool, "Invoke-SmhvGuestCheck", parameters).invoke() == ["LAB\\dba", 11, ["aa1"]]
