"""What the array tells about itself: one request for each kind of thing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from smhvlab.advisor import facts as f
from smhvlab.errors import OntapError
from smhvlab.storage import NAA_PREFIX
from smhvlab.wires.ontap import OntapWire


def read_array(wire: OntapWire) -> f.Array:
    """The array as far as rules look at it.

    What belongs to the cluster alone (controllers, licences, aggregates, interfaces, peers) may be refused to the user
    of an SVM; rules then know nothing of it.

    Raises:
        OntapError: volumes, LUNs, their maps or mirrors cannot be read. ConnectionFailed, Cancelled.
    """
    from netapp_ontap.resources.aggregate import Aggregate
    from netapp_ontap.resources.cluster import Cluster
    from netapp_ontap.resources.cluster_peer import ClusterPeer
    from netapp_ontap.resources.igroup import Igroup
    from netapp_ontap.resources.ip_interface import IpInterface
    from netapp_ontap.resources.license_package import LicensePackage
    from netapp_ontap.resources.lun import Lun
    from netapp_ontap.resources.lun_map import LunMap
    from netapp_ontap.resources.node import Node
    from netapp_ontap.resources.snapmirror_relationship import SnapmirrorRelationship
    from netapp_ontap.resources.snapshot import Snapshot
    from netapp_ontap.resources.volume import Volume

    unknown: dict[str, str] = {}

    def allowed(part: str, resource: Any, fields: str) -> list[dict[str, Any]]:
        try:
            return wire.collect(resource, fields=fields)
        except OntapError as error:
            unknown[part] = error.message
            return []

    version = wire.read(Cluster(), fields="name,version")
    peers = tuple(r["name"] for r in allowed("peers", ClusterPeer, "name"))
    ends = "source.path,source.cluster.name,destination.path,destination.cluster.name"
    begins: list[dict[str, Any]] = []
    if peers:  # mirrors to another cluster are managed there; here they are only listed
        begins = wire.collect(SnapmirrorRelationship, fields=ends, list_destinations_only=True)
    release = version["version"]
    maps: dict[str, list[str]] = {}
    for record in wire.collect(LunMap, fields="lun.uuid,igroup.name"):
        maps.setdefault(record["lun"]["uuid"], []).append(record["igroup"]["name"])
    volumes = wire.collect(
        Volume,
        fields="uuid,name,svm.name,aggregates.name,type,state,space.size,space.used,guarantee.type,efficiency.dedupe,"
        "snapshot_policy.name,clone.parent_volume.name,is_svm_root",
        is_svm_root="false",
    )
    copies: dict[str, list[dict[str, Any]]] = {}
    for record in wire.collect(Snapshot, "*", fields="name,create_time,owners,volume.uuid"):
        copies.setdefault(record["volume"]["uuid"], []).append(record)
    return f.Array(
        name=version["name"],
        version=(release["generation"], release["major"], release["minor"]),
        nodes=tuple(_node(r) for r in allowed("nodes", Node, "name,state,ha")),
        licences=frozenset(r["name"] for r in allowed("licences", LicensePackage, "name,state")),
        aggregates=tuple(_aggregate(r) for r in allowed("aggregates", Aggregate, "name,node.name,space.block_storage")),
        volumes=tuple(
            _volume(r, copies.get(r["uuid"], ())) for r in sorted(volumes, key=lambda r: (r["svm"]["name"], r["name"]))
        ),
        luns=tuple(
            _lun(r, tuple(maps.get(r["uuid"], ())))
            for r in wire.collect(
                Lun,
                fields="uuid,name,svm.name,location.volume.name,serial_number,space.size,space.guarantee.requested,"
                "os_type,status.state",
                order_by="name",
            )
        ),
        igroups=tuple(
            f.Igroup(
                name=r["name"],
                svm=r["svm"]["name"],
                os_type=r.get("os_type", ""),
                initiators=tuple(i["name"] for i in r.get("initiators", ())),
            )
            for r in wire.collect(Igroup, fields="name,svm.name,os_type,initiators.name")
        ),
        lifs=tuple(
            _lif(r) for r in allowed("lifs", IpInterface, "name,svm.name,services,state,enabled,location.node.name")
        ),
        mirrors=tuple(
            _mirror(r)
            for r in wire.collect(
                SnapmirrorRelationship,
                fields=f"{ends},state,healthy,lag_time",
            )
        ),
        outgoing=tuple(_mirror({**r, "state": "", "healthy": True}) for r in begins),
        peers=peers,
        unknown=unknown,
    )


def _node(record: Mapping[str, Any]) -> f.StorageNode:
    ha = record.get("ha", {})
    takeover = ha.get("takeover", {}).get("state", "not_attempted")
    return f.StorageNode(
        name=record["name"],
        up=record.get("state", "up") == "up",
        ha=bool(ha.get("enabled")),
        taken_over=takeover in ("in_takeover", "in_progress"),
    )


def _aggregate(record: Mapping[str, Any]) -> f.Aggregate:
    space = record.get("space", {}).get("block_storage", {})
    return f.Aggregate(
        name=record["name"], node=record["node"]["name"], size=space.get("size", 0), used=space.get("used", 0)
    )


def _volume(record: Mapping[str, Any], copies: Sequence[Mapping[str, Any]]) -> f.Volume:
    space = record.get("space", {})
    return f.Volume(
        name=record["name"],
        svm=record["svm"]["name"],
        uuid=record["uuid"],
        aggregate=record["aggregates"][0]["name"] if record.get("aggregates") else "",
        type=record.get("type", "rw"),
        state=record.get("state", "online"),
        size=space.get("size", 0),
        used=space.get("used", 0),
        thin=record.get("guarantee", {}).get("type") == "none",
        dedupe=record.get("efficiency", {}).get("dedupe", "none") != "none",
        snapshot_policy=record.get("snapshot_policy", {}).get("name", "none"),
        snapshots=tuple(
            f.Snapshot(
                name=copy["name"],
                time=datetime.fromisoformat(copy["create_time"]) if "create_time" in copy else None,
                owners=tuple(copy.get("owners", ())),
            )
            for copy in copies
        ),
        parent=record.get("clone", {}).get("parent_volume", {}).get("name", ""),
    )


def _lun(record: Mapping[str, Any], igroups: tuple[str, ...]) -> f.Lun:
    serial = record["serial_number"]
    return f.Lun(
        name=record["name"],
        volume=record["location"]["volume"]["name"],
        svm=record["svm"]["name"],
        unique_id=NAA_PREFIX + serial.encode("ascii").hex().upper(),
        serial=serial,
        size=record["space"]["size"],
        os_type=record.get("os_type", ""),
        reserved=bool(record["space"].get("guarantee", {}).get("requested")),
        online=record.get("status", {}).get("state", "online") == "online",
        igroups=igroups,
    )


def _lif(record: Mapping[str, Any]) -> f.Lif:
    return f.Lif(
        name=record["name"],
        node=record.get("location", {}).get("node", {}).get("name", ""),
        svm=record.get("svm", {}).get("name", ""),
        up=record.get("state", "up") == "up" and bool(record.get("enabled", True)),
        services=tuple(record.get("services", ())),
    )


def _mirror(record: Mapping[str, Any]) -> f.Mirror:
    return f.Mirror(
        source=record["source"]["path"],
        destination=record["destination"]["path"],
        state=record.get("state", ""),
        healthy=bool(record.get("healthy", True)),
        lag=_seconds(record.get("lag_time")),
        source_cluster=record["source"].get("cluster", {}).get("name", ""),
        destination_cluster=record["destination"].get("cluster", {}).get("name", ""),
    )


def _seconds(duration: object) -> int | None:
    """Seconds of an ISO 8601 duration such as ``P1DT8H35M42S``."""
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", str(duration or ""))
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
