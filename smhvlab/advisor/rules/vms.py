"""VMs and their virtual disks (TR 2.2, 4.1, 6.2, 6.6, 11, appendix)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from smhvlab.advisor.rule import Action, Hit, Severity, listed, rule
from smhvlab.advisor.site_facts import Facts


@rule(
    "vm-files-on-array",
    section="6.2",
    rows=("R-6.2-10",),
    severity=Severity.ERROR,
    looks_at="VHDs, configuration and checkpoint folder of each VM; disks of its host",
    why="A backup succeeds only if every file of the VM lies on LUNs of the array.",
    fix="Move the VM's storage to a LUN (Move-VMStorage).",
)
def vm_files_on_array(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        outside = []
        for kind, path in facts.files(vm):
            home = facts.home(vm.host, path)
            if (home is None or home.lun is None) and not path.startswith("\\\\"):
                outside.append(f"{kind} {path}")
        if outside:
            yield Hit(vm.name, f"Not on a LUN: {listed(outside)}.")


@rule(
    "passthrough",
    section="4.1",
    rows=("R-4.1-02", "R-9-05", "R-T3-01"),
    severity=Severity.WARNING,
    looks_at="pass-through disks of each VM",
    why="SMHV does not back them up, and VSS leaves them out: after a restore the VM has old and new data.",
    fix="Convert them to fixed VHDs, or protect them from within the guest.",
)
def passthrough(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        numbers = [str(disk.disk_number) for disk in vm.disks if disk.passthrough]
        if numbers:
            yield Hit(vm.name, f"Pass-through disk {listed(numbers)} is in no backup.")


@rule(
    "dynamic-disk",
    section="appendix",
    rows=("R-T3-03", "R-T3-02", "R-2.2-07"),
    severity=Severity.WARNING,
    looks_at="types of the virtual disks",
    why="They grow slowly, may be misaligned, and pause the VM when the LUN is full.",
    fix="Convert-VHD -VHDType Fixed while the VM is off.",
)
def dynamic_disk(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        found = [disk.path for disk in vm.disks if disk.type == "Dynamic"]
        if found:
            yield Hit(vm.name, f"Dynamically expanding: {listed(found)}.")


@rule(
    "differencing-disk",
    section="appendix",
    rows=("R-T3-03",),
    severity=Severity.WARNING,
    looks_at="types of the virtual disks that are no checkpoint's",
    why="It cannot be expanded, and whoever moves its parent loses it.",
    fix="Merge it into a fixed VHD.",
)
def differencing_disk(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        found = [disk.path for disk in vm.disks if disk.type == "Differencing" and not disk.checkpoint]
        if found:
            yield Hit(vm.name, f"Differencing: {listed(found)}.")


@rule(
    "dynamic-needs-room",
    section="appendix",
    rows=("R-T3-03",),
    severity=Severity.ERROR,
    looks_at="what dynamic disks may still grow, beside the room on their disk",
    why="When the file system below is full Hyper-V pauses the VM.",
    fix="Make the LUN larger, or convert the disks to fixed ones elsewhere.",
)
def dynamic_needs_room(facts: Facts) -> Iterator[Hit]:
    growth: Counter[tuple[str, int]] = Counter()
    names: dict[tuple[str, int], list[str]] = {}
    for vm in facts.vms:
        for disk in vm.disks:
            home = facts.home(vm.host, disk.path) if disk.type == "Dynamic" else None
            if home is not None and home.disk is not None and home.lun is not None and home.disk.unit:
                key = (home.lun.name, home.disk.free)
                growth[key] += max(0, disk.size - disk.file_size)
                names.setdefault(key, []).append(vm.name)
    for (lun, free), more in sorted(growth.items()):
        if more > free:
            vms = listed(dict.fromkeys(names[lun, free]))
            text = f"Disks of {vms} may grow by {more >> 30} GiB, and {free >> 30} GiB are free."
            yield Hit(lun, text)


@rule(
    "vhd-name",
    section="2.2",
    rows=("R-2.2-17",),
    severity=Severity.NOTE,
    looks_at="names of virtual disks",
    why="Clones of a golden image all have its files' names: after a restore nobody knows whose they are.",
    fix="Rename the file so that it begins with the VM's name, before it is attached.",
)
def vhd_name(facts: Facts) -> Iterator[Hit]:
    leaves = Counter(leaf(disk.path) for vm in facts.vms for disk in vm.disks if not disk.passthrough)
    for vm in facts.vms:
        found = [
            disk.path
            for disk in vm.disks
            if not disk.passthrough and leaves[leaf(disk.path)] > 1 and vm.name.casefold() not in leaf(disk.path)
        ]
        if found:
            yield Hit(vm.name, f"Other VMs have disks of the same name: {listed(found)}.")


def leaf(path: str) -> str:
    """The file's name in lower case."""
    return path.rpartition("\\")[2].casefold()


