"""Exercises of the lessons on backups through VSS: each probes the site, and is wrong before its solution."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from smhvlab.exercises.first import Exercise, Goal
from smhvlab.mount.mounts import Mounts
from smhvlab.site import Site
from smhvlab.snapinfo import Backup
from smhvlab.vmnames import one_named

_SET: Final = re.compile(r"\{[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}")
_ORPHAN: Final = "{0bad5e70-0000-4000-8000-00000000a11d}"
_VSS: Final = "VSS"


def _newest(site: Site, dataset: str, consistency: str) -> Backup | None:
    found = [b for b in site.tools().snapinfo.backups() if (b.dataset, b.consistency) == (dataset, consistency)]
    return found[-1] if found else None


def _online(site: Site, dataset: str, vms: Sequence[str]) -> str:
    """What an application-consistent backup of a dataset lacks; every VM has to have taken part while it ran."""
    backup = _newest(site, dataset, "application")
    if backup is None:
        return f"There is no application-consistent backup of {dataset}"
    missing = sorted(set(vms) - {vm.name for vm in backup.vms})
    if missing:
        return f"{backup.name} does not hold {', '.join(missing)}"
    for vm in backup.vms:
        if vm.evidence is None or not vm.evidence.quiesced:
            return (
                f"{vm.name} is in {backup.name}, but its guest took no part: {vm.evidence.why if vm.evidence else ''}"
            )
    return ""


def _backed_up(site: Site, dataset: str, vms: Sequence[str]) -> Goal:
    return Goal(
        f"An application-consistent backup of {dataset} holds {' and '.join(vms)}, whose guests took part",
        lambda: _online(site, dataset, vms),
        f'site.create_dataset("{dataset}", {list(vms)!r}), then await site.backup("{dataset}").run(). If it '
        "fails, read the error: its code and its next step.",
    )


def service_off(site: Site, *, dataset: str = "Rescue", vm: str = "sql01") -> Exercise:
    """Back up a VM although somebody has switched off a part of VSS on its host (TR 9)."""

    def prepare() -> None:
        if _newest(site, dataset, "application") is None:
            site.tools().host.run("Set-Service", {"Name": _VSS, "StartupType": "Disabled"})

    def service() -> str:
        record = site.tools().host.run("Get-Service", {"Name": _VSS}, select=("StartType",))[0]
        return f"The service {_VSS} is disabled" if str(record["StartType"]) == "Disabled" else ""

    return Exercise(
        f"{vm}, on a host where a part of VSS does not start",
        "9",
        (
            Goal(
                "Every service that a set needs can start",
                service,
                "Look at site.vss_timeline() after a backup that failed, and at Get-Service on the host; "
                "Set-Service changes the StartupType to Manual.",
            ),
            _backed_up(site, dataset, (vm,)),
        ),
        prepare,
    )


def orphaned_copy(site: Site, *, dataset: str = "Shared", vms: Sequence[str] = ("app01", "web01")) -> Exercise:
    """Back up, and tell the Snapshot copy that a dead backup has left from those that are needed (TR 6.2, 12)."""

    def prepare() -> None:
        if _newest(site, dataset, "application") is None:
            tools = site.tools()
            volume = next(lun.volume for lun in tools.storage.luns() if lun.volume.name == "vm_shared")
            tools.storage.ensure_snapshots([volume], _ORPHAN, comment="left by a requestor that died")

    def orphans() -> str:
        found = [
            f"{row.volume}: {row.snapshot}" for row in site.snapshots().itertuples() if _SET.match(str(row.snapshot))
        ]
        return f"{found[0]} still has the name of a set" if found else ""

    return Exercise(
        "a backup, and what an earlier one has left",
        "6.2",
        (
            _backed_up(site, dataset, vms),
            Goal(
                "No Snapshot copy has the name of a shadow copy set any more",
                orphans,
                "A backup renames its copies; one that still has a GUID in braces belongs to a backup that died. Look "
                'at site.snapshots("vm_shared"). tools = site.tools(), then tools.storage.discard_snapshots([volume], '
                'name) with volume = tools.storage.volume("vm_shared", svm="svm1").',
            ),
        ),
        prepare,
    )


def both_kinds(site: Site, *, dataset: str = "Pair", vm: str = "app01") -> Exercise:
    """One backup of each kind, the application-consistent one proven (TR 6.3, 10)."""

    def crash() -> str:
        return "" if _newest(site, dataset, "crash") else f"There is no crash-consistent backup of {dataset}"

    def verified() -> str:
        backup = _newest(site, dataset, "application")
        catalogue = site.tools().snapinfo.catalogue()
        return "" if backup and backup.name in catalogue.verified else "The application-consistent one is not verified"

    def free() -> str:
        mounts = Mounts(site.tools().snapinfo).all()
        return f"{mounts[0]} is still mounted" if mounts else ""

    return Exercise(
        f"both kinds of backup of {vm}, one of them proven",
        "10",
        (
            _backed_up(site, dataset, (vm,)),
            Goal("There is a crash-consistent backup too", crash, 'site.backup(dataset, consistency="crash").'),
            Goal(
                "The application-consistent backup is verified",
                verified,
                "await site.verify(name).run() lets a running VM's database engine check its databases.",
            ),
            Goal("Nothing is mounted", free, "site.mounts() lists them; await site.unmount(name).run()."),
        ),
    )


def one_set_for_all(site: Site, *, dataset: str, vms: Sequence[str], also: Sequence[str] = ()) -> Exercise:
    """Back up VMs of several nodes with as few Snapshot copies as possible (TR 12).

    ``also``: VMs that somebody has put into the dataset though they do not fit there.
    """

    def prepare() -> None:
        if dataset not in {known.name for known in site.tools().snapinfo.datasets()}:
            site.create_dataset(dataset, [*vms, *also])

    def sets() -> str:
        backup = _newest(site, dataset, "application")
        if backup is None:
            return "There is no such backup"
        return "" if len(backup.sets) == 1 else f"{backup.name} took {len(backup.sets)} sets, one after the other"

    def copies() -> str:
        backup = _newest(site, dataset, "application")
        if backup is None:
            return "There is no such backup"
        volumes = {lun.volume for lun in backup.luns}
        table = site.snapshots()
        found = table[table["volume"].isin(volumes) & table["snapshot"].str.startswith(backup.name)]
        wanted = 2 * len(volumes)
        return "" if len(found) == wanted else f"{len(found)} Snapshot copies of {backup.name}, {wanted} are enough"

    return Exercise(
        f"{', '.join(vms)} in one set",
        "12",
        (
            _backed_up(site, dataset, vms),
            Goal("One distributed set holds all of them", sets, "distributed is on by default where it is possible."),
            Goal("Each volume has two Snapshot copies of it, and no more", copies, "Count them in site.snapshots()."),
        ),
        prepare,
    )


def online_again(site: Site, *, dataset: str = "Always", vm: str = "web01") -> Exercise:
    """Back up a VM without downtime whose integration service for backup is off (TR 6.4)."""

    def prepare() -> None:
        nodes = site.tools().nodes
        if _newest(site, dataset, "application") is None:
            host = nodes[one_named(vm, nodes.vms()).host].host
            host.run("Disable-VMIntegrationService", {"VMName": vm, "Name": _VSS})

    def downtime() -> str:
        backup = _newest(site, dataset, "application")
        found = next((one.evidence for one in backup.vms if one.name == vm), None) if backup is not None else None
        if found is None:
            return f"No backup of {dataset} holds {vm}"
        return "" if found.how == "online" else f"{vm} was backed up as {found.how}, not online"

    return Exercise(
        f"{vm} without any downtime",
        "6.4",
        (
            _backed_up(site, dataset, (vm,)),
            Goal(
                f"{vm} ran all the time",
                downtime,
                "allow_saved_state=True is not the way: mend the cause. Get-VMIntegrationService shows what is off, "
                "Enable-VMIntegrationService switches it on.",
            ),
        ),
        prepare,
    )


def rows_of_the_freeze(site: Site, *, dataset: str, vm: str, rows: int) -> Exercise:
    """A VM restored from an application-consistent backup holds the rows of the freeze (TR appendix, Table 4)."""

    def held() -> str:
        sql = site.tools().sql
        for database in sorted(sql.databases(vm)):
            if (found := sql.count(vm, database)) != rows:
                return f"{database} of {vm} holds {found} rows, not {rows}"
            if not sql.checkdb(vm, database).ok:
                return f"{database} of {vm} is damaged"
        return ""

    return Exercise(
        f"{vm} back at {rows} rows",
        "Table 4",
        (
            Goal(
                f"There is an application-consistent backup of {dataset}",
                lambda: "" if _newest(site, dataset, "application") else "There is none",
                f'await site.backup("{dataset}").run(), before more rows are loaded.',
            ),
            Goal(
                f"Every database of {vm} is sound and holds {rows} rows",
                held,
                f'await site.restore(name, "{vm}").run(accept={{...}}): the plan names what has to be accepted.',
            ),
        ),
    )
