"""Two sites made ready for a disaster: datasets replicated, rows written, backups taken and carried over."""

from __future__ import annotations

from labenv.lab import Lab
from smhvlab.dr.replication import Replication
from smhvlab.dr.sites import SitePair
from smhvlab.snapinfo import Backup

DATABASES = ("aa1", "bb1", "bb2", "bb3")
VMS = ("sql01", "app01")


def load(pair: SitePair, rows: int, *, at: str = "primary") -> None:
    """Add rows to every database of both VMs, each in a transaction of its own."""
    sql = getattr(pair, at).tools().sql
    for vm in VMS:
        for database in DATABASES:
            sql.insert(vm, database, rows)


def backup(pair: SitePair, *, at: str = "primary", update: bool = True) -> Backup:
    """A backup of the dataset and, if wanted, an update of every mirror after it."""
    site, other = (pair.primary, pair.secondary) if at == "primary" else (pair.secondary, pair.primary)
    taken: Backup = site.backup("All", consistency="crash").run_sync().result.backup
    if update:
        there = Replication(other.tools().storage)
        there.update([m for m in there.mirrors() if m.state == "snapmirrored"])
    return taken


def prepare(pair: SitePair) -> None:
    """A dataset of two VMs, on a LUN of its own and on a shared one, mirrored to the other site."""
    pair.primary.create_dataset("All", VMS)
    pair.primary.dr.protect().run_sync()


def kill_primary(lab: Lab) -> None:
    """Site A loses its power."""
    lab.storage("cluster1").power_off()
    lab.host("hv1").power_off()


def revive_primary(lab: Lab) -> None:
    """Site A has its power back."""
    lab.storage("cluster1").power_on()
    lab.host("hv1").power_on()


def rows(lab: Lab) -> dict[str, int]:
    """Rows of each database that is sound in its engine's eyes and by its ledger; -1 for any other."""
    found = {}
    for vm in VMS:
        door = lab.guest(vm)
        for database in DATABASES:
            check = door.checkdb(database)
            found[f"{vm}/{database}"] = check["rows"] if check["ok"] else -1
    return found


def each(count: int) -> dict[str, int]:
    """The same number of rows in each database."""
    return {f"{vm}/{database}": count for vm in VMS for database in DATABASES}
