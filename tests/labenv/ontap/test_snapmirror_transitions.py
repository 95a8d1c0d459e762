"""Every request that the state of a relationship or its input forbids, with ONTAP's code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.snapmirror_relationships import Relationships
from labenv.ontap.rest.snapmirror_transfers import Transfers

from .ontap_bench import GENERIC
from .snapmirror_bench import RELATIONSHIPS, PairBench

ONE = RELATIONSHIPS + "/{uuid}"
TRANSFERS = ONE + "/transfers"
FORWARD = {"source": {"path": "svm1:vol1"}, "destination": {"path": "svm2:vol1_dr"}}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PairBench]:
    """Two clusters in this process."""
    bench = PairBench(tmp_path)
    yield bench
    bench.discard()


def uninitialized(pair: PairBench) -> str:
    return pair.protect(blocks=4)


def snapmirrored(pair: PairBench) -> str:
    uuid = uninitialized(pair)
    pair.mirrored(uuid)
    return uuid


def paused(pair: PairBench) -> str:
    uuid = snapmirrored(pair)
    assert pair.patch(uuid, "paused")[0] == 200
    return uuid


def broken_off(pair: PairBench) -> str:
    uuid = snapmirrored(pair)
    assert pair.patch(uuid, "broken_off")[0] == 200
    return uuid


def transferring(pair: PairBench) -> str:
    """An update of a gigabyte's worth of lab time is under way."""
    uuid = snapmirrored(pair)
    pair.scribble(1, "vol1", 5, blocks=8)
    pair.prices["ontap.snapmirror.mib"] = 1e6
    pair.at(2).do("POST", f"{RELATIONSHIPS}/{uuid}/transfers", {})
    return uuid


def initializing(pair: PairBench) -> str:
    uuid = uninitialized(pair)
    pair.prices["ontap.snapmirror.mib"] = 1e6
    assert pair.patch(uuid, "snapmirrored")[0] == 200
    return uuid


def unreachable(pair: PairBench) -> str:
    uuid = snapmirrored(pair)
    pair.interconnect.set_down("cluster1")
    return uuid


def unreachable_broken(pair: PairBench) -> str:
    uuid = broken_off(pair)
    pair.interconnect.set_cut("cluster1", "cluster2")
    return uuid


def unreachable_new(pair: PairBench) -> str:
    uuid = uninitialized(pair)
    pair.interconnect.set_cut("cluster1", "cluster2")
    return uuid


def nothing_common(pair: PairBench) -> str:
    """Broken off; every Snapshot copy at the source is gone."""
    uuid = broken_off(pair)
    core = pair.arrays[0].core
    for there in list(core.replication.destinations):
        core.replication.destinations.pop(there)
    for name in pair.copies(1, "vol1"):
        pair.do("DELETE", f"/storage/volumes/{pair.key(1, 'vol1')}/snapshots", name=name)
    pair.at(2)
    return uuid


def writable(pair: PairBench) -> str:
    """Uninitialized because a volume SnapRestore has dropped the reference copy (TR 8): the volume is read/write."""
    uuid = uninitialized(pair)
    pair.snap(1, "vol1", "old")
    pair.scribble(1, "vol1", 6, blocks=2)
    pair.at(2).mirrored(uuid)
    assert pair.patch(uuid, "broken_off")[0] == 200
    pair.do("PATCH", f"/storage/volumes/{pair.key(2, 'vol1_dr')}", restore_to__snapshot__name="old")
    assert pair.state_of(uuid)["state"] == "uninitialized"
    return uuid


def restoring(pair: PairBench) -> str:
    """A restore relationship back to the source volume."""
    snapmirrored(pair)
    body = {"source": {"path": "svm2:vol1_dr"}, "destination": {"path": "svm1:vol1"}, "restore": True}
    pair.at(1).do("POST", RELATIONSHIPS, body)
    return str(pair.one(RELATIONSHIPS)["uuid"])


def inside(pair: PairBench) -> str:
    """Broken off, both volumes in one cluster."""
    pair.make(2, "near")
    pair.disk(2, "/vol/near/lun1")
    pair.make(2, "far", type="dp")
    pair.do("POST", RELATIONSHIPS, {"source": {"path": "svm2:near"}, "destination": {"path": "svm2:far"}})
    uuid = str(pair.one(RELATIONSHIPS)["uuid"])
    pair.mirrored(uuid)
    assert pair.patch(uuid, "broken_off")[0] == 200
    return uuid


def one_way(pair: PairBench) -> str:
    """Broken off, under a policy that takes no Snapshot copies at the source."""
    pair.peer()
    pair.make(1, "vol1")
    pair.disk(1, "/vol/vol1/lun1")
    pair.snap(1, "vol1", "kept", snapmirror_label="daily")
    pair.make(2, "vol1_dr", type="dp")
    uuid = pair.relate("XDPDefault")
    pair.mirrored(uuid)
    assert pair.patch(uuid, "broken_off")[0] == 200
    return uuid


