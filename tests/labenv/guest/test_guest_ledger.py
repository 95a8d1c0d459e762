"""The ledger finds every kind of damage that leaves the pages well-formed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import apsw
import pytest

from labenv.guest import ledger


@pytest.fixture
def books() -> Iterator[apsw.Connection]:
    """A ledger of four entries and 42 lines in a plain SQLite database."""
    connection = apsw.Connection(":memory:")
    ledger.create(connection)
    for rows in (1, 20, 1, 20):
        ledger.insert(connection, rows)
    yield connection
    connection.close()


def test_a_sound_ledger(books: apsw.Connection) -> None:
    """Counts are right and nothing is found."""
    found = ledger.check(books)
    assert (found.rows, found.last_entry, found.problems) == (42, 4, [])
    assert ledger.count(books) == 42


def test_an_empty_ledger_is_sound() -> None:
    """A ledger without an entry has no damage."""
    connection = apsw.Connection(":memory:")
    ledger.create(connection)
    found = ledger.check(connection)
    assert (found.rows, found.last_entry, found.problems) == (0, 0, [])
    connection.close()


def test_the_chain_is_what_t_sql_computes(books: apsw.Connection) -> None:
    """An entry's hash is SHA-256 of the previous one as upper-case hex and the entry's numbers, parted by bars."""
    link = bytes(32)
    for number, first, lines, total, chain in books.execute(
        "SELECT number, first, lines, total, chain FROM entry ORDER BY number"
    ):
        text = "|".join([link.hex().upper(), str(number), str(first), str(lines), str(total)])
        link = hashlib.sha256(text.encode()).digest()
        assert chain == link


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("DELETE FROM ledger WHERE sequence = 7", "missing_rows"),
        ("DELETE FROM ledger WHERE sequence = 42", "wrong_entries"),
        ("UPDATE ledger SET amount = amount + 1 WHERE sequence = 7", "wrong_entries"),
        ("UPDATE ledger SET amount = amount + 1 WHERE sequence = 7", "wrong_balances"),
        ("UPDATE ledger SET entry = 3 WHERE sequence = 7", "wrong_entries"),
        ("UPDATE ledger SET account = 60 WHERE sequence = 7", "wrong_balances"),
        ("UPDATE account SET balance = balance - 1 WHERE number = 5", "wrong_balances"),
        ("UPDATE account SET lines = 0 WHERE number = 5", "wrong_balances"),
        ("DELETE FROM entry WHERE number = 2", "missing_entries"),
        ("DELETE FROM entry WHERE number = 4", "orphan_rows"),
        ("UPDATE entry SET total = total + 1 WHERE number = 2", "broken_links"),
        ("UPDATE entry SET chain = zeroblob(32) WHERE number = 3", "broken_links"),
    ],
)
def test_damage_is_found(books: apsw.Connection, damage: str, finding: str) -> None:
    """Lines, entries, balances and hashes check each other; the pages stay well-formed throughout."""
    books.execute(damage)
    assert books.execute("PRAGMA integrity_check").get == "ok"
    found = ledger.check(books)
    assert getattr(found, finding) > 0
    assert found.problems
