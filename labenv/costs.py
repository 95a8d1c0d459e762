"""The cost book: what each operation takes in lab seconds (``costs.toml``)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files


@dataclass(frozen=True)
class Costs:
    """Lab seconds by operation name; an operation that is not in the book costs one second."""

    seconds: Mapping[str, float]
    _changed: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls) -> Costs:
        """The cost book that ships with the lab."""
        book = tomllib.loads((files("labenv") / "costs.toml").read_text("utf-8"))
        return cls({name: float(entry["seconds"]) for name, entry in book.items()})

    def __getitem__(self, operation: str) -> float:
        return self._changed.get(operation, self.seconds.get(operation, 1.0))

    def change(self, operation: str, seconds: float | None) -> None:
        """Let an operation take another time until the process ends; None: as the book says."""
        if seconds is None:
            self._changed.pop(operation, None)
        else:
            self._changed[operation] = seconds

    def reset(self) -> None:
        """Everything as the book says."""
        self._changed.clear()
