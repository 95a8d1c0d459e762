"""Start, find and steer labs: each is a process of its own, reached through its control endpoint."""

from __future__ import annotations

import http.client
import json
import logging
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import platformdirs

from labenv.hostdoor import HostDoor
from labenv.statefolder import in_use
from labenv.storagedoor import StorageDoor

log = logging.getLogger("labenv")
STOP_TIMEOUT = 20.0
"""Real seconds after which a lab that was told to stop is given up."""


class LabError(Exception):
    """A lab could not be started, found or steered; the text says why and what to do."""


def default_state() -> Path:
    """The state folder used when none is named: ``$LABENV_STATE`` or the user's state directory."""
    named = os.environ.get("LABENV_STATE")
    return Path(named) if named else Path(platformdirs.user_state_dir("labenv", appauthor=False)) / "default"


def start(
    topology: str = "standalone",
    *,
    state: Path | None = None,
    seed: int | None = None,
    bind: str = "127.0.0.1",
    realtime: float | None = None,
) -> Lab:
    """Start a lab that ends with this process (or with ``Lab.down``).

    Without ``state`` the lab is fresh and its folder is deleted when it ends. Without ``seed`` a new lab has seed 1,
    and a kept one its own.

    Raises:
        LabError: the topology is unknown or wrong, a port is taken, or the folder is in use or of another version.
    """
    folder = state or Path(tempfile.mkdtemp(prefix="labenv-"))
    arguments = process_arguments(topology, state=folder, seed=seed, bind=bind, realtime=realtime)
    try:
        arguments += ["--until-stdin-closes"] if state is not None else ["--until-stdin-closes", "--temporary"]
        process = _spawn(arguments, stdin=subprocess.PIPE)
    except BaseException:
        if state is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return Lab(folder, process=process, temporary=state is None)


def up(
    topology: str,
    *,
    state: Path,
    seed: int | None = None,
    bind: str = "127.0.0.1",
    standard_ports: bool = False,
    realtime: float | None = None,
    trace: Path | None = None,
    delay: float = 0.0,
    strict: bool = False,
) -> Lab:
    """Start a lab that goes on after this process has ended; returns when everything answers.

    Raises:
        LabError: as ``start``.
    """
    arguments = process_arguments(
        topology,
        state=state,
        seed=seed,
        bind=bind,
        standard_ports=standard_ports,
        realtime=realtime,
        trace=trace,
        delay=delay,
        strict=strict,
    )
    process = _spawn([*arguments, "--detached"], stdin=subprocess.DEVNULL, detached=True)
    if process.stdout is not None:
        process.stdout.close()
    process.returncode = 0  # it outlives us by intention: keep Popen from warning that it still runs
    return Lab(state)


def process_arguments(
    topology: str,
    *,
    state: Path,
    seed: int | None,
    bind: str,
    standard_ports: bool = False,
    realtime: float | None,
    trace: Path | None = None,
    delay: float = 0.0,
    strict: bool = False,
) -> list[str]:
    """The command line of ``labenv.process``.

    ``trace``: file for a record of all requests. ``delay``: lab seconds that each of them takes longer. ``strict``: the
    arrays refuse a PATCH that changes nothing.
    """
    arguments = ["--state", str(state), "--topology", topology, "--bind", bind]
    arguments += [] if seed is None else ["--seed", str(seed)]
    arguments += ["--standard-ports"] if standard_ports else []
    arguments += [] if realtime is None else ["--realtime", str(realtime)]
    arguments += [] if trace is None else ["--trace", str(trace.absolute())]
    arguments += ["--delay", str(delay)] if delay else []
    arguments += ["--strict"] if strict else []
    return arguments


