"""What is installed on a host: hotfixes, firewall rules, MPIO, BitLocker, and CIM classes of adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets.item import matches
from labenv.windows.cmdlets.targets import objects, prop, texts
from labenv.windows.errors import cim_not_found
from labenv.windows.inventory import Port
from labenv.windows.objects import PsList, PsObject, UInt16, UInt32, UInt64
from labenv.windows.shapes_storage import cim, strings

if TYPE_CHECKING:
    from labenv.windows.host import Host

_INSTALLED = datetime(2013, 1, 15, tzinfo=UTC)


def get_hot_fix(host: Host, call: Call) -> Sequence[object]:
    """Get-HotFix, by id or all."""
    wanted = texts(call.get("Id"))
    known = host.inventory.record.hotfixes
    found = [h for h in known if not wanted or any(matches(h, w) for w in wanted)]
    if wanted and not found:
        call.error(
            PsError(
                f"Cannot find the requested hotfix on the '{host.name}' computer.",
                error_id="GetHotFixNoEntriesFound",
                category="ObjectNotFound",
                exception="System.ArgumentException",
            )
        )
    return [_hotfix(host, h) for h in found]


def _hotfix(host: Host, identity: str) -> PsObject:
    properties: dict[str, object] = {
        "CSName": host.name.upper(),
        "Description": "Update",
        "FixComments": "",
        "HotFixID": identity,
        "InstallDate": None,
        "InstalledBy": "NT AUTHORITY\\SYSTEM",
        "Name": None,
        "ServicePackInEffect": "",
        "Status": None,
    }
    types = [
        "System.Management.ManagementObject#root\\cimv2\\Win32_QuickFixEngineering",
        "System.Management.ManagementObject",
        "System.Object",
    ]
    return PsObject(types, properties, {"InstalledOn": _INSTALLED}, text=f"Win32_QuickFixEngineering ({identity})")


# -- firewall ----------------------------------------------------------------------------------------------------


def _rule_name(rule: Port) -> str:
    return f"{rule.name.replace(' ', '-')}-{rule.protocol}-{rule.port}"


def _firewall(class_name: str, properties: dict[str, object], notes: dict[str, object]) -> PsObject:
    return cim(class_name, properties, notes, space="standardcimv2")


def get_net_firewall_rule(host: Host, call: Call) -> Sequence[object]:
    """Get-NetFirewallRule by name, display name, or all; -Enabled, -Direction and -Action narrow it."""
    rules = host.inventory.record.port
    for parameter in ("Name", "DisplayName"):
        if parameter in call:
            found: list[Port] = []
            for wanted in texts(call[parameter]):
                hits = [r for r in rules if matches(_rule_name(r) if parameter == "Name" else r.name, wanted)]
                if not hits:
                    property_name = "InstanceID" if parameter == "Name" else "DisplayName"
                    call.error(cim_not_found("MSFT_NetFirewallRule", property_name, wanted))
                found += [h for h in hits if h not in found]
            return [_rule(r) for r in found]
    enabled = texts(call.get("Enabled"))
    if any(d != "Inbound" for d in texts(call.get("Direction"))) or "Block" in texts(call.get("Action")):
        return []
    return [_rule(r) for r in rules if not enabled or str(r.enabled) in enabled]


def _rule(rule: Port) -> PsObject:
    name = _rule_name(rule)
    properties: dict[str, object] = {
        "Name": name,
        "DisplayName": rule.name,
        "Description": None,
        "DisplayGroup": None,
        "Group": None,
        "Enabled": UInt16(1 if rule.enabled else 2),
        "Profile": UInt16(0),
        "Direction": UInt16(1),
        "Action": UInt16(2),
        "EdgeTraversalPolicy": UInt16(0),
        "InstanceID": name,
        "PolicyStoreSource": "PersistentStore",
        "PSComputerName": None,
    }
    notes: dict[str, object] = {
        "Enabled": str(rule.enabled),
        "Profile": "Any",
        "Direction": "Inbound",
        "Action": "Allow",
        "EdgeTraversalPolicy": "Block",
    }
    return _firewall("MSFT_NetFirewallRule", properties, notes)


def get_net_firewall_port_filter(host: Host, call: Call) -> Sequence[object]:
    """Get-NetFirewallPortFilter; InstanceID is that of the rule."""
    protocols = [p.upper() for p in texts(call.get("Protocol"))]
    rules = [r for r in host.inventory.record.port if not protocols or r.protocol in protocols]
    wanted = {str(prop(i, "InstanceID")) for i in objects(call, "AssociatedNetFirewallRule")}
    return [
        _firewall(
            "MSFT_NetProtocolPortFilter",
            {
                "Protocol": rule.protocol,
                "LocalPort": str(rule.port),
                "RemotePort": "Any",
                "IcmpType": "Any",
                "DynamicTarget": UInt32(0),
                "InstanceID": _rule_name(rule),
                "PSComputerName": None,
            },
            {"DynamicTarget": "Any"},
        )
        for rule in rules
        if not wanted or _rule_name(rule) in wanted
    ]


# -- MPIO --------------------------------------------------------------------------------------------------------


def get_mpio_setting(_host: Host, _call: Call) -> Sequence[object]:
    """Get-MPIOSetting: with the values that NetApp's host utilities set."""
    properties: dict[str, object] = {
        "PathVerificationState": "Enabled",
        "PathVerificationPeriod": 30,
        "PDORemovePeriod": 130,
        "RetryCount": 6,
        "RetryInterval": 1,
        "UseCustomPathRecoveryTime": "Enabled",
        "CustomPathRecoveryTime": 30,
        "DiskTimeoutValue": 60,
    }
    return [PsObject(["System.Management.Automation.PSCustomObject", "System.Object"], {}, properties)]


