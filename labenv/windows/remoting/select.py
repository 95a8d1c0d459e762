"""Select-Object -Property: the properties of objects by name, as note properties of a new object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from labenv.windows.objects import PsObject
from labenv.windows.remoting.clixml import type_name_of

CUSTOM_TYPES = ("System.Management.Automation.PSCustomObject", "System.Object")


class Selection:
    """Properties by name. A name may hold wildcards, which match nothing silently; names are looked up in any case."""

    def __init__(self, names: Sequence[str]) -> None:
        self._wanted = [(name, any(c in name for c in "*?[")) for name in names]

    def of(self, item: object) -> PsObject:
        """A ``Selected.`` object with the named properties in the order given, spelt as the item spells them.

        A missing one is null.
        """
        members = _members(item)
        notes: dict[str, object] = {}
        for name, is_pattern in self._wanted:
            if is_pattern:
                pattern = name.lower()
                for member, value in members.items():
                    if fnmatchcase(member.lower(), pattern):
                        notes.setdefault(member, value)
                continue
            found = name if name in members else next((m for m in members if m.lower() == name.lower()), name)
            notes.setdefault(found, members.get(found))
        return PsObject(types=(f"Selected.{type_name_of(item)}", *CUSTOM_TYPES), properties={}, notes=notes)


def _members(item: object) -> Mapping[str, object]:
    if isinstance(item, PsObject):
        if not item.notes:
            return item.properties
        return {name: value for name, value in item.properties.items() if name not in item.notes} | dict(item.notes)
    return {"Length": len(item)} if isinstance(item, str) else {}