def attach(state: Path) -> Lab:
    """The lab that runs in a state folder.

    Raises:
        LabError: there is no such folder, or no lab runs in it.
    """
    try:
        (state / "endpoints.json").stat()
    except PermissionError as error:
        raise LabError(f"{state} cannot be looked into ({error.strerror}): it is somebody else's lab") from None
    except OSError:
        raise LabError(f"no lab in {state}: start one with `labenv up standalone --state {state}`") from None
    lab = Lab(state)
    lab.status()
    return lab


def profile_for(name: str) -> tuple[Path, Lab | None]:
    """What ``smhvlab.connect("lab:NAME")`` connects to, and what has to live as long as the connection.

    That is a fresh lab, which ends with the connection; with ``NAME@STATE`` it is the lab of a state folder, started
    if it does not run, and it goes on running.
    """
    topology, at, state = name.partition("@")
    if not at:
        lab = start(topology)
        return lab.profile, lab
    try:
        lab = attach(Path(state))
    except LabError:
        log.warning("a lab of %s is started there and goes on running: labenv down --state %s", topology, state)
        return up(topology, state=Path(state)).profile, None
    if (running := lab.status()["topology"]) != Path(topology).stem:
        raise LabError(f"the lab in {state} is of topology {running}, not {topology}: name another folder after the @")
    return lab.profile, None


def _spawn(arguments: list[str], *, stdin: int, detached: bool = False) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "labenv.process", *arguments]
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        apart = subprocess.DETACHED_PROCESS if detached else 0
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP | apart
    else:
        options["start_new_session"] = True  # Ctrl-C, and an interrupted notebook, mean the work and not the site
    process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, **options)  # noqa: S603 - our own module
    assert process.stdout is not None
    try:
        line = process.stdout.readline()  # one JSON line: ready, or the reason why not
        answer = json.loads(line) if line else {}
    except BaseException:
        process.kill()
        _end(process, None)
        raise
    if answer.get("ready"):
        return process
    _end(process, None)
    raise LabError(
        answer.get("error")
        or f"the lab ended while starting (exit code {process.returncode}); its messages are above, or in lab.log in "
        f"its state folder"
    )


def _end(process: subprocess.Popen[bytes], folder: Path | None) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_TIMEOUT)
    if process.stdout is not None:
        process.stdout.close()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


class Lab:
    """A client of one lab's control endpoint.

    Attributes:
        state: the lab's state folder.
        profile: the file that tells an outside program how to reach the site.
        clock: lab time.
        faults: what is broken on purpose.
        inspect: ground truth for checks; flows never see it.
    """

    def __init__(self, state: Path, *, process: subprocess.Popen[bytes] | None = None, temporary: bool = False) -> None:
        self.state = state
        self.profile = state / "endpoints.json"
        self.clock = LabClock(self)
        self.faults = LabFaults(self)
        self.inspect = Inspect(self)
        self._process = process
        self._finalizer = (
            weakref.finalize(self, _end, process, state if temporary else None) if process is not None else None
        )

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def __repr__(self) -> str:
        return f"Lab({str(self.state)!r})"

    def request(self, verb: str, **arguments: object) -> dict[str, Any]:
        """Call a verb of the control endpoint.

        Raises:
            LabError: the lab does not answer or refuses.
        """
        try:
            endpoints = json.loads(self.profile.read_text("utf-8"))
            control = endpoints["control"]
            opener = _opener(self.state)
        except (OSError, ValueError, KeyError) as error:
            raise LabError(f"{self.profile} cannot be used ({error}): start the lab with `labenv up`") from None
        request = urllib.request.Request(  # noqa: S310 - the address comes from our own endpoints file
            f"{control['url']}/{verb}",
            data=json.dumps(arguments).encode(),
            headers={"Authorization": f"Bearer {control['token']}", "Content-Type": "application/json"},
        )
        try:
            with opener.open(request, timeout=600) as answer:
                result: dict[str, Any] = json.load(answer)
                return result
        except urllib.error.HTTPError as error:
            with error:
                raise LabError(_refusal(error)) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise LabError(
                f"the lab in {self.state} does not answer ({reason}): start it with "
                f"`labenv up {endpoints['topology']} --state {self.state}`"
            ) from None

    def status(self) -> dict[str, Any]:
        """Topology, lab time, checkpoints, VM states, and failures of the lab itself."""
        return self.request("status")

    def guest(self, vm: str) -> GuestDoor:
        """A door into a running VM, for exercises and checks."""
        return GuestDoor(self, vm)

    def host(self, name: str) -> HostDoor:
        """The power button and the cables of a host."""
        return HostDoor(self.request, name)

    def storage(self, name: str) -> StorageDoor:
        """The power switch of a storage cluster, and the lines to its peers."""
        return StorageDoor(self.request, name)

    def reset(self) -> None:
        """Back to the state in which the lab was first started."""
        self.request("reset")

    def checkpoint(self, name: str) -> None:
        """Keep the whole site under a name, replacing an older checkpoint of that name."""
        self.request("checkpoint", name=name)

    def restore(self, name: str) -> None:
        """Back to a checkpoint; for the hosts this is a power cut."""
        self.request("restore", name=name)

    def down(self) -> None:
        """Stop the lab; a kept state folder stays."""
        if self._finalizer is not None:
            self._finalizer()
            return
        self.request("down")
        deadline = time.monotonic() + STOP_TIMEOUT
        while time.monotonic() < deadline:
            if not in_use(self.state):
                return
            time.sleep(0.02)
        raise LabError(f"the lab in {self.state} was told to stop and still runs")

    def kill(self) -> None:
        """End the lab's process at once, as a crash would (only for a lab started by ``start``)."""
        if self._process is None:
            raise LabError("only a lab that this process started can be killed from here")
        self._process.kill()
        self._process.wait(STOP_TIMEOUT)


