"""Causes on the hosts and their cluster: services, requestors, logins, switches, paths, nodes."""

from __future__ import annotations

from dataclasses import replace

from labenv.causes.model import VOLUME, Apply, Cause, CauseError, Done, Mend, Option, Options, Scene, Undo
from labenv.windows.vss.model import Context
from labenv.windows.vss.requestor import BackupComponents
from labenv.windows.vss.settings import SYSTEMS

_HOST = Option("name of the host; * is the first", "*")
_NODE = Option("name of the node", required=True)


async def _stop_service(scene: Scene, options: Options) -> Undo:
    host = scene.host(options["host"])
    service = host.inventory.service(options["service"])
    if service is None:
        raise CauseError(f"{host.name} has no service {options['service']!r}")
    await scene.run(host, "Set-Service", Name=service.name, StartupType="Disabled")
    await scene.run(host, "Stop-Service", Name=service.name, Force=True)
    return {"host": host.name, "start": service.start_type, "status": service.status}


async def _start_service(scene: Scene, done: Done) -> None:
    host = scene.host(done.undo["host"])
    await scene.run(host, "Set-Service", Name=done.options["service"], StartupType=done.undo["start"])
    if done.undo["status"] == "Running":
        await scene.run(host, "Start-Service", Name=done.options["service"])


async def _remove_hotfix(scene: Scene, options: Options) -> Undo:
    host = scene.host(options["host"])
    known = host.inventory.record.hotfixes
    if options["hotfix"] not in known:
        raise CauseError(f"{host.name} has no hotfix {options['hotfix']!r}: {', '.join(known) or 'none'}")
    host.inventory.set_hotfixes(tuple(each for each in known if each != options["hotfix"]))
    return {"host": host.name, "hotfixes": " ".join(known)}


async def _install_hotfix(scene: Scene, done: Done) -> None:
    scene.host(done.undo["host"]).inventory.set_hotfixes(tuple(done.undo["hotfixes"].split()))


async def _boot_from_lun(scene: Scene, options: Options) -> Undo:
    host = scene.host(options["host"])
    array, _ = scene.volume(options["volume"])
    query = {"location__volume__name": options["volume"], "fields": "serial_number"}
    serials = {lun["serial_number"] for lun in await scene.records(array, "/storage/luns", **query)}
    for record in host.disks.present():
        if record.serial in serials:
            host.disks.records[record.unique_id] = replace(record, boot=True)
            return {"host": host.name, "disk": record.unique_id}
    raise CauseError(f"{host.name} has no disk of the volume {options['volume']!r}")


async def _boot_from_own_disk(scene: Scene, done: Done) -> None:
    records = scene.host(done.undo["host"]).disks.records
    records[done.undo["disk"]] = replace(records[done.undo["disk"]], boot=False)


def _kept(options: Options) -> str:
    return f"requestor {options['host']} {options['volume']}"


async def _second_requestor(scene: Scene, options: Options) -> Undo:
    host = scene.host(options["host"])
    requestor = BackupComponents(host.vss)
    requestor.initialize_for_backup()
    requestor.set_context(Context.PERSISTENT)
    requestor.set_backup_state()
    await requestor.gather_writer_metadata()
    requestor.start_snapshot_set()
    scene.kept[_kept(options)] = requestor
    if options["volume"]:
        await requestor.add_to_snapshot_set(options["volume"])
    return {}


async def _end_requestor(scene: Scene, done: Done) -> None:
    requestor: BackupComponents | None = scene.kept.pop(_kept(done.options), None)
    if requestor is not None:  # else it ended with the lab's process
        requestor.abort_backup()
        requestor.release()


async def _wrong_login(scene: Scene, options: Options) -> Undo:
    host = scene.host(options["host"])
    names = host.registry.children(SYSTEMS)
    svm = options["svm"] or (names[0] if names else "")
    record = host.registry.find(f"{SYSTEMS}\\{svm}")
    if svm not in names or record is None:
        raise CauseError(f"the provider of {host.name} knows no SVM {svm!r}: {', '.join(names) or 'none'}")
    host.registry.set(f"{SYSTEMS}\\{svm}", "UserName", "String", "decommissioned")
    return {"host": host.name, "svm": svm, "user": record.values["UserName"][1]}


