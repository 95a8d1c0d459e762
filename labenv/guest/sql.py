"""The T-SQL that the lab's database engine understands: a closed list of statement templates.

Each template is T-SQL that a real SQL Server runs as well (2012 or later, for CONCAT and HASHBYTES with SHA2_256). A
text is recognised if it is one of them with its blanks filled in; letter case and white space do not matter. Everything
else is refused. ``parse`` is pure; ``run`` carries a statement out on a guest.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from labenv.guest.engine import DatabaseState
from labenv.guest.errors import (
    DatabaseBusy,
    DatabaseError,
    DatabaseExists,
    DatabaseNotFound,
    DatabaseUnavailable,
    VolumeNotFound,
)
from labenv.guest.guest import Guest
from labenv.guest.ledger import LedgerCheck
from labenv.windows.disks.errors import DiskFull

LIST_DATABASES = "SELECT name, state_desc FROM sys.databases WHERE database_id > 4 ORDER BY name"
"""The user databases and their states. Columns: name, state_desc."""

LIST_DRIVES = "EXEC master.dbo.xp_fixeddrives"
"""The server's drive letters and what is free on each. Columns: drive, MB free."""

COUNT_ROWS = "SELECT COUNT(*) AS RowTotal FROM [{database}].dbo.ledger"
"""Number of committed ledger lines. Column: RowTotal."""

CHECKDB = "DBCC CHECKDB (N'{database}') WITH NO_INFOMSGS"
"""Check every page; no rows if the database is sound, error 8992 otherwise.

The lab's check includes the ledger: it stands for SQL Server's own refusal of a data file and a log file that are not
from one moment.
"""

CREATE_DATABASE = (
    "CREATE DATABASE [{database}] ON PRIMARY (NAME = N'{database}', FILENAME = N'{data}') "
    "LOG ON (NAME = N'{database}_log', FILENAME = N'{log}')"
)
"""An empty database; the folders of both files are created in the lab, and must be there on a real server."""

ATTACH_DATABASE = "CREATE DATABASE [{database}] ON (FILENAME = N'{data}'), (FILENAME = N'{log}') FOR ATTACH"
"""Attach a data file and a log file, with recovery."""

DETACH_DATABASE = "EXEC master.dbo.sp_detach_db @dbname = N'{database}'"
"""Forget a database; its files stay."""

CREATE_LEDGER = """
CREATE TABLE [{database}].dbo.ledger (sequence bigint NOT NULL PRIMARY KEY, entry bigint NOT NULL,
    account int NOT NULL, amount bigint NOT NULL, memo varchar(200) NOT NULL);
CREATE TABLE [{database}].dbo.account (number int NOT NULL PRIMARY KEY, balance bigint NOT NULL,
    lines bigint NOT NULL, memo varchar(300) NOT NULL);
CREATE TABLE [{database}].dbo.entry (number bigint NOT NULL PRIMARY KEY, first bigint NOT NULL,
    lines bigint NOT NULL, total bigint NOT NULL, chain binary(32) NOT NULL);
INSERT INTO [{database}].dbo.account (number, balance, lines, memo)
SELECT i, 0, 0, CONCAT('Account ', i, REPLICATE('0', 200))
FROM (SELECT TOP (64) ROW_NUMBER() OVER (ORDER BY (SELECT NULL)) AS i FROM sys.all_columns) AS n
"""
"""The ledger's tables, with 64 accounts at zero."""

INSERT_ROWS = """
SET NOCOUNT ON; SET XACT_ABORT ON;
BEGIN TRANSACTION;
DECLARE @entry bigint, @last bigint, @total bigint, @previous binary(32);
SELECT @entry = COALESCE(MAX(number), 0) + 1, @last = COALESCE(MAX(first + lines), 1) - 1
FROM [{database}].dbo.entry WITH (TABLOCKX, HOLDLOCK);
SELECT @previous = COALESCE((SELECT chain FROM [{database}].dbo.entry WHERE number = @entry - 1),
    CONVERT(binary(32), 0x00));
INSERT INTO [{database}].dbo.ledger (sequence, entry, account, amount, memo)
SELECT i, @entry, i % 64 + 1, (i * 7919 + @entry * 104729) % 2001 - 1000,
    CONCAT('Line ', i, ' of entry ', @entry, REPLICATE('0', 60))
FROM (SELECT TOP ({rows}) @last + ROW_NUMBER() OVER (ORDER BY (SELECT NULL)) AS i
    FROM sys.all_columns AS a CROSS JOIN sys.all_columns AS b) AS n;
SELECT @total = SUM(amount) FROM [{database}].dbo.ledger WHERE sequence > @last;
UPDATE a SET balance = a.balance + d.total, lines = a.lines + d.lines
FROM [{database}].dbo.account AS a INNER JOIN
    (SELECT account, SUM(amount) AS total, COUNT(*) AS lines FROM [{database}].dbo.ledger
    WHERE sequence > @last GROUP BY account) AS d ON d.account = a.number;
INSERT INTO [{database}].dbo.entry (number, first, lines, total, chain)
VALUES (@entry, @last + 1, {rows}, @total, HASHBYTES('SHA2_256',
    CONCAT(CONVERT(varchar(64), @previous, 2), '|', @entry, '|', @last + 1, '|', {rows}, '|', @total)));
COMMIT TRANSACTION;
SELECT COUNT(*) AS RowTotal FROM [{database}].dbo.ledger
"""
"""Add 1 to 100,000 ledger lines as one entry, in one transaction. Column: RowTotal, after the commit."""

