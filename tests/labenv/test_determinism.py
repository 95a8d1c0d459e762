"""The same requests in the same order give the same answers, ids and times: in every lab of the same seed."""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import smhvlab.site
from labenv import lab as labs

VMS = ("sql01", "app01", "web01")


@dataclass(frozen=True)
class Story:
    """All that one lab showed during the same work."""

    fresh: Any
    ids: Sequence[Any]
    wires: Sequence[tuple[str, ...]]
    status: Any
    guests: Sequence[Any]


_chance = threading.local()  # what a thread's uuids are made of, so that marks of runs are the same in each


def story(seed: int) -> Story:
    """A fresh lab; a VM is provisioned, backed up, damaged and restored over both wires."""
    _chance.source = random.Random(1)
    with labs.start("standalone", seed=seed) as lab, smhvlab.site.connect(lab.profile) as site:
        fresh = lab.status()
        ids = [
            *site.vms()["id"],
            *site.luns()["serial"],
            *site.disks()["unique_id"],
            *site.disks()["volume_path"],
            *(volume.uuid for lun in site.tools().storage.luns() for volume in [lun.volume]),
            *(lab.guest(vm).identity()["sid"] for vm in VMS),
        ]
        site.provision("web02").run_sync()
        site.create_dataset("Set", ["web02", "app01"])
        site.tools().sql.insert("web02", "bb1", 100)
        lab.clock.advance(3600)
        backup = site.backup("Set", consistency="crash").run_sync().result.backup.name
        site.tools().sql.insert("web02", "bb1", 50)
        site.restore(backup, "web02").run_sync()
        wires = [(str(e.wire), e.title, e.request, e.response, e.status, e.code, e.step) for e in site.log.entries]
        guests = [(lab.guest(vm).identity(), lab.guest(vm).checkdb("bb1")) for vm in (*VMS, "web02")]
        return Story(fresh, ids, wires, lab.status(), guests)


@pytest.fixture(scope="module")
def stories() -> Sequence[Story]:
    """Two labs of seed 1 and one of seed 2, all at the same time: whatever else runs does not matter."""
    true_chance = os.urandom

    def chance(size: int) -> bytes:
        source: random.Random | None = getattr(_chance, "source", None)
        return true_chance(size) if source is None else source.randbytes(size)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(3) as pool:
        patch.setattr(os, "urandom", chance)
        # a restore announces from where it is made, and these are made from folders of their own
        patch.setattr("smhvlab.restore.announced.journal_folder", lambda site, _: Path(site))
        return list(pool.map(story, (1, 1, 2)))


def test_the_same_seed_gives_the_same_lab(stories: Sequence[Story]) -> None:
    """Ids, serial numbers, every request and answer of both wires, lab time and guests are equal to the last byte."""
    one, two, _ = stories
    assert len(one.wires) > 100
    assert one.fresh == two.fresh
    assert one.ids == two.ids
    assert one.wires == two.wires
    assert one.status == two.status
    assert one.guests == two.guests


def test_another_seed_gives_another_lab(stories: Sequence[Story]) -> None:
    """Not one id, serial number or SID is the same; the site looks alike and takes the same lab time."""
    one, _, other = stories
    assert len(one.ids) == len(other.ids)
    assert not {i for i in one.ids if i} & {i for i in other.ids if i}
    assert {**one.status, "seed": 2} == other.status
    assert titles(one) == titles(other)


def titles(story: Story) -> list[str]:
    """The requests without the ids in them."""
    return [re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", title) for _, title, *_ in story.wires]


def test_ids_are_all_different(stories: Sequence[Story]) -> None:
    """No two things of one site share an id."""
    (*_, story) = stories
    volumes = [i for i in story.ids if i]
    assert len(set(volumes)) == len(volumes)


def test_outputs_hold_nothing_of_this_machine(stories: Sequence[Story]) -> None:
    """What the wire log shows has no port, loopback address or path in it, so it is the same everywhere."""
    text = "\n".join("\n".join(wire) for wire in stories[0].wires)
    assert "$ONTAP" in text
    assert [word for word in ("127.0.0.1", "localhost", "endpoints.json", "ca.pem") if word in text] == []
