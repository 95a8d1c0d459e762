"""Files of volumes: listed, read, written, renamed and deleted; clones of files and of ranges of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from .ontap_bench import MIB, Answer, Bench


def multipart(data: bytes) -> tuple[bytes, dict[str, str]]:
    """A body with one part, and its headers."""
    head = b'--XX\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
    return head + data + b"\r\n--XX--\r\n", {"content_type": "multipart/form-data; boundary=XX"}


def put(bench: Bench, method: str, volume: str, name: str, data: bytes, query: str = "") -> Answer:
    body, headers = multipart(data)
    return bench.http(method, f"/api/storage/volumes/{volume}/files/{quote(name, safe='')}?{query}", body, **headers)


def get(bench: Bench, volume: str, name: str, query: str = "") -> bytes:
    url = f"/api/storage/volumes/{volume}/files/{quote(name, safe='')}?{query}"
    answer = bench.http("GET", url, accept="multipart/form-data")
    assert answer.status == 200, answer
    return answer.content.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]


def code(answer: tuple[int, Any]) -> str:
    return str(answer[1]["error"]["code"])


@pytest.fixture
def volume(bench: Bench) -> str:
    """A volume with a LUN, a plain file, and a Snapshot copy of both."""
    uuid = bench.volume(snapshot_policy={"name": "none"})
    bench.lun()
    bench.blocks.volume(uuid).files["/lun1"].write(0, b"lun" * 4096)
    assert put(bench, "POST", uuid, "notes", b"first" * 2000).status == 201
    bench.snapshot(uuid, "s1")
    return uuid


def names(answer: Any) -> list[tuple[str, str]]:
    return [(record["name"], record["type"]) for record in answer["records"]]


def test_directories_are_listed(bench: Bench, volume: str) -> None:
    """The root shows files, LUNs and .snapshot; .snapshot shows the copies, and each of them its files."""
    path = f"/storage/volumes/{volume}/files"
    dots = [(".", "directory"), ("..", "directory")]
    inside = [("lun1", "lun"), ("notes", "file")]
    assert names(bench.do("GET", path)) == [*dots, (".snapshot", "directory"), *inside]
    assert names(bench.do("GET", f"{path}/%2F")) == names(bench.do("GET", path))
    assert names(bench.do("GET", f"{path}/.snapshot")) == [*dots, ("s1", "directory")]
    assert names(bench.do("GET", f"{path}/.snapshot%2Fs1")) == [*dots, *inside]
    assert names(bench.do("GET", path, type="lun|file", fields="size")) == inside
    assert code(bench.call("GET", f"{path}/nowhere")) == "6684674"
    assert code(bench.call("GET", f"{path}/.snapshot%2Fs2")) == "6684674"
    assert code(bench.call("GET", f"{path}/..%2F..%2Fetc")) == "6684674"


def test_metadata_tell_sizes(bench: Bench, volume: str) -> None:
    """return_metadata gives one file's record, of the file system or of a Snapshot copy."""
    path = f"/storage/volumes/{volume}/files"
    (lun,) = bench.do("GET", f"{path}/lun1", return_metadata="true")["records"]
    assert (lun["type"], lun["size"], lun["path"]) == ("lun", 64 * MIB, "lun1")
    (copy,) = bench.do("GET", f"{path}/.snapshot%2Fs1%2Fnotes", return_metadata="true")["records"]
    assert (copy["size"], copy["is_snapshot"]) == (10000, True)
    (root,) = bench.do("GET", f"{path}/.", return_metadata="true")["records"]
    assert root["type"] == "directory"


def test_plain_files_are_written_and_read(bench: Bench, volume: str) -> None:
    """A file is made with data, written anywhere, grows, is renamed and deleted; its Snapshot copy stays."""
    assert put(bench, "PATCH", volume, "notes", b"LAST", "byte_offset=10002").status == 200
    assert get(bench, volume, "notes", "byte_offset=9995") == b"first\x00\x00LAST"
    assert put(bench, "POST", volume, "notes", b"again").json["error"]["code"] == "6488118"
    assert put(bench, "POST", volume, "notes", b"again", "overwrite=true").status == 201
    assert get(bench, volume, "notes") == b"again"
    path = f"/storage/volumes/{volume}/files"
    bench.do("PATCH", f"{path}/notes", {"path": "renamed"})
    assert get(bench, volume, "renamed", "length=2") == b"ag"
    bench.kill()
    assert get(bench, volume, "renamed") == b"again"
    bench.do("DELETE", f"{path}/renamed")
    assert code(bench.call("GET", f"{path}/renamed")) == "6684674"
    assert get(bench, volume, ".snapshot/s1/notes", "length=10") == b"firstfirst"


def test_a_restored_volume_has_its_files_back(bench: Bench, volume: str) -> None:
    """Volume SnapRestore and FlexClone volumes bring plain files along."""
    put(bench, "POST", volume, "notes", b"other", "overwrite=true")
    origin = {"parent_volume.name": "vol1", "parent_snapshot.name": "s1"}
    bench.do("POST", "/storage/volumes", {"name": "copy", "svm.name": "svm1", "clone": origin})
    copy = bench.one("/storage/volumes", name="copy")["uuid"]
    assert get(bench, copy, "notes", "length=5") == b"first"
    bench.do("PATCH", f"/storage/volumes/{volume}", {"restore_to.snapshot.name": "s1"})
    assert get(bench, volume, "notes", "length=5") == b"first"


