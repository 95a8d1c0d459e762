"""What is installed on a host besides its roles: software, hotfixes, services, ports, adapters. It can be read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from labenv.windows.records import ServiceRecord

if TYPE_CHECKING:
    from labenv.ids import Ids
    from labenv.state import State
    from labenv.windows.registry import Registry
    from labenv.windows.spec import HostSpec

UNINSTALL = "HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Uninstall"
SMHV = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\OnCommandHyperV\\Parameters"
EVENT_SOURCES = ("SnapMgrServiceHost", "Navssprv", "SnapDrive", "VSS")
"""Sources that may write to the Application log; the first is SnapManager's."""
LICENCES = "HKLM:\\SOFTWARE\\NetApp\\SnapDrive\\Licenses"
"""Licences on the host, by name; the place is the lab's choice."""


PROVIDER_NAME = "Data ONTAP VSS Hardware Provider"
"""Of the provider and of its service."""
VSS_PROVIDERS = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\VSS\\Providers"
"""Where an installation registers its VSS provider, in a key of the provider's id."""
DATA_ONTAP = UUID("ddd3d232-a96f-4ac5-8f7b-250fd91fd102")
"""Id of the hardware provider that comes with SnapDrive for Windows."""


@dataclass(frozen=True)
class Software:
    """An installed program as the Uninstall key of the registry has it."""

    name: str
    version: str
    publisher: str = "NetApp"


@dataclass(frozen=True)
class Port:
    """An inbound rule of the firewall. ``enabled`` False: the port is closed."""

    name: str
    port: int
    protocol: str = "TCP"
    enabled: bool = True


@dataclass(frozen=True)
class Adapter:
    """A Fibre Channel or iSCSI host bus adapter."""

    name: str
    model: str
    driver: str
    firmware: str
    wwpn: str = ""


@dataclass(frozen=True)
class Value:
    """A registry value; ``type`` is the name of the RegistryValueKind."""

    path: str
    name: str
    value: str
    type: str = "String"


@dataclass(frozen=True)
class Inventory:
    """What a host has. An empty field means what is usual for its era; ``none`` in a list of names means nothing.

    Attributes:
        hosts: names of the hosts; empty: every host.
        hotfixes: ids such as ``KB2770917``.
        services: services that differ from the usual ones, or that are added.
        bitlocker: mount points of encrypted volumes, e.g. ``C:\\ClusterStorage\\Volume1``.
        dsm: ``MSDSM`` or ``Data ONTAP DSM``; dsm_version: its version.
        licence: licences that SnapDrive keeps on the host, such as ``SnapManager for Hyper-V`` (those of the storage
            system are the cluster's).
        unmap: ``on`` or ``off``: whether Windows gives the space of deleted files back by itself.
    """

    hosts: tuple[str, ...] = ()
    software: tuple[Software, ...] = ()
    hotfixes: tuple[str, ...] = ()
    port: tuple[Port, ...] = ()
    service: tuple[ServiceRecord, ...] = ()
    adapter: tuple[Adapter, ...] = ()
    registry: tuple[Value, ...] = ()
    bitlocker: tuple[str, ...] = ()
    dsm: str = ""
    unmap: str = ""
    dsm_version: str = ""
    licence: tuple[str, ...] = ()

    def changed_by(self, other: Inventory) -> Inventory:
        """This inventory with what another one says put over it; things of a name replace each other."""
        return Inventory(
            hosts=other.hosts,
            software=_over(self.software, other.software),
            hotfixes=other.hotfixes or self.hotfixes,
            port=_over(self.port, other.port),
            service=_over(self.service, other.service),
            adapter=_over(self.adapter, other.adapter),
            registry=(*self.registry, *other.registry),
            bitlocker=other.bitlocker or self.bitlocker,
            dsm=other.dsm or self.dsm,
            unmap=other.unmap or self.unmap,
            dsm_version=other.dsm_version or self.dsm_version,
            licence=other.licence or self.licence,
        )


