"""Which VMs are being restored: a document in SnapInfo for each, so that every management station knows (TR 6.7).

Nobody can read another station's journals. A restore announces its VM before its first change, and takes that back when
it has ended; one that was interrupted leaves its announcement until somebody finishes or undoes it.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
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

    def need_of(self, backup: Backup) -> str:
        """How the restore needs that backup, in words; "" if it does not."""
        return f"a restore from it is under way: {self}" if self.backup.casefold() == backup.name.casefold() else ""

    def refusal(self, why: str, *, tr: str) -> NotAllowed:
        """That something cannot be done to the VM now."""
        return NotAllowed(
            f"A restore of {self.name} is under way: {self.station} has announced it at {self.since}",
            next_action=self.advice,
            why=why,
            tr=tr,
        )


@dataclass(frozen=True)
class Unreadable(Announced):
    """An announcement whose file is damaged: only its name is known, which is the VM's id."""

    path: str
    why: str

    def __str__(self) -> str:
        return f"the VM {self.vm}, whose file is damaged"

    @property
    def advice(self) -> str:
        """What may be done about it."""
        return (
            f"Restore {self.path} from a Snapshot copy of the SnapInfo LUN. If no restore of that VM is under way: "
            f"smhvlab doctor --clear {self.vm}."
        )

    def need_of(self, backup: Backup) -> str:
        """A restore of the VM could come from any backup that holds it."""
        return f"a restore may need it: {self.path} is damaged" if self.vm in {vm.id for vm in backup.vms} else ""

    def refusal(self, why: str, *, tr: str) -> NotAllowed:
        """That something cannot be done to the VM now."""
        return NotAllowed(
            f"Whether a restore of the VM {self.vm} is under way cannot be told: {self.path} is damaged",
            next_action=self.advice,
            why=f"{self.why}; {why}",
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
    needed = {backup.name: [why for one in announced if (why := one.need_of(backup))] for backup in backups}
    return {name: "; ".join(some) for name, some in needed.items() if some}


class Announcements:
    """The announcements that SnapInfo holds. One of a site that was mirrored here counts for nothing.

    Such a one can have the name that an announcement of this site would get, which is then numbered.
    """

    def __init__(self, snapinfo: SnapInfo) -> None:
        self._snapinfo = snapinfo

    def all(self, listed: Sequence[str] | None = None) -> list[Announced]:
        """Every announcement, oldest first; ``listed``: files of SnapInfo that were listed already."""
        return sorted(self._here(listed).values(), key=lambda one: (one.since, one.name))

    def _here(self, listed: Sequence[str] | None = None) -> dict[str, Announced]:
        """Those of this site, by path."""
        here = {name.casefold() for name in self._snapinfo.nodes.names}
        return {path: one for path, one in self._read(listed).items() if one.host.casefold() in here}

    def _read(self, listed: Sequence[str] | None = None) -> dict[str, Announced]:
        paths = self._snapinfo.files(PART) if listed is None else listed
        mine = [path for path in paths if f"\\{PART}\\" in path and path.endswith(".json")]
        sound, damaged = self._snapinfo.read_sound(mine, "//", partial(msgspec.json.decode, type=Announced))
        found: dict[str, Announced] = dict(sound)
        for path, why in damaged.items():
            vm, host = path.rpartition("\\")[2].partition(".")[0], self._snapinfo.nodes.own().name
            found[path] = Unreadable(vm, vm, "", "", "", "", "", host, path, why)
        return found

    def ensure(self, wanted: Announced) -> None:
        """The restore is announced. Raises NotAllowed if another one of the VM is.

        It is written first and looked for then: of two that announce the same VM at the same moment none misses the
        other.
        """
        text = msgspec.json.format(msgspec.json.encode(wanted), indent=1).decode()
        folder, number = f"{self._snapinfo.folder()}\\{PART}", 1
        while True:
            leaf = _leaf(wanted.vm, number)
            writer = _writer(wanted.seat, wanted.run)
            written = self._snapinfo.write_new(folder, leaf, text, "//", writer=writer)
            here = [one for one in self._here().values() if one.vm == wanted.vm]
            for other in here:
                if not _is_of(other, wanted.seat, wanted.run):
                    self.discard(wanted.vm, seat=wanted.seat, run=wanted.run)
                    raise other.refusal("a VM can be restored by one run at a time", tr="6.7")
            if here or written:
                return
            number += 1  # what came with a mirror has that name

    def discard(self, vm: str, *, seat: str, run: str) -> None:
        """A run's own announcement of a VM is gone, and what was written of it; another's stays."""
        known = self._read()
        mine = [path for path, one in known.items() if one.vm == vm and _is_of(one, seat, run)]
        numbers = range(1, sum(one.vm == vm for one in known.values()) + 2)
        folder = f"{self._snapinfo.folder()}\\{PART}"
        drafts = [f"{folder}\\{_leaf(vm, number)}" for number in numbers]
        self._snapinfo.discard(*mine, drafts=drafts, writer=_writer(seat, run))

    def clear(self, name: str, own: Sequence[Unfinished], *, seat: str) -> Announced:
        """Take away the announcement of a VM that nobody will finish; ``own``: unfinished runs of this seat.

        Raises:
            NotFound: there is none. NotAllowed: a run of this station will withdraw it.
        """
        known = self._here()
        for path, one in known.items():
            if name.casefold() not in (one.name.casefold(), one.vm.casefold()):
                continue
            if one.seat == seat and one.run in {run.run for run in own}:
                raise NotAllowed(
                    f"The restore of {one.name} is a run of this station: {one.run}",
                    next_action=f"Wait for its end, or finish or undo it: smhvlab doctor --resume {one.run}.",
                    tr="6.7",
                )
            self._snapinfo.discard(path)
            return one
        raise NotFound(
            f"No restore of {name} is announced",
            next_action=f"Announced are: {'; '.join(map(str, known.values())) or 'none'}.",
            tr="6.7",
        )


def _is_of(one: Announced, seat: str, run: str) -> bool:
    return (one.seat, one.run) == (seat, run)


def _leaf(vm: str, number: int) -> str:
    return f"{vm}.json" if number == 1 else f"{vm}.{number}.json"


def _writer(seat: str, run: str) -> str:
    """Names of runs are those of a seat: two stations have the same."""
    return f"{seat}.{run}"
