"""The closed list of T-SQL statements: recognised as rendered, refused otherwise, and carried out on a guest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labenv.guest import sql
from labenv.guest.errors import GuestFrozen
from labenv.guest.guest import Guest
from labenv.guest.sql import SqlError, Statement, StatementRefused, Template, parse, render

from . import rack

FILLED = Statement(Template.COUNT_ROWS, database="bb1", rows=25, data="E:\\Data\\new.mdf", log="F:\\Log\\new.ldf")


def filled(template: Template) -> Statement:
    """A statement with exactly the blanks that its template has."""
    return Statement(
        template,
        database="bb1" if "{database}" in template.value else "",
        rows=25 if "{rows}" in template.value else 0,
        minutes=5 if "{minutes}" in template.value else 0,
        data=FILLED.data if "{data}" in template.value else "",
        log=FILLED.log if "{log}" in template.value else "",
    )


async def at_once(seconds: float) -> None:
    """A wait that nobody has to wait for."""


def run(guest: Guest, text: str) -> list[dict[str, object]]:
    """Run a statement to its end, with nobody else in between."""
    return asyncio.run(sql.run(guest, text, sleep=at_once))


@pytest.fixture
def guest(persist_disks: list[rack.RackDisk]) -> Iterator[Guest]:
    """A running guest with four empty ledgers."""
    guest = rack.start(persist_disks)
    yield guest
    guest.power_off()


@pytest.mark.parametrize("template", list(Template), ids=lambda template: template.name)
def test_every_template_is_recognised(template: Template) -> None:
    """A rendered statement parses to itself, in any letter case and white space, with or without a semicolon."""
    text = render(filled(template))
    assert "{" not in text
    assert parse(text) == filled(template)
    blanks = {"database": "bb1", "rows": 25, "minutes": "05", "data": FILLED.data, "log": FILLED.log}
    assert parse(template.value.format_map(blanks))
    shouted = parse("\n\t" + text.upper().replace(" ", "\r\n  ") + " ;\n")
    assert (shouted.template, shouted.rows) == (template, filled(template).rows)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT 1",
        "DROP DATABASE bb1",
        "SELECT COUNT(*) AS RowTotal FROM [bb1].dbo.ledger; DROP TABLE x",
        "SELECT COUNT(*) AS RowTotal FROM [bb1]].x].dbo.ledger",
        "DBCC CHECKDB (N'bb1'' --') WITH NO_INFOMSGS",
        "DBCC CHECKDB (N'bb1')",
        render(filled(Template.CHECK_LEDGER)).replace("[bb1].dbo.account", "[bb2].dbo.account"),
        render(filled(Template.INSERT_ROWS)).replace("25", "900000"),
    ],
)
def test_other_text_is_refused(text: str) -> None:
    """What is not on the list is refused with the list."""
    with pytest.raises(StatementRefused, match=r"closed list.*COUNT_ROWS, CHECKDB, CREATE_DATABASE") as refused:
        parse(text)
    assert refused.value.number == 50000


@given(st.text(max_size=60))
def test_blanks_cannot_smuggle_text(value: str) -> None:
    """Whatever is put into a blank is either refused or comes back as that blank."""
    statement = Statement(Template.CHECKDB, database=value)
    try:
        text = render(statement)
    except ValueError:
        return
    assert parse(text) == statement


def test_rows_are_limited() -> None:
    """More than 100,000 rows, and none, cannot be rendered."""
    for rows in (0, -1, sql.MAX_ROWS + 1):
        with pytest.raises(ValueError, match="rows"):
            render(Statement(Template.INSERT_ROWS, database="bb1", rows=rows))


def test_insert_count_and_checks(guest: Guest) -> None:
    """Insert, count, CHECKDB and the ledger check answer with the columns that their texts name."""
    assert run(guest, render(filled(Template.INSERT_ROWS))) == [{"RowTotal": 25}]
    assert run(guest, render(filled(Template.INSERT_ROWS))) == [{"RowTotal": 50}]
    assert run(guest, sql.COUNT_ROWS.format(database="bb1")) == [{"RowTotal": 50}]
    assert run(guest, sql.CHECKDB.format(database="bb1")) == []
    (row,) = run(guest, sql.CHECK_LEDGER.format(database="bb1"))
    assert (row.pop("RowTotal"), row.pop("LastEntry")) == (50, 2)
    assert set(row.values()) == {0}
    assert [f"AS {column}" in sql.CHECK_LEDGER for column in row] == [True] * 6
    assert run(guest, sql.LIST_DATABASES)[0] == {"name": "aa1", "state_desc": "ONLINE"}
    assert [row["drive"] for row in run(guest, sql.LIST_DRIVES)] == sorted(guest.volumes)


def test_rows_one_by_one(guest: Guest) -> None:
    """Rows that are inserted singly are entries of their own, and the chain runs through both kinds."""
    assert run(guest, render(filled(Template.INSERT_ROWS))) == [{"RowTotal": 25}]
    assert run(guest, render(filled(Template.INSERT_SINGLY))) == [{"RowTotal": 50}]
    (row,) = run(guest, sql.CHECK_LEDGER.format(database="bb1"))
    assert (row.pop("RowTotal"), row.pop("LastEntry")) == (50, 26)
    assert set(row.values()) == {0}


async def _count_between(guest: Guest, text: str) -> list[int]:
    """The rows that somebody else sees while a statement runs."""
    inserting = asyncio.create_task(sql.run(guest, text, sleep=at_once))
    seen = []
    while not inserting.done():
        await asyncio.sleep(0)
        seen.append(guest.count("bb1"))
    await inserting
    return seen


def test_others_have_their_turn_between_single_rows(guest: Guest) -> None:
    """While rows are inserted singly others are served and see what is committed; a transaction shows all or none."""
    text = render(Statement(Template.INSERT_SINGLY, database="bb1", rows=200))
    seen = asyncio.run(_count_between(guest, text))
    assert seen[-1] == 200
    assert len(set(seen) - {0, 200}) >= 3
    whole = asyncio.run(_count_between(guest, render(Statement(Template.INSERT_ROWS, database="bb1", rows=200))))
    assert set(whole) <= {200, 400}


def test_a_transaction_is_left_open_for_minutes(guest: Guest) -> None:
    """While it waits its rows are not committed, and nothing else is; afterwards all of them are."""
    waited: list[float] = []

    async def look(seconds: float) -> None:
        waited.append(seconds)
        assert guest.open_transactions() == ["bb1"]

    text = render(Statement(Template.INSERT_HELD, database="bb1", rows=40, minutes=3))
    assert asyncio.run(sql.run(guest, text, sleep=look)) == [{"RowTotal": 40}]
    assert waited == [180]
    assert run(guest, sql.CHECKDB.format(database="bb1")) == []


def test_create_attach_and_detach(guest: Guest) -> None:
    """A database is created empty, gets its ledger, and is moved to another name."""
    create = render(Statement(Template.CREATE_DATABASE, database="new", data=FILLED.data, log=FILLED.log))
    assert run(guest, create) == []
    with pytest.raises(SqlError, match="Msg 1801"):
        run(guest, create)
    with pytest.raises(SqlError, match=r"Msg 208.*new\.dbo\.ledger"):
        run(guest, sql.COUNT_ROWS.format(database="new"))
    run(guest, render(Statement(Template.CREATE_LEDGER, database="new")))
    with pytest.raises(SqlError, match="Msg 2714"):
        run(guest, render(Statement(Template.CREATE_LEDGER, database="new")))
    run(guest, render(Statement(Template.INSERT_ROWS, database="new", rows=7)))
    run(guest, sql.DETACH_DATABASE.format(database="new"))
    with pytest.raises(SqlError, match="Msg 911"):
        run(guest, sql.COUNT_ROWS.format(database="new"))
    attach = Statement(Template.ATTACH_DATABASE, database="again", data=FILLED.data, log=FILLED.log)
    run(guest, render(attach))
    assert run(guest, sql.COUNT_ROWS.format(database="again")) == [{"RowTotal": 7}]


def test_a_failed_attach_leaves_no_database(guest: Guest) -> None:
    """Attaching files that are not there fails with SQL Server's number and attaches nothing."""
    attach = Statement(Template.ATTACH_DATABASE, database="no", data="E:\\no.mdf", log="F:\\no.ldf")
    with pytest.raises(SqlError, match=r"Msg 1813.*E:\\no\.mdf is missing"):
        run(guest, render(attach))
    assert guest.databases() == rack.NAMES
    with pytest.raises(SqlError, match="Msg 5133"):
        run(guest, render(Statement(Template.CREATE_DATABASE, database="no", data="X:\\no.mdf", log="F:\\no.ldf")))


