"""Fields of volumes."""

from __future__ import annotations

from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.pool import SpaceUsage
from labenv.ontap.rest.model import Field, Read, svm_fields
from labenv.ontap.rest.values import Kind, show_time

EXTRA = {
    "nas.path": Kind.TEXT,
    "nas.security_style": Kind.TEXT,
    "nas.export_policy.name": Kind.TEXT,
    "nas.uid": Kind.INTEGER,
    "nas.gid": Kind.INTEGER,
    "nas.unix_permissions": Kind.INTEGER,
    "tiering.policy": Kind.TEXT,
    "autosize.mode": Kind.TEXT,
    "autosize.maximum": Kind.SIZE,
    "autosize.minimum": Kind.SIZE,
    "qos.policy.name": Kind.TEXT,
    "qos.policy.uuid": Kind.TEXT,
    "language": Kind.TEXT,
    "encryption.enabled": Kind.BOOLEAN,
    "snapshot_directory_access_enabled": Kind.BOOLEAN,
    "space.fractional_reserve": Kind.INTEGER,
    "space.snapshot.autodelete_enabled": Kind.BOOLEAN,
    "space.logical_space.enforcement": Kind.BOOLEAN,
    "space.logical_space.reporting": Kind.BOOLEAN,
    "efficiency.compaction": Kind.TEXT,
    "efficiency.cross_volume_dedupe": Kind.TEXT,
    "efficiency.policy.name": Kind.TEXT,
    "use_mirrored_aggregates": Kind.BOOLEAN,
}
"""Settings that the lab keeps and shows; they change nothing."""

_TONGUES = (
    "ar", "c", "cs", "da", "de", "en", "en_us", "es", "fi", "fr", "he", "hr", "hu", "it", "ja", "ja_jp.932",
    "ja_jp.pck", "ja_jp.pck_v2", "ja_v1", "ko", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sv", "tr", "zh",
    "zh.gbk", "zh_tw", "zh_tw.big5",
)  # fmt: skip
CHOICES = {
    "nas.security_style": ("mixed", "ntfs", "unified", "unix"),
    "tiering.policy": ("all", "auto", "backup", "none", "snapshot_only"),
    "autosize.mode": ("grow", "grow_shrink", "off"),
    "language": (*_TONGUES, *(f"{tongue}.utf_8" for tongue in _TONGUES), "utf8mb4"),
    "efficiency.compaction": ("inline", "none"),
    "efficiency.cross_volume_dedupe": ("inline", "background", "both", "none"),
}
"""Values of those settings that have a list of them."""

EFFICIENCY = ("none", "inline", "background", "both")
RESTORE = ("restore_to.snapshot.name", "restore_to.snapshot.uuid")


def usage(core: Core, volume: r.Volume) -> SpaceUsage:
    """Space of a volume's blocks."""
    return core.pool(volume.uuid).usage


def _parent(core: Core, volume: r.Volume, attribute: str) -> str | None:
    if volume.clone is None or volume.clone.volume not in core.volumes:
        return None
    return str(getattr(core.volumes[volume.clone.volume], attribute))


def _parent_svm(core: Core, volume: r.Volume, attribute: str) -> str | None:
    parent = None if volume.clone is None else core.volumes.get(volume.clone.volume)
    return None if parent is None else str(getattr(core.svms[parent.svm], attribute))


def _saved(core: Core, volume: r.Volume) -> int:
    """Bytes that the volume's files would take more if no two of them shared a block."""
    return usage(core, volume).shared


def _saved_percent(core: Core, volume: r.Volume) -> int:
    space = usage(core, volume)
    return space.shared * 100 // space.logical_used if space.logical_used else 0


def _policy_uuid(core: Core, volume: r.Volume) -> str | None:
    return next((p.uuid for p in core.policies.values() if p.name == volume.snapshot_policy), None)


def _group(core: Core, volume: r.Volume) -> r.ConsistencyGroup | None:
    return next((g for g in core.groups.values() if volume.uuid in g.volumes), None)


def _splitting(core: Core, volume: r.Volume) -> bool:
    return core.locked(f"split:{volume.uuid}")


def _extra_reader(name: str) -> Read:
    return lambda core, volume: volume.extra.get(name)


