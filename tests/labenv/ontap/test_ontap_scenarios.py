"""netapp-ontap, in its strict modes, drives the array over HTTPS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import netapp_ontap
import pytest
from netapp_ontap import HostConnection, NetAppRestError, config
from netapp_ontap.resources import (
    Aggregate,
    Cluster,
    ConsistencyGroup,
    ConsistencyGroupSnapshot,
    Igroup,
    IgroupInitiator,
    IpInterface,
    IscsiService,
    Job,
    LicensePackage,
    Lun,
    LunMap,
    Node,
    Schedule,
    Snapshot,
    SnapshotPolicy,
    Svm,
    Volume,
)
from requests_toolbelt.multipart import decoder

from .ontap_bench import GIB, IQN, MIB, Bench, Served

# netapp-ontap imports its models when they are first used, and they warn on marshmallow 3
pytestmark = pytest.mark.filterwarnings("ignore::marshmallow.warnings.ChangedInMarshmallow4Warning")


@pytest.fixture
def client(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """netapp-ontap in strict modes (STRICT_SCHEMA_TYPE_CHECK refuses what the client itself has read)."""
    for name in ("STRICT_FIELD_ACCEPTANCE", "STRICT_ACCESS_MODIFIERS"):
        monkeypatch.setattr(config, name, True)
    connection = HostConnection(
        "127.0.0.1",
        username="admin",
        password="admin-secret",
        port=served.port,
        verify=str(served.ca_file),
        poll_interval=1,
        poll_timeout=30,
    )
    connection.session.trust_env = False
    monkeypatch.setattr(config, "CONNECTION", connection)
    yield served
    connection.session.close()


def provision(name: str = "vol1") -> tuple[Volume, Lun, Igroup]:
    """A volume with a LUN that is mapped to a host."""
    volume = Volume.from_dict(
        {
            "name": name,
            "svm": {"name": "svm1"},
            "aggregates": [{"name": "aggr1"}],
            "size": GIB,
            "guarantee": {"type": "none"},
        }
    )
    volume.post(hydrate=True)
    lun = Lun.from_dict(
        {"name": f"/vol/{name}/lun1", "svm": {"name": "svm1"}, "os_type": "hyper_v", "space": {"size": 64 * MIB}}
    )
    lun.post(hydrate=True)
    group = Igroup.from_dict(
        {
            "name": f"hv_{name}",
            "svm": {"name": "svm1"},
            "os_type": "hyper_v",
            "protocol": "iscsi",
            "initiators": [{"name": IQN}],
        }
    )
    group.post(hydrate=True)
    LunMap.from_dict({"svm": {"name": "svm1"}, "lun": {"name": lun.name}, "igroup": {"name": group.name}}).post()
    return volume, lun, group


def read_lun(uuid: str, offset: int, size: int) -> bytes:
    """A LUN's bytes by REST (the client's own ``get(data)`` decodes them as text)."""
    connection = config.CONNECTION
    response = connection.session.get(
        f"{connection.origin}/api/storage/luns/{uuid}",
        params={"data.offset": offset, "data.size": size},
        headers={"Accept": "multipart/form-data"},
    )
    response.raise_for_status()
    (part,) = decoder.MultipartDecoder.from_response(response).parts
    return bytes(part.content)


def write_lun(uuid: str, offset: int, data: bytes) -> None:
    """Write a LUN's bytes by REST."""
    lun = Lun(uuid=uuid)
    lun.patch(data=data, **{"data.offset": offset})


def test_a_cluster_shows_what_it_is_made_of(client: Served) -> None:
    """Cluster, nodes, aggregates, SVMs, interfaces and the iSCSI service pass the client's response validation."""
    cluster = Cluster()
    cluster.get(fields="version")
    assert (cluster.version.generation, cluster.version.major) == (9, 15)
    assert [n.name for n in Node.get_collection(fields="*")] == ["cluster1-01", "cluster1-02"]
    assert [a.space.block_storage.size for a in Aggregate.get_collection(fields="*")] == [8 * GIB, 4 * GIB]
    assert Svm.find(name="svm1").iscsi.enabled
    assert {i.ip.address for i in IpInterface.get_collection(**{"svm.name": "svm1"}, fields="*")} == {
        "10.0.0.20",
        "10.0.1.21",
        "10.0.1.22",
    }
    assert IscsiService.find(**{"svm.name": "svm1"}).target.name.startswith("iqn.1992-08.com.netapp:sn.")
    assert netapp_ontap.__version__


