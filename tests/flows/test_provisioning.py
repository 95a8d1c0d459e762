"""Provisioning from the golden image, over both wires (TR 2.2)."""

from __future__ import annotations

import pytest

from labenv.lab import Lab
from smhvlab.errors import NameTaken, NotAllowed, NotFound, SmhvLabError
from smhvlab.site import Site
from tests.flows.checks import blocks_sound, picture, sound


@pytest.mark.tr("R-2.2-01", "R-2.2-06", "R-2.2-14", "R-2.2-15", "R-2.2-16", "R-2.2-17")
def test_a_vm_from_the_golden_image_runs_on_a_flexclone(site: Site, lab: Lab) -> None:
    """The new VM lies on a FlexClone volume whose parent Snapshot copy is busy, its VHDs are renamed and attached."""
    record = site.provision("web02").run_sync()
    made = record.result
    volumes = site.volumes().set_index("name")
    assert volumes.loc["web02", "parent"] == "golden"
    snapshots = site.snapshots("golden").set_index("snapshot")
    assert "volume_clone" in snapshots.loc[made.snapshot, "owners"]
    assert made.vhds[0] == "C:\\VMs\\web02\\web02\\web02_vhd0.vhd"
    titles = [step.title for step in record.steps]
    assert titles.index("Rename the folder and the VHDs") < titles.index(
        "Attach the VHDs, the first at IDE controller 0"
    )
    assert any("-NoVHD" in entry.powershell() for entry in site.log.entries if entry.title == "New-VM")
    sound(lab, "web02", rows={})
    blocks_sound(lab)


@pytest.mark.tr("R-2.1-01")
def test_a_fresh_clone_takes_only_the_space_that_it_writes(site: Site, lab: Lab) -> None:
    """A FlexClone volume begins with nothing of its own and grows by what the guest writes."""
    site.provision("web02").run_sync()
    before = lab.inspect.usage("web02")["used"]
    assert before < lab.inspect.usage("golden")["used"] / 4
    site.tools().sql.insert("web02", "bb1", 5000)
    lab.guest("web02").flush()
    assert lab.inspect.usage("web02")["used"] > before


@pytest.mark.tr("R-2.2-11", "R-2.2-18")
def test_every_clone_takes_its_own_identity(site: Site, lab: Lab) -> None:
    """Host name and SID of two VMs from one image differ: the image was generalised."""
    site.provision("web02").run_sync()
    site.provision("web03").run_sync()
    identities = [lab.guest(vm).identity() for vm in ("sql01", "web02", "web03")]
    assert len({identity["host_name"] for identity in identities}) == 3
    assert len({identity["sid"] for identity in identities}) == 3


def test_a_plan_changes_nothing_and_names_what_a_run_would_touch(site: Site) -> None:
    """plan() reads only; its rows name the volume, the LUN and the mount point that do not exist yet."""
    before = picture(site)
    plan = site.provision("web02").plan()
    assert picture(site) == before
    assert {"web02", "/vol/web02/golden", "C:\\VMs\\web02\\"} <= set(plan.frame()["item"])
    assert "web02" not in set(site.vms()["name"])


@pytest.mark.parametrize(
    ("name", "golden", "error", "said"),
    [
        ("sql01", "golden", NameTaken, "sql01"),
        ("golden", "golden", NameTaken, "golden"),
        ("web 02", "golden", NotAllowed, "'web 02'"),
        ("", "golden", NotAllowed, "''"),
        ("web02", "sql01", NotAllowed, "Running"),
        ("web02", "nobody", NotFound, "nobody"),
        ("vm_shared", "golden", NameTaken, "vm_shared"),
    ],
)
def test_what_cannot_be_provisioned_is_refused_by_name(
    site: Site, name: str, golden: str, error: type[SmhvLabError], said: str
) -> None:
    """A taken or impossible name, a running or missing golden VM: one error that names it, and nothing changed."""
    before = picture(site)
    with pytest.raises(error) as caught:
        site.provision(name, golden=golden).run_sync()
    assert said in str(caught.value)
    assert caught.value.next_action
    assert picture(site) == before


def test_a_failure_half_way_leaves_the_site_as_it_was(site: Site, lab: Lab) -> None:
    """When the VM cannot be created, the clone, its map, its mount point and the Snapshot copy are taken back."""
    before = picture(site)
    lab.faults.set("windows.cmdlet", "error", match={"cmdlet": "New-VM"}, code="OperationFailed", times=1)
    with pytest.raises(SmhvLabError):
        site.provision("web02").run_sync()
    assert picture(site) == before
    site.provision("web02").run_sync()
    blocks_sound(lab)


def test_vhds_in_a_folder_below_the_vm_are_found(site: Site, lab: Lab) -> None:
    """Hyper-V Manager puts the VHDs into "Virtual Hard Disks" below the VM's folder: they are renamed there."""
    host, golden = site.tools().host, site.tools().hyperv.vm("golden")
    below = f"{golden.configuration}\\Virtual Hard Disks"
    host.run("New-Item", {"Path": below, "ItemType": "Directory", "Force": True})
    for disk in golden.disks:
        place = {
            "VMName": golden.name,
            "ControllerType": disk.controller_type,
            "ControllerNumber": disk.controller_number,
            "ControllerLocation": disk.controller_location,
        }
        path = f"{below}\\{disk.path.rpartition(chr(92))[2]}"
        host.run("Remove-VMHardDiskDrive", place)
        host.run("Move-Item", {"LiteralPath": disk.path, "Destination": path})
        host.run("Add-VMHardDiskDrive", {**place, "Path": path})
    site.provision("web02").run_sync()
    made = site.tools().hyperv.vm("web02")
    assert {disk.path for disk in made.disks} == {
        f"C:\\VMs\\web02\\web02\\Virtual Hard Disks\\web02_vhd{number}.vhd" for number in range(3)
    }
    sound(lab, "web02")


def test_a_vhd_beside_the_golden_folder_is_found(site: Site) -> None:
    """A VHD need not lie in the VM's folder, only on its LUN."""
    host = site.tools().host
    place = {"VMName": "golden", "ControllerType": "IDE", "ControllerNumber": 0, "ControllerLocation": 0}
    host.run("Remove-VMHardDiskDrive", place)
    host.run("Move-Item", {"LiteralPath": "G:\\golden\\vhd0.vhd", "Destination": "G:\\vhd0.vhd"})
    host.run("Add-VMHardDiskDrive", {**place, "Path": "G:\\vhd0.vhd"})
    made = site.provision("web02").run_sync().result
    assert made.vhds[:2] == ("C:\\VMs\\web02\\web02_vhd0.vhd", "C:\\VMs\\web02\\web02\\web02_vhd1.vhd")
