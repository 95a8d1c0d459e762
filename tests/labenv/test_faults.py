"""Fault rules: what they match, how often they act, and rules that make no sense."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest

from labenv.clock import SECOND, Clock
from labenv.faults import EFFECTS, PLACES, ConnectionDropped, Fault, FaultRaised, Faults

REQUEST = {"cluster": "cluster1", "method": "POST", "path": "/storage/volumes", "user": "admin"}


def play(scenario: Callable[[Clock, Faults], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario inside a request."""

    async def inside() -> None:
        clock = Clock(datetime(2013, 3, 4, tzinfo=UTC))
        with clock.request():
            await scenario(clock, Faults(clock))

    asyncio.run(inside())


def test_an_error_is_raised_as_often_as_asked_and_then_no_more() -> None:
    """``times`` counts what it has acted on; None never ends."""

    async def scenario(clock: Clock, faults: Faults) -> None:
        faults.set(Fault("ontap.request", "error", {"method": "POST"}, status=409, code="917505", times=2))
        await faults.at("ontap.request", **{**REQUEST, "method": "GET"})
        for _ in range(2):
            with pytest.raises(FaultRaised) as caught:
                await faults.at("ontap.request", **REQUEST)
            assert (caught.value.fault.status, caught.value.fault.code) == (409, "917505")
        await faults.at("ontap.request", **REQUEST)
        assert [acted for _, acted in faults.rules()] == [2]
        faults.set(Fault("ontap.request", "drop", times=None))
        for _ in range(5):
            with pytest.raises(ConnectionDropped):
                await faults.at("ontap.request", **REQUEST)
        faults.clear()
        await faults.at("ontap.request", **REQUEST)
        assert faults.rules() == []

    play(scenario)


@pytest.mark.parametrize(
    ("match", "acts"),
    [
        ({}, True),
        ({"path": "*volumes"}, True),
        ({"path": "*volumes", "method": "P?ST"}, True),
        ({"path": "*volumes", "method": "PATCH"}, False),
        ({"path": "volumes"}, False),
        ({"method": "post"}, False),
        ({"user": "vsadmin"}, False),
    ],
)
def test_every_pattern_has_to_match(match: dict[str, str], acts: bool) -> None:
    """Patterns are those of file names, cover the whole value, and are joined by and."""

    async def scenario(clock: Clock, faults: Faults) -> None:
        faults.set(Fault("ontap.request", "drop", match))
        if acts:
            with pytest.raises(ConnectionDropped):
                await faults.at("ontap.request", **REQUEST)
        else:
            await faults.at("ontap.request", **REQUEST)
        await faults.at("windows.cmdlet", host="hv1", cmdlet="Get-VM")
        assert faults.rules()[0][1] == int(acts)

    play(scenario)


def test_delays_add_up_in_lab_time() -> None:
    """A delay takes lab seconds; one without end acts once for each request."""

    async def scenario(clock: Clock, faults: Faults) -> None:
        faults.set(Fault("windows.cmdlet", "delay", {"cmdlet": "Get-*"}, seconds=30, times=None))
        faults.set(Fault("windows.cmdlet", "delay", seconds=5))
        start = clock.now
        await faults.at("windows.cmdlet", host="hv1", cmdlet="New-VM")
        assert clock.now - start == 5 * SECOND
        await faults.at("windows.cmdlet", host="hv1", cmdlet="Get-VM")
        await faults.at("windows.cmdlet", host="hv1", cmdlet="Get-VM")
        assert clock.now - start == 65 * SECOND

    play(scenario)


def test_losing_the_reply_does_nothing_before_the_effect() -> None:
    """``lose-reply`` lets the request pass and drops its answer, once."""

    async def scenario(clock: Clock, faults: Faults) -> None:
        faults.set(Fault("ontap.request", "lose-reply", {"method": "POST"}))
        await faults.at("ontap.request", **REQUEST)
        assert not faults.loses_reply("ontap.request", **{**REQUEST, "method": "GET"})
        assert faults.loses_reply("ontap.request", **REQUEST)
        assert not faults.loses_reply("ontap.request", **REQUEST)

    play(scenario)


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (Fault("ontap.requests", "error"), "ontap.requests"),
        (Fault("ontap.request", "explode"), "explode"),
        (Fault("ontap.request", "error", {"cmdlet": "*"}), "cmdlet"),
        (Fault("windows.cmdlet", "error", {"path": "*"}), "path"),
        (Fault("ontap.request", "delay"), "seconds"),
        (Fault("ontap.request", "delay", seconds=-1), "seconds"),
        (Fault("ontap.request", "error", seconds=3), "seconds"),
        (Fault("ontap.request", "error", status=200), "200"),
        (Fault("ontap.request", "error", times=0), "0 times"),
        (Fault("vss.writer", "die"), "vss.provider"),
        (Fault("vss.writer", "cause"), "unknown effect"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rule_that_makes_no_sense_is_refused(fault: Fault, named: str) -> None:
    """The message names what is wrong, and nothing was set."""

    async def scenario(clock: Clock, faults: Faults) -> None:
        with pytest.raises(ValueError, match=named):
            faults.set(fault)
        assert faults.rules() == []

    play(scenario)


def test_every_place_and_effect_can_be_set() -> None:
    """The two lists that the command and the documentation show are what is accepted; two effects have one place."""

    async def scenario(clock: Clock, faults: Faults) -> None:
        only = {"job-failure": "ontap.request", "die": "vss.provider"}
        pairs = [(p, e) for p in PLACES for e in EFFECTS if only.get(e, p) == p]
        for place, effect in pairs:
            names = dict.fromkeys(PLACES[place], "*")
            faults.set(Fault(place, effect, names, seconds=1 if effect == "delay" else 0))
        assert len(faults.rules()) == len(pairs)

    play(scenario)


def test_a_general_delay_acts_on_every_request() -> None:
    """A lab can be slower altogether: requests of both wires, not what happens inside a host."""

    async def scenario(clock: Clock, faults: Faults) -> None:
        faults.delay = 2
        start = clock.now
        await faults.at("ontap.request", **REQUEST)
        await faults.at("windows.cmdlet", host="hv1", cmdlet="Get-VM")
        assert clock.now - start == 4 * SECOND
        await faults.at("windows.service", host="hv1", service="VSS")
        assert clock.now - start == 4 * SECOND

    play(scenario)


@pytest.mark.parametrize(
    "fault",
    [Fault("windows.cmdlet", "job-failure"), Fault("ontap.request", "job-failure", code="E1")],
    ids=["no jobs there", "no number"],
)
def test_a_job_can_only_fail_where_jobs_are(fault: Fault) -> None:
    """job-failure acts on the array's requests, with a numeric code."""

    async def scenario(clock: Clock, faults: Faults) -> None:
        with pytest.raises(ValueError, match="job"):
            faults.set(fault)

    play(scenario)
