"""``%smhv`` in a notebook: the TR's own lines. ``%load_ext smhvlab.magics`` makes it known.

A line that names a server goes to whichever of the notebook's sites has it, any other to the one that is called
``site``. It is carried out at once, as in SMHV's own shell: ``-WhatIf`` only plans. ``%smhv`` alone tells what can be
written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smhvlab.errors import NotFound
from smhvlab.lines import SYNTAXES, parse
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
        return Shell(_site_for(text, shell.user_ns)).run(text)

    shell.register_magic_function(smhv, "line_cell", "smhv")


def _site_for(text: str, names: Mapping[str, Any]) -> Site:
    """The site that a line is meant for. Raises NotFound: the notebook has none."""
    sites = [value for value in (names.get("site"), *names.values()) if isinstance(value, Site)]
    sites += [site.partner for site in sites if site.partner is not None]
    if not sites:
        raise NotFound(
            "There is no site that the line could go to",
            next_action='Connect first: site = smhvlab.connect("lab:standalone").',
        )
    line = parse(text)
    server = (line.text("Server") or line.text("m")).casefold()
    return next((site for site in sites if server in site.servers), sites[0])
