"""The rows of the block store in the lab's state file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FileRecord:
    """A file: the number by which the log knows it, and its tree."""

    number: int
    size: int
    root: int
    mapped: int
    reserved: bool


@dataclass(frozen=True)
class SnapshotRecord:
    """A Snapshot copy: the files as they were, by path."""

    volume: int
    number: int
    name: str
    files: dict[str, FileRecord]


@dataclass(frozen=True)
class VolumeRecord:
    """A volume. ``parent`` and ``parent_snapshot`` are numbers; 0 if it is no FlexClone volume. Sizes in blocks."""

    number: int
    key: str
    aggregate: str
    size: int
    guarantee: bool
    snapshot_reserve: int
    parent: int
    parent_snapshot: int


@dataclass(frozen=True)
class AggregateRecord:
    """An aggregate and its size in blocks."""

    key: str
    size: int


@dataclass(frozen=True)
class StoreRecord:
    """The consistency point's generation, and the next number for a volume, Snapshot copy or file."""

    generation: int
    next_number: int