def test_provisioning_ends_in_a_logical_unit_at_the_host(client: Served) -> None:
    """Volume, LUN, igroup and map made by the client are what the fabric shows to the initiator."""
    _, lun, group = provision()
    (unit,) = client.within(client.bench.units)
    assert (unit.uuid, unit.serial_number, unit.number, unit.size) == (lun.uuid, lun.serial_number, 0, 64 * MIB)
    member = IgroupInitiator(group.uuid, name="iqn.1991-05.com.microsoft:hv2.lab.example")
    member.post()
    assert len(list(IgroupInitiator.get_collection(group.uuid))) == 2
    member.delete(allow_delete_while_mapped=True)
    LunMap.find(**{"lun.uuid": lun.uuid}).delete()
    assert client.within(client.bench.units) == []


def test_overwriting_a_lun_brings_its_bytes_back_and_keeps_the_disk(client: Served) -> None:
    """PATCH clone.source restores bytes; uuid, serial number and map stay, newer Snapshot copies too."""
    volume, lun, _ = provision()
    write_lun(lun.uuid, 4096, b"before" * 100)
    for name in ("first", "second"):
        Snapshot(volume.uuid, name=name).post()
        write_lun(lun.uuid, 4096, b"after!" * 100)
    restored = Lun(uuid=lun.uuid)
    restored.clone = {"source": {"name": "/vol/vol1/.snapshot/first/lun1"}}
    restored.patch()
    assert read_lun(lun.uuid, 4096, 600) == b"before" * 100
    (unit,) = client.within(client.bench.units)
    assert (unit.uuid, unit.serial_number) == (lun.uuid, lun.serial_number)
    assert client.within(lambda: unit.device.read(4096, 6)) == b"before"
    assert [s.name for s in Snapshot.get_collection(volume.uuid)] == ["first", "second"]


def test_a_lun_clone_from_a_snapshot_is_another_disk(client: Served) -> None:
    """POST luns with clone gives the Snapshot copy's bytes under a uuid and a serial number of its own."""
    volume, lun, _ = provision()
    write_lun(lun.uuid, 0, b"golden")
    Snapshot(volume.uuid, name="base").post()
    write_lun(lun.uuid, 0, b"ruined")
    clone = Lun.from_dict(
        {
            "name": "/vol/vol1/copy1",
            "svm": {"name": "svm1"},
            "clone": {"source": {"name": "/vol/vol1/.snapshot/base/lun1"}},
        }
    )
    clone.post(hydrate=True)
    assert read_lun(clone.uuid, 0, 6) == b"golden"
    assert clone.uuid != lun.uuid
    assert clone.serial_number != lun.serial_number
    assert (clone.os_type, clone.space.size) == ("hyper_v", 64 * MIB)


def test_a_flexclone_volume_holds_its_parents_snapshot(client: Served) -> None:
    """A FlexClone volume makes its Snapshot copy busy until it is split; the parent cannot go before."""
    volume, lun, _ = provision()
    write_lun(lun.uuid, 0, b"parent")
    snapshot = Snapshot(volume.uuid, name="base")
    snapshot.post(hydrate=True)
    origin = {"is_flexclone": True, "parent_volume": {"name": "vol1"}, "parent_snapshot": {"name": "base"}}
    clone = Volume.from_dict({"name": "clone1", "svm": {"name": "svm1"}, "clone": origin})
    clone.post(hydrate=True)
    assert clone.clone.parent_snapshot.uuid == snapshot.uuid
    (copy,) = Lun.get_collection(**{"location.volume.name": "clone1"}, fields="*")
    assert copy.serial_number != lun.serial_number
    assert read_lun(copy.uuid, 0, 6) == b"parent"
    snapshot.get()
    assert list(snapshot.owners) == ["volume_clone"]
    with pytest.raises(NetAppRestError, match="locked"):
        snapshot.delete()
    with pytest.raises(NetAppRestError, match="clones"):
        Volume(uuid=volume.uuid).delete()
    split = Volume(uuid=clone.uuid)
    split.clone = {"split_initiated": True}
    split.patch()
    snapshot.get()
    assert not hasattr(snapshot, "owners") or not list(snapshot.owners)
    snapshot.delete()
    assert read_lun(copy.uuid, 0, 6) == b"parent"


