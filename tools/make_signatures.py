"""Derive labenv/windows/remoting/signatures.json from the cmdlet facts: names, types, sets and accepted values only.

Usage: python tools/make_signatures.py FACTS_FOLDER OUTPUT
FACTS_FOLDER holds powershell_cmdlets.json and hyperv_types.json.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

WHOLE_MODULES = ("Hyper-V", "FailoverClusters", "Storage", "iSCSI", "MPIO", "ScheduledTasks")
"""Modules taken whole, without the cmdlets of SKIPPED."""

SKIPPED = re.compile(
    r"FileShare|FileServer|StorageQoS|StorageHealth|StorageEnclosure|StorageMaintenance|StorageBusC|PhysicalExtent"
    r"|VMRemoteFx|VMGpu|VMPartitionableGpu|VMHostPartitionableGpu|VMAssignableDevice|VMHostAssignable|FibreChannel|VMSan"
    r"|ExtendedAcl|RoutingDomain|VMSwitchExtension|VMSystemSwitch|Isolation|Rdma|VMSwitchTeam|StorageSubSystem|RemoteFX"
    r"|ResourcePool|VMNuma|VMHostNuma|StoragePool|StorageTier|StorageNode|StorageProvider|VirtualDisk|PhysicalDisk"
    r"|MaskingSet|TargetPort(?!al)|OffloadData|StorageDiagnostic|StorageFirmware|StorageFaultDomain|StorageExtended"
    r"|StorageHistory|StorageAdvanced|DedupProperties|ClusterScaleOut|ClusterFaultDomain|ClusterGroupSet|Iscsi.*CHAP"
)

OTHERS = {
    "Microsoft.PowerShell.Management": (
        "Get-ChildItem Get-Content Set-Content Add-Content Clear-Content Get-Item New-Item Remove-Item Rename-Item "
        "Move-Item Copy-Item Test-Path Get-ItemProperty Set-ItemProperty New-ItemProperty Remove-ItemProperty "
        "Get-Service Start-Service Stop-Service Restart-Service Set-Service Get-PSDrive Resolve-Path Get-ComputerInfo "
        "Restart-Computer Stop-Computer Get-Process Get-HotFix Get-ItemPropertyValue Set-Item Get-TimeZone "
        "Write-EventLog New-EventLog"
    ),
    "Microsoft.PowerShell.Utility": (
        "Start-Sleep Get-Date Get-Variable Select-Object Write-Output Write-Warning Write-Verbose Write-Error "
        "Get-FileHash Get-Random Get-Host Get-Culture Get-UICulture Measure-Object Out-String Get-Unique"
    ),
    "Microsoft.PowerShell.Diagnostics": "Get-WinEvent Get-Counter New-WinEvent",
    "Microsoft.PowerShell.Core": "Get-Command Get-Module",
    "CimCmdlets": "Get-CimInstance Set-CimInstance Invoke-CimMethod Get-CimClass",
    "NetSecurity": "Get-NetFirewallRule Get-NetFirewallPortFilter",
    "BitLocker": "Get-BitLockerVolume",
    "SmbShare": "Get-SmbShare Get-SmbConnection Get-SmbOpenFile Get-SmbSession",
}

FUNCTION_MODULES = ("Storage", "iSCSI", "MPIO", "ScheduledTasks", "SmbShare", "NetSecurity", "BitLocker")
"""Modules whose commands are generated functions; their errors name the function instead of a class."""

NAMESPACES = {
    "Hyper-V": "Microsoft.HyperV.PowerShell.Commands.{verb}{noun}",
    "FailoverClusters": "Microsoft.FailoverClusters.PowerShell.{verb}{noun}Command",
    "Microsoft.PowerShell.Management": "Microsoft.PowerShell.Commands.{verb}{noun}Command",
    "Microsoft.PowerShell.Utility": "Microsoft.PowerShell.Commands.{verb}{noun}Command",
    "Microsoft.PowerShell.Core": "Microsoft.PowerShell.Commands.{verb}{noun}Command",
    "Microsoft.PowerShell.Diagnostics": "Microsoft.PowerShell.Commands.{verb}{noun}Command",
    "CimCmdlets": "Microsoft.Management.Infrastructure.CimCmdlets.{verb}{noun}Command",
}

CLASSES = {
    **{
        f"{verb}-VHD": f"Microsoft.Vhd.PowerShell.Cmdlets.{verb}Vhd"
        for verb in ["New", "Set", "Mount", "Dismount", "Convert", "Merge", "Optimize", "Resize", "Test"]
    },
    "Get-VHD": "Microsoft.Vhd.PowerShell.Cmdlets.GetVHD",
    "Get-ClusterResource": "Microsoft.FailoverClusters.PowerShell.GetResourceCommand",
}
"""Classes that do not follow the rule of their module."""

DEFAULT_SETS = {
    "Get-Disk": "ByName",
    "Set-Disk": "ByNumber",
    "Initialize-Disk": "ByNumber",
    "Clear-Disk": "ByNumber",
    "Update-Disk": "ByNumber",
    "New-Partition": "ByNumber",
    "Get-Partition": "ByNumber",
    "Set-Partition": "ByNumberAttributes",
    "Get-Volume": "ByDriveLetter",
    "Format-Volume": "ByDriveLetter",
    "Write-VolumeCache": "ByDriveLetter",
    "Get-VM": "Name",
    "New-VM": "No VHD",
    "New-VHD": "DynamicWithoutSource",
    "Get-VMSnapshot": "VMName",
    "Get-VHD": "Path",
    "Connect-IscsiTarget": "ByNodeAddress",
    "Get-IscsiSession": "BySessionIdentifier",
    "Get-IscsiConnection": "ByConnectionIdentifier",
    "Get-IscsiTargetPortal": "ByTargetPortalAddress",
    "Test-VHD": "ExistingVHD",
    "Get-Variable": "",
    "Start-Sleep": "Seconds",
    "Get-Date": "net",
    "Select-Object": "DefaultParameter",
    "Get-WinEvent": "GetLogSet",
    "Get-CimInstance": "ClassNameComputerSet",
    "New-Item": "pathSet",
    "Get-ChildItem": "Items",
    "Get-Command": "CmdletSet",
    "Set-ItemProperty": "propertyValuePathSet",
    "Register-ScheduledTask": "User",
    "Register-ClusteredScheduledTask": "ByXml",
    "Import-VM": "Register",
    "Compare-VM": "Register",
    "Stop-Cluster": "InputObject",
    "Set-ClusterParameter": "NoMultiple",
    "Get-NetFirewallRule": "GetAll",
    "Get-NetFirewallPortFilter": "GetAll",
}
"""Default parameter sets, which the documentation does not print."""

PREFERRED = ("VMName", "Name", "ByName", "Path", "ByPath", "Default", "DefaultSet", "ByNodeAddress")
"""Where no default is known: the first of these that the cmdlet has."""

PIPELINE = {
    "VM": "VirtualMachine",
    "VMSnapshot": "VMSnapshot",
    "VMCheckpoint": "VMSnapshot",
    "InputObject": "",
}
"""Parameters that take the pipeline's object, with the type that it must have ('' is any)."""

