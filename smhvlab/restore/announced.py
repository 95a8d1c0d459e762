"""Which VMs are being restored: a document in SnapInfo for each, so that every management station knows (TR 6.7).

Nobody can read another station's journals. A restore announces its VM before its first change, and takes that back when
it has ended; one that was interrupted leaves its announcement until somebody finishes or undoes it.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from smhvlab.doctor import Unfinished
from smhvlab.errors import NotAllowed, NotFound
from smhvlab.journal import journal_folder
from smhvlab.snapinfo import Backup, SnapInfo

PART = "Restores"


@dataclass(frozen=True)
class Announced:
    """A restore that was announced.

    Attributes:
        vm: id of the VM; ``name``: what the backup calls it.
        station: name of the computer from which it is made, and ``run`` its run there.
        seat: which journals that run is in; a computer can have several.
        since: when it was announced, ISO 8601, by the host's clock.
        host: the host that has the SnapInfo disk.
    """

    vm: str
    name: str
    backup: str
    station: str
    run: str
    seat: str
    since: str
    host: str

    def __str__(self) -> str:
        return f"{self.name} from {self.backup}, by {self.station} (run {self.run}) since {self.since}"

    @property
    def advice(self) -> str:
        """What may be done about it."""
        return (
            f"Wait for its end on {self.station}. If it was interrupted, there: smhvlab doctor --resume {self.run}. "
            f"If nobody will ever finish it: smhvlab doctor --clear {self.name}."
        )

    def needs(self, backup: Backup) -> bool:
        """Whether the restore comes from that backup."""
        return self.backup.casefold() == backup.name.casefold()

    def refusal(self, why: str, *, tr: str) -> NotAllowed:
        """That something cannot be done to the VM now."""
        return NotAllowed(
            f"A restore of {self.name} is under way: {self.station} has announced it at {self.since}",
            next_action=self.advice,
            why=why,
            tr=tr,
        )


def this_station() -> str:
    """The name of this computer."""
    return platform.node() or "an unnamed station"


def seat_of(site: str, journals: Path | None) -> str:
    """What tells the journals of a site on this computer from all others."""
    return hashlib.sha256(f"{this_station()} {journal_folder(site, journals)}".encode()).hexdigest()[:12]


def restored_from(announced: Sequence[Announced], backups: Iterable[Backup]) -> dict[str, str]:
    """Names of the backups that restores need, each with what is said of it."""
    needed = {backup.name: [one for one in announced if one.needs(backup)] for backup in backups}
    return {
        name: f"a restore from it is under way: {'; '.join(map(str, some))}" for name, some in needed.items() if some
    }


class Announcements:
    """The announcements that SnapInfo holds. One of a site that was mirrored here counts for nothing."""

    def __init__(self, snapinfo: SnapInfo) -> None:
        self._snapinfo = snapinfo

    def all(self, listed: Sequence[str] | None = None) -> list[Announced]:
        """Every announcement, oldest first; ``listed``: files of SnapInfo that were listed already."""
        paths = self._snapinfo.files(PART) if listed is None else listed
        mine = [path for path in paths if f"\\{PART}\\" in path and path.endswith(".json")]
        found = [msgspec.json.decode(text, type=Announced) for text in self._snapinfo.read_all(mine, "//")]
        here = {name.casefold() for name in self._snapinfo.nodes.names}
        return sorted((one for one in found if one.host.casefold() in here), key=lambda one: (one.since, one.name))

    def ensure(self, wanted: Announced) -> None:
        """The restore is announced. Raises NotAllowed if another one of the VM is."""
        text = msgspec.json.format(msgspec.json.encode(wanted), indent=1).decode()
        if self._snapinfo.write_new(f"{self._snapinfo.folder()}\\{PART}", f"{wanted.vm}.json", text, "//"):
            return
        for other in self.all():
            if other.vm == wanted.vm and (other.seat, other.run) != (wanted.seat, wanted.run):
                raise other.refusal("a VM can be restored by one run at a time", tr="6.7")

    def discard(self, vm: str, *, seat: str, run: str) -> None:
        """A run's own announcement of a VM is gone, and what was written of it; another's stays."""
        if not any(one.vm == vm and (one.seat, one.run) != (seat, run) for one in self.all()):
            self._remove(vm)

    def clear(self, name: str, own: Sequence[Unfinished], *, seat: str) -> Announced:
        """Take away the announcement of a VM that nobody will finish; ``own``: unfinished runs of this seat.

        Raises:
            NotFound: there is none. NotAllowed: a run of this station will withdraw it.
        """
        known = self.all()
        for one in known:
            if name.casefold() not in (one.name.casefold(), one.vm.casefold()):
                continue
            if one.seat == seat and one.run in {run.run for run in own}:
                raise NotAllowed(
                    f"The restore of {one.name} is a run of this station: {one.run}",
                    next_action=f"Wait for its end, or finish or undo it: smhvlab doctor --resume {one.run}.",
                    tr="6.7",
                )
            self._remove(one.vm)
            return one
        raise NotFound(
            f"No restore of {name} is announced",
            next_action=f"Announced are: {'; '.join(map(str, known)) or 'none'}.",
            tr="6.7",
        )

    def _remove(self, vm: str) -> None:
        self._snapinfo.discard(f"{self._snapinfo.folder()}\\{PART}\\{vm}.json")
