"""A virtual machine on its whole stack: block store, LUN, host file system, fixed VHDs, guest."""

from __future__ import annotations

from pathlib import Path
from random import Random
from uuid import UUID

from labenv.devices import BlockDevice
from labenv.guest.engine import Journal
from labenv.guest.golden import install_golden, prepare_disk
from labenv.guest.guest import Guest
from labenv.ontap.blocks.store import BlockStore
from labenv.state import State
from labenv.windows.disks.exfat import FileSystem
from labenv.windows.disks.gpt import PartitionDevice, read_gpt
from labenv.windows.disks.virtualdisk import VhdFormat, VhdType, create_vhd, open_vhd

from . import rack

GIB = 1 << 30
MIB = 1 << 20


class Site:
    """One LUN with one virtual machine of three disks, in a folder."""

    def __init__(self, folder: Path, *, journal: Journal = Journal.PERSIST) -> None:
        self.time = rack.LabTime()
        self.state = State(folder / "state.db")
        self.store = BlockStore(folder / "blocks", self.state, capacity=64 * GIB)
        if "csv" not in self.store.volumes:
            self._build(journal)
        self.volume = self.store.volume("csv")

    def _build(self, journal: Journal) -> None:
        self.store.create_aggregate("aggr1", 32 * GIB)
        volume = self.store.create_volume("csv", aggregate="aggr1", size=16 * GIB, guarantee=False)
        lun = volume.create_file("/lun", 2 * GIB, reserved=False)
        prepare_disk(lun, label="CSV", random=Random(1))
        host = self.host(lun)
        host.mkdir("\\VMs")
        for number in range(3):
            with host.create(f"\\VMs\\disk{number}.vhd") as file:
                create_vhd(
                    file,
                    format=VhdFormat.VHD,
                    type=VhdType.FIXED,
                    size=256 * MIB,
                    identifier=UUID(int=number + 1),
                    now=self.time(),
                )
        install_golden(self.disks(host), now=self.time, seed=1, journal=journal, databases=rack.DATABASES)
        host.close()
        self.state.commit()

    def host(self, lun: BlockDevice | None = None) -> FileSystem:
        """The host's file system on the LUN, or on another device like it."""
        device = lun or self.volume.files["/lun"]
        gpt = read_gpt(device)
        assert gpt is not None
        partition = gpt.partitions[-1]
        return FileSystem(PartitionDevice(device, partition.offset, partition.length), now=self.time)

    def disks(self, host: FileSystem) -> list[BlockDevice]:
        """The virtual machine's disks on a host file system."""
        return [open_vhd(host.open(f"\\VMs\\disk{number}.vhd", write=True)) for number in range(3)]

    def start(self) -> Guest:
        """The running virtual machine."""
        return rack.start(self.disks(self.host()), time=self.time)

    def close(self) -> None:
        """Stop the lab."""
        self.state.commit()
        self.store.close()
        self.state.db.close()
