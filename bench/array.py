"""The array's API beside a mock server of the same API, at many volumes, and what a SnapMirror update costs.

Run as ``python -m bench.array``. The mock is Prism with the public swagger; where npm or the swagger is missing that
part is left out, and says so.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import requests
from netapp_ontap import HostConnection, config
from netapp_ontap.resources import CLI, Cluster, ConsistencyGroup, Lun, LunMap, SnapmirrorRelationship, Snapshot, Volume
from requests.adapters import HTTPAdapter

from bench import cluster
from bench.prism import NotHere, prism
from labenv import lab as labs
from labenv.lab import Lab

MIB = 1 << 20
SVM = {"name": "svm1"}
BYTES = b"what the restore has to bring back"


def line(what: str, value: str, wanted: str = "") -> None:
    """One row of the result."""
    print(f"{what:<84}{value:>12}  {wanted}", flush=True)


class Elsewhere(HTTPAdapter):
    """Sends what the client means for ``https://host/api`` to a server that has neither TLS nor that prefix."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def send(self, request: Any, *arguments: Any, **named: Any) -> Any:
        request.url = self._address + urlsplit(request.url)._replace(scheme="", netloc="").geturl().removeprefix("/api")
        return super().send(request, *arguments, **named)


# the script of thirteen calls: each calls, then reads back what must be so ------------------------------------------


@dataclass
class Things:
    """What the calls make for those after them."""

    volume: str = ""
    lun: str = ""
    mirror: str = ""


def _volume(name: str, **more: Any) -> Volume:
    body = {"name": name, "svm": SVM, "aggregates": [{"name": "aggr1"}], "size": 256 * MIB}
    return Volume.from_dict({**body, "guarantee": {"type": "none"}, **more})


def show_cluster(_: Things) -> bool:
    shown = Cluster()
    shown.get(fields="name,version")
    return bool(shown.name == "cluster1" and shown.version.full.startswith("NetApp Release 9."))


def create_volume(things: Things) -> bool:
    made = _volume("bench1")
    made.post(hydrate=True)
    things.volume = made.uuid
    return bool(made.size == 256 * MIB and made.state == "online")


def find_volume(things: Things) -> bool:
    found = Volume.find(name="bench1", **{"svm.name": "svm1"})
    return bool(found is not None and found.uuid == things.volume)


def list_volumes(things: Things) -> bool:
    listed = list(Volume.get_collection(**{"svm.name": "svm1"}, name="bench*", fields="size"))
    return [v.uuid for v in listed] == [things.volume]


def create_lun(things: Things) -> bool:
    made = Lun.from_dict({"name": "/vol/bench1/lun1", "svm": SVM, "os_type": "hyper_v", "space": {"size": 16 * MIB}})
    made.post(hydrate=True)
    things.lun = made.uuid
    made.patch(data=BYTES, **{"data.offset": 0})
    return len(made.serial_number) == 12 and _content(things.lun) == BYTES


def map_lun(things: Things) -> bool:
    LunMap.from_dict({"svm": SVM, "lun": {"name": "/vol/bench1/lun1"}, "igroup": {"name": "hv1"}}).post()
    found = Lun(uuid=things.lun)
    found.get(fields="status.mapped")
    return bool(found.status.mapped)


def create_snapshot(things: Things) -> bool:
    Snapshot(things.volume, name="before").post()
    return [s.name for s in Snapshot.get_collection(things.volume)] == ["before"]


def restore_volume(things: Things) -> bool:
    Lun(uuid=things.lun).patch(data=b"ruined" * 9, **{"data.offset": 0})
    ruined = _content(things.lun) != BYTES
    Volume(uuid=things.volume).patch(**{"restore_to.snapshot.name": "before"})
    return ruined and _content(things.lun) == BYTES


def create_mirror(things: Things) -> bool:
    ends = {"source": {"path": "svm1:bench1"}, "destination": {"path": "svm1:bench1_dr"}}
    made = SnapmirrorRelationship.from_dict({**ends, "create_destination": {"enabled": True}, "state": "snapmirrored"})
    made.post(hydrate=True)
    things.mirror = made.uuid
    return _settled(things.mirror) == "snapmirrored"


def break_mirror(things: Things) -> bool:
    change = SnapmirrorRelationship(uuid=things.mirror)
    change.state = "broken_off"
    change.patch()
    return bool(_settled(things.mirror) == "broken_off" and Volume.find(name="bench1_dr", fields="type").type == "rw")


def delete_snapshot(things: Things) -> bool:
    Snapshot(things.volume, name="gone").post()
    found = Snapshot.find(things.volume, name="gone")
    found.delete()
    return Snapshot.find(things.volume, name="gone") is None


