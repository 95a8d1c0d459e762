"""``kill -9`` of a lab under load: what was acknowledged is there afterwards, on both wires and in guests."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from netapp_ontap.resources.snapshot import Snapshot

import smhvlab.site
from labenv import lab as labs
from labenv.lab import Lab, LabError
from smhvlab.errors import SmhvLabError
from smhvlab.site import Site
from tests.labenv.commands import ROOT, copied

# a client whose server dies in the middle of a handshake leaves its socket to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PLAIN = ("-m", "labenv.process")
WITHOUT_COMMITS = ("-m", "tests.labenv.lab_without_commits")


@dataclass
class Truth:
    """What was acknowledged, over all lives of the lab; ``begun`` may be there in addition."""

    snapshots: set[str] = field(default_factory=set)
    files: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    begun: int = 0


@contextmanager
def running(folder: Path, how: tuple[str, ...] = PLAIN) -> Iterator[tuple[subprocess.Popen[bytes], Lab]]:
    """A lab's process that the test may kill."""
    command = [sys.executable, *how, "--topology", "standalone", "--state", str(folder), "--until-stdin-closes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"ready": True, "state": str(folder)}
        yield process, Lab(folder)
        process.kill()


def repeat(work: Callable[[int], None]) -> Callable[[], None]:
    """Work without end, until the lab is gone."""

    def loop() -> None:
        number = 0
        with suppress(SmhvLabError, LabError):
            while True:
                work(number)
                number += 1

    return loop


def live(folder: Path, truth: Truth, *, life: int, seconds: float, how: tuple[str, ...] = PLAIN) -> None:
    """One life: four clients change the site at once; whatever is answered goes into ``truth``; then a kill."""
    with running(folder, how) as (process, lab), smhvlab.site.connect(lab.profile) as site:
        volume = site.tools().storage.volume("vm_shared", svm="svm1")
        assert volume is not None

        def array(number: int) -> None:
            name = f"life{life}_{number}"
            copy = Snapshot(volume.uuid, name=name)
            site.tools().rest.wait([site.tools().rest.create(copy)])
            truth.snapshots.add(name)

        def host(number: int) -> None:
            path, text = f"S:\\life{life}_{number}.txt", f"{life} {number} " * 50
            site.tools().host.run("Set-Content", {"LiteralPath": path, "Value": text, "Encoding": "UTF8"})
            truth.files[path] = text

        def sql(number: int) -> None:
            truth.begun = truth.rows + number % 7 + 1
            truth.rows = site.tools().sql.insert("sql01", "bb1", number % 7 + 1)

        def guest(number: int) -> None:
            path, text = f"C:\\life{life}_{number}.txt", f"note {life} {number} " * 500
            lab.guest("app01").write_file(path, text, flush=True)
            truth.notes[path] = text

        clients = [threading.Thread(target=repeat(work), daemon=True) for work in (array, host, sql, guest)]
        before = (len(truth.snapshots), len(truth.files), truth.rows, len(truth.notes))
        for client in clients:
            client.start()
        deadline = time.monotonic() + 60
        while any(a == b for a, b in zip(before, sizes(truth), strict=True)):  # every client got an answer
            assert time.monotonic() < deadline, f"some client got no answer: {before} {sizes(truth)}"
            time.sleep(0.005)
        time.sleep(seconds)
        process.kill()
        for client in clients:
            client.join(60)
            assert not client.is_alive()
        abandon(site)


def sizes(truth: Truth) -> tuple[int, int, int, int]:
    """How much each client got acknowledged."""
    return len(truth.snapshots), len(truth.files), truth.rows, len(truth.notes)


def abandon(site: Site) -> None:
    """Forget the connections of the threads; there is nobody to say goodbye to."""
    with suppress(SmhvLabError):
        site.close()


def lost(folder: Path, truth: Truth) -> list[str]:
    """What was acknowledged and is not there, or is damaged."""
    found: list[str] = []
    with running(folder) as (_, lab), smhvlab.site.connect(lab.profile) as site:
        names = set(site.snapshots("vm_shared")["snapshot"])
        found += [f"Snapshot copy {name}" for name in sorted(truth.snapshots - names)]
        for path, text in truth.files.items():
            found += [path] if content(site, path) != text else []
        guest = lab.guest("app01")
        for path, text in truth.notes.items():
            found += [f"app01: {path}"] if note(lab, path) != text else []
        rows = site.tools().sql.count("sql01", "bb1")
        if rows not in (truth.rows, truth.begun):
            found.append(f"{rows} rows, not {truth.rows} or {truth.begun}")
        truth.rows = rows
        for vm, database in (("sql01", "bb1"), ("sql01", "aa1"), ("app01", "bb1")):
            check = lab.guest(vm).checkdb(database)
            found += [f"{vm}/{database}: {check}"] if not check["ok"] else []
        assert guest.identity()["unexpected_shutdown"] is True
        found += lab.inspect.check()
        found += lab.status()["failures"]
    return found


def content(site: Site, path: str) -> str | None:
    """A file of the host, None if it is not there."""
    try:
        lines = site.tools().host.run("Get-Content", {"LiteralPath": path, "Encoding": "UTF8"})
    except SmhvLabError:
        return None
    return "\n".join(map(str, lines))


def note(lab: Lab, path: str) -> str | None:
    """A file of the guest, None if it is not there."""
    try:
        return lab.guest("app01").read_file(path)
    except LabError:
        return None


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a lab that has stopped."""
    folder = tmp_path_factory.mktemp("kills") / "kept"
    labs.start("standalone", state=folder).down()
    return folder


def test_nothing_acknowledged_is_lost(kept: Path, tmp_path: Path) -> None:
    """Two lives, each killed at a random moment under load from both wires and inside guests."""
    folder, truth, chance = copied(kept, tmp_path / "lab"), Truth(), random.Random(11)
    for life in range(2):
        live(folder, truth, life=life, seconds=chance.uniform(0.0, 0.3))
        assert lost(folder, truth) == []


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12))
def test_nothing_acknowledged_is_lost_in_many_lives(kept: Path, tmp_path: Path, seed: int) -> None:
    """The same for many more moments; six lives stay below the limit of 255 Snapshot copies."""
    folder, truth, chance = copied(kept, tmp_path / "lab"), Truth(), random.Random(seed)
    for life in range(6):
        live(folder, truth, life=life, seconds=chance.uniform(0.0, 1.0))
        assert lost(folder, truth) == []


def test_a_lab_that_does_not_commit_is_found_out(kept: Path, tmp_path: Path) -> None:
    """The control: the same load on a lab whose commits write nothing must be reported as loss."""
    folder, truth = copied(kept, tmp_path / "lab"), Truth()
    live(folder, truth, life=0, seconds=0.1, how=WITHOUT_COMMITS)
    missing = lost(folder, truth)
    assert any("Snapshot copy" in entry for entry in missing), missing


def test_what_a_guest_has_not_flushed_is_lost(kept: Path, tmp_path: Path) -> None:
    """A power cut that loses nothing would be none: a note in the guest's cache reads as zeros, a flushed one not."""
    folder = copied(kept, tmp_path / "lab")
    with running(folder) as (_, lab):
        guest = lab.guest("sql01")
        guest.write_file("C:\\flushed.txt", "flushed", flush=True)
        guest.write_file("C:\\cached.txt", "cached")
        assert guest.read_file("C:\\cached.txt") == "cached"
    with running(folder) as (_, lab):
        guest = lab.guest("sql01")
        assert guest.read_file("C:\\flushed.txt") == "flushed"
        assert guest.read_file("C:\\cached.txt") == "\0" * len("cached")
        assert guest.identity()["unexpected_shutdown"] is True


def test_a_checkpoint_that_was_told_is_kept(kept: Path, tmp_path: Path) -> None:
    """A kill right after ``checkpoint`` or ``restore`` has answered leaves exactly what was answered."""
    folder = copied(kept, tmp_path / "lab")
    with running(folder) as (_, lab):
        lab.guest("sql01").insert("bb1", 3)
        lab.checkpoint("three")
    with running(folder) as (_, lab):
        assert lab.guest("sql01").count("bb1") == 3
        lab.guest("sql01").insert("bb1", 4)
        lab.restore("three")
    with running(folder) as (_, lab):
        assert lab.status()["checkpoints"] == ["fresh", "three"]
        assert lab.guest("sql01").count("bb1") == 3
        assert lab.inspect.check() == []
        lab.reset()
        assert lab.guest("sql01").count("bb1") == 0
