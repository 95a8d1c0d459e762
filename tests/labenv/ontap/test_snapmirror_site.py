"""The topology dr-pair: what a VM's disk holds at the first site is what the second site's host reads."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import requests

from labenv import lab as labs
from labenv import topology
from labenv.lab import LabError
from labenv.ontap.array import Array
from labenv.site import LabSite
from labenv.windows.remoting.engine import Engine

PASSPHRASE = "a-long-passphrase"


def endpoints(found: topology.Topology) -> dict[str, Any]:
    """Logins of a site whose wires are not served."""
    return {
        "storage": [
            {"name": c.name, "password": "x", "svms": [{"name": s.name, "password": "y"} for s in c.svm]}
            for c in found.cluster
        ],
        "hyperv": [
            {"name": h.name, "user": "LAB\\Administrator", "password": "z", "sql": {"user": "sa", "password": "p"}}
            for h in found.host
        ],
    }


class Sites:
    """Both sites in this process."""

    def __init__(self, folder: Path) -> None:
        self.topology = topology.load("dr-pair")
        self.site = LabSite(folder, topology=self.topology, seed=1, realtime=None, endpoints=endpoints(self.topology))
        self.near, self.far = self.site.arrays

    async def rest(self, array: Array, method: str, path: str, body: Any = None, **query: str) -> Any:
        """A request that has to succeed."""
        wait = {} if method == "GET" else {"return_timeout": "120"}
        names = {name.replace("__", "."): value for name, value in query.items()}
        with self.site.clock.request():
            status, answer = await array.call(method, path, query={**wait, **names}, body=body)
        assert status < 300, answer
        return answer

    async def run(self, cmdlet: str, select: list[str] | None = None, /, **parameters: object) -> list[Any]:
        """A cmdlet on the second site's host."""
        with self.site.clock.request(), self.site.clock.parked():
            return await Engine(self.site.hosts[1], clock=self.site.clock).run(cmdlet, parameters, select=select)

    async def peer(self) -> None:
        """Peer the clusters by their intercluster interfaces, then the SVMs."""
        clusters = self.topology.cluster
        for array, other in ((self.near, clusters[1]), (self.far, clusters[0])):
            remote = {"ip_addresses": [lif.address for lif in other.lif]}
            body = {"authentication": {"passphrase": PASSPHRASE}, "remote": remote}
            await self.rest(array, "POST", "/cluster/peers", body)
        peer = {"svm": {"name": "svm2"}, "cluster": {"name": "cluster2"}}
        await self.rest(self.near, "POST", "/svm/peers", {"svm": {"name": "svm1"}, "peer": peer})
        (asked,) = (await self.rest(self.far, "GET", "/svm/peers"))["records"]
        await self.rest(self.far, "PATCH", f"/svm/peers/{asked['uuid']}", {"state": "peered"})

    async def mirror(self, volume: str) -> str:
        """Mirror a volume to the second site; the relationship's uuid."""
        body = {
            "source": {"path": f"svm1:{volume}"},
            "destination": {"path": f"svm2:{volume}"},
            "policy": {"name": "MirrorAllSnapshots"},
            "create_destination": {"enabled": True},
            "state": "snapmirrored",
        }
        await self.rest(self.far, "POST", "/snapmirror/relationships", body)
        while True:
            query = {"destination__path": f"svm2:{volume}", "fields": "state"}
            (found,) = (await self.rest(self.far, "GET", "/snapmirror/relationships", **query))["records"]
            if found["state"] == "snapmirrored":
                return str(found["uuid"])


def test_the_second_site_reads_a_virtual_machines_disk(tmp_path: Path) -> None:
    """Mirror sql01's volume, break, map, rescan: the second host finds the VM's files on a disk of its own identity."""

    async def main() -> None:
        sites = Sites(tmp_path)
        await sites.site.open()
        await sites.peer()
        uuid = await sites.mirror("vm_sql01")
        await sites.rest(sites.far, "PATCH", f"/snapmirror/relationships/{uuid}", {"state": "broken_off"})
        near = sites.site.block_file("cluster1:vm_sql01", "/golden", None)
        far = sites.site.block_file("cluster2:vm_sql01", "/golden", None)
        assert far.read(0, 4 << 20) == near.read(0, 4 << 20)
        mapping = {"lun.name": "/vol/vm_sql01/golden", "igroup.name": "hv2", "svm.name": "svm2"}
        await sites.rest(sites.far, "POST", "/protocols/san/lun-maps", mapping)
        await sites.run("Update-HostStorageCache")
        disk = (await sites.run("Get-Disk"))[-1]
        serials = [
            (await sites.rest(array, "GET", "/storage/luns", name="/vol/vm_sql01/golden", fields="serial_number"))
            for array in (sites.near, sites.far)
        ]
        ours, theirs = (answer["records"][0]["serial_number"] for answer in serials)
        assert disk.properties["UniqueId"] == "600A0980" + theirs.encode().hex().upper()
        assert ours != theirs
        number = int(str(disk.properties["Number"]))
        await sites.run("Set-Disk", Number=number, IsOffline=False)
        await sites.run("Set-Disk", Number=number, IsReadOnly=False)
        await sites.run("Add-PartitionAccessPath", DiskNumber=number, PartitionNumber=2, AccessPath="X:\\")
        names = await sites.run("Get-ChildItem", ["Name"], LiteralPath="X:\\sql01")
        assert {"sql01_vhd0.vhd", "sql01_vhd1.vhd", "sql01_vhd2.vhd"} <= {n.notes["Name"] for n in names}
        assert sites.site.failures == []
        assert sites.site.blocks.check() == []
        await sites.site.close()
        shutil.rmtree(tmp_path)

    asyncio.run(main())


def test_a_started_pair_says_its_sites_and_can_lose_one() -> None:
    """endpoints.json says where clusters and hosts stand; a cluster is switched off and on, a link cut and mended."""
    with labs.start("dr-pair") as lab:
        found = json.loads(Path(lab.profile).read_text("utf-8"))
        entry = found["storage"][0]
        url = f"https://{entry['host']}:{entry['port']}/api/cluster"
        with requests.Session() as session:
            session.trust_env, session.verify = False, entry["ca_file"]
            session.auth = (entry["user"], entry["password"])
            assert session.get(url, timeout=30).status_code == 200
            assert lab.storage("cluster2").links() == {"cluster1": True}
            lab.storage("cluster1").power_off()
            assert lab.storage("cluster2").links() == {"cluster1": False}
            with pytest.raises(requests.ConnectionError):
                session.get(url, timeout=30)
            with pytest.raises(LabError, match="off already"):
                lab.storage("cluster1").power_off()
            lab.storage("cluster1").power_on()
            assert session.get(url, timeout=30).status_code == 200
        lab.storage("cluster1").cut_link("cluster2")
        assert lab.storage("cluster1").links() == {"cluster2": False}
        lab.storage("cluster1").mend_link("cluster2")
        assert lab.storage("cluster1").links() == {"cluster2": True}
        for name, action in (("cluster9", "links"), ("cluster1", "nonsense")):
            with pytest.raises(LabError, match=name if action == "links" else action):
                lab.request("storage", cluster=name, action=action)
        with pytest.raises(LabError, match="no link"):
            lab.storage("cluster1").cut_link("cluster1")
    assert [(e["name"], e["site"]) for e in (*found["storage"], *found["hyperv"])] == [
        ("cluster1", "A"),
        ("cluster2", "B"),
        ("hv1", "A"),
        ("hv2", "B"),
    ]
