"""The TR's own lines: SMHV's cmdlets (TR 8) and ``sdcli snap`` (TR 6.8), read as they are written there.

Cmdlet and parameter names are taken whatever their case, and parameters may be shortened as PowerShell allows, so that
``-backup`` is ``-BackupName``. Of ``sdcli`` only what public scripts and the TR show is known.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from smhvlab.errors import NotAllowed, NotFound

SWITCH = "switch"
TEXT = "text"
LIST = "list"


@dataclass(frozen=True)
class Syntax:
    """What a command takes.

    Attributes:
        name: as it is documented.
        parameters: documented name -> ``switch``, ``text``, or ``list``: values behind one another, or with commas.
        needed: parameters that must be there.
        exact: whether names must be given whole, and their case counts (sdcli's one-letter options).
    """

    name: str
    parameters: Mapping[str, str]
    needed: tuple[str, ...] = ()
    exact: bool = False

    def __str__(self) -> str:
        parts = []
        for name, kind in self.parameters.items():
            part = f"-{name}" + (f" <{name}>" if kind == TEXT and not self.exact else " ..." if kind != SWITCH else "")
            parts.append(part if name in self.needed else f"[{part}]")
        return " ".join([self.name, *parts])


COMMON = {"Verbose": SWITCH, "WhatIf": SWITCH, "Confirm": SWITCH}
"""-WhatIf only plans; -Confirm:$false accepts the warnings of the plan, as -f does for ``sdcli snap mount``."""

_GET = {"Server": TEXT, "ResourceName": TEXT, "DatasetName": TEXT, "Verbose": SWITCH}
_NEW = {"Server": TEXT, "DatasetName": TEXT, "BackupType": TEXT}
_RESTORE = {
    "Server": TEXT,
    "ResourceName": TEXT,
    "BackupName": TEXT,
    "RestoreToAlternateHost": SWITCH,
    "DisableVerifySnapshot": SWITCH,
}
_CREATE = {"m": TEXT, "s": TEXT, "D": LIST, "x": SWITCH, "u": SWITCH}
SYNTAXES = (
    Syntax("Get-VMsFromBackup", {"Server": TEXT, "Verbose": SWITCH}, ("Server",)),
    Syntax("Get-Backup", _GET, ("Server",)),
    Syntax("New-Backup", {**_NEW, **COMMON}, ("Server", "DatasetName")),
    Syntax("Restore-Backup", {**_RESTORE, **COMMON}, ("Server", "ResourceName", "BackupName")),
    Syntax("sdcli snap list", {"m": TEXT, "d": TEXT}, exact=True),
    Syntax("sdcli snap create", _CREATE, ("s", "D"), exact=True),
    Syntax("sdcli snap delete", {"m": TEXT, "s": TEXT, "D": LIST}, ("s", "D"), exact=True),
    Syntax("sdcli snap mount", {"m": TEXT, "k": TEXT, "s": TEXT, "d": TEXT, "f": SWITCH}, ("k", "s"), exact=True),
    Syntax("sdcli snap unmount", {"m": TEXT, "d": TEXT}, ("d",), exact=True),
)
"""Every command that is known."""


@dataclass(frozen=True)
class Line:
    """A line that was understood: the command's documented name and its values by documented parameter name."""

    command: str
    values: Mapping[str, str | bool]

    def text(self, name: str) -> str:
        """The value of a parameter, "" if it was not given."""
        value = self.values.get(name, "")
        return value if isinstance(value, str) else ""

    def on(self, name: str) -> bool:
        """Whether a switch was given (and not as ``-Name:$false``)."""
        return self.values.get(name) is True


def parse(line: str) -> Line:
    """Read a line.

    Raises:
        NotFound: no such command.
        NotAllowed: a token that the command does not know, a parameter that is missing, ambiguous, given twice, or
            without its value.
    """
    tokens = _tokens(line)
    if not tokens:
        raise NotAllowed("The line is empty", next_action=f"Known are {_names()}.", tr="8")
    syntax, rest = _command(tokens)
    values: dict[str, str | bool] = {}
    while rest:
        token = rest.pop(0)
        if not token.startswith("-") or len(token) < 2:
            raise NotAllowed(
                f"{token!r} does not belong to {syntax.name}",
                next_action=f"Write {syntax}.",
                why="a value needs its name",
            )
        given, colon, behind = token[1:].partition(":")
        name = _parameter(syntax, given)
        if name in values:
            raise NotAllowed(f"-{name} is given twice", next_action=f"Write {syntax}.")
        values[name] = _value(syntax, name, behind if colon else None, rest)
    if missing := [name for name in syntax.needed if name not in values]:
        raise NotAllowed(f"{syntax.name} needs -{missing[0]}", next_action=f"Write {syntax}.")
    return Line(syntax.name, values)


def _value(syntax: Syntax, name: str, behind: str | None, rest: list[str]) -> str | bool:
    if syntax.parameters[name] == SWITCH:
        if behind is None or behind.casefold() in ("$true", "$false"):
            return behind is None or behind.casefold() == "$true"
        raise NotAllowed(f"-{name}:{behind} is neither on nor off", next_action=f"Write -{name}, or -{name}:$false.")
    if behind is not None:
        return behind
    if not rest or (rest[0].startswith("-") and len(rest[0]) > 1):
        raise NotAllowed(f"-{name} has no value", next_action=f"Write {syntax}.")
    words = [rest.pop(0)]
    while syntax.parameters[name] == LIST and rest and not rest[0].startswith("-"):
        words.append(rest.pop(0))
    return ",".join(words)


def _tokens(line: str) -> list[str]:
    """Words, with quotation marks taken off; a backtick or a break at the end of a printed line is no word."""
    # A printed line breaks behind a hyphen, of a name as well as of a parameter.
    lexer = shlex.shlex(line.replace("-\n", "-").replace("`\n", " ").replace("\n", " "), posix=True)
    lexer.whitespace_split = True
    lexer.escape = ""  # a backslash belongs to a path
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise NotAllowed("A quotation mark is not closed", next_action="Close it.", why=line) from error
    # In a notebook that break has become a blank: a lone hyphen belongs to the word behind it.
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "-":
            joined[-1] = "-" + word
        else:
            joined.append(word)
    return joined


def _command(tokens: list[str]) -> tuple[Syntax, list[str]]:
    words = [re.sub(r"^snap_", "snap ", word.casefold()) for word in tokens]
    flat = " ".join(words)
    for syntax in SYNTAXES:
        name = syntax.name.casefold()
        if flat == name or flat.startswith(name + " "):
            count = len(name.split())
            folded = sum(word.startswith("snap ") for word in words)  # "snap_unmount" is two words in one
            return syntax, tokens[count - folded :]
    shown = " ".join(tokens[:3]) if tokens[0].casefold() == "sdcli" else tokens[0]
    raise NotFound(f"There is no command {shown!r}", next_action=f"Known are {_names()}.", tr="8")


def _parameter(syntax: Syntax, given: str) -> str:
    if syntax.exact:
        if given in syntax.parameters:
            return given
    else:
        folded = given.casefold()
        whole = [name for name in syntax.parameters if name.casefold() == folded]
        found = whole or [name for name in syntax.parameters if name.casefold().startswith(folded)]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotAllowed(
                f"-{given} is ambiguous in {syntax.name}",
                next_action=f"It could be {', '.join('-' + n for n in found)}.",
            )
    allowed = ", ".join(f"-{name}" for name in syntax.parameters)
    raise NotAllowed(f"{syntax.name} has no parameter -{given}", next_action=f"It takes {allowed}.")


def _names() -> str:
    return ", ".join(syntax.name for syntax in SYNTAXES)


Teller = Callable[[object], None]
"""What -Verbose is told to."""
