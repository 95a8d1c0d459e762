"""What an application-consistent backup refuses, reports or gets over, each by its real cause in the lab."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from netapp_ontap.resources.license_package import LicensePackage

import smhvlab.site
from labenv import lab as labs
from labenv.lab import Lab
from smhvlab.errors import BackupFailed, CannotBackUp, NotAllowed, PowerShellError, SmhvLabError
from smhvlab.record import PlannedStep
from smhvlab.site import Site
from tests.flows.checks import Picture, lun_clone, picture
from tests.flows.conftest import Start

TOPOLOGY = Path(__file__).parent.parent / "labenv" / "vss" / "cluster.toml"


def refused(site: Site, **options: Any) -> SmhvLabError:
    """How a backup of the dataset ends that cannot be; nothing of it is left."""
    before: Picture = picture(site)
    with pytest.raises(SmhvLabError) as caught:
        site.backup("Set", **options).run_sync()
    assert picture(site) == before
    assert caught.value.tr
    assert caught.value.next_action
    return caught.value


SOURCE_KEY = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\EventLog\\Application\\SnapMgrServiceHost"


def events_106(site: Site) -> list[Any]:
    """What SnapManager's service has told of VMs that were not backed up."""
    wanted = {"LogName": "Application", "ProviderName": "SnapMgrServiceHost", "Id": 106}
    select = ("Message", "LevelDisplayName", "TimeCreated")
    return list(site.tools().host.run("Get-WinEvent", {"FilterHashtable": wanted}, select=select))


def broken(start: Start, cause: str, **options: object) -> tuple[Lab, Site]:
    """A site with a dataset of two VMs on two LUNs, in which something is broken."""
    lab = start("standalone-2012")
    site = smhvlab.site.connect(lab.profile)
    site.create_dataset("Set", ["sql01", "app01"])
    if cause:
        lab.faults.cause(cause, **options)
    return lab, site


@pytest.mark.tr("R-10-01", "R-9-08", "R-6.2-11", "R-6.2-12")
@pytest.mark.parametrize(
    ("cause", "options", "code"),
    [
        ("guest-volume-full", {"vm": "app01"}, "10102"),
        ("physical-disk-copied", {"vm": "app01"}, "10104"),
        ("snapshots-full", {"volume": "vm_shared", "leave": 1}, "4363"),
        ("second-requestor", {"volume": "V:\\"}, "0x80042316"),
        ("slow-array", {"times": 0}, "4364"),
        pytest.param("requestor-dies", {}, "", marks=pytest.mark.long),
        pytest.param("revert-fails", {"times": 0}, "10104", marks=pytest.mark.long),
        pytest.param("provider-dies", {}, "0x8004230f", marks=pytest.mark.long),
        pytest.param("provider-login-wrong", {}, "4363", marks=pytest.mark.long),
        pytest.param("array-refuses", {}, "4363", marks=pytest.mark.long),
        pytest.param("array-forgets-reply", {}, "4363", marks=pytest.mark.long),
        pytest.param("no-path-to-clone", {}, "0x80042320", marks=pytest.mark.long),
        pytest.param("slow-lookup", {"times": 0}, "0x800423f2", marks=pytest.mark.long),
        pytest.param("slow-host-disk", {"times": 0}, "0x80042313", marks=pytest.mark.long),
        pytest.param("service-stopped", {"service": "vds"}, "0x80070422", marks=pytest.mark.long),
        pytest.param("service-stopped", {"service": "Navssprv"}, "0x80070422", marks=pytest.mark.long),
        pytest.param("snapshots-full", {"volume": "vm_shared", "leave": 0}, "4363", marks=pytest.mark.long),
        pytest.param("rename-overload", {"times": 0}, "13057", marks=pytest.mark.long),
    ],
)
def test_a_set_that_is_not_what_it_must_be_is_taken_back(
    start: Start, cause: str, options: dict[str, object], code: str
) -> None:
    """Whatever goes wrong within the set: the error has its code, and there is no orphan, clone, map or record."""
    _, site = broken(start, cause, **options)
    with site:
        error = refused(site)
        if cause != "rename-overload":
            assert isinstance(error, BackupFailed)
        assert (error.code or "") == code
        assert not [lun for lun in site.luns()["name"] if ".rws" in lun]
        assert set(site.vms().set_index("name").loc[["sql01", "app01"], "state"]) == {"Running"}