NEEDS_DELEGATION = [
    "Add-ClusterVirtualMachineRole",
    "Add-ClusterNode",
    "New-Cluster",
    "Get-ClusterLog",
    "Add-ClusterGroup",
    "Add-ClusterServerRole",
    "Test-Cluster",
    "Remove-Cluster",
    "Remove-ClusterNode",
]

PROMPTS = [
    "Remove-VM",
    "Restore-VMSnapshot",
    "Remove-VMSwitch",
    "Format-Volume",
    "Clear-Disk",
    "Remove-Partition",
    "Remove-ClusterGroup",
    "Remove-ClusterResource",
    "Remove-ClusterNode",
    "Remove-Cluster",
    "Disconnect-IscsiTarget",
    "Remove-IscsiTargetPortal",
    "Unregister-ScheduledTask",
    "Merge-VHD",
]
"""Commands that ask before they act, unless told -Confirm:$false or -Force; nobody can answer over this wire."""

PROVIDERS = re.compile(r" - (?!All providers|FileSystem|Registry)")
"""Syntax of providers that the lab has not: its dynamic parameters are left out."""

VALUES = {
    "RegistryValueKind": ["String", "ExpandString", "Binary", "DWord", "MultiString", "QWord", "Unknown"],
}
"""Accepted values that the facts lack, by type."""