def get_msdsm_supported_hw(host: Host, call: Call) -> Sequence[object]:
    """Get-MSDSMSupportedHW: what Microsoft's DSM claims; nothing of NetApp where Data ONTAP DSM does."""
    pairs = [("Vendor 8", "Product       16")]
    if host.inventory.record.dsm == "MSDSM":
        pairs += [("MSFT2005", "iSCSIBusType_0x9"), ("NETAPP", "LUN C-Mode")]
    vendors, products = texts(call.get("VendorId")), texts(call.get("ProductId"))
    return [
        cim(
            "MSFT_MSDSM_SUPPORTED_HW",
            {"VendorId": v, "ProductId": p, "PSComputerName": None},
            space="Microsoft/Windows/MPIO",
        )
        for v, p in pairs
        if (not vendors or any(matches(v, w) for w in vendors))
        and (not products or any(matches(p, w) for w in products))
    ]


def get_msdsm_automatic_claim_settings(host: Host, _call: Call) -> Sequence[object]:
    """Get-MSDSMAutomaticClaimSettings."""
    return [{"SAS": False, "iSCSI": host.inventory.record.dsm == "MSDSM"}]


def get_msdsm_policy(host: Host, _call: Call) -> Sequence[object]:
    """Get-MSDSMGlobalDefaultLoadBalancePolicy."""
    return ["RR" if host.inventory.record.dsm == "MSDSM" else "None"]


def get_mpio_available_hw(host: Host, _call: Call) -> Sequence[object]:
    """Get-MPIOAvailableHW: the storage that could be claimed."""
    if not any(d.kind == "iscsi" for d in host.disks.present()):
        return []
    properties: dict[str, object] = {
        "BusType": UInt16(9),
        "IsMultipathed": len(host.initiator.sessions) > 1,
        "IsSPC3Supported": True,
        "ProductId": "LUN C-Mode",
        "VendorId": "NETAPP",
        "PSComputerName": None,
    }
    return [cim("MSFT_MPIO_AVAILABLE_HW", properties, {"BusType": "iSCSI"}, space="Microsoft/Windows/MPIO")]


# -- BitLocker ---------------------------------------------------------------------------------------------------


def get_bit_locker_volume(host: Host, call: Call) -> Sequence[object]:
    """Get-BitLockerVolume by mount point, or all."""
    encrypted = [p.rstrip("\\").lower() for p in host.inventory.record.bitlocker]
    found = {}
    for volume in host.volumes.all():
        for path in volume.access_paths[:1]:
            found[path.rstrip("\\").lower()] = (path.rstrip("\\"), volume)
    wanted = [p.rstrip("\\").lower() for p in texts(call.get("MountPoint"))]
    for path in wanted:
        if path not in found:
            call.error(
                PsError(
                    f"No volume was found at the mount point '{path}'.",
                    error_id="System.Runtime.InteropServices.COMException",
                    category="NotSpecified",
                    target=path,
                    exception="System.Runtime.InteropServices.COMException",
                )
            )
    output: list[object] = []
    for key, (path, volume) in found.items():
        if wanted and key not in wanted:
            continue
        on = key in encrypted
        system = host.volumes.formatted(volume)
        properties: dict[str, object] = {
            "ComputerName": host.name.upper(),
            "MountPoint": path,
            "EncryptionMethod": "Aes128" if on else "None",
            "AutoUnlockEnabled": on or None,
            "AutoUnlockKeyStored": None,
            "MetadataVersion": 2 if on else 0,
            "VolumeStatus": "FullyEncrypted" if on else "FullyDecrypted",
            "ProtectionStatus": "On" if on else "Off",
            "LockStatus": "Unlocked",
            "EncryptionPercentage": 100 if on else 0,
            "WipePercentage": 0,
            "VolumeType": "OperatingSystem" if path == "C:" else "Data",
            "CapacityGB": round((system.size if system is not None else 0) / (1 << 30), 2),
            "KeyProtector": PsList("System.Object[]", []),
        }
        types = ["Microsoft.BitLocker.Structures.BitLockerVolume", "System.Object"]
        output.append(PsObject(types, properties, text="Microsoft.BitLocker.Structures.BitLockerVolume"))
    return output