INSERT_SINGLY = """
SET NOCOUNT ON; SET XACT_ABORT ON;
DECLARE @left int = {rows}, @entry bigint, @row bigint, @amount bigint, @previous binary(32);
WHILE @left > 0
BEGIN
    BEGIN TRANSACTION;
    SELECT @entry = COALESCE(MAX(number), 0) + 1, @row = COALESCE(MAX(first + lines), 1)
    FROM [{database}].dbo.entry WITH (TABLOCKX, HOLDLOCK);
    SELECT @previous = COALESCE((SELECT chain FROM [{database}].dbo.entry WHERE number = @entry - 1),
        CONVERT(binary(32), 0x00)), @amount = (@row * 7919 + @entry * 104729) % 2001 - 1000;
    INSERT INTO [{database}].dbo.ledger (sequence, entry, account, amount, memo)
    VALUES (@row, @entry, @row % 64 + 1, @amount,
        CONCAT('Line ', @row, ' of entry ', @entry, REPLICATE('0', 60)));
    UPDATE [{database}].dbo.account SET balance = balance + @amount, lines = lines + 1 WHERE number = @row % 64 + 1;
    INSERT INTO [{database}].dbo.entry (number, first, lines, total, chain)
    VALUES (@entry, @row, 1, @amount, HASHBYTES('SHA2_256',
        CONCAT(CONVERT(varchar(64), @previous, 2), '|', @entry, '|', @row, '|', 1, '|', @amount)));
    COMMIT TRANSACTION;
    SET @left = @left - 1;
END;
SELECT COUNT(*) AS RowTotal FROM [{database}].dbo.ledger
"""
"""Add 1 to 100,000 ledger lines, each as an entry and a transaction of its own. Column: RowTotal, at the end."""

INSERT_HELD = INSERT_ROWS.replace("COMMIT TRANSACTION", "WAITFOR DELAY '00:{minutes}:00';\nCOMMIT TRANSACTION")
"""As ``INSERT_ROWS``, but the transaction stays open for some minutes before it is committed."""

CHECK_LEDGER = """
SELECT
    (SELECT COUNT(*) FROM [{database}].dbo.ledger) AS RowTotal,
    (SELECT COALESCE(MAX(number), 0) FROM [{database}].dbo.entry) AS LastEntry,
    (SELECT COALESCE(MAX(sequence), 0) - COUNT(*) FROM [{database}].dbo.ledger) AS MissingRows,
    (SELECT COALESCE(MAX(number), 0) - COUNT(*) FROM [{database}].dbo.entry) AS MissingEntries,
    (SELECT COUNT(*) FROM [{database}].dbo.entry AS e LEFT JOIN
        (SELECT entry, MIN(sequence) AS first, COUNT(*) AS lines, SUM(amount) AS total
        FROM [{database}].dbo.ledger GROUP BY entry) AS r ON r.entry = e.number
        WHERE r.entry IS NULL OR r.first <> e.first OR r.lines <> e.lines OR r.total <> e.total) AS WrongEntries,
    (SELECT COUNT(*) FROM [{database}].dbo.ledger AS r LEFT JOIN [{database}].dbo.entry AS e ON e.number = r.entry
        WHERE e.number IS NULL) AS OrphanRows,
    (SELECT COUNT(*) FROM [{database}].dbo.account AS a LEFT JOIN
        (SELECT account, COUNT(*) AS lines, SUM(amount) AS total
        FROM [{database}].dbo.ledger GROUP BY account) AS r ON r.account = a.number
        WHERE a.balance <> COALESCE(r.total, 0) OR a.lines <> COALESCE(r.lines, 0)) AS WrongBalances,
    (SELECT COUNT(*) FROM [{database}].dbo.entry AS e LEFT JOIN [{database}].dbo.entry AS p ON p.number = e.number - 1
        WHERE e.chain <> HASHBYTES('SHA2_256', CONCAT(CONVERT(varchar(64),
            COALESCE(p.chain, CONVERT(binary(32), 0x00)), 2),
            '|', e.number, '|', e.first, '|', e.lines, '|', e.total))) AS BrokenLinks
"""
"""The ledger check as one row: RowTotal and LastEntry, then six columns that are all 0 in a sound ledger:
MissingRows, MissingEntries, WrongEntries, OrphanRows, WrongBalances, BrokenLinks.
"""

