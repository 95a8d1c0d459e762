"""A guest on the whole stack: Snapshot copies of the array, LUN clones, SnapRestore, and a killed lab."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from labenv.guest.engine import Journal
from labenv.guest.recovery import recover

from . import rack
from .site import Site

SET = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")


@pytest.mark.tr("R-APF-01", "R-APF-03", "R-6.2-07")
def test_table_4_with_auto_recovery_on_a_lun_clone(tmp_path: Path, journal: Journal) -> None:
    """Backup with two Snapshot copies and auto-recovery between them, 500 more rows, restore: 100 rows, all sound."""
    site = Site(tmp_path, journal=journal)
    guest = site.start()
    for name in rack.NAMES:
        assert guest.insert(name, 100) == 100
        assert guest.checkdb(name).ok
    guest.begin("bb2", 400)
    guest.write_file("C:\\notes.txt", b"note")
    guest.create_shadow(SET)
    guest.insert("bb1", 7)  # the guest goes on before the array copies the LUN
    site.volume.create_snapshot("backup")
    clone = site.volume.clone_file("/lun", "/clone", snapshot="backup")
    host = site.host(clone)
    result = recover(site.disks(host), set_id=SET, vm_id=rack.VM_ID, now=site.time, seed=1)
    host.close()
    assert result.databases == tuple(rack.NAMES)
    guest.delete_shadow()
    site.volume.create_snapshot("backup_backup")
    site.volume.delete_file("/clone")
    site.state.commit()
    guest.rollback("bb2")
    for name in rack.NAMES:
        guest.insert(name, 500)
        assert guest.checkdb(name).ok
    assert guest.count("bb1") == 607
    guest.power_off()
    site.volume.clone_file("/clone", "/lun", snapshot="backup_backup", overwrite=True)
    site.state.commit()
    restored = site.start()
    assert {name: restored.checkdb(name).rows for name in rack.NAMES} == dict.fromkeys(rack.NAMES, 100)
    assert all(restored.checkdb(name).ok for name in rack.NAMES)
    assert restored.read_file("C:\\notes.txt") == b"note"
    restored.shutdown()
    assert site.store.check() == []
    site.close()


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.labenv.guest.site import Site
site = Site(Path(sys.argv[2]))
guest = site.start()
while True:
    print(guest.insert("bb1", 3), guest.insert("aa1", 1), flush=True)
"""


def kill_and_boot(folder: Path, lines: int) -> tuple[int, int]:
    """Let another process work on the site, kill it after some acknowledgements, and boot from what is left."""
    root = str(Path(__file__).parents[3])
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, root, str(folder)], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert worker.stdout is not None
    acknowledged = (0, 0)
    for _ in range(lines):
        first, second = worker.stdout.readline().split()
        acknowledged = (int(first), int(second))
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    site = Site(folder)
    guest = site.start()
    assert guest.unexpected_shutdown
    found = tuple(guest.checkdb(name).rows for name in ("bb1", "aa1"))
    assert all(guest.checkdb(name).ok for name in rack.NAMES)
    assert found[0] >= acknowledged[0]
    assert found[1] >= acknowledged[1]
    guest.power_off()
    site.close()
    return acknowledged


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_lab_boots_its_guests_again(tmp_path: Path) -> None:
    """After kill -9 of the lab's process the guest is made again from its disks, with every acknowledged row."""
    Site(tmp_path).close()
    acknowledged = kill_and_boot(tmp_path, 40)
    assert acknowledged == (120, 40)


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_lab_killed_again_and_again(tmp_path: Path) -> None:
    """As above, one kill after the other on the same site."""
    Site(tmp_path).close()
    for lines in range(5, 105, 5):
        kill_and_boot(tmp_path, lines)
