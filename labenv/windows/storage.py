"""The host's disks: the local one, LUNs, attached virtual disks; online or offline, with their partition tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from labenv.devices import BlockDevice, DeviceGone, ReadOnlyDevice, data_ranges
from labenv.ids import Ids
from labenv.state import State
from labenv.windows.disks import gpt as table
from labenv.windows.disks import layout as layouts
from labenv.windows.disks import mbr
from labenv.windows.disks.gpt import Gpt, Partition, PartitionStyle
from labenv.windows.disks.layout import AnyPartition, Layout
from labenv.windows.disks.mbr import Mbr, MbrPartition
from labenv.windows.events import WARNING, Events
from labenv.windows.iscsi import Initiator
from labenv.windows.localdisk import LocalDisk
from labenv.windows.records import DiskRecord
from labenv.windows.spec import HostSpec

POLICIES = {"Unknown": 0, "OnlineAll": 1, "OfflineShared": 2, "OfflineAll": 3, "OfflineInternal": 4}
"""SAN policies. LUNs over iSCSI are on a shared bus."""

POLICY = 1
"""Offline reason: the SAN policy keeps new disks of a shared bus offline."""
COLLISION = 4
"""Offline reason: another online disk has the same GUID or signature."""


class HostDisk:
    """The bytes of a disk as the host's file systems see them: gone while it is offline or unreachable."""

    def __init__(self, disks: Disks, unique_id: str) -> None:
        self._disks = disks
        self._unique_id = unique_id

    def _online(self) -> tuple[DiskRecord, BlockDevice]:
        record = self._disks.records.get(self._unique_id)
        if record is None or record.offline:
            raise DeviceGone(f"disk {self._unique_id} is offline")
        return record, self._disks.raw(record)

    @property
    def size(self) -> int:
        """Capacity as the host knows it since its last rescan."""
        record = self._disks.records.get(self._unique_id)
        if record is None:
            raise DeviceGone(f"disk {self._unique_id} was detached")
        return record.size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset."""
        return self._online()[1].read(offset, length)

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that may hold data."""
        return data_ranges(self._online()[1], offset, length)

    def _writable(self) -> BlockDevice:
        record, device = self._online()
        if record.read_only:
            raise ReadOnlyDevice(f"disk {record.number} is read-only")
        return device

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes."""
        self._writable().write(offset, data)

    def unmap(self, offset: int, length: int) -> None:
        """Give the space of a range back."""
        self._writable().unmap(offset, length)

    def flush(self) -> None:
        """Flush the device below."""
        self._online()[1].flush()


@dataclass(frozen=True)
class Attachment:
    """An attached virtual disk: the device and how to let go of its files."""

    device: BlockDevice
    close: Callable[[], None]


class DiskOwner(Protocol):
    """The cluster's disk driver on a node: it keeps disks to itself by their id, whoever asks for them."""

    def clustered(self, record: DiskRecord) -> bool:
        """Whether a disk is one of the cluster's."""

    def holds(self, record: DiskRecord, layout: Layout | None) -> bool:
        """Whether only the cluster may bring a disk online: it is one of its own, or carries the id of one."""