async def _right_login(scene: Scene, done: Done) -> None:
    host = scene.host(done.undo["host"])
    host.registry.set(f"{SYSTEMS}\\{done.undo['svm']}", "UserName", "String", done.undo["user"])


async def _rename_switch(scene: Scene, options: Options) -> Undo:
    host = scene.host(options["host"])
    names = [s.name for s in host.machines.switches.values()]
    if options["switch"] not in names:
        raise CauseError(f"{host.name} has no switch {options['switch']!r}: {', '.join(names) or 'none'}")
    await scene.run(host, "Rename-VMSwitch", Name=options["switch"], NewName=options["to"])
    return {"host": host.name}


async def _rename_switch_back(scene: Scene, done: Done) -> None:
    await scene.run(
        scene.host(done.undo["host"]), "Rename-VMSwitch", Name=done.options["to"], NewName=done.options["switch"]
    )


async def _lose_node(scene: Scene, options: Options) -> Undo:
    host = scene.host(options["host"])
    if not host.powered:
        raise CauseError(f"{host.name} is off already")
    await scene.site.switch(host, on=False)
    return {"host": host.name}


async def _node_back(scene: Scene, done: Done) -> None:
    host = scene.host(done.undo["host"])
    if not host.powered:
        await scene.site.switch(host, on=True)


async def _cut(scene: Scene, options: Options) -> Undo:
    host = scene.host(options["host"])
    known = list(host.initiator.paths())
    portals = known if options["portal"] == "*" else [options["portal"]]
    if not set(portals) <= set(known):
        raise CauseError(f"{host.name} has no session to {options['portal']!r}: {', '.join(known) or 'none'}")
    for portal in portals:
        host.initiator.cut(portal, cut=True)
    return {"host": host.name, "portals": " ".join(portals)}


async def _mend_paths(scene: Scene, done: Done) -> None:
    host = scene.host(done.undo["host"])
    for portal in done.undo["portals"].split():
        host.initiator.cut(portal, cut=False)


async def _redirect(scene: Scene, options: Options) -> Undo:
    for cluster in scene.site.failover:
        for resource in cluster.volumes.disks():
            if resource.name == options["disk"] or not options["disk"]:
                owner = cluster.hosts[cluster.owner(resource)]
                await scene.run(owner, "Suspend-ClusterResource", Name=resource.name, RedirectedAccess=True, Force=True)
                return {"cluster": cluster.spec.name, "disk": resource.name}
    raise CauseError(f"no cluster has a shared volume on a disk {options['disk']!r}")


async def _resume(scene: Scene, done: Done) -> None:
    cluster = next(c for c in scene.site.failover if c.spec.name == done.undo["cluster"])
    resource = next(r for r in cluster.volumes.disks() if r.name == done.undo["disk"])
    if any(volume.redirected for volume in cluster.volumes.of(resource)):
        await scene.run(cluster.hosts[cluster.owner(resource)], "Resume-ClusterResource", Name=resource.name)


async def _unbind(scene: Scene, options: Options) -> Undo:
    host = scene.host(options["host"])
    if host.cluster is None:
        raise CauseError(f"{host.name} is no node of a failover cluster")
    host.cluster.volumes.unbind(host, unbound=True)
    return {"host": host.name}


async def _bind(scene: Scene, done: Done) -> None:
    host = scene.host(done.undo["host"])
    assert host.cluster is not None
    host.cluster.volumes.unbind(host, unbound=False)


def _obstacle(what: str) -> Apply:
    async def apply(scene: Scene, options: Options) -> Undo:
        host = scene.host(options["host"])
        host.machines.obstacles[what] = True
        return {"host": host.name}

    return apply


def _no_obstacle(what: str) -> Mend:
    async def mend(scene: Scene, done: Done) -> None:
        scene.host(done.undo["host"]).machines.obstacles.pop(what, None)

    return mend