class LabClock:
    """Lab time of one lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    @property
    def now(self) -> datetime:
        """The lab's time."""
        return datetime.fromisoformat(self._lab.request("clock")["time"])

    def advance(self, seconds: float) -> datetime:
        """Let lab seconds pass; returns the new time."""
        return datetime.fromisoformat(self._lab.request("clock/advance", seconds=seconds)["time"])


class LabFaults:
    """What is broken on purpose in one lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def set(self, where: str, effect: str, **options: object) -> None:
        """Add a rule; see ``labenv.faults.Fault`` for the options."""
        self._lab.request("fault", where=where, effect=effect, **options)

    def cause(self, name: str, **options: object) -> None:
        """Set a named cause (docs/faults.md); with ``at`` a change of the site waits for an edge of the next set.

        Raises:
            LabError: there is no such cause or option, or the site is not as the cause needs it.
        """
        self._lab.request("fault/cause", cause=name, options={key: str(value) for key, value in options.items()})

    def mend(self, name: str) -> None:
        """Take a named cause back: its rules are removed, what it has changed is as before."""
        self._lab.request("fault/clear", cause=name)

    def changes(self) -> list[dict[str, Any]]:
        """The changes of the site that named causes have made: ``cause`` and ``options``."""
        found: list[dict[str, Any]] = self._lab.request("fault/list").get("changes", [])
        return found

    def list(self) -> list[dict[str, Any]]:
        """Every rule with how often it has acted."""
        rules: list[dict[str, Any]] = self._lab.request("fault/list")["faults"]
        return rules

    def clear(self) -> None:
        """Remove every rule and mend every change."""
        self._lab.request("fault/clear")


class GuestDoor:
    """Actions inside a running VM."""

    def __init__(self, lab: Lab, vm: str) -> None:
        self._lab = lab
        self._vm = vm

    def _do(self, verb: str, **arguments: object) -> Any:
        return self._lab.request("guest", vm=self._vm, action=verb, arguments=arguments)["result"]

    def databases(self) -> list[str]:
        """Names of the guest's databases."""
        result: list[str] = self._do("databases")
        return result

    def insert(self, database: str, rows: int) -> int:
        """Insert rows in transactions of one; returns the number of rows."""
        return int(self._do("insert", database=database, rows=rows))

    def begin(self, database: str, rows: int) -> None:
        """Leave a transaction open that has added rows; what is copied now holds a hot journal."""
        self._do("begin", database=database, rows=rows)

    def commit(self, database: str) -> None:
        """Commit the transaction that ``begin`` left open."""
        self._do("commit", database=database)

    def count(self, database: str) -> int:
        """Number of rows."""
        return int(self._do("count", database=database))

    def checkdb(self, database: str) -> dict[str, Any]:
        """Integrity check and ledger: ``ok``, ``integrity``, ``ledger``, ``rows``."""
        result: dict[str, Any] = self._do("checkdb", database=database)
        return result

    def load(self, database: str, rows_per_second: int, *, up_to: int) -> None:
        """Let a client add rows in the background, up to so many; it goes on in lab time."""
        self._do("start_load", database=database, rows_per_second=rows_per_second, up_to=up_to)

    def stop_load(self, database: str) -> None:
        """End the background load of a database."""
        self._do("stop_load", database=database)

    def connect_portal(self, portal: str) -> None:
        """Log in to an SVM's iSCSI portal from inside the guest: its LUNs become disks of the guest."""
        self._do("connect_portal", portal=portal)

    def initiator(self) -> str:
        """The guest's own iSCSI qualified name."""
        return str(self._do("initiator"))

    def flush(self) -> None:
        """Write the guest's cache to its disks."""
        self._do("flush")

    def sysprep(self) -> None:
        """Run Sysprep in the guest: it is generalised and shuts down."""
        self._do("sysprep")

    def identity(self) -> dict[str, Any]:
        """Host name, SID, address, volumes, and whether the last shutdown was unexpected."""
        result: dict[str, Any] = self._do("identity")
        return result

    def write_file(self, path: str, text: str, *, flush: bool = False) -> None:
        """Write a text file in the guest; without ``flush`` it may still be in the guest's cache."""
        self._do("write_file", path=path, text=text, flush=flush)

    def read_file(self, path: str) -> str:
        """Contents of a text file in the guest."""
        result: str = self._do("read_file", path=path)
        return result


