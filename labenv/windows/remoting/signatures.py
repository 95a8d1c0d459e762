"""The cmdlets' signatures as Microsoft documents them: parameters, types, parameter sets, accepted values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

ALL_SETS = "(All)"
"""Name of the only set of a cmdlet without parameter sets."""


@dataclass(frozen=True)
class Role:
    """What a parameter is within one parameter set."""

    mandatory: bool
    position: int | None = None


@dataclass(frozen=True)
class Parameter:
    """A parameter: its .NET type without namespace, its role per set, and what it accepts.

    ``pipeline`` is None if it takes nothing from the pipeline, else the type that an object must have ('' is any).
    """

    name: str
    type: str
    roles: Mapping[str, Role]
    aliases: Sequence[str] = ()
    values: Mapping[str, int | None] = field(default_factory=dict)
    pipeline: str | None = None
    empty_allowed: bool = False

    @property
    def is_switch(self) -> bool:
        """Whether it is a [switch]."""
        return self.type == "SwitchParameter"


@dataclass(frozen=True)
class Signature:
    """One cmdlet.

    Attributes:
        suffix: what FullyQualifiedErrorId has after its comma: the class, or the function's own name.
        function: whether it is a generated function, which reports type errors differently from a class.
        asks: whether it supports -Confirm and -WhatIf.
        prompts: whether it asks even without -Confirm, unless told -Confirm:$false or -Force.
    """

    name: str
    module: str
    sets: Sequence[str]
    default: str | None
    parameters: Mapping[str, Parameter]
    suffix: str
    function: bool = False
    asks: bool = False
    prompts: bool = False
    needs_delegation: bool = False

    def find(self, name: str) -> Parameter | None:
        """A parameter by its name or one of its aliases, in any case; abbreviations are not accepted."""
        wanted = name.lower()
        for parameter in self.parameters.values():
            if parameter.name.lower() == wanted or any(a.lower() == wanted for a in parameter.aliases):
                return parameter
        return None


class Signatures:
    """The table, loaded once; a signature is built when it is first asked for."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._enums: Mapping[str, Mapping[str, int]] = table["enums"]
        self._records: Mapping[str, Any] = table["cmdlets"]
        self._names = {name.lower(): name for name in self._records}
        self._built: dict[str, Signature] = {}

    @classmethod
    @cache
    def load(cls) -> Signatures:
        """The table that is shipped with the package, read once: it takes longer than a hundred commands."""
        text = (files("labenv.windows.remoting") / "signatures.json").read_text(encoding="utf-8")
        return cls(json.loads(text))

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def find(self, name: str) -> Signature | None:
        """The signature of a cmdlet, in any case; None if Windows has none of that name (as far as the lab knows)."""
        canonical = self._names.get(name.rsplit("\\", 1)[-1].lower())
        if canonical is None:
            return None
        built = self._built.get(canonical)
        if built is None:
            built = self._built[canonical] = self._build(canonical, self._records[canonical])
        return built

    def _build(self, name: str, record: Mapping[str, Any]) -> Signature:
        sets: list[str] = record["s"]
        empty = record.get("e", ())
        parameters = {p: self._parameter(p, entry, sets, p in empty) for p, entry in record["p"].items()}
        return Signature(
            name=name,
            module=record["m"],
            sets=tuple(sets),
            default=record.get("d"),
            parameters=MappingProxyType(parameters),
            suffix=record.get("c", name),
            function=bool(record.get("f")),
            asks=bool(record.get("w")),
            prompts=bool(record.get("q")),
            needs_delegation=bool(record.get("n")),
        )

    def _parameter(self, name: str, entry: list[Any], sets: list[str], empty_allowed: bool) -> Parameter:
        texts = entry[1].split(" ")
        if len(texts) == 1:
            texts = texts * len(sets)
        extra: Mapping[str, Any] = entry[2] if len(entry) > 2 else {}
        known = self._enums.get(entry[0].removesuffix("[]"), {})
        values: dict[str, int | None] = dict.fromkeys(extra.get("v", ()), None)
        for value, number in known.items():
            if not values or value in values:
                values[value] = number
        return Parameter(
            name=name,
            type=entry[0],
            roles={
                s: Role(t[0] == "m", int(t[1:]) if t[1:] else None)
                for s, t in zip(sets, texts, strict=True)
                if t != "-"
            },
            aliases=tuple(extra.get("a", ())),
            values=values,
            pipeline=extra.get("i"),
            empty_allowed=empty_allowed,
        )
