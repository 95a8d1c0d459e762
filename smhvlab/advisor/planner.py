"""A plan of datasets and schedules for a site: all VMs of a volume together, few enough LUNs, and never two at once.

Follows 6.2 (all VMs of a LUN in one dataset), 6.1 (dedicated and shared VMs apart), 6.4 (VMs that are off apart), 12
(at most 15 CSVFS LUNs), the appendix (one backup per volume at a time; on 2008 R2 a dataset for each shared volume and
node).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from smhvlab.advisor import facts as f
from smhvlab.advisor.rules.datasets import MOST_CSVS
from smhvlab.advisor.site_facts import Facts
from smhvlab.frames import frame

if TYPE_CHECKING:
    import pandas as pd

_DAY: Final = 24 * 60


@dataclass(frozen=True, kw_only=True)
class PlannedDataset:
    """One dataset of a plan.

    Attributes:
        shared: whether its VMs are roles of a cluster.
        csvs: how many cluster shared volumes it holds.
        off: whether none of its VMs runs: their policy allows the saved state, which costs them nothing.
        slot: datasets of one slot may run together; slots follow one another.
        at: ``HH:MM`` at which its daily backup starts.
        remarks: what is not as it should be.
    """

    name: str
    vms: tuple[str, ...]
    hosts: tuple[str, ...]
    volumes: tuple[str, ...]
    shared: bool
    csvs: int
    off: bool = False
    slot: int = 0
    at: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """A plan of datasets, in the order in which their backups start.

    Attributes:
        moves: VMs that had better run on another node, as sentences.
    """

    datasets: tuple[PlannedDataset, ...]
    minutes: int
    moves: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """One row per dataset. Columns: name, vms, hosts, volumes, shared, csvs, slot, at, remarks."""
        types = {
            "name": "str",
            "vms": "str",
            "hosts": "str",
            "volumes": "str",
            "shared": "bool",
            "csvs": "int64",
            "slot": "int64",
            "at": "str",
            "remarks": "str",
        }
        rows = [
            {
                "name": d.name,
                "vms": ", ".join(d.vms),
                "hosts": ", ".join(d.hosts),
                "volumes": ", ".join(d.volumes),
                "shared": d.shared,
                "csvs": d.csvs,
                "slot": d.slot,
                "at": d.at,
                "remarks": " ".join(d.remarks),
            }
            for d in self.datasets
        ]
        return frame(rows, types)

    def policies(self, *, keep: int = 14, timezone: str = "UTC") -> list[str]:
        """A daily policy for each dataset, as TOML that ``site.set_policy`` takes."""
        return [
            f'name = "{d.name}-daily"\ndataset = "{d.name}"\nconsistency = "application"\n\n'
            f'[schedule]\nrepeat = "daily"\nat = "{d.at}"\ntimezone = "{timezone}"\n\n'
            f"[retention]\nkeep = {keep}\n{_options(d)}"
            for d in self.datasets
        ]

    def __str__(self) -> str:
        lines = [f"{d.at} {d.name}: {', '.join(d.vms)} on {', '.join(d.volumes)}" for d in self.datasets]
        return "\n".join([*lines, *self.moves]) or "No VM lies on the array."

    def _repr_html_(self) -> str:
        from smhvlab.panels import html

        rows = [
            [
                html.text(d.at),
                html.text(d.name),
                html.text(", ".join(d.vms)),
                html.text(", ".join(d.hosts)),
                html.text(", ".join(d.volumes)),
                html.text(" ".join(d.remarks)),
            ]
            for d in self.datasets
        ]
        head = ["Start", "Dataset", "VMs", "Hosts", "Volumes", "Remarks"]
        moves = (html.tag("div", html.text(move)) for move in self.moves)
        return html.card("Datasets and schedules", html.table(head, rows), *moves)


def _options(dataset: PlannedDataset) -> str:
    wanted = {"distributed": dataset.shared, "allow_saved_state": dataset.off}
    lines = "".join(f"{name} = true\n" for name, on in wanted.items() if on)
    return f"\n[options]\n{lines}" if lines else ""


@dataclass(frozen=True)
class _Group:
    """VMs that have to be in one dataset, because they share volumes."""

    vms: tuple[f.Vm, ...]
    volumes: tuple[tuple[str, str], ...]
    csvs: tuple[str, ...]


class _Kind(NamedTuple):
    """SVM, whether the VMs are shared, on 2008 R2 or if they are not their node, and whether none of them runs."""

    svm: str
    shared: bool
    owner: str
    off: bool


def plan_layout(facts: Facts, *, start: str = "22:00", minutes: int = 15, most: int = MOST_CSVS) -> Layout:
    """Datasets for all VMs on the array, and when their daily backups start.

    Args:
        start: ``HH:MM`` of the first backup.
        minutes: how long a backup may take.
        most: cluster shared volumes in a dataset at most.
    """
    planned: list[PlannedDataset] = []
    for kind, groups in _kinds(facts):
        for number, part in enumerate(_split(groups, most), 1):
            planned.append(_dataset(kind, number, part, most))
    names = _unique([each.name for each in planned])
    planned = [replace(each, name=name) for each, name in zip(planned, names, strict=True)]
    slots = _slots(planned, together=facts.era == "2008r2")
    hour, _, minute = start.partition(":")
    first = int(hour) * 60 + int(minute)
    timed = [
        replace(
            each,
            slot=slot,
            at=_clock(first + slot * minutes),
            remarks=each.remarks + (("The day is too short: back it up less often.",) if late(slot, minutes) else ()),
        )
        for each, slot in zip(planned, slots, strict=True)
    ]
    return Layout(tuple(sorted(timed, key=lambda each: (each.slot, each.name))), minutes, tuple(_moves(facts)))


def late(slot: int, minutes: int) -> bool:
    """Whether a slot would run into the first one of the next day."""
    return (slot + 1) * minutes > _DAY


def _clock(minutes: int) -> str:
    hour, minute = divmod(minutes % _DAY, 60)
    return f"{hour:02}:{minute:02}"


def _kinds(facts: Facts) -> list[tuple[_Kind, list[_Group]]]:
    """Groups of VMs by what keeps them in datasets of their own."""
    found: dict[_Kind, list[_Group]] = {}
    for group in _groups(facts):
        shared = all(vm.clustered for vm in group.vms)
        hosts = {vm.host for vm in group.vms}
        owner = min(hosts) if not shared or facts.era == "2008r2" else ""
        off = not any(vm.state == "Running" for vm in group.vms)
        found.setdefault(_Kind(group.volumes[0][0], shared, owner, off), []).append(group)
    return sorted(found.items())


def _groups(facts: Facts) -> list[_Group]:
    """VMs joined by the volumes that they share, dedicated and shared ones apart."""
    parents: dict[str, str] = {}

    def top(name: str) -> str:
        while parents.setdefault(name, name) != name:
            name = parents[name]
        return name

    on_array = [vm for vm in facts.vms if facts.luns(vm)]
    for vm in on_array:
        for lun in facts.luns(vm):
            parents[top(f"{lun.svm}:{lun.volume}:{vm.clustered}")] = top(vm.id)
    joined: dict[str, list[f.Vm]] = {}
    for vm in on_array:
        joined.setdefault(top(vm.id), []).append(vm)
    return [_group(facts, vms) for vms in joined.values()]


def _group(facts: Facts, vms: Sequence[f.Vm]) -> _Group:
    volumes = {(lun.svm, lun.volume): None for vm in vms for lun in facts.luns(vm)}
    homes = (facts.home(vm.host, path) for vm in vms for _, path in facts.files(vm))
    csvs = {home.csv.path: None for home in homes if home is not None and home.csv is not None}
    return _Group(tuple(vms), tuple(volumes), tuple(csvs))


def _split(groups: Sequence[_Group], most: int) -> list[list[_Group]]:
    """Spread groups evenly over as few datasets as hold them, the largest first."""
    needed = -(-sum(len(group.csvs) for group in groups) // most) or 1
    while True:
        parts: list[list[_Group]] = [[] for _ in range(needed)]
        for group in sorted(groups, key=lambda group: -len(group.csvs)):
            min(parts, key=_width).append(group)
        too_wide = any(_width(part) > most and len(part) > 1 for part in parts)
        if not too_wide:
            return [part for part in parts if part]
        needed += 1


def _width(part: Iterable[_Group]) -> int:
    return sum(len(group.csvs) for group in part)


def _dataset(kind: _Kind, number: int, part: Sequence[_Group], most: int) -> PlannedDataset:
    vms = sorted((vm for group in part for vm in group.vms), key=lambda vm: vm.name.casefold())
    csvs = _width(part)
    remarks = []
    if csvs > most:
        remarks.append(f"Its VMs hang together over {csvs} shared volumes; move disks until {most} are enough.")
    idle = [vm.name for vm in vms if vm.state != "Running"]
    if idle and not kind.off:
        remarks.append(
            f"{', '.join(idle)} does not run and shares a volume with VMs that do: move it to a volume of its own, or "
            "let the policy allow the saved state (6.4)."
        )
    parts = (kind.svm, kind.owner or "shared", "off" if kind.off else "", str(number))
    return PlannedDataset(
        name="_".join(re.sub(r"[^A-Za-z0-9-]", "-", text) for text in parts if text),
        vms=tuple(vm.name for vm in vms),
        hosts=tuple(sorted({vm.host for vm in vms})),
        volumes=tuple(sorted({volume for group in part for _, volume in group.volumes})),
        shared=kind.shared,
        csvs=csvs,
        off=kind.off,
        remarks=tuple(remarks),
    )


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return found


def _slots(datasets: Sequence[PlannedDataset], *, together: bool) -> list[int]:
    """A slot for each, so that no two of one slot share a host or a volume.

    ``together``: whether two nodes of a cluster can make their sets at the same time; a distributed backup uses all.
    """
    slots: list[int] = []
    for at, one in enumerate(datasets):
        taken = {
            slots[before]
            for before, other in enumerate(datasets[:at])
            if set(one.hosts) & set(other.hosts)
            or set(one.volumes) & set(other.volumes)
            or (one.shared and other.shared and not together)
        }
        slots.append(next(slot for slot in range(len(datasets)) if slot not in taken))
    return slots


def _moves(facts: Facts) -> list[str]:
    """On 2008 R2 every node of a shared volume costs a pair of Snapshot copies: bring its VMs together."""
    from smhvlab.advisor.rules.clusters import owners_on

    if facts.era != "2008r2":
        return []
    found = []
    for cluster in facts.clusters:
        for csv in cluster.csvs:
            owners = owners_on(facts, csv)
            best = max(sorted(owners), key=lambda host: len(owners[host]), default="")
            others = [name for host, names in sorted(owners.items()) if host != best for name in names]
            if others:
                found.append(f"Move {', '.join(others)} to {best}, which runs most VMs of {csv.path}.")
    return found
