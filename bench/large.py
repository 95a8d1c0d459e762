"""A large site for measurements: a failover cluster of several nodes with many VMs, written as a topology file."""

from __future__ import annotations

from pathlib import Path

_HEAD = """title = "{nodes} nodes with {vms} VMs"
start = 2013-03-04T08:00:00Z
era = "2012"

[[cluster]]
name = "cluster1"
version = "9.15.1"
nodes = ["cluster1-01", "cluster1-02"]
snapshot_limit = 255
licences = ["base", "iscsi", "flexclone", "snaprestore"]
management = "10.10.0.10"

[[cluster.aggregate]]
name = "aggr1"
node = "cluster1-01"
size = "{aggregate}GB"

[[cluster.svm]]
name = "svm1"
iscsi = true

[[cluster.svm.lif]]
name = "svm1_mgmt"
address = "10.10.0.20"
node = "cluster1-01"
service = "management"

[[cluster.svm.lif]]
name = "svm1_iscsi_1"
address = "10.10.1.21"
node = "cluster1-01"
service = "iscsi"

[[failover]]
name = "hvc1"
nodes = [{names}]
address = "10.10.0.40"
igroup = "hvc1"

[golden]
host = "hv1"
aggregate = "aggr1"
volume = "golden"
volume_size = "1GB"
lun = "golden"
lun_size = "512MB"
access_path = 'G:\\'
vm = "golden"
snapshot = "golden_1"

[[golden.vhd]]
name = "vhd0"
size = "{disk}MB"
letter = "C"

[[golden.database]]
name = "aa1"
data = 'C:\\SQL\\aa1.mdf'
log = 'C:\\SQL\\aa1.ldf'
"""

_HOST = """
[[host]]
name = "hv{number}"
address = "10.10.0.{address}"
iqn = "iqn.1991-05.com.microsoft:hv{number}.lab.example"
storage = "cluster1"
svm = "svm1"
igroup = "hv{number}"

[[disk]]
host = "hv{number}"
aggregate = "aggr1"
volume = "csv{number}"
volume_size = "{size}GB"
lun = "csv{number}"
lun_size = "{size_inside}GB"
access_path = 'C:\\ClusterStorage\\Volume{number}\\'
label = "CSV{number}"
role = "csv"
"""

_VM = """
[[vm]]
host = "hv{host}"
name = "vm{number:04}"
path = 'C:\\ClusterStorage\\Volume{host}\\vm{number:04}'
clustered = true
"""

DISK = 48
"""Megabytes of a VM's only disk."""


def write(folder: Path, *, nodes: int, vms: int) -> Path:
    """Write the topology of so many nodes and VMs, the same number on each node; returns its file."""
    each = vms // nodes
    inside = each * DISK // 1024 + 2
    names = ", ".join(f'"hv{n}"' for n in range(1, nodes + 1))
    text = [_HEAD.format(nodes=nodes, vms=vms, names=names, disk=DISK, aggregate=(inside + 4) * nodes + 20)]
    for host in range(1, nodes + 1):
        text.append(_HOST.format(number=host, address=30 + host, size=inside + 2, size_inside=inside))
    for host in range(1, nodes + 1):
        text += [_VM.format(host=host, number=(host - 1) * each + n) for n in range(1, each + 1)]
    path = folder / "large.toml"
    path.write_text("".join(text), "utf-8")
    return path