@pytest.mark.tr("R-9-06")
def test_a_host_without_its_management_service(start: Start) -> None:
    """It says of every VM that it is not found: nobody takes that for a proof, and nothing is changed."""
    lab, site = broken(start, "")
    with site:
        before = picture(site)
        vm_id = site.tools().hyperv.vm("sql01").id
        lab.faults.cause("service-stopped", service="vmms")
        for ask in (site.backup("Set").run_sync, lambda: site.tools().hyperv.state(vm_id)):
            with pytest.raises(PowerShellError) as caught:
                ask()
            assert caught.value.error_id == "ObjectNotFound"
            assert "the service behind it runs" in caught.value.next_action
        lab.faults.mend("service-stopped")
        assert picture(site) == before


@pytest.mark.tr("R-9-08", "R-AG-03", "R-9-06")
@pytest.mark.parametrize(
    ("cause", "options", "seconds"),
    [
        ("slow-array", {}, 60),
        ("slow-clone-sharing", {"seconds": 45}, 40),
        pytest.param("busy-guest-writer", {"vm": "app01"}, 60, marks=pytest.mark.long),
        pytest.param("revert-fails", {"vm": "app01"}, 60, marks=pytest.mark.long),
    ],
)
def test_what_passes_is_tried_again(start: Start, cause: str, options: dict[str, object], seconds: int) -> None:
    """A late provider, busy clones, a busy guest: another try after a pause succeeds, and only its copies stay."""
    lab, site = broken(start, cause, **options)
    with site:
        began = lab.clock.now
        done = site.backup("Set").run_sync().result
        assert (lab.clock.now - began).total_seconds() > seconds
        for volume in ("vm_sql01", "vm_shared"):
            assert set(site.snapshots(volume)["snapshot"]) == {done.backup.name, f"{done.backup.name}_backup"}


@pytest.mark.tr("R-6.4-01", "R-6.2-18")
@pytest.mark.parametrize(
    ("cause", "options"),
    [
        ("integration-service-off", {"vm": "app01"}),
        ("checkpoints-elsewhere", {"vm": "app01", "folder": "C:\\VMs\\sql01\\checkpoints"}),
        pytest.param("guest-volume-small", {"vm": "app01"}, marks=pytest.mark.long),
        pytest.param("guest-too-new", {"vm": "app01"}, marks=pytest.mark.long),
        pytest.param("no-scsi-controller", {"vm": "app01"}, marks=pytest.mark.long),
    ],
)
def test_a_vm_that_cannot_be_backed_up_online_fails_the_backup(
    start: Start, cause: str, options: dict[str, object]
) -> None:
    """By default nobody's VM is stopped for a backup: the error names the VM, and why."""
    _, site = broken(start, cause, **options)
    with site:
        error = refused(site)
        assert isinstance(error, CannotBackUp)
        assert error.vms == ("app01",)
        assert "app01 cannot be backed up online" in error.message
        assert error.tr == "6.4"
        told = events_106(site)
        assert [event["Message"].splitlines()[:2] for event in told] == [
            [
                "Backup Failed for the following VM(s) since it cannot be backedup online or No VM to be found: app01",
                "Dataset: Set",
            ]
        ]
        with suppress(CannotBackUp):  # what only the writer knows is no obstacle to a plan
            site.backup("Set").plan()
        assert len(events_106(site)) == 1


@pytest.mark.tr("R-6.4-01", "R-9-05")
def test_the_event_106_needs_its_source(start: Start) -> None:
    """A host on which the source is not registered gets no event, and the error says so beside its own reason."""
    _, site = broken(start, "vm-made-anew", vm="app01")
    with site:
        site.tools().host.run("Remove-Item", {"LiteralPath": SOURCE_KEY, "Recurse": True})
        error = refused(site)
        assert "app01 of the dataset Set no longer exists" in error.message
        assert ["Event 106 was not written" in note for note in error.__notes__] == [True]


@pytest.mark.tr("R-6.4-03")
def test_the_policy_may_allow_the_saved_state(start: Start) -> None:
    """A VM without its integration service is saved meanwhile and runs again; one that is off stays off."""
    _, site = broken(start, "integration-service-off", vm="app01")
    with site:
        tools = site.tools()
        tools.hyperv.ensure_off(tools.hyperv.vm("sql01").id)
        backup = site.backup("Set", allow_saved_state=True).run_sync().result.backup
        how = {vm.name: vm.evidence.how for vm in backup.vms}
        assert how == {"sql01": "off", "app01": "saved"}
        states = site.vms().set_index("name")["state"]
        assert (states["sql01"], states["app01"]) == ("Off", "Running")


