"""A real JupyterLab, started as a user starts it, and the system's Chromium to look at it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.browser.pages import Screen, Workbench

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",  # in a container there is nobody else
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
VIEW = {"width": 1300, "height": 5600}
"""Tall: JupyterLab keeps cells that are off the screen out of the page."""


@pytest.fixture(scope="session")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """The workbench that the lessons' tests share."""
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with started(tmp_path_factory.mktemp("workbench")) as made:
        yield made


@pytest.fixture
def brief_workbench(tmp_path: Path) -> Iterator[Workbench]:
    """A workbench that a test may stop."""
    with started(tmp_path) as made:
        yield made


@contextmanager
def started(top: Path) -> Iterator[Workbench]:
    """``smhvlab lab FOLDER`` with a home of its own, on a free port."""
    folder, settings = top / "lessons", top / "settings"
    settings.mkdir()
    (settings / "jupyter_lab_config.json").write_text(json.dumps({"LabApp": {"expose_app_in_browser": True}}), "utf-8")
    environment = {
        **os.environ,
        "HOME": str(top),
        "JUPYTER_CONFIG_DIR": str(settings),
        "JUPYTER_DATA_DIR": str(top / "data"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "smhvlab", "lab", str(folder), "--no-browser", "--port", str(port)]
    with (top / "errors.txt").open("w") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        try:
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line)
                if "Ctrl-C" in line:
                    break
            url = re.search(r"http://\S+", "".join(lines))
            assert url, f"no address in {lines}; {(top / 'errors.txt').read_text('utf-8')}"
            _wait_for(port, process)
            yield Workbench(url[0], folder, process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(30)
            process.stdout.close()


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    """Until JupyterLab listens."""
    for _ in range(600):
        assert process.poll() is None, "smhvlab lab has ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("JupyterLab does not listen after a minute")


@pytest.fixture
def screen(workbench: Workbench, tmp_path: Path) -> Iterator[Screen]:
    """A fresh browser. Pictures go to $SMHVLAB_SHOTS, or to the test's own folder."""
    from playwright.sync_api import sync_playwright

    shots = Path(os.environ.get("SMHVLAB_SHOTS") or tmp_path)
    shots.mkdir(parents=True, exist_ok=True)
    chosen = next(path for name in BROWSERS if (path := shutil.which(name)))
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"), executable_path=chosen, headless=True, viewport=VIEW, args=list(FLAGS)
        )
        made = Screen(context.pages[0], shots)
        made.page.on("request", lambda request: made.heard(request.url))
        made.page.on("websocket", lambda socket: made.heard(socket.url))
        yield made
        context.close()
