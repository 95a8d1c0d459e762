"""What hosts tell about themselves: two waves of reads on each, whatever the number of VMs and rules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from smhvlab.advisor import facts as f
from smhvlab.advisor.wave import Wave
from smhvlab.errors import PowerShellError
from smhvlab.hyperv import EXCHANGE, EXCHANGED, told_by_guests
from smhvlab.snapdrive import identity
from smhvlab.wires.powershell import PowerShellWire, Record

_UNINSTALL = (
    "HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Uninstall",
    "HKLM:\\SOFTWARE\\WOW6432Node\\Microsoft\\Windows\\CurrentVersion\\Uninstall",
)
_INSTALLED = "C:\\Program Files\\NetApp\\SnapManager for Hyper-V"
_EXPORT = re.compile(r"(?<!-help)\.(xml|toml)\Z", re.IGNORECASE)
_KEYS = (f.SMHV_KEY, f.CLUSTER_KEY, f.PROVIDER_KEY, f.FILE_SYSTEM_KEY)
_SYSTEMS = f"{f.PROVIDER_KEY}\\StorageSystems"
_EVENTS = (106, 4363, 4364, 5120, 5142, 12289)
_VSS_SERVICE = "5CED1297-4598-4915-A5FC-AD21BB4D02A4"
_SERVICES = {
    "84EAAE65-2F2E-45F5-9BB5-0E857DC8EB47": "Heartbeat",
    "2A34B1C2-FD73-4043-8A5B-DD2159BC743F": "Key-Value Pair Exchange",
    "9F8233AC-BE49-4C79-8EE3-E7E1985B2077": "Shutdown",
    "2497F4DE-E9FA-4204-80E4-4B75C46419C0": "Time Synchronization",
    _VSS_SERVICE: "VSS",
}
"""The integration services that the TR asks for (2.2), by the component id that is the same in every language."""

_VM_FIELDS = (
    "Id",
    "Name",
    "State",
    "OperationalStatus",
    "Generation",
    "IsClustered",
    "ConfigurationLocation",
    "SnapshotFileLocation",
    "ReplicationState",
    "Heartbeat",
    "FibreChannelHostBusAdapters",
    "IntegrationServicesVersion",
)
_GUID = re.compile(r"\{[0-9a-fA-F-]{36}\}")


class HostReader:
    """Reads one host: ``first``, ``second``, and then ``host`` and ``vms``; ``networks``: virtual switches too."""

    def __init__(self, wire: PowerShellWire, *, cluster: str = "", networks: bool = False) -> None:
        self.wire = wire
        self.name = wire.endpoint.name
        self.cluster = cluster
        self.networks = networks
        self.wave = Wave(wire)
        self._native: dict[str, tuple[str, ...]] = {}

    def first(self) -> None:
        """Begin the reads that depend on nothing."""
        read = self.wave.read
        read(
            "version",
            "Get-CimInstance",
            {"ClassName": "Win32_OperatingSystem"},
            select=("Caption", "Version", "ServicePackMajorVersion"),
        )
        for number, key in enumerate(_UNINSTALL):
            read(f"uninstall{number}", "Get-ChildItem", {"LiteralPath": key}, select=("PSPath",))
        own = [f"{f.CLUSTER_KEY if self.cluster else f.SMHV_KEY}\\{self.cluster or self.name}"]
        read("registry", "Get-ItemProperty", {"LiteralPath": [*_KEYS, *own]})
        read("credentials", "Get-ChildItem", {"LiteralPath": _SYSTEMS}, select=("PSChildName",))
        read("hotfixes", "Get-HotFix", select=("HotFixID",))
        read("services", "Get-Service", select=("Name", "Status", "StartType"))
        rules = {"Direction": "Inbound", "Action": "Allow"}
        read("ports", "Get-NetFirewallRule", rules, select=("InstanceID", "DisplayName", "Enabled"))
        read("filters", "Get-NetFirewallPortFilter", {"Protocol": "TCP"}, select=("InstanceID", "LocalPort"))
        dsm = {"Namespace": "root/WMI", "ClassName": "MPIO_REGISTERED_DSM"}
        read("dsm", "Get-CimInstance", dsm, select=("DsmParameters",))
        paths = {"Namespace": "root/WMI", "ClassName": "MPIO_DISK_INFO"}
        read("paths", "Get-CimInstance", paths, select=("DriveInfo",))
        read("initiators", "Get-InitiatorPort", select=("NodeAddress",))
        disk = (
            "Number",
            "UniqueId",
            "Guid",
            "Signature",
            "PartitionStyle",
            "BusType",
            "IsOffline",
            "OfflineReason",
            "IsBoot",
        )
        read("disks", "Get-Disk", select=(*disk, "IsClustered", "Size"))
        read("partitions", "Get-Partition", select=("DiskNumber", "GptType", "AccessPaths"))
        read("volumes", "Get-Volume", select=("Path", "AllocationUnitSize", "SizeRemaining"))
        read("encrypted", "Get-BitLockerVolume", select=("MountPoint", "ProtectionStatus"))
        read("exports", "Get-ChildItem", {"LiteralPath": _INSTALLED, "File": True}, select=("FullName",))
        events = {"LogName": ["Application", "System"], "Id": list(_EVENTS)}
        wanted = {"FilterHashtable": events, "MaxEvents": 100}
        read("events", "Get-WinEvent", wanted, select=("Id", "ProviderName", "TimeCreated", "Message"))
        read("vms", "Get-VM", select=_VM_FIELDS)
        read("drives", "Get-VMHardDiskDrive", {"VMName": "*"}, select=("VMId", "Path", "DiskNumber"))
        read("checkpoints", "Get-VMSnapshot", {"VMName": "*"}, select=("VMId",))
        read("integration", "Get-VMIntegrationService", {"VMName": "*"}, select=("VMId", "Id", "Enabled"))
        read("exchange", *EXCHANGE, select=EXCHANGED)
        if self.networks:
            read("switches", "Get-VMSwitch", select=("Name",))
            read("adapters", "Get-VMNetworkAdapter", {"VMName": "*"}, select=("VMId", "SwitchName"))

    def second(self) -> None:
        """Begin the reads that need what the first ones found."""
        keys = [str(r["PSPath"]) for n in range(len(_UNINSTALL)) for r in self.wave[f"uninstall{n}"]]
        if keys:
            paths = [_registry_path(key) for key in keys]
            self.wave.read("software", "Get-ItemProperty", {"LiteralPath": paths})
        files = [str(r["Path"]) for r in self.wave["drives"] if r["DiskNumber"] is None and r["Path"]]
        if files:
            select = ("Path", "VhdFormat", "VhdType", "Size", "FileSize", "ParentPath")
            self.wave.read("vhds", "Get-VHD", {"Path": files}, select=select)

    def programs(self) -> None:
        """Ask ``vssadmin.exe`` for providers and shadow copies: GUIDs and volumes are taken from it, no words."""
        for what in ("providers", "shadows"):
            try:
                self._native[what] = self.wire.native("vssadmin.exe", "list", what).lines
            except PowerShellError as error:
                self.wave.unknown[what] = error.message

    def host(self) -> f.Host:
        """What is known of the host."""
        wave = self.wave
        system = next(iter(wave["version"]), None)
        registry = _registry(wave["registry"])
        if not wave["registry"] and any(e.error_id != "PathNotFound" for e in wave["registry"].errors):
            wave.unknown["registry"] = wave["registry"].errors[0].message
        return f.Host(
            name=self.name,
            cluster=self.cluster,
            caption=str(system["Caption"]) if system else "",
            version=str(system["Version"]) if system else "6.2",
            service_pack=int(system["ServicePackMajorVersion"] or 0) if system else 0,
            software=_software(wave["software"]),
            hotfixes=frozenset(str(r["HotFixID"]).upper() for r in wave["hotfixes"]),
            services=tuple(
                f.Service(name=str(r["Name"]), status=str(r["Status"]), start=str(r["StartType"]))
                for r in wave["services"]
            ),
            ports=_ports(wave["ports"], wave["filters"]),
            providers=_providers(self._native.get("providers", ())),
            shadows=_shadows(self._native.get("shadows", ())),
            events=tuple(_event(r) for r in wave["events"]),
            registry=registry,
            dsm=_dsm(wave["dsm"]),
            unmap=registry.get(f"{f.FILE_SYSTEM_KEY}\\DisableDeleteNotification".casefold()) == "0",
            odx=registry.get(f"{f.FILE_SYSTEM_KEY}\\FilterSupportedFeaturesMode".casefold()) == "0",
            paths=_paths(wave["paths"]),
            initiators=tuple(str(r["NodeAddress"]) for r in wave["initiators"]),
            disks=_disks(wave["disks"], wave["partitions"], wave["volumes"]),
            encrypted=tuple(str(r["MountPoint"]) for r in wave["encrypted"] if str(r["ProtectionStatus"]) == "On"),
            exports=tuple(p for r in wave["exports"] if _EXPORT.search(p := str(r["FullName"]))),
            credentials=frozenset(str(r["PSChildName"]) for r in wave["credentials"]),
            switches=frozenset(str(r["Name"]) for r in wave["switches"]),
            unknown=dict(wave.unknown),
        )

    def vms(self) -> list[f.Vm]:
        """The VMs that are registered on the host."""
        vhds = {str(r["Path"]).casefold(): r for r in self.wave["vhds"]}
        drives = _by_vm(self.wave["drives"])
        checkpoints = _by_vm(self.wave["checkpoints"])
        services, adapters = _by_vm(self.wave["integration"]), _by_vm(self.wave["adapters"])
        told = told_by_guests(self.wave["exchange"])
        found = []
        for record in self.wave["vms"]:
            identity = str(record["Id"])
            enabled = {_component(r): bool(r["Enabled"]) for r in services.get(identity, ())}
            found.append(
                f.Vm(
                    id=identity,
                    name=str(record["Name"]),
                    host=self.name,
                    state=str(record["State"]),
                    status=tuple(str(s) for s in record["OperationalStatus"] or ()),
                    generation=int(record["Generation"]),
                    clustered=bool(record["IsClustered"]),
                    configuration=str(record["ConfigurationLocation"] or "").rstrip("\\"),
                    checkpoint_folder=str(record["SnapshotFileLocation"] or "").rstrip("\\"),
                    checkpoints=len(checkpoints.get(identity, ())),
                    replication=str(record["ReplicationState"]),
                    heartbeat=str(record["Heartbeat"] or ""),
                    guest_os=_system(told.get(identity.lower(), {})),
                    integration=str(record["IntegrationServicesVersion"] or ""),
                    disks=tuple(_vhd(r, vhds) for r in drives.get(identity, ())),
                    disabled=tuple(name for key, name in _SERVICES.items() if enabled.get(key) is False),
                    vss=enabled.get(_VSS_SERVICE) if enabled else None,
                    fibre_channel=len(record["FibreChannelHostBusAdapters"] or ()),
                    switches=tuple(str(r["SwitchName"]) for r in adapters.get(identity, ()) if r["SwitchName"]),
                )
            )
        return found


def _by_vm(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(str(record["VMId"]), []).append(record)
    return found


def _system(told: Mapping[str, str]) -> str:
    """The system that a guest says it is, e.g. ``Windows Server 2008 R2 Standard SP1``; "" if it does not say."""
    pack = told.get("CSDVersion", "").replace("Service Pack ", "SP")
    return f"{told.get('OSName', '')} {pack}".strip()


def _component(record: Record) -> str:
    return str(record["Id"]).rpartition("\\")[2].upper()


def _vhd(drive: Record, vhds: Mapping[str, Record]) -> f.Vhd:
    path, number = str(drive["Path"] or ""), drive["DiskNumber"]
    info = vhds.get(path.casefold())
    if number is not None or info is None:
        return f.Vhd(path=path, disk_number=None if number is None else int(number), format="", type="")
    return f.Vhd(
        path=path,
        format=str(info["VhdFormat"]),
        type=str(info["VhdType"]),
        size=int(info["Size"]),
        file_size=int(info["FileSize"]),
        parent=str(info["ParentPath"] or ""),
    )


def _registry_path(path: str) -> str:
    return path.partition("::")[2].replace("HKEY_LOCAL_MACHINE", "HKLM:", 1) or path


def _registry(records: Sequence[Record]) -> dict[str, str]:
    found = {}
    for record in records:
        key = _registry_path(str(record["PSPath"]))
        for name, value in record.items():
            if not name.startswith("PS"):
                found[f"{key}\\{name}".casefold()] = str(value)
    return found


def _software(records: Sequence[Record]) -> tuple[f.Program, ...]:
    found = (
        f.Program(name=str(r["DisplayName"]), version=str(r.get("DisplayVersion", "")))
        for r in records
        if "DisplayName" in r
    )
    return tuple(sorted(found, key=lambda program: program.name))


def _ports(rules: Sequence[Record], filters: Sequence[Record]) -> tuple[f.Port, ...]:
    numbers = {str(r["InstanceID"]): r["LocalPort"] for r in filters}
    found = []
    for rule in rules:
        local = numbers.get(str(rule["InstanceID"]))
        for number in _numbers(local):
            found.append(f.Port(number=number, name=str(rule["DisplayName"]), enabled=str(rule["Enabled"]) == "True"))
    return tuple(found)


def _numbers(local: object) -> list[int]:
    """The ports of a filter: one, several, or a range; what is no number (``Any``, ``RPC``) is left out."""
    texts = local if isinstance(local, list) else [local]
    found: list[int] = []
    for text in texts:
        first, _, last = str(text).partition("-")
        if first.isdecimal() and (last.isdecimal() or not last):
            found += range(int(first), int(last or first) + 1)
    return found


def _providers(lines: Sequence[str]) -> tuple[f.Provider, ...]:
    """One provider for each GUID; its name is the quoted text before."""
    found, name = [], ""
    for line in lines:
        if "'" in line:
            name = line.split("'")[1]
        if match := _GUID.search(line):
            found.append(f.Provider(id=match[0].lower(), name=name))
    return tuple(found)


def _shadows(lines: Sequence[str]) -> tuple[f.Shadow, ...]:
    """One shadow copy for each volume; its provider is the first quoted text after it."""
    found: list[f.Shadow] = []
    volume = ""
    for line in lines:
        start = line.find("\\\\?\\Volume{")
        if start >= 0:
            volume = line[start:].strip()
        elif volume and "'" in line:
            found.append(f.Shadow(volume=volume, provider=line.split("'")[1]))
            volume = ""
    return tuple(found)


def _event(record: Record) -> f.Event:
    return f.Event(
        id=int(record["Id"]),
        source=str(record["ProviderName"]),
        time=record["TimeCreated"],
        message=str(record["Message"] or ""),
    )


def _dsm(records: Sequence[Record]) -> str:
    names = [_text(p, "DsmName") for r in records for p in r["DsmParameters"] or ()]
    return ", ".join(names)


def _paths(records: Sequence[Record]) -> dict[str, int]:
    drives: list[Any] = [d for r in records for d in r["DriveInfo"] or () if isinstance(d, Record)]
    return {str(d["SerialNumber"]): int(d["NumberPaths"]) for d in drives}


def _text(value: object, name: str) -> str:
    return str(value[name]) if isinstance(value, Record) and name in value else str(value)


def _disks(disks: Sequence[Record], partitions: Sequence[Record], volumes: Sequence[Record]) -> tuple[f.Disk, ...]:
    access: dict[int, list[str]] = {}
    for partition in partitions:
        access.setdefault(int(partition["DiskNumber"]), []).extend(str(p) for p in partition["AccessPaths"] or ())
    systems = {str(r["Path"]): r for r in volumes}
    found = []
    for record in disks:
        every = access.get(int(record["Number"]), [])
        inside = tuple(path for path in every if path.startswith("\\\\?\\Volume"))
        system = next((systems[path] for path in inside if path in systems), None)
        found.append(
            f.Disk(
                number=int(record["Number"]),
                unique_id=str(record["UniqueId"] or "").upper(),
                guid=identity(record),
                style=str(record["PartitionStyle"]),
                bus=str(record["BusType"]),
                offline=bool(record["IsOffline"]),
                offline_reason=str(record["OfflineReason"] or ""),
                boot=bool(record["IsBoot"]),
                clustered=bool(record["IsClustered"]),
                size=int(record["Size"] or 0),
                paths=tuple(path for path in every if path not in inside),
                volumes=inside,
                unit=int(system["AllocationUnitSize"] or 0) if system else 0,
                free=int(system["SizeRemaining"] or 0) if system else 0,
            )
        )
    return tuple(found)