def test_luns_and_snapshots_are_safe(bench: Bench, volume: str) -> None:
    """LUNs are changed by their own collection, Snapshot copies and directories not at all."""
    path = f"/storage/volumes/{volume}/files"
    assert code(bench.call("DELETE", f"{path}/lun1")) == "131073"
    assert code(bench.call("PATCH", f"{path}/lun1", {"path": "lun2"})) == "131073"
    assert put(bench, "PATCH", volume, "lun1", b"x").json["error"]["code"] == "131073"
    assert put(bench, "POST", volume, "lun1", b"x", "overwrite=true").json["error"]["code"] == "131073"
    assert code(bench.call("DELETE", f"{path}/.snapshot%2Fs1%2Fnotes")) == "131102"
    assert code(bench.call("PATCH", f"{path}/.snapshot%2Fs1%2Fnotes", {"path": "out"})) == "131102"
    assert code(bench.call("DELETE", f"{path}/.snapshot")) == "131102"
    assert code(bench.call("DELETE", f"{path}/.")) == "131138"
    assert code(bench.call("POST", f"{path}/dir", {"type": "directory"})) == "6488064"
    assert put(bench, "POST", volume, "dir/file", b"x").json["error"]["code"] == "6684674"
    assert code(bench.call("PATCH", f"{path}/notes", {"path": "lun1"})) == "131073"
    bench.do("PATCH", f"/storage/volumes/{volume}", {"state": "offline"})
    assert code(bench.call("GET", path)) == "917752"


def test_another_svm_sees_no_files(bench: Bench, volume: str) -> None:
    """An SVM administrator finds no volume of another SVM."""
    for method in ("GET", "DELETE"):
        url = f"/api/storage/volumes/{volume}/files/notes"
        assert bench.http(method, url, user="vsadmin", password="other-secret").code == "918235"


CLONE = "/storage/file/clone"


def test_plain_files_are_cloned(bench: Bench, volume: str) -> None:
    """A plain file's clone is a plain file; from a Snapshot copy, too, and over one that is there."""
    body = {"volume": {"name": "vol1"}, "source_path": "notes", "destination_path": "more"}
    bench.do("POST", CLONE, body)
    bench.advance(60)
    assert get(bench, volume, "more", "length=5") == b"first"
    put(bench, "PATCH", volume, "notes", b"xxxxx")
    again = {**body, "source_path": ".snapshot/s1/notes", "destination_path": "notes"}
    assert code(bench.call("POST", CLONE, again, return_timeout=9)) == "13565952"
    bench.do("POST", CLONE, {**again, "overwrite_destination": True})
    assert get(bench, volume, "notes", "length=5") == b"first"
    assert bench.do("GET", "/storage/luns")["num_records"] == 1
    onto_lun = {**body, "destination_path": "lun1", "overwrite_destination": True}
    assert code(bench.call("POST", CLONE, onto_lun, return_timeout=9)) == "13565952"


def test_ranges_are_cloned(bench: Bench, volume: str) -> None:
    """``range`` names blocks of 4 KiB of the source, of the destination, and how many."""
    bench.lun("/vol/vol1/lun2")
    lun = bench.blocks.volume(volume).files["/lun1"]
    lun.write(8192, b"A" * 8192)
    body = {
        "volume": {"uuid": volume},
        "source_path": "lun1",
        "destination_path": "lun2",
        "range": ["2:100:2", "0:7:1"],
    }
    before = bench.one("/storage/volumes", name="vol1")["space"]["used"]
    bench.do("POST", CLONE, body)
    copy = bench.blocks.volume(volume).files["/lun2"]
    assert copy.read(100 * 4096, 3 * 4096) == b"A" * 8192 + bytes(4096)
    assert copy.read(7 * 4096, 4096) == lun.read(0, 4096)
    assert bench.one("/storage/volumes", name="vol1")["space"]["used"] == before
    bench.advance(60)
    bench.do("POST", CLONE, {**body, "source_path": ".snapshot/s1/lun1", "range": ["0:2:1"]})
    assert copy.read(8192, 4096) == (b"lun" * 1366)[:4096]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"range": ["1:2"]}, "917898"),
        ({"range": ["a:b:c"]}, "917898"),
        ({"range": ["-1:0:1"]}, "917898"),
        ({"range": ["0:0:0"]}, "13565952"),
        ({"range": ["0:0:99999999"]}, "13565952"),
        ({"range": ["0:0:4", "2:9:4"]}, "13565952"),
        ({"destination_path": "none"}, "13565952"),
        ({"source_path": "none"}, "13565952"),
        ({"destination_path": "a/b"}, "6684674"),
    ],
    ids=str,
)
def test_impossible_ranges_are_refused(bench: Bench, volume: str, changes: dict[str, Any], wanted: str) -> None:
    """Ranges that overlap, leave a file or make no sense are refused, and nothing is changed."""
    bench.lun("/vol/vol1/lun2")
    body = {"volume.name": "vol1", "source_path": "lun1", "destination_path": "lun2", "range": ["0:0:1"], **changes}
    assert code(bench.call("POST", CLONE, body, return_timeout=9)) == wanted
    assert bench.blocks.volume(volume).files["/lun2"].used == 0
