"""Standard ports: for clients that know no port; and what to do where they are forbidden."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import smhvlab.site
from labenv import lab as labs
from labenv import process
from tests.labenv.commands import ROOT

ADDRESS = "127.0.0.5"


def allowed(port: int) -> bool:
    """Whether this process may listen there."""
    with socket.socket() as probe:
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


@pytest.mark.skipif(not (allowed(443) and allowed(5986)), reason=f"ports of {ADDRESS} are not ours to take")
def test_standard_ports_on_an_address_of_their_own(tmp_path: Path) -> None:
    """The cluster answers on 443 and the host on 5986, without a port in any client's settings."""
    lab = labs.up("standalone", state=tmp_path / "lab", bind=ADDRESS, standard_ports=True)
    try:
        told = json.loads(lab.profile.read_text("utf-8"))
        assert [(e["host"], e["port"]) for e in told["storage"]] == [(ADDRESS, 443)]
        assert [(e["host"], e["port"]) for e in told["hyperv"]] == [(ADDRESS, 5986)]
        assert not told["control"]["url"].endswith((":443", ":5986"))
        for kind in ("storage", "hyperv"):
            for entry in told[kind]:
                del entry["port"]  # the toolkit's defaults are the standard ports
        with smhvlab.site.connect(told) as site:
            assert bool(site.check()["ok"].all())
    finally:
        lab.down()


def unprivileged() -> list[str]:
    """The beginning of a command that runs as nobody, [] if that cannot be done here."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("setpriv") is None:
        return []
    limit = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not limit.exists() or int(limit.read_text("ascii")) <= 443:
        return []
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable]
    probe = subprocess.run([*command, "-c", "import labenv.process"], capture_output=True, cwd=ROOT, check=False)
    return command if probe.returncode == 0 else []


def test_a_forbidden_port_comes_with_its_remedy(tmp_path: Path) -> None:
    """An ordinary user is told which port, and the one command that allows it."""
    command = unprivileged()
    if not command:
        pytest.skip("needs Linux, root, setpriv, and ports that are forbidden to others")
    folder = tmp_path / "lab"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    for parent in folder.parents:  # pytest's folders are closed to others
        if parent.owner() == "root" and parent.stat().st_mode & 0o055 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    arguments = ["-m", "labenv.process", "--topology", "standalone", "--state", str(folder)]
    done = subprocess.run(
        [*command, *arguments, "--bind", ADDRESS, "--standard-ports"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    said = json.loads(done.stdout)["error"]
    assert done.returncode == 2
    assert f"port 443 for cluster1 on {ADDRESS} is not allowed" in said
    assert "sudo sysctl net.ipv4.ip_unprivileged_port_start=443" in said


@pytest.mark.parametrize(
    ("system", "remedy"),
    [
        ("Linux", "ip_unprivileged_port_start=443"),
        ("Darwin", "without --standard-ports"),
        ("Windows", "elevated prompt"),
    ],
)
def test_each_system_has_its_own_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, remedy: str
) -> None:
    """The same refusal on Linux, macOS and Windows names what helps there."""

    class Forbidden(socket.socket):
        def bind(self, address: object, /) -> None:
            if isinstance(address, tuple) and 0 < address[1] < 1024:
                raise PermissionError(errno.EACCES, "Permission denied")
            super().bind(address)  # type: ignore[arg-type]

    monkeypatch.setattr(process.socket, "socket", Forbidden)
    monkeypatch.setattr(platform, "system", lambda: system)
    said: list[object] = []
    how = labs.process_arguments(
        "standalone", state=tmp_path / "lab", seed=None, bind="127.0.0.1", standard_ports=True, realtime=None
    )
    assert process.main(how, say=lambda message: said.append(message["error"])) == 2
    assert "port 443 for cluster1 on 127.0.0.1 is not allowed (Permission denied)" in str(said[0])
    assert remedy in str(said[0])
