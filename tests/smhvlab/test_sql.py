"""The databases of guests: names of any kind, databases without a ledger, and an engine that cannot be asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.errors import TimedOut
from smhvlab.secrets import Secrets
from smhvlab.site import Site
from smhvlab.sql import CHECKDB, COUNT_ROWS, _fill
from smhvlab.wires.control import Phase, WireRequest

NAME = "SharePoint_Config-2010"


@pytest.fixture
def site(lab: Lab) -> Iterator[Site]:
    """The site of a fresh lab, over both real wires."""
    with smhvlab.site.connect(lab.profile) as connected:
        yield connected


def test_names_are_quoted_where_they_stand() -> None:
    """A bracket is doubled in an identifier, an apostrophe in a text, and neither ends what it stands in."""
    assert _fill(COUNT_ROWS, "a]b'{c}") == "SELECT COUNT(*) AS RowTotal FROM [a]]b'{c}].dbo.ledger"
    assert _fill(CHECKDB, "a]b'{c}") == "DBCC CHECKDB (N'a]b''{c}') WITH NO_INFOMSGS"


def test_a_database_of_another_product_is_checked(site: Site) -> None:
    """A hyphen in its name and the lack of a ledger do not matter: it is sound, and has no rows to count."""
    tools = site.tools()
    login = site.profile.hyperv[0].sql
    text = (
        f"CREATE DATABASE [{NAME}] ON PRIMARY (NAME = N'{NAME}', FILENAME = N'E:\\{NAME}.mdf') "
        f"LOG ON (NAME = N'{NAME}_log', FILENAME = N'E:\\{NAME}.ldf')"
    )
    statement = {"ServerInstance": "web01", "Query": text, "Username": login.user, "Password": site.secret(login)}
    tools.host.run("Invoke-Sqlcmd", statement)
    found = {entry.database: entry for entry in tools.sql.look(["web01"])["web01"]}
    assert (found[NAME].ok, found[NAME].rows, found[NAME].verdict) == (True, None, "sound")
    assert all(entry.rows is not None for name, entry in found.items() if name != NAME)


def test_without_a_password_databases_are_not_checked(lab: Lab) -> None:
    """Nobody is asked and nothing is raised: the finding says what is missing and where to put it."""
    with smhvlab.site.connect(lab.profile) as known:
        kept = {key: secret for key, secret in known.profile.secrets.items() if not key.endswith("/sql")}
        profile = replace(known.profile, secrets=kept)
    with Site(profile, secrets=Secrets(profile, environment={}, keyring=False, prompt=None)) as site:
        (found,) = site.tools().sql.look(["web01"])["web01"]
    assert (found.ok, found.rows, found.state) == (False, None, "no password")
    assert found.verdict.startswith("not checked: No password for")
    assert "Set SMHVLAB_" in found.verdict


def test_a_check_that_takes_too_long_finds_no_damage(site: Site, lab: Lab) -> None:
    """What the client says of a query that did not end is no finding about the database: it is not checked."""
    said = "Execution Timeout Expired.  The timeout period elapsed prior to completion of the operation"
    name = lab.guest("sql01").databases()[0]
    asked: list[str] = []

    def overdue(request: WireRequest, phase: Phase) -> None:
        if phase is Phase.BEFORE and request.title == "Invoke-Sqlcmd":
            asked.append(request.title)
            if len(asked) in (1, 3):  # the one check, and the first of those that follow the list of the databases
                rule = {"match": {"cmdlet": "Invoke-Sqlcmd"}, "code": "SqlError", "message": said}
                lab.faults.set("windows.cmdlet", "error", **rule)

    site.control.seam = overdue
    sql = site.tools().sql
    with pytest.raises(TimedOut, match="it is not checked"):
        sql.checkdb("sql01", name)
    found = {entry.database: entry for entry in sql.look(["sql01"])["sql01"]}
    assert sorted({entry.verdict.partition(":")[0] for entry in found.values()}) == ["not checked", "sound"]
