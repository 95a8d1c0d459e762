"""The process is killed in a disaster recovery flow; a new one asks the doctor, and no row is lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from labenv import lab as labs
from smhvlab.doctor import reopen, unfinished
from smhvlab.dr.sites import SitePair, connect_pair
from smhvlab.flow import Flow
from smhvlab.record import Outcome
from smhvlab.wires.control import Phase, WireRequest
from tests.dr.scene import backup, each, kill_primary, load, revive_primary, rows

DOWN = {"primary-down"}
LAST_LOOKS = 12
"""Points that may be missed: two runs look at starting VMs and at transfers a different number of times."""


class Killed(BaseException):
    """The process ends here: nothing in the product may handle this."""


@dataclass(frozen=True)
class Case:
    """A flow, the checkpoint that it starts from, and what holds when it is done.

    Attributes:
        site: which site it runs on.
        rows: of every database once the VMs run; None while they run nowhere.
        states: of the relationships that end at each site, when it is done.
    """

    name: str
    site: str
    make: Callable[[SitePair], Flow[object]]
    accept: frozenset[str]
    rows: int | None
    states: tuple[set[str], set[str]]

    def flow(self, pair: SitePair) -> Flow[object]:
        """The flow, not yet run."""
        return self.make(pair)


def _case(
    name: str, site: str, accept: set[str], rows: int | None, states: tuple[set[str], set[str]], make: object
) -> Case:
    return Case(name, site, make, frozenset(accept), rows, states)  # type: ignore[arg-type]


MIRRORED, BROKEN = {"snapmirrored"}, {"broken_off"}
CASES = {
    case.name: case
    for case in (
        _case("protect", "primary", set(), 10, (set(), MIRRORED), lambda pair: pair.primary.dr.protect()),
        _case(
            "snapinfo",
            "secondary",
            DOWN,
            None,
            (set(), MIRRORED | BROKEN),
            lambda pair: pair.secondary.dr.connect_snapinfo(),
        ),
        _case("failover", "secondary", DOWN, 10, (set(), BROKEN), lambda pair: pair.secondary.dr.failover()),
        _case(
            "reverse",
            "secondary",
            {"lose-primary", "stop-primary"},
            15,
            (MIRRORED, BROKEN),
            lambda pair: pair.secondary.dr.reverse(),
        ),
        _case("failback", "primary", {"downtime"}, 15, (set(), BROKEN), lambda pair: pair.primary.dr.failback()),
        _case(
            "normal", "secondary", {"give-up"}, 15, (set(), MIRRORED), lambda pair: pair.secondary.dr.return_to_normal()
        ),
    )
}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """A lab with a checkpoint before each flow of one disaster."""
    with labs.start("dr-pair", state=tmp_path_factory.mktemp("dr") / "lab") as lab:
        with connect_pair(lab.profile) as pair:
            pair.primary.create_dataset("All", ["sql01", "app01"])
            load(pair, 10)
            lab.checkpoint("protect")
            prepared = pair.primary.dr.protect().run_sync()
            assert prepared.outcome is Outcome.DONE
            backup(pair)
            load(pair, 20)
            kill_primary(lab)
            for name in ("snapinfo", "failover"):
                lab.checkpoint(name)
                CASES[name].flow(pair).run_sync(accept=CASES[name].accept)
            load(pair, 5, at="secondary")
            revive_primary(lab)
            for name in ("reverse", "failback", "normal"):
                lab.checkpoint(name)
                CASES[name].flow(pair).run_sync(accept=CASES[name].accept)
        yield lab


def states(pair: SitePair) -> tuple[set[str], set[str]]:
    """States of the relationships that end at each site that answers."""
    found = []
    for site in (pair.primary, pair.secondary):
        try:
            table = site.mirrors()
        except Exception:
            found.append(set())
            continue
        found.append(set(table[table["direction"] == "in"]["state"]))
    return found[0], found[1]


def kill_at(lab: labs.Lab, case: Case, wanted: int, phase: Phase, *, step: str = "") -> bool:
    """Kill the run at its request number ``wanted``, of a step or of all; False: there was none."""
    lab.restore(case.name)
    for journal in (lab.state / "journals").rglob("*.jsonl"):
        journal.unlink()
    armed = False
    pairs: list[SitePair] = []
    seen: list[WireRequest] = []  # requests overlap: a wave is sent before the first of it is answered

    def seam(request: WireRequest, now: Phase) -> None:
        if not armed or (step and pairs[0].primary.control.step != step):
            return
        if now is Phase.BEFORE:
            seen.append(request)
        if now is phase and len(seen) > wanted and request is seen[wanted]:
            raise Killed

    with connect_pair(lab.profile, seam=seam) as pair:
        pairs.append(pair)
        flow = case.flow(pair)
        armed = True
        try:
            flow.run_sync(accept=case.accept)
        except Killed:
            return True
        finally:
            armed = False
        return False


def mend(lab: labs.Lab, case: Case, *, prefer: str) -> None:
    """What a new process finds, and what the doctor makes of it: all of the flow, or nothing of it."""
    with connect_pair(lab.profile) as pair:
        site = getattr(pair, case.site)
        waiting = unfinished(site.name, folder=site.journals)
        assert len(waiting) <= 1
        for entry in waiting:
            action = prefer if prefer in entry.allowed else entry.allowed[0]
            flow = reopen(site, entry.run, folder=site.journals)
            record = flow.resume_sync() if action == "resume" else flow.undo_sync()
            assert record.outcome is (Outcome.DONE if action == "resume" else Outcome.UNDONE)
        assert unfinished(site.name, folder=site.journals) == []
        if not waiting or record.outcome is Outcome.UNDONE:  # then it can be run as if nothing had been
            case.flow(pair).run_sync(accept=case.accept)
        assert states(pair) == case.states
        if case.rows is not None:
            assert rows(lab) == each(case.rows)
    assert lab.inspect.check() == []


@pytest.mark.parametrize(
    ("name", "step", "phase", "prefer"),
    [
        ("failover", "break_mirrors", Phase.AFTER, "resume"),
        pytest.param("reverse", "disconnect", Phase.AFTER, "undo", marks=pytest.mark.long),
        pytest.param("failback", "connect", Phase.AFTER, "resume", marks=pytest.mark.long),
    ],
)
def test_killed_beside_the_point_of_no_return(ready: labs.Lab, name: str, step: str, phase: Phase, prefer: str) -> None:
    """Undone before it, resumed after it: every ledger is whole and every mirror in its state."""
    assert kill_at(ready, CASES[name], 0, phase, step=step)
    mend(ready, CASES[name], prefer=prefer)


@pytest.mark.long
@pytest.mark.parametrize("prefer", ["undo", "resume"])
@pytest.mark.parametrize("name", CASES)
def test_killed_at_every_request_of_a_disaster(ready: labs.Lab, name: str, prefer: str) -> None:
    """Before and after the effect of every single request, mended by undo and by resume."""
    case, missed, number = CASES[name], 0, 0
    while missed <= LAST_LOOKS:
        for phase in (Phase.BEFORE, Phase.AFTER):
            if kill_at(ready, case, number, phase):
                mend(ready, case, prefer=prefer)
            else:
                missed += 1
        number += 1
    assert number > LAST_LOOKS


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_killed_at_a_seeded_sample_of_requests(ready: labs.Lab, name: str) -> None:
    """A dozen seeded points of each flow, as a quick look before the full sweep."""
    generator = random.Random(f"dr/{name}")
    for number in range(12):
        if kill_at(ready, CASES[name], generator.randrange(60), generator.choice([Phase.BEFORE, Phase.AFTER])):
            mend(ready, CASES[name], prefer=("undo", "resume")[number % 2])
