"""How labs start, end, and keep to themselves."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from netapp_ontap.resources.snapshot import Snapshot

import smhvlab.site
from labenv import lab as labs
from labenv import process, topology
from labenv.lab import Lab, LabError
from labenv.state import FORMAT
from labenv.statefolder import in_use
from smhvlab.errors import SmhvLabError
from tests.labenv.commands import ROOT, copied

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups as POSIX has them")
STARTER = """
import sys
from pathlib import Path
from labenv.lab import start
state = Path(sys.argv[1]) if len(sys.argv) > 1 else None
lab = start("standalone", state=state)
print(lab.state, flush=True)
sys.stdin.read()
"""
INTERRUPTED = """
import sys, time
from pathlib import Path
from labenv.lab import start
lab = start("standalone", state=Path(sys.argv[1]))
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.3)
    print(lab.status()["topology"])
lab.down()
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a lab that has stopped; to be copied, never used."""
    folder = tmp_path_factory.mktemp("lifecycle") / "kept"
    labs.start("standalone", state=folder).down()
    return folder


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return copied(kept, tmp_path / "lab")


def endpoints(lab: Lab) -> Any:
    """What its endpoints file says."""
    return json.loads(lab.profile.read_text("utf-8"))


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(f"{what} has not happened")


def start_here(folder: Path, name: str = "standalone", **options: Any) -> str:
    """Why a lab cannot start there; tried in this process, because that is quicker."""
    said: list[Mapping[str, object]] = []

    def say(message: Mapping[str, object]) -> None:
        assert "error" in message, "the lab started"
        said.append(message)

    how = {"seed": None, "bind": "127.0.0.1", "realtime": None, **options}
    assert process.main(labs.process_arguments(name, state=folder, **how), say=say) == 2
    assert len(said) == 1
    return str(said[0]["error"])


def refusal(folder: Path, name: str = "standalone", **options: Any) -> str:
    """Why a lab cannot start there; the folder's data are as they were, and nobody holds it."""
    before = contents(folder)
    said = start_here(folder, name, **options)
    assert contents(folder) == before
    assert not in_use(folder)
    return said


def contents(folder: Path) -> dict[str, bytes]:
    """Every small file of a folder; the pools of blocks are left out for their size."""
    found = [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size < 1 << 20]
    return {str(p.relative_to(folder)): p.read_bytes() for p in found if p.name not in ("lock", "lab.log")}


def test_ports_and_credentials_survive_a_restart(folder: Path) -> None:
    """Whoever has read the endpoints file once can go on with it."""
    before = json.loads((folder / "endpoints.json").read_text("utf-8"))
    with labs.start("standalone", state=folder) as lab:
        assert {**endpoints(lab), **moved(before, folder)} == {**before, **moved(before, folder)}
        with smhvlab.site.connect(lab.profile) as site:
            assert len(site.vms()) == 4


def moved(told: Any, folder: Path) -> dict[str, Any]:
    """The entries with the CA file of a copied folder."""
    ca_file = str(folder / "certificates" / "ca.pem")
    return {kind: [{**entry, "ca_file": ca_file} for entry in told[kind]] for kind in ("storage", "hyperv")}


def test_new_credentials_when_the_endpoints_file_was_deleted(folder: Path) -> None:
    """Without the file, ports and passwords are new, the site is the same, and the new passwords work."""
    before = json.loads((folder / "endpoints.json").read_text("utf-8"))
    (folder / "endpoints.json").unlink()
    with labs.start("standalone", state=folder) as lab:
        after = endpoints(lab)
        assert after["storage"][0]["password"] != before["storage"][0]["password"]
        assert after["control"]["token"] != before["control"]["token"]
        with smhvlab.site.connect(lab.profile) as site:
            assert len(site.luns()) == 4
            assert set(site.tools().sql.databases("sql01")) == {"aa1", "bb1", "bb2", "bb3"}


def test_an_occupied_port_is_named(folder: Path) -> None:
    """Another program on the lab's port: the message says which one and what to do; then the lab starts again."""
    import socket

    told = json.loads((folder / "endpoints.json").read_text("utf-8"))
    port = told["hyperv"][0]["port"]
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        message = refusal(folder)
    assert f"port {port} for hv1 on 127.0.0.1" in message
    assert "--bind" in message


