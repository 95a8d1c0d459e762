"""What has to hold on a site after any flow, whatever became of it."""

from __future__ import annotations

from dataclasses import dataclass

from netapp_ontap.resources.lun import Lun

from labenv.lab import Lab
from smhvlab.site import Site
from smhvlab.storage import LunRef, Storage


@dataclass(frozen=True)
class Picture:
    """Everything that a flow could leave behind, as the site itself tells it."""

    vms: tuple[tuple[str, str, str], ...]
    volumes: tuple[str, ...]
    luns: tuple[str, ...]
    snapshots: tuple[str, ...]
    disks: tuple[tuple[str, bool, str], ...]
    backups: tuple[str, ...]
    partial: tuple[str, ...]


def picture(site: Site) -> Picture:
    """The site as it is now; disk numbers are left out, they may differ after a rescan."""
    vms, disks, snapshots = site.vms(), site.disks(), site.snapshots()
    tools = site.tools()
    folder = tools.snapinfo.folder()
    files = [
        path
        for root in ("V:\\", "C:\\VMs\\", "C:\\smhvlab\\", folder)
        if tools.host.run("Test-Path", {"LiteralPath": root})[0]
        for path in tools.snapdrive.files(root)
    ]
    return Picture(
        vms=tuple(zip(vms["name"], vms["id"], vms["state"], strict=True)),
        volumes=tuple(site.volumes()["name"]),
        luns=tuple(site.luns()["name"]),
        snapshots=tuple(f"{row.volume}:{row.snapshot}" for row in snapshots.itertuples()),
        disks=tuple(sorted(zip(disks["unique_id"], disks["offline"], disks["paths"], strict=True))),
        backups=tuple(site.backups()["name"]),
        partial=tuple(path for path in files if path.endswith((".partial", ".new"))),
    )


def sound(lab: Lab, vm: str, *, rows: dict[str, int] | None = None) -> None:
    """Every database of a VM is whole, and holds the rows that it should."""
    door = lab.guest(vm)
    for database in door.databases():
        check = door.checkdb(database)
        assert check["ok"], f"{vm}/{database}: {check}"
        if rows is not None:
            assert check["rows"] == rows.get(database, 0), f"{vm}/{database} holds {check['rows']} rows"


def blocks_sound(lab: Lab) -> None:
    """The array's blocks are consistent: no leak, no block used twice."""
    assert lab.inspect.check() == []


def lun_clone(storage: Storage, name: str, *, source: str, svm: str = "svm1") -> LunRef:
    """Make a LUN clone of a LUN, or of one inside a Snapshot copy, as somebody at the array would."""
    body = {"name": name, "svm": {"name": svm}, "clone": {"source": {"name": source}}}
    storage.wire.wait([storage.wire.create(Lun, body)])
    return storage.lun(name, svm=svm)
