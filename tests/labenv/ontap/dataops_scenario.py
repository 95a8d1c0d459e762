"""A data scientist's tool, netapp-dataops, at the array: run as ``python dataops_scenario.py`` with a home of its own.

The tool reads ``~/.netapp_dataops/config.json`` and a keyring, here the environment's LAB_USERNAME and LAB_PASSWORD.
Prints what it saw as one line of JSON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings

warnings.simplefilter("ignore")

import keyring  # noqa: E402
from keyring.backend import KeyringBackend  # noqa: E402
from netapp_dataops.traditional import (  # noqa: E402
    clone_volume,
    create_snap_mirror_relationship,
    create_snapshot,
    create_volume,
    delete_volume,
    list_snap_mirror_relationships,
    list_snapshots,
    list_volumes,
    restore_snapshot,
    sync_snap_mirror_relationship,
)


class Environment(KeyringBackend):
    """User name and password of the lab."""

    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        return os.environ.get(f"LAB_{username.upper()}")

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError


keyring.set_keyring(Environment())


def main() -> None:
    """A volume, Snapshot copies with retention, clones, a restore, a mirror and its update."""
    logging.disable(logging.CRITICAL)
    saw: dict[str, object] = {}
    create_volume(volume_name="data", volume_size="200MB", print_output=True)
    create_snapshot(volume_name="data", snapshot_name="first", print_output=True)
    for _ in range(4):
        create_snapshot(volume_name="data", snapshot_name="kept", retention_count=2, print_output=True)
        time.sleep(1.1)  # its names have seconds
    saw["kept"] = len([s for s in list_snapshots(volume_name="data") if s["Snapshot Name"].startswith("kept.")])
    clone_volume(new_volume_name="copy", source_volume_name="data", source_snapshot_name="kept*", print_output=True)
    clone_volume(new_volume_name="copy2", source_volume_name="data", print_output=True)
    volumes = {v["Volume Name"]: v for v in list_volumes()}
    saw["clones"] = {name: volumes[name].get("Source Volume") for name in ("copy", "copy2")}
    for name in ("copy", "copy2"):
        delete_volume(volume_name=name, print_output=True)
    restore_snapshot(volume_name="data", snapshot_name="first", print_output=True)
    saw["after restore"] = [s["Snapshot Name"] for s in list_snapshots(volume_name="data")]
    create_volume(volume_name="far", volume_size="400MB", vol_dp=True, print_output=True)
    create_snap_mirror_relationship(
        source_svm="svm1", source_vol="data", target_vol="far", schedule="hourly", policy="MirrorAllSnapshots",
        action="initialize", print_output=True,
    )  # fmt: skip
    for _ in range(100):
        (mirror,) = list_snap_mirror_relationships()
        if mirror["Current Transfer Status"] == "success":  # of the baseline
            break
    sync_snap_mirror_relationship(uuid=mirror["UUID"], wait_until_complete=True, print_output=True)
    saw["mirror"] = {key: mirror[key] for key in ("Type", "Healthy", "Source Volume", "Dest Volume")}
    sys.__stdout__.write(json.dumps(saw) + "\n")  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
