"""One directory of a mounted exFAT volume: its entries in memory, and changing them on the device."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from labenv.windows.disks.errors import Corrupt, DiskFull
from labenv.windows.disks.exfat_entries import (
    END,
    ENTRY,
    FILE,
    IN_USE,
    LABEL,
    Record,
    name_entries,
    pack_set,
    unpack_set,
)
from labenv.windows.disks.exfat_layout import BLOCK, MIB, zero
from labenv.windows.disks.exfat_volume import Node, Volume

_MAX_SIZE = 256 * MIB
_UNUSED = bytes((FILE & ~IN_USE,)).ljust(ENTRY, b"\0")


class Directory:
    """The entries of a directory, read once.

    An entry set of ours never crosses a block, so adding, changing or removing a file is one write of the device.
    """

    def __init__(self, volume: Volume, node: Node) -> None:
        self.volume = volume
        self.node = node
        self._block = min(BLOCK, volume.geometry.cluster_size)
        self._length = sum(count for _, count in volume.locate(node)) << volume.geometry.cluster_shift
        self._image = volume.read(node, 0, self._length) if self._length else b""
        self._nodes: dict[str, Node] = {}
        self._holes: list[tuple[int, int]] = []
        self._end = len(self._image) // ENTRY
        self._stale: list[int] = []
        self.special: list[bytes] = []
        self._parse()
        self._image = self._image[: self._end * ENTRY]  # zeros follow, up to the directory's length

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def find(self, name: str) -> Node | None:
        """The node of a name, whatever its case."""
        return self._nodes.get(self.volume.upper(name))

    def rehash(self) -> None:
        """Sort the names anew after the up-case table became known."""
        self._nodes = {self.volume.upper(node.name): node for node in self._nodes.values()}

    def add(self, node: Node) -> None:
        """Write a new entry set."""
        node.count = 2 + len(node.names) // ENTRY
        node.slot = self._insert(self._pack(node))
        node.directory = self
        self._nodes[self.volume.upper(node.name)] = node

    def update(self, node: Node) -> None:
        """Write a node's entry set where it stands."""
        self._put(node.slot, self._pack(node))

    def remove(self, node: Node) -> None:
        """Take a node's entry set out of use."""
        self._release(node.slot, node.count)
        del self._nodes[self.volume.upper(node.name)]

    def rename(self, node: Node, name: str, target: Directory) -> None:
        """Give a node another name or another directory; in place and in one write if the number of entries allows."""
        before = (node.name, node.names, node.hashed, node.slot, node.count)
        key = self.volume.upper(node.name)
        node.name, node.names, node.hashed = name, name_entries(name), self.volume.hash(name)
        added = False
        try:
            if target is self and 2 + len(node.names) // ENTRY == node.count:
                self.update(node)
            else:
                target.add(node)
                added = True
                self._release(before[3], before[4])
        except BaseException:
            if added:
                # The file has two names now; the new one goes before anything else is written.
                self.volume.unfinished.append(partial(target._release, node.slot, node.count))
                del target._nodes[self.volume.upper(name)]
            node.name, node.names, node.hashed, node.slot, node.count = before
            node.directory = self
            self._nodes[key] = node
            raise
        del self._nodes[key]
        target._nodes[self.volume.upper(name)] = node

    def set_label(self, label: str) -> None:
        """Write the volume label's entry (root only)."""
        units = label.encode("utf-16-le")
        entry = (bytes((LABEL, len(units) // 2)) + units).ljust(ENTRY, b"\0")
        for slot in range(self._end):
            if self._image[slot * ENTRY] == LABEL:
                self._put(slot, entry)
                return
        self._insert(entry)

    def set_table(self, kind: int, first: int, length: int) -> None:
        """Change where the entry of a system table says that it lies (root only)."""
        for slot in range(self._end):
            entry = bytearray(self._image[slot * ENTRY : (slot + 1) * ENTRY])
            if entry[0] == kind:
                entry[20:24] = first.to_bytes(4, "little")
                entry[24:32] = length.to_bytes(8, "little")
                self._put(slot, bytes(entry))
                return
        raise Corrupt("the root directory does not name the table; the volume needs a check (chkdsk)")

    def label(self) -> str:
        """The volume label (root only)."""
        for slot in range(self._end):
            if self._image[slot * ENTRY] == LABEL:
                entry = self._image[slot * ENTRY : (slot + 1) * ENTRY]
                return entry[2 : 2 + 2 * min(entry[1], 11)].decode("utf-16-le", "replace")
        return ""

    def _parse(self) -> None:
        slot = 0
        image = self._image
        hole = -1
        while slot < self._end:
            kind = image[slot * ENTRY]
            if kind == END:
                self._end = slot
                self._forget_tail()
                break
            if not kind & IN_USE:
                hole = slot if hole < 0 else hole
                slot += 1
                continue
            if hole >= 0:
                self._holes.append((hole, slot - hole))
                hole = -1
            if kind != FILE:
                self.special.append(bytes(image[slot * ENTRY : (slot + 1) * ENTRY]))
                slot += 1
                continue
            count = 1 + image[slot * ENTRY + 1]
            if count < 3 or slot + count > len(image) // ENTRY:
                raise Corrupt(f"the directory {self.node.name!r} has a broken entry set; it needs a check (chkdsk)")
            self._adopt(unpack_set(bytes(image[slot * ENTRY : (slot + count) * ENTRY])), slot, count)
            slot += count
        if hole >= 0:
            self._holes.append((hole, self._end - hole))

    def _adopt(self, record: Record, slot: int, count: int) -> None:
        # Other programs may leave further secondary entries behind the name's; a change keeps them.
        names = bytes(self._image[(slot + 2) * ENTRY : (slot + count) * ENTRY])
        upper = self.volume.upper(record.name)
        hashed = int.from_bytes(self._image[(slot + 1) * ENTRY + 4 : (slot + 1) * ENTRY + 6], "little")
        node = Node(record, hashed=hashed, names=names)
        node.slot, node.count, node.directory = slot, count, self
        self._nodes[upper] = node

    def _pack(self, node: Node) -> bytes:
        return pack_set(node.record(), hashed=node.hashed, names=node.names)

    def _insert(self, data: bytes) -> int:
        """Write new entries to a free place and return their slot."""
        before = (self._end, list(self._holes))
        try:
            slot, padding = self._place(len(data) // ENTRY)
            if self._stale and slot >= before[0]:
                for start in self._stale:
                    self._write_block(start, bytes(self._block))
                self._stale = []
            self._put(slot, data)
            if padding:
                # The end mark in front of the new set goes last: this write is what makes the set visible.
                self._put(slot - padding, _UNUSED * padding)
        except BaseException:
            self._end, self._holes = before
            self._forget_tail()
            raise
        return slot

    def _forget_tail(self) -> None:
        """Take what lies behind the end mark as zeros, and remember blocks where the device says otherwise.

        A loss of power between the two writes of an insertion leaves a set there that never became visible.
        """
        first = self._end * ENTRY
        if any(self._image[first:]):
            self._stale = list(range(-(-first // self._block) * self._block, self._length, self._block))
        self._image = self._image[:first]

    def _place(self, needed: int) -> tuple[int, int]:
        """A free slot for that many entries, and how many entries before it must be marked as unused."""
        per_block = self._block // ENTRY
        for index, (start, count) in enumerate(self._holes):
            skip = self._skip(start, needed, per_block)
            if skip + needed <= count:
                self._holes.pop(index)
                if skip:
                    self._holes.append((start, skip))
                if skip + needed < count:
                    self._holes.append((start + skip + needed, count - skip - needed))
                return start + skip, 0
        padding = self._skip(self._end, needed, per_block)
        if (self._end + padding + needed) * ENTRY > self._length:
            self._grow()
        slot = self._end + padding
        if padding:
            self._holes.append((self._end, padding))
        self._end = slot + needed
        return slot, padding

    def _skip(self, start: int, needed: int, per_block: int) -> int:
        if needed > per_block or start % per_block + needed <= per_block:
            return 0
        return per_block - start % per_block

    def _release(self, slot: int, count: int) -> None:
        data = bytearray(self._image[slot * ENTRY : (slot + count) * ENTRY])
        for at in range(0, len(data), ENTRY):
            data[at] &= ~IN_USE
        self._put(slot, bytes(data))
        self._holes.append((slot, count))

    def _grow(self) -> None:
        volume, node = self.volume, self.node
        old = self._length
        size = old + volume.geometry.cluster_size
        if size > _MAX_SIZE:
            raise DiskFull(f"the directory {node.name!r} cannot hold more entries")
        before = sum(count for _, count in volume.locate(node))
        if before << volume.geometry.cluster_shift < size:
            volume.extend(node, size, prepare=partial(zero, volume.device))
        node.size = node.valid = size
        try:
            volume.commit(node)
        except BaseException:
            node.size = node.valid = old
            raise
        self._length = size

    def _put(self, slot: int, data: bytes) -> None:
        """Write entries in whole blocks, and only then change the image."""
        offset = slot * ENTRY
        start = offset - offset % self._block
        end = -(-(offset + len(data)) // self._block) * self._block
        changed = bytearray(self._image[start:end].ljust(end - start, b"\0"))
        changed[offset - start : offset - start + len(data)] = data
        for at in range(start, end, self._block):
            self._write_block(at, bytes(changed[at - start : at - start + self._block]))
        before = self._image[:start].ljust(start, b"\0")
        self._image = (before + changed + self._image[end:])[: self._end * ENTRY]

    def _write_block(self, offset: int, data: bytes) -> None:
        done = 0
        for position, length in self.volume.spans(self.node, offset, len(data)):
            self.volume.store(position, data[done : done + length])
            done += length