def test_locks_and_freezes(guest: Guest) -> None:
    """An open transaction gives the lock time-out; a freeze passes through for the caller to wait."""
    guest.begin("bb1", 3)
    insert = render(filled(Template.INSERT_ROWS))
    with pytest.raises(SqlError, match="Msg 1222"):
        run(guest, insert)
    guest.rollback("bb1")
    guest.freeze()
    with pytest.raises(GuestFrozen):
        run(guest, insert)
    guest.thaw()
    assert run(guest, insert) == [{"RowTotal": 25}]


def test_checkdb_reports_damage(guest: Guest) -> None:
    """A balance that was changed behind the engine's back is an error of CHECKDB, and a count in the ledger check."""
    run(guest, render(filled(Template.INSERT_ROWS)))
    guest.detach("bb1")
    data = bytearray(guest.read_file("E:\\Data\\bb1.mdf"))
    at = data.find(b"Line 7 of entry 1")
    data[at + 5 : at + 6] = b"8"  # the text only: harmless
    guest.write_file("E:\\Data\\bb1.mdf", bytes(data), flush=True)
    guest.attach("bb1", data="E:\\Data\\bb1.mdf", log="F:\\Log\\bb1.ldf")
    assert run(guest, sql.CHECKDB.format(database="bb1")) == []
    guest.detach("bb1")
    # The amount is stored just before the memo: change its low byte.
    data[at - 1] ^= 1
    guest.write_file("E:\\Data\\bb1.mdf", bytes(data), flush=True)
    guest.attach("bb1", data="E:\\Data\\bb1.mdf", log="F:\\Log\\bb1.ldf")
    with pytest.raises(SqlError, match=r"Msg 8992.*consistency errors"):
        run(guest, sql.CHECKDB.format(database="bb1"))
    (row,) = run(guest, sql.CHECK_LEDGER.format(database="bb1"))
    assert (row["WrongEntries"], row["WrongBalances"], row["MissingRows"]) == (1, 1, 0)
    assert guest.checkdb("bb1").integrity == []


def test_a_database_that_is_not_online_is_an_error(persist_disks: list[rack.RackDisk]) -> None:
    """Without the log's disk, statements fail with the number of an unavailable database."""
    guest = rack.start(persist_disks[:2])
    for template in (Template.COUNT_ROWS, Template.CHECKDB, Template.INSERT_ROWS):
        with pytest.raises(SqlError, match=r"Msg 945.*RECOVERY_PENDING"):
            run(guest, render(filled(template)))
    assert run(guest, sql.LIST_DATABASES)[1] == {"name": "bb1", "state_desc": "RECOVERY_PENDING"}
    guest.power_off()