_PORTS = (
    Port("SnapManager for Hyper-V (Net.Tcp)", 808),
    Port("SnapDrive web service (HTTP)", 4094),
    Port("SnapDrive web service (HTTPS)", 4095),
    Port("Windows Remote Management (HTTPS-In)", 5986),
    Port("Failover Clusters (RPC-EPMAP)", 135),
    Port("Hyper-V Live Migration (TCP-In)", 6600),
)

USUAL: dict[str, Inventory] = {
    "2008r2": Inventory(
        software=(
            Software("SnapManager 1.1 for Hyper-V", "1.1.0.2430"),
            Software("SnapDrive", "6.4.1.4823"),
            Software("Data ONTAP DSM for Windows MPIO", "3.5.0.1203"),
            Software("Microsoft .NET Framework 3.5.1", "3.5.30729.4926", "Microsoft Corporation"),
        ),
        hotfixes=("KB975921", "KB974909", "KB975354", "KB979743", "KB976932", "KB2406705", "KB978157"),
        port=_PORTS,
        dsm="Data ONTAP DSM",
        unmap="off",
    ),
    "2012": Inventory(
        software=(
            Software("SnapManager 1.2 for Hyper-V", "1.2.0.3082"),
            Software("SnapDrive", "6.5.0.4917"),
            Software("NetApp Windows Host Utilities", "6.0.1.1"),
            Software("Microsoft .NET Framework 3.5", "3.5.30729.7903", "Microsoft Corporation"),
            Software("Microsoft .NET Framework 4.5", "4.5.50709.17929", "Microsoft Corporation"),
        ),
        hotfixes=("KB2770917", "KB2779768", "KB2784261", "KB2791338", "KB2796995"),
        port=_PORTS,
        dsm="MSDSM",
        unmap="off",  # Windows Host Utilities 6.0.1 switches it off (TR 11.1)
    ),
    "2022": Inventory(
        software=(
            Software("SnapCenter Plug-in for Microsoft Windows", "6.1.0.0"),
            Software("NetApp Windows Unified Host Utilities", "7.2.1.1"),
            Software("Microsoft .NET Framework 4.8", "4.8.04161", "Microsoft Corporation"),
        ),
        hotfixes=("KB5031364", "KB5031605"),
        port=_PORTS,
        dsm="MSDSM",
        unmap="on",
    ),
}
"""What hosts of an era have unless a topology says otherwise."""

VMMS, ISCSI, VDS, WINRM = "vmms", "MSiSCSI", "vds", "WinRM"
"""Names of the services without which other things of the host do not work."""

_SERVICES = (
    ServiceRecord(VMMS, "Hyper-V Virtual Machine Management"),
    ServiceRecord(ISCSI, "Microsoft iSCSI Initiator Service"),
    ServiceRecord("VSS", "Volume Shadow Copy", "Stopped", "Manual"),
    ServiceRecord("swprv", "Microsoft Software Shadow Copy Provider", "Stopped", "Manual"),
    ServiceRecord(VDS, "Virtual Disk", "Running", "Manual"),
    ServiceRecord(WINRM, "Windows Remote Management (WS-Management)"),
    ServiceRecord("EventLog", "Windows Event Log"),
    ServiceRecord("MpsSvc", "Windows Firewall"),
    ServiceRecord("Navssprv", PROVIDER_NAME, "Running", "Manual"),
    ServiceRecord("OnCommandHyperV", "SnapManager for Hyper-V"),
    ServiceRecord("SWSvc", "SnapDrive"),
    ServiceRecord("SDMgmtSvc", "SnapDrive Management Service"),
)
CLUSTER_SERVICE = ServiceRecord("ClusSvc", "Cluster Service")


@dataclass(frozen=True)
class InventoryRecord:
    """A host's inventory in the state."""

    inventory: Inventory = field(default_factory=Inventory)


