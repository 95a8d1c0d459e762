"""The lines of DiskShadow's scripts: their words, the ids in them, and what they name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from uuid import UUID

from labenv.windows.vss.model import Component
from labenv.windows.vss.writer import Writer

_GUID = re.compile(r"\{?([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\}?")


class ScriptError(Exception):
    """A line cannot be understood, or asks for what cannot be; the script ends there."""


def words_of(line: str, aliases: Mapping[str, str]) -> list[str]:
    """The words of a line, quotation marks taken off and ``%alias%`` replaced; raises ``ScriptError``."""

    def value(match: re.Match[str]) -> str:
        return aliases.get(match[1].lower(), match[0])

    lexer = shlex.shlex(re.sub(r"%([^%\s]+)%", value, line), posix=True)
    lexer.whitespace_split = True
    lexer.escape = ""
    lexer.commenters = ""
    lexer.quotes = '"'
    try:
        return list(lexer)
    except ValueError as error:
        raise ScriptError(f"The quotation marks in {line} do not match.") from error


def guid_of(word: str) -> UUID:
    """The id that a word is; raises ``ScriptError``."""
    match = _GUID.fullmatch(word)
    if match is None:
        raise ScriptError(f"{word} is not an ID.")
    return UUID(match[1])


def names(targets: Sequence[str], writer: Writer, component: Component | None = None) -> bool:
    """Whether one of these names or ids is the writer, or (``writer name:\\path\\name``) the component."""
    for target in targets:
        lowered = target.lower()
        match = _GUID.fullmatch(target)
        if component is None and (lowered == writer.name.lower() or (match and UUID(match[1]) == writer.id)):
            return True
        if component is not None and lowered == f"{writer.name}:{component.logical}".lower():
            return True
    return False