@pytest.mark.tr("R-6.4-05", "R-12-09")
def test_options_that_do_not_belong_together_are_refused(start: Start) -> None:
    """Saved state and distributed sets are for application-consistent backups, the latter for shared volumes."""
    _, site = broken(start, "")
    with site:
        for options in ({"distributed": True}, {"allow_saved_state": True}):
            with pytest.raises(NotAllowed):
                site.backup("Set", consistency="crash", **options)  # type: ignore[arg-type]
        with pytest.raises(NotAllowed) as caught:
            site.backup("Set", distributed=True).plan()
        assert caught.value.tr == "12"


@pytest.mark.tr("R-4.1-02", "R-9-05")
def test_disks_that_are_no_files_are_left_out_and_listed(start: Start) -> None:
    """A pass-through disk is not in the backup, and the record says so."""
    _, site = broken(start, "")
    with site:
        tools = site.tools()
        lun = lun_clone(tools.storage, "/vol/vm_sql01/raw", source="/vol/vm_sql01/golden", svm="svm1")
        tools.storage.ensure_map(lun, "hv1")
        disk = tools.snapdrive.arrived(lun)
        if not disk.offline:
            tools.host.run("Set-Disk", {"Number": disk.number, "IsOffline": True})
        tools.host.run("Add-VMHardDiskDrive", {"VMName": "app01", "ControllerType": "SCSI", "DiskNumber": disk.number})
        backup = site.backup("Set", consistency="crash").run_sync().result.backup
        assert backup.excluded == (f"app01: pass-through disk {disk.number}",)
        assert all(len(vm.disks) == 3 for vm in backup.vms)


@pytest.mark.tr("R-4.1-02", "R-9-05", "R-AX-02")
@pytest.mark.parametrize("era", ["2012", pytest.param("2022", marks=pytest.mark.long)])
def test_disks_of_a_guest_s_own_initiator_are_left_out_and_listed(start: Start, era: str) -> None:
    """A LUN that the guest has connected past its host is in no backup of the VM; the record names the VM."""
    lab = start(f"standalone-{era}")
    guest = lab.guest("app01")
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("Set", ["sql01", "app01"])
        storage = site.tools().storage
        storage.ensure_igroup("app01_guest", [guest.initiator()], svm="svm1")
        inside = lun_clone(storage, "/vol/vm_sql01/inside", source="/vol/vm_sql01/golden", svm="svm1")
        storage.ensure_map(inside, "app01_guest")
        guest.connect_portal("10.10.1.21")
        backup = site.backup("Set").run_sync().result.backup
        assert [text for text in backup.excluded if text.startswith("app01: ")] == list(backup.excluded)
        assert len(backup.excluded) == 1
        assert len(backup.luns) == 2


@pytest.mark.tr("R-6.2-11")
def test_a_backup_during_a_restore_is_refused(start: Start) -> None:
    """It would lack the VM's configuration: another console asks while a restore waits for its next step."""
    lab, site = broken(start, "")
    with site, smhvlab.site.connect(lab.profile) as other:
        name = site.backup("Set").run_sync().result.backup.name
        flow = site.restore(name, "sql01")
        errors: list[SmhvLabError] = []

        def gate(step: PlannedStep) -> bool:
            if step.name == "remove":
                with pytest.raises(NotAllowed) as caught:
                    other.backup("Set").plan()
                errors.append(caught.value)
                return False
            return True

        flow.gate = gate
        with pytest.raises(SmhvLabError):
            flow.run_sync()
        assert "restore of sql01 is under way" in errors[0].message
        assert other.backup("Set").plan().state.name != name


@pytest.mark.tr("R-6.2-11", "R-10-03")
def test_a_vm_is_in_one_application_consistent_backup_at_a_time(start: Start) -> None:
    """While one backup waits, another console's of the same VM is refused; a crash-consistent one is not."""
    _, site = broken(start, "")
    with site, smhvlab.site.connect(site.profile) as other:
        other.create_dataset("Also", ["app01"])
        errors: list[SmhvLabError] = []

        def gate(step: PlannedStep) -> bool:
            if step.name == "create":
                with pytest.raises(NotAllowed) as caught:
                    other.backup("Also").plan()
                errors.append(caught.value)
                assert other.backup("Also", consistency="crash").plan()
            return True

        flow = site.backup("Set")
        flow.gate = gate
        flow.run_sync()
        assert "Set is under way, with app01" in errors[0].message
        assert other.backup("Also").plan()


