"""Mounting, browsing, verifying and restoring files from a terminal (TR 6.8)."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest

from smhvlab.cli.main import main
from tests.flows.checks import picture
from tests.flows.conftest import Stock


def ran(stock: Stock, *arguments: str, code: int = 0) -> Any:
    """Run a command with --json on the site; the one value that it prints."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        ended = main([arguments[0], "--json", "--site", str(stock.lab.profile), *arguments[1:]])
    assert ended == code, out.getvalue()
    return json.loads(out.getvalue())


def test_a_backup_is_mounted_browsed_and_unmounted(stock: Stock) -> None:
    """The warning has to be accepted by name; tables are rows; the doctor tells what nobody will take away."""
    before = picture(stock.site)
    mount = ("mount", stock.backup, "--lun", "app01", "--at", "M:", "--guests", "--yes")
    assert "--accept not-recovered" in ran(stock, *mount, code=1)["error"]["Next"]
    told = ran(stock, *mount, "--accept", "not-recovered")
    assert told["result"]["mount"]["image"]["access_path"] == "M:\\"
    assert [row["path"] for row in ran(stock, "mounts")] == ["M:\\"]
    assert [row["snapshot"] for row in ran(stock, "busy") if row["volume"] == "vm_shared"] == [stock.backup]
    rows = ran(stock, "browse", "M:", "--vm", "app01", "--path", "E:\\Docs")
    assert [row["name"] for row in rows] == ["letter.txt"]
    assert ran(stock, "hot-add", "M:", "app01", "--to", "web01", "--disk", "1", "--yes")["outcome"] == "done"
    assert ran(stock, "unmount", "M:", "--yes", code=1)["error"]["class"] == "NotAllowed"
    assert ran(stock, "detach", "M:", "--yes")["outcome"] == "done"
    assert ran(stock, "unmount", "M:", "--yes")["outcome"] == "done"
    assert picture(stock.site) == before
    stock.site.tools().host.run("New-Item", {"Path": "C:\\smhvlab\\stray", "ItemType": "Directory"})
    assert [left["name"] for left in ran(stock, "doctor")] == ["C:\\smhvlab\\stray"]


def test_a_file_is_restored_and_a_line_of_the_tr_is_planned(stock: Stock) -> None:
    """A copy out of a guest's disk; a line changes nothing without --yes."""
    arguments = (stock.backup, "--vm", "app01", "--guest-path", "E:\\Docs\\letter.txt", "--to", "C:\\letter.txt")
    assert ran(stock, "restore-file", *arguments, "--yes")["result"]["size"] == len("as it was")
    changes = stock.site.tools().snapinfo.backups()
    told = ran(stock, "line", f"Restore-Backup -Server hv1 -Backup {stock.backup} -ResourceName sql01")
    assert "no undo from here on" in told["text"]
    assert ran(stock, "line", "get-backup -server hv1")[0]["BackupName"] == stock.backup
    assert stock.site.tools().snapinfo.backups() == changes


def test_a_restore_runs_a_cmdlet_in_the_end(stock: Stock) -> None:
    """Its parameters are given one by one; one that is no NAME=VALUE is a usage error."""
    restore = ("restore", stock.backup, "sql01", "--yes", "--script", "New-Item", "--script-parameter")
    told = ran(stock, *restore, "Path=C:\\a=b", "--script-parameter", "ItemType=Directory")
    assert "ran" in told["result"]["script"]
    assert stock.site.tools().host.run("Test-Path", {"LiteralPath": "C:\\a=b"})[0]
    with pytest.raises(SystemExit):
        ran(stock, *restore, "Path")
