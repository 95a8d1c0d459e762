"""Which backups retention deletes, against a model that thinks backup by backup (TR 6.3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smhvlab.protection.policy import Retention
from smhvlab.protection.retention import Verdict, is_ours, judge, names_of
from smhvlab.snapinfo import Backup, BackupLun

NOW = datetime(2013, 6, 1, tzinfo=UTC)
TAGS = ("", "hourly", "daily", "unlimited")


def backup(number: int, tag: str, hours: int, *, snapshot: str = "") -> Backup:
    """A backup that was made so many hours ago."""
    time = NOW - timedelta(hours=hours)
    name = f"SQL_{time:%m-%d-%Y_%H.%M.%S}" if snapshot else f"b{number}"
    luns = (BackupLun("svm1", "v1", "u1", snapshot, "/l", "", "", "", "", "V:\\"),) if snapshot else ()
    return Backup(name, "SQL", time.isoformat(), "crash", True, "hv1", (), luns, tag=tag)


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[list[Backup], dict[str, Retention], set[str]]:
    """Backups of several tags, rules for some of the tags, and which were verified."""
    rows = draw(st.lists(st.tuples(st.sampled_from(TAGS), st.integers(0, 400)), max_size=25))
    backups = [backup(number, tag, hours) for number, (tag, hours) in enumerate(rows)]
    rule = st.one_of(
        st.builds(lambda n: Retention(keep=n), st.integers(1, 12)),
        st.builds(lambda h: Retention(days=h / 24), st.integers(1, 400)),
    )
    rules = {tag: draw(rule) for tag in ("hourly", "daily") if draw(st.booleans())}
    verified = {b.name for b in backups if draw(st.integers(0, 4)) == 0}
    return backups, rules, verified


def model(backups: list[Backup], rules: dict[str, Retention], verified: set[str]) -> set[str]:
    """The names that go: each backup asks how many of its tag are younger, or how old it is."""
    going = set()
    for one in backups:
        rule = rules.get(one.tag)
        if rule is None:
            continue
        if rule.keep is not None:
            younger = [b for b in backups if b.tag == one.tag and (b.time, b.name) > (one.time, one.name)]
            if len(younger) >= rule.keep:
                going.add(one.name)
        elif rule.days is not None and (NOW - datetime.fromisoformat(one.time)).total_seconds() > rule.days * 86400:
            going.add(one.name)
    good = [b for b in backups if b.name in verified]
    if good and all(b.name in going for b in good):
        newest = sorted(good, key=lambda b: (b.time, b.name))[-1]
        going.discard(newest.name)
    return going


@pytest.mark.tr("R-6.3-07", "R-6.3-10", "R-6.3-11")
@given(catalogues())
@settings(max_examples=300, deadline=None)
def test_both_algorithms_and_the_last_verified_rule(
    catalogue: tuple[list[Backup], dict[str, Retention], set[str]],
) -> None:
    """By count or by age within each tag, never the last verified backup, never one without a rule."""
    backups, rules, verified = catalogue
    judged = judge(backups, rules, now=NOW, verified=verified)
    assert [j.backup for j in judged] == backups
    assert {j.backup.name for j in judged if j.verdict is Verdict.DELETE} == model(backups, rules, verified)


@given(catalogues())
@settings(max_examples=100, deadline=None)
def test_a_second_look_deletes_nothing_more(
    catalogue: tuple[list[Backup], dict[str, Retention], set[str]],
) -> None:
    """What is left after retention stays when retention looks again at the same moment."""
    backups, rules, verified = catalogue
    left = [j.backup for j in judge(backups, rules, now=NOW, verified=verified) if j.verdict is not Verdict.DELETE]
    again = judge(left, rules, now=NOW, verified=verified)
    assert [j.backup for j in again if j.verdict is Verdict.DELETE] == []


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("SQL_03-04-2013_08.00.00", True),
        ("SQL_03-04-2013_08.00.00_backup", True),
        ("SQL_03-04-2013_08.00.00_backup2", False),
        ("XSQL_03-04-2013_08.00.00", False),
        ("SQL_03-04-2013", False),
        ("hourly.0", False),
        ("{3f2504e0-4f89-11d3-9a0c-0305e82c3301}", False),
        ("sql_03-04-2013_08.00.00", False),
        ("snapmirror.1_2.2013-03-04_080000", False),
    ],
)
def test_only_names_that_a_backup_gives_are_ours(name: str, ours: bool) -> None:
    """Other products' Snapshot copies, and other datasets', are told apart by their names."""
    assert is_ours(name, "SQL") is ours


def test_a_backup_with_a_strange_name_only_owns_what_snapinfo_knows() -> None:
    """The names that follow from a backup's own are used only if it has the form that backups have."""
    assert names_of(backup(1, "", 1)) == set()
    assert names_of(backup(1, "", 1, snapshot="other")) == {
        "other",
        "SQL_05-31-2013_23.00.00",
        "SQL_05-31-2013_23.00.00_backup",
    }
    node = "SQL_05-31-2013_23.00.00_hv2"
    assert names_of(backup(1, "", 1, snapshot=f"{node}_backup")) >= {node, f"{node}_backup"}
