"""A Prism mock server from the public swagger of the array's API, to measure beside: needs npm and the swagger."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = "@stoplight/prism-cli@5.14.2"
SWAGGER = Path(os.environ.get("LABENV_FACTS", "facts")) / "ontap_rest.swagger.yaml"


class NotHere(Exception):
    """Prism cannot be measured on this machine; the text says why."""


@contextmanager
def prism(folder: Path) -> Iterator[str]:
    """Install Prism into a folder and serve the swagger; gives the address. Raises ``NotHere``."""
    if shutil.which("npm") is None:
        raise NotHere("npm is not installed")
    if not SWAGGER.exists():
        raise NotHere("the public swagger is not beside this checkout (LABENV_FACTS)")
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), PACKAGE]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHere(f"{PACKAGE} cannot be installed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [
        str(folder / "node_modules" / ".bin" / "prism"),
        "mock",
        "-p",
        str(port),
        "-h",
        "127.0.0.1",
        str(SWAGGER),
    ]
    with (folder / "prism.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield _ready(process, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(20)


def _ready(process: subprocess.Popen[bytes], address: str) -> str:
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=2):
                return address
        except OSError:
            time.sleep(0.2)
    raise NotHere("Prism did not start")
