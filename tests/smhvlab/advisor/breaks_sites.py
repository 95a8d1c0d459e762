"""Sites that break the rules about two sites, and the same mended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import healthy as h

from smhvlab.advisor import facts as f
from smhvlab.advisor.site_facts import Facts


def second(*, volumes: tuple[str, ...] = ("vm", "info"), **changes: Any) -> Facts:
    """A stand-alone host with nothing but its own SnapInfo, to which the volumes of another site are mirrored."""
    disks = (h.disk(1, "own", "S:\\"), h.disk(0, "local", "C:\\", bus="SAS", boot=True))
    igroup = f.Igroup(name="hv2", svm="svm2", initiators=("iqn.1991-05.com.microsoft:hv2",))
    array = h.array((h.lun("own", ("hv2",), svm="svm2"),), (igroup,))
    mirrors = (
        f.Mirror(
            source=f"svm1:{name}",
            destination=f"svm2:{name}",
            source_cluster="cluster1",
            destination_cluster="cluster2",
        )
        for name in volumes
    )
    array = replace(
        array,
        name="cluster2",
        peers=("cluster1",),
        mirrors=tuple(mirrors),
        volumes=tuple(replace(volume, svm="svm2") for volume in array.volumes),
        lifs=tuple(replace(lif, svm="svm2" if lif.svm else "") for lif in array.lifs),
    )
    made = Facts(now=h.NOW, hosts=(h.host("hv2", disks),), array=array, console="console", name="B")
    return replace(made, **changes)


def of_sites() -> dict[str, tuple[Facts, Facts]]:
    """Rules that compare a site with its partner."""
    one = replace(h.standalone(), name="A", array=replace(h.standalone().array, peers=("cluster2",)))
    other = second()
    good = replace(one, partner=other)

    def there(**changes: Any) -> Facts:
        return replace(one, partner=replace(other, **changes))

    def host(**changes: Any) -> Facts:
        return there(hosts=(replace(other.hosts[0], **changes),))

    named = replace(one, vms=(replace(one.vms[0], switches=("LAN",)),))
    letter = h.disk(3, "own", "V:\\")
    clones = replace(one.vms[0], host="hv2", configuration="X:\\sql01", checkpoint_folder="X:\\sql01", disks=())
    shared = replace(h.cluster(), name="A", array=replace(h.cluster().array, peers=("cluster2",)))
    sole = replace(shared, partner=second(volumes=("csv", "info")))
    pair = replace(
        sole,
        partner=replace(
            sole.partner or other,
            hosts=tuple(replace(node, cluster="hvc2") for node in other.hosts),
            clusters=(f.Cluster(name="hvc2", nodes={"hv2": "Up"}, owner="hv2"),),
        ),
    )
    return {
        "sites-compared": (one, good),
        "failover-mount-point": (host(disks=(*other.hosts[0].disks, letter)), good),
        "failover-switch": (
            replace(named, partner=other),
            replace(named, partner=replace(other, hosts=(replace(other.hosts[0], switches=frozenset({"lan"})),))),
        ),
        "failover-vm-free": (there(vms=(clones,)), good),
        "failover-path": (there(array=replace(other.array, igroups=())), good),
        "failover-alike": (sole, pair),
        "mirror-credentials": (there(refused=("Vserver svm2: the profile has no user for it",)), good),
    }