def test_a_folder_in_use_is_refused(folder: Path) -> None:
    """Two labs on one folder would destroy it: the second is refused, the first goes on."""
    with labs.start("standalone", state=folder) as lab:
        with pytest.raises(LabError, match=f"already runs in {folder}.*labenv down"):
            labs.up("standalone", state=folder)
        assert lab.status()["failures"] == []


def other_topology(tmp_path: Path, name: str, old: str = "", new: str = "") -> str:
    """The path of a changed copy of the shipped topology."""
    shipped = (files("labenv") / "topologies" / "standalone.toml").read_text("utf-8")
    path = tmp_path / f"{name}.toml"
    path.write_text(shipped.replace(old, new, 1), "utf-8")
    return str(path)


def without_endpoints(folder: Path) -> None:
    """As somebody leaves it who wants new ports."""
    (folder / "endpoints.json").unlink()


def of_another_version(folder: Path) -> None:
    """As a later labenv leaves it."""
    with closing(sqlite3.connect(folder / "state.db")) as db:
        db.execute(f"PRAGMA user_version={FORMAT + 1}")


def not_a_database(folder: Path) -> None:
    """As somebody leaves it who mistook it for another file."""
    (folder / "state.db").write_bytes(b"This is no database. " * 500)
    for name in ("state.db-wal", "state.db-shm"):
        (folder / name).unlink(missing_ok=True)


def torn_endpoints(folder: Path) -> None:
    """As an editor leaves it that saves half a file."""
    (folder / "endpoints.json").write_text('{"topology": "standalone", ', "utf-8")


@pytest.mark.parametrize(
    ("site", "options", "damage", "said"),
    [
        ("other", {}, None, "holds a lab of topology standalone, not other"),
        ("other", {}, without_endpoints, "holds a lab of topology standalone, not other"),
        ("standalone", {}, None, "is no longer what the lab in"),
        ("", {"seed": 2}, None, "holds a lab of seed 1, not 2"),
        ("", {}, of_another_version, f"format {FORMAT + 1}"),
        ("", {}, not_a_database, "was not written by a lab"),
        ("", {}, torn_endpoints, "endpoints.json cannot be read"),
        ("", {"realtime": 0.0}, None, "--realtime 0"),
        ("", {"bind": "0.0.0.0"}, None, "stands for every address"),  # noqa: S104 - it is refused
        ("", {"bind": "host.invalid"}, None, "no IPv4 address of this machine"),
        ("", {"bind": "192.0.2.1"}, without_endpoints, "on 192.0.2.1 cannot be opened"),
    ],
)
def test_a_folder_or_option_that_does_not_fit_is_refused(
    folder: Path,
    tmp_path: Path,
    site: str,
    options: dict[str, Any],
    damage: Callable[[Path], None] | None,
    said: str,
) -> None:
    """Another topology, seed or version, damage, and addresses that nobody can use: a reason, and nothing changes."""
    if damage is not None:
        damage(folder)
    name = other_topology(tmp_path, site, "snapshot_limit = 255", "snapshot_limit = 254") if site else ""
    assert said in refusal(folder, name or "standalone", **options)


@POSIX
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A folder with other files is neither filled nor closed to others."""
    (tmp_path / "thesis.txt").write_text("mine", "utf-8")
    tmp_path.chmod(0o755)
    assert "is not empty and holds no lab (there is thesis.txt)" in refusal(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The message names the folder."""
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(LabError, match=r"the state folder .*file.lab cannot be used"):
        labs.start("standalone", state=tmp_path / "file" / "lab")


def test_a_topology_that_cannot_be_built_is_told(tmp_path: Path) -> None:
    """The array's refusal is the reason; the same folder can be used after the file was mended."""
    name = other_topology(tmp_path, "small", 'lun_size = "30GB"', 'lun_size = "3GB"')
    assert start_here(tmp_path / "lab", name).startswith(
        "topology small cannot be built: Failed to create the virtual disk"
    )
    name = other_topology(tmp_path, "small", 'volume_size = "40GB"', 'volume_size = "1MB"')
    assert start_here(tmp_path / "lab", name).startswith("topology small cannot be built: POST /storage/volumes golden")
    other_topology(tmp_path, "small")
    labs.start(name, state=tmp_path / "lab").down()


