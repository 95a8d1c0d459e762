"""The PowerShell wire against labenv's remoting: requests, results, waves, failures, and what is never sent."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from canned_server import Authority
from remote_host import PASSWORD, START, VM_IDS, RemoteHost

from smhvlab.brake import Brake
from smhvlab.errors import (
    Cancelled,
    ConnectionFailed,
    HostDown,
    NotAllowed,
    PowerShellError,
    QuotaReached,
    ReadOnlyRefused,
    SessionLost,
    TimedOut,
    UnknownOutcome,
    Unsendable,
    UntrustedCertificate,
    WrongPassword,
)
from smhvlab.profile import HostEndpoint
from smhvlab.secrets import Secret
from smhvlab.wires.control import Phase, WireControl, WireRequest
from smhvlab.wires.log import WireLog
from smhvlab.wires.powershell import PowerShellWire
from smhvlab.wires.records import decode
from smhvlab.wires.values import Credential
from smhvlab.wires.wave import collect


def wire(
    remote: RemoteHost, *, endpoint: HostEndpoint | None = None, password: str = PASSWORD, **options: Any
) -> PowerShellWire:
    """A wire to the made-up host."""
    return PowerShellWire(endpoint or remote.endpoint(), Secret(password), **{"log": WireLog()} | options)


def test_objects_come_back_as_records(remote: RemoteHost) -> None:
    """Properties by name in any case, enums as names, lists as lists, ids and times as Python's own types."""
    with wire(remote) as host:
        vm, other = host.run("Get-VM")
        assert (vm["name"], vm["STATE"], vm["VMName"]) == ("sql01", "Running", "sql01")
        assert vm["Id"] == VM_IDS["sql01"]
        assert type(vm["Id"]) is UUID
        assert vm["CreationTime"] == START
        assert vm["ParentSnapshotId"] is None
        assert vm["IsClustered"] is False
        assert vm["NetworkAdapters"] == ["nic0"]
        assert vm.is_a("VirtualMachine")
        assert str(vm) == "VirtualMachine (Name = 'sql01')"
        assert other["Name"] == "web01"
        with pytest.raises(KeyError, match="VirtualMachine has no property Nmae"):
            vm["Nmae"]


def test_select_object_brings_one_level_more(remote: RemoteHost) -> None:
    """With `select` nested objects come whole, and only the named properties come."""
    with wire(remote) as host:
        (vm,) = host.run("Get-VM", {"Name": "sql01"}, select=["Name", "State", "NetworkAdapters"])
        assert list(vm) == ["Name", "State", "NetworkAdapters"]
        assert vm["State"] == "Running"
        assert vm["NetworkAdapters"][0]["Name"] == "nic0"


def test_plain_values_and_warnings(remote: RemoteHost) -> None:
    """Strings come as strings; the warning stream comes along."""
    with wire(remote) as host:
        output = host.run("Get-Content", {"LiteralPath": "C:\\x"})
        assert output == ["first", "second"]
        assert output.warnings == ("read with care",)


def test_an_error_has_id_category_and_target(remote: RemoteHost) -> None:
    """A terminating error is a PowerShellError to branch on by its id, not by its words."""
    with wire(remote) as host, pytest.raises(PowerShellError) as caught:
        host.run("Get-VM", {"Name": "nope"})
    error = caught.value
    assert error.code == "InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM"
    assert (error.error_id, error.category, error.target) == ("InvalidParameter", "InvalidArgument", "nope")
    assert error.exception.endswith("VirtualizationException")
    assert error.hresult is not None
    assert error.hresult > 0


def test_a_batch_names_the_targets_that_failed(remote: RemoteHost) -> None:
    """With error_action Continue the rest goes on, and each error names its target."""
    with wire(remote) as host:
        output = host.run("Get-VM", {"Name": ["nope", "sql01", "neither"]}, error_action="Continue")
        assert [vm["Name"] for vm in output] == ["sql01"]
        assert [error.target for error in output.errors] == ["nope", "neither"]
        assert host.log.entries[0].ok


