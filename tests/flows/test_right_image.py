"""The right image, by digest: what restores, mounts, verifies and copies takes that which SnapInfo names (TR 6.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.mount.image import Image
from smhvlab.record import Event, StepStarted
from smhvlab.restore.state import Method
from smhvlab.site import Site
from smhvlab.snapinfo import Backup, BackupLun
from tests.flows.conftest import Start
from tests.flows.images import digest, guest_volumes, has_notes, hot
from tests.flows.test_backup_images import disturb, taken

FILE = "E:\\notes.txt"


class Scene:
    """A VM with a backup, on a site whose guest has gone on since."""

    def __init__(self, site: Site, lab: Lab, vm: str, folder: Path, *, consistency: str) -> None:
        self.site = site
        self.lab = lab
        self.folder = folder
        disturb(lab, vm)
        if consistency == "crash":
            lab.guest(vm).flush()
        self.backup: Backup = taken(site, vm, consistency=consistency)
        (self.vm,) = self.backup.vms
        lun = self.backup.lun_of(self.vm.configuration_file, self.vm.id)
        assert lun is not None
        self.lun: BackupLun = lun
        lab.guest(vm).commit("bb1")
        lab.guest(vm).write_file(FILE, "later", flush=True)

    def digest(self, *, path: str = "", snapshot: str | None = "") -> str:
        """Of the guest's files in the image that SnapInfo names, or in another."""
        with guest_volumes(self.lab, self.vm, self.lun, self.folder, path=path, snapshot=snapshot) as volumes:
            return digest(volumes)

    def recovered(self) -> str:
        """The digest of the image that SnapInfo names, which is the one that was recovered."""

        with guest_volumes(self.lab, self.vm, self.lun, self.folder) as volumes:
            if self.backup.consistency == "application":
                assert has_notes(volumes)
                assert not hot(volumes)
            return digest(volumes)

    def of_clone(self, image: Image) -> str:
        """The digest of an image that is shown: of the LUN in its FlexClone volume."""
        clone = replace(self.lun, volume=image.clone, path=image.path)
        with guest_volumes(self.lab, self.vm, clone, self.folder, snapshot=None) as volumes:
            return digest(volumes)


def during(flow: Any, step: str, look: Callable[[Any], list[str]], wanted: list[str]) -> None:
    """Run a flow; when a step of it begins, what there is to see is that which is wanted."""
    plan = flow.plan()
    seen: list[list[str]] = []

    def hear(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == step:
            seen.append(look(plan.state))

    flow.on_event = hear
    flow.run_sync(plan=plan)
    assert seen == [wanted]


def cases() -> Iterator[object]:
    """Every engine and era on a host and on a cluster, with a VM for each method; one of them is not ``long``."""
    for topology, vms in (("standalone", ("sql01", "app01")), ("two-node-cluster", ("file01", "sql01"))):
        for era in ("2008r2", "2012", "2022"):
            for vm, method in zip(vms, Method, strict=True):
                short = (topology, vm, era) == ("standalone", "sql01", "2022")
                marks = () if short else (pytest.mark.long,)
                yield pytest.param(topology, vm, era, "application", method, marks=marks)
    for vm, method in zip(("sql01", "app01"), Method, strict=True):
        yield pytest.param("standalone", vm, "2012", "crash", method, marks=pytest.mark.long)


@pytest.mark.tr("R-9-04", "R-6.2-07", "R-6.8-02")
@pytest.mark.parametrize(("topology", "vm", "era", "consistency", "method"), list(cases()))
def test_everything_takes_the_recovered_image(
    start: Start, tmp_path: Path, topology: str, vm: str, era: str, consistency: str, method: Method
) -> None:
    """A file, a mount, a verification and a restore of one backup: each holds the recovered guest, byte for byte."""
    lab = start(f"{topology}-{era}")
    with smhvlab.site.connect(lab.profile) as site:
        scene = Scene(site, lab, vm, tmp_path, consistency=consistency)
        name, then = scene.backup.name, scene.recovered()
        host = scene.vm.host

        file = site.restore_file(name, vm, guest_path=FILE, to="C:\\notes.txt", host=host)
        during(file, "clean_up", lambda images: [scene.of_clone(image) for image in images.images], [then])
        hashed = site.tools().nodes[host].host.run("Get-FileHash", {"LiteralPath": ["C:\\notes.txt"]}, select=("Hash",))
        assert str(hashed[0]["Hash"]).lower() == hashlib.sha256(b"in the cache").hexdigest()

        mount = site.mount(name, lun=scene.lun.volume, host=host, guests=True)
        mount.run_sync(accept={question.key for question in mount.plan().confirmations})
        state = mount.record.state  # type: ignore[union-attr]
        assert scene.of_clone(state.image) == then
        added = site.hot_add(state.name, vm, to=vm).plan().state.disk
        assert added.shown == state.image.access_path + scene.vm.disks[0].path[len(scene.lun.access_path) :]
        site.unmount(state.name).run_sync()

        verify = site.verify(name, host=host)
        during(verify, "check", lambda images: [scene.of_clone(image) for image in images.images], [then])
        assert verify.record is not None
        assert verify.record.result.marked

        restore = site.restore(name, vm)
        assert [lun.method for lun in restore.plan().state.luns] == [method]
        live = scene.lun.path.rpartition("_{")[0] or scene.lun.path
        during(restore, "start", lambda _: [scene.digest(path=live, snapshot=None)], [then])
        assert lab.guest(vm).count("bb1") == 100
        assert lab.guest(vm).read_file(FILE) == "in the cache"
        again = site.restore(name, vm).plan()
        assert not [c for c in again.confirmations if c.key != "not-running"]
    assert lab.inspect.check() == []