class Disks:
    """Every disk that the host knows, by unique id.

    ``leaving`` is called before a disk goes offline, ``changed`` when volumes may have come or gone.
    """

    def __init__(
        self, *, spec: HostSpec, state: State, ids: Ids, initiator: Initiator, system: LocalDisk, events: Events
    ) -> None:
        self._spec = spec
        self._ids = ids
        self._initiator = initiator
        self._system = system
        self._events = events
        self.records = state.table(f"windows.{spec.name}.disk", DiskRecord)
        self._policy = state.table(f"windows.{spec.name}.sanpolicy", str)
        self.changed: Callable[[], None] = lambda: None
        self.leaving: Callable[[DiskRecord], None] = lambda record: None
        self.owner: DiskOwner | None = None
        self._attached: dict[str, Attachment] = {}
        self._layouts: dict[str, Layout | None] = {}

    def present(self) -> list[DiskRecord]:
        """The disks that are there, by number."""
        found = [r for r in self.records.values() if r.number is not None]
        return sorted(found, key=lambda r: r.number if r.number is not None else -1)

    def number(self, number: int) -> DiskRecord | None:
        """The disk of a number."""
        return next((r for r in self.records.values() if r.number == number), None)

    def raw(self, record: DiskRecord) -> BlockDevice:
        """The device itself, whatever the host thinks of it; raises ``DeviceGone`` if no path leads there."""
        if record.kind == "system":
            return self._system
        if record.kind == "iscsi":
            unit = self._initiator.unit(record.serial)
            if unit is not None and unit.online:
                return unit.device
        elif record.unique_id in self._attached:
            return self._attached[record.unique_id].device
        raise DeviceGone(f"disk {record.number} does not answer")

    def device(self, record: DiskRecord) -> HostDisk:
        """The disk through the host's eyes."""
        return HostDisk(self, record.unique_id)

    def layout(self, record: DiskRecord) -> Layout | None:
        """The partition table. An online disk's is the one that Windows read when it came; None: not initialised."""
        if record.offline:
            return self._read(record)
        if record.unique_id not in self._layouts:
            try:
                self._layouts[record.unique_id] = self._named(layouts.read_layout(self.raw(record)))
            except DeviceGone:
                return None  # what cannot be read is not known: it is read when the disk answers
        return self._layouts[record.unique_id]

    def _read(self, record: DiskRecord) -> Layout | None:
        try:
            return self._named(layouts.read_layout(self.raw(record)))
        except DeviceGone:
            return None

    def _named(self, layout: Layout | None) -> Layout | None:
        return layout.with_volumes(self.volume_guid) if isinstance(layout, Mbr) else layout

    def volume_guid(self, signature: int, offset: int) -> UUID:
        """The GUID that this host's mount manager has for a volume of an MBR disk; other hosts have others."""
        return self._ids.lasting("mbr volume", self._spec.name, f"{signature:08x}", str(offset))

    def write_layout(self, record: DiskRecord, layout: Layout | None) -> None:
        """Write a partition table (None: wipe it) and let the volumes follow."""
        layouts.write_layout(self.device(record), layout)
        self._layouts[record.unique_id] = self._named(layout)
        self.changed()

    def held(self, record: DiskRecord) -> bool:
        """Whether the cluster keeps a disk to itself; one that only carries the id of its disks stays offline."""
        if self.owner is None or not self.owner.holds(record, self._read(record)):
            return False
        if record.offline and not self.owner.clustered(record):
            self.records[record.unique_id] = replace(record, offline_reason=COLLISION)
        return True

    def rewrite_offline(self, record: DiskRecord, layout: Layout) -> None:
        """Write a partition table to a disk that is offline (its identity is changed before it is shown)."""
        layouts.write_layout(self.raw(record), layout)

    def refresh(self, record: DiskRecord) -> None:
        """Read size and partition table of one disk again (Update-Disk)."""
        unit = self._initiator.unit(record.serial) if record.kind == "iscsi" else None
        if unit is not None and unit.size != record.size:
            self.records[record.unique_id] = replace(record, size=unit.size)
        self._layouts.pop(record.unique_id, None)
        self.changed()

    @property
    def policy(self) -> str:
        """What becomes of new disks (SAN policy): a name of ``POLICIES``."""
        return self._policy.get("new", "OfflineShared")

    @policy.setter
    def policy(self, name: str) -> None:
        self._policy["new"] = name

    def rescan(self, *, keep_offline: bool = False) -> list[DiskRecord]:
        """Find LUNs that came, went or changed their size; returns the disks that are new to this host.

        The SAN policy says whether a new LUN is offline and read-only (``keep_offline``: it is, whatever that says);
        one that was seen before comes back with the attributes that it had.
        """
        units = self._initiator.units()
        new = []
        for record in [r for r in self.records.values() if r.kind == "iscsi"]:
            unit = units.get(record.serial)
            if unit is None:
                if record.number is not None:
                    self._gone(record)
            elif record.number is None or unit.size != record.size:
                number = self._free_number() if record.number is None else record.number
                self.records[record.unique_id] = replace(record, number=number, size=unit.size)
                self._layouts.pop(record.unique_id, None)
        known = {r.serial for r in self.records.values()}
        for unit in sorted(units.values(), key=lambda u: u.number):
            if unit.serial_number not in known:
                unique_id = "600A0980" + unit.serial_number.encode("latin-1").hex().upper()
                record = DiskRecord(
                    unique_id, self._free_number(), "iscsi", unit.serial_number, unit.size, True, True, POLICY
                )
                self.records[unique_id] = record
                new.append(record)
        online = not keep_offline and self.policy in ("OnlineAll", "OfflineInternal")
        for record in new if online else ():
            if not self.held(record):
                self.records[record.unique_id] = replace(record, read_only=False)
                self.set_offline(self.records[record.unique_id], False, asked=False)
        for record in self.present():
            if not record.offline:
                self._resolve_collision(record, renew=self.style(record) is PartitionStyle.GPT)
        self.changed()
        return new

    def _gone(self, record: DiskRecord) -> None:
        self.records[record.unique_id] = replace(record, number=None)
        self._layouts.pop(record.unique_id, None)
        if not record.offline:
            text = f"Disk {record.number} has been surprise removed."
            self._events.write("System", "disk", 157, text, level=WARNING, values=(str(record.number),))

    def _free_number(self) -> int:
        taken = {r.number for r in self.records.values()}
        return next(n for n in range(len(taken) + 1) if n not in taken)

    def set_offline(self, record: DiskRecord, offline: bool, *, asked: bool = True) -> None:
        """Take a disk offline (its volumes vanish) or bring it online.

        Windows refuses to show two disks with one GUID or one signature. On a stand-alone host the one that is brought
        online later gets new ones, written to it whatever its read-only attribute says; where they cannot be written
        it stays offline, and so does an MBR disk that nobody but the SAN policy brings online.
        """
        if offline:
            self.leaving(record)
            self.records[record.unique_id] = replace(record, offline=True, offline_reason=0)
            self._layouts.pop(record.unique_id, None)
        else:
            record = replace(record, offline=False, offline_reason=0)
            self.records[record.unique_id] = record
            self._layouts.pop(record.unique_id, None)
            self._resolve_collision(record, renew=asked or self.style(record) is PartitionStyle.GPT)
        self.changed()

    def _resolve_collision(self, record: DiskRecord, *, renew: bool = True) -> None:
        layout = self.layout(record)
        if layout is None:
            return
        others = (r for r in self.present() if not r.offline and r.unique_id != record.unique_id)
        if all((other := self.layout(o)) is None or other.identity != layout.identity for o in others):
            return
        try:
            if not renew:
                raise ReadOnlyDevice("what comes by itself is not written to")
            fresh = self.fresh_guids(record, layout)
            layouts.write_layout(self.raw(record), fresh)
        except ReadOnlyDevice:
            self.records[record.unique_id] = replace(record, offline=True, offline_reason=COLLISION)
        else:
            self._layouts[record.unique_id] = self._named(fresh)

    def style(self, record: DiskRecord) -> PartitionStyle:
        """RAW, MBR or GPT."""
        layout = self.layout(record)
        return PartitionStyle.RAW if layout is None else layout.style

    def fresh_guids(self, record: DiskRecord, layout: Layout) -> Layout:
        """The same table with a new disk GUID and new partition GUIDs, or with a new signature."""
        if isinstance(layout, Mbr):
            return layout.with_signature(self._new_signature(record))
        names = (self._spec.name, record.unique_id)
        partitions = tuple(replace(p, guid=self._ids.uuid("gpt partition", *names)) for p in layout.partitions)
        return Gpt(self._ids.uuid("gpt disk", *names), partitions)

    def new_guid(self, record: DiskRecord, kind: str) -> UUID:
        """An id for something new on a disk."""
        return self._ids.uuid(f"gpt {kind}", self._spec.name, record.unique_id)

    def _new_signature(self, record: DiskRecord) -> int:
        number = int.from_bytes(self._ids.digest("mbr signature", self._spec.name, record.unique_id)[:4], "big")
        return number or 1

    def initialize(self, record: DiskRecord, style: PartitionStyle = PartitionStyle.GPT) -> None:
        """Write an empty table: of a GPT there is the reserved partition, of an MBR a signature."""
        device = self.device(record)
        if style is PartitionStyle.MBR:
            self.write_layout(record, Mbr(self._new_signature(record)))
            return
        disk_guid, msr_guid = self.new_guid(record, "disk"), self.new_guid(record, "partition")
        self.write_layout(record, table.initial_gpt(device, disk_guid=disk_guid, msr_guid=msr_guid))

    def add_partition(
        self,
        record: DiskRecord,
        layout: Layout,
        *,
        size: int | None,
        attributes: int,
        kind: int = mbr.HUGE,
        at: int | None = None,
        align: int = table.MIB,
    ) -> AnyPartition | None:
        """A partition at an offset, or in the largest free range (size None: all of it); None if it does not fit.

        ``kind`` is the type in an MBR; ``attributes`` are a GPT's; ``align`` in bytes is for offset and size.
        """
        if at is None:
            offset, length = layouts.free_range(self.device(record), layout, align=align)
        else:
            offset, align = at, table.SECTOR
            length = layouts.room_at(self.device(record), layout, at)
        wanted = length if size is None else -(-size // align) * align
        if not 0 < wanted <= length:
            return None
        if isinstance(layout, Mbr):
            number = mbr.next_number(layout)
            if number is None:
                return None
            self.write_layout(record, layout.adding(MbrPartition(number, kind, offset, wanted)))
        else:
            number = table.next_number(layout)
            guid = self.new_guid(record, "partition")
            name = "Basic data partition"
            made = Partition(number, table.BASIC_DATA, guid, offset, wanted, name, attributes)
            self.write_layout(record, layout.adding(made))
        written = self.layout(record)
        return written.partition(number) if written is not None else None

    def attach(
        self, *, path: str, chain: tuple[str, ...], attachment: Attachment, read_only: bool, no_letters: bool
    ) -> DiskRecord:
        """Show a virtual disk as a disk of this host."""
        digest = self._ids.digest("attached disk", self._spec.name, path)
        unique_id = "60022480" + digest[:12].hex().upper()
        size = attachment.device.size
        record = DiskRecord(
            unique_id, self._free_number(), "vhd", "", size, False, read_only, 0, path, chain, no_letters
        )
        self._attached[unique_id] = attachment
        self.records[unique_id] = record
        self._resolve_collision(record)
        self.changed()
        return self.records[unique_id]

    def detach(self, record: DiskRecord) -> None:
        """Take an attached virtual disk away and let go of its files."""
        self.leaving(record)
        del self.records[record.unique_id]
        self._layouts.pop(record.unique_id, None)
        self.changed()
        attachment = self._attached.pop(record.unique_id, None)
        if attachment is not None:
            attachment.close()

    def restart(self) -> None:
        """The host has restarted: attached virtual disks are gone, tables are read again."""
        for unique_id in [k for k, r in self.records.items() if r.kind == "vhd"]:
            del self.records[unique_id]
        self._attached.clear()
        self._layouts.clear()