@pytest.mark.tr("R-6.1-03", "R-12-10", "R-11.3-01")
def test_mixtures_and_asymmetric_volumes_are_refused(start: Start) -> None:
    """Dedicated with shared VMs, a VM on both, and a shared volume that a node does not see."""
    lab = start("two-node-cluster-2012")
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("Set", ["sql01", "file01"])
        assert refused(site).tr == "6.1, 12"
        hv2 = site.tools().nodes["hv2"].host
        hv2.run("New-VHD", {"Path": "V:\\more.vhd", "SizeBytes": 4 << 20, "Fixed": True})
        hv2.run("Add-VMHardDiskDrive", {"VMName": "web01", "ControllerType": "SCSI", "Path": "V:\\more.vhd"})
        site.change_dataset("Set", ["web01"])
        error = refused(site)
        assert "partly on a cluster shared volume" in error.message
        site.change_dataset("Set", ["sql01"])
        lab.faults.cause("path-lost", host="hv2")
        error = refused(site)
        assert "not connected to hv2" in error.message
        assert error.tr == "11.3"


PROVIDER_KEY = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\VSS\\Providers\\{ddd3d232-a96f-4ac5-8f7b-250fd91fd102}"


@pytest.mark.tr("R-9-06", "R-9-07", "R-AP-01", "R-5.4-02")
def test_a_host_or_an_array_without_what_it_takes_is_refused(start: Start) -> None:
    """No licence for clones, SnapDrive uninstalled: refused, and never replaced by another provider or type."""
    _, site = broken(start, "")
    with site:
        wire = site.tools().rest
        wire.wait([wire.remove(LicensePackage(name="flexclone"))])
        error = refused(site)
        assert "no licence for flexclone" in error.message
        assert site.backup("Set", consistency="crash").plan()
        wire.wait([wire.remove(LicensePackage(name="snapmanagersuite"))])
        assert "no licence for flexclone, snapmanagersuite" in refused(site).message
        key = {"Path": "HKLM:\\SOFTWARE\\NetApp\\SnapDrive\\Licenses", "Force": True}
        site.tools().host.run("New-Item", key)
        value = {"LiteralPath": key["Path"], "Name": "SnapManager for Hyper-V", "Value": "Installed"}
        site.tools().host.run("Set-ItemProperty", value)
        assert refused(site).message.endswith("no licence for flexclone")
        # what an uninstallation of SnapDrive for Windows takes away
        site.tools().host.run("Remove-Item", {"LiteralPath": PROVIDER_KEY, "Recurse": True})
        error = refused(site)
        assert "no Data ONTAP VSS hardware provider" in error.message
        assert site.backup("Set", consistency="crash").plan()


@pytest.mark.long
@pytest.mark.tr("R-12-11")
def test_more_than_fifteen_shared_volumes_are_refused(tmp_path: Path) -> None:
    """A dataset on 16 shared volumes of one storage system is refused, with the advice to split it."""
    text = (
        TOPOLOGY.read_text("utf-8")
        .replace("ERA", "2012")
        .replace('igroup = "hv1"', "igroup = \"hv1\"\nsnapinfo = 'S:\\SnapInfo'")
    )
    disk = '[[disk]]\nhost = "hv1"\naggregate = "aggr1"\nvolume = "{0}"\nvolume_size = "1GB"\nlun = "{0}"\n'
    disk += 'lun_size = "400MB"\naccess_path = \'{1}\'\nlabel = "{0}"\nrole = "{2}"\n\n'
    more = [disk.format(f"csv{n}", f"C:\\ClusterStorage\\Volume{n}\\", "csv") for n in range(3, 17)]
    more.append(disk.format("snapinfo", "S:\\", "shared").rstrip() + '\ngroup = "smhv_snapinfo"\n\n')
    file = tmp_path / "many.toml"
    file.write_text(text.replace("[golden]", "".join(more) + "[golden]", 1), "utf-8")
    with labs.start(str(file)) as lab, smhvlab.site.connect(lab.profile) as site:
        host = site.tools().nodes["hv1"].host
        for number in range(2, 17):
            path = f"C:\\ClusterStorage\\Volume{number}\\x.vhd"
            host.run("New-VHD", {"Path": path, "SizeBytes": 4 << 20, "Fixed": True})
            host.run("Add-VMHardDiskDrive", {"VMName": "sql01", "ControllerType": "SCSI", "Path": path})
        site.create_dataset("Set", ["sql01"])
        with pytest.raises(NotAllowed) as caught:
            site.backup("Set").plan()
        assert "16 cluster shared volumes" in caught.value.message