def test_parameters_arrive_with_their_declared_types(remote: RemoteHost) -> None:
    """Numbers beyond 32 bits, switches, spans, text of any kind: what the cmdlet gets is what was meant."""
    text = 'it\'s "quoted"\n_x000A_ é 🙂 \u2019'
    with wire(remote) as host:
        host.run(
            "Set-VM",
            {
                "Name": ["a", "b"],
                "MemoryStartupBytes": 3 * 2**30,
                "ProcessorCount": 4,
                "DynamicMemory": True,
                "Notes": text,
                "AutomaticStartDelay": 30,
            },
        )
        host.run("Set-Content", {"LiteralPath": "C:\\x", "Value": ["one", "two"], "NoNewline": False})
    (_, given), (_, content) = remote.calls
    assert given["MemoryStartupBytes"] == 3 * 2**30
    assert given["Notes"] == text
    assert (given["Name"], given["ProcessorCount"], given["DynamicMemory"]) == (["a", "b"], 4, True)
    assert content["Value"] == ["one", "two"]


def test_a_pair_acts_on_one_object(remote: RemoteHost) -> None:
    """The second half gets the object that the first half selected by id."""
    with wire(remote) as host:
        host.pair(("Get-VM", {"Id": VM_IDS["web01"]}), ("Stop-VM", {"TurnOff": True, "Force": True}))
        entry = host.log.entries[0]
    ((name, given),) = remote.calls
    assert (name, [vm.properties["Name"] for vm in given["VM"]]) == ("Stop-VM", ["web01"])
    assert not entry.reads
    assert entry.powershell() == (
        "Get-VM -Id '00000000-0000-0000-0000-000000000002' -ErrorAction Stop | "
        "Stop-VM -TurnOff -Force -Confirm:$false -ErrorAction Stop"
    )


def test_a_native_program_and_its_exit_code(remote: RemoteHost) -> None:
    """Arguments are positional; the exit code comes from a second statement of the same pipeline."""
    with wire(remote) as host:
        result = host.native("diskshadow.exe", "/s", "C:\\my scripts\\x.dsh")
        assert result.exit_code == 3
        assert result.lines == ("Microsoft DiskShadow", "/s", "C:\\my scripts\\x.dsh")
        assert host.log.entries[0].powershell() == (
            "diskshadow.exe /s 'C:\\my scripts\\x.dsh'; Get-Variable -Name LASTEXITCODE -ValueOnly"
        )


def test_a_wave_runs_side_by_side(remote: RemoteHost) -> None:
    """Commands that were begun before collecting take as long as one of them, in lab time, in a fixed order."""
    with wire(remote) as host:
        before = host.now()
        wave = (host.begin("New-VMSwitch", {"Name": name, "SwitchType": "Private"}) for name in "abc")
        assert collect(wave) == [["a"], ["b"], ["c"]]
        assert host.now() - before == timedelta(seconds=5)
    assert [call for call in remote.calls if call[0] == "begin"] == [("begin", name) for name in "abc"]


def test_a_wave_is_waited_for_even_if_one_fails(remote: RemoteHost) -> None:
    """The first failure is raised when all have ended; each one's own outcome stays with it."""
    with wire(remote) as host:
        wave = [
            host.begin("Get-VM", {"Name": "nope"}),
            host.begin("New-VMSwitch", {"Name": "late", "SwitchType": "Private"}),
        ]
        with pytest.raises(PowerShellError):
            collect(iter(wave))
        assert wave[1].output == ["late"]
        assert [entry.number for entry in host.log.entries] == [1, 2]
    assert ("end", "late") in remote.calls


def test_the_hosts_clock(remote: RemoteHost) -> None:
    """`sleep` and `now` go through the host, so they are lab time, and they are not counted as requests."""
    with wire(remote) as host:
        before = host.now()
        host.sleep(90)
        host.sleep(0.25)
        after = host.now()
        assert after - before == timedelta(seconds=90.25)
        assert before.tzinfo is UTC
        assert host.log.counts().total == 0


def test_cancel_stops_what_runs(remote: RemoteHost) -> None:
    """A cancelled wave is stopped on the host, command by command, and the session stays usable."""
    control, brake = WireControl(), Brake()
    with wire(remote, control=control) as host, control.obeying(brake):
        host.run("Get-VM")
        wave = [host.begin("New-VMSwitch", {"Name": "Forever", "SwitchType": "Private"}) for _ in range(2)]
        brake.pull()
        with pytest.raises(Cancelled):
            collect(iter(wave))
        assert [entry.status for entry in host.log.entries[1:]] == ["Stopped", "Stopped"]
        with pytest.raises(Cancelled):
            host.run("Get-VM")
        brake.release()
        assert len(host.run("Get-VM")) == 2
    assert ("end", "Forever") not in remote.calls