class HostInventory:
    """The inventory of one host, and its services, which can be started, stopped and disabled."""

    def __init__(self, *, spec: HostSpec, state: State, registry: Registry, ids: Ids) -> None:
        self._spec = spec
        self._registry = registry
        self._ids = ids
        self._record = state.table(f"windows.{spec.name}.inventory", InventoryRecord)
        self.services = state.table(f"windows.{spec.name}.service", ServiceRecord)

    @property
    def record(self) -> Inventory:
        """What the host has."""
        found = self._record.get("inventory")
        return found.inventory if found is not None else USUAL[self._spec.era]

    def install(self, given: Inventory) -> None:
        """Put the usual things of the host's era there, changed by what a topology says."""
        usual = USUAL[self._spec.era]
        made = replace(
            given,
            software=_listed(given.software, usual.software),
            hotfixes=tuple(h for h in given.hotfixes or usual.hotfixes if h != "none"),
            port=_listed(given.port, usual.port),
            dsm=given.dsm or usual.dsm,
            unmap=given.unmap or usual.unmap,
        )
        self._record["inventory"] = InventoryRecord(made)
        self.services.clear()
        clustered = (CLUSTER_SERVICE,) if self._spec.cluster is not None else ()
        for service in (*_SERVICES, *clustered, *given.service):
            self.services[service.name.lower()] = service
        for program in made.software:
            key = f"{UNINSTALL}\\{{{str(self._ids.uuid('software', self._spec.name, program.name)).upper()}}}"
            for name, value in (
                ("DisplayName", program.name),
                ("DisplayVersion", program.version),
                ("Publisher", program.publisher),
            ):
                self._registry.set(key, name, "String", value)
        for source in EVENT_SOURCES:
            self._registry.make(f"HKLM:\\SYSTEM\\CurrentControlSet\\Services\\EventLog\\Application\\{source}")
        self._registry.set(f"{VSS_PROVIDERS}\\{{{DATA_ONTAP}}}", "(default)", "String", PROVIDER_NAME)
        self._registry.set(SMHV, "vss_retry", "DWord", "3")
        self._registry.set(SMHV, "vss_retry_sleep", "DWord", "60")
        for licence in made.licence:
            self._registry.set(LICENCES, licence, "String", "Installed")
        off = "0" if made.unmap == "on" else "1"
        system = "HKLM:\\SYSTEM\\CurrentControlSet\\Control\\FileSystem"
        self._registry.set(system, "DisableDeleteNotification", "DWord", off)
        for each in made.registry:
            self._registry.set(each.path, each.name, each.type, each.value)

    def set_hotfixes(self, hotfixes: tuple[str, ...]) -> None:
        """Install or remove hotfixes."""
        self._record["inventory"] = InventoryRecord(replace(self.record, hotfixes=hotfixes))

    def service(self, name: str) -> ServiceRecord | None:
        """A service by name; the cluster service runs while the node is a member."""
        return self.services.get(name.lower())

    def runs(self, name: str) -> bool:
        """Whether a service of the host runs now; one that it does not know hinders nobody."""
        found = self.service(name)
        return found is None or found.status == "Running"

    def restart(self) -> None:
        """The host has started, and so have its automatic services, but for those that a topology says are stopped."""
        stay = {each.name.lower() for each in self.record.service if each.status == "Stopped"}
        for key, service in list(self.services.items()):
            wanted = {"Automatic": "Running", "Disabled": "Stopped"}.get(service.start_type, service.status)
            if service.status != wanted and key not in stay:
                self.services[key] = replace(service, status=wanted)

    def set_service(self, name: str, **changes: object) -> ServiceRecord:
        """Change a service; KeyError if there is none of that name."""
        changed = replace(self.services[name.lower()], **changes)  # type: ignore[arg-type]
        self.services[name.lower()] = changed
        return changed


N = TypeVar("N", Software, Port, ServiceRecord, Adapter)


def _over(first: tuple[N, ...], second: tuple[N, ...]) -> tuple[N, ...]:
    """Things by name; those of the second replace those of the first."""
    found: dict[str, N] = {each.name: each for each in first}
    found.update((each.name, each) for each in second)
    return tuple(found.values())


T = TypeVar("T", bound=Software | Port)


def _listed(given: tuple[T, ...], usual: tuple[T, ...]) -> tuple[T, ...]:
    """The usual things with those of a topology in their place (by name); one without version or port is missing."""
    changed: dict[str, T] = {each.name: each for each in given}
    found = [*(changed.pop(each.name, each) for each in usual), *changed.values()]
    return tuple(each for each in found if (each.version if isinstance(each, Software) else each.port))
