"""Names in exFAT: which are allowed, how they compare, and the up-case table that says so."""

from __future__ import annotations

import struct
import unicodedata
from functools import lru_cache

from labenv.windows.disks.errors import Corrupt, InvalidName

MAX_NAME = 255
MAX_LABEL = 11
_FORBIDDEN = frozenset('"*/:<>?\\|') | {chr(code) for code in range(32)}
_IDENTITY_RUN = 0xFFFF


def split_path(path: str) -> list[str]:
    r"""The names of a path such as ``\VMs\sql01\disk0.vhd``; an empty list for the root."""
    return [name for name in path.split("\\") if name]


def check_name(name: str) -> str:
    """The name itself if a file or directory may have it; raises ``InvalidName``."""
    if not name or name in (".", "..") or len(name.encode("utf-16-le", "surrogatepass")) > 2 * MAX_NAME:
        raise InvalidName(f"{name!r} cannot be a name: it is empty, a dot name, or longer than {MAX_NAME} characters")
    if not _FORBIDDEN.isdisjoint(name):
        raise InvalidName(f'{name!r} cannot be a name: control characters and "*/:<>?\\| are not allowed')
    if name[-1] in ". ":
        raise InvalidName(f"{name!r} cannot be a name: Windows takes no dot or space at the end")
    return name


def name_hash(upper: str) -> int:
    """The 16-bit hash that a stream entry carries, from the up-cased name."""
    value = 0
    for byte in upper.encode("utf-16-le", "surrogatepass"):
        value = (value << 15 | value >> 1) + byte & 0xFFFF
    return value


def checksum32(data: bytes) -> int:
    """The rotating sum over a table's bytes."""
    value = 0
    for byte in data:
        value = (value << 31 | value >> 1) + byte & 0xFFFFFFFF
    return value


@lru_cache(maxsize=1)
def upcase_table() -> tuple[bytes, int]:
    """The compressed table that a new file system gets, and its checksum.

    Only characters of Unicode 3.2 are mapped, so the bytes do not depend on the version of Python.
    """
    old = unicodedata.ucd_3_2_0
    units: list[int] = []
    run = 0

    def end_run() -> None:
        nonlocal run
        if run > 2:
            units.extend((_IDENTITY_RUN, run))
        else:
            units.extend(range(code - run, code))
        run = 0

    for code in range(0x10000):
        character = chr(code)
        upper = character.upper()
        mapped = code
        plain = len(upper) == 1 and ord(upper) < 0x10000 and not 0xD800 <= code < 0xE000
        if plain and old.category(character) != "Cn" and old.category(upper) != "Cn":
            mapped = ord(upper)
        # The first 128 are never packed: readers may rely on finding them as they are.
        if mapped == code and code >= 128:
            run += 1
            continue
        end_run()
        units.append(mapped)
    code = 0x10000
    end_run()
    data = struct.pack(f"<{len(units)}H", *units)
    return data, checksum32(data)


@lru_cache(maxsize=16)
def upcase_map(table: bytes, checksum: int) -> dict[int, int]:
    """What ``str.translate`` needs, from a volume's own table; raises ``Corrupt`` if its checksum is wrong."""
    if checksum32(table) != checksum:
        raise Corrupt("the up-case table does not match its checksum; the volume needs a check (chkdsk)")
    mapping: dict[int, int] = {}
    units = iter(struct.unpack(f"<{len(table) // 2}H", table))
    code = 0
    for unit in units:
        if unit == _IDENTITY_RUN and code < 0xFFFF:
            code += next(units, 0)
            continue
        if unit != code:
            mapping[code] = unit
        code += 1
    return mapping
