"""The SQL Server tests of the TR's appendix (Tables 4 and 5), with either type of backup, in every era."""

from __future__ import annotations

from typing import Literal

import pytest

import smhvlab.site
from smhvlab.demo import Demo
from tests.flows.conftest import Start

DATABASES = ("aa1", "bb1", "bb2", "bb3")
Consistency = Literal["application", "crash"]
CASES = [
    ("2012", "application"),
    ("2022", "application"),
    pytest.param("2008r2", "application", marks=pytest.mark.long),
    pytest.param("2008r2", "crash", marks=pytest.mark.long),
    pytest.param("2012", "crash", marks=pytest.mark.long),
    pytest.param("2022", "crash", marks=pytest.mark.long),
]


@pytest.mark.tr("R-APF-01")
@pytest.mark.parametrize(("era", "consistency"), CASES)
def test_the_basic_cases(start: Start, era: str, consistency: Consistency) -> None:
    """Table 4: 100 rows, a backup, 500 rows more, the files deleted, a restore: 100 sound rows in each database."""
    lab = start(f"standalone-{era}")
    with smhvlab.site.connect(lab.profile) as site:
        result = Demo(site, tell=lambda _: None, consistency=consistency).run()
    assert result.consistency == consistency
    assert result.databases == dict.fromkeys(DATABASES, 100)
    assert result.checkdb == dict.fromkeys(DATABASES, True)
    assert lab.inspect.check() == []


@pytest.mark.tr("R-APF-02")
@pytest.mark.parametrize(("era", "consistency"), CASES)
def test_the_longevity_cases(start: Start, era: str, consistency: Consistency) -> None:
    """Table 5: under a load up to 10,000 rows checks, a backup, checks, and a restore to sound rows of its time."""
    lab = start(f"standalone-{era}")
    guest = lab.guest("sql01")
    for name in DATABASES:
        guest.load(name, 100, up_to=10_000)
    lab.clock.advance(10)
    before = {name: guest.checkdb(name) for name in DATABASES}
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("SQL", ["sql01"])
        backup = site.backup("SQL", consistency=consistency).run_sync().result.backup
        after = {name: guest.checkdb(name) for name in DATABASES}
        lab.clock.advance(120)
        assert {guest.count(name) for name in DATABASES} == {10_000}
        site.restore(backup.name, "sql01").run_sync()
    restored = {name: lab.guest("sql01").checkdb(name) for name in DATABASES}
    for name in DATABASES:
        assert before[name]["ok"]
        assert after[name]["ok"]
        assert restored[name]["ok"], restored[name]
        assert before[name]["rows"] <= restored[name]["rows"] <= after[name]["rows"]
    if consistency == "application":
        assert len({check["rows"] for check in restored.values()}) == 1