CAUSES = (
    Cause(
        "service-stopped",
        "A service is stopped and disabled on a host.",
        "VSS, vds or Navssprv: 8193 and 0x80070422. vmms: VMs run on, but Hyper-V's cmdlets fail (ObjectNotFound), "
        "there is no Hyper-V writer, and no clustered VM starts or moves there. MSiSCSI: no login (0xefff003e). "
        "ClusSvc: the node leaves the cluster. WinRM: nobody reaches the host.",
        ("R-9-06",),
        options={"host": _HOST, "service": Option("the service", "VSS")},
        apply=_stop_service,
        mend=_start_service,
    ),
    Cause(
        "hotfix-missing",
        "A hotfix is not installed on a host.",
        "KB2770917 (2012), KB975354 (2008r2): a guest with iSCSI disks of its own fails with 0x800423f3, state 8.",
        ("R-9-05",),
        case=1,
        options={"host": _HOST, "hotfix": Option("its number", "KB2770917")},
        apply=_remove_hotfix,
        mend=_install_hotfix,
    ),
    Cause(
        "second-requestor",
        "A backup that was begun before is still alive and holds the creation of shadow copies.",
        "0x80042316 for everybody else, until it ends.",
        ("R-6.2-11",),
        case=10,
        options={"host": _HOST, "volume": Option("a volume in its set, such as V:\\")},
        apply=_second_requestor,
        mend=_end_requestor,
    ),
    Cause(
        "provider-login-wrong",
        "The hardware provider's user for an SVM does not exist any more.",
        "Event 4363, and no provider supports the volume: nothing is begun.",
        ("R-9-06",),
        options={"host": _HOST, "svm": Option("name of the SVM; empty: the first")},
        apply=_wrong_login,
        mend=_right_login,
    ),
    Cause(
        "switch-renamed",
        "A virtual switch has another name than at the time of the backup.",
        "A restored VM cannot be registered: Compare-VM shows 33012.",
        ("R-9-04",),
        case=16,
        options={
            "host": _HOST,
            "switch": Option("its name", required=True),
            "to": Option("the new name", "Renamed"),
        },
        apply=_rename_switch,
        mend=_rename_switch_back,
    ),
    Cause(
        "logon-right-missing",
        "A group policy has taken the right to log on as a service from NT VIRTUAL MACHINE\\Virtual Machines.",
        "VMs that run go on; whatever starts one fails with 0x80070569 and event 12030.",
        ("R-9-04",),
        case=16,
        options={"host": _HOST},
        apply=_obstacle("logon right"),
        mend=_no_obstacle("logon right"),
    ),
    Cause(
        "processor-differs",
        "The host has another processor than the one on which VMs were saved (restored, or failed over to it).",
        "A saved VM does not start (event 12030) until its saved state is removed; any other VM does.",
        ("R-9-04",),
        case=16,
        options={"host": _HOST},
        apply=_obstacle("processor"),
        mend=_no_obstacle("processor"),
    ),
    Cause(
        "node-lost",
        "A host loses its power.",
        "Its VMs are gone from there; a cluster's roles start on other nodes; a set over its VMs fails (0x80042400).",
        ("R-10-01",),
        options={"host": _NODE},
        apply=_lose_node,
        mend=_node_back,
    ),
    Cause(
        "boots-from-lun",
        "A host has started from a LUN of the array (SAN boot), and VMs lie on it.",
        "Get-Disk says IsBoot of that LUN; VMs on it cannot be backed up.",
        ("R-6.2-13",),
        options={"host": _HOST, "volume": VOLUME},
        apply=_boot_from_lun,
        mend=_boot_from_own_disk,
    ),
    Cause(
        "path-lost",
        "A host is cut off portals of the array.",
        "One of several: iScsiPrt 20, mpio 17, I/O goes on. All: its disks are gone, a shared volume is redirected.",
        ("R-7.2-01",),
        options={"host": _HOST, "portal": Option("address of the iSCSI LIF; * is every one", "*")},
        apply=_cut,
        mend=_mend_paths,
    ),
    Cause(
        "redirected-access-left",
        "A failed backup has left a shared volume in redirected access.",
        "Get-ClusterSharedVolumeState shows FileSystemRedirected, UserRequest; 5121 in era 2008r2.",
        ("R-12-01",),
        case=11,
        options={"disk": Option("name of the cluster disk; empty: the first with a shared volume")},
        apply=_redirect,
        mend=_resume,
    ),
    Cause(
        "cluster-network-unbound",
        "The SMB client or server is unbound from a node's cluster network.",
        "5120 and 5142 on that node; it reaches only the shared volumes that it owns; its roles go to other nodes.",
        ("R-11.2-01",),
        case=12,
        options={"host": _NODE},
        apply=_unbind,
        mend=_bind,
    ),
)
"""Changes of hosts and clusters."""
