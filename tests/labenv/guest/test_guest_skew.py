"""Data and log from two different moments: what a page check overlooks, the ledger finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest

from labenv.guest.engine import Journal

from . import rack

Image = Callable[[Journal], list[rack.RackDisk]]


@dataclass(frozen=True)
class Moment:
    """The disks after one write of the guest, and the rows acknowledged by then."""

    disks: list[rack.RackDisk]
    rows: int


def history(disks: list[rack.RackDisk], random: Random, wanted: set[int]) -> dict[int, Moment]:
    """Run transactions on bb1 and keep the disks at these writes."""
    mains = rack.Mains()
    disks = rack.copies(disks, mains)
    guest = rack.start(disks)
    guest.insert("bb1", 200)
    acknowledged = 200
    mains.writes = 0
    kept: dict[int, Moment] = {}

    def watch(write: int) -> None:
        if write in wanted:
            kept[write] = Moment([disks[0], *rack.copies(disks[1:])], acknowledged)

    mains.watcher = watch
    while mains.writes <= max(wanted):
        acknowledged = guest.insert("bb1", random.choice((1, 1, 3, 10, 40)))
    guest.power_off()
    mains.watcher = None
    return {write: Moment([disks[0].copy(), *moment.disks[1:]], moment.rows) for write, moment in kept.items()}


def verdict(disks: list[rack.RackDisk], rows: int) -> str:
    """How a check of bb1 ends on an image: which half found damage, or whether acknowledged rows are gone."""
    guest = rack.start(rack.copies(disks))
    result = guest.checkdb("bb1")
    guest.power_off()
    if result.integrity:
        return "pages"
    if result.ledger:
        return "ledger only"
    return "ok" if result.rows >= rows else "rows lost"


def table(disks: list[rack.RackDisk], *, samples: int, skews: tuple[int, ...], seed: int) -> dict[int, Counter[str]]:
    """Verdicts by skew: the log's disk is taken so many writes after (or before) the data's."""
    random = Random(seed)
    points = sorted(random.sample(range(700, 2200), samples))
    moments = history(disks, random, {point + skew for point in points for skew in (*skews, 0)})
    result: dict[int, Counter[str]] = {}
    for skew in skews:
        result[skew] = Counter(
            verdict([*moments[point].disks[:2], moments[point + skew].disks[2]], moments[point].rows)
            for point in points
        )
    return result


def test_one_moment_is_always_sound(disks: list[rack.RackDisk]) -> None:
    """Copies of both disks at the same write recover to every acknowledged row."""
    assert table(disks, samples=25, skews=(0,), seed=4) == {0: Counter(ok=25)}


def test_the_ledger_finds_what_pages_do_not_show(golden_image: Image) -> None:
    """With the log taken 60 writes apart, the ledger finds damage in images whose every page is well-formed."""
    for journal in (Journal.PERSIST, Journal.DELETE):
        found = table(golden_image(journal), samples=30, skews=(60, -60), seed=5)
        assert sum(verdicts["ledger only"] for verdicts in found.values()) > 0


def test_a_log_from_another_moment_is_found(disks: list[rack.RackDisk]) -> None:
    """In every journal mode, a log taken 600 writes later makes checks fail."""
    found = table(disks, samples=25, skews=(600,), seed=5)
    assert found[600]["pages"] + found[600]["ledger only"] > 0


@pytest.mark.long
def test_the_table_of_skews(disks: list[rack.RackDisk], journal: Journal) -> None:
    """Only copies of one moment are always sound; a wider gap leaves fewer, and the page check alone misses some."""
    found = table(disks, samples=120, skews=(0, 7, -7, 60, -60, 600, -600), seed=6)
    for skew, verdicts in found.items():
        print(f"{journal.name:8} {skew:+5} {dict(sorted(verdicts.items()))}")
    assert found[0] == Counter(ok=120)
    for skew in (7, -7, 60, -60, 600, -600):
        assert found[skew]["ok"] < 120
    assert found[7]["ok"] > found[600]["ok"]
    assert sum(verdicts["ledger only"] for verdicts in found.values()) > 0
