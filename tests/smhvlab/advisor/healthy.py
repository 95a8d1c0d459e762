"""A site in good order, built by hand: a stand-alone host, or a cluster of two nodes with a shared volume."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from smhvlab.advisor import facts as f
from smhvlab.advisor import plans as p
from smhvlab.advisor.site_facts import Facts

NOW = datetime(2013, 3, 4, 8, tzinfo=UTC)
GIB = 1 << 30
VERSIONS = {"2008r2": "6.1.7601", "2012": "6.2.9200", "2022": "10.0.20348"}
CAPTIONS = {
    "2008r2": "Microsoft Windows Server 2008 R2 Datacenter",
    "2012": "Microsoft Windows Server 2012 Datacenter",
    "2022": "Microsoft Windows Server 2022 Datacenter",
}
SOFTWARE = {
    "2008r2": {
        "SnapManager 1.1 for Hyper-V": "1.1.0.1",
        "SnapDrive": "6.4.1.1",
        "Data ONTAP DSM for Windows MPIO": "3.5.0.1",
    },
    "2012": {
        "SnapManager 1.2 for Hyper-V": "1.2.0.1",
        "SnapDrive": "6.5.0.1",
        "NetApp Windows Host Utilities": "6.0.1.1",
        "Microsoft .NET Framework 3.5": "3.5.1",
    },
    "2022": {"SnapCenter Plug-in for Microsoft Windows": "6.1"},
}
HOTFIXES = ("KB975921", "KB974909", "KB975354", "KB979743", "KB2406705", "KB978157", "KB2770917")
SERVICES = ("OnCommandHyperV", "SWSvc", "Navssprv", "VSS", "vmms", "MSiSCSI")


def program(name: str, version: str) -> f.Program:
    """An installed program."""
    return f.Program(name=name, version=version)


def settings(**values: str) -> dict[str, str]:
    """SMHV's values in a host's registry."""
    return {f"{f.SMHV_KEY}\\{name}".casefold(): value for name, value in values.items()}


def host(name: str, disks: tuple[f.Disk, ...], *, era: str = "2012", **changes: Any) -> f.Host:
    """A host in good order."""
    made = f.Host(
        name=name,
        caption=CAPTIONS[era],
        version=VERSIONS[era],
        software=tuple(program(*each) for each in SOFTWARE[era].items()),
        hotfixes=frozenset(HOTFIXES),
        services=tuple(f.Service(name=each) for each in SERVICES),
        ports=(
            f.Port(number=808, name="SnapManager for Hyper-V (Net.Tcp)"),
            f.Port(number=4094, name="SnapDrive"),
            f.Port(number=4095, name="SnapDrive"),
        ),
        providers=(f.Provider(id="{ddd3d232-a96f-4ac5-8f7b-250fd91fd102}", name="Data ONTAP VSS Hardware Provider"),),
        registry=settings(SnapInfoPath="S:\\SnapInfo", ReportPath="C:\\Reports", SmtpServer="mail.example.org"),
        dsm="Data ONTAP DSM" if era == "2008r2" else "MSDSM",
        paths={"vm": 2, "info": 2},
        initiators=(f"iqn.1991-05.com.microsoft:{name}",),
        disks=disks,
        credentials=frozenset({"svm1"}),
    )
    return replace(made, **changes)


def disk(number: int, lun: str, *paths: str, **changes: Any) -> f.Disk:
    """A disk of a host on the LUN of a volume."""
    made = f.Disk(
        number=number,
        unique_id=lun.upper(),
        guid=f"{{{lun}}}",
        size=100 * GIB,
        paths=paths,
        volumes=(f"\\\\?\\Volume{{{lun}}}\\",) if paths else (),
        free=50 * GIB,
    )
    return replace(made, **changes)


def lun(name: str, igroups: tuple[str, ...], **changes: Any) -> f.Lun:
    """A LUN on a volume of its name."""
    made = f.Lun(
        name=f"/vol/{name}/{name}",
        volume=name,
        unique_id=name.upper(),
        serial=name,
        size=100 * GIB,
        igroups=igroups,
    )
    return replace(made, **changes)


def array(luns: tuple[f.Lun, ...], igroups: tuple[f.Igroup, ...], **changes: Any) -> f.Array:
    """An array in good order: a pair of controllers and one SVM."""
    nodes = ("cluster1-01", "cluster1-02")
    made = f.Array(
        nodes=tuple(f.StorageNode(name=name) for name in nodes),
        licences=frozenset({"base", "iscsi", "flexclone", "snaprestore", "snapmirror", "snapmanagersuite"}),
        aggregates=(f.Aggregate(name="aggr1", node=nodes[0]),),
        volumes=tuple(
            f.Volume(name=name, size=200 * GIB, used=50 * GIB, snapshots=(f.Snapshot(name="SQL_1", time=NOW),))
            for name in dict.fromkeys(each.volume for each in luns)
        ),
        luns=luns,
        igroups=igroups,
        lifs=(
            *(f.Lif(name=f"iscsi{n}", node=node, svm="svm1", services=("data_iscsi",)) for n, node in enumerate(nodes)),
            f.Lif(name="mgmt", node=nodes[0], svm="svm1", services=("management_https",)),
            *(f.Lif(name=f"ic{n}", node=node, services=("intercluster_core",)) for n, node in enumerate(nodes)),
        ),
    )
    return replace(made, **changes)


def vm(name: str, on: str, folder: str, **changes: Any) -> f.Vm:
    """A VM with one fixed disk, all in one folder."""
    made = f.Vm(
        guest_os="Windows Server 2008 R2 SP1",
        id=f"id-{name}",
        name=name,
        host=on,
        configuration=folder,
        checkpoint_folder=folder,
        disks=(f.Vhd(path=f"{folder}\\{name}_vhd0.vhdx", size=10 * GIB, file_size=10 * GIB),),
    )
    return replace(made, **changes)


def policy(name: str = "daily", **changes: Any) -> p.Policy:
    """A daily application-consistent policy at midnight."""
    return replace(p.Policy(name=name, starts=tuple(day * 1440 for day in range(35))), **changes)


def dataset(name: str, members: tuple[str, ...], *policies: p.Policy) -> p.Dataset:
    """A dataset."""
    return p.Dataset(name=name, members=members, policies=policies or (policy(),))


def backup(dataset_name: str, members: tuple[str, ...], volumes: tuple[str, ...], **changes: Any) -> p.Backup:
    """A verified backup of an hour ago, whose Snapshot copies are there."""
    made = p.Backup(
        name=f"{dataset_name}_1",
        dataset=dataset_name,
        time=NOW,
        vms=members,
        volumes=volumes,
        snapshots=("SQL_1",),
        verified=True,
    )
    return replace(made, **changes)


def standalone(era: str = "2012") -> Facts:
    """One host, one VM, one dataset."""
    disks = (disk(1, "vm", "V:\\"), disk(2, "info", "S:\\"), disk(0, "local", "C:\\", bus="SAS", boot=True))
    igroup = f.Igroup(name="hv1", initiators=("iqn.1991-05.com.microsoft:hv1",))
    return Facts(
        now=NOW,
        hosts=(host("hv1", disks, era=era),),
        vms=(vm("sql01", "hv1", "V:\\sql01"),),
        array=array((lun("vm", ("hv1",)), lun("info", ("hv1",))), (igroup,)),
        datasets=(dataset("SQL", ("id-sql01",)),),
        backups=(backup("SQL", ("id-sql01",), ("svm1:vm",)),),
        console="console",
    )


CSV = "C:\\ClusterStorage\\Volume1"


def cluster(era: str = "2012") -> Facts:
    """Two nodes, a shared volume with two VMs of the first node, SnapInfo on a disk of the cluster."""
    shared = disk(1, "csv", f"{CSV}\\", clustered=True)
    info = disk(2, "info", "S:\\", clustered=True)
    away = tuple(replace(each, paths=(), volumes=(), unit=0) for each in (shared, info))
    names = tuple(f"iqn.1991-05.com.microsoft:{name}" for name in ("hv1", "hv2"))
    members = ("id-sql01", "id-app01")
    return Facts(
        now=NOW,
        hosts=(
            host("hv1", (shared, info), era=era, cluster="hvc1", paths={"csv": 2}),
            host("hv2", away, era=era, cluster="hvc1", paths={"csv": 2}),
        ),
        clusters=(
            f.Cluster(
                name="hvc1",
                nodes={"hv1": "Up", "hv2": "Up"},
                owner="hv1",
                csvs=(
                    f.Csv(name="Disk 1", path=CSV, owner="hv1", guid="csv", access={"hv1": "Direct", "hv2": "Direct"}),
                ),
                disks=(f.ClusterDisk(name="Disk 2", guid="info", group="smhv_snapinfo", owner="hv1"),),
                networks={"Clients": "ClusterAndClient", "Heartbeat": "Cluster", "iSCSI": "None"},
            ),
        ),
        vms=tuple(vm(name, "hv1", f"{CSV}\\{name}", clustered=True) for name in ("sql01", "app01")),
        array=array((lun("csv", ("hvc1",)), lun("info", ("hvc1",))), (f.Igroup(name="hvc1", initiators=names),)),
        datasets=(dataset("SQL", members),),
        backups=(backup("SQL", members, ("svm1:csv",)),),
        console="console",
    )
