"""What a guest's operating system remembers: small records that survive a loss of power at any moment."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from labenv.guest.engine import DatabaseFiles
from labenv.guest.volume import GuestVolume

R = TypeVar("R")

SLOT = 16 * 1024
"""Bytes of one slot; a record is refused if it does not fit."""

SYSTEM = "\\Windows\\System32\\config\\SYSTEM"
GENERALIZED = "\\Windows\\System32\\Sysprep\\Sysprep_succeeded.tag"
MASTER = "\\Program Files\\Microsoft SQL Server\\MSSQL10.MSSQLSERVER\\MSSQL\\DATA\\master.json"


@dataclass(frozen=True)
class SystemRecord:
    """The identity and the state of an installed operating system.

    Attributes:
        mounted: drive letters by the GUID of their GPT partition.
        boots: how often the system has started.
        clean: whether the last shutdown was an orderly one.
        software: what was installed, in that order.
        integration_services: version of the integration services; empty if they are not installed.
        portals: iSCSI portals that its own initiator logs in to at every start.
    """

    operating_system: str
    host_name: str
    sid: str
    machine_id: str
    address: str = ""
    mounted: dict[str, str] = field(default_factory=dict)
    boots: int = 0
    clean: bool = True
    software: tuple[str, ...] = ()
    integration_services: str = ""
    portals: tuple[str, ...] = ()


@dataclass(frozen=True)
class MasterRecord:
    """The databases that the engine attaches when it starts, by name."""

    databases: dict[str, DatabaseFiles] = field(default_factory=dict)


class Record(Generic[R]):
    """A record in a file of two slots that are written in turn, each with a number and a checksum.

    One of them is always whole, so that a write that the power interrupts leaves the old record.
    """

    def __init__(self, volume: GuestVolume, path: str, record_type: type[R]) -> None:
        self._volume = volume
        self._path = path
        self._decoder = msgspec.json.Decoder(record_type)
        self._number = 0

    def exists(self) -> bool:
        """Whether the file is there."""
        return self._volume.exists(self._path)

    def load(self) -> R | None:
        """The newest whole record; None if there is none."""
        if not self.exists():
            return None
        file = self._volume.open(self._path)
        try:
            slots = [self._decode(file.read(number * SLOT, SLOT)) for number in (0, 1)]
        finally:
            self._volume.release(self._path)
        whole = [slot for slot in slots if slot is not None]
        if not whole:
            return None
        self._number, record = max(whole, key=lambda slot: slot[0])
        return record

    def store(self, record: R) -> None:
        """Write the record and make it durable."""
        body = msgspec.json.encode(record)
        self._number += 1
        data = f"{self._number} {hashlib.sha256(body).hexdigest()}\n".encode() + body + b"\n"
        if len(data) > SLOT:
            raise ValueError(f"a record of {len(data)} bytes does not fit into {self._path}, which holds {SLOT}")
        self._volume.mkdir(self._path.rpartition("\\")[0])
        file = self._volume.open(self._path, create=True)
        try:
            if file.size < 2 * SLOT:
                file.truncate(2 * SLOT)
            file.write(self._number % 2 * SLOT, data + bytes(-len(data) % 512))
            self._volume.flush_file(file)
        finally:
            self._volume.release(self._path)

    def _decode(self, slot: bytes) -> tuple[int, R] | None:
        head, _, rest = slot.partition(b"\n")
        number, _, checksum = head.partition(b" ")
        body = rest.partition(b"\n")[0]
        if not number.isdigit() or hashlib.sha256(body).hexdigest().encode() != checksum:
            return None
        return int(number), self._decoder.decode(body)