EMPTY_ALLOWED = {"Set-Content": ["Value"], "Add-Content": ["Value"], "Set-ItemProperty": ["Value"]}

DYNAMIC = {"Get-ChildItem": ["Attributes", "Directory", "File", "Hidden", "ReadOnly", "System"]}
"""Parameters that a provider adds: they belong to every set, though the documents list them with one."""

ADDED: dict[str, Any] = {
    "Invoke-Sqlcmd": {
        "module": "SqlServer",
        "class": "Microsoft.SqlServer.Management.PowerShell.GetScriptCommand",
        "syntax": {
            "ByConnectionParameters": "Invoke-Sqlcmd [-ServerInstance <PSObject>] [-Database <String>] [-Username "
            "<String>] [-Password <String>] [-Credential <PSCredential>] [[-Query] <String>] [-QueryTimeout <Int32>] "
            "[-ConnectionTimeout <Int32>] [-OutputAs <OutputType>] [-TrustServerCertificate] [-AbortOnError] "
            "[-MaxCharLength <Int32>] [-ErrorLevel <Int32>] [-DisableVariables] [-EncryptConnection]",
        },
        "values": {"OutputAs": ["DataSet", "DataTables", "DataRows"]},
    },
    "Invoke-SmhvGuestCheck": {
        "module": "SmhvLab",
        "class": "Invoke-SmhvGuestCheck",
        "syntax": {
            "Default": "Invoke-SmhvGuestCheck [-VMId] <Guid> [-Credential <PSCredential>] [-Database <String[]>]"
        },
    },
}
"""Cmdlets that the facts do not hold."""

TOKEN = re.compile(
    r"\[\[-(?P<op>\w+)\](?: <(?P<opt>[^>]+)>)?\]"  # [[-Name] <Type>]: optional, positional
    r"|\[-(?P<mp>\w+)\](?: <(?P<mpt>[^>]+)>)"  # [-Name] <Type>: mandatory, positional
    r"|\[-(?P<o>\w+)(?: <(?P<ot>[^>]+)>)?\]"  # [-Name <Type>]: optional
    r"|(?<![\w\[])-(?P<m>\w+)(?: <(?P<mt>[^>]+)>)?"  # -Name <Type>: mandatory
)
COMMON = {"WhatIf", "Confirm"}


def short(name: str) -> str:
    """A type name without its namespace, with the arrays and nullables kept readable."""
    match = re.fullmatch(r"System\.Nullable`1\[+([\w.]+)\]+", name)
    name = match.group(1) if match else name
    return name if "`" in name else name.rsplit(".", 1)[-1]


