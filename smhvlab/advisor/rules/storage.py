"""LUNs, disks and volumes below the VMs (TR 2.2, 4.1, 6.2, 11)."""

from __future__ import annotations

from collections.abc import Iterator

from smhvlab.advisor.rule import Action, Hit, Severity, listed, rule
from smhvlab.advisor.site_facts import Facts

TIB = 1 << 40
_FULL = 0.9
_OS_TYPES = ("hyper_v", "windows_2008", "windows_gpt")


@rule(
    "disk-style",
    section="4.1",
    rows=("R-4.1-03",),
    severity=Severity.ERROR,
    looks_at="partition style of each host's disks; disks of the cluster",
    why="SMHV does not support MBR disks for VMs on shared volumes: their volume GUID changes with the owner.",
    fix="Create the LUN anew with a GPT and move the VMs there.",
)
def disk_style(facts: Facts) -> Iterator[Hit]:
    seen = set()
    for host in facts.known("disks"):
        for disk in host.disks:
            if disk.style == "MBR" and disk.clustered and facts.lun_of(disk) and disk.unique_id not in seen:
                seen.add(disk.unique_id)
                lun = facts.lun_of(disk)
                yield Hit(str(lun.name if lun else disk.number), f"Shared disk {disk.number} of {host.name} is MBR.")


