"""What to do about ONTAP's error codes that a TR-4004 site meets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """The next action for a code, and the TR section that explains it ("" if none does)."""

    next_action: str
    tr: str = ""


_UNKNOWN = Advice("Look the code up in ONTAP's REST reference, and at the cluster's event log (EMS).")

_ADVICE: Mapping[str, Advice] = {
    "1": Advice("Choose another name, or use what is there."),
    "2": Advice("Correct the value that the message names."),
    "3": Advice("This ONTAP release does not know that call; check its version."),
    "4": Advice("Read the site again: what the request names is no longer there."),
    "6": Advice("Use the cluster's administrator, or give this user's role the command.", "8"),
    "8": Advice("Find out what uses it and release that first."),
    "262179": Advice("This ONTAP release does not know that argument; check its version."),
    "262197": Advice("Correct the field that the message names, or check ONTAP's version."),
    "525059": Advice("A Snapshot copy of that name exists: choose another name, or look whether the last run made it."),
    "525062": Advice(
        "The volume has as many Snapshot copies as it can hold: delete old backups or shorten retention.", "6"
    ),
    "1520351": Advice(
        "A LUN clone backed by a Snapshot copy is being built on this volume: wait, then try again.", "14"
    ),
    "1638555": Advice(
        "Something holds the Snapshot copy: dismount the backup, delete or split its clone, then retry.", "6.8"
    ),
    "1638543": Advice("Something owns the Snapshot copy: release it first, e.g. a clone or a mirror.", "6.8"),
    "1638480": Advice(
        "A newer Snapshot copy is a mirror's base: restore single LUNs, or release the mirror first.", "8"
    ),
    "524615": Advice("Delete or split the volume's clones first."),
    "917536": Advice("The destination holds nothing yet: initialise the mirror first.", "8"),
    "1254197": Advice("The LUN is mapped: disconnect the disk on the host and unmap it first."),
    "1254207": Advice("The LUN is mapped to that igroup already; read the map again."),
    "1254213": Advice("The igroup is in use by LUN maps: remove those first."),
    "5374053": Advice("The LUN is being restored: wait until that has ended, then map it."),
    "5374238": Advice("A LUN inside a Snapshot copy cannot be mapped: clone it first.", "6.8"),
    "13303808": Advice("A transfer is running: wait for it or abort it.", "8"),
    "13303810": Advice("Resynchronise needs a common Snapshot copy; without one initialise the mirror again.", "8"),
    "13303844": Advice("A transfer is running already: wait for its end.", "8"),
    "13107406": Advice("Another operation runs on the volume: wait, then try again."),
    "4653671": Advice("Give each node of both clusters an intercluster LIF that is up.", "8"),
}


def advice(code: str) -> Advice:
    """What to do about a code."""
    return _ADVICE.get(code, _UNKNOWN)
