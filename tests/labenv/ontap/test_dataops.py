"""netapp-dataops, a tool that people use against real clusters, unchanged against the array."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from labenv import lab as labs

from .test_client_releases import environment

SCRIPT = Path(__file__).with_name("dataops_scenario.py")


@pytest.mark.long
def test_netapp_dataops_clones_retains_restores_and_mirrors(tmp_path: Path) -> None:
    """Snapshot copies with retention, clones, a restore, a mirror with policy and schedule by the clustershell."""
    run_dataops(environment(tmp_path, "netapp-dataops-traditional"), tmp_path)


def run_dataops(python: str, folder: Path) -> None:
    """The script in a home folder of its own, against a lab."""
    with labs.start("standalone") as lab:
        told = json.loads(lab.profile.read_text("utf-8"))["storage"][0]
        settings = {
            "connectionType": "ONTAP",
            "hostname": f"{told['host']}:{told['port']}",
            "svm": "svm1",
            "dataLif": "10.0.1.21",
            "defaultVolumeType": "flexvol",
            "defaultExportPolicy": "default",
            "defaultSnapshotPolicy": "none",
            "defaultUnixUID": "0",
            "defaultUnixGID": "0",
            "defaultUnixPermissions": "0755",
            "defaultAggregate": "aggr1",
            "verifySSLCert": True,
            "sslCertPath": told["ca_file"],
        }
        home = folder / "home" / ".netapp_dataops"
        home.mkdir(parents=True)
        (home / "config.json").write_text(json.dumps(settings), "utf-8")
        quiet = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and k != "PYTHONPATH"}
        login = {"LAB_USERNAME": told["user"], "LAB_PASSWORD": told["password"]}
        trust = {"REQUESTS_CA_BUNDLE": told["ca_file"], "SSL_CERT_FILE": told["ca_file"]}
        done = subprocess.run(
            [python, str(SCRIPT)],
            env={**quiet, **trust, **login, "HOME": str(home.parent), "USERPROFILE": str(home.parent)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        saw = json.loads(done.stdout.splitlines()[-1])
        assert lab.status()["failures"] == []
    assert saw["kept"] == 2
    assert saw["clones"] == {"copy": "data", "copy2": "data"}
    assert saw["mirror"] == {"Type": "async", "Healthy": True, "Source Volume": "data", "Dest Volume": "far"}
    assert saw["after restore"] == ["first"]
