"""Select-Object -Property: the properties of objects by name, as note properties of a new object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from labenv.windows.objects import PsObject
from labenv.windows.remoting.clixml import type_name_of

CUSTOM_TYPES = ("System.Management.Automation.PSCustomObject", "System.Object")


def select(items: Sequence[object], names: Sequence[str]) -> list[object]:
    """One ``Selected.`` object per item, with the named properties in the order given; a missing one is null.

    A name may hold wildcards, which match nothing silently. Names are looked up in any case and come back as the
    object spells them.
    """
    return [_selected(item, names) for item in items]


def _selected(item: object, names: Sequence[str]) -> PsObject:
    members = dict(_members(item))
    notes: dict[str, object] = {}
    for name in names:
        if any(c in name for c in "*?["):
            pattern = name.lower()
            for member, value in members.items():
                if fnmatchcase(member.lower(), pattern):
                    notes.setdefault(member, value)
            continue
        found = next((m for m in members if m.lower() == name.lower()), name)
        notes.setdefault(found, members.get(found))
    return PsObject(types=(f"Selected.{type_name_of(item)}", *CUSTOM_TYPES), properties={}, notes=notes)


def _members(item: object) -> Iterator[tuple[str, object]]:
    if isinstance(item, PsObject):
        for name, value in item.properties.items():
            if name not in item.notes:
                yield name, value
        yield from item.notes.items()
    elif isinstance(item, str):
        yield "Length", len(item)
