"""Derive smhvlab/wires/cmdlets.json from the cmdlet facts: parameter types, and whether a cmdlet takes -Confirm.

Usage: python tools/make_cmdlet_table.py FACTS_FOLDER OUTPUT
FACTS_FOLDER holds powershell_cmdlets.json.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

SENT = {
    "Hyper-V": r"(Get|Start|Stop|Save|Suspend|Resume|Restart|Remove|Set|New|Rename|Checkpoint|Import|Export|Compare"
    r"|Measure|Move|Repair|Debug)-VM(Host|Snapshot|SavedState|Switch|HardDiskDrive|DvdDrive|ScsiController|IdeController"
    r"|NetworkAdapter|IntegrationService|Processor|Memory|Storage|Firmware|Bios)?"
    r"|(Add)-VM(HardDiskDrive|ScsiController|NetworkAdapter|DvdDrive)|(Connect|Disconnect)-VMNetworkAdapter"
    r"|(Enable|Disable)-VMIntegrationService|Restore-VMSnapshot|Export-VMSnapshot|\w+-VHD",
    "FailoverClusters": r"(Get|Add|Remove|Start|Stop|Move|Suspend|Resume|Set|Update|Test|New)-Cluster"
    r"(Group|Resource|Node|Disk|AvailableDisk|SharedVolume|SharedVolumeState|Parameter|OwnerNode|Quorum|Network"
    r"|VirtualMachineRole|VirtualMachineConfiguration|Log|ResourceDependency|ResourceType|NetworkInterface)?",
    "Storage": r"(Get|Set|Initialize|Clear|Update)-Disk|(Get|New|Set|Remove|Resize)-Partition"
    r"|Get-PartitionSupportedSize|(Add|Remove)-PartitionAccessPath|(Get|Set|Format|Repair|Optimize)-Volume|Write-VolumeCache|Update-HostStorageCache"
    r"|Get-InitiatorPort|(Get|Set)-StorageSetting|(Mount|Dismount|Get)-DiskImage",
    "iSCSI": r"\w+-Iscsi(Target|TargetPortal|Session|Connection)",
    "MPIO": r"\w+-(MSDSM|MPIO)\w+",
    "ScheduledTasks": r"(Get|Register|Unregister|Start|Stop|Enable|Disable|Export)-ScheduledTask|Get-ScheduledTaskInfo"
    r"|(Get|Register|Unregister|Set)-ClusteredScheduledTask",
    "Microsoft.PowerShell.Management": r"(Get|New|Remove|Rename|Move|Copy)-Item|Test-Path|Resolve-Path|Get-ChildItem"
    r"|(Get|Set|Add|Clear)-Content|(Get|Set|New|Remove)-ItemProperty|(Get|Start|Stop|Restart|Set)-Service"
    r"|Get-PSDrive|Get-Process|Get-HotFix|Restart-Computer|Stop-Computer|Get-ComputerInfo|Get-TimeZone"
    r"|(Write|New)-EventLog",
    "Microsoft.PowerShell.Utility": r"Start-Sleep|Get-Date|Get-Variable|Select-Object|Get-FileHash|Get-Culture",
    "Microsoft.PowerShell.Diagnostics": r"Get-WinEvent|New-WinEvent|Get-Counter",
    "Microsoft.PowerShell.Core": r"Get-Command|Get-Module",
    "CimCmdlets": r"(Get|Set)-CimInstance|Invoke-CimMethod",
    "NetSecurity": r"Get-NetFirewall(Rule|PortFilter)",
    "BitLocker": r"Get-BitLockerVolume",
    "SmbShare": r"Get-Smb(Share|Connection|Session|OpenFile)",
}
"""Which cmdlets of which module smhvlab may send."""

DROPPED = {"CommonParameters", "CimSession", "ComputerName", "Credential", "AsJob", "ThrottleLimit", "UseTransaction"}
"""Parameters that smhvlab never sends: one session per host, no jobs, no second hop (-Cluster is kept out below)."""

ADDED = {
    "Invoke-Sqlcmd": {
        "m": "SqlServer",
        "p": {
            "ServerInstance": "String",
            "Database": "String",
            "Username": "String",
            "Password": "String",
            "Query": "String",
            "QueryTimeout": "Int32",
            "OutputAs": "OutputType",
            "TrustServerCertificate": "SwitchParameter",
            "AbortOnError": "SwitchParameter",
        },
    },
    "Invoke-SmhvGuestCheck": {
        "m": "SmhvLab",
        "p": {"VMId": "Guid", "Credential": "PSCredential", "Database": "String[]"},
    },
}
"""Commands that the facts do not hold."""

PARAMETERS_ADDED = {"New-Item": {"ItemType": "String", "Value": "Object"}}


def short(name: str) -> str:
    """A type name without its namespace."""
    match = re.fullmatch(r"System\.Nullable`1\[+([\w.]+)\]+", name)
    return (match.group(1) if match else name).rsplit(".", 1)[-1]


def entry(module: str, name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """One cmdlet: module, parameters with their types, and the mark that it takes -Confirm."""
    parameters = facts.get("parameters", {})
    types = dict(re.findall(r"-(\w+)\]? <([^>]+)>", " ".join(facts["syntax"].values())))
    # The documentation of some cmdlets lists only part of what their syntax shows.
    known = {p: q.get("type") or types.get(p, "SwitchParameter") for p, q in parameters.items()}
    shown = " ".join(re.sub(r"<[^>]+>", "", s).split(" ", 1)[-1] for s in facts["syntax"].values())
    for found in re.finditer(r"-(\w+)", shown):
        known.setdefault(found.group(1), types.get(found.group(1), "SwitchParameter"))
    known |= PARAMETERS_ADDED.get(name, {})
    dropped = DROPPED | ({"Cluster"} if module == "FailoverClusters" else set())
    kept = {p: short(t) for p, t in sorted(known.items()) if p not in dropped and p not in ("WhatIf", "Confirm")}
    out: dict[str, Any] = {"m": module, "p": kept}
    if "Confirm" in known:
        out["c"] = 1
    return out


def build(folder: Path) -> dict[str, Any]:
    """The whole table, sorted by name."""
    facts = json.loads((folder / "powershell_cmdlets.json").read_text(encoding="utf-8"))
    table: dict[str, Any] = dict(ADDED)
    for module, pattern in SENT.items():
        for name, one in facts[module].items():
            if re.fullmatch(pattern, name):
                table[name] = entry(module, name, one)
    return dict(sorted(table.items()))


def main() -> None:
    """Write the table, one cmdlet a line."""
    table = build(Path(sys.argv[1]))
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(one, separators=(',', ':'))}" for name, one in table.items())
    Path(sys.argv[2]).write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