FIELDS: tuple[Field, ...] = (
    Field("uuid", read=lambda core, v: v.uuid),
    Field("name", read=lambda core, v: v.name, create=True, modify=True),
    *svm_fields(),
    Field(
        "aggregates",
        Kind.OBJECTS,
        create=True,
        read=lambda core, v: [{"name": core.aggregates[v.aggregate].name, "uuid": v.aggregate}],
        items=(Field("name"), Field("uuid")),
    ),
    Field("size", Kind.SIZE, read=lambda core, v: v.size, create=True, modify=True),
    Field("type", read=lambda core, v: v.type, create=True, choices=("rw", "dp", "ls")),
    Field("style", read=lambda core, v: "flexvol", create=True, choices=("flexvol",)),
    Field("state", read=lambda core, v: v.state, create=True, modify=True),
    Field("comment", read=lambda core, v: v.comment or None, create=True, modify=True),
    Field("create_time", Kind.TIME, read=lambda core, v: show_time(v.create_time)),
    Field("msid", Kind.INTEGER, read=lambda core, v: v.msid),
    Field("is_svm_root", Kind.BOOLEAN, read=lambda core, v: v.is_svm_root),
    Field("error_state.is_inconsistent", Kind.BOOLEAN, read=lambda core, v: False),
    Field("error_state.has_bad_blocks", Kind.BOOLEAN, read=lambda core, v: False),
    Field("access_time_enabled", Kind.BOOLEAN, read=lambda core, v: True),
    Field(
        "guarantee.type",
        read=lambda core, v: v.guarantee,
        create=True,
        modify=True,
        choices=("volume", "none"),
    ),
    Field("guarantee.honored", Kind.BOOLEAN, read=lambda core, v: v.state == "online"),
    Field("snapshot_policy.name", read=lambda core, v: v.snapshot_policy, create=True, modify=True),
    Field("snapshot_policy.uuid", read=_policy_uuid, create=True, modify=True),
    Field("snapshot_count", Kind.INTEGER, read=lambda core, v: len(core.snapshots_of(v.uuid))),
    Field("snapmirror.is_protected", Kind.BOOLEAN, read=lambda core, v: core.replication.is_source(v.uuid)),
    Field("consistency_group.name", read=lambda core, v: g.name if (g := _group(core, v)) else None),
    Field("consistency_group.uuid", read=lambda core, v: g.uuid if (g := _group(core, v)) else None),
    Field("space.size", Kind.SIZE, read=lambda core, v: v.size, create=True, modify=True),
    Field("space.available", Kind.SIZE, read=lambda core, v: usage(core, v).available),
    Field("space.used", Kind.SIZE, read=lambda core, v: usage(core, v).used),
    Field("space.percent_used", Kind.INTEGER, read=lambda core, v: round(100 * usage(core, v).used / v.size)),
    Field("space.metadata", Kind.SIZE, read=lambda core, v: usage(core, v).metadata),
    Field("space.logical_space.used", Kind.SIZE, read=lambda core, v: usage(core, v).logical_used),
    Field("space.snapshot.used", Kind.SIZE, read=lambda core, v: usage(core, v).snapshot_used),
    Field(
        "space.snapshot.reserve_percent",
        Kind.INTEGER,
        read=lambda core, v: v.snapshot_reserve,
        create=True,
        modify=True,
    ),
    Field("space.snapshot.reserve_size", Kind.SIZE, read=lambda core, v: v.size * v.snapshot_reserve // 100),
    Field("space.over_provisioned", Kind.SIZE, read=lambda core, v: 0),
    *(
        Field(f"efficiency.space_savings.{name}", Kind.SIZE, read=_saved, expensive=True)
        for name in ("dedupe", "total")
    ),
    *(
        Field(f"efficiency.space_savings.{name}", Kind.INTEGER, read=_saved_percent, expensive=True)
        for name in ("dedupe_percent", "total_percent")
    ),
    Field("efficiency.dedupe", read=lambda core, v: v.dedupe, create=True, modify=True, choices=EFFICIENCY),
    Field(
        "efficiency.compression",
        read=lambda core, v: v.compression,
        create=True,
        modify=True,
        choices=EFFICIENCY,
    ),
    Field(
        "efficiency.state",
        read=lambda core, v: "disabled" if v.dedupe == v.compression == "none" else "enabled",
        modify=True,
        choices=("enabled", "disabled"),
    ),
    Field("efficiency.scanner.state", read=lambda core, v: "idle", modify=True, choices=("idle", "running")),
    Field("efficiency.scanner.scan_old_data", Kind.BOOLEAN, modify=True),
    Field("clone.is_flexclone", Kind.BOOLEAN, read=lambda core, v: v.clone is not None, create=True),
    Field("clone.parent_volume.name", read=lambda core, v: _parent(core, v, "name"), create=True),
    Field("clone.parent_volume.uuid", read=lambda core, v: _parent(core, v, "uuid"), create=True),
    Field("clone.parent_svm.name", read=lambda core, v: _parent_svm(core, v, "name"), create=True),
    Field("clone.parent_svm.uuid", read=lambda core, v: _parent_svm(core, v, "uuid"), create=True),
    Field(
        "clone.parent_snapshot.name",
        read=lambda core, v: v.clone.snapshot_name if v.clone else None,
        create=True,
    ),
    Field("clone.parent_snapshot.uuid", read=lambda core, v: v.clone.snapshot if v.clone else None, create=True),
    Field(
        "clone.split_initiated",
        Kind.BOOLEAN,
        read=lambda core, v: _splitting(core, v) if v.clone else None,
        create=True,
        modify=True,
    ),
    Field(
        "clone.split_complete_percent",
        Kind.INTEGER,
        read=lambda core, v: 0 if v.clone and _splitting(core, v) else None,
    ),
    Field(
        "clone.split_estimate",
        Kind.SIZE,
        read=lambda core, v: usage(core, v).shared if v.clone else None,
    ),
    Field("flexcache_endpoint_type", read=lambda core, v: "none", choices=("none", "cache", "origin")),
    *(
        Field(name, kind, read=_extra_reader(name), create=True, modify=True, choices=CHOICES.get(name, ()))
        for name, kind in EXTRA.items()
    ),
    *(Field(name) for name in RESTORE),
)
"""What a volume's record shows; space is that of its blocks."""
