"""The dashboard shows an overview, the worst first, and looks again without blocking."""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "advisor"))  # the sites of the rules' tests

import healthy as h  # needs the line above

from smhvlab.advisor.catalogue import findings
from smhvlab.advisor.overview import Job, Overview, State, VolumeBudget, protection_of
from smhvlab.advisor.site_facts import Facts
from smhvlab.panels.dashboard import Dashboard, age
from smhvlab.panels.panel import VIEW


def made(facts: Facts, **changes: object) -> Overview:
    """An overview of a site that was built by hand."""
    over = Overview(
        site="lab",
        now=facts.now,
        vms=tuple(protection_of(facts, vm) for vm in facts.vms),
        jobs=(Job(what="due", name="SQL daily", when=facts.now + timedelta(hours=3)),),
        budgets=(VolumeBudget(volume="vm", used=200, limit=255, breaks=facts.now + timedelta(days=2)),),
        findings=tuple(findings(facts)),
    )
    return replace(over, **changes)  # type: ignore[arg-type]


def site() -> Facts:
    """A protected VM, one that is late, one without a backup, one in no dataset and one that is not on the array."""
    facts = h.standalone()
    names = ("late", "new", "alone")
    vms = (*facts.vms, *(h.vm(name, "hv1", f"V:\\{name}") for name in names), h.vm("lost", "hv1", "C:\\lost"))
    old = h.backup("Late", ("id-late",), ("svm1:vm",), time=h.NOW - timedelta(days=3), verified=False)
    datasets = (*facts.datasets, h.dataset("Late", ("id-late",)), h.dataset("New", ("id-new", "id-lost")))
    return replace(facts, vms=vms, datasets=datasets, backups=(*facts.backups, old))


def test_each_vm_has_the_state_that_it_is_in() -> None:
    """Protected, late by its own policies, never backed up, in no dataset, outside the array."""
    facts = site()
    states = {vm.name: protection_of(facts, vm).state for vm in facts.vms}
    assert states == {
        "sql01": State.PROTECTED,
        "late": State.LATE,
        "new": State.NEVER,
        "alone": State.UNPROTECTED,
        "lost": State.OUTSIDE,
    }
    assert protection_of(facts, facts.vms[0]).verified == h.NOW
    assert protection_of(facts, facts.vms[1]).verified is None


def test_the_worst_comes_first_and_everything_is_told() -> None:
    """VMs by state, the next job, the budget with its end, and the advisor's findings; readable where nothing runs."""
    shown = Dashboard(lambda: made(site()), release=lambda: None, overview=made(site()))
    assert [vm.name for vm in shown.rows()] == ["lost", "alone", "new", "late", "sql01"]
    html = shown.render()
    assert "1 protected, 1 late, 1 no backup yet, 1 unprotected, 1 not on the array" in html
    assert "3 d 0 h ago" in html
    assert "in 3 h 0 min" in html
    assert "200 of 255" in html
    assert "in 2 d 0 h" in html
    assert "It is in no dataset." in html
    assert VIEW in shown._repr_mimebundle_()
    assert repr(shown).startswith("Dashboard(1 of 5 VMs protected; ")
    shown.state.value = "late"
    assert [vm.name for vm in shown.rows()] == ["late"]


def test_the_table_has_its_columns_even_when_it_is_empty() -> None:
    """Types do not depend on what a site holds."""
    empty = made(replace(h.standalone(), vms=())).protection()
    full = made(site()).protection()
    assert list(empty.columns) == list(full.columns)
    assert list(empty.dtypes) == list(full.dtypes)
    assert full.set_index("vm").loc["late", "age"] == 3 * 24 * 60


def test_it_keeps_looking_without_blocking() -> None:
    """While the button is down it looks again and again, in threads of their own, and stops when it is let go."""
    looks: list[str] = []

    def look() -> Overview:
        looks.append(threading.current_thread().name)
        return made(site(), site=f"look {len(looks)}")

    async def scene() -> None:
        shown = Dashboard(look, release=lambda: None, every=0.01)
        assert "Nothing has been looked at yet." in shown.render()
        shown.keep.value = True
        async with asyncio.timeout(10):
            while len(looks) < 3:  # noqa: ASYNC110 # other threads append to it
                await asyncio.sleep(0.01)
        shown.close()
        await shown.settled(10)
        assert shown.overview is not None
        assert shown.overview.site.startswith("look ")
        assert threading.current_thread().name not in looks

    asyncio.run(scene())


def test_a_look_that_fails_keeps_what_was_known() -> None:
    """The error is shown above the last overview."""

    def look() -> Overview:
        raise ConnectionError("no answer")

    shown = Dashboard(look, release=lambda: None, overview=made(site()))
    shown.look()
    shown.wait(10)
    assert "no answer" in shown.render()
    assert "sql01" in shown.render()


def test_ages_are_short() -> None:
    """Two units at most."""
    assert age(timedelta(minutes=5)) == "5 min"
    assert age(timedelta(hours=3, minutes=5)) == "3 h 5 min"
    assert age(timedelta(days=9, hours=3, minutes=5)) == "9 d 3 h"
