"""How the hosts are set up: ports, services, VSS, multipathing, features that are not supported (TR 5.3, 7, 9, 11)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from smhvlab.advisor import facts as f
from smhvlab.advisor.rule import Action, Hit, Severity, listed, rule
from smhvlab.advisor.site_facts import Facts

_OLD = ("2008r2", "2012")
_PORTS = {808: "SMHV and SnapDrive", 4094: "SnapDrive over HTTP", 4095: "SnapDrive over HTTPS"}
_HARDWARE = "{ddd3d232-a96f-4ac5-8f7b-250fd91fd102}"
_RECENT = timedelta(days=7)
_SERVICES = {
    "OnCommandHyperV": "SMHV",
    "SWSvc": "SnapDrive",
    "Navssprv": "the Data ONTAP VSS hardware provider",
    "VSS": "Volume Shadow Copy",
    "vmms": "Hyper-V",
    "MSiSCSI": "the iSCSI initiator",
}
_ON_DEMAND = ("VSS", "Navssprv")


@rule(
    "host-answers",
    section="7",
    rows=("R-7-01",),
    severity=Severity.ERROR,
    looks_at="whether each host of the profile answers",
    why="What is not seen cannot be backed up; the other rules know nothing of this host.",
    fix="Start the host, or mend its network; run site.check().",
)
def host_answers(facts: Facts) -> Iterator[Hit]:
    for name, why in facts.silent:
        yield Hit(name, f"No answer: {why}.")


@rule(
    "not-readable",
    section="3.3",
    rows=("R-3.3-01",),
    severity=Severity.NOTE,
    looks_at="which reads a host or the array refused",
    why="Rules that need these facts leave the host out.",
    fix="Give the user the right to read them, or install the module that holds the cmdlet.",
)
def not_readable(facts: Facts) -> Iterator[Hit]:
    for host in facts.hosts:
        for part, why in sorted(host.unknown.items()):
            yield Hit(host.name, f"{part} could not be read: {why}.")
    for part, why in sorted(facts.array.unknown.items()):
        yield Hit(facts.array.name, f"{part} could not be read: {why}.")


@rule(
    "ports-open",
    section="5.3",
    rows=("R-5.3-01", "R-13-03"),
    severity=Severity.ERROR,
    eras=_OLD,
    looks_at="inbound firewall rules that allow TCP",
    why="Console, nodes and SnapDrive talk over these ports: 808, 4094 for HTTP, 4095 for HTTPS.",
    fix="Open the port in the firewall of the host.",
)
def ports_open(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("ports"):
        if "filters" in host.unknown:
            continue
        opened = {port.number for port in host.ports if port.enabled}
        for number, what in _PORTS.items():
            if number not in opened:
                yield Hit(host.name, f"Port {number} ({what}) is not open.")


@rule(
    "same-port",
    section="5.3",
    rows=("R-5.3-02",),
    severity=Severity.ERROR,
    eras=_OLD,
    looks_at="firewall rules of SMHV on each node",
    why="SMHV addresses the cluster by one port: a node with another one cannot take over.",
    fix="Give SMHV the same port on all nodes.",
)
def same_port(facts: Facts) -> Iterator[Hit]:
    for cluster in facts.clusters:
        nodes = [host for host in facts.known("ports") if host.cluster == cluster.name]
        used = {
            host.name: tuple(sorted(port.number for port in host.ports if "SnapManager for Hyper-V" in port.name))
            for host in nodes
        }
        if len(set(used.values())) > 1:
            told = listed(f"{name} {listed(numbers) or 'none'}" for name, numbers in used.items())
            yield Hit(cluster.name, f"SMHV's port differs: {told}.")


@rule(
    "services-run",
    section="5.4",
    rows=("R-5.4-01", "R-6.2-03"),
    severity=Severity.ERROR,
    looks_at="services of SMHV, SnapDrive, VSS, Hyper-V and iSCSI",
    why="A backup needs every component: one that is stopped or disabled fails it.",
    fix="Set the service's start mode back and start it.",
)
def services_run(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("services"):
        for name, what in _SERVICES.items():
            service = host.service(name)
            if service is None:
                continue
            if service.start == "Disabled":
                action = Action("start mode", name, "Disabled", "Manual", host.name)
                yield Hit(host.name, f"The service {name} ({what}) is disabled.", action=action)
            elif service.status != "Running" and name not in _ON_DEMAND:
                action = Action("service", name, service.status, "Running", host.name)
                yield Hit(host.name, f"The service {name} ({what}) is {service.status.casefold()}.", action=action)


@rule(
    "hardware-provider",
    section="9",
    rows=("R-9-06", "R-AP-01"),
    severity=Severity.ERROR,
    looks_at="VSS providers that vssadmin lists, by GUID",
    why="Without the Data ONTAP VSS hardware provider there are no application-consistent backups.",
    fix="Repair the installation of SnapDrive (today: of the SnapCenter Plug-in for Microsoft Windows).",
)
def hardware_provider(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("providers"):
        if _HARDWARE not in {provider.id for provider in host.providers}:
            yield Hit(host.name, f"The provider {_HARDWARE} is not registered.")


@rule(
    "no-software-shadows",
    section="9",
    rows=("R-9-07",),
    severity=Severity.ERROR,
    looks_at="shadow copies of the software provider; volumes on LUNs",
    why="A LUN with a software shadow copy cannot be deleted with the hardware provider.",
    fix="Delete the shadow copy with vssadmin, and exclude the LUN from whatever makes them.",
)
def no_software_shadows(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("shadows"):
        volumes = {volume: disk for disk in host.disks if facts.lun_of(disk) for volume in disk.volumes}
        for shadow in host.shadows:
            disk = volumes.get(shadow.volume)
            if disk is not None and "Data ONTAP" not in shadow.provider:
                yield Hit(f"{host.name} disk {disk.number}", f"{shadow.provider!r} made a shadow copy of this LUN.")


def _events(facts: Facts, *ids: int) -> Iterator[tuple[f.Host, f.Event]]:
    for host in facts.known("events"):
        for event in host.events:
            if event.id in ids and (event.time is None or facts.now - event.time < _RECENT):
                yield host, event


@rule(
    "slow-commit",
    section="9",
    rows=("R-9-08",),
    severity=Severity.WARNING,
    looks_at="event 4364 of the last seven days",
    why="VSS gives the provider ten seconds; an array or a network that is too slow fails backups.",
    fix="Retry the backup; if it comes again, spread schedules, and look at the controller's load and at DNS.",
)
def slow_commit(facts: Facts) -> Iterator[Hit]:
    times: dict[str, int] = {}
    for host, _ in _events(facts, 4364):
        times[host.name] = times.get(host.name, 0) + 1
    for name, count in times.items():
        yield Hit(name, f"Event 4364: the provider took more than 10 seconds, {count} times in a week.")


@rule(
    "disk-arrives",
    section="6.2",
    rows=("R-6.2-06",),
    severity=Severity.WARNING,
    looks_at="event 12289 of the last seven days",
    why="The mounted Snapshot copy did not become a disk of this host, so nothing could be recovered on it.",
    fix="Check igroup, sessions and MPIO claim of this node.",
)
def disk_arrives(facts: Facts) -> Iterator[Hit]:
    for name in dict.fromkeys(host.name for host, _ in _events(facts, 12289)):
        yield Hit(name, "Event 12289: a disk of the provider did not arrive.")


@rule(
    "shared-volume-lost",
    section="7",
    rows=("R-7-01", "R-11.2-01"),
    severity=Severity.WARNING,
    looks_at="events 5120 and 5142 of the last seven days",
    why="A node lost its shared volume, and the VMs there paused or failed.",
    fix="Look at the paths of that time; check that SMB is bound to the cluster's network.",
)
def shared_volume_lost(facts: Facts) -> Iterator[Hit]:
    for name in dict.fromkeys(host.name for host, _ in _events(facts, 5120, 5142)):
        yield Hit(name, "Events 5120 or 5142: a cluster shared volume was not reachable.")


@rule(
    "several-paths",
    section="7.2",
    rows=("R-7.2-01", "R-7.1-01"),
    severity=Severity.WARNING,
    looks_at="MPIO's live paths of each LUN",
    why="With one path left, the next failure of a cable, switch or controller stops the VMs.",
    fix="Log in to an iSCSI portal on each controller, and look for paths that are down.",
)
def several_paths(facts: Facts) -> Iterator[Hit]:
    names = {lun.serial: lun.name for lun in facts.array.luns}
    for host in facts.known("paths"):
        thin = [names[serial] for serial, count in host.paths.items() if count < 2 and serial in names]
        if thin:
            yield Hit(host.name, f"Fewer than two paths to {listed(sorted(thin))}.")


@rule(
    "native-unmap-off",
    section="11.1",
    rows=("R-11.1-02", "R-11.8-01"),
    severity=Severity.WARNING,
    eras=("2012",),
    looks_at=f"{f.FILE_SYSTEM_KEY}\\DisableDeleteNotification",
    why="Windows' own thin provisioning is not supported; SnapDrive 6.5 gives space back.",
    fix="Install Windows Host Utilities 6.0.1, which sets DisableDeleteNotification to 1.",
)
def native_unmap_off(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("registry"):
        if host.unmap:
            action = Action("registry value", f"{f.FILE_SYSTEM_KEY}\\DisableDeleteNotification", "0", "1", host.name)
            yield Hit(host.name, "Windows gives the space of deleted files back by itself.", action=action)


@rule(
    "no-odx",
    section="11.8",
    rows=("R-11.8-01",),
    severity=Severity.WARNING,
    eras=("2012",),
    looks_at=f"{f.FILE_SYSTEM_KEY}\\FilterSupportedFeaturesMode",
    why="Offloaded data transfer is not supported together with SMHV 1.2 and SnapDrive 6.5.",
    fix="Set FilterSupportedFeaturesMode to 1.",
)
def no_odx(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("registry"):
        if host.odx:
            action = Action("registry value", f"{f.FILE_SYSTEM_KEY}\\FilterSupportedFeaturesMode", "0", "1", host.name)
            yield Hit(host.name, "Offloaded data transfer is switched on.", action=action)


@rule(
    "clone-retries",
    section="appendix",
    rows=("R-AG-03", "R-AG-02"),
    severity=Severity.WARNING,
    looks_at="CloneMaxRetryCount and CloneRetryInterval of SnapDrive",
    why="While a LUN clone recovers, other Snapshot copies have to wait; fewer retries turn that into failures.",
    fix="Set CloneMaxRetryCount to 100 and CloneRetryInterval to 10 seconds, or remove both.",
)
def clone_retries(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("registry"):
        for name, usual in (("CloneMaxRetryCount", 100), ("CloneRetryInterval", 10)):
            value = host.value(f.PROVIDER_KEY, name)
            if value and (not value.isdecimal() or int(value) < usual):
                action = Action("registry value", f"{f.PROVIDER_KEY}\\{name}", value, str(usual), host.name)
                yield Hit(host.name, f"{name} is {value}; the default is {usual}.", action=action)


@rule(
    "array-credentials",
    section="8",
    rows=("R-8-16",),
    severity=Severity.ERROR,
    looks_at="SVMs in SnapDrive's settings; SVMs of the VMs' LUNs",
    why="Without credentials the provider cannot make Snapshot copies, and SMHV cannot update mirrors.",
    fix="Add the SVM in SnapDrive's transport protocol settings, and the cluster for mirrors.",
)
def array_credentials(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("credentials"):
        if not host.credentials:
            continue
        known = {name.casefold() for name in host.credentials}
        used = {lun.svm for vm in facts.vms if vm.host == host.name for lun in facts.luns(vm)}
        for svm in sorted(used):
            if svm.casefold() not in known:
                yield Hit(host.name, f"SnapDrive has no credentials for the SVM {svm}.")


@rule(
    "console-in-vm",
    section="appendix",
    rows=("R-AS-01",),
    severity=Severity.ERROR,
    looks_at="the name of the computer that runs this; the names of the VMs",
    why="A VM that restores itself is switched off in the middle.",
    fix="Run the console on another computer, or on a VM of another host.",
)
def console_in_vm(facts: Facts) -> Iterator[Hit]:
    name = facts.console.partition(".")[0].casefold()
    for vm in facts.vms:
        if name and vm.name.casefold() == name:
            yield Hit(vm.name, f"This console runs in the VM {vm.name} of {vm.host}, which it manages.")


@rule(
    "bitlocker",
    section="11.4",
    rows=("R-11.4-01",),
    severity=Severity.WARNING,
    eras=("2008r2",),
    looks_at="BitLocker's state of each mount point",
    why="Encrypted shared volumes are supported from Windows Server 2012 with SnapDrive 6.5 only.",
    fix="Decrypt the volume, or move to Windows Server 2012.",
)
def bitlocker(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("encrypted"):
        for path in host.encrypted:
            home = facts.home(host.name, path)
            if home is not None and home.lun is not None:
                yield Hit(f"{host.name} {path}", "BitLocker encrypts this LUN.")


@rule(
    "initiator-in-igroup",
    section="2.2",
    rows=("R-2.2-05", "R-2.2-06"),
    severity=Severity.ERROR,
    looks_at="the hosts' initiators; initiator groups",
    why="A host whose initiator is in no group sees no LUN.",
    fix="Put the host's initiator into an igroup of type hyper_v on the SVM.",
)
def initiator_in_igroup(facts: Facts) -> Iterator[Hit]:
    known = {name for group in facts.array.igroups for name in group.initiators}
    for host in facts.known("initiators"):
        for name in host.initiators:
            if name.startswith("iqn.") and name not in known:
                yield Hit(host.name, f"{name} is in no initiator group of {facts.array.name}.")