# -- CIM classes -------------------------------------------------------------------------------------------------


def _adapters(host: Host) -> list[PsObject]:
    return [
        cim(
            "MSFC_FCAdapterHBAAttributes",
            {
                "Active": True,
                "DriverName": a.name,
                "DriverVersion": a.driver,
                "FirmwareVersion": a.firmware,
                "InstanceName": f"PCI\\{a.name}",
                "Manufacturer": a.model.partition(" ")[0],
                "Model": a.model,
                "NodeWWN": PsList("System.Byte[]", list(bytes.fromhex(a.wwpn.replace(":", ""))) if a.wwpn else []),
                "PSComputerName": None,
            },
            space="WMI",
        )
        for a in host.inventory.record.adapter
    ]


def _dsm(host: Host) -> list[PsObject]:
    name, version = host.inventory.record.dsm, host.inventory.record.dsm_version
    versions = {"MSDSM": host.spec.version, "Data ONTAP DSM": "3.5.1203.0"}
    parameters: dict[str, object] = {"DsmName": name, "DsmVersion": version or versions.get(name, "1.0")}
    item = PsObject(["System.Management.ManagementBaseObject#DSM_PARAMETERS", "System.Object"], parameters, text=name)
    properties: dict[str, object] = {
        "Active": True,
        "InstanceName": "Root\\MPIO\\0000_0",
        "NumberDSMs": UInt32(1),
        "DsmParameters": PsList("Microsoft.Management.Infrastructure.CimInstance[]", [item]),
        "PSComputerName": None,
    }
    return [cim("MPIO_REGISTERED_DSM", properties, space="WMI")]


def _disk_paths(host: Host) -> list[PsObject]:
    alive = [s for s in host.initiator.sessions.values() if host.initiator.reaches(s)]
    drives = []
    for disk in host.disks.present():
        if disk.kind != "iscsi":
            continue
        values: dict[str, object] = {
            "Name": f"MPIO Disk{disk.number}",
            "SerialNumber": disk.serial,
            "NumberPaths": UInt32(len(alive)),
            "DsmName": host.inventory.record.dsm,
            "Portals": strings([s.portal for s in alive]),
        }
        drives.append(PsObject(["System.Management.ManagementBaseObject#MPIO_DRIVE_INFO", "System.Object"], values))
    properties: dict[str, object] = {
        "Active": True,
        "InstanceName": "Root\\MPIO\\0000_0",
        "NumberDrives": UInt32(len(drives)),
        "DriveInfo": PsList("Microsoft.Management.Infrastructure.CimInstance[]", drives),
        "PSComputerName": None,
    }
    return [cim("MPIO_DISK_INFO", properties, space="WMI")]


def _hotfixes(host: Host) -> list[PsObject]:
    return [
        cim(
            "Win32_QuickFixEngineering",
            {"CSName": host.name.upper(), "Description": "Update", "HotFixID": h, "PSComputerName": None},
            space="cimv2",
        )
        for h in host.inventory.record.hotfixes
    ]


def _physical_memory(host: Host) -> list[PsObject]:
    properties: dict[str, object] = {"Capacity": UInt64(host.spec.memory), "Tag": "Memory 0", "PSComputerName": None}
    return [cim("Win32_PhysicalMemory", properties, space="cimv2")]


CLASSES: Mapping[str, Callable[[Host], list[PsObject]]] = {
    "msfc_fcadapterhbaattributes": _adapters,
    "mpio_registered_dsm": _dsm,
    "mpio_disk_info": _disk_paths,
    "win32_quickfixengineering": _hotfixes,
    "win32_physicalmemory": _physical_memory,
}
"""Classes of Get-CimInstance that show the inventory, by their name in lower case."""

COMMANDS: Mapping[str, Cmdlet] = {
    "Get-HotFix": get_hot_fix,
    "Get-NetFirewallRule": get_net_firewall_rule,
    "Get-NetFirewallPortFilter": get_net_firewall_port_filter,
    "Get-MPIOSetting": get_mpio_setting,
    "Get-MPIOAvailableHW": get_mpio_available_hw,
    "Get-MSDSMSupportedHW": get_msdsm_supported_hw,
    "Get-MSDSMAutomaticClaimSettings": get_msdsm_automatic_claim_settings,
    "Get-MSDSMGlobalDefaultLoadBalancePolicy": get_msdsm_policy,
    "Get-BitLockerVolume": get_bit_locker_volume,
}
"""The cmdlets of this module."""