def roles(syntax: dict[str, str], positions: dict[str, str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Set names, and for each parameter its role in each set: o(ptional) or m(andatory), with its position."""
    sets: list[str] = []
    found: dict[str, dict[str, str]] = {}
    for key in sorted(syntax):
        name = key.split("\n")[0].split(" - ")[0]
        if name not in sets:
            sets.append(name)
        text = syntax[key].split("\n")[0] if not syntax[key].startswith("`") else syntax[key]
        place = 0
        for match in TOKEN.finditer(text.split(" ", 1)[1] if " " in text else ""):
            parameter = next(match[g] for g in ("op", "mp", "o", "m") if match[g])
            role = "m" if match["mp"] or match["m"] else "o"
            if match["op"] or match["mp"]:
                role += positions.get(parameter, str(place))
                place += 1
            found.setdefault(parameter, {}).setdefault(name, role)
    return sets, found


def _foreign(every: dict[str, str], kept: dict[str, str]) -> set[str]:
    """Parameters that appear only in syntaxes which are left out."""

    def names(syntax: dict[str, str]) -> set[str]:
        return {next(n for n in m.group("op", "mp", "o", "m") if n) for t in syntax.values() for m in TOKEN.finditer(t)}

    return names(every) - names(kept)


def signature(name: str, module: str, facts: dict[str, Any]) -> dict[str, Any]:
    """One cmdlet in the compact form that labenv/windows/remoting/signatures.py reads."""
    parameters = facts.get("parameters", {})
    syntax = {k: v for k, v in facts["syntax"].items() if not PROVIDERS.search(k)}
    syntax = syntax or {"(All)": ""}
    foreign = _foreign(facts["syntax"], syntax) if facts["syntax"] else set()
    positions = {p: str(q["position"]) for p, q in parameters.items() if "position" in q}
    sets, found = roles(syntax, positions)
    for parameter in DYNAMIC.get(name, ()):
        found[parameter] = dict.fromkeys(sets, "o")
    types = dict(re.findall(r"-(\w+)\]? <([^>]+)>", " ".join(syntax.values())))
    out: dict[str, Any] = {}
    for parameter in sorted(set(parameters) | set(found)):
        if parameter in ("CommonParameters", "UseTransaction", "AsJob") or parameter in foreign:
            continue
        known = parameters.get(parameter, {})
        where = found.get(parameter)
        if where is None:
            listed = [s.split(" - ")[0] for s in known.get("sets", sets)]
            role = ("m" if known.get("required") else "o") + positions.get(parameter, "")
            where = {s: role for s in sets if s in listed or listed == sets} or dict.fromkeys(sets, role)
        entry: list[Any] = [short(known.get("type") or types.get(parameter, "SwitchParameter"))]
        each = [where.get(s, "-") for s in sets]
        entry.append(each[0] if len(set(each)) == 1 else " ".join(each))
        extra: dict[str, Any] = {}
        if known.get("aliases"):
            extra["a"] = known["aliases"]
        values = known.get("values") or facts.get("values", {}).get(parameter) or VALUES.get(entry[0])
        if values:
            extra["v"] = values
        if parameter in PIPELINE:
            extra["i"] = PIPELINE[parameter]
        if extra:
            entry.append(extra)
        out[parameter] = entry
    record: dict[str, Any] = {"m": module, "s": sets, "p": {p: v for p, v in out.items() if p not in COMMON}}
    if COMMON & set(out):
        record["w"] = 1
    default = DEFAULT_SETS.get(name)
    if default is None or default not in sets:
        default = next((s for s in PREFERRED if s in sets), sets[0] if len(sets) == 1 else None)
    if default is not None:
        record["d"] = default
    if module in FUNCTION_MODULES:
        record["f"] = 1
    else:
        verb, _, noun = name.partition("-")
        record["c"] = facts.get("class") or CLASSES.get(name) or NAMESPACES[module].format(verb=verb, noun=noun)
    for flag, names in (("n", NEEDS_DELEGATION), ("q", PROMPTS)):
        if name in names:
            record[flag] = 1
    if name in EMPTY_ALLOWED:
        record["e"] = EMPTY_ALLOWED[name]
    return record


def build(facts_folder: Path) -> dict[str, Any]:
    """The whole table."""
    facts = json.loads((facts_folder / "powershell_cmdlets.json").read_text(encoding="utf-8"))
    enums = json.loads((facts_folder / "hyperv_types.json").read_text(encoding="utf-8"))["enums"]
    cmdlets: dict[str, Any] = {}
    for module in WHOLE_MODULES:
        for name, one in facts[module].items():
            if not SKIPPED.search(name):
                cmdlets[name] = signature(name, module, one)
    for module, names in OTHERS.items():
        for name in names.split():
            if name in facts[module]:
                cmdlets[name] = signature(name, module, facts[module][name])
    for name, added in ADDED.items():
        cmdlets[name] = signature(name, added["module"], added)
    used = {entry[0].removesuffix("[]") for record in cmdlets.values() for entry in record["p"].values()}
    return {
        "cmdlets": dict(sorted(cmdlets.items())),
        "enums": {name: values for name, values in sorted(enums.items()) if name in used},
    }


def main() -> None:
    """Write the table; prints what it holds."""
    folder, output = Path(sys.argv[1]), Path(sys.argv[2])
    table = build(folder)
    cmdlets = table["cmdlets"]
    lines = ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in cmdlets.items())
    enums = ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in table["enums"].items())
    output.write_text(f'{{"cmdlets":{{\n{lines}\n}},\n"enums":{{\n{enums}\n}}}}\n', encoding="utf-8")
    sys.stdout.write(f"{len(cmdlets)} cmdlets, {len(table['enums'])} enums, {output.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
