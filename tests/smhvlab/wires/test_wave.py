"""Waves against labenv's remoting: what was begun is waited for or stopped, whatever happens to the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from remote_host import PASSWORD, RemoteHost

from smhvlab.brake import Brake
from smhvlab.errors import Cancelled, PowerShellError, UnknownOutcome, Unsendable
from smhvlab.secrets import Secret
from smhvlab.wires.control import Phase, WireControl, WireRequest
from smhvlab.wires.log import WireLog
from smhvlab.wires.powershell import PowerShellWire, Running
from smhvlab.wires.session import Sent, Session
from smhvlab.wires.wave import collect


def wire(remote: RemoteHost, **options: Any) -> PowerShellWire:
    """A wire to the made-up host."""
    return PowerShellWire(remote.endpoint(), Secret(PASSWORD), **{"log": WireLog()} | options)


def switches(*hosts: PowerShellWire, name: str = "Forever") -> Iterator[Running]:
    """A change on each host, which never ends by itself."""
    return (host.begin("New-VMSwitch", {"Name": name, "SwitchType": "Private"}) for host in hosts)


def before_number(wanted: int, act: Callable[[], None]) -> Callable[[WireRequest, Phase], None]:
    """A seam that acts right before request number so and so."""
    left = [wanted]

    def seam(request: WireRequest, phase: Phase) -> None:
        left[0] -= phase is Phase.BEFORE
        if left[0] == 0 and phase is Phase.BEFORE:
            act()

    return seam


def test_a_cancel_between_two_begins_stops_the_first(remote: RemoteHost) -> None:
    """What was begun before the cancel is stopped and logged, on this host and on another one."""
    control, log, brake = WireControl(), WireLog(), Brake()
    control.seam = before_number(2, brake.pull)
    with wire(remote, control=control, log=log) as one, wire(remote, control=control, log=log) as two:
        with control.obeying(brake), pytest.raises(Cancelled):
            collect(switches(one, two, one))
        assert [(entry.title, entry.status) for entry in log.entries] == [("New-VMSwitch", "Stopped")] * 2
        assert len(one.run("Get-VM")) == 2
    assert [call[0] for call in remote.calls] == ["begin", "begin"]


def test_what_cannot_be_begun_waits_for_the_others(remote: RemoteHost) -> None:
    """A command that is refused in the middle of a wave is told after those before it have ended."""
    with wire(remote) as host:

        def begun() -> Iterator[Running]:
            yield from switches(host, name="early")
            yield host.begin("New-VMSwitch", {"Nmae": "misspelt"})

        with pytest.raises(Unsendable):
            collect(begun())
        assert [entry.status for entry in host.log.entries] == ["Completed"]
    assert remote.calls == [("begin", "early"), ("end", "early")]


def test_a_stop_that_fails_is_an_unknown_outcome(remote: RemoteHost) -> None:
    """A change that could not be stopped on cancel may go on: it must not be logged as stopped."""
    control, brake = WireControl(), Brake()

    def cut() -> None:
        remote.forget_shells()
        brake.pull()
        control.check()

    control.seam = before_number(2, cut)
    with wire(remote, control=control) as host:
        with control.obeying(brake), pytest.raises(UnknownOutcome, match="could not be stopped"):
            collect(switches(host, host))
        assert [(entry.status, entry.code) for entry in host.log.entries] == [("0", "UnknownOutcome")]


def test_an_unknown_outcome_goes_before_other_failures(remote: RemoteHost) -> None:
    """A wave whose first command fails and whose second has lost its reply raises what has to be settled."""
    with wire(remote) as host:
        first = host.begin("Get-VM", {"Name": "nope"})
        second = host.begin("New-VMSwitch", {"Name": "Forever", "SwitchType": "Private"}, timeout=0.0)
        with pytest.raises(UnknownOutcome):
            collect(iter((first, second)))
        assert [type(one.error) for one in (first, second)] == [PowerShellError, UnknownOutcome]


def test_a_host_that_goes_during_a_change_leaves_it_unknown(
    remote: RemoteHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That nothing answers the question for a change's end does not mean that it has changed nothing."""
    with wire(remote) as host:
        wave = list(switches(host))

        def unreachable(*_: object, **__: object) -> None:
            raise requests.exceptions.SSLError("the network shows another host")

        with monkeypatch.context() as cut:
            cut.setattr("smhvlab.wires.kept.KeptAdapter.send", unreachable)
            with pytest.raises(UnknownOutcome):
                collect(iter(wave))


@pytest.mark.parametrize("moves", [True, False])
def test_a_command_that_gets_on_is_not_stopped(
    remote: RemoteHost, monkeypatch: pytest.MonkeyPatch, moves: bool
) -> None:
    """Its time begins anew whenever its percentage moves; one that stands still is stopped."""
    now, told = [0.0], [0]
    real = Session.poll

    def poll(self: Session, pipeline: Any, sent: Sent) -> bool:
        if sent.title != "New-VMSwitch" or told[0] == 99:
            return real(self, pipeline, sent)
        now[0] += 60
        told[0] += 1
        pipeline.streams.progress.append(SimpleNamespace(percent_complete=told[0] if moves else 7))
        return True

    monkeypatch.setattr(Session, "poll", poll)
    monkeypatch.setattr("smhvlab.wires.powershell.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("smhvlab.wires.pipeline.time", SimpleNamespace(monotonic=lambda: now[0]))
    switch = {"Name": "lan", "SwitchType": "Private"}
    with wire(remote, timeout=600.0) as host:
        if moves:
            host.run("New-VMSwitch", switch)
        else:
            with pytest.raises(UnknownOutcome, match="did not end in time"):
                host.run("New-VMSwitch", switch)
    assert told[0] == (99 if moves else 12)
