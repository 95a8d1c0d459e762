"""Reading a cabinet file ([MS-CAB]): what DiskShadow leaves of a backup's metadata (TR 12)."""

from __future__ import annotations

import struct
import zlib

_HEADER = struct.Struct("<4sIIIIIBBHHHHH")
_FOLDER = struct.Struct("<IHH")
_FILE = struct.Struct("<IIHHHH")
_DATA = struct.Struct("<IHH")
_RESERVED = 0x0004
_STORED, _MSZIP = 0, 1


def unpack(data: bytes) -> dict[str, bytes]:
    """The files of a cabinet by name, stored or compressed with MSZIP.

    Raises:
        ValueError: it is no cabinet, is cut off, or is compressed in another way.
    """
    try:
        return _files(data)
    except (struct.error, IndexError, zlib.error) as error:
        raise ValueError(f"the cabinet is damaged: {error}") from error


def _files(data: bytes) -> dict[str, bytes]:
    signature, _, _, _, first_file, _, _, _, folders, count, flags, _, _ = _HEADER.unpack_from(data)
    if signature != b"MSCF":
        raise ValueError("no cabinet")
    offset, folder_extra, block_extra = _HEADER.size, 0, 0
    if flags & _RESERVED:
        head, folder_extra, block_extra = struct.unpack_from("<HBB", data, offset)
        offset += 4 + head
    if flags & 0x0003:
        raise ValueError("the cabinet is one of several")
    contents = []
    for _ in range(folders):
        start, blocks, kind = _FOLDER.unpack_from(data, offset)
        contents.append(_folder(data, start, blocks, kind & 0x000F, block_extra))
        offset += _FOLDER.size + folder_extra
    found, offset = {}, first_file
    for _ in range(count):
        length, start, folder, *_ = _FILE.unpack_from(data, offset)
        end = data.index(b"\0", offset + _FILE.size)
        found[data[offset + _FILE.size : end].decode("utf-8", "replace")] = contents[folder][start : start + length]
        offset = end + 1
    return found


def _folder(data: bytes, offset: int, blocks: int, kind: int, extra: int) -> bytes:
    if kind not in (_STORED, _MSZIP):
        raise ValueError("the cabinet is compressed in a way that is not read here")
    content = bytearray()
    for _ in range(blocks):
        _, packed, length = _DATA.unpack_from(data, offset)
        block = data[offset + _DATA.size + extra : offset + _DATA.size + extra + packed]
        if kind == _MSZIP:
            if block[:2] != b"CK":
                raise ValueError("a block of the cabinet is damaged")
            block = zlib.decompressobj(-15, zdict=bytes(content[-32768:])).decompress(block[2:])
        if len(block) != length:
            raise ValueError("a block of the cabinet is cut off")
        content += block
        offset += _DATA.size + extra + packed
    return bytes(content)