def test_a_command_that_never_ends_is_stopped(remote: RemoteHost) -> None:
    """After its time a read is a time-out and a change has an unknown outcome; both are stopped on the host."""
    with wire(remote, timeout=0.0) as host:
        with pytest.raises(UnknownOutcome):
            host.run("New-VMSwitch", {"Name": "Forever", "SwitchType": "Private"})
        with pytest.raises(TimedOut):
            host.run("Get-Content", {"LiteralPath": "Forever"})
        assert [entry.code for entry in host.log.entries] == ["UnknownOutcome", "TimedOut"]
        assert host.run("Get-Content", {"LiteralPath": "x"}, timeout=30.0)


def test_read_only_refuses_before_anything_leaves(remote: RemoteHost) -> None:
    """Under read_only a change is neither sent nor logged, whatever its shape."""
    with wire(remote, read_only=True) as host:
        host.run("Get-VM")
        for change in (
            lambda: host.run("Set-VM", {"Name": "sql01", "Notes": "x"}),
            lambda: host.pair(("Get-VM", {"Id": VM_IDS["sql01"]}), ("Stop-VM", {})),
            lambda: host.native("diskshadow.exe", "/s", "x.dsh"),
            lambda: host.native("vssadmin.exe", "delete", "shadows"),
            lambda: host.begin("Remove-Item", {"LiteralPath": "C:\\x"}),
        ):
            with pytest.raises(ReadOnlyRefused):
                change()
        assert host.log.counts().total == 1
    assert remote.calls == []


@pytest.mark.parametrize(
    ("name", "parameters", "options"),
    [
        ("Get-VM; Remove-Item C:\\", {}, {}),
        ("Invoke-Command", {"ScriptBlock": "whoami"}, {}),
        ("Invoke-Expression", {"Command": "whoami"}, {}),
        ("Get-VM", {"Nmae": "x"}, {}),
        ("Get-VM", {"ComputerName": "other"}, {}),
        ("Stop-VM", {"Name": "x", "Force": "yes"}, {}),
        ("Stop-VM", {"Name": "x", "Force": None}, {}),
        ("Start-Sleep", {"Seconds": 2**40}, {}),
        ("Get-VM", {"Name": object()}, {}),
        ("Get-VM", {}, {"select": []}),
        ("Get-VM", {}, {"select": ["Name", {"Expression": "whoami"}]}),
        ("Get-VM", {}, {"select": ["@{n='x';e={whoami}}"]}),
        ("Get-VM", {}, {"error_action": "SilentlyContinue"}),
    ],
)
def test_what_is_never_sent(name: str, parameters: dict[str, Any], options: dict[str, Any]) -> None:
    """Script text, unknown cmdlets and parameters, wrong types: refused without any connection."""
    nowhere = HostEndpoint(name="hv1", host="192.0.2.1", user="x")
    with PowerShellWire(nowhere, Secret("x" * 8), log=WireLog()) as host:
        with pytest.raises(Unsendable):
            host.run(name, parameters, **options)
        assert host.log.counts().total == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("Get-VM", {"Name": "sql01"}), ("Stop-VM", {})),
        (("Get-VM", {"Id": "*"}), ("Stop-VM", {})),
        (("Get-VM", {"Id": [UUID(int=1), UUID(int=2)]}), ("Stop-VM", {})),
        (("Get-VM", {"Id": UUID(int=1), "Name": "x"}), ("Stop-VM", {})),
        (("Get-VM", {}), ("Remove-VM", {"Force": True})),
        (("Get-VM", {"Id": UUID(int=1)}), ("Remove-Item", {})),
        (("Get-ClusterResource", {"Name": "Disk*"}), ("Set-ClusterParameter", {"Name": "a", "Value": "b"})),
        (("Get-Disk", {"UniqueId": ""}), ("Add-ClusterDisk", {})),
    ],
)
def test_pairs_that_are_refused(first: Any, second: Any) -> None:
    """Only pairs of the list, and only with a first half that names exactly one object by its identity."""
    nowhere = HostEndpoint(name="hv1", host="192.0.2.1", user="x")
    with PowerShellWire(nowhere, Secret("x" * 8), log=WireLog()) as host, pytest.raises(Unsendable):
        host.pair(first, second)


