"""``smhvlab lab``: a simulated site and JupyterLab on the notebooks, in one terminal."""

from __future__ import annotations

import filecmp
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

from smhvlab.errors import NotAllowed, ProfileError
from smhvlab.site import provided

FIRST = "00_start_here.ipynb"
OF_THE_TESTS = ("sanitize.cfg", "conftest.py")
"""Files beside the notebooks that a reader has no use for."""
OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/apputils-extension:themes": {"adaptive-theme": True},
}
"""No dialog about news (it asks the internet), and a theme that follows the desktop's."""


def open_workbench(*, folder: str | None, topology: str, port: int, browser: bool, as_json: bool = False) -> int:
    """Start a lab and JupyterLab; returns when JupyterLab has ended. Nothing is written before both can start.

    Raises:
        ProfileError: no lab is installed beside this package, or it cannot start.
        NotAllowed: the port is taken, or the folder cannot be used.
    """
    say = _say_nothing if as_json else _say
    _check_port(port)
    providers = {e.name: e for e in entry_points(group="smhvlab.sites")}
    if "lab" not in providers:
        raise ProfileError("No lab is installed beside smhvlab", next_action="Install the package again.")
    say(f"Starting the lab {topology} (a few seconds)")
    endpoints, lab = provided(providers["lab"], topology)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: neither may be left behind
    try:
        home = notebooks(folder)
        trust(home)
        with tempfile.TemporaryDirectory(prefix="smhvlab-") as settings:
            return _serve(home, endpoints, Path(settings), port=port, browser=browser, as_json=as_json)
    except KeyboardInterrupt:
        return 0  # the usual end
    finally:
        lab.down()
        say("The lab and JupyterLab have stopped.")


def _say(text: str) -> None:
    print(text, flush=True)


def _say_nothing(_: str) -> None:
    """With --json only the one object is printed."""


def notebooks(folder: str | None) -> Path:
    """The folder of notebooks: a named one, this checkout's, or a copy in ``./smhvlab-notebooks``.

    A copy is completed and brought up to date, but a file that was edited there is never overwritten.
    """
    here = Path.cwd() / "notebooks"
    if folder is None and (here / FIRST).exists():
        return here
    target = Path(folder) if folder else Path.cwd() / "smhvlab-notebooks"
    shipped = _shipped()
    if shipped is None or target.resolve() == shipped.resolve():
        return target
    marks = target / ".smhvlab"  # what we last wrote, to tell an edited file from an old one
    try:
        for source in sorted(shipped.rglob("*")):
            inside = source.relative_to(shipped)
            if source.is_dir() or ".ipynb_checkpoints" in inside.parts or source.name in OF_THE_TESTS:
                continue
            _bring(source, target / inside, marks / inside)
    except OSError as error:
        raise NotAllowed(
            f"The notebooks cannot be copied to {target}",
            why=error.strerror,
            next_action="Name another folder: smhvlab lab FOLDER.",
        ) from error
    return target


def trust(home: Path) -> None:
    """Let JupyterLab show the stored pictures of notebooks that are still as we ship them; it drops SVG from others."""
    import nbformat
    from nbformat.sign import NotebookNotary

    shipped = _shipped()
    if shipped is None:
        return
    notary = NotebookNotary()  # type: ignore[no-untyped-call]  # nbformat has no types
    for path in sorted(home.rglob("*.ipynb")):
        ours = shipped / path.relative_to(home)
        if ours.exists() and filecmp.cmp(ours, path, shallow=False):
            notary.sign(nbformat.read(path, as_version=4))  # type: ignore[no-untyped-call]
    notary.store.close()


def _shipped() -> Path | None:
    packed = Path(str(files("smhvlab") / "_notebooks"))
    beside = Path(__file__).resolve().parent.parent / "notebooks"
    return next((path for path in (packed, beside) if (path / FIRST).exists()), None)


def _bring(source: Path, target: Path, mark: Path) -> None:
    edited = target.exists() and not (mark.exists() and filecmp.cmp(target, mark, shallow=False))
    if edited:
        if not filecmp.cmp(source, target, shallow=False):
            print(f"{target} was edited: left as it is", file=sys.stderr, flush=True)
        return
    for path in (target, mark):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)


def _check_port(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":  # there it would let two listen; here it ignores what is closing
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise NotAllowed(
                f"Port {port} for JupyterLab is taken",
                why=error.strerror,
                next_action=f"Choose another one: smhvlab lab --port {port + 1}.",
            ) from error


def _serve(home: Path, endpoints: Path, settings: Path, *, port: int, browser: bool, as_json: bool) -> int:
    (settings / "overrides.json").write_text(json.dumps(OVERRIDES), "utf-8")
    token = secrets.token_urlsafe(24)
    command = [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", f"--port={port}", f"--ServerApp.root_dir={home}"]
    command += [f"--LabApp.default_url=/lab/tree/{FIRST}", "--ServerApp.port_retries=0"]
    command.append(f"--LabApp.app_settings_dir={settings}")
    command.append("--LabApp.extension_manager=readonly")  # the other one asks the internet
    command.append("--ServerApp.answer_yes=True")  # Ctrl-C reaches JupyterLab too: it must not ask
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container there is nobody else
    environment = {**os.environ, "SMHVLAB_SITE": str(endpoints), "JUPYTER_TOKEN": token}
    process = subprocess.Popen(command, env=environment)  # noqa: S603 - JupyterLab of this environment
    try:
        url = f"http://127.0.0.1:{port}/lab/tree/{FIRST}?token={token}"
        if as_json:
            _say(json.dumps({"url": url, "endpoints": str(endpoints)}))
        else:
            _say(f"JupyterLab: {url}")
            _say(f"The lab of this session: {endpoints}")
            _say("Every notebook starts a lab of its own, so nothing can be broken. Stop everything with Ctrl-C.")
        return process.wait()
    finally:
        process.terminate()  # nothing happens if it has ended
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