@rule(
    "integration-services",
    section="2.2",
    rows=("R-2.2-09", "R-6.2-04"),
    severity=Severity.ERROR,
    looks_at="integration service VSS of each VM",
    why="Without it the guest is not quiesced: the VM is saved for its backup, or the backup fails.",
    fix="Enable the integration service, and install its components in the guest.",
)
def integration_services(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        if vm.vss is False:
            action = Action("integration service", vm.name, "off", "on", vm.id)
            yield Hit(vm.name, "The integration service for backup (VSS) is off.", action=action)


@rule(
    "other-integration-services",
    section="2.2",
    rows=("R-2.2-09",),
    severity=Severity.NOTE,
    looks_at="the other integration services of each VM",
    why="Time synchronisation, heartbeat, shutdown and key/value pairs are a part of a golden image.",
    fix="Enable them, unless there is a reason.",
)
def other_integration_services(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        names = [name for name in vm.disabled if name != "VSS"]
        if names:
            yield Hit(vm.name, f"Switched off: {listed(names)}.")


@rule(
    "heartbeat",
    section="2.2",
    rows=("R-2.2-09", "R-2.2-08"),
    severity=Severity.WARNING,
    looks_at="heartbeat of running VMs",
    why="A guest that does not answer cannot be quiesced.",
    fix="Look at the guest's console; install or start its integration components.",
)
def heartbeat(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        if vm.state == "Running" and vm.heartbeat in ("NoContact", "LostCommunication", "Error"):
            yield Hit(vm.name, f"Heartbeat: {vm.heartbeat}.")


@rule(
    "checkpoint-folder-moved",
    section="6.2",
    rows=("R-6.2-18", "R-13-03"),
    severity=Severity.WARNING,
    looks_at="LUN of the checkpoint folder and of the VHDs; number of checkpoints",
    why="After the folder was moved to another LUN the backup may fail until one checkpoint was made there.",
    fix="Create one checkpoint with Hyper-V Manager and delete it again, or move the folder back.",
)
def checkpoint_folder_moved(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        there = facts.home(vm.host, vm.checkpoint_folder)
        luns = {
            home.lun
            for disk in vm.disks
            if not disk.passthrough and (home := facts.home(vm.host, disk.path)) is not None and home.lun is not None
        }
        if there is not None and there.lun is not None and luns and there.lun not in luns and not vm.checkpoints:
            text = f"Checkpoints go to {there.lun.name}, no VHD is there, and there is no checkpoint yet."
            yield Hit(vm.name, text)


@rule(
    "old-checkpoints",
    section="6.7",
    rows=("R-6.7-05",),
    severity=Severity.NOTE,
    looks_at="checkpoints of each VM",
    why="A VM that runs on a checkpoint's files writes twice, and a restore asks whether its disks may change.",
    fix="Remove checkpoints that nobody needs; their files are merged.",
)
def old_checkpoints(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        if vm.checkpoints:
            yield Hit(vm.name, f"{vm.checkpoints} checkpoint{'s' if vm.checkpoints > 1 else ''}.")


@rule(
    "migrating",
    section="6.6",
    rows=("R-6.6-01", "R-11.6-01"),
    severity=Severity.WARNING,
    looks_at="what Hyper-V does with each VM at this moment",
    why="A VM that moves is left out of the backup, with an error.",
    fix="Wait for the end of the migration, and keep migrations out of the backup window.",
)
def migrating(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        if "MigratingVirtualMachine" in vm.status:
            yield Hit(vm.name, f"It is moving away from {vm.host}.")


@rule(
    "storage-migrating",
    section="11.7",
    rows=("R-11.7-02", "R-11.7-01"),
    severity=Severity.ERROR,
    looks_at="what Hyper-V does with each VM at this moment",
    why="A backup or restore during a storage migration can damage the VM; older backups can no longer be restored.",
    fix="Wait for its end, and take a backup at once.",
)
def storage_migrating(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        if any(status.startswith("StorageMigration") for status in vm.status):
            yield Hit(vm.name, "Its storage is being moved.")


@rule(
    "vm-name-unique",
    section="5.2",
    rows=("R-2.2-18", "R-5.2-01"),
    severity=Severity.WARNING,
    looks_at="names of all VMs",
    why="SMHV tells VMs apart by id, people and Hyper-V's cmdlets by name.",
    fix="Rename all but one of them.",
)
def vm_name_unique(facts: Facts) -> Iterator[Hit]:
    for name, count in Counter(vm.name.casefold() for vm in facts.vms).items():
        if count > 1:
            yield Hit(name, f"{count} VMs have this name.")


@rule(
    "no-smb",
    section="11.8",
    rows=("R-11.8-01",),
    severity=Severity.ERROR,
    eras=("2008r2", "2012"),
    looks_at="paths of each VM's files",
    why="Hyper-V over SMB 3.0, SMB shares and their remote VSS are not supported.",
    fix="Move the VM's storage to a LUN.",
)
def no_smb(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        shares = [path for _, path in facts.files(vm) if path.startswith("\\\\")]
        if shares:
            yield Hit(vm.name, f"On a share: {listed(shares)}.")


@rule(
    "no-virtual-fibre-channel",
    section="11.8",
    rows=("R-11.8-01",),
    severity=Severity.ERROR,
    eras=("2008r2", "2012"),
    looks_at="virtual Fibre Channel adapters of each VM",
    why="What the guest sees over virtual Fibre Channel is not supported, and in no backup.",
    fix="Use virtual disks.",
)
def no_virtual_fibre_channel(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        if vm.fibre_channel:
            yield Hit(vm.name, f"{vm.fibre_channel} virtual Fibre Channel adapters.")


@rule(
    "no-replica",
    section="11.8",
    rows=("R-11.8-01",),
    severity=Severity.ERROR,
    eras=("2008r2", "2012"),
    looks_at="replication state of each VM",
    why="Hyper-V Replica is not supported beside SMHV: both turn the VM's disks into checkpoints' files.",
    fix="Remove the replication, and mirror with SnapMirror.",
)
def no_replica(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        if vm.replication not in ("Disabled", ""):
            yield Hit(vm.name, f"Hyper-V Replica: {vm.replication}.")
