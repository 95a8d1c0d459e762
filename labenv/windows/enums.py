"""Enumerations of the Hyper-V modules with the numbers that they have on the wire."""

from __future__ import annotations

from functools import cache

from labenv.windows.objects import PsEnum

_HYPERV: dict[str, dict[str, int]] = {
    "VMState": {
        "Other": 1,
        "Running": 2,
        "Off": 3,
        "Stopping": 4,
        "Saved": 6,
        "Paused": 9,
        "Starting": 10,
        "Saving": 32773,
        "OffCritical": 32786,
        "SavedCritical": 32788,
        "PausedCritical": 32789,
    },
    "VMOperationalStatus": {
        "Ok": 2,
        "Degraded": 3,
        "CreatingSnapshot": 32768,
        "DeletingSnapshot": 32770,
        "MergingDisks": 32772,
        "MigratingVirtualMachine": 32774,
        "StorageMigrationPhaseOne": 32778,
        "StorageMigrationPhaseTwo": 32779,
        "BackingUpVirtualMachine": 32776,
        "CriticalIoError": 32795,
    },
    "CheckpointType": {"Disabled": 2, "Production": 3, "ProductionOnly": 4, "Standard": 5},
    "SnapshotType": {"Standard": 0, "Recovery": 1, "Planned": 2, "Missing": 5, "Replica": 6},
    "ControllerType": {"IDE": 0, "SCSI": 1},
    "StartAction": {"Nothing": 2, "StartIfRunning": 3, "Start": 4},
    "StopAction": {"TurnOff": 2, "Save": 3, "ShutDown": 4},
    "CriticalErrorAction": {"None": 0, "Pause": 1},
    "VMHeartbeatStatus": {"Unknown": 0, "Disabled": 1, "NoContact": 2, "OkApplicationsUnknown": 5},
    "VMSwitchType": {"Private": 0, "Internal": 1, "External": 2},
    "VirtualMachineType": {"RealizedVirtualMachine": 3, "PlannedVirtualMachine": 4},
    "VirtualMachineSubType": {"Generation1": 1, "Generation2": 2},
    "VMReplicationState": {"Disabled": 0, "Replicating": 4},
    "VMReplicationMode": {"None": 0, "Primary": 1},
    "VMReplicationHealthState": {"NotApplicable": 0, "Normal": 1},
    "OperationType": {"ImportVirtualMachine": 0, "MigrateVirtualMachine": 1},
    "VMIntegrationComponentOperationalStatus": {"Ok": 2, "NoContact": 12, "Disabled": 32896},
    "DvdMediaType": {"None": 0, "ISO": 1},
    "OnOffState": {"On": 0, "Off": 1},
    "BootDevice": {"Floppy": 0, "CD": 1, "IDE": 2, "LegacyNetworkAdapter": 3, "NetworkAdapter": 4, "VHD": 5},
    "BootSourceType": {"Unknown": 0, "Drive": 1, "Network": 2, "File": 3},
    "ConsoleModeType": {"Default": 0, "COM1": 1, "COM2": 2, "None": 3},
    "IPProtocolPreference": {"IPv4": 0, "IPv6": 1},
    "ReplicationAuthenticationType": {"Kerberos": 1, "Certificate": 2},
    "VMReplicationRelationshipType": {"Simple": 0, "Extended": 1},
    "VMProcessorOperationalStatus": {"Ok": 2},
}
_VHD = {
    "VhdFormat": {"VHD": 2, "VHDX": 3},
    "VhdType": {"Fixed": 2, "Dynamic": 3, "Differencing": 4},
}


@cache
def hyperv(kind: str, name: str) -> PsEnum:
    """A value of an enumeration in Microsoft.HyperV.PowerShell; KeyError if there is none of that name."""
    return PsEnum(f"Microsoft.HyperV.PowerShell.{kind}", name, _HYPERV[kind][name])


def vhd(kind: str, name: str) -> PsEnum:
    """A value of an enumeration in Microsoft.Vhd.PowerShell."""
    return PsEnum(f"Microsoft.Vhd.PowerShell.{kind}", name, _VHD[kind][name])


def system(kind: str, name: str, value: int) -> PsEnum:
    """A value of any other enumeration, by its full type name."""
    return PsEnum(kind, name, value)
