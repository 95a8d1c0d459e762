"""Tables 4 and 5 of the TR's appendix with application-consistent sets, in the three eras."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labenv.guest.guest import Guest

from .bench import SQL01, Bench, Ran, backup, put_back

DATABASES = ("aa1", "bb1")


@pytest.fixture(scope="session", params=["2008r2", "2012", "2022"])
def _site_of_an_era(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp(f"tables{request.param}"), request.param)
    yield made
    made.close()


@pytest.fixture
def era(_site_of_an_era: Bench) -> Iterator[Bench]:
    """The site in one era after the other."""
    _site_of_an_era.restore()
    yield _site_of_an_era
    assert _site_of_an_era.site.failures == []


def _restore(bench: Bench, made: Ran) -> Guest:
    """The VM with its disks as they are in the backup."""
    bench.run("Stop-VM", Name="sql01", TurnOff=True, Force=True)
    put_back(bench, made)
    bench.run("Start-VM", Name="sql01")
    return bench.guest("sql01")


@pytest.mark.tr("R-APF-01")
def test_the_basic_cases(era: Bench) -> None:
    """100 rows in each database, a backup, 500 rows more, a restore: 100 rows are there and every check passes."""
    guest = era.guest("sql01")
    for name in DATABASES:
        guest.do("insert", database=name, rows=100)
        assert guest.checkdb(name).ok
    made = era.script(*backup(SQL01))
    assert made.code == 0, made.text
    era.run("Start-Sleep", Seconds=120)
    for name in DATABASES:
        assert guest.do("insert", database=name, rows=500) == 600
        assert guest.checkdb(name).ok
    restored = _restore(era, made)
    assert {name: (restored.count(name), restored.checkdb(name).ok) for name in DATABASES} == dict.fromkeys(
        DATABASES, (100, True)
    )


@pytest.mark.tr("R-APF-02")
def test_the_longevity_cases(era: Bench) -> None:
    """Under a load up to 10,000 rows: checks, a backup, checks, and a restore to whole transactions of its instant."""
    guest = era.guest("sql01")
    for name in DATABASES:
        guest.do("start_load", database=name, rows_per_second=100, up_to=10_000)
    era.run("Start-Sleep", Seconds=10)
    before = {name: guest.checkdb(name) for name in DATABASES}
    made = era.script(*backup(SQL01))
    assert made.code == 0, made.text
    after = {name: guest.checkdb(name) for name in DATABASES}
    assert all(check.ok for check in (*before.values(), *after.values()))
    era.run("Start-Sleep", Seconds=120)
    assert {guest.count(name) for name in DATABASES} == {10_000}
    restored = _restore(era, made)
    for name in DATABASES:
        check = restored.checkdb(name)
        assert check.ok
        assert before[name].rows <= check.rows <= after[name].rows < 10_000
        assert check.rows % 100 == 0
    assert len({restored.count(name) for name in DATABASES}) == 1
