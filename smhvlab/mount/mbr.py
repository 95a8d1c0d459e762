"""The signature of an MBR disk on a LUN that no host uses yet: what a GPT's GUIDs are to a GPT disk (TR 6.2, 6.8).

In SnapInfo and in the names of the flows a signature stands where a GUID would, as ``0x0123ABCD``.
"""

from __future__ import annotations

from uuid import UUID

from smhvlab.errors import NotAllowed
from smhvlab.mount.gpt import SECTOR, LunData
from smhvlab.snapdrive import signature

_SIGNATURE, _TABLE, _ENTRY, _KIND = 440, 446, 16, 4
_PROTECTIVE = 0xEE


def signature_from(guid: UUID) -> str:
    """The signature for a clone, from the GUID that it would have; 0 is none."""
    return signature(guid.time_low or 1)


def signature_of(sector: bytes) -> str:
    """The signature in a disk's first sector, "" if that holds no MBR of its own."""
    kinds = {sector[_TABLE + _ENTRY * n + _KIND] for n in range(4)}
    number = int.from_bytes(sector[_SIGNATURE : _SIGNATURE + 4], "little")
    return signature(number) if sector[510:512] == b"\x55\xaa" and number and _PROTECTIVE not in kinds else ""


def renew_signature(wire: LunData, lun_uuid: str, *, wanted: str) -> None:
    """Give the disk on a LUN this signature. Nobody may have it mapped.

    Raises:
        NotAllowed: there is no MBR on the LUN.
    """
    sector = wire.read_lun(lun_uuid, offset=0, size=SECTOR)
    present = signature_of(sector)
    if not present:
        raise NotAllowed(
            "The LUN's image has no MBR partition table, as its disk had at the time of the backup",
            next_action="Choose another backup: the disk was given another partition table since.",
            tr="6.8",
        )
    if present != wanted:
        changed = int(wanted, 16).to_bytes(4, "little")
        wire.write_lun(lun_uuid, sector[:_SIGNATURE] + changed + sector[_SIGNATURE + 4 :], offset=0)
