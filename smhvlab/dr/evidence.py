"""What rehearsals have shown, kept in SnapInfo: the evidence that a failover would work (TR 8)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING

import msgspec

from smhvlab.dr.checked import Checked
from smhvlab.errors import NotFound
from smhvlab.snapinfo import SnapInfo

if TYPE_CHECKING:
    import pandas as pd

PART = "Rehearsals"

COLUMNS = {
    "name": "str",
    "time": "str",
    "backups": "str",
    "vms": "str",
    "databases": "int64",
    "sound": "bool",
    "seconds": "float64",
    "copied": "int64",
}
"""Columns of the table of rehearsals."""


@dataclass(frozen=True, repr=False, kw_only=True)
class Rehearsed(Checked):
    """What a rehearsal has shown.

    Attributes:
        seconds: site time from the first clone to the checked databases: what a failover would take at least.
        mirrors: states of the relationships afterwards.
        copied: bytes that were copied for it; 0: the VMs ran from the clones.
    """

    seconds: float
    mirrors: tuple[str, ...]
    copied: int = 0

    def __str__(self) -> str:
        lines = [f"{', '.join(self.vms)} ran as of {', '.join(self.backups)}; {self.seconds:.0f} s until checked"]
        lines += [f"  {found}" for found in self.databases]
        return "\n".join([*lines, *(f"  {text}" for text in self.mirrors)])

    def _repr_html_(self) -> str:
        return (
            f"<p><b>{escape(', '.join(self.vms))}</b> ran as of <code>{escape(', '.join(self.backups))}</code>; "
            f"{self.seconds:.0f} s until checked</p>{self._table()}"
        )


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One rehearsal, as it is kept.

    Attributes:
        name: what everything that it made was called.
        time: when it began, by the site's clock.
        host: where the VMs ran.
    """

    name: str
    time: str
    host: str
    shown: Rehearsed


class Rehearsals:
    """The rehearsals that a site's SnapInfo knows of."""

    def __init__(self, snapinfo: SnapInfo) -> None:
        self._snapinfo = snapinfo

    def kept(self) -> bool:
        """Whether the site has a SnapInfo folder for them."""
        try:
            return bool(self._snapinfo.folder())
        except NotFound:
            return False

    def ensure(self, evidence: Evidence) -> None:
        """It is written down."""
        text = msgspec.json.format(msgspec.json.encode(evidence), indent=1).decode()
        self._snapinfo.write_new(f"{self._snapinfo.folder()}\\{PART}", f"{evidence.name}.json", text, "//")

    def discard(self, name: str) -> None:
        """It is not written down: the rehearsal was taken back."""
        self._snapinfo.discard(f"{self._snapinfo.folder()}\\{PART}\\{name}.json")

    def all(self) -> list[Evidence]:
        """Every rehearsal whose file can be read, oldest first."""
        paths = [path for path in self._snapinfo.files(PART) if path.endswith(".json")]
        found, _ = self._snapinfo.read_sound(paths, "//", partial(msgspec.json.decode, type=Evidence))
        return sorted(found.values(), key=lambda one: (one.time, one.name))

    def frame(self) -> pd.DataFrame:
        """As a table: see ``COLUMNS``; ``databases`` is how many were looked at, ``sound`` whether all of them are."""
        from smhvlab.frames import frame

        rows = [
            {
                "name": one.name,
                "time": one.time,
                "backups": ", ".join(one.shown.backups),
                "vms": ", ".join(one.shown.vms),
                "databases": len(one.shown.databases),
                "sound": one.shown.sound,
                "seconds": one.shown.seconds,
                "copied": one.shown.copied,
            }
            for one in self.all()
        ]
        return frame(rows, COLUMNS)