MAX_ROWS = 100_000
"""Most lines of one statement."""


class Template(Enum):
    """The closed list; the value is the template's text."""

    LIST_DATABASES = LIST_DATABASES
    LIST_DRIVES = LIST_DRIVES
    COUNT_ROWS = COUNT_ROWS
    CHECKDB = CHECKDB
    CREATE_DATABASE = CREATE_DATABASE
    ATTACH_DATABASE = ATTACH_DATABASE
    DETACH_DATABASE = DETACH_DATABASE
    CREATE_LEDGER = CREATE_LEDGER
    INSERT_ROWS = INSERT_ROWS
    INSERT_SINGLY = INSERT_SINGLY
    INSERT_HELD = INSERT_HELD
    CHECK_LEDGER = CHECK_LEDGER


@dataclass(frozen=True)
class Statement:
    """A recognised statement with its blanks: empty or 0 where the template has none."""

    template: Template
    database: str = ""
    rows: int = 0
    minutes: int = 0
    data: str = ""
    log: str = ""


class SqlError(DatabaseError):
    """An error as SQL Server numbers it (``number``); the text begins with ``Msg``."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"Msg {number}, Level 16, State 1: {message}")
        self.number = number


class StatementRefused(SqlError):
    """The text is not on the closed list."""


_TURN = 25
"""Transactions between which nobody else has a turn: about ten milliseconds."""

_BLANKS = {
    "database": r"[A-Za-z_][A-Za-z0-9_.-]{0,99}",
    "rows": r"[1-9][0-9]{0,5}",
    "minutes": r"[0-5][0-9]",
    "data": r"[A-Za-z]:\\[^'\"*?<>|]+",
    "log": r"[A-Za-z]:\\[^'\"*?<>|]+",
}


def _squeeze(text: str) -> str:
    """White space as single blanks, without a last semicolon."""
    return " ".join(text.split()).removesuffix(";").rstrip()


def _pattern(template: Template) -> re.Pattern[str]:
    seen: set[str] = set()
    parts = []
    for part in re.split(r"(\{\w+\})", _squeeze(template.value)):
        name = part[1:-1]
        if name not in _BLANKS:
            parts.append(re.escape(part))
        elif name in seen:
            parts.append(f"(?P={name})")
        else:
            seen.add(name)
            parts.append(f"(?P<{name}>{_BLANKS[name]})")
    return re.compile("".join(parts), re.IGNORECASE)


_PATTERNS = {template: _pattern(template) for template in Template}


def render(statement: Statement) -> str:
    """The text of a statement; raises ValueError if a blank cannot be filled in safely."""
    values = {
        "database": statement.database,
        "rows": str(statement.rows),
        "minutes": f"{statement.minutes:02}",
        "data": statement.data,
        "log": statement.log,
    }
    text = _squeeze(statement.template.value)
    for name, value in values.items():
        if f"{{{name}}}" in text:
            if not re.fullmatch(_BLANKS[name], value) or (name == "rows" and statement.rows > MAX_ROWS):
                raise ValueError(f"{value!r} cannot stand for {{{name}}} in {statement.template.name}")
            text = text.replace(f"{{{name}}}", value)
    return text


def parse(text: str) -> Statement:
    """Recognise a text; raises ``StatementRefused`` with the closed list if it is not on it."""
    squeezed = _squeeze(text)
    for template, pattern in _PATTERNS.items():
        match = pattern.fullmatch(squeezed)
        if match is None:
            continue
        blanks = match.groupdict()
        rows = int(blanks.get("rows", 0))
        if rows > MAX_ROWS:
            break
        return Statement(
            template,
            database=blanks.get("database", ""),
            rows=rows,
            minutes=int(blanks.get("minutes", 0)),
            data=blanks.get("data", ""),
            log=blanks.get("log", ""),
        )
    shown = squeezed if len(squeezed) <= 80 else squeezed[:77] + "..."
    raise StatementRefused(
        50000,
        f"the lab runs a closed list of statements, and this is none of them: {shown}. The list is: "
        + ", ".join(template.name for template in Template)
        + " (labenv.guest.sql has the texts)",
    )


Sleep = Callable[[float], Awaitable[None]]


async def run(guest: Guest, text: str, *, sleep: Sleep) -> list[dict[str, object]]:
    """Run a statement on a guest; returns its rows. Between transactions others have their turn.

    ``sleep``: waits in lab time, given seconds.

    Raises ``StatementRefused``, ``SqlError`` with SQL Server's number, or ``GuestFrozen`` if a write has to wait for
    the thaw.
    """
    statement = parse(text)
    name = statement.database
    try:
        if statement.template is Template.INSERT_SINGLY:
            return await _insert_singly(guest, statement)
        if statement.template is Template.INSERT_HELD:
            _need_ledger(guest, name)
            guest.begin(name, statement.rows)
            await sleep(60 * statement.minutes)
            return [{"RowTotal": guest.commit(name)}]
        return _carry_out(guest, statement)
    except DatabaseNotFound as error:
        raise SqlError(
            911, f"Database '{name}' does not exist. Make sure that the name is entered correctly."
        ) from error
    except DatabaseExists as error:
        raise SqlError(1801, f"Database '{name}' already exists, or its files do. {error}") from error
    except DatabaseBusy as error:
        raise SqlError(1222, f"Lock request time out period exceeded. {error}") from error
    except DiskFull as error:
        raise SqlError(1105, f"Could not allocate space in database '{name}': a volume is full. {error}") from error
    except VolumeNotFound as error:
        raise SqlError(5133, f"Directory lookup for a file of '{name}' failed. {error}") from error
    except DatabaseUnavailable as error:
        state, reason = guest.database_state(name)
        number = 926 if state is DatabaseState.SUSPECT else 945
        raise SqlError(number, f"Database '{name}' cannot be opened ({state.value}): {reason or error}") from error


async def _insert_singly(guest: Guest, statement: Statement) -> list[dict[str, object]]:
    _need_ledger(guest, statement.database)
    total = 0
    for number in range(statement.rows):
        if number % _TURN == 0:
            await asyncio.sleep(0)
        total = guest.insert(statement.database, 1)
    return [{"RowTotal": total}]


def _carry_out(guest: Guest, statement: Statement) -> list[dict[str, object]]:
    name = statement.database
    match statement.template:
        case Template.LIST_DATABASES:
            return [{"name": each, "state_desc": guest.database_state(each)[0].value} for each in guest.databases()]
        case Template.LIST_DRIVES:
            return [{"drive": drive, "MB free": volume.free >> 20} for drive, volume in sorted(guest.volumes.items())]
        case Template.COUNT_ROWS:
            _need_ledger(guest, name)
            return [{"RowTotal": guest.count(name)}]
        case Template.INSERT_ROWS:
            _need_ledger(guest, name)
            return [{"RowTotal": guest.insert(name, statement.rows)}]
        case Template.CHECK_LEDGER:
            _need_ledger(guest, name)
            return [_ledger_row(guest.ledger(name))]
        case Template.CHECKDB:
            return _checkdb(guest, name)
        case Template.CREATE_LEDGER:
            if guest.has_ledger(name):
                raise SqlError(2714, "There is already an object named 'ledger' in the database.")
            guest.create_ledger(name)
        case Template.CREATE_DATABASE:
            guest.create_database(name, data=statement.data, log=statement.log, with_ledger=False)
        case Template.ATTACH_DATABASE:
            _attach(guest, statement)
        case Template.DETACH_DATABASE:
            guest.detach(name)
    return []


def _need_ledger(guest: Guest, name: str) -> None:
    if not guest.has_ledger(name):
        raise SqlError(208, f"Invalid object name '{name}.dbo.ledger'.")


def _ledger_row(check: LedgerCheck) -> dict[str, object]:
    return {
        "RowTotal": check.rows,
        "LastEntry": check.last_entry,
        "MissingRows": check.missing_rows,
        "MissingEntries": check.missing_entries,
        "WrongEntries": check.wrong_entries,
        "OrphanRows": check.orphan_rows,
        "WrongBalances": check.wrong_balances,
        "BrokenLinks": check.broken_links,
    }


def _checkdb(guest: Guest, name: str) -> list[dict[str, object]]:
    state, _ = guest.database_state(name)
    if state is not DatabaseState.ONLINE:
        raise DatabaseUnavailable(name)
    result = guest.checkdb(name)
    if not result.ok:
        found = [*result.integrity, *result.ledger]
        raise SqlError(8992, f"CHECKDB found {len(found)} consistency errors in database '{name}'. " + "; ".join(found))
    return []


def _attach(guest: Guest, statement: Statement) -> None:
    """A real server does not keep a database that it cannot attach."""
    guest.attach(statement.database, data=statement.data, log=statement.log)
    state, reason = guest.database_state(statement.database)
    if state is not DatabaseState.ONLINE:
        guest.detach(statement.database)
        raise SqlError(
            1813, f"Could not open new database '{statement.database}'. {reason}. CREATE DATABASE is aborted."
        )
