"""The hardware provider's settings on a host: storage systems, logins, and how often it tries again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labenv.windows.vss.arrayclient import ArrayClient
from labenv.windows.vss.records import Connection

if TYPE_CHECKING:
    from labenv.fabric import Fabric
    from labenv.state import State
    from labenv.windows.host import Host

PARAMETERS = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\SWSvc\\Parameters"
"""SnapDrive's parameters; below ``StorageSystems`` each key is a storage system with Address and UserName."""

SYSTEMS = f"{PARAMETERS}\\StorageSystems"
RETRIES, INTERVAL = "CloneMaxRetryCount", "CloneRetryInterval"


class Settings:
    """Read from the registry at every use, so that a change counts at once. Passwords are not in the registry."""

    def __init__(self, host: Host, *, state: State, fabric: Fabric) -> None:
        self._host = host
        self._fabric = fabric
        self._passwords = state.table(f"windows.{host.spec.name}.storage_login", Connection)

    def add(self, name: str, *, address: str, user: str, password: str) -> None:
        """Tell the provider of a storage system (an SVM). An address or user that is set already stays."""
        registry = self._host.registry
        key = f"{SYSTEMS}\\{name}"
        if registry.find(key) is None:
            registry.make(key)
            registry.set(key, "Address", "String", address)
            registry.set(key, "UserName", "String", user)
        wanted = Connection(name, password)
        if self._passwords.get(name.lower()) != wanted:
            self._passwords[name.lower()] = wanted

    def clients(self) -> list[ArrayClient]:
        """A client for each storage system, in the order of their names."""
        found = []
        for name in self._host.registry.children(SYSTEMS):
            key = f"{SYSTEMS}\\{name}"
            login = self._passwords.get(name.lower())
            found.append(
                ArrayClient(
                    fabric=self._fabric,
                    clock=self._host.clock,
                    address=self._text(key, "Address"),
                    user=self._text(key, "UserName"),
                    password=login.password if login is not None else "",
                )
            )
        return found

    def client(self, address: str) -> ArrayClient | None:
        """The client of an address."""
        return next((c for c in self.clients() if c.address == address), None)

    def _text(self, key: str, name: str) -> str:
        record = self._host.registry.find(key)
        values = {} if record is None else {k.lower(): v for k, (_, v) in record.values.items()}
        return values.get(name.lower(), "")

    def _number(self, name: str, default: int) -> int:
        text = self._text(PARAMETERS, name)
        return int(text) if text.isdecimal() else default

    @property
    def clone_retries(self) -> int:
        """How often a Snapshot copy is tried again while clones are being made (TR-4004, appendix: 100)."""
        return self._number(RETRIES, 100)

    @property
    def clone_interval(self) -> int:
        """Lab seconds between two tries (TR-4004, appendix: 10)."""
        return self._number(INTERVAL, 10)
