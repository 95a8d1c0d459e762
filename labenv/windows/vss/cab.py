"""Cabinet files: one folder, not compressed ([MS-CAB])."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import datetime

_HEADER = struct.Struct("<4sIIIIIBBHHHHH")
_FOLDER = struct.Struct("<IHH")
_FILE = struct.Struct("<IIHHHH")
_DATA = struct.Struct("<IHH")
_BLOCK = 32768


def pack(files: Mapping[str, bytes], *, now: datetime) -> bytes:
    """A cabinet with these files."""
    content = b"".join(files.values())
    blocks = [content[i : i + _BLOCK] for i in range(0, len(content), _BLOCK)]
    date = (max(now.year, 1980) - 1980) << 9 | now.month << 5 | now.day
    time = now.hour << 11 | now.minute << 5 | now.second // 2
    entries = bytearray()
    offset = 0
    for name, data in files.items():
        entries += _FILE.pack(len(data), offset, 0, date, time, 0x20) + name.encode("ascii") + b"\0"
        offset += len(data)
    first_file = _HEADER.size + _FOLDER.size
    first_block = first_file + len(entries)
    body = b"".join(_block(block) for block in blocks)
    size = first_block + len(body)
    header = _HEADER.pack(b"MSCF", 0, size, 0, first_file, 0, 3, 1, 1, len(files), 0, 0, 0)
    return header + _FOLDER.pack(first_block, len(blocks), 0) + bytes(entries) + body


def _block(data: bytes) -> bytes:
    sizes = struct.pack("<HH", len(data), len(data))
    return _DATA.pack(_checksum(sizes, _checksum(data, 0)), len(data), len(data)) + data


def _checksum(data: bytes, seed: int) -> int:
    whole = len(data) // 4 * 4
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        seed ^= word
    rest = data[whole:]
    return seed ^ int.from_bytes(rest, "big")


def unpack(data: bytes) -> dict[str, bytes]:
    """The files of such a cabinet; raises ValueError if it is none, is compressed, or is damaged."""
    try:
        signature, _, size, _, first_file, *_, folders, count, _, _, _ = _HEADER.unpack_from(data)
        first_block, blocks, compression = _FOLDER.unpack_from(data, _HEADER.size)
        if signature != b"MSCF" or size != len(data) or folders != 1 or compression:
            raise ValueError("not an uncompressed cabinet of one folder")
        content = bytearray()
        offset = first_block
        for _ in range(blocks):
            checksum, length, _ = _DATA.unpack_from(data, offset)
            block = data[offset + _DATA.size : offset + _DATA.size + length]
            if _block(block)[:4] != struct.pack("<I", checksum):
                raise ValueError("a block of the cabinet is damaged")
            content += block
            offset += _DATA.size + length
        found = {}
        offset = first_file
        for _ in range(count):
            length, start, *_ = _FILE.unpack_from(data, offset)
            end = data.index(b"\0", offset + _FILE.size)
            found[data[offset + _FILE.size : end].decode("ascii")] = bytes(content[start : start + length])
            offset = end + 1
    except struct.error as error:
        raise ValueError("the cabinet is cut off") from error
    return found
