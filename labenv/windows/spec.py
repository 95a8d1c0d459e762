"""What a simulated Hyper-V host is made of, before anything has happened on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from labenv.windows.inventory import Inventory


@dataclass(frozen=True)
class HostSpec:
    """A Hyper-V host.

    Attributes:
        address: management address; also the address of its iSCSI initiator portal.
        iqn: node name of its iSCSI initiator.
        era: ``2008r2``, ``2012`` or ``2022``; selects file formats and VSS behaviour, not the management surface.
        cluster: name of the failover cluster that it is a node of; None: a stand-alone host.
        system_disk: size of the local disk with drive C:, in bytes.
        inventory: what is installed on it, as far as it is not what hosts of its era usually have.
    """

    name: str
    address: str
    iqn: str
    era: str = "2012"
    domain: str = "LAB"
    user: str = "Administrator"
    password: str = field(default="", repr=False)
    cluster: str | None = None
    memory: int = 256 << 30
    processors: int = 32
    system_disk: int = 64 << 30
    inventory: Inventory = field(default_factory=Inventory)

    @property
    def fqdn(self) -> str:
        """The host's name in DNS."""
        return f"{self.name}.{self.domain.lower()}.example"

    @property
    def version(self) -> str:
        """Windows version number of the era."""
        return {"2008r2": "6.1.7601", "2012": "6.2.9200"}.get(self.era, "10.0.20348")

    @property
    def caption(self) -> str:
        """Windows product name of the era."""
        names = {
            "2008r2": "Microsoft Windows Server 2008 R2 Datacenter",
            "2012": "Microsoft Windows Server 2012 Datacenter",
        }
        return names.get(self.era, "Microsoft Windows Server 2022 Datacenter")

    @property
    def configuration_version(self) -> str:
        """Version of the VM configurations that this era writes."""
        return {"2008r2": "2.0", "2012": "4.0"}.get(self.era, "10.0")

    @property
    def configuration_versions(self) -> tuple[str, ...]:
        """Versions of VM configurations that a host of this era runs, the one that it writes last."""
        return {"2008r2": ("2.0",), "2012": ("4.0",)}.get(self.era, ("8.0", "9.0", "10.0"))

    @property
    def configuration_extension(self) -> str:
        """Extension of VM configuration files."""
        return ".xml" if self.era in ("2008r2", "2012") else ".vmcx"

    @property
    def runtime_extensions(self) -> tuple[str, ...]:
        """Extensions of the files that exist while a VM runs or is saved."""
        return (".bin", ".vsv") if self.era in ("2008r2", "2012") else (".vmrs",)
