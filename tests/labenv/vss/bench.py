"""A whole site in this process: array, host, guests, and the script lines that a requestor would send."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from labenv import topology
from labenv.devices import BlockDevice
from labenv.faults import Fault
from labenv.guest import shadow
from labenv.guest.guest import Guest
from labenv.guest.mounting import mount_all
from labenv.ontap.array import Array
from labenv.site import LabSite
from labenv.windows.disks.exfat import FileSystem
from labenv.windows.disks.gpt import BASIC_DATA, PartitionDevice, read_gpt
from labenv.windows.disks.virtualdisk import open_vhd
from labenv.windows.host import Host
from labenv.windows.records import EventRecord
from labenv.windows.remoting.engine import Engine, Runspace
from labenv.windows.remoting.values import Command

T = TypeVar("T")
HYPERV = "{66841cd4-6ded-4f4b-8f17-fd23f8ddc3de}"
ONTAP = "{ddd3d232-a96f-4ac5-8f7b-250fd91fd102}"
SQL01 = "C:\\VMs\\sql01\\"


@dataclass(frozen=True)
class Ran:
    """What a script left: its lines, exit code, and the GUIDs of sets that it printed."""

    lines: list[str]
    code: int

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def set_id(self) -> UUID:
        found = re.search(r"shadow set ID \{([0-9a-f-]+)\}", self.text)
        assert found, self.text
        return UUID(found[1])


class _Sink:
    def __init__(self) -> None:
        self.items: list[Any] = []

    def output(self, value: object) -> None:
        self.items.append(value)

    def error(self, error: Exception, cmdlet: str) -> None:
        raise error

    def text(self, kind: str, text: str) -> None:
        pass

    def progress(self, activity: str, status: str, percent: int) -> None:
        pass


class Bench:
    """The site of ``standalone.toml`` in an era."""

    def __init__(self, folder: Path, era: str, *, source: str = "standalone.toml") -> None:
        text = (Path(__file__).parent / source).read_text("utf-8").replace("ERA", era)
        file = folder / "site.toml"
        file.write_text(text, "utf-8")
        self.runner = asyncio.Runner()
        names = re.findall(r'\[\[host\]\]\nname = "(\w+)"', text)
        endpoints = {
            "storage": [
                {"name": "cluster1", "user": "admin", "password": "a", "svms": [{"name": "svm1", "password": "v"}]}
            ],
            "hyperv": [
                {"name": n, "user": "LAB\\Administrator", "password": "h", "sql": {"user": "sa", "password": "s"}}
                for n in names
            ],
        }

        async def make() -> LabSite:
            site = LabSite(
                folder / "state", topology=topology.load(str(file)), seed=1, realtime=None, endpoints=endpoints
            )
            await site.open()
            return site

        (folder / "state").mkdir()
        self.site = self.runner.run(make())
        self.host: Host = self.site.hosts[0]
        self.hosts = {host.name: host for host in self.site.hosts}
        self.array: Array = self.site.arrays[0]
        self.engines = {
            host.name: Engine(host, clock=self.site.clock, faults=self.site.faults, commit=self.site.state.commit)
            for host in self.site.hosts
        }
        self.engine = self.engines[self.host.name]

    def restore(self) -> None:
        self.runner.run(self.site.restore("fresh"))

    def close(self) -> None:
        self.runner.run(self.site.close())
        self.runner.close()

    def go(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something as a client that waits."""

        async def held() -> T:
            with self.site.clock.request(), self.site.clock.parked():
                return await work

        return self.runner.run(held())

    def run(self, cmdlet: str, /, **parameters: object) -> list[Any]:
        return self.go(self.engine.run(cmdlet, parameters))

    def run_on(self, node: str, cmdlet: str, /, **parameters: object) -> list[Any]:
        return self.go(self.engines[node].run(cmdlet, parameters))

    def rest(self, method: str, path: str, body: dict[str, Any] | None = None, **query: str) -> dict[str, Any]:
        """The answer of the array to its administrator."""
        parameters = {"return_timeout": "120", **{k.replace("__", "."): v for k, v in query.items()}}
        if method == "GET":
            del parameters["return_timeout"]
        status, answer = self.go(self.array.call(method, path, query=parameters, body=body))
        assert status < 300, answer
        return answer

    async def native(self, program: str, *arguments: str, on: str = "hv1") -> Ran:
        sink = _Sink()
        first = Command(program, tuple((None, a) for a in arguments))
        second = Command("Get-Variable", (("Name", "LASTEXITCODE"), ("ValueOnly", True)))
        await self.engines[on].execute([[first], [second]], sink, Runspace())
        return Ran([str(i) for i in sink.items[:-1]], sink.items[-1])

    def script(self, *lines: str, on: str = "hv1") -> Ran:
        return self.go(self.diskshadow(*lines, on=on))

    async def diskshadow(self, *lines: str, name: str = "x", on: str = "hv1") -> Ran:
        path = f"C:\\Windows\\Temp\\{name}.dsh"
        self.hosts[on].files.write(path, ("\r\n".join(lines) + "\r\n").encode("ascii"))
        return await self.native("diskshadow.exe", "/s", path, on=on)

    def vssadmin(self, what: str) -> Ran:
        return self.go(self.native("vssadmin.exe", "list", what))

    def fault(self, where: str, effect: str, *, times: int | None = 1, **match: str) -> None:
        """Break something; names that end in ``_`` are the fault's own."""
        own = {key.rstrip("_"): match.pop(key) for key in list(match) if key.endswith("_")}
        seconds = float(own.pop("seconds", 0))
        self.site.faults.set(Fault(where, effect, match, seconds=seconds, times=times, **own))  # type: ignore[arg-type]

    def cause(self, name: str, **options: str) -> None:
        """Set a named cause."""
        self.go(self.site.causes.set(name, options))

    def mend(self, name: str | None = None) -> None:
        """Mend a cause, or all."""
        self.go(self.site.causes.mend(name))

    def vm_state(self, vm: str) -> str:
        return self.site.vm_states()[vm]

    def guest(self, vm: str) -> Guest:
        return next(h for h in self.site.hosts if vm in (v.name for v in h.vms.values())).guest(vm)

    # -- looking -----------------------------------------------------------------------------------------------

    def snapshots(self, volume: str) -> list[str]:
        key = self.array.volume_key(volume)
        return [r["name"] for r in self.rest("GET", f"/storage/volumes/{key}/snapshots", fields="name")["records"]]

    def luns(self) -> list[str]:
        return sorted(r["name"] for r in self.rest("GET", "/storage/luns", fields="name")["records"])

    def maps(self) -> int:
        return int(self.rest("GET", "/protocols/san/lun-maps")["num_records"])

    def events(self, provider: str, *ids: int, on: str = "hv1") -> list[EventRecord]:
        found = [e for e in self.hosts[on].events.newest_first() if e.provider == provider and (not ids or e.id in ids)]
        return list(reversed(found))

    def trace(self, on: str = "hv1") -> list[tuple[str, str]]:
        return [(e.values[1], e.values[2]) for e in self.events("labenv", on=on)]

    def states(self, on: str = "hv1") -> dict[str, tuple[int, int]]:
        return {w.name: (w.state.value, w.failure) for w in self.hosts[on].vss.writers}

    def footprint(self) -> dict[str, object]:
        """Everything that a set may touch for a while, and has to give back."""
        hosts = self.site.hosts
        raw = [h.disks.raw(r) for h in hosts for r in h.disks.present() if r.kind == "iscsi"]
        guests = {name: guest for h in hosts for name, guest in h.guests().items()}
        volumes = [v["name"] for v in self.rest("GET", "/storage/volumes", fields="name")["records"]]
        return {
            "snapshots": [self.snapshots(v) for v in volumes if v != "golden" and not v.endswith("_root")],
            "luns": self.luns(),
            "maps": self.maps(),
            "disks": [sorted(h.disks.records) for h in hosts],
            "tables": [read_gpt(device) for device in raw],
            "creating": [h.vss.creating or h.vss.current for h in hosts],
            "shadows": [sorted(h.vss.shadows) for h in hosts],
            "guests": {name: guest.shadow for name, guest in guests.items()},
            "areas": [shadow.areas(v.file_system) for g in guests.values() for v in g.volumes.values()],
            "states": self.site.vm_states(),
            "checkpoints": [sorted(h.machines.snapshots) for h in hosts],
            "store": self.site.blocks.check(),
        }

    def image(self, volume: str, snapshot: str, path: str) -> FileSystem:
        """The host's file system in a LUN inside a Snapshot copy."""
        file = self.site.block_file(volume, path, snapshot)
        gpt = read_gpt(file)
        assert gpt is not None
        partition = next(p for p in gpt.partitions if p.type_guid == BASIC_DATA)
        return FileSystem(PartitionDevice(file, partition.offset, partition.length), now=lambda: self.site.clock.time)

    def guest_volume(self, device: BlockDevice) -> FileSystem:
        """The guest's file system on one of its disks."""
        return next(iter(mount_all([device], now=lambda: self.site.clock.time))).file_system

    def guest_files(self, system: FileSystem, folder: str, vm: str) -> dict[str, FileSystem]:
        """The guest's file systems in the VHDs of a VM, by label."""
        disks = [open_vhd(system.open(f"{folder}\\{vm}_vhd{i}.vhd"), read_only=True) for i in range(3)]
        volumes = list(mount_all(disks, now=lambda: self.site.clock.time))
        return dict(zip("CEF", (v.file_system for v in volumes), strict=True))