def test_a_second_hop_needs_credentials_that_travel(remote: RemoteHost) -> None:
    """Cmdlets that go on to another computer are refused where the session cannot delegate."""
    with wire(remote) as host, pytest.raises(NotAllowed):
        host.run("Add-ClusterVirtualMachineRole", {"VMId": VM_IDS["sql01"]})
    with wire(remote, endpoint=remote.endpoint(configuration_name="SmhvLab")) as host:
        host.run("Add-ClusterVirtualMachineRole", {"VMId": VM_IDS["sql01"]})
    assert [name for name, _ in remote.calls] == ["Add-ClusterVirtualMachineRole"]


def test_a_credential_is_encrypted_on_the_wire(remote: RemoteHost) -> None:
    """A -Credential travels as user and encrypted password, and stands as a variable in the log."""
    given = {"VMId": VM_IDS["sql01"], "Credential": Credential("LAB\\sa", Secret("top secret!")), "Database": ["aa1"]}
    with wire(remote) as host:
        host.run("Invoke-SmhvGuestCheck", given)
        text = host.log.entries[0].powershell()
    assert text == (
        "Invoke-SmhvGuestCheck -VMId '00000000-0000-0000-0000-000000000001' -Credential $Credential "
        "-Database @('aa1') -ErrorAction Stop"
    )
    assert "Credential" in remote.calls[0][1]


def test_sessions_that_cannot_be_opened(remote: RemoteHost, stranger: Authority, unused_port: int) -> None:
    """No listener, an unknown CA, a wrong password and an exhausted quota are four different errors."""
    with wire(remote, endpoint=remote.endpoint(port=unused_port)) as host, pytest.raises(HostDown):
        host.run("Get-VM")
    with wire(remote, endpoint=remote.endpoint(ca_file=str(stranger.ca))) as host, pytest.raises(UntrustedCertificate):
        host.run("Get-VM")
    with wire(remote, password="wrong") as host, pytest.raises(WrongPassword) as caught:
        host.run("Set-VM", {"Name": "x"})
    assert "wrong" not in str(caught.value)
    with ExitStack() as opened:
        wires = [opened.enter_context(wire(remote)) for _ in range(5)]
        for host in wires[:4]:
            host.run("Get-VM")
        with pytest.raises(QuotaReached):
            wires[4].run("Get-VM")


def test_negotiate_over_https(remote: RemoteHost) -> None:
    """The default authentication works too."""
    with wire(remote, endpoint=remote.endpoint(authentication="negotiate")) as host:
        assert len(host.run("Get-VM")) == 2


def test_a_lost_session_is_opened_again(remote: RemoteHost) -> None:
    """When the host has forgotten the session it has run nothing: the command is sent in a new one, once."""
    with wire(remote) as host:
        host.run("Get-VM")
        remote.forget_shells()
        host.run("Set-VM", {"Name": "sql01", "Notes": "x"})
        remote.forget_shells()
        assert len(host.run("Get-VM")) == 2
    assert [name for name, _ in remote.calls] == ["Set-VM"]


def test_a_change_whose_reply_is_lost_is_not_repeated(remote: RemoteHost) -> None:
    """The session dies while a change runs: its outcome is unknown, and the next request opens a new session."""
    with wire(remote) as host:
        host.run("Get-VM")
        running = host.begin("New-VMSwitch", {"Name": "Forever", "SwitchType": "Private"})
        remote.forget_shells()
        with pytest.raises(UnknownOutcome):
            host.wait(running)
        assert len(host.run("Get-VM")) == 2
    assert remote.calls == [("begin", "Forever")]


def test_a_session_that_dies_takes_its_whole_wave(remote: RemoteHost) -> None:
    """When a session dies, every command of the wave gets an outcome: lost for reads, unknown for changes."""
    with wire(remote) as host:
        wave = [
            host.begin("New-VMSwitch", {"Name": "Forever", "SwitchType": "Private"}),
            host.begin("Get-Content", {"LiteralPath": "Forever"}),
            host.begin("New-VMSwitch", {"Name": "Forever", "SwitchType": "Private"}),
        ]
        remote.forget_shells()
        with pytest.raises(UnknownOutcome):
            collect(iter(wave))
        assert [type(one.error) for one in wave] == [UnknownOutcome, SessionLost, UnknownOutcome]
        assert [entry.status for entry in host.log.entries] == ["0", "0", "0"]


