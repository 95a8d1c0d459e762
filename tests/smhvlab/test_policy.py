"""Policies as TOML: what is read, what is written, and what is refused (TR 5.2)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smhvlab.errors import NotAllowed
from smhvlab.protection.policy import (
    Level,
    Notification,
    Options,
    Phase,
    Policy,
    Retention,
    Script,
    Tag,
    advice,
    differences,
    from_toml,
)
from smhvlab.protection.schedule import Repeat, Schedule, Weekday

HOURLY = 'name = "h"\ndataset = "SQL"\n[schedule]\nrepeat = "hourly"\n[retention]\nkeep = 30\n'


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Any policy that can work."""
    repeat = draw(st.sampled_from(Repeat))
    schedule = Schedule(
        repeat=repeat,
        at=draw(st.sampled_from(("00:00", "02:30", "23:59"))),
        every=draw(st.integers(1, 23)) if repeat is Repeat.HOURLY else 1,
        days=tuple(draw(st.lists(st.sampled_from(Weekday), min_size=1))) if repeat is Repeat.WEEKLY else (),
        day=draw(st.one_of(st.integers(1, 28), st.just("last"))) if repeat is Repeat.MONTHLY else 1,
        timezone=draw(st.sampled_from(("UTC", "Europe/Berlin"))),
    )
    application = draw(st.booleans())
    return Policy(
        name=draw(st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)),
        dataset="SQL",
        consistency="application" if application else "crash",
        description=draw(st.text(max_size=10)),
        schedule=schedule,
        retention=draw(
            st.one_of(
                st.builds(lambda n: Retention(keep=n, tag=Tag.DAILY), st.integers(1, 1000)),
                st.builds(lambda d: Retention(days=d), st.floats(0.5, 1000)),
                st.just(Retention(tag=Tag.UNLIMITED)),
            )
        ),
        options=Options(allow_saved_state=application and draw(st.booleans()), replicate=draw(st.booleans())),
        notification=Notification(level=draw(st.sampled_from(Level)), to=("storage@example.org",)),
        script=(Script(phase=Phase.AFTER, command="Set-Content", parameters={"Value": draw(st.text(max_size=10))}),),
        since=draw(st.sampled_from((None, datetime(2013, 3, 4, tzinfo=UTC)))),
    )


@pytest.mark.tr("R-5.2-03", "R-5.2-06")
@given(policies())
@settings(max_examples=80, deadline=None)
def test_what_is_written_reads_back_the_same(policy: Policy) -> None:
    """The TOML of any policy is that policy again, and says nothing that is usual."""
    assert from_toml(policy.toml()) == policy
    assert "false" not in policy.toml()
    assert differences(policy, from_toml(policy.toml())) == []


@pytest.mark.tr("R-6.2-16")
def test_usual_values_are_those_of_the_tr() -> None:
    """A short policy is application-consistent, tagged like its schedule, mails errors, allows no saved state."""
    policy = from_toml(HOURLY)
    assert (policy.consistency, policy.tag, policy.notification.level) == ("application", Tag.HOURLY, Level.ERROR)
    assert policy.options == Options()


@pytest.mark.tr("R-6.4-05", "R-12-09")
@pytest.mark.parametrize(
    ("text", "field", "nearest"),
    [
        ('name = "h"\n', "dataset", "Add dataset"),
        (HOURLY.replace('"hourly"', '"hourley"'), "schedule.repeat", '"hourly"'),
        (HOURLY.replace("keep", "kep"), "retention.kep", "keep"),
        (HOURLY.replace("30", '"30"'), "retention.keep", "whole number"),
        (HOURLY.replace("30", "0"), "retention.keep", "Use 1"),
        (HOURLY + "days = 3\n", "retention", "one of them"),
        (HOURLY.replace("keep = 30", 'tag = "daily"'), "retention", "keep = 30"),
        (HOURLY.replace("keep = 30", "days = -1"), "retention.days", "Use 1"),
        (HOURLY.replace("keep = 30", "days = 99999"), "retention.days", "unlimited"),
        (HOURLY.replace("keep = 30", 'tag = "unlimited"\nkeep = 3'), "retention.keep", "another tag"),
        (HOURLY.replace('[schedule]\nrepeat = "hourly"\n', ""), "retention.tag", '"daily"'),
        (HOURLY.replace('"hourly"', '"hourly"\nevery = 24'), "schedule.every", "daily"),
        (HOURLY.replace('"hourly"', '"daily"\nevery = 2'), "schedule.every", "no every"),
        (HOURLY.replace('"hourly"', '"weekly"'), "schedule.days", "monday"),
        (HOURLY.replace('"hourly"', '"weekly"\ndays = ["mon"]'), "schedule.days", '"monday"'),
        (HOURLY.replace('"hourly"', '"daily"\ndays = ["monday"]'), "schedule.days", "weekly"),
        (HOURLY.replace('"hourly"', '"monthly"\nday = 31'), "schedule.day", '"last"'),
        (HOURLY.replace('"hourly"', '"monthly"\nday = 0'), "schedule.day", "Use 1"),
        (HOURLY.replace('"hourly"', '"daily"\nday = 5'), "schedule.day", "no day"),
        (HOURLY.replace('"hourly"', '"daily"\nat = "25:70"'), "schedule.at", '"23:59"'),
        (HOURLY.replace('"hourly"', '"daily"\nat = "8:5"'), "schedule.at", '"08:05"'),
        (HOURLY.replace('"hourly"', '"daily"\ntimezone = "Europe/Berln"'), "schedule.timezone", "Europe/Berlin"),
        (HOURLY + '[options]\nallow_saved_state = true\n[notification]\nto = ["nobody"]\n', "notification.to", "@"),
        ('consistency = "crash"\n' + HOURLY + "[options]\nallow_saved_state = true\n", "allow_saved_state", "false"),
        ('consistency = "crash"\n' + HOURLY + "[options]\ndistributed = true\n", "distributed", "false"),
        ('consistency = "crsh"\n' + HOURLY, "consistency", '"crash"'),
        (HOURLY.replace('"h"', '"every hour"'), "name", '"every-hour"'),
        (HOURLY + '[[script]]\nphase = "after"\ncommand = "Invoke-Expression"\n', "script[0].command", "cmdlet"),
        (HOURLY + '[[script]]\nphase = "after"\ncommand = "New-Item"\nparameters = {Pat = 1}\n', "script[0]", "names"),
    ],
)
def test_a_field_that_does_not_fit_is_named_with_what_does(text: str, field: str, nearest: str) -> None:
    """The refusal holds the field's full name, and the nearest value that works."""
    with pytest.raises(NotAllowed) as caught:
        from_toml(text)
    assert field in caught.value.message
    assert nearest in caught.value.next_action


def test_text_that_is_no_toml_is_told_with_its_line() -> None:
    """A syntax error is told where it is."""
    with pytest.raises(NotAllowed) as caught:
        from_toml("name = \n")
    assert "line 1" in (caught.value.why or "")


@pytest.mark.tr("R-5.2-07", "R-6.4-04")
def test_what_works_and_is_discouraged_is_told() -> None:
    """Mail after every backup, unlimited retention, saved state and variables before the backup are advised against."""
    policy = from_toml(HOURLY)
    assert advice(policy) == []
    poor = replace(
        policy,
        retention=Retention(tag=Tag.UNLIMITED),
        options=Options(allow_saved_state=True),
        notification=Notification(level=Level.ALWAYS, to=("storage@example.org",)),
        script=(Script(phase=Phase.BEFORE, command="New-Item", parameters={"Path": "C:\\$VMSnapshot"}),),
    )
    assert len(advice(poor)) == 4
