"""``%smhv`` in a notebook: the TR's own lines. ``%load_ext smhvlab.magics`` makes it known.

The line goes to the site that the notebook calls ``site``; ``%smhv`` alone tells what can be written.
"""

from __future__ import annotations

from typing import Any

from smhvlab.errors import NotFound
from smhvlab.lines import SYNTAXES
from smhvlab.shell import Shell
from smhvlab.site import Site


class Help:
    """What can be written after ``%smhv``."""

    def __repr__(self) -> str:
        return "\n".join(str(syntax) for syntax in SYNTAXES)


def load_ipython_extension(shell: Any) -> None:
    """Called by ``%load_ext smhvlab.magics``."""

    def smhv(line: str, cell: str | None = None) -> Any:
        """A line of the TR: Get-Backup, Restore-Backup, Get-VMsFromBackup, New-Backup, sdcli snap ..."""
        text = line if cell is None else f"{line} {cell}"
        if not text.strip():
            return Help()
        site = shell.user_ns.get("site")
        if not isinstance(site, Site):
            raise NotFound(
                "There is no site that the line could go to",
                next_action='Connect first: site = smhvlab.connect("lab:standalone").',
            )
        return Shell(site).run(text)

    shell.register_magic_function(smhv, "line_cell", "smhv")
