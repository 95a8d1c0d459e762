"""The host's registry: keys below HKLM: with their values."""

from __future__ import annotations

from dataclasses import replace

from labenv.state import State
from labenv.windows.records import RegistryRecord
from labenv.windows.spec import HostSpec

_ROOTS = (
    "hklm:",
    "hkey_local_machine",
    "registry::hkey_local_machine",
    "microsoft.powershell.core\\registry::hkey_local_machine",
)
_VERSION = "HKLM:\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion"


def is_registry(path: str) -> bool:
    """Whether a path belongs to the registry provider."""
    root = path.replace("/", "\\").split("\\", 1)[0].lower()
    return root in _ROOTS or path.lower().startswith("microsoft.powershell.core\\registry::")


class Registry:
    """Keys by path; case does not matter."""

    def __init__(self, *, spec: HostSpec, state: State) -> None:
        self._keys = state.table(f"windows.{spec.name}.registry", RegistryRecord)

    def install(self, spec: HostSpec) -> None:
        """What a fresh host has."""
        self.make(_VERSION)
        self.set(_VERSION, "ProductName", "String", spec.caption.removeprefix("Microsoft "))
        self.set(_VERSION, "CurrentBuild", "String", spec.version.rsplit(".", 1)[1])

    @staticmethod
    def _key(path: str) -> str:
        text = path.replace("/", "\\").rstrip("\\")
        for root in sorted(_ROOTS, key=len, reverse=True):
            if text.lower().startswith(root):
                return "HKLM:\\" + text[len(root) :].lstrip("\\")
        return text

    def find(self, path: str) -> RegistryRecord | None:
        """The key of a path; a key that only has keys below it exists too."""
        wanted = self._key(path).lower().rstrip("\\")
        record = self._keys.get(wanted)
        if record is None and any(k.startswith(wanted + "\\") for k in self._keys):
            return RegistryRecord(self._key(path), {})
        return record

    def make(self, path: str) -> RegistryRecord:
        """Create a key with everything above it."""
        name = self._key(path)
        return self._keys.setdefault(name.lower(), RegistryRecord(name, {}))

    def set(self, path: str, name: str, kind: str, value: str) -> None:
        """Set a value of an existing key."""
        record = self.make(path)
        others = {k: v for k, v in record.values.items() if k.lower() != name.lower()}
        self._keys[self._key(path).lower()] = replace(record, values={**others, name: (kind, value)})

    def remove(self, path: str) -> None:
        """Delete a key with everything below it."""
        wanted = self._key(path).lower()
        for key in [k for k in self._keys if k == wanted or k.startswith(wanted + "\\")]:
            del self._keys[key]

    def children(self, path: str) -> list[str]:
        """Names of the keys directly below a key."""
        prefix = self._key(path).rstrip("\\")
        below = [
            r.path[len(prefix) + 1 :].split("\\")[0]
            for k, r in self._keys.items()
            if k.startswith(prefix.lower() + "\\")
        ]
        return sorted(set(below), key=str.lower)