def create_group(things: Things) -> bool:
    members = [{"name": "bench1", "provisioning_options": {"action": "add"}}]
    made = ConsistencyGroup.from_dict({"name": "bench", "svm": SVM, "volumes": members})
    made.post(hydrate=True)
    return [v.uuid for v in made.volumes] == [things.volume]


def clustershell(_: Things) -> bool:
    shown = CLI().execute("volume show", fields="volume,state", vserver="svm1", volume="bench1")
    return [(r["volume"], r["state"]) for r in shown.http_response.json()["records"]] == [("bench1", "online")]


CALLS: Sequence[Callable[[Things], bool]] = (
    show_cluster, create_volume, find_volume, list_volumes, create_lun, map_lun, create_snapshot, restore_volume,
    create_mirror, break_mirror, delete_snapshot, create_group, clustershell,
)  # fmt: skip


def _content(lun: str) -> bytes:
    connection = config.CONNECTION
    response = connection.session.get(
        f"{connection.origin}/api/storage/luns/{lun}",
        params={"data.offset": 0, "data.size": len(BYTES)},
        headers={"Accept": "multipart/form-data"},
    )
    response.raise_for_status()
    return bytes(response.content.partition(b"\r\n\r\n")[2][: len(BYTES)])


def _settled(mirror: str) -> str:
    shown = SnapmirrorRelationship(uuid=mirror)
    for _ in range(100):
        shown.get(fields="state,transfer")
        if shown.to_dict().get("transfer", {}).get("state") not in ("queued", "transferring"):
            break
    return str(shown.state)


def thirteen(connection: HostConnection) -> tuple[int, int]:
    """How many of the calls are answered without an error, and of how many what was read back was right."""
    answered = right = 0
    things = Things()
    config.CONNECTION = connection
    for call in CALLS:
        try:
            right += call(things)
        except Exception as error:
            print(f"   {call.__name__}: {type(error).__name__}: {str(error).splitlines()[0][:90]}")
        else:
            answered += 1
    return answered, right


def connect(lab: Lab) -> HostConnection:
    """netapp-ontap at a lab's storage cluster."""
    told = json.loads(lab.profile.read_text("utf-8"))["storage"][0]
    made = HostConnection(
        told["host"], username=told["user"], password=told["password"], port=told["port"], verify=told["ca_file"],
        poll_interval=1, poll_timeout=30,
    )  # fmt: skip
    made.session.trust_env = False
    return made


def connect_mock(address: str) -> HostConnection:
    """netapp-ontap at the mock."""
    made = HostConnection("mock.invalid", username="admin", password="any", verify=False, poll_timeout=5)  # noqa: S106
    made.session.trust_env = False
    made.session.mount(made.origin, Elsewhere(address))
    return made


def throughput(ours: HostConnection, theirs: str, count: int) -> float:
    """GETs a second of the lab / of the mock, by the same plain HTTP client, in turns; the lab speaks TLS."""
    paths = ("/cluster", "/svm/svms", "/storage/volumes?fields=name,size,state", "/storage/luns?fields=name,space.size")
    found: dict[str, list[float]] = {"lab": [], "mock": []}
    with requests.Session() as plain:
        plain.trust_env = False
        plain.auth = ("admin", "any")
        for turn in range(count + 5):
            for name, session, place in (("lab", ours.session, f"{ours.origin}/api"), ("mock", plain, theirs)):
                start = time.perf_counter()
                for path in paths:
                    session.get(place + path, headers={"Accept": "application/json"}).raise_for_status()
                if turn >= 5:
                    found[name].append(time.perf_counter() - start)
    return median(found["mock"]) / median(found["lab"])


def beside_prism(quick: bool) -> None:
    """The script of thirteen calls, and how many GETs a second."""
    with labs.start("standalone") as lab, tempfile.TemporaryDirectory() as folder:
        ours = connect(lab)
        answered, right = thirteen(ours)
        line("netapp-ontap at the lab: calls answered, read back right", f"{answered}, {right} of 13", "wanted 13, 13")
        try:
            with prism(Path(folder)) as address:
                mock = connect_mock(address)
                answered, right = thirteen(mock)
                line("netapp-ontap at Prism: calls answered, read back right", f"{answered}, {right} of 13")
                ratio = throughput(ours, address, 20 if quick else 100)
                line("GETs a second: lab / Prism", f"{ratio:.1f}", "wanted 2 or more")
                mock.session.close()
        except NotHere as reason:
            line(f"Prism is left out: {reason}", "-")
        ours.session.close()


# many volumes ----------------------------------------------------------------------------------------------------

PAGES = {
    "a page of those with a name like vol_*": "?name=vol_*&max_records=50&fields=size,svm.name",
    "a page of those of an SVM that are online, all fields": "?svm.name=svm1&state=online&max_records=50&fields=*",
    "one by its name": "?name=vol_00049&fields=size",
    "a page by size": "?size=>1MB&max_records=50",
}