def put_back(bench: Bench, made: Ran) -> None:
    """Make the consistent image of a backup of sql01 the LUN's contents again, by cloning it over the LUN."""
    first = f"{{{made.set_id}}}"
    image = f"{first}/golden" if bench.host.spec.era == "2022" else f"{first}_backup/golden_{first}.rws"
    number, part = next(
        (p.properties["DiskNumber"], p.properties["PartitionNumber"])
        for p in bench.run("Get-Partition")
        if SQL01 in p.properties["AccessPaths"].items
    )
    lun = bench.rest("GET", "/storage/luns", name="/vol/vm_sql01/golden", fields="uuid")["records"][0]["uuid"]
    bench.run("Set-Disk", Number=number, IsOffline=True)
    source = {"name": f"/vol/vm_sql01/.snapshot/{image}"}
    bench.rest("PATCH", f"/storage/luns/{lun}", {"clone": {"source": source}})
    bench.run("Update-HostStorageCache")
    bench.run("Set-Disk", Number=number, IsOffline=False)
    bench.run("Set-Disk", Number=number, IsReadOnly=False)
    flags = {"IsHidden": False, "IsReadOnly": False, "IsShadowCopy": False}
    bench.run("Set-Partition", DiskNumber=number, PartitionNumber=part, **flags)


def backup(*volumes: str, verify: str = HYPERV, provider: str = ONTAP) -> list[str]:
    """The lines of an application-consistent backup."""
    lines = ["set context persistent", "set metadata C:\\Windows\\Temp\\x.cab", "set verbose on"]
    lines += [f"writer verify {verify}"] if verify else []
    lines += ["begin backup"]
    lines += [f"add volume {v} alias v{i} provider {provider}" for i, v in enumerate(volumes)]
    return [*lines, "create", "end backup"]
