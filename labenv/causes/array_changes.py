"""Causes on the array that change it: full, renamed, offline, unmapped, cloned, busy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labenv.causes.model import VOLUME, Cause, CauseError, Done, Option, Options, Scene, Undo

if TYPE_CHECKING:
    from labenv.ontap.array import Array

_FILL = "daily_kept_too_long."
_HOST = Option("name of the host that it is shown to; * is the first", "*")


async def _snapshots(scene: Scene, array: Array, key: str) -> list[dict[str, Any]]:
    return await scene.records(array, f"/storage/volumes/{key}/snapshots", fields="name,uuid,create_time")


async def _fill(scene: Scene, options: Options) -> Undo:
    array, key = scene.volume(options["volume"])
    if not options["leave"].isdecimal():
        raise CauseError(f"leave is {options['leave']!r}, which is no whole number")
    room = array.spec.snapshot_limit - len(await _snapshots(scene, array, key)) - int(options["leave"])
    if room <= 0:
        raise CauseError(f"{options['volume']} has no room for a Snapshot copy anyhow")
    for number in range(room):
        await scene.rest(array, "POST", f"/storage/volumes/{key}/snapshots", {"name": f"{_FILL}{number:03}"})
    return {}


async def _thin_out(scene: Scene, done: Done) -> None:
    array, key = scene.volume(done.options["volume"])
    for record in await _snapshots(scene, array, key):
        if record["name"].startswith(_FILL):
            await scene.rest(array, "DELETE", f"/storage/volumes/{key}/snapshots/{record['uuid']}")


async def _lun(scene: Scene, options: Options) -> tuple[Array, dict[str, Any]]:
    array, _ = scene.volume(options["volume"])
    fields = "name,uuid,svm.name,enabled,lun_maps,serial_number"
    query = {"location.volume.name": options["volume"], "fields": fields}
    found = [lun for lun in await scene.records(array, "/storage/luns", **query) if not lun["name"].endswith(".rws")]
    if not found:
        raise CauseError(f"there is no LUN in {options['volume']}")
    return array, found[0]


async def _offline(scene: Scene, options: Options) -> Undo:
    array, lun = await _lun(scene, options)
    await scene.rest(array, "PATCH", f"/storage/luns/{lun['uuid']}", {"enabled": False})
    return {"lun": lun["uuid"]}


async def _online(scene: Scene, done: Done) -> None:
    array, _ = scene.volume(done.options["volume"])
    await scene.rest(array, "PATCH", f"/storage/luns/{done.undo['lun']}", {"enabled": True})


async def _unmap(scene: Scene, options: Options) -> Undo:
    array, lun = await _lun(scene, options)
    maps = await scene.records(
        array, "/protocols/san/lun-maps", lun__uuid=lun["uuid"], fields="igroup.uuid,igroup.name,logical_unit_number"
    )
    if not maps:
        raise CauseError(f"the LUN of {options['volume']} is not mapped")
    undo = {"lun": lun["uuid"], "svm": lun["svm"]["name"]}
    for each in maps:
        undo[f"igroup {each['igroup']['name']}"] = str(each["logical_unit_number"])
        await scene.rest(array, "DELETE", f"/protocols/san/lun-maps/{lun['uuid']}/{each['igroup']['uuid']}")
    return undo


async def _map_again(scene: Scene, done: Done) -> None:
    array, _ = scene.volume(done.options["volume"])
    for name, number in done.undo.items():
        if name.startswith("igroup "):
            body = {
                "lun": {"uuid": done.undo["lun"]},
                "igroup": {"name": name.removeprefix("igroup ")},
                "svm": {"name": done.undo["svm"]},
                "logical_unit_number": int(number),
            }
            await scene.rest(array, "POST", "/protocols/san/lun-maps", body)
    for host in scene.site.hosts:
        if host.powered:
            await scene.run(host, "Update-HostStorageCache")


async def _rename(scene: Scene, options: Options) -> Undo:
    array, key = scene.volume(options["volume"])
    await scene.rest(array, "PATCH", f"/storage/volumes/{key}", {"name": options["to"] or f"{options['volume']}_new"})
    return {"volume": key}


async def _rename_back(scene: Scene, done: Done) -> None:
    array, _ = scene.volume(done.options["to"] or f"{done.options['volume']}_new")
    await scene.rest(array, "PATCH", f"/storage/volumes/{done.undo['volume']}", {"name": done.options["volume"]})


async def _clone(scene: Scene, options: Options) -> Undo:
    array, lun = await _lun(scene, options)
    host = scene.host(options["host"])
    name = f"{lun['name']}_copy"
    svm = {"name": lun["svm"]["name"]}
    await scene.rest(
        array, "POST", "/storage/luns", {"name": name, "svm": svm, "clone": {"source": {"name": lun["name"]}}}
    )
    clone = (await scene.records(array, "/storage/luns", name=name, fields="uuid"))[0]["uuid"]
    group = next(h.igroup for h in scene.site.topology.host if h.name == host.name)
    mapping = {"lun": {"uuid": clone}, "igroup": {"name": group}, "svm": svm}
    await scene.rest(array, "POST", "/protocols/san/lun-maps", mapping)
    await scene.run(host, "Update-HostStorageCache")
    return {"lun": clone, "host": host.name}


async def _drop_clone(scene: Scene, done: Done) -> None:
    array, _ = scene.volume(done.options["volume"])
    for each in await scene.records(array, "/protocols/san/lun-maps", lun__uuid=done.undo["lun"], fields="igroup.uuid"):
        await scene.rest(array, "DELETE", f"/protocols/san/lun-maps/{done.undo['lun']}/{each['igroup']['uuid']}")
    await scene.run(scene.host(done.undo["host"]), "Update-HostStorageCache")
    await scene.rest(array, "DELETE", f"/storage/luns/{done.undo['lun']}")


async def _mount_backup(scene: Scene, options: Options) -> Undo:
    array, key = scene.volume(options["volume"])
    found = [s["name"] for s in await _snapshots(scene, array, key)]
    name = options["snapshot"] or (found[-1] if found else "")
    if name not in found:
        raise CauseError(f"{options['volume']} has no Snapshot copy {name!r}: {', '.join(found) or 'none at all'}")
    svm = (await scene.rest(array, "GET", f"/storage/volumes/{key}", None, fields="svm.name"))["svm"]["name"]
    clone = f"{options['volume']}_mounted"
    parent = {"is_flexclone": True, "parent_volume": {"name": options["volume"]}, "parent_snapshot": {"name": name}}
    await scene.rest(array, "POST", "/storage/volumes", {"name": clone, "svm": {"name": svm}, "clone": parent})
    return {"clone": clone}


async def _dismount_backup(scene: Scene, done: Done) -> None:
    array, key = scene.volume(done.undo["clone"])
    await scene.rest(array, "DELETE", f"/storage/volumes/{key}")


async def _slow_sharing(scene: Scene, options: Options) -> Undo:
    try:
        span = float(options["seconds"])
    except ValueError:
        span = -1
    if not 0 < span < 86400:
        raise CauseError(f"seconds is {options['seconds']!r}: a number above 0 and below 86400")
    scene.site.costs.change("ontap.lun.clone.sharing", span)
    return {}


async def _normal_sharing(scene: Scene, _: Done) -> None:
    scene.site.costs.change("ontap.lun.clone.sharing", None)


CAUSES = (
    Cause(
        "slow-clone-sharing",
        "A controller under load (a volume move, a mirror's transfer) goes on sharing blocks of a LUN clone for long.",
        "The second Snapshot copy is refused with 1520351 and tried again every 10 s, 100 times; it costs time only.",
        ("R-6.2-08",),
        case=3,
        edge="PostFinalCommitSnapshots",
        options={"seconds": Option("lab seconds for which it goes on", "45")},
        apply=_slow_sharing,
        mend=_normal_sharing,
    ),
    Cause(
        "snapshots-full",
        "A retention in days keeps so many Snapshot copies that the volume takes no more.",
        "0x80042317; nothing of the set stays.",
        ("R-10-01",),
        case=5,
        options={"volume": VOLUME, "leave": Option("how many more it still takes", "0")},
        apply=_fill,
        mend=_thin_out,
    ),
    Cause(
        "lun-offline",
        "A LUN is taken offline on the array.",
        "Its VMs stop; a shared volume pauses (5120) and fails after a minute (1069, 5142).",
        ("R-7.2-01",),
        options={"volume": VOLUME},
        apply=_offline,
        mend=_online,
    ),
    Cause(
        "lun-unmapped",
        "Somebody takes a LUN out of its igroups.",
        "The disk is gone from the hosts; a backup of its volume is refused.",
        ("R-7.2-01",),
        case=9,
        options={"volume": VOLUME},
        apply=_unmap,
        mend=_map_again,
    ),
    Cause(
        "clone-beside-parent",
        "A clone of a LUN is mapped to a host that has its parent.",
        "Its disk stays offline, on a cluster with the offline reason Collision.",
        ("R-6.2-12",),
        case=13,
        options={"volume": VOLUME, "host": _HOST},
        apply=_clone,
        mend=_drop_clone,
    ),
    Cause(
        "backup-mounted",
        "Somebody has made a FlexClone volume of a Snapshot copy and uses it.",
        "The Snapshot copy is busy: it cannot be deleted.",
        ("R-6.2-01",),
        case=14,
        options={"volume": VOLUME, "snapshot": Option("name of the Snapshot copy; empty: the newest")},
        apply=_mount_backup,
        mend=_dismount_backup,
    ),
    Cause(
        "volume-renamed",
        "A volume is renamed on the array.",
        "Hosts do not notice; a catalogue that knows it by name does not find its Snapshot copies.",
        ("R-6.2-01",),
        case=15,
        options={"volume": VOLUME, "to": Option("the new name; empty: with _new after it")},
        apply=_rename,
        mend=_rename_back,
    ),
)
"""Changes of the array."""