def many_volumes(quick: bool) -> None:
    """Filtered pages of GET /storage/volumes with many volumes / with 50; each volume has as many Snapshot copies."""
    count, copies = (1000, 20) if quick else (5000, 100)
    taken: dict[int, dict[str, float]] = {}
    for number in (50, count):
        with tempfile.TemporaryDirectory() as folder:
            here = cluster.Cluster(Path(folder))
            here.fill(number, copies)
            taken[number] = {what: _best(here, f"/api/storage/volumes{query}") for what, query in PAGES.items()}
            here.close()
    for what in PAGES:
        ratio = taken[count][what] / taken[50][what]
        line(f"{what}: {count} volumes / 50, {copies} copies each", f"{ratio:.1f}", "wanted below 3")


def _best(here: cluster.Cluster, url: str) -> float:
    found = []
    for _ in range(40):
        start = time.perf_counter()
        here.http("GET", url)
        found.append(time.perf_counter() - start)
    return sorted(found)[len(found) // 4]


# SnapMirror ------------------------------------------------------------------------------------------------------


def mirror_updates(quick: bool) -> None:
    """What an update costs: by the size of the volume, and by how many blocks have changed."""
    with tempfile.TemporaryDirectory() as folder:
        here = cluster.Cluster(Path(folder))
        small, large = (32, 256) if quick else (64, 2048)
        few, many = 200, 3200
        seconds: dict[tuple[int, int], float] = {}
        sent: dict[tuple[int, int], int] = {}
        for size in (small, large):
            _mirrored(here, f"v{size}", size)
            for blocks in (few, many):
                seconds[size, blocks], sent[size, blocks] = _update(here, f"v{size}", size, blocks)
        here.close()
    line(f"update of {few} blocks: volume of {large} MB / of {small} MB, time",
         f"{seconds[large, few] / seconds[small, few]:.2f}", "wanted about 1")  # fmt: skip
    line("the same, bytes sent", f"{sent[large, few] / sent[small, few]:.2f}", "wanted about 1")
    line(f"update of {many} blocks / of {few}, bytes sent (changed: {many // few})",
         f"{sent[large, many] / sent[large, few]:.1f}")  # fmt: skip
    line("the same, time", f"{seconds[large, many] / seconds[large, few]:.1f}")


def _mirrored(here: cluster.Cluster, name: str, size: int) -> None:
    base = {"svm.name": "svm1", "aggregates": [{"name": "aggr1"}], "size": 4 * size * MIB, "guarantee.type": "none"}
    here.do("POST", "/storage/volumes", {**base, "name": name, "snapshot_policy.name": "none"})
    lun = {"svm.name": "svm1", "name": f"/vol/{name}/lun", "os_type": "hyper_v", "space.size": size * MIB}
    here.do("POST", "/storage/luns", {**lun, "space.guarantee.requested": False})
    chance = random.Random(1)
    file = _file(here, name)
    for offset in range(0, size * MIB, MIB):
        file.write(offset, chance.randbytes(MIB))
    body = {"source.path": f"svm1:{name}", "destination.path": f"svm1:{name}_dr", "state": "snapmirrored"}
    body["create_destination.enabled"] = "true"
    here.do("POST", "/snapmirror/relationships", body)
    _wait(here, name)


def _file(here: cluster.Cluster, name: str) -> Any:
    core = here.array.core
    key = here.array.volume_key(name)
    assert key is not None
    return core.pool(key).files["/lun"]


def _wait(here: cluster.Cluster, name: str) -> Any:
    while True:
        path = f"/api/snapmirror/relationships?destination.path=svm1:{name}_dr&fields=*"
        (shown,) = here.http("GET", path)["records"]
        if shown.get("transfer", {}).get("state") not in (None, "queued", "transferring"):
            return shown


def _update(here: cluster.Cluster, name: str, size: int, blocks: int) -> tuple[float, int]:
    """Real seconds and bytes of an update after that many blocks have changed at random places."""
    chance = random.Random(blocks)
    file = _file(here, name)
    for place in chance.sample(range(size * MIB // 4096), blocks):
        file.write(place * 4096, chance.randbytes(4096))
    uuid = _wait(here, name)["uuid"]
    start = time.perf_counter()
    here.do("POST", f"/snapmirror/relationships/{uuid}/transfers", {})
    shown = _wait(here, name)
    return time.perf_counter() - start, int(shown["transfer"]["bytes_transferred"])


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer volumes, smaller volumes; rougher numbers")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # netapp-ontap's models warn when they are first imported
    beside_prism(options.quick)
    mirror_updates(options.quick)
    many_volumes(options.quick)


if __name__ == "__main__":
    main()