def test_killed_while_it_was_being_made(tmp_path: Path, kept: Path) -> None:
    """A lab killed at random moments of its first start is made anew by the next start, complete."""
    chance = random.Random(5)
    command = [sys.executable, "-m", "labenv.process", "--topology", "standalone", "--state", str(tmp_path / "lab")]
    unfinished = 0
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as begun:
            until(lambda: (tmp_path / "lab" / "state.db").exists() or begun.poll() is not None, "the state file")
            time.sleep(chance.uniform(0.0, 0.3))
            begun.kill()
            assert begun.stdout is not None
            unfinished += not begun.stdout.read()
    assert unfinished, "no kill came before the lab was ready: make them earlier"
    copied(kept, tmp_path / "whole")
    states = []
    for name in ("lab", "whole"):
        (tmp_path / name / "endpoints.json").unlink(missing_ok=True)
        with labs.start("standalone", state=tmp_path / name) as lab, smhvlab.site.connect(lab.profile) as site:
            lab.reset()
            assert lab.inspect.check() == []
            states.append((lab.status(), site.vms().to_csv(), site.luns().to_csv(), site.disks().to_csv()))
    assert states[0] == states[1]


@pytest.mark.parametrize("name", [name for name in topology.names() if name != "standalone"])
def test_every_topology_survives_a_kill(tmp_path: Path, name: str) -> None:
    """Each other site that ships is whole, small and the same after ``kill -9`` and after ``reset``."""
    lab = labs.start(name, state=tmp_path / "lab")
    first = lab.status()
    assert {"Running"} < set(first["vms"].values()) <= {"Running", "Off", "Saved"}
    lab.kill()
    lab.down()
    with labs.start(name, state=tmp_path / "lab") as lab:
        assert lab.status() == first
        lab.reset()
        assert lab.status() == first
        assert first["failures"] == lab.inspect.check() == []
        memory = lab.inspect.memory()
        assert memory is None or memory < 300_000_000
        with smhvlab.site.connect(lab.profile) as site:
            assert bool(site.check()["ok"].all())


@POSIX
def test_a_lab_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """The starter is killed, so it cannot tidy up: the lab notices that its standard input is closed."""
    with starter(tmp_path / "lab") as (begun, _):
        assert in_use(tmp_path / "lab")
        begun.kill()
        until(lambda: not in_use(tmp_path / "lab"), "the end of the lab")


