"""Every rule, by a site that breaks it and the same site mended."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import healthy as h
import pytest
from breaks import breaks

from smhvlab.advisor.catalogue import findings, findings_frame, rule_named, rules, rules_frame
from smhvlab.advisor.rule import Severity
from smhvlab.advisor.site_facts import Facts

ROOT = Path(__file__).parent.parent.parent.parent
BREAKS = breaks()


def test_every_rule_is_proven() -> None:
    """There is a site that breaks each rule of the catalogue, and none for a rule that does not exist."""
    assert sorted(BREAKS) == sorted(rule.id for rule in rules())
    assert len(rules()) >= 60


@pytest.mark.tr("R-2.2-07", "R-2.2-12", "R-2.2-17", "R-4.1-02", "R-4.1-03", "R-5.1-03", "R-5.2-07", "R-5.3-02")
@pytest.mark.tr("R-5.4-11", "R-5.4-12", "R-5.4-14", "R-5.4-15", "R-6.1-03", "R-6.1-05", "R-6.2-10", "R-6.2-13")
@pytest.mark.tr("R-6.2-17", "R-6.2-18", "R-6.2-19", "R-6.4-04", "R-6.5-04", "R-8-17", "R-11.1-02", "R-11.3-01")
@pytest.mark.tr("R-11.5-01", "R-11.5-02", "R-11.8-01", "R-12-10", "R-13-01", "R-13-03", "R-AC-03", "R-AG-01", "R-AH-02")
@pytest.mark.tr(
    "R-5.1-04", "R-6.2-09", "R-6.4-02", "R-7-01", "R-10-04", "R-11.4-01", "R-11.7-01", "R-11.7-02", "R-AL-01"
)
@pytest.mark.parametrize("name", sorted(BREAKS))
def test_a_rule_speaks_up_and_is_silent(name: str) -> None:
    """It names an object and a sentence on the broken site, and finds nothing on the mended one."""
    rule, (broken, mended) = rule_named(name), BREAKS[name]
    found = list(rule.findings(broken))
    assert found
    for finding in found:
        assert finding.object
        assert finding.message.endswith(".")
        assert finding.fix
    assert list(rule.findings(mended)) == []


@pytest.mark.parametrize("era", ["2008r2", "2012", "2022"])
@pytest.mark.parametrize("make", [h.standalone, h.cluster])
def test_a_site_in_good_order_is_left_alone(era: str, make: object) -> None:
    """No error and no warning in any era; notes are only about the readings of the TR that concern it."""
    assert callable(make)
    facts: Facts = make(era)
    assert [f.rule.id for f in findings(facts) if not f.rule.id.startswith("reading-")] == []


def test_rules_say_what_a_reader_wants_to_know() -> None:
    """Each has its rows in the table of the TR's facts, sentences for why and fix, and a name of its own."""
    with (ROOT / "smhvlab" / "tr4004.csv").open(encoding="utf-8", newline="") as file:
        rows = {line["id"] for line in csv.DictReader(file)}
    assert len({rule.id for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule.rows, rule.id
        assert set(rule.rows) <= rows, rule.id
        assert rule.why.endswith("."), rule.id
        assert rule.fix.endswith("."), rule.id
        assert rule.looks_at, rule.id
    assert list(rules_frame()["id"]) == [rule.id for rule in rules()]


def test_errors_come_first() -> None:
    """Findings are ordered by severity, and within it by the section of the TR."""
    broken = BREAKS["snapinfo-set"][0]
    order = [f.rule.severity for f in findings(broken)]
    assert order == sorted(order, key=list(Severity).index)
    assert list(findings_frame(findings(broken)).columns)[:3] == ["id", "section", "severity"]


def test_all_twenty_contradictions_show_both_readings() -> None:
    """C1 to C20 are rules whose findings tell both readings and which one is followed."""
    mine = [rule for rule in rules() if rule.id.startswith("reading-")]
    assert {rule.id for rule in mine} == {f"reading-c{n}" for n in range(1, 21)}
    for rule in mine:
        (finding, *_) = rule.findings(BREAKS[rule.id][0])
        assert "One reading: " in finding.message
        assert "The other: " in finding.message
        assert "Followed: " in finding.message


def test_a_guest_that_tells_nothing_is_unknown() -> None:
    """A VM that runs and does not say its system is told as unknown; one that is off, or a silent host, is not."""
    old = h.standalone("2008r2")
    (first, *others) = old.vms

    def told(facts: Facts) -> list[str]:
        return [hit.message for hit in rule_named("guest-system").check(facts)]

    nameless = replace(first, guest_os="")
    assert told(replace(old, vms=(nameless, *others))) == ["What runs in it is unknown: it tells nothing of itself."]
    assert told(replace(old, vms=(replace(nameless, state="Off"), *others))) == []
    silent = replace(old.hosts[0], unknown={"exchange": "Invalid namespace"})
    assert told(replace(old, hosts=(silent, *old.hosts[1:]), vms=(nameless, *others))) == []
