"""The lab's database: a ledger in which damage shows, even where every page of the file is well-formed.

Three tables refer to each other: entries (one per transaction, each with the hash of the one before), rows (numbered
without gaps) and account balances, which are updated in place. Pages from two different moments, which is what a data
file and a log from two different Snapshot copies amount to, disagree with each other in at least one of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import apsw

GENESIS = bytes(32)
"""What stands for the hash before the first entry."""

SCHEMA = """
CREATE TABLE ledger (sequence INTEGER NOT NULL PRIMARY KEY, entry INTEGER NOT NULL, account INTEGER NOT NULL,
                     amount INTEGER NOT NULL, memo TEXT NOT NULL);
CREATE TABLE account (number INTEGER NOT NULL PRIMARY KEY, balance INTEGER NOT NULL, lines INTEGER NOT NULL,
                      memo TEXT NOT NULL);
CREATE TABLE entry (number INTEGER NOT NULL PRIMARY KEY, first INTEGER NOT NULL, lines INTEGER NOT NULL,
                    total INTEGER NOT NULL, chain BLOB NOT NULL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 64)
INSERT INTO account SELECT i, 0, 0, printf('Account %d', i) || substr(hex(zeroblob(100)), 1, 200) FROM n;
"""
"""SQLite's form of the tables that ``sql.CREATE_LEDGER`` states in T-SQL. The 64 accounts fill several pages."""

_LAST = "SELECT number, first + lines - 1, chain FROM entry ORDER BY number DESC LIMIT 1"

_ROWS = """
WITH RECURSIVE n(i) AS (SELECT :last + 1 UNION ALL SELECT i + 1 FROM n WHERE i < :last + :rows)
INSERT INTO ledger SELECT i, :entry, i % 64 + 1, (i * 7919 + :entry * 104729) % 2001 - 1000,
       printf('Line %d of entry %d', i, :entry) || substr(hex(zeroblob(30)), 1, 60) FROM n
"""

_BALANCES = """
UPDATE account SET balance = balance + d.total, lines = account.lines + d.lines
FROM (SELECT account AS number, SUM(amount) AS total, COUNT(*) AS lines FROM ledger WHERE sequence > :last GROUP BY 1) d
WHERE d.number = account.number
"""

_TOTAL = "SELECT COALESCE(SUM(amount), 0) FROM ledger WHERE sequence > :last"

_ENTRY = "INSERT INTO entry VALUES (:entry, :first, :rows, :total, :chain)"

_CHECK = """
SELECT (SELECT COUNT(*) FROM ledger),
       (SELECT COALESCE(MAX(number), 0) FROM entry),
       (SELECT COALESCE(MAX(sequence), 0) - COUNT(*) FROM ledger),
       (SELECT COALESCE(MAX(number), 0) - COUNT(*) FROM entry),
       (SELECT COUNT(*) FROM entry e LEFT JOIN (SELECT entry, MIN(sequence) AS first, COUNT(*) AS lines,
               SUM(amount) AS total FROM ledger GROUP BY entry) r ON r.entry = e.number
        WHERE r.entry IS NULL OR r.first <> e.first OR r.lines <> e.lines OR r.total <> e.total),
       (SELECT COUNT(*) FROM ledger r LEFT JOIN entry e ON e.number = r.entry WHERE e.number IS NULL),
       (SELECT COUNT(*) FROM account a LEFT JOIN (SELECT account, COUNT(*) AS lines, SUM(amount) AS total FROM ledger
               GROUP BY account) r ON r.account = a.number
        WHERE a.balance <> COALESCE(r.total, 0) OR a.lines <> COALESCE(r.lines, 0))
"""

_CHAIN = "SELECT number, first, lines, total, chain FROM entry ORDER BY number"


@dataclass(frozen=True)
class LedgerCheck:
    """What the ledger says about itself; a sound one has nothing but zeros after ``last_entry``.

    Attributes:
        rows: ledger lines, ``last_entry`` the number of the last transaction.
        missing_rows, missing_entries: gaps in the two sequences.
        wrong_entries: transactions whose lines do not add up to what was recorded.
        orphan_rows: lines of a transaction that is not there.
        wrong_balances: accounts whose balance is not the sum of their lines.
        broken_links: transactions whose hash does not follow from the one before.
    """

    rows: int
    last_entry: int
    missing_rows: int
    missing_entries: int
    wrong_entries: int
    orphan_rows: int
    wrong_balances: int
    broken_links: int

    @property
    def problems(self) -> list[str]:
        """One sentence for each kind of damage; empty if there is none."""
        texts = (
            (self.missing_rows, "ledger lines are missing from the sequence"),
            (self.missing_entries, "entries are missing from the sequence"),
            (self.wrong_entries, "entries do not match their lines"),
            (self.orphan_rows, "ledger lines belong to no entry"),
            (self.wrong_balances, "account balances do not match their lines"),
            (self.broken_links, "entries do not follow from the one before"),
        )
        return [f"{count} {text}" for count, text in texts if count]


def chain(previous: bytes, entry: int, first: int, rows: int, total: int) -> bytes:
    """The hash of an entry: SHA-256 of the previous one in hex and the numbers, as T-SQL's HASHBYTES computes it."""
    return hashlib.sha256(f"{previous.hex().upper()}|{entry}|{first}|{rows}|{total}".encode("ascii")).digest()


def create(connection: apsw.Connection) -> None:
    """Create the tables, in the caller's transaction."""
    connection.execute(SCHEMA)


def exists(connection: apsw.Connection) -> bool:
    """Whether the database holds a ledger."""
    return bool(connection.execute("SELECT COUNT(*) FROM sqlite_schema WHERE name = 'ledger'").get)


def insert(connection: apsw.Connection, rows: int) -> int:
    """Add one entry of so many lines, in the caller's transaction; returns the number of lines afterwards."""
    found = connection.execute(_LAST).fetchone()
    number, last, previous = found if found is not None else (0, 0, GENESIS)
    values = {"last": last, "rows": rows, "entry": number + 1, "first": last + 1}
    connection.execute(_ROWS, values)
    connection.execute(_BALANCES, {"last": last})
    total = connection.execute(_TOTAL, {"last": last}).get
    link = chain(previous, number + 1, last + 1, rows, total)
    connection.execute(_ENTRY, {**values, "total": total, "chain": link})
    return int(last + rows)


def count(connection: apsw.Connection) -> int:
    """Number of ledger lines."""
    return int(connection.execute("SELECT COUNT(*) FROM ledger").get)


def check(connection: apsw.Connection) -> LedgerCheck:
    """Compare the tables with each other; apsw's errors pass through if a page cannot be read."""
    row = connection.execute(_CHECK).fetchone()
    assert row is not None
    rows, last_entry, missing_rows, missing_entries, wrong_entries, orphan_rows, wrong_balances = row
    broken = 0
    previous = GENESIS
    for number, first, lines, total, link in connection.execute(_CHAIN):
        if link != chain(previous, number, first, lines, total):
            broken += 1
        previous = link
    return LedgerCheck(
        rows=rows,
        last_entry=last_entry,
        missing_rows=missing_rows,
        missing_entries=missing_entries,
        wrong_entries=wrong_entries,
        orphan_rows=orphan_rows,
        wrong_balances=wrong_balances,
        broken_links=broken,
    )
