"""Two sites made ready for a disaster: datasets replicated, rows written, backups taken and carried over."""

from __future__ import annotations

from collections.abc import Sequence

from labenv.lab import Lab
from smhvlab.dr.replication import Replication
from smhvlab.dr.sites import SitePair
from smhvlab.site import Site
from smhvlab.snapinfo import Backup

DATABASES = ("aa1", "bb1", "bb2", "bb3")
VMS = ("sql01", "app01")
CLUSTERED = ("sql01", "app01", "file01")
"""VMs of ``dr-pair-cluster``: two on a shared volume, one on a disk of its own role."""

DOWN = {"primary-down"}
BACK = {"lose-primary", "stop-primary"}
_MACHINES = {
    "standalone": {"A": ("cluster1", "hv1"), "B": ("cluster2", "hv2")},
    "cluster": {"A": ("cluster1", "hv1", "hv2"), "B": ("cluster2", "hv3", "hv4")},
}


def load(pair: SitePair, rows: int, *, at: str = "primary", vms: Sequence[str] = VMS) -> None:
    """Add rows to every database of the VMs."""
    nodes = getattr(pair, at).tools().nodes
    hosts = {vm.name: vm.host for vm in nodes.vms()}
    for vm in vms:
        for database in DATABASES:
            nodes[hosts[vm]].sql.insert(vm, database, rows)


def backup(
    pair: SitePair, *, at: str = "primary", update: bool = True, consistency: str = "crash", dataset: str = "All"
) -> Backup:
    """A backup of the dataset and, if wanted, an update of every mirror after it."""
    site, other = (pair.primary, pair.secondary) if at == "primary" else (pair.secondary, pair.primary)
    taken: Backup = site.backup(dataset, consistency=consistency).run_sync().result.backup
    if update:
        there = Replication(other.tools().storage)
        there.update([m for m in there.mirrors() if m.state == "snapmirrored"])
    return taken


def prepare(pair: SitePair) -> None:
    """A dataset of two VMs, on a LUN of its own and on a shared one, mirrored to the other site."""
    pair.primary.create_dataset("All", VMS)
    pair.primary.dr.protect().run_sync()


def power(lab: Lab, site: str, *, on: bool, parts: str = "both") -> None:
    """A site loses its power or has it back: its ``storage``, its ``hosts``, or both."""
    cluster, *hosts = _MACHINES["cluster" if "cluster" in lab.status()["topology"] else "standalone"][site]
    switches = [lab.storage(cluster)] if parts != "hosts" else []
    switches += [lab.host(host) for host in hosts] if parts != "storage" else []
    for switch in switches:
        (switch.power_on if on else switch.power_off)()


def kill_primary(lab: Lab) -> None:
    """Site A loses its power."""
    power(lab, "A", on=False)


def revive_primary(lab: Lab) -> None:
    """Site A has its power back."""
    power(lab, "A", on=True)


def destroy_volumes(site: Site, names: Sequence[str]) -> None:
    """A site's volumes are gone for good, with what its array knew of their mirrors."""
    storage = site.tools().storage
    here = Replication(storage)
    for mirror in here.outgoing():
        here.release(mirror.uuid)
    for name in names:
        storage.discard_volume(name, svm="svm1")


def rows(lab: Lab, *, vms: Sequence[str] = VMS) -> dict[str, int]:
    """Rows of each database that is sound in its engine's eyes and by its ledger; -1 for any other."""
    found = {}
    for vm in vms:
        door = lab.guest(vm)
        for database in DATABASES:
            check = door.checkdb(database)
            found[f"{vm}/{database}"] = check["rows"] if check["ok"] else -1
    return found


def each(count: int, *, vms: Sequence[str] = VMS) -> dict[str, int]:
    """The same number of rows in each database."""
    return {f"{vm}/{database}": count for vm in vms for database in DATABASES}
