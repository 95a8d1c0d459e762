"""A guest's databases, through Invoke-Sqlcmd on the host with an SQL login (TR appendix, Tables 4 and 5).

From the host a guest is a second hop: Windows credentials do not travel there, an SQL login does. Only the statements
of this page are sent; the lab knows the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from smhvlab.errors import NotAllowed, PowerShellError, SecretMissing, TimedOut
from smhvlab.profile import HostEndpoint
from smhvlab.secrets import Secrets
from smhvlab.wires.powershell import PowerShellWire, Record, Running
from smhvlab.wires.wave import ended, raise_worst

LIST_DATABASES = "SELECT name, state_desc FROM sys.databases WHERE database_id > 4 ORDER BY name"
LIST_DRIVES = "EXEC master.dbo.xp_fixeddrives"
COUNT_ROWS = "SELECT COUNT(*) AS RowTotal FROM [{database}].dbo.ledger"
CHECKDB = "DBCC CHECKDB (N'{database}') WITH NO_INFOMSGS"
ATTACH_DATABASE = "CREATE DATABASE [{database}] ON (FILENAME = N'{data}'), (FILENAME = N'{log}') FOR ATTACH"
DETACH_DATABASE = "EXEC master.dbo.sp_detach_db @dbname = N'{database}'"

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
"""Adds ledger lines as one transaction; each entry is chained to the one before, so that lost ones are noticed."""

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
"""As ``INSERT_ROWS``, but each line is an entry and a transaction of its own, as an application writes them."""

INSERT_HELD = INSERT_ROWS.replace("COMMIT TRANSACTION", "WAITFOR DELAY '00:{minutes}:00';\nCOMMIT TRANSACTION")
"""As ``INSERT_ROWS``, but the transaction stays open for some minutes before it is committed."""

_PATH = re.compile(r"[A-Za-z]:\\[^'\"*?<>|]+\Z")
MAX_ROWS = 100_000
_WAVE = 10  # VMs that are asked at the same time
_CHECK_SECONDS = 65_535
"""How long a check of a database may take: terabytes take hours, and Invoke-Sqlcmd takes no larger number."""
_LONG, _MORE = 3_000, 600
"""From how many seconds of a query on the wire waits longer than usual, and how much longer than the query it waits."""
_OVERDUE = re.compile(r"time-?out", re.IGNORECASE)
"""What the client says, and no engine, of a query that took too long."""


@dataclass(frozen=True)
class Check:
    """What the engine found of a database; ``finding`` is empty when the database is sound."""

    database: str
    ok: bool
    finding: str = ""


@dataclass(frozen=True)
class DatabaseFound:
    """A database of a VM: what its engine calls its state, its rows, and DBCC CHECKDB's finding.

    Attributes:
        database: empty if the engine could not be asked at all.
        rows: lines of its ledger; None if it has none, or could not be asked.
        ok: whether it was checked and is sound.
        checked: whether a check has ended: one that took too long says nothing of the database.
    """

    vm: str
    database: str
    state: str
    rows: int | None
    ok: bool
    finding: str = ""
    checked: bool = True

    @property
    def counted(self) -> str:
        """Its rows as text; empty if nobody knows them."""
        return "" if self.rows is None else str(self.rows)

    @property
    def verdict(self) -> str:
        """What is to be said of it."""
        if self.ok:
            return "sound"
        return f"DAMAGED: {self.finding}" if self.database and self.checked else f"not checked: {self.finding}"

    def __str__(self) -> str:
        rows = f", {self.counted} rows" if self.counted else ""
        return f"{self.vm}/{self.database or '*'}: {self.state}{rows}, {self.verdict}"


class Sql:
    """The database engines in the VMs of one host."""

    def __init__(self, host: PowerShellWire, endpoint: HostEndpoint, secrets: Secrets) -> None:
        self._host = host
        self._login = endpoint.sql
        self._secrets = secrets

    def databases(self, vm: str) -> dict[str, str]:
        """State (``ONLINE``, ``SUSPECT``, ...) of each database in a VM, by name."""
        return {str(row["name"]): str(row["state_desc"]) for row in self._query(vm, LIST_DATABASES)}

    def drives(self, vm: str) -> set[str]:
        """Drive letters of a VM's guest."""
        return {str(row["drive"]).upper() for row in self._query(vm, LIST_DRIVES)}

    def attach(self, vm: str, database: str, *, data: str, log: str) -> Check:
        """Attach a database's files, which recovers it; tells what the engine says if they do not belong together."""
        text = _fill(ATTACH_DATABASE, database, data=_path(data), log=_path(log))
        return self._checking(vm, database, self._parameters(vm, text, seconds=_CHECK_SECONDS))

    def detach(self, vm: str, database: str) -> None:
        """Forget a database; its files stay."""
        self._query(vm, _fill(DETACH_DATABASE, database))

    def count(self, vm: str, database: str) -> int:
        """Committed rows of a database's ledger."""
        return int(self._query(vm, _fill(COUNT_ROWS, database))[0]["RowTotal"])

    def insert(self, vm: str, database: str, rows: int, *, singly: bool = False) -> int:
        """Add rows in one transaction, or ``singly`` in one each; returns how many there are then.

        Raises NotAllowed beyond 1 to 100,000.
        """
        if not 1 <= rows <= MAX_ROWS:
            raise NotAllowed(f"{rows} rows in one statement", next_action=f"Insert 1 to {MAX_ROWS:,} rows at once.")
        template = INSERT_SINGLY if singly else INSERT_ROWS
        return int(self._query(vm, _fill(template, database, rows=rows))[0]["RowTotal"])

    def begin_held(self, vm: str, database: str, rows: int, *, minutes: int) -> Running:
        """Start a transaction that adds rows and stays open for 1 to 59 minutes; ``finish`` waits for its end.

        What is copied meanwhile holds a transaction in the middle. Raises NotAllowed, as ``insert``.
        """
        if not (1 <= rows <= MAX_ROWS and 1 <= minutes <= 59):
            raise NotAllowed(
                f"{rows} rows for {minutes} minutes", next_action="Give 1 to 100,000 rows, 1 to 59 minutes."
            )
        text = _fill(INSERT_HELD, database, rows=rows, minutes=f"{minutes:02}")
        return self._host.begin("Invoke-Sqlcmd", self._parameters(vm, text, seconds=60 * minutes + 600))

    def finish(self, held: Running) -> int:
        """Wait until a transaction that was left open is committed; returns how many rows there are then."""
        return int(self._host.wait(held)[0]["RowTotal"])

    def checkdb(self, vm: str, database: str) -> Check:
        """DBCC CHECKDB of a database. Raises TimedOut: it did not end, and says nothing of the database."""
        parameters = self._parameters(vm, _fill(CHECKDB, database), seconds=_CHECK_SECONDS)
        return self._checking(vm, database, parameters)

    def look(self, vms: Sequence[str]) -> dict[str, list[DatabaseFound]]:
        """State, rows and DBCC CHECKDB of every database of running VMs, by VM, side by side; some have no engine.

        What cannot be asked (no engine, no password for it) is told as a finding: it is no reason to stop a failover.
        """
        try:
            self._secrets.of(self._login)
        except SecretMissing as error:
            told = f"{error.message}. {error.next_action}"
            return {vm: [DatabaseFound(vm, "", "no password", None, False, told)] for vm in vms}
        found: dict[str, list[DatabaseFound]] = {}
        for start in range(0, len(vms), _WAVE):
            part = vms[start : start + _WAVE]
            listed = self._wave([(vm, LIST_DATABASES) for vm in part])
            wanted: list[tuple[str, str, str]] = []
            for vm, rows in zip(part, listed, strict=True):
                found[vm] = []
                if isinstance(rows, PowerShellError):
                    found[vm].append(DatabaseFound(vm, "", "no answer", None, False, rows.why or rows.message))
                else:
                    wanted += [(vm, str(row["name"]), str(row["state_desc"])) for row in rows]
            checks = self._wave([(vm, _fill(CHECKDB, name)) for vm, name, _ in wanted], seconds=_CHECK_SECONDS)
            counts = self._wave([(vm, _fill(COUNT_ROWS, name)) for vm, name, _ in wanted])
            for (vm, name, state), check, count in zip(wanted, checks, counts, strict=True):
                finding = (check.why or check.message) if isinstance(check, PowerShellError) else ""
                number = None if isinstance(count, PowerShellError) else int(count[0]["RowTotal"])
                sound = not isinstance(check, PowerShellError)
                checked = not _OVERDUE.search(finding)
                found[vm].append(DatabaseFound(vm, name, state, number, sound, finding, checked))
        return found

    def _wave(self, queries: Sequence[tuple[str, str]], *, seconds: int = 600) -> list[list[Record] | PowerShellError]:
        """What each query answers, or why it failed."""
        asked = (self._parameters(vm, text, seconds=seconds) for vm, text in queries)
        patience = seconds + _MORE if seconds > _LONG else None
        wave = ended(self._host.begin("Invoke-Sqlcmd", each, timeout=patience) for each in asked)
        raise_worst(one.error for one in wave if not isinstance(one.error, PowerShellError))
        answers = (one.error if isinstance(one.error, PowerShellError) else one.output for one in wave)
        return [answer for answer in answers if answer is not None]

    def _checking(self, vm: str, database: str, parameters: dict[str, object]) -> Check:
        try:
            self._host.run("Invoke-Sqlcmd", parameters, timeout=_CHECK_SECONDS + _MORE)
        except PowerShellError as error:
            if error.error_id != "SqlError":
                raise
            finding = error.why or error.message
            if _OVERDUE.search(finding):
                raise TimedOut(
                    f"The check of {database} in {vm} did not end in time: it is not checked",
                    why=finding,
                    next_action="Try again when the host and the array have less to do.",
                    tr="6.3",
                ) from error
            return Check(database, ok=False, finding=finding)
        return Check(database, ok=True)

    def _query(self, vm: str, text: str) -> list[Record]:
        return self._host.run("Invoke-Sqlcmd", self._parameters(vm, text))

    def _parameters(self, vm: str, text: str, *, seconds: int = 600) -> dict[str, object]:
        return {
            "ServerInstance": vm,
            "Query": text,
            "Username": self._login.user,
            "Password": self._secrets.of(self._login),
            "QueryTimeout": seconds,
        }


def _fill(template: str, database: str, **blanks: object) -> str:
    """A statement with its blanks filled in, the database's name quoted as T-SQL wants it in either place."""
    text = " ".join(template.split()).format(database="{database}", **blanks)
    text = text.replace("[{database}]", f"[{database.replace(']', ']]')}]")
    return text.replace("N'{database}'", "N'{}'".format(database.replace("'", "''")))


def _path(path: str) -> str:
    if not _PATH.match(path):
        raise NotAllowed(
            f"{path!r} cannot be given to a database engine as the path of a file",
            next_action="Rename the file: a full path without quotation marks and wildcards is needed.",
        )
    return path
