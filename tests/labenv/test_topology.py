"""Topology files: what ships is sound, and every typo gives one message with file, field and reason."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from labenv import topology
from labenv.topology import TopologyError

SHIPPED = (files("labenv") / "topologies" / "standalone.toml").read_text("utf-8")
CLUSTERED = (files("labenv") / "topologies" / "two-node-cluster.toml").read_text("utf-8")


@pytest.mark.parametrize("name", topology.names())
def test_what_ships_is_sound(name: str) -> None:
    """Every shipped topology loads under its name and has a title for the list."""
    found = topology.load(name)
    assert found.name == name
    assert len(found.title) > 10


def test_a_file_of_ones_own_is_named_after_the_file(tmp_path: Path) -> None:
    """A copy of a shipped topology loads by its path; sizes are bytes."""
    path = tmp_path / "mine.toml"
    path.write_text(SHIPPED, "utf-8")
    found = topology.load(str(path))
    assert found.name == "mine"
    assert found.golden.lun_size == 30 << 30
    assert topology.load("standalone").cluster == found.cluster


def test_a_shipped_topology_in_another_era() -> None:
    """An era behind the name replaces that of the file, and nothing else; an unknown era is no topology."""
    found = topology.load("standalone-2022")
    assert (found.name, found.era) == ("standalone-2022", "2022")
    assert found.cluster == topology.load("standalone").cluster
    with pytest.raises(TopologyError, match="standalone-1999"):
        topology.load("standalone-1999")


TYPOS = {
    "unknown field": ("title =", "titel =", "titel", "did you mean 'title'"),
    "unknown nested field": (
        "snapshot_limit = 255",
        "snapshotlimit = 255",
        "cluster[0].snapshotlimit",
        "snapshot_limit",
    ),
    "nothing like it": ('era = "2012"', 'era = "2012"\nxyzzy = 1', "xyzzy", "known are"),
    "missing field": ('era = "2012"', "", "era", "missing"),
    "missing nested field": ('iqn = "iqn.1991-05.com.microsoft:hv1.lab.example"', "", "host[0].iqn", "missing"),
    "text for a number": ("snapshot_limit = 255", 'snapshot_limit = "255"', "cluster[0].snapshot_limit", "int"),
    "a truth for a number": ("snapshot_limit = 255", "snapshot_limit = true", "cluster[0].snapshot_limit", "int"),
    "number for text": ('version = "9.15.1"', "version = 9.15", "cluster[0].version", "str"),
    "number for a truth": ("iscsi = true", "iscsi = 1", "cluster[0].svm[0].iscsi", "bool"),
    "text for a list": ('nodes = ["cluster1-01", "cluster1-02"]', 'nodes = "cluster1-01"', "cluster[0].nodes", "list"),
    "a date without a time": ("2013-03-04T08:00:00Z", "2013-03-04", "start", "datetime"),
    "a time without a zone": ("2013-03-04T08:00:00Z", "2013-03-04T08:00:00", "start", "time zone"),
    "size without a unit": ('size = "400GB"', 'size = "400"', "cluster[0].aggregate[0].size", "20GB"),
    "size in another unit": ('size = "400GB"', 'size = "400GiB"', "cluster[0].aggregate[0].size", "20GB"),
    "no size at all": ('lun_size = "30GB"', 'lun_size = "0GB"', "golden.lun_size", "0GB"),
    "negative size": ('lun_size = "30GB"', "lun_size = -1", "golden.lun_size", "-1"),
    "era": ('era = "2012"', 'era = "2016"', "era", "2008r2, 2012, 2022"),
    "unknown node": ('node = "cluster1-02"', 'node = "cluster1-03"', "node of aggregate aggr2", "cluster1-03"),
    "unknown service": ('service = "management"', 'service = "mgmt"', "service of LIF svm1_mgmt", "mgmt"),
    "unknown svm": ('svm = "svm1"', 'svm = "svm2"', "svm of host hv1", "svm2"),
    "unknown cluster": ('storage = "cluster1"', 'storage = "cluster2"', "storage of host hv1", "cluster2"),
    "svm without iscsi": ("iscsi = true", "iscsi = false", "svm of host hv1", "iSCSI"),
    "unknown aggregate": ('aggregate = "aggr2"', 'aggregate = "aggr3"', "aggregate of volume snapinfo", "aggr3"),
    "access path": ("access_path = 'S:\\'", "access_path = 'S'", "access_path of volume snapinfo", "'S'"),
    "volume twice": ('volume = "vm_shared"', 'volume = "golden"', "volume", "'golden' twice"),
    "vm twice": ('name = "app01"', 'name = "web01"', "VM", "'web01' twice"),
    "aggregate twice": ('name = "aggr2"', 'name = "aggr1"', "aggregate of cluster cluster1", "'aggr1' twice"),
    "address twice": ('address = "10.10.1.22"', 'address = "10.10.1.21"', "address", "'10.10.1.21' twice"),
    "host named like a cluster": ('name = "hv1"', 'name = "cluster1"', "cluster or host", "'cluster1' twice"),
    "letter twice": ('letter = "F"', 'letter = "E"', "letter of a golden.vhd", "'E' twice"),
    "database on no disk": ("data = 'C:\\SQL\\aa1.mdf'", "data = 'D:\\aa1.mdf'", "data of golden.database aa1", "'D'"),
    "vm in two places": ("path = 'V:\\app01'", "path = 'V:\\app01'\nvolume = \"v\"", "VM app01", "not both"),
    "limit": ("snapshot_limit = 255", "snapshot_limit = 0", "snapshot_limit of cluster cluster1", "at least 1"),
    "limit of the version": (
        "snapshot_limit = 255",
        "snapshot_limit = 1024",
        "snapshot_limit of cluster",
        "at most 1023",
    ),
    "syntax": ('era = "2012"', "era = 2012era", "TOML", "line 4"),
}
"""What to replace in the shipped file, by what, and the field and the reason that the message has to name."""


@pytest.mark.parametrize("typo", TYPOS)
def test_a_typo_names_file_field_and_reason(tmp_path: Path, typo: str) -> None:
    """One line that says where to look and what is wrong."""
    told(tmp_path, SHIPPED, *TYPOS[typo])


def test_an_old_version_holds_fewer_snapshot_copies(tmp_path: Path) -> None:
    """A volume holds 255 Snapshot copies before ONTAP 9.4, and 1,023 since."""
    old = SHIPPED.replace('version = "9.15.1"', 'version = "9.3.0"')
    told(tmp_path, old, "snapshot_limit = 255", "snapshot_limit = 256", "snapshot_limit of cluster", "at most 255")


FAILOVER_TYPOS = {
    "unknown node": ('nodes = ["hv1", "hv2"]', 'nodes = ["hv1", "hv3"]', "hvc1", "hv3"),
    "unknown role": ('role = "csv"', 'role = "cvs"', "role of volume", "cvs"),
    "named like a host": ('name = "hvc1"', 'name = "hv1"', "name of a", "'hv1' twice"),
    "clustered as text": ("clustered = true", 'clustered = "yes"', "clustered", "bool"),
}


@pytest.mark.parametrize("typo", FAILOVER_TYPOS)
def test_a_typo_in_a_failover_cluster_is_told_as_well(tmp_path: Path, typo: str) -> None:
    """The same for hosts that are nodes of a failover cluster."""
    told(tmp_path, CLUSTERED, *FAILOVER_TYPOS[typo])


def told(tmp_path: Path, shipped: str, old: str, new: str, field: str, reason: str) -> None:
    """Put the typo in and read the message."""
    assert old in shipped, "the shipped topology has changed: choose another place for this typo"
    path = tmp_path / "mine.toml"
    path.write_text(shipped.replace(old, new, 1), "utf-8")
    with pytest.raises(TopologyError) as caught:
        topology.load(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert field in message
    assert reason in message
    assert "\n" not in message


def test_text_where_a_table_belongs_is_told(tmp_path: Path) -> None:
    """A field that holds other fields is named when it holds text."""
    before, _, rest = SHIPPED.partition("[golden]")
    path = tmp_path / "mine.toml"
    path.write_text(f'golden = "g"\n{before}[[vm]]{rest.partition("[[vm]]")[2]}', "utf-8")
    with pytest.raises(TopologyError, match=r"mine\.toml: golden\.? must be a table"):
        topology.load(str(path))


def test_an_empty_file_names_a_missing_field(tmp_path: Path) -> None:
    """Nothing at all is no site."""
    path = tmp_path / "empty.toml"
    path.write_text("", "utf-8")
    with pytest.raises(TopologyError, match=r"empty\.toml: field 'title' is missing"):
        topology.load(str(path))


@pytest.mark.parametrize(
    ("name", "hint"), [("standalon", "standalone"), ("Standalone", "standalone"), ("../standalone", "one of")]
)
def test_a_wrong_name_gets_a_suggestion(name: str, hint: str) -> None:
    """An unknown name lists the known ones and suggests what is like it."""
    with pytest.raises(TopologyError, match=hint) as caught:
        topology.load(name)
    assert "standalone" in str(caught.value)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """A missing file, a folder and a file that is not text each give one message."""
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00title")
    for name in ("missing.toml", "folder.toml", "binary.toml"):
        with pytest.raises(TopologyError, match=name):
            topology.load(str(tmp_path / name))
