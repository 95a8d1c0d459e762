"""An array administrator who knows netapp-ontap and nothing else, of whatever release; told what to do line by line.

Run as a script, in any environment with netapp-ontap 9.8 or later: ``python client_scenario.py ENDPOINTS``. Each line
on standard input is a JSON object with the name of a step and its arguments; each answer is one line.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")  # older releases warn about themselves

from netapp_ontap import HostConnection, config  # noqa: E402
from netapp_ontap.resources import (  # noqa: E402
    Cluster,
    ClusterPeer,
    Igroup,
    IpInterface,
    Lun,
    LunMap,
    SnapmirrorRelationship,
    SnapmirrorTransfer,
    Snapshot,
    SvmPeer,
    Volume,
)

MIB = 1 << 20
PASSPHRASE = "a-long-passphrase"
PIECE = 1 << 20


class Client:
    """The steps; ``site`` is 1 or 2."""

    def __init__(self, endpoints: Path) -> None:
        told = json.loads(endpoints.read_text("utf-8"))
        self.connections = []
        for storage in told["storage"]:
            connection = HostConnection(
                storage["host"],
                username=storage["user"],
                password=storage["password"],
                verify=storage["ca_file"],
                poll_interval=1,
                poll_timeout=60,
            )
            connection.port = storage["port"]  # the oldest releases take none when they are made
            connection.session.trust_env = False
            connection.session.params = {"return_timeout": 60}  # rather than a real second for every job
            self.connections.append(connection)
        self.at(1)

    def at(self, site: int) -> None:
        """Talk to the storage cluster of a site from now on."""
        config.CONNECTION = self.connections[site - 1]

    def version(self) -> str:
        """What the cluster says that it is."""
        cluster = Cluster()
        cluster.get(fields="version")
        return str(cluster.version.full)

    def provision(self, site: int, volume: str, iqn: str) -> dict[str, Any]:
        """A thin volume with a LUN, mapped to the host's initiator group."""
        self.at(site)
        made = Volume.from_dict({
            "name": volume, "svm": {"name": f"svm{site}"}, "aggregates": [{"name": "aggr1"}], "size": 512 * MIB,
            "guarantee": {"type": "none"}, "snapshot_policy": {"name": "none"},
        })  # fmt: skip
        made.post(hydrate=True)
        lun = Lun.from_dict({
            "name": f"/vol/{volume}/disk", "svm": {"name": f"svm{site}"}, "os_type": "hyper_v",
            "space": {"size": 64 * MIB, "guarantee": {"requested": False}},
        })  # fmt: skip
        lun.post(hydrate=True)
        self.connect(site, lun.name, iqn)
        return {"volume": made.uuid, "lun": lun.uuid, "serial": lun.serial_number}

    def connect(self, site: int, lun: str, iqn: str) -> dict[str, Any]:
        """Map a LUN to the initiator group that the host is in."""
        self.at(site)
        (group,) = Igroup.get_collection(**{"initiators.name": iqn, "svm.name": f"svm{site}"}, fields="name")
        LunMap.from_dict({"svm": {"name": f"svm{site}"}, "lun": {"name": lun}, "igroup": {"name": group.name}}).post(
            hydrate=True
        )
        found = Lun.find(name=lun, **{"svm.name": f"svm{site}"})
        found.get()
        return {"lun": found.uuid, "serial": found.serial_number, "state": found.status.state}

    def disconnect(self, site: int, lun: str) -> int:
        """Take every map of a LUN away; how many there were."""
        self.at(site)
        maps = list(LunMap.get_collection(**{"lun.name": lun, "svm.name": f"svm{site}"}))
        for one in maps:
            one.delete()
        return len(maps)

    def snapshot(self, site: int, volume: str, name: str) -> list[str]:
        """Make a Snapshot copy; the names of all of the volume's."""
        self.at(site)
        found = Volume.find(name=volume, **{"svm.name": f"svm{site}"})
        Snapshot.from_dict({"volume": {"uuid": found.uuid}, "name": name, "comment": "by the client"}).post()
        return [copy.name for copy in Snapshot.get_collection(found.uuid)]

    def restore_lun(self, site: int, volume: str, snapshot: str) -> dict[str, Any]:
        """Overwrite the LUN with what it was in a Snapshot copy; newer copies stay, so does the disk's identity."""
        self.at(site)
        lun = Lun.find(name=f"/vol/{volume}/disk", **{"svm.name": f"svm{site}"})
        change = Lun(uuid=lun.uuid)
        change.clone = {"source": {"name": f"/vol/{volume}/.snapshot/{snapshot}/disk"}}
        change.patch()
        lun.get()
        return {"lun": lun.uuid, "serial": lun.serial_number, "copies": self._copies(lun.location.volume.uuid)}

    def restore_volume(self, site: int, volume: str, snapshot: str) -> list[str]:
        """Bring the whole volume back to a Snapshot copy; the copies that are left."""
        self.at(site)
        found = Volume.find(name=volume, **{"svm.name": f"svm{site}"})
        Volume(uuid=found.uuid).patch(**{"restore_to.snapshot.name": snapshot})
        return self._copies(found.uuid)

    def _copies(self, volume: str) -> list[str]:
        return [copy.name for copy in Snapshot.get_collection(volume)]

    def digest(self, site: int, lun: str) -> str:
        """Of a LUN's bytes, read through the API."""
        self.at(site)
        found = Lun.find(name=lun, **{"svm.name": f"svm{site}"}, fields="space.size")
        connection = config.CONNECTION
        summed = hashlib.sha256()
        for offset in range(0, found.space.size, PIECE):
            response = connection.session.get(
                f"{connection.origin}/api/storage/luns/{found.uuid}",
                params={"data.offset": offset, "data.size": PIECE},
                headers={"Accept": "multipart/form-data"},
            )
            response.raise_for_status()
            head, _, rest = response.content.partition(b"\r\n\r\n")
            summed.update(rest[: -len(head.split(b"\r\n")[0]) - 6])  # the boundary again, between two line ends and --
        return summed.hexdigest()

    def peer(self) -> str:
        """Peer the clusters by passphrase, then the SVMs; the state of the SVMs' peering."""
        addresses = []
        for site in (1, 2):
            self.at(site)
            lifs = IpInterface.get_collection(services="intercluster_core", fields="ip.address")
            addresses.append([lif.ip.address for lif in lifs])
        for site, other in ((1, addresses[1]), (2, addresses[0])):
            self.at(site)
            ClusterPeer.from_dict(
                {"authentication": {"passphrase": PASSPHRASE}, "remote": {"ip_addresses": other}}
            ).post()
        self.at(1)
        SvmPeer.from_dict({
            "svm": {"name": "svm1"}, "peer": {"svm": {"name": "svm2"}, "cluster": {"name": "cluster2"}},
            "applications": ["snapmirror"],
        }).post()  # fmt: skip
        self.at(2)
        asked = SvmPeer.find(**{"peer.svm.name": "svm1"})
        asked.state = "peered"
        asked.patch()
        asked.get()
        return str(asked.state)

    def mirror(self, site: int, source: str, destination: str, size: int = 512 * MIB) -> dict[str, Any]:
        """A mirror of all Snapshot copies into a new volume of this site, initialised."""
        self.at(site)
        Volume.from_dict({
            "name": destination.partition(":")[2], "svm": {"name": f"svm{site}"}, "aggregates": [{"name": "aggr1"}],
            "size": size, "type": "dp", "guarantee": {"type": "none"},
        }).post()  # fmt: skip
        relationship = SnapmirrorRelationship.from_dict(
            {"source": {"path": source}, "destination": {"path": destination}, "policy": {"name": "MirrorAllSnapshots"}}
        )
        relationship.post(hydrate=True)
        return self.change(site, destination, "snapmirrored")

    def reverse(self, source: str, destination: str) -> dict[str, Any]:
        """Mirror a broken destination back into its old source; what only that had is given up."""
        self.at(1)
        SnapmirrorRelationship.from_dict(
            {"source": {"path": source}, "destination": {"path": destination}, "policy": {"name": "MirrorAllSnapshots"}}
        ).post()
        return self.change(1, destination, "snapmirrored")

    def change(self, site: int, destination: str, state: str) -> dict[str, Any]:
        """Ask for a state (snapmirrored, paused, broken_off) and wait for it."""
        self.at(site)
        found = SnapmirrorRelationship.find(**{"destination.path": destination})
        change = SnapmirrorRelationship(uuid=found.uuid)
        change.state = state
        change.patch()
        return self._settled(found.uuid)

    def update(self, site: int, destination: str) -> dict[str, Any]:
        """Transfer what has changed."""
        self.at(site)
        found = SnapmirrorRelationship.find(**{"destination.path": destination})
        SnapmirrorTransfer(found.uuid).post()
        return self._settled(found.uuid)

    def drop(self, site: int, destination: str, source_site: int) -> list[int]:
        """Delete a relationship at its destination and release it at its source; what is left on both."""
        self.at(site)
        SnapmirrorRelationship.find(**{"destination.path": destination}).delete(destination_only=True)
        left = [len(list(SnapmirrorRelationship.get_collection(**{"destination.path": destination})))]
        self.at(source_site)
        for there in SnapmirrorRelationship.get_collection(
            list_destinations_only=True, **{"destination.path": destination}
        ):
            there.delete(source_only=True)
        left.append(len(list(SnapmirrorRelationship.get_collection(list_destinations_only=True))))
        return left

    def _settled(self, uuid: str) -> dict[str, Any]:
        relationship = SnapmirrorRelationship(uuid=uuid)
        for _ in range(600):
            relationship.get(fields="*")
            transfer = relationship.to_dict().get("transfer", {})
            if transfer.get("state") not in ("queued", "transferring"):
                break
        shown = relationship.to_dict()
        return {
            "state": shown["state"],
            "healthy": shown["healthy"],
            "transfer": transfer.get("state"),
            "bytes": transfer.get("bytes_transferred"),
        }


def main() -> None:
    """Do as told until standard input ends."""
    client = Client(Path(sys.argv[1]))
    for line in sys.stdin:
        told = json.loads(line)
        step = told.pop("do")
        print(json.dumps(getattr(client, step)(**told)), flush=True)


if __name__ == "__main__":
    main()
