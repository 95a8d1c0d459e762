"""The golden VM: built on a disk of its own from a generalised image, then cloned (TR 2.2 steps 3 to 10)."""

from __future__ import annotations

import pytest

from labenv.lab import Lab
from smhvlab.errors import NameTaken, NotAllowed, NotFound, SmhvLabError
from smhvlab.provisioning.array import ArraySetup
from smhvlab.provisioning.golden import SERVICES
from smhvlab.site import Site
from tests.flows.checks import blocks_sound, picture, sound

pytestmark = pytest.mark.filterwarnings("ignore::marshmallow.warnings.ChangedInMarshmallow4Warning")  # netapp-ontap's


def bare(site: Site, *, thick: bool = False) -> None:
    """A volume with an empty disk."""
    site.prepare_storage("gold", size="60GB").run_sync()
    site.create_disk("gold", size="30GB", at="M:", thick=thick).run_sync()


@pytest.mark.tr(
    "R-2.2-01",
    "R-2.2-02",
    "R-2.2-07",
    "R-2.2-08",
    "R-2.2-09",
    "R-2.2-10",
    "R-2.2-11",
    "R-2.2-12",
    "R-2.2-13",
    "R-2.2-18",
)
def test_an_image_is_updated_generalised_and_built_anew(site: Site, lab: Lab) -> None:
    """A VM is changed, generalised and copied; clones of the new image have the change and identities of their own."""
    site.provision("web02").run_sync()
    lab.guest("web01").write_file("C:\\patch.txt", "KB2770917", flush=True)
    lab.guest("web01").sysprep()
    assert site.vms().set_index("name").loc["web01", "state"] == "Off"
    bare(site)
    made = site.build_golden("image2", at="M:", image="web01").run_sync().result
    assert made.vhds == tuple(f"M:\\image2\\vhd{number}.vhd" for number in range(3))
    tools = site.tools()
    image = tools.hyperv.vm("image2")
    assert (image.disks[0].controller_type, image.disks[0].controller_number) == ("IDE", 0)
    found = tools.host.run("Get-VMIntegrationService", {"VMName": "image2"}, select=("Id", "Enabled"))
    on = {str(record["Id"]).upper().rpartition("\\")[2] for record in found if record["Enabled"]}
    assert set(SERVICES) <= on
    setup = ArraySetup(tools.storage)
    (volume,) = setup.volumes_named("gold")
    assert setup.dedupe(volume) == "background"
    assert setup.reserved(volume) == []
    row = site.storage_map().query("vm == 'image2'").iloc[0]
    assert (row["volume"], row["lun"]) == ("gold", "/vol/gold/gold")
    site.provision("web03", golden="image2").run_sync()
    assert lab.guest("web03").read_file("C:\\patch.txt") == "KB2770917"
    identities = [lab.guest(vm).identity() for vm in ("sql01", "web02", "web03")]
    assert len({identity["sid"] for identity in identities}) == 3
    parents = site.volumes().set_index("name")["parent"]
    assert (parents["web02"], parents["web03"]) == ("golden", "gold")
    sound(lab, "web03", rows={})
    blocks_sound(lab)


@pytest.mark.tr("R-2.2-11")
def test_an_image_that_was_not_generalised_is_not_copied(site: Site, lab: Lab) -> None:
    """A VM that was only shut down has no sign of Sysprep on its system disk: refused, and nothing is left."""
    vm = site.tools().hyperv.vm("web01")
    site.tools().hyperv.ensure_all_shut_down([vm.id])
    bare(site)
    before = picture(site)
    with pytest.raises(NotAllowed) as caught:
        site.build_golden("image2", at="M:", image="web01").run_sync()
    assert "not generalised" in str(caught.value)
    assert picture(site) == before
    blocks_sound(lab)


@pytest.mark.tr("R-2.2-12")
def test_a_reserved_lun_is_refused_before_deduplication(site: Site) -> None:
    """The TR's order is kept: first no LUN of the volume has a space reservation, then it is deduplicated."""
    bare(site, thick=True)
    with pytest.raises(NotAllowed) as caught:
        site.build_golden("image2", at="M:").plan()
    assert "/vol/gold/gold has a space reservation" in str(caught.value)
    assert "site.unreserve('gold')" in caught.value.next_action
    assert site.unreserve("gold") == ["/vol/gold/gold"]
    assert site.unreserve("gold") == []
    site.build_golden("image2", at="M:").plan()


@pytest.mark.parametrize(
    ("vm", "at", "image", "error", "said"),
    [
        ("sql01", "V:", "golden", NameTaken, "sql01"),
        ("a b", "V:", "golden", NotAllowed, "'a b'"),
        ("image2", "V:", "sql01", NotAllowed, "Running"),
        ("image2", "V:", "nobody", NotFound, "nobody"),
        ("image2", "C:", "golden", NotFound, "C:"),
        ("image2", "C:\\VMs", "golden", NotFound, "C:\\VMs"),
        ("image2", "Q:", "golden", NotFound, "Q:"),
        ("image2", "S:", "golden", NotAllowed, "S:\\ has"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(
    site: Site, vm: str, at: str, image: str, error: type[SmhvLabError], said: str
) -> None:
    """A taken or impossible name, no disk of the array, too little room: one error, and nothing changed."""
    with pytest.raises(error) as caught:
        site.build_golden(vm, at=at, image=image).run_sync()
    assert said in str(caught.value)
    assert caught.value.next_action