@dataclass(frozen=True)
class Case:
    """A request in a situation, and what it gets."""

    code: str
    situation: Callable[[PairBench], str]
    method: str
    path: str
    body: dict[str, Any] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}-{self.situation.__name__}-{self.method}-{'-'.join(map(str, self.body.values()))[:20]}"


def patch(code: str, situation: Callable[[PairBench], str], state: str, **body: Any) -> Case:
    return Case(code, situation, "PATCH", ONE, {"state": state, **body})


SWAPPED = {"source": FORWARD["destination"], "destination": FORWARD["source"], "state": "snapmirrored"}

CASES = [
    # states that cannot be asked for
    patch("13303817", snapmirrored, "nonsense"),
    patch("13303829", snapmirrored, "uninitialized"),
    patch("13303830", snapmirrored, "synchronizing"),
    patch("13303830", snapmirrored, "out_of_sync"),
    patch("13303830", snapmirrored, "expanding"),
    patch("13303831", snapmirrored, "in_sync"),
    # transitions that there are not
    patch("13303832", snapmirrored, "snapmirrored"),
    patch("13303833", uninitialized, "paused"),
    patch("13303833", uninitialized, "broken_off"),
    patch("13303833", broken_off, "paused"),
    patch("13303818", paused, "paused"),
    patch("13303818", broken_off, "broken_off"),
    patch("6619546", writable, "snapmirrored"),
    # a transfer is in the way
    patch("13303808", transferring, "broken_off"),
    patch("13303832", transferring, "snapmirrored"),
    patch("13303823", transferring, "paused"),
    patch("13303810", initializing, "snapmirrored"),
    Case("13303844", transferring, "POST", TRANSFERS),
    Case("13303812", initializing, "POST", TRANSFERS),
    Case("6619715", transferring, "DELETE", ONE),
    Case("6619715", initializing, "DELETE", ONE, {}, {"destination_only": "true"}),
    # the source does not answer
    Case("13303844", unreachable, "POST", TRANSFERS),
    Case("13303812", unreachable_new, "POST", TRANSFERS),
    patch("13303810", unreachable_new, "snapmirrored"),
    patch("13303810", unreachable_broken, "snapmirrored"),
    Case("13303810", unreachable_broken, "PATCH", ONE, SWAPPED),
    Case("13303815", unreachable, "DELETE", ONE),
    Case("13303925", unreachable, "POST", RELATIONSHIPS, {**FORWARD, "destination": {"path": "svm2:other"}}),
    # updates in other states
    Case("13303844", paused, "POST", TRANSFERS),
    Case("13303844", broken_off, "POST", TRANSFERS),
    Case("13303812", writable, "POST", TRANSFERS),
    Case("13303844", snapmirrored, "POST", TRANSFERS, {"source_snapshot": "none"}),
    Case("13303847", snapmirrored, "POST", TRANSFERS, {"files": [{"source_path": "/a", "destination_path": "/b"}]}),
    # resync
    patch("13303810", nothing_common, "snapmirrored"),
    Case("13303810", nothing_common, "PATCH", ONE, SWAPPED),
    # the other way round
    Case("13303833", snapmirrored, "PATCH", ONE, SWAPPED),
    Case("13304003", inside, "PATCH", ONE,
         {"source.path": "svm2:far", "destination.path": "svm2:near", "state": "snapmirrored"}),
    Case("13304086", one_way, "PATCH", ONE, SWAPPED),
    Case("13304120", broken_off, "PATCH", ONE, {"source.path": "svm1:else", "state": "snapmirrored"}),
    # breaking
    patch("13303808", snapmirrored, "broken_off", restore_to_snapshot="none"),
    # flags
    patch("13303834", broken_off, "snapmirrored", recover_after_break=True),
    patch("13303835", broken_off, "snapmirrored", restore_to_snapshot="x"),
    patch("13303836", snapmirrored, "broken_off", preserve=True),
    patch("13303836", snapmirrored, "paused", quick_resync=True),
    Case("13303837", snapmirrored, "PATCH", ONE, {"preserve": True}),
    Case("13303837", snapmirrored, "PATCH", ONE, {"restore_to_snapshot": "x"}),
    # other properties
    Case("6619699", snapmirrored, "PATCH", ONE, {"transfer_schedule": {"name": "none"}}),
    Case("13303821", snapmirrored, "PATCH", ONE, {"policy": {"name": "none"}}),
    # creating
    Case("6619637", snapmirrored, "POST", RELATIONSHIPS, FORWARD),
    Case("6619441", inside, "POST", RELATIONSHIPS, {"source.path": "svm2:near", "destination.path": "svm2:near"}),
    Case("13303852", uninitialized, "POST", RELATIONSHIPS, {**FORWARD, "destination": {"path": "vol1_dr"}}),
    Case("13303852", uninitialized, "POST", RELATIONSHIPS, {**FORWARD, "source": {"path": "vol1"}}),
    Case("13303841", uninitialized, "POST", RELATIONSHIPS, {**FORWARD, "destination": {"path": "svm2:"}}),
    Case("13303886", uninitialized, "POST", RELATIONSHIPS, {**FORWARD, "source": {"path": "svm9:vol1"}}),
    Case("13303925", uninitialized, "POST", RELATIONSHIPS, {**FORWARD, "destination": {"path": "svm2:none"}}),
    Case("13303821", uninitialized, "POST", RELATIONSHIPS, {**FORWARD, "destination": {"path": "svm2:svm2_root"},
                                                            "policy": {"name": "none"}}),
    Case("6619699", uninitialized, "POST", RELATIONSHIPS, {**FORWARD, "destination": {"path": "svm2:svm2_root"},
                                                           "transfer_schedule": {"name": "none"}}),
    Case("6619546", uninitialized, "POST", RELATIONSHIPS, {**FORWARD, "destination": {"path": "svm2:svm2_root"}}),
    Case("13303873", uninitialized, "POST", RELATIONSHIPS, {**FORWARD, "destination": {"path": "svm2:svm2_root"},
                                                            "state": "snapmirrored"}),
    Case("13303874", uninitialized, "POST", RELATIONSHIPS, {**FORWARD, "destination": {"path": "svm2:svm2_root"},
                                                            "state": "broken_off"}),
    Case("13303869", uninitialized, "POST", RELATIONSHIPS, {**FORWARD, "destination": {"path": "svm2:new"},
                                                            "restore": True, "create_destination": {"enabled": True}}),
    Case("13303868", uninitialized, "POST", RELATIONSHIPS, {**FORWARD, "create_destination": {"enabled": True}}),
    Case("13303878", uninitialized, "POST", RELATIONSHIPS,
         {**FORWARD, "destination": {"path": "svm2:vol1_dr", "svm": {"name": "svm9"}}}),
    # restore relationships
    Case("13303851", restoring, "PATCH", ONE, {"state": "paused"}),
    Case("13303855", restoring, "DELETE", ONE, {}, {"destination_only": "true"}),
    Case("13303846", restoring, "POST", TRANSFERS, {"files": []}),
    Case("13303845", restoring, "POST", TRANSFERS, {"source_snapshot": "none"}),
    Case("13303925", snapmirrored, "POST", RELATIONSHIPS, {**FORWARD, "restore": True}),
    # deleting and releasing
    Case("13304082", snapmirrored, "DELETE", ONE, {}, {"destination_only": "true", "source_only": "true"}),
    Case("4", snapmirrored, "DELETE", ONE, {}, {"source_only": "true"}),  # at the destination's cluster
    # aborting
    Case("13303849", snapmirrored, "PATCH", TRANSFERS + "/{transfer}", {"state": "aborted"}),
    Case("13303849", transferring, "PATCH", TRANSFERS + "/{transfer}", {"state": "success"}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_forbidden_gets_its_code(pair: PairBench, case: Case) -> None:
    """The request is refused with the documented code, and the relationship stays what it was."""
    uuid = case.situation(pair)
    before = pair.state_of(uuid) if "uuid" in case.path else {}
    path = case.path.replace("{uuid}", uuid).replace("{transfer}", before.get("transfer", {}).get("uuid", ""))
    status, answer = pair.call(case.method, path, case.body, return_timeout=120, **case.query)
    assert status >= 400, answer
    assert answer["error"]["code"] == case.code, answer
    if before and case.code != "13303823":
        assert pair.state_of(uuid).get("state") == before.get("state")


def test_a_source_that_is_being_read_is_not_released(pair: PairBench) -> None:
    """Release at the source while a transfer reads it: 13303822; the transfer goes on."""
    uuid = transferring(pair)
    answer = pair.at(1).call("DELETE", f"{RELATIONSHIPS}/{uuid}", source_only="true", return_timeout=9)[1]
    assert answer["error"]["code"] == "13303822"
    assert pair.at(2).state_of(uuid)["transfer"]["state"] == "transferring"


@pytest.mark.parametrize("collection", [Relationships, Transfers], ids=lambda c: c.__name__)
def test_every_declared_code_is_shown(collection: type[Collection]) -> None:
    """No code is declared that these tests do not provoke."""
    base = RELATIONSHIPS if collection is Relationships else TRANSFERS
    shown = {case.code for case in CASES if case.path.startswith(base)} | {"13303822"}
    for codes in collection.codes.values():
        assert set(codes) - GENERIC <= shown