def test_restoring_a_volume_drops_newer_snapshots_and_luns(client: Served) -> None:
    """restore_to brings the volume's LUNs back with their identity; what came later is gone."""
    volume, lun, _ = provision()
    write_lun(lun.uuid, 0, b"monday")
    Snapshot(volume.uuid, name="monday").post()
    write_lun(lun.uuid, 0, b"friday")
    Snapshot(volume.uuid, name="friday").post()
    late = {"name": "/vol/vol1/late", "svm": {"name": "svm1"}, "os_type": "hyper_v", "space": {"size": MIB}}
    Lun.from_dict(late).post()
    Volume(uuid=volume.uuid).patch(**{"restore_to.snapshot.name": "monday"})
    assert read_lun(lun.uuid, 0, 6) == b"monday"
    assert [s.name for s in Snapshot.get_collection(volume.uuid)] == ["monday"]
    assert [x.name for x in Lun.get_collection()] == ["/vol/vol1/lun1"]
    (unit,) = client.within(client.bench.units)
    assert unit.uuid == lun.uuid


def test_a_consistency_group_is_snapshotted_at_one_instant(client: Served) -> None:
    """A consistency group's Snapshot copy is one of the same name and time in every volume."""
    volumes = [provision(name)[0] for name in ("data1", "log1")]
    members = [{"name": v.name, "provisioning_options": {"action": "add"}} for v in volumes]
    group = ConsistencyGroup.from_dict({"name": "app", "svm": {"name": "svm1"}, "volumes": members})
    group.post(hydrate=True)
    copy = ConsistencyGroupSnapshot(group.uuid, name="{0123}")
    copy.consistency_type = "crash"
    copy.post(hydrate=True)
    taken = [Snapshot.find(v.uuid, name="{0123}", fields="create_time") for v in volumes]
    assert taken[0].create_time == taken[1].create_time == copy.create_time
    copy.delete()
    assert [Snapshot.find(v.uuid, name="{0123}") for v in volumes] == [None, None]


def test_every_field_is_in_the_documented_model(client: Served) -> None:
    """All records with all fields pass the client's models: known names, types, enumerations and times."""
    volume, lun, group = provision()
    Snapshot(volume.uuid, name="base").post()
    members = [{"name": "vol1", "provisioning_options": {"action": "add"}}]
    body = {"name": "app", "svm": {"name": "svm1"}, "volumes": members}
    consistency = ConsistencyGroup.from_dict(body)
    consistency.post(hydrate=True)
    ConsistencyGroupSnapshot(consistency.uuid, name="both").post()
    origin = {"is_flexclone": True, "parent_volume": {"name": "vol1"}, "parent_snapshot": {"name": "base"}}
    Volume.from_dict({"name": "clone1", "svm": {"name": "svm1"}, "clone": origin}).post()
    client.within(lambda: client.bench.prices.update({"ontap.volume.create": 2}))
    found = {
        kind.__name__: len(list(kind.get_collection(*parents, fields="*" if kind is Node else "**")))
        for kind, parents in (
            (Aggregate, ()),
            (ConsistencyGroup, ()),
            (ConsistencyGroupSnapshot, (consistency.uuid,)),
            (Igroup, ()),
            (IgroupInitiator, (group.uuid,)),
            (IpInterface, ()),
            (IscsiService, ()),
            (Job, ()),
            (LicensePackage, ()),
            (Lun, ()),
            (LunMap, ()),
            (Node, ()),
            (Schedule, ()),
            (Snapshot, (volume.uuid,)),
            (SnapshotPolicy, ()),
            (Svm, ()),
            (Volume, ()),
        )
    }
    assert min(found.values()) > 0, found
    assert (found["Lun"], found["Volume"], found["Snapshot"]) == (2, 4, 2)
    assert lun.uuid


def test_the_same_actions_give_the_same_identities(client: Served, tmp_path: Path) -> None:
    """uuids and serial numbers depend on names and seed only, so a second lab repeats them."""
    _, lun, _ = provision()
    second = tmp_path / "second"
    second.mkdir()
    bench = Bench(second)
    bench.volume()
    assert bench.lun() == lun.uuid
    assert bench.one("/storage/luns")["serial_number"] == lun.serial_number
    bench.close()
