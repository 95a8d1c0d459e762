"""The array's first day: what a cluster has before anyone provisions on it."""

from __future__ import annotations

from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.spec import LifSpec, SvmSpec

SERVICES = {
    "default-management": ("management_core", "management_https", "management_ssh"),
    "default-data-iscsi": ("data_core", "data_iscsi"),
    "default-data-blocks": ("data_core", "data_iscsi", "data_fcp"),
    "default-intercluster": ("intercluster_core",),
}
"""Service policy -> services of its interfaces."""

POLICY_ALIASES = {
    "iscsi": "default-data-iscsi",
    "management": "default-management",
    "intercluster": "default-intercluster",
}
"""Short names of services in topology files."""

ROOT_SIZE = 20 << 20
UNFINISHED = "/unfinished/"
"""Begins the path of a file that is still being copied; no client can give it."""


def create_aggregate(core: Core, name: str, node: str, size: int) -> r.Aggregate:
    """Make an aggregate of ``size`` bytes on a node."""
    uuid = core.new_uuid("aggregate", name)
    core.blocks.create_aggregate(uuid, size)
    aggregate = r.Aggregate(uuid, name, node, size, core.now)
    core.aggregates[uuid] = aggregate
    return aggregate


def create_svm(core: Core, name: str, *, iscsi: bool, aggregates: tuple[str, ...] = (), comment: str = "") -> r.Svm:
    """Make an SVM with its root volume, and the iSCSI service if wanted."""
    uuid = core.new_uuid("svm", name)
    number = len(core.svms) + 2
    svm = r.Svm(
        uuid,
        name,
        number,
        core.now,
        comment=comment,
        aggregates=aggregates,
        iscsi_enabled=iscsi,
        target=target_name(core, name, number) if iscsi else "",
        target_alias=name if iscsi else "",
    )
    core.svms[uuid] = svm
    home = aggregates[0] if aggregates else next(iter(core.aggregates), None)
    if home is not None:
        root = core.new_uuid("volume", name, f"{name}_root")
        core.blocks.create_volume(root, aggregate=home, size=ROOT_SIZE, guarantee=True, snapshot_reserve=5)
        msid = max((v.msid for v in core.volumes.values()), default=2150000000) + 1
        core.volumes[root] = r.Volume(
            root, f"{name}_root", uuid, home, ROOT_SIZE, core.now, msid, is_svm_root=True, snapshot_policy="default"
        )
    return svm


def target_name(core: Core, svm: str, number: int) -> str:
    """An iSCSI target's qualified name, as ONTAP makes them."""
    return f"iqn.1992-08.com.netapp:sn.{core.new_uuid('target', svm).replace('-', '')}:vs.{number}"


def _lif(core: Core, spec: LifSpec, svm: r.Svm | None) -> None:
    uuid = core.new_uuid("lif", svm.name if svm else "", spec.name)
    policy = POLICY_ALIASES.get(spec.service, spec.service)
    port = "e0c" if policy == "default-data-iscsi" else "e0M"
    core.lifs[uuid] = r.Lif(
        uuid, spec.name, spec.address, 24, spec.node, spec.node, port, policy, None if svm is None else svm.uuid
    )


def _svm(core: Core, spec: SvmSpec) -> None:
    svm = create_svm(core, spec.name, iscsi=spec.iscsi, aggregates=tuple(core.aggregates))
    for lif in spec.lifs:
        _lif(core, lif, svm)


def install(core: Core) -> None:
    """Create what the cluster's description lists, if the state holds no such cluster yet."""
    if "uuid" in core.identity:
        return
    spec = core.spec
    core.identity["uuid"] = core.new_uuid("cluster")
    core.identity["name"] = spec.name
    for name in spec.nodes:
        uuid = core.new_uuid("node", name)
        serial = core.ids.text("ontap.node-serial", spec.name, name, length=10, alphabet="0123456789")
        core.nodes[uuid] = r.Node(uuid, name, serial)
    for aggregate in spec.aggregates:
        create_aggregate(core, aggregate.name, aggregate.node, aggregate.size)
    for licence in spec.licences:
        core.licences[licence] = r.Licence(licence)
    for lif in spec.lifs:
        _lif(core, lif, None)
    _schedules(core)
    for svm in spec.svms:
        _svm(core, svm)


def _schedules(core: Core) -> None:
    """The schedules and policies that every cluster comes with."""
    daily = {"hours": (0,), "minutes": (10,)}
    for name, cron in (
        ("hourly", {"minutes": (5,)}),
        ("daily", daily),
        ("weekly", {"weekdays": (0,), "hours": (0,), "minutes": (15,)}),
        ("5min", {"minutes": tuple(range(0, 60, 5))}),
    ):
        uuid = core.new_uuid("schedule", name)
        core.schedules[uuid] = r.Schedule(uuid, name, **cron)
    kept = (("hourly", 6), ("daily", 2), ("weekly", 2))
    for name, copies in (
        ("default", tuple(r.PolicyCopy(s, count, s, "" if s == "hourly" else s) for s, count in kept)),
        ("none", ()),
    ):
        uuid = core.new_uuid("snapshot-policy", name)
        core.policies[uuid] = r.SnapshotPolicy(uuid, name, copies)


def install_users(core: Core) -> None:
    """Logins come from the description at every start, so that a changed password counts."""
    spec = core.spec
    wanted = {f"cluster:{spec.admin_user}": r.User(spec.admin_user, spec.admin_password)}
    for svm in core.svms.values():
        for entry in spec.svms:
            if entry.name == svm.name and entry.password:
                wanted[f"{svm.uuid}:{entry.user}"] = r.User(entry.user, entry.password, svm.uuid)
    for key in [key for key, user in core.users.items() if key not in wanted and not user.own]:
        del core.users[key]
    for key, user in wanted.items():
        if core.users.get(key) != user:
            core.users[key] = user


def sweep(core: Core) -> None:
    """Remove what was being copied when the process was killed."""
    for volume in core.volumes.values():
        pool = core.pool(volume.uuid)
        for path in [path for path in pool.files if path.startswith(UNFINISHED)]:
            pool.delete_file(path)