class Inspect:
    """Ground truth of one lab: bytes and space, for checks only."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def check(self) -> list[str]:
        """Problems that a full check of the block store finds; empty when it is sound."""
        problems: list[str] = self._lab.request("inspect/check")["problems"]
        return problems

    def files(self, volume: str, *, snapshot: str | None = None) -> dict[str, int]:
        """LUNs and files of a volume or of one of its Snapshot copies, with their sizes in bytes."""
        found: dict[str, int] = self._lab.request("inspect/files", volume=volume, snapshot=snapshot)["files"]
        return found

    def export(self, volume: str, path: str, target: Path, *, snapshot: str | None = None) -> int:
        """Write a LUN's bytes to a sparse local file; returns its size in bytes."""
        target = target.absolute()
        answer = self._lab.request("inspect/export", volume=volume, path=path, snapshot=snapshot, target=str(target))
        return int(answer["size"])

    def usage(self, volume: str) -> Mapping[str, int]:
        """Space of a volume in bytes."""
        return self._lab.request("inspect/usage", volume=volume)

    def cpu(self) -> float:
        """Real seconds for which the lab's process has computed."""
        return float(self._lab.request("inspect/memory")["cpu"])

    def memory(self) -> int | None:
        """Anonymous memory of the lab's process in bytes, where the system tells."""
        resident: int | None = self._lab.request("inspect/memory")["resident"]
        return resident


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return f"the lab's control endpoint answered {error.code} {error.reason}"


def _opener(state: Path) -> urllib.request.OpenerDirector:
    """No proxy and no CA variable of this machine may stand between a lab and its client."""
    context = ssl.create_default_context(cafile=str(state / "certificates" / "ca.pem"))
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