@rule(
    "no-san-boot",
    section="6.2",
    rows=("R-6.2-13",),
    severity=Severity.ERROR,
    looks_at="boot disks of the hosts; where VMs lie",
    why="SnapDrive cannot restore a LUN from which the host has started.",
    fix="Move the VMs to LUNs of their own.",
)
def no_san_boot(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("disks"):
        for disk in host.disks:
            lun = facts.lun_of(disk) if disk.boot else None
            vms = facts.vms_on.get(lun, ()) if lun is not None else ()
            if vms:
                yield Hit(f"{host.name} disk {disk.number}", f"{listed(vm.name for vm in vms)} on the boot LUN.")


@rule(
    "disk-collision",
    section="6.2",
    rows=("R-6.2-12",),
    severity=Severity.ERROR,
    looks_at="offline reasons and GPT identities of each host's disks",
    why="A disk with another one's signature stays offline, and a backup that has to mount its copy fails.",
    fix="Unmap the copy, or give it a new identity on a host outside the cluster.",
)
def disk_collision(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("disks"):
        for disk in host.disks:
            if disk.offline_reason == "Collision":
                lun = facts.lun_of(disk)
                name = lun.name if lun is not None else f"disk {disk.number}"
                yield Hit(f"{host.name} {name}", "Offline, because another disk has the same signature.")


@rule(
    "disk-online",
    section="5.1",
    rows=("R-5.1-02",),
    severity=Severity.WARNING,
    looks_at="offline disks that are LUNs of the array and of no cluster",
    why="A LUN that is mapped but not used is easily forgotten, and its disk number moves the others.",
    fix="Bring the disk online, or disconnect it.",
)
def disk_online(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("disks"):
        given = {d.disk_number for vm in facts.vms if vm.host == host.name for d in vm.disks if d.passthrough}
        for disk in host.disks:
            lun = facts.lun_of(disk)
            unused = disk.offline and not disk.clustered and disk.number not in given
            if unused and lun is not None and disk.offline_reason != "Collision":
                yield Hit(f"{host.name} {lun.name}", f"Disk {disk.number} is offline ({disk.offline_reason}).")


@rule(
    "lun-reservation",
    section="2.2",
    rows=("R-2.2-12",),
    severity=Severity.WARNING,
    looks_at="space reservation of LUNs; deduplication of their volumes",
    why="What deduplication saves in a reserved LUN cannot be used by anything else.",
    fix="Switch the LUN's space reservation off before deduplication is enabled.",
)
def lun_reservation(facts: Facts) -> Iterator[Hit]:
    for lun in facts.array.luns:
        volume = facts.volume.get((lun.svm, lun.volume))
        if lun.reserved and volume is not None and volume.dedupe:
            action = Action("LUN reservation", lun.name, "on", "off", lun.svm)
            yield Hit(lun.name, f"Space is reserved, and {volume.name} is deduplicated.", action=action)


@rule(
    "deduplicate",
    section="2.1",
    rows=("R-2.1-02", "R-2.2-12"),
    severity=Severity.NOTE,
    looks_at="deduplication of volumes with several VMs",
    why="VMs of one image share most of their blocks: half of the space or more.",
    fix="Enable deduplication on the volume.",
)
def deduplicate(facts: Facts) -> Iterator[Hit]:
    found: dict[tuple[str, str], set[str]] = {}
    for lun, vms in facts.vms_on.items():
        found.setdefault((lun.svm, lun.volume), set()).update(vm.name for vm in vms)
    for key, names in sorted(found.items()):
        volume = facts.volume.get(key)
        if volume is not None and not volume.dedupe and len(names) > 1:
            action = Action("deduplication", volume.name, "off", "on", volume.svm)
            yield Hit(volume.name, f"{len(names)} VMs, and no deduplication.", action=action)


@rule(
    "thin-overcommitted",
    section="4.1",
    rows=("R-4.1-04",),
    severity=Severity.WARNING,
    looks_at="sizes of thin volumes beside that of their aggregate, and its use",
    why="Thin volumes are supported, but when the aggregate is full every LUN on it goes offline.",
    fix="Add disks, move volumes, or watch the aggregate; give deleted space back.",
)
def thin_overcommitted(facts: Facts) -> Iterator[Hit]:
    for aggregate in facts.array.aggregates:
        promised = sum(v.size for v in facts.array.volumes if v.aggregate == aggregate.name and v.thin)
        if aggregate.size and promised > aggregate.size and aggregate.used > 0.8 * aggregate.size:
            text = f"{promised / aggregate.size:.1f} times its size is promised, {aggregate.used / aggregate.size:.0%}"
            yield Hit(aggregate.name, f"{text} is used.")


@rule(
    "luns-exceed-volume",
    section="4.1",
    rows=("R-4.1-04", "R-T3-03"),
    severity=Severity.WARNING,
    looks_at="sizes of thin LUNs beside that of their volume",
    why="A volume that is smaller than its LUNs runs full before their file systems do; then the LUNs go offline.",
    fix="Enlarge the volume, with room for Snapshot copies.",
)
def luns_exceed_volume(facts: Facts) -> Iterator[Hit]:
    sizes: dict[tuple[str, str], int] = {}
    for lun in facts.array.luns:
        sizes[lun.svm, lun.volume] = sizes.get((lun.svm, lun.volume), 0) + lun.size
    for key, size in sorted(sizes.items()):
        volume = facts.volume.get(key)
        if volume is not None and size > volume.size:
            text = f"LUNs of {size / (1 << 30):.0f} GiB in a volume of {volume.size / (1 << 30):.0f} GiB."
            yield Hit(volume.name, text)


@rule(
    "volume-full",
    section="4.1",
    rows=("R-4.1-04", "R-T3-03"),
    severity=Severity.ERROR,
    looks_at="space of volumes that hold LUNs",
    why="When a thin volume is full its LUNs go offline and the VMs pause; no Snapshot copy can be made.",
    fix="Enlarge the volume, or delete Snapshot copies.",
)
def volume_full(facts: Facts) -> Iterator[Hit]:
    for name in sorted({(lun.svm, lun.volume) for lun in facts.array.luns}):
        volume = facts.volume.get(name)
        if volume is not None and volume.size and volume.used > _FULL * volume.size:
            yield Hit(volume.name, f"{volume.used / volume.size:.0%} used.")


@rule(
    "lun-type",
    section="11.5",
    rows=("R-11.5-01", "R-T3-03"),
    severity=Severity.WARNING,
    looks_at="operating system type of LUNs that hosts use",
    why="The type decides how partitions are aligned: with a wrong one every write touches two blocks.",
    fix="Create a LUN of type hyper_v and move the VMs; the type cannot be changed in place without care.",
)
def lun_type(facts: Facts) -> Iterator[Hit]:
    used = {disk.unique_id for host in facts.hosts for disk in host.disks}
    for lun in facts.array.luns:
        if lun.unique_id.upper() in used and lun.os_type not in _OS_TYPES:
            yield Hit(lun.name, f"Its type is {lun.os_type}.")


@rule(
    "allocation-unit",
    section="11.5",
    rows=("R-11.5-01",),
    severity=Severity.NOTE,
    looks_at="allocation unit of the file systems below VMs",
    why="With 4 KiB units a VHDX's sectors and the array's blocks coincide.",
    fix="Format LUNs for VMs with units of 4096 bytes or a multiple of it.",
)
def allocation_unit(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("disks"):
        for disk in host.disks:
            lun = facts.lun_of(disk)
            if lun is not None and lun in facts.vms_on and disk.unit and disk.unit % 4096:
                yield Hit(lun.name, f"Allocation unit of {disk.unit} bytes.")


@rule(
    "lun-16tb",
    section="11.5",
    rows=("R-11.5-02",),
    severity=Severity.WARNING,
    eras=("2008r2", "2012"),
    looks_at="sizes of LUNs and virtual disks",
    why="SnapDrive 6.5 makes no LUN over 16 TB; larger virtual disks have no LUN to lie on.",
    fix="Use several virtual disks, or pass-through disks and the guest's own initiator.",
)
def lun_16tb(facts: Facts) -> Iterator[Hit]:
    for lun in facts.array.luns:
        if lun.size > 16 * TIB:
            yield Hit(lun.name, f"{lun.size / TIB:.0f} TiB.")
    for vm in facts.vms:
        for disk in vm.disks:
            if disk.size >= 16 * TIB:
                yield Hit(f"{vm.name} {disk.path}", f"A virtual disk of {disk.size / TIB:.0f} TiB.")


@rule(
    "lun-mapped-once",
    section="appendix",
    rows=("R-AG-01",),
    severity=Severity.ERROR,
    looks_at="which hosts and clusters see the LUNs of a volume",
    why="Two hosts or clusters that back up one volume at the same time disturb each other's LUN clones.",
    fix="Give each stand-alone host and each cluster volumes of its own.",
)
def lun_mapped_once(facts: Facts) -> Iterator[Hit]:
    users: dict[tuple[str, str], dict[str, None]] = {}
    for vm in facts.vms:
        host = facts.host.get(vm.host.casefold())
        owner = host.cluster or host.name if host is not None and vm.clustered else vm.host
        for lun in facts.luns(vm):
            users.setdefault((lun.svm, lun.volume), {})[owner] = None
    for (_, volume), owners in sorted(users.items()):
        if len(owners) > 1:
            yield Hit(volume, f"VMs of {listed(owners)} lie on it.")


@rule(
    "igroup-type",
    section="6.8",
    rows=("R-6.8-06",),
    severity=Severity.WARNING,
    looks_at="initiator groups that hold this site's hosts",
    why="The group's type decides how the array answers the host's SCSI commands.",
    fix="Use an igroup of the type hyper_v (or windows).",
)
def igroup_type(facts: Facts) -> Iterator[Hit]:
    ours = {name for host in facts.hosts for name in host.initiators}
    for group in facts.array.igroups:
        if ours & set(group.initiators) and group.os_type not in ("hyper_v", "windows"):
            yield Hit(group.name, f"Its type is {group.os_type}.")


@rule(
    "cluster-igroup",
    section="11.3",
    rows=("R-11.3-01", "R-6.8-06"),
    severity=Severity.ERROR,
    looks_at="initiators in the igroups of shared LUNs; initiators of the nodes",
    why="A node that does not see the LUN cannot own it: asymmetric clusters are not supported.",
    fix="Add the node's initiator to the igroup.",
)
def cluster_igroup(facts: Facts) -> Iterator[Hit]:
    groups = {(group.svm, group.name): set(group.initiators) for group in facts.array.igroups}
    for cluster in facts.clusters:
        nodes = [host for host in facts.known("initiators") if host.cluster == cluster.name]
        for csv in cluster.csvs:
            home = facts.home(nodes[0].name, csv.path) if nodes else None
            if home is None or home.lun is None:
                continue
            allowed = {name for group in home.lun.igroups for name in groups.get((home.lun.svm, group), ())}
            missing = [node.name for node in nodes if node.initiators and not allowed & set(node.initiators)]
            if missing:
                yield Hit(csv.path, f"{home.lun.name} is not mapped to {listed(missing)}.")
