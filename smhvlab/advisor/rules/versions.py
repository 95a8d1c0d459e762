"""What has to be installed on the hosts, and in which versions (TR 5.1, 5.4, 7.2, 11.1, appendix)."""

from __future__ import annotations

from collections.abc import Iterator

from smhvlab.advisor.compatibility import guest_support, resolve, smhv_of, stack_of, version_of
from smhvlab.advisor.rule import Hit, Severity, listed, rule
from smhvlab.advisor.site_facts import Facts

_OLD = ("2008r2", "2012")
_SOFTWARE = "installed programs of each host"


def _verdicts(facts: Facts, item: str) -> Iterator[Hit]:
    for host in facts.hosts:
        if host.unknown.keys() & {"software", "dsm", "version", "uninstall0"}:
            continue
        for verdict in resolve(stack_of(facts, host)):
            if verdict.item == item and not verdict.ok:
                text = f"{verdict.item}: {verdict.have}; the TR asks for {verdict.wanted}."
                yield Hit(host.name, text, f"Install {verdict.item} {verdict.wanted} on {host.name}.")


@rule(
    "snapdrive-everywhere",
    section="5.1",
    rows=("R-5.1-03",),
    severity=Severity.ERROR,
    eras=_OLD,
    looks_at=_SOFTWARE,
    why="SMHV works through SnapDrive on every parent; a VM that fails over to a node without them is not backed up.",
    fix="Install SnapDrive and SMHV on every node of the cluster; a console needs SMHV alone.",
)
def snapdrive_everywhere(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("software"):
        missing = [n for n, v in (("SMHV", smhv_of(host)), ("SnapDrive", host.program("SnapDrive"))) if not v]
        if missing:
            yield Hit(host.name, f"{' and '.join(missing)} not installed.")


@rule(
    "snapdrive-version",
    section="5.1",
    rows=("R-5.1-01", "R-5.4-03", "R-5.4-04", "R-11-01"),
    severity=Severity.ERROR,
    eras=_OLD,
    looks_at=f"{_SOFTWARE}; ONTAP's version",
    why="SnapDrive 6.4 is the first that speaks to clustered Data ONTAP, 6.5 the first on Windows Server 2012.",
    fix="Upgrade SnapDrive for Windows.",
)
def snapdrive_version(facts: Facts) -> Iterator[Hit]:
    missing = {host.name for host in facts.hosts if host.program("SnapDrive") is None}
    yield from (hit for hit in _verdicts(facts, "SnapDrive") if hit.object not in missing)


@rule(
    "snapdrive-for-crash",
    section="5.1",
    rows=("R-5.1-04",),
    severity=Severity.ERROR,
    eras=_OLD,
    looks_at=f"{_SOFTWARE}; policies and backups",
    why="Crash-consistent backups call a function of SnapDrive that came with 6.4.1.",
    fix="Upgrade SnapDrive to 6.4.1 or later, or use application-consistent backups only.",
)
def snapdrive_for_crash(facts: Facts) -> Iterator[Hit]:
    crash = any(p.consistency == "crash" for d in facts.datasets for p in d.policies)
    if not crash and all(backup.consistency != "crash" for backup in facts.backups):
        return
    for host in facts.known("software"):
        program = host.program("SnapDrive")
        if program is not None and version_of(program.version) < (6, 4, 1):
            yield Hit(host.name, f"SnapDrive {program.version}, and crash-consistent backups are in use.")


@rule(
    "smhv-version",
    section="11",
    rows=("R-11-01", "R-5.4-04", "R-3.4-06", "R-8-01"),
    severity=Severity.ERROR,
    eras=_OLD,
    looks_at=_SOFTWARE,
    why="SMHV fails over from 1.0 P1 on, and by PowerShell only; 1.1 P1 knows clustered Data ONTAP, 1.2 Windows 2012.",
    fix="Upgrade SnapManager for Hyper-V.",
)
def smhv_version(facts: Facts) -> Iterator[Hit]:
    missing = {host.name for host in facts.hosts if not smhv_of(host)}
    yield from (hit for hit in _verdicts(facts, "SMHV") if hit.object not in missing)


@rule(
    "same-versions",
    section="5.1",
    rows=("R-5.1-03", "R-AH-07"),
    severity=Severity.WARNING,
    looks_at=_SOFTWARE,
    why="Nodes with different releases behave differently after a failover.",
    fix="Bring all nodes of the cluster to one release.",
)
def same_versions(facts: Facts) -> Iterator[Hit]:
    for cluster in facts.clusters:
        nodes = [host for host in facts.known("software") if host.cluster == cluster.name]
        for part in ("SnapManager", "SnapDrive", "Host Utilities", "SnapCenter"):
            found = {host.name: program.version for host in nodes if (program := host.program(part)) is not None}
            if len(set(found.values())) > 1:
                yield Hit(cluster.name, f"{part}: {listed(f'{name} {version}' for name, version in found.items())}.")


@rule(
    "host-system",
    section="5.4",
    rows=("R-5.4-06", "R-11-01", "R-5.4-09"),
    severity=Severity.ERROR,
    eras=_OLD,
    looks_at="the hosts' operating systems",
    why="SMHV runs on Windows Server 2008 R2 x64 and Hyper-V Server 2008 R2, from 1.2 on Windows Server 2012.",
    fix="Use a supported edition; the Interoperability Matrix Tool has the present list.",
)
def host_system(facts: Facts) -> Iterator[Hit]:
    yield from _verdicts(facts, "Host")


@rule(
    "guest-system",
    section="5.4",
    rows=("R-5.4-08",),
    severity=Severity.WARNING,
    eras=("2008r2",),
    looks_at="the guests' operating systems, as their key/value pairs tell",
    why="A guest outside the list has no tested integration components, and is perhaps backed up by saving it.",
    fix="Check the Interoperability Matrix Tool; Red Hat needs integration components 2.1.",
)
def guest_system(facts: Facts) -> Iterator[Hit]:
    unread = {host.name for host in facts.hosts if "exchange" in host.unknown}
    for vm in facts.vms:
        if not vm.guest_os:
            if vm.state == "Running" and vm.host not in unread:
                yield Hit(
                    vm.name,
                    "What runs in it is unknown: it tells nothing of itself.",
                    f"Switch the integration service for data exchange of {vm.name} on; or look into it.",
                )
            continue
        verdict = guest_support(vm.guest_os, integration=vm.integration)
        if not verdict.ok:
            yield Hit(vm.name, f"{vm.guest_os}: the TR asks for {verdict.wanted}.")


@rule(
    "dsm",
    section="7.2",
    rows=("R-7.2-02", "R-11.1-01", "R-5.4-05"),
    severity=Severity.ERROR,
    looks_at="the registered device-specific modules of MPIO",
    why="The DSM makes one disk of several paths and switches between them; another one is not supported.",
    fix="Install the supported DSM; on Windows Server 2012 use MSDSM and remove Data ONTAP DSM.",
)
def dsm(facts: Facts) -> Iterator[Hit]:
    yield from _verdicts(facts, "DSM")


@rule(
    "host-utilities",
    section="11.1",
    rows=("R-11.1-02", "R-5.4-05"),
    severity=Severity.ERROR,
    eras=_OLD,
    looks_at=_SOFTWARE,
    why="Windows Host Utilities set the time-outs that a takeover needs; 6.0.1 is mandatory on 2012, host and guest.",
    fix="Install the Windows Host Utilities, on the guests too.",
)
def host_utilities(facts: Facts) -> Iterator[Hit]:
    yield from _verdicts(facts, "Windows Host Utilities")


@rule(
    "dotnet-35",
    section="11.1",
    rows=("R-11.1-03",),
    severity=Severity.ERROR,
    eras=("2012",),
    looks_at=_SOFTWARE,
    why="SnapDrive 6.5 needs .NET Framework 3.5 beside the 4.x of Windows Server 2012.",
    fix="Install the feature .NET Framework 3.5.",
)
def dotnet_35(facts: Facts) -> Iterator[Hit]:
    yield from _verdicts(facts, ".NET Framework 3.5")


@rule(
    "ontap-version",
    section="5.4",
    rows=("R-5.4-04", "R-1-01"),
    severity=Severity.ERROR,
    looks_at="ONTAP's version",
    why="Clustered Data ONTAP is supported from 8.1.1.",
    fix="Upgrade the array.",
)
def ontap_version(facts: Facts) -> Iterator[Hit]:
    if facts.array.version < (8, 1, 1):
        yield Hit(facts.array.name, f"ONTAP {'.'.join(map(str, facts.array.version))}.")


_HOTFIXES_2008R2 = ("KB975921", "KB974909", "KB975354", "KB979743", "KB2406705", "KB978157")


@rule(
    "hotfixes",
    section="appendix",
    rows=("R-AH-02",),
    severity=Severity.WARNING,
    eras=("2008r2",),
    looks_at="hotfixes of each host",
    why="They mend VSS, MPIO and failover clustering; the TR's cluster is not complete without them.",
    fix="Install them from Microsoft, and Service Pack 1.",
)
def hotfixes(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("hotfixes"):
        missing = [kb for kb in _HOTFIXES_2008R2 if kb not in host.hotfixes]
        if host.service_pack < 1:
            missing.append("Service Pack 1")
        if missing:
            yield Hit(host.name, f"Missing: {listed(missing)}.")


@rule(
    "hotfix-passthrough",
    section="appendix",
    rows=("R-AX-02", "R-AL-01"),
    severity=Severity.WARNING,
    eras=_OLD,
    looks_at="hotfixes of each host; pass-through disks of VMs",
    why="Without it disks that the guest sees directly spoil the backup (0x800423f3, writer state 8) or make it slow.",
    fix="Install KB2770917 on Windows Server 2012, KB975354 on 2008 R2.",
)
def hotfix_passthrough(facts: Facts) -> Iterator[Hit]:
    with_disks = {vm.host for vm in facts.vms if any(disk.passthrough for disk in vm.disks)}
    for host in facts.known("hotfixes"):
        wanted = "KB2770917" if host.era == "2012" else "KB975354"
        if host.name in with_disks and wanted not in host.hotfixes:
            yield Hit(host.name, f"{wanted} is missing, and VMs of this host have pass-through disks.")
