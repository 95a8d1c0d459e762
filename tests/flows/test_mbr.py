"""Disks with a master boot record: never as shared volumes of a backup, and as good as any other elsewhere (TR 4.1)."""

from __future__ import annotations

import struct
from typing import Literal

import pytest

import smhvlab.site
from smhvlab.errors import NotAllowed
from smhvlab.provisioning.array import ArraySetup, NewVolume
from smhvlab.restore.state import Method
from smhvlab.site import Site
from smhvlab.snapdrive import HostDisk
from tests.flows.checks import Picture, picture, sound
from tests.flows.conftest import Start

# netapp-ontap's
pytestmark = pytest.mark.filterwarnings("ignore::marshmallow.warnings.ChangedInMarshmallow4Warning")


def mbr_disk(site: Site, igroup: str, letter: str = "") -> HostDisk:
    """A new LUN with one NTFS volume on an MBR, made with the cmdlets that an administrator would take."""
    tools = site.tools()
    wire = tools.rest
    setup = ArraySetup(tools.storage)
    setup.ensure_volume(NewVolume("old", "svm1", "aggr1", 80 << 30, thin=True, mark="old"))
    lun = setup.ensure_lun("/vol/old/old", svm="svm1", size=60 << 30, thin=True, mark="old")
    tools.storage.ensure_map(lun, igroup)
    disk = tools.snapdrive.arrived(lun)
    host = tools.host
    for node in tools.nodes.up():
        node.host.run("Update-HostStorageCache", {})
    host.run("Set-Disk", {"Number": disk.number, "IsOffline": False})
    host.run("Set-Disk", {"Number": disk.number, "IsReadOnly": False})
    host.run("Initialize-Disk", {"Number": disk.number, "PartitionStyle": "MBR"})
    where = {"DiskNumber": disk.number, "UseMaximumSize": True}
    (made,) = host.run("New-Partition", where | ({"DriveLetter": letter} if letter else {}), select=("AccessPaths",))
    volume = next(path for path in made["AccessPaths"] if path.startswith("\\\\?\\"))
    host.run("Format-Volume", {"Path": volume, "FileSystem": "NTFS", "NewFileSystemLabel": "Old"})
    sector = wire.read_lun(lun.uuid, offset=0, size=512)
    flag, kind, first, _ = struct.unpack_from("<B3xB3xII", sector, 446)
    assert (sector[510:], flag, kind, first) == (b"\x55\xaa", 0, 7, 2048)
    found = tools.snapdrive.disk(lun.unique_id)
    assert found is not None
    assert found.guid == f"0x{struct.unpack_from('<I', sector, 440)[0]:08X}"
    return found


@pytest.mark.tr("R-4.1-03", "R-6.2-13")
@pytest.mark.parametrize(
    "era", [pytest.param("2008r2", marks=pytest.mark.long), "2012", pytest.param("2022", marks=pytest.mark.long)]
)
def test_a_shared_volume_on_an_mbr_disk_is_refused_by_every_engine(start: Start, era: str) -> None:
    """The cluster takes the disk; a backup of either type of a VM with a file there is refused and leaves nothing."""
    lab = start(f"two-node-cluster-{era}")
    with smhvlab.site.connect(lab.profile) as site:
        host = site.tools().host
        disk = mbr_disk(site, "hvc1")
        added = host.pair(("Get-Disk", {"UniqueId": disk.unique_id}), ("Add-ClusterDisk", {}))
        name = str(added[0]["Name"])  # type: ignore[index]
        host.run("Add-ClusterSharedVolume", {"Name": name})
        (state,) = host.run("Get-ClusterSharedVolume", {"Name": name}, select=("SharedVolumeInfo",))
        info = state["SharedVolumeInfo"]
        folder = str((info[0] if isinstance(info, list) else info)["FriendlyVolumeName"])
        site.create_dataset("Set", ["sql01"])
        assert site.backup("Set").plan()
        owner = next(node for node in site.tools().nodes.up() if any(vm.name == "sql01" for vm in node.hyperv.vms()))
        owner.host.run("New-VHD", {"Path": f"{folder}\\more.vhd", "SizeBytes": 4 << 20, "Fixed": True})
        drive = {"VMName": "sql01", "ControllerType": "SCSI", "Path": f"{folder}\\more.vhd"}
        owner.host.run("Add-VMHardDiskDrive", drive)
        before: Picture = picture(site)
        kinds: tuple[Literal["application", "crash"], ...] = ("application", "crash")
        for consistency in kinds:
            with pytest.raises(NotAllowed, match="MBR partition table") as caught:
                site.backup("Set", consistency=consistency).run_sync()
            assert caught.value.tr == "4.1"
            assert folder in caught.value.message
        assert picture(site) == before
        advice = site.advise()
        assert list(advice[advice["id"] == "disk-style"]["object"]) == ["/vol/old/old"]


@pytest.mark.tr("R-4.1-03", "R-6.7-01", "R-6.8-01", "R-AX-02")
@pytest.mark.parametrize(
    "era", [pytest.param("2008r2", marks=pytest.mark.long), "2012", pytest.param("2022", marks=pytest.mark.long)]
)
def test_a_dedicated_mbr_disk_is_backed_up_mounted_and_restored(start: Start, era: str) -> None:
    """VMs on an ordinary MBR disk lack nothing: the set, an image beside its parent, and the way back."""
    lab = start(f"standalone-{era}")
    with smhvlab.site.connect(lab.profile) as site:
        disk = mbr_disk(site, "hv1", "T")
        host = site.tools().host
        host.run("Move-VMStorage", {"Name": "app01", "DestinationStoragePath": "T:\\app01"})
        lab.guest("app01").insert("bb1", 20)
        site.create_dataset("Set", ["app01"])
        backup = site.backup("Set").run_sync().result.backup
        assert [(lun.disk_guid, lun.access_path) for lun in backup.luns] == [(disk.guid, "T:\\")]
        lab.guest("app01").insert("bb1", 5)
        before = picture(site)
        mount = site.mount(backup.name, at="M:")
        mount.run_sync(accept={one.key for one in mount.plan().confirmations})
        signatures = [one.guid for one in site.tools().snapdrive.disks() if one.style == "MBR"]
        assert len(set(signatures)) == 2
        assert disk.guid in signatures
        assert [path for path in site.tools().snapdrive.files("M:\\") if path.endswith("app01_vhd0.vhd")]
        site.unmount("M:").run_sync()
        assert picture(site) == before
        flow = site.restore(backup.name, "app01")
        plan = flow.plan()
        assert [lun.method for lun in plan.state.luns] == [Method.LUN_CLONE]
        flow.run_sync(plan=plan, accept={one.key for one in plan.confirmations})
        present = site.tools().snapdrive.disk(disk.unique_id)
        assert present is not None
        assert (present.guid, present.access_paths) == (disk.guid, ("T:\\",))
        assert lab.guest("app01").checkdb("bb1")["rows"] == 20
    sound(lab, "app01")