def test_variables_of_the_machine_are_not_used(
    remote: RemoteHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Proxy and CA variables do not reach the wire."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "no such file"))
    with wire(remote) as host:
        assert len(host.run("Get-VM")) == 2


def test_a_proxy_that_is_down(remote: RemoteHost, unused_port: int) -> None:
    """The profile's proxy is used, and told apart from the host when it fails."""
    with wire(remote, proxy=f"http://127.0.0.1:{unused_port}") as host, pytest.raises(ConnectionFailed, match="proxy"):
        host.run("Get-VM")


def test_the_seam_may_kill_before_and_after(remote: RemoteHost) -> None:
    """The seam's exception goes through untouched; before it nothing was run, after it everything was."""

    class Kill(BaseException):
        pass

    kill_at: list[Phase] = []

    def seam(request: WireRequest, phase: Phase) -> None:
        if request.title == "Set-VM" and phase in kill_at:
            raise Kill

    with wire(remote, control=WireControl(seam=seam)) as host:
        for phase, ran in ((Phase.BEFORE, 0), (Phase.AFTER, 1)):
            kill_at[:] = [phase]
            with pytest.raises(Kill):
                host.run("Set-VM", {"Name": "sql01"})
            assert len(remote.calls) == ran


def test_one_thread_owns_a_wire(remote: RemoteHost) -> None:
    """pypsrp's pools are not made for several threads; a second one is told so, until the wire was closed."""
    caught: list[Exception] = []

    def elsewhere() -> None:
        try:
            host.run("Get-VM")
        except RuntimeError as error:
            caught.append(error)

    with wire(remote) as host:
        host.run("Get-VM")
        for expected in (1, 1):
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert len(caught) == expected
            host.close()


def test_secrets_stay_out_of_the_log(remote: RemoteHost) -> None:
    """Neither the session's password nor a -Password parameter appears in an entry."""
    query = {"Query": "SELECT COUNT(*) FROM rows", "Username": "sa", "Password": "p4ssw0rd", "Database": "aa1"}
    with wire(remote) as host:
        with pytest.raises(PowerShellError):
            host.run("Invoke-Sqlcmd", query)
        with pytest.raises(PowerShellError):
            host.run("Get-VM", {"Name": PASSWORD})
        first, second = host.log.entries
        whole = repr(host.log.entries)
    assert "-Username 'sa' -Password $Password" in first.request
    assert first.reads
    assert "-Name '***'" in second.request
    assert "p4ssw0rd" not in whole
    assert PASSWORD not in whole


def test_a_moment_from_a_host_is_aware(remote: RemoteHost) -> None:
    """The host's time is UTC and aware."""
    with wire(remote) as host:
        assert host.now() >= datetime(2026, 1, 5, tzinfo=UTC)


def test_polls_are_not_counted(remote: RemoteHost) -> None:
    """What a flow asks again and again until something has happened is no request of its own."""
    seen: list[str] = []
    control = WireControl(seam=lambda request, _: seen.append(request.title))
    with wire(remote, control=control) as host:
        with host.polling():
            host.run("Get-VM")
        host.run("Get-VM", {"Name": "sql01"})
        assert host.log.counts().total == 1
    assert seen == ["Get-VM", "Get-VM"]


def test_a_recorder_keeps_what_the_host_said(remote: RemoteHost) -> None:
    """The raw objects of a real host can be kept, each with the line that asked for it."""
    kept: list[tuple[str, str]] = []
    with wire(remote, recorder=lambda line, xml: kept.append((line, xml))) as host:
        (vm,) = host.run("Get-VM", {"Name": "sql01"})
    ((line, xml),) = kept
    assert line == "Get-VM -Name 'sql01' -ErrorAction Stop"
    assert decode(xml) == vm


def test_an_interrupt_stops_what_runs(remote: RemoteHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during a wait stops the commands on the host before it goes on."""
    with wire(remote) as host:
        running = host.begin("New-VMSwitch", {"Name": "Forever", "SwitchType": "Private"})

        def interrupted(*_: object) -> bool:
            raise KeyboardInterrupt

        monkeypatch.setattr("smhvlab.wires.session.Session.poll", interrupted)
        with pytest.raises(KeyboardInterrupt):
            host.wait(running)
        monkeypatch.undo()
        assert [(entry.status, entry.code) for entry in host.log.entries] == [("Stopped", "KeyboardInterrupt")]
        assert len(host.run("Get-VM")) == 2