@POSIX
def test_a_fresh_lab_leaves_nothing_behind(tmp_path: Path) -> None:
    """A lab without a state folder deletes its own, also when its starter was killed; so does one that fails."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with starter(None, environment) as (begun, folder):
        assert folder.parent == tmp_path
        begun.kill()
        until(lambda: not list(tmp_path.iterdir()), "the end of the folder")


class starter:  # noqa: N801 - used like a function
    """A process that starts a lab and then waits."""

    def __init__(self, folder: Path | None, environment: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-c", STARTER, *([str(folder)] if folder else [])]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )

    def __enter__(self) -> tuple[subprocess.Popen[str], Path]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the starter has failed"
        return self._process, Path(line.strip())

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


@POSIX
def test_an_interrupted_cell_leaves_the_site_running(tmp_path: Path) -> None:
    """Ctrl-C goes to the whole process group; a starter that survives it, as a kernel does, still has its lab."""
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "lab")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=ROOT, start_new_session=True
    ) as begun:
        assert begun.stdout is not None
        begun.stdout.readline()
        os.killpg(begun.pid, signal.SIGINT)
        assert begun.stdout.read() == "standalone\n"
    assert begun.returncode == 0


def test_two_labs_at_the_same_time(folder: Path) -> None:
    """What happens in one lab is not seen in the other, neither on the wires nor in lab time."""
    with labs.start("standalone", state=folder) as one, labs.start("standalone") as two:
        with smhvlab.site.connect(one.profile) as first, smhvlab.site.connect(two.profile) as second:
            time = two.clock.now
            first.create_dataset("Apps", ["app01"])
            first.tools().sql.insert("sql01", "bb1", 10)
            one.clock.advance(3600)
            assert list(first.datasets()["name"]) == ["Apps"]
            assert len(second.datasets()) == 0
            assert second.tools().sql.count("sql01", "bb1") == 0
            assert (two.clock.now - time).total_seconds() < 60
        assert one.profile.parent != two.profile.parent


@pytest.fixture
def loopback() -> str:
    """Another loopback address, where the system has one."""
    import socket

    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.2", 0))
        except OSError:
            pytest.skip("this system has one loopback address only")
    return "127.0.0.2"


def test_bind_takes_another_address(folder: Path, loopback: str) -> None:
    """Every endpoint listens there, with a certificate for it; then the lab can go back."""
    for bind in (loopback, "localhost"):
        with labs.start("standalone", state=folder, bind=bind) as lab:
            told = endpoints(lab)
            wanted = loopback if bind == loopback else "127.0.0.1"
            assert {e["host"] for e in (*told["storage"], *told["hyperv"])} == {wanted}
            assert told["control"]["url"].startswith(f"https://{wanted}:")
            with smhvlab.site.connect(lab.profile) as site:
                assert bool(site.check()["ok"].all())


def test_a_dead_lab_gives_one_clear_error(folder: Path) -> None:
    """The client of a killed lab says that it does not answer and how to start it; so does its text form."""
    lab = labs.start("standalone", state=folder)
    lab.kill()
    with pytest.raises(LabError, match=r"does not answer .*`labenv up standalone --state"):
        lab.status()
    assert str(folder) in repr(lab)
    lab.down()
    with pytest.raises(LabError, match="no lab in"):
        labs.attach(folder / "nothing")
    (folder / "certificates" / "ca.pem").unlink()
    with pytest.raises(LabError, match="cannot be used"):
        labs.attach(folder)


def test_a_kept_lab_outlives_its_connection(folder: Path) -> None:
    """``lab:NAME@STATE`` starts the lab of a folder, or finds it running, and leaves it running."""
    target = f"lab:standalone@{folder}"
    try:
        with smhvlab.site.connect(target) as site:
            site.create_dataset("Apps", ["app01"])
        with smhvlab.site.connect(target) as site:
            assert list(site.datasets()["name"]) == ["Apps"]
        assert labs.attach(folder).status()["topology"] == "standalone"
        with pytest.raises(LabError, match="of topology standalone, not other"):
            labs.profile_for(f"other@{folder}")
    finally:
        labs.attach(folder).down()


def test_a_restore_ends_a_request_that_waits(folder: Path) -> None:
    """In real time a change is under way for seconds: one that began before a restore does not happen after it."""
    with labs.start("standalone", state=folder, realtime=1.0) as lab, smhvlab.site.connect(lab.profile) as site:
        volume = site.tools().storage.volume("vm_shared", svm="svm1")
        assert volume is not None
        before = lab.clock.now

        def late() -> None:
            with suppress(SmhvLabError):
                site.tools().rest.wait([site.tools().rest.create(Snapshot(volume.uuid, name="late"))])
            site.release()

        lab.faults.set("ontap.request", "delay", match={"method": "POST"}, seconds=2)
        client = threading.Thread(target=late)
        client.start()
        until(lambda: lab.faults.list()[0]["acted"] == 1, "the request")
        lab.restore("fresh")
        client.join(60)
        assert not client.is_alive()
        lab.clock.advance(0.1)
        assert "late" not in set(site.snapshots("vm_shared")["snapshot"])
        assert (lab.clock.now - before).total_seconds() < 60
        assert lab.status()["failures"] == []


def test_a_lab_whose_starter_is_gone_does_not_finish_starting(tmp_path: Path) -> None:
    """Nobody waits for it any more: it says so, ends, and leaves a folder in which the next one starts."""
    arguments = labs.process_arguments("standalone", state=tmp_path / "lab", seed=None, bind="127.0.0.1", realtime=None)
    command = [sys.executable, "-m", "labenv.process", *arguments, "--until-stdin-closes"]
    told = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert told.returncode == 2
    assert "told to stop before it was ready" in json.loads(told.stdout)["error"]
    with labs.start("standalone", state=tmp_path / "lab") as lab:
        assert lab.status()["failures"] == []


def test_a_slow_lab_is_built_at_full_speed(tmp_path: Path) -> None:
    """Lab time that hardly passes is for those who use the site: no one waits a year for its first contents."""
    with labs.start("standalone", state=tmp_path / "lab", realtime=1e-5) as lab:
        assert lab.status()["topology"] == "standalone"
