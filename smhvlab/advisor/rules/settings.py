"""SnapInfo, report and other settings of SMHV (TR 5.4, 6.1, 6.3)."""

from __future__ import annotations

from collections.abc import Iterator

from smhvlab.advisor import facts as f
from smhvlab.advisor.rule import Action, Hit, Severity, listed, rule
from smhvlab.advisor.site_facts import Facts

_OLD = ("2008r2", "2012")
_COUNT = "snapinfo_snaps_count"
_KEPT = 30


def _folders(facts: Facts, name: str) -> Iterator[tuple[f.Host, str]]:
    for host in facts.known("registry"):
        folder = host.value(f.SMHV_KEY, name)
        if folder:
            yield host, folder


@rule(
    "snapinfo-set",
    section="5.4",
    rows=("R-5.4-10", "R-6.1-02"),
    severity=Severity.ERROR,
    looks_at=f"SnapInfoPath in {f.SMHV_KEY}",
    why="SnapInfo says what is in which backup; without it no VM can join a dataset.",
    fix="Create a LUN for it and name a folder on it: site.set_snapinfo(folder).",
)
def snapinfo_set(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("registry"):
        if not facts.snapinfo(host):
            yield Hit(host.name, "The SnapInfo folder is not set.")


@rule(
    "snapinfo-on-array",
    section="5.4",
    rows=("R-5.4-11",),
    severity=Severity.ERROR,
    looks_at="where the SnapInfo folder lies",
    why="Backup metadata has to be in Snapshot copies and mirrors itself: it must be on a LUN of the array.",
    fix="Create a LUN, set SnapInfo there, and move the files by hand: SMHV does not.",
)
def snapinfo_on_array(facts: Facts) -> Iterator[Hit]:
    found: dict[str, bool] = {}
    for host, folder in _folders(facts, "SnapInfoPath"):
        home = facts.home(host.name, folder)
        key = folder if host.cluster else f"{host.name} {folder}"
        # a shared disk shows only on the node that has it
        found[key] = found.get(key, False) or (home is not None and home.lun is not None)
    for key, there in found.items():
        if not there:
            yield Hit(key, "The SnapInfo folder is not on a LUN of the array.")


@rule(
    "snapinfo-shared",
    section="5.4",
    rows=("R-5.4-11", "R-AH-07"),
    severity=Severity.ERROR,
    looks_at="clustered VMs; whether the SnapInfo disk is a disk of the cluster",
    why="For shared VMs SnapInfo has to be on a shared LUN: otherwise it stays behind when the node fails.",
    fix="Create a clustered disk for it, in a group of its own.",
)
def snapinfo_shared(facts: Facts) -> Iterator[Hit]:
    clusters = {host.cluster for vm in facts.vms if vm.clustered and (host := facts.host.get(vm.host.casefold()))}
    for host, folder in _folders(facts, "SnapInfoPath"):
        home = facts.home(host.name, folder)
        if host.cluster in clusters and home is not None and home.lun is not None and not home.shared:
            yield Hit(
                f"{host.name} {folder}", f"{home.lun.name} is a dedicated LUN, and {host.cluster} has shared VMs."
            )


@rule(
    "snapinfo-not-on-csv",
    section="5.4",
    rows=("R-5.4-12",),
    severity=Severity.ERROR,
    eras=_OLD,
    looks_at="where the SnapInfo folder lies",
    why="SMHV 1.x cannot take and restore SnapInfo's own Snapshot copy on a cluster shared volume.",
    fix="Use a clustered disk that is no CSV.",
)
def snapinfo_not_on_csv(facts: Facts) -> Iterator[Hit]:
    for folder in dict.fromkeys(folder for _, folder in _folders(facts, "SnapInfoPath")):
        if _on_csv(facts, folder):
            yield Hit(folder, "SnapInfo is on a cluster shared volume.")


def _on_csv(facts: Facts, folder: str) -> bool:
    return any(
        (folder + "\\").casefold().startswith(csv.path.rstrip("\\").casefold() + "\\")
        for cluster in facts.clusters
        for csv in cluster.csvs
    )


@rule(
    "snapinfo-own-volume",
    section="5.4",
    rows=("R-5.4-14", "R-13-03"),
    severity=Severity.WARNING,
    looks_at="the volume of the SnapInfo LUN, and what else is in it",
    why="Restores and failovers turn whole volumes back: SnapInfo must not go with the VMs.",
    fix="Give the SnapInfo LUN a volume of its own in the SVM.",
)
def snapinfo_own_volume(facts: Facts) -> Iterator[Hit]:
    for info in facts.snapinfo_luns():
        vms = [vm.name for vm in facts.vms_on.get(info, ())]
        others = [lun.name for lun in facts.array.luns if (lun.svm, lun.volume) == (info.svm, info.volume)]
        others.remove(info.name)
        if vms:
            yield Hit(info.name, f"VMs lie on the SnapInfo LUN: {listed(vms)}.")
        elif others:
            yield Hit(info.name, f"Its volume {info.volume} also holds {listed(others)}.")


@rule(
    "report-set",
    section="5.4",
    rows=("R-5.4-15", "R-6.1-02"),
    severity=Severity.WARNING,
    eras=_OLD,
    looks_at=f"the site's settings beside SnapInfo; ReportPath in {f.SMHV_KEY}",
    why="SMHV wants a folder for its reports before a VM can join a dataset.",
    fix="Name a folder for reports, not on a cluster shared volume: site.add_host(snapinfo=..., settings=...).",
)
def report_set(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("registry"):
        if not host.value(f.SMHV_KEY, "ReportPath") and not facts.reports:
            yield Hit(host.name, "The folder for reports is not set.")


@rule(
    "report-not-on-csv",
    section="5.4",
    rows=("R-5.4-15",),
    severity=Severity.ERROR,
    looks_at="where the folder for reports lies",
    why="During a backup the shared volume is redirected or paused, and the report is lost with it.",
    fix="Use a folder on a local disk or on a LUN that is no CSV.",
)
def report_not_on_csv(facts: Facts) -> Iterator[Hit]:
    folders = [folder for _, folder in _folders(facts, "ReportPath")]
    for folder in dict.fromkeys([*folders, facts.reports]):
        if folder and _on_csv(facts, folder):
            yield Hit(folder, "The folder for reports is on a cluster shared volume.")


@rule(
    "notification-set",
    section="5.4",
    rows=("R-5.4-16", "R-5.2-07"),
    severity=Severity.NOTE,
    eras=_OLD,
    looks_at=f"the site's settings beside SnapInfo; notification settings in {f.SMHV_KEY}",
    why="Settings for e-mail and AutoSupport are optional, but nobody hears of a failed backup without them.",
    fix="Set a mail server and an address.",
)
def notification_set(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("registry"):
        named = any(host.value(f.SMHV_KEY, name) for name in ("SmtpServer", "NotificationTo", "Notifications"))
        if not named and not facts.notified:
            yield Hit(host.name, "Nobody is notified.")


@rule(
    "settings-alike",
    section="6.1",
    rows=("R-6.1-05", "R-6.1-04"),
    severity=Severity.ERROR,
    looks_at=f"{f.SMHV_KEY} on every node",
    why="After a failover the node that takes over works with its own settings.",
    fix="Import the configuration on all nodes.",
)
def settings_alike(facts: Facts) -> Iterator[Hit]:
    prefix = f.SMHV_KEY.casefold() + "\\"
    for cluster in facts.clusters:
        nodes = [host for host in facts.known("registry") if host.cluster == cluster.name]
        names = sorted({key[len(prefix) :] for host in nodes for key in host.registry if key.startswith(prefix)})
        for name in names:
            values = {host.name: host.value(f.SMHV_KEY, name) for host in nodes}
            if len({value.casefold() for value in values.values()}) > 1:
                told = listed(f"{node} {value or 'nothing'}" for node, value in values.items())
                yield Hit(cluster.name, f"{name} differs: {told}.")


@rule(
    "export-kept-apart",
    section="6.1",
    rows=("R-6.1-06",),
    severity=Severity.WARNING,
    looks_at="files in the folder in which SMHV is installed",
    why="Who removes or renews SMHV removes its folder, and an exported configuration that lies there with it.",
    fix="Move the file to a folder of your own, and export there from now on.",
)
def export_kept_apart(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("exports"):
        for path in host.exports:
            yield Hit(f"{host.name} {path}", "It looks like an exported configuration.")


def _count(host: f.Host) -> str:
    """The value in the host's or cluster's own sub-key, else in the key itself."""
    key = f.CLUSTER_KEY if host.cluster else f.SMHV_KEY
    return host.value(f"{key}\\{host.cluster or host.name}", _COUNT) or host.value(key, _COUNT)


@rule(
    "snapinfo-count",
    section="6.3",
    rows=("R-6.3-15", "R-6.3-14"),
    severity=Severity.WARNING,
    looks_at=f"{_COUNT} in the key of a stand-alone host, and in the cluster's key of each node",
    why="The value counts only in its own key, as a number, and on a cluster on every node.",
    fix=f"Set the DWORD {_COUNT} in the right key, on each node alike.",
)
def snapinfo_count(facts: Facts) -> Iterator[Hit]:
    for host in facts.known("registry"):
        right, wrong = (f.CLUSTER_KEY, f.SMHV_KEY) if host.cluster else (f.SMHV_KEY, f.CLUSTER_KEY)
        value = _count(host)
        if value and (not value.isdecimal() or not 1 <= int(value) <= 255):
            action = Action("registry value", f"{right}\\{_COUNT}", value, str(_KEPT), host.name)
            yield Hit(host.name, f"{_COUNT} is {value}; a number from 1 to 255 is expected.", action=action)
        elif not value and host.value(wrong, _COUNT):
            yield Hit(host.name, f"{_COUNT} is in {wrong}, where nobody reads it.")
    for cluster in facts.clusters:
        nodes = [host for host in facts.known("registry") if host.cluster == cluster.name]
        if len({_count(host) for host in nodes}) > 1:
            yield Hit(cluster.name, f"{_COUNT} differs between the nodes.")


@rule(
    "snapinfo-copies",
    section="6.3",
    rows=("R-6.3-13", "R-6.3-14"),
    severity=Severity.WARNING,
    looks_at="Snapshot copies of the SnapInfo volume",
    why="SMHV deletes the oldest over 30 (or what the registry says); more means that nobody deletes them.",
    fix="Delete the oldest Snapshot copies of the SnapInfo volume, after a look at who made them.",
)
def snapinfo_copies(facts: Facts) -> Iterator[Hit]:
    counts = (_count(host) for host in facts.known("registry"))
    kept = max((int(text) for text in counts if text.isdecimal()), default=_KEPT)
    for info in facts.snapinfo_luns():
        volume = facts.volume.get((info.svm, info.volume))
        if volume is not None and len(volume.snapshots) > kept:
            yield Hit(volume.name, f"{len(volume.snapshots)} Snapshot copies, {kept} are to be kept.")
