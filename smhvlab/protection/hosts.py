"""Hosts under management: what must be set before their VMs can be protected, and carrying it elsewhere (TR 5.4, 6.1).

A host is added for its dedicated VMs, a cluster for the shared ones. Both need a SnapInfo folder and a report folder,
neither on a cluster shared volume; mail and AutoSupport are optional.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import tomli_w

from smhvlab.advisor.catalogue import rule_named
from smhvlab.advisor.site_facts import Facts
from smhvlab.errors import NotAllowed, NotFound, SmhvLabError
from smhvlab.nodes import REGISTRY
from smhvlab.protection.budget import LIMIT_KEY
from smhvlab.protection.policy import from_document
from smhvlab.protection.settings import Settings, from_toml, load, save
from smhvlab.protection.store import PolicyStore
from smhvlab.snapinfo import Dataset, DatasetMember, SnapInfo
from smhvlab.tables import Tools

if TYPE_CHECKING:
    from smhvlab.site import Site

_REACH: Final = {
    "ports-open": "the ports are open",
    "same-port": "all nodes have the same port",
    "licences": "the licences are there",
}
CSV_ROOT: Final = "C:\\ClusterStorage\\"
_FORMAT: Final = 1


@dataclass(frozen=True)
class Check:
    """One rule for a host's settings.

    Attributes:
        level: ``error`` (the settings cannot be used), ``warning`` (the TR advises against them) or ``ok``.
    """

    rule: str
    level: str
    finding: str
    next: str = ""
    tr: str = "5.4"


def check_folders(tools: Tools, snapinfo: str, reports: str) -> list[Check]:
    """The rules for the SnapInfo and the report folder of a host or cluster (TR 5.4); reads only."""
    nodes = tools.nodes
    found = [_on_csv("SnapInfo", snapinfo), *check_report_folder(reports)]
    rule = f"SnapInfo is on a {'shared' if nodes.cluster else 'dedicated'} LUN of the array"
    disks = nodes.disks()
    homes = [
        disk
        for disk in disks
        for path in disk.access_paths
        if (snapinfo.rstrip("\\") + "\\").casefold().startswith(path.casefold())
    ]
    luns = tools.storage.luns_by_disk({disk.unique_id for disk in homes})
    home = next((disk for disk in homes if disk.unique_id in luns), None)
    if home is None:
        what = f"{snapinfo} is on no LUN of the array"
        return [*found, Check(rule, "error", what, "Create a LUN for it in a volume of its own.")]
    seen_by = {disk.host for disk in disks if disk.unique_id == home.unique_id}
    if nodes.cluster and len(seen_by) < len(nodes):
        what = f"only {', '.join(sorted(seen_by))} has the disk of {snapinfo}"
        return [*found, Check(rule, "error", what, "Map the LUN to every node and add it to the cluster.")]
    found.append(Check(rule, "ok", luns[home.unique_id].name))
    volume = luns[home.unique_id].volume
    everything = tools.storage.luns()
    others = sorted(lun.name for lun in everything if lun.volume == volume and lun.unique_id != home.unique_id)
    roots = tuple(path.casefold() for path in home.access_paths)
    for vm in nodes.vms():
        if any(path.casefold().startswith(roots) for path in (*(d.path for d in vm.disks), vm.configuration + "\\")):
            others.append(f"the VM {vm.name}")
    found.append(
        Check(
            "the SnapInfo LUN has a volume of its own",
            "warning",
            f"{volume} holds {', '.join(others)} too",
            "Move SnapInfo to a LUN in a volume of its own: that makes restore and failover simpler.",
        )
        if others
        else Check("the SnapInfo LUN has a volume of its own", "ok", str(volume))
    )
    return found


def check_report_folder(reports: str) -> list[Check]:
    """The rules for the report folder alone (TR 5.4); sends no request."""
    rule = "a report folder is set"
    if not reports.strip():
        return [_on_csv("report", reports), Check(rule, "error", "there is none", r"Name one, e.g. C:\SmhvReports.")]
    return [_on_csv("report", reports), Check(rule, "ok", reports)]


def check_reach(facts: Facts) -> list[Check]:
    """Ports of every host and licences of the array, by the advisor's rules for them (TR 5.3, 5.4)."""
    found = []
    for name, about in _REACH.items():
        rule = rule_named(name)
        broken = [
            Check(about, "error", f"{one.object}: {one.message}", one.fix, rule.section) for one in rule.findings(facts)
        ]
        unseen = "" if name != "licences" or facts.array.licences else "these credentials may not see licences"
        if unseen:
            fix = "Look at them with the cluster's own user: site.facts().array.licences."
            broken = [Check(about, "warning", unseen, fix, rule.section)]
        elif not broken and facts.era not in rule.eras:
            broken = [Check(about, "ok", f"not needed in era {facts.era}", tr=rule.section)]
        found += broken or [Check(about, "ok", "all of them", tr=rule.section)]
    return found


def _on_csv(what: str, folder: str) -> Check:
    rule = f"the {what} folder is not on a cluster shared volume"
    if folder.casefold().startswith(CSV_ROOT.casefold()):
        return Check(rule, "error", folder, "Choose a folder on another disk.")
    return Check(rule, "ok", folder)


def add_host(tools: Tools, facts: Facts, *, snapinfo: str, settings: Settings) -> Settings:
    """Set a host or cluster up for protection (TR 6.1): SnapInfo in the registry of every node, the rest beside it.

    Files of an earlier SnapInfo folder are not moved.

    Args:
        facts: a look at the site, for the ports and licences.

    Raises:
        NotAllowed: a rule is broken; ``why`` has all of them.
    """
    kind = "cluster" if tools.nodes.cluster else "host"
    if settings.manages != kind:
        raise NotAllowed(
            f"{tools.nodes.cluster or tools.nodes.names[0]} is a {kind}, not a {settings.manages}",
            why="a host is added for its dedicated VMs, a cluster for its shared ones",
            next_action=f'Use manages="{kind}".',
            tr="6.1",
        )
    checks = [*check_folders(tools, snapinfo, settings.reports), *check_reach(facts)]
    broken = [check for check in checks if check.level == "error"]
    if broken:
        raise NotAllowed(
            f"These settings cannot be used: {broken[0].rule}, but {broken[0].finding}",
            why="; ".join(f"{check.rule}: {check.finding}" for check in broken),
            next_action=broken[0].next,
            tr=broken[0].tr,
        )
    tools.snapinfo.set_folder(snapinfo)
    for folder in (snapinfo, settings.reports):
        tools.host.run("New-Item", {"Path": folder, "ItemType": "Directory", "Force": True})
    return save(tools.snapinfo, replace(settings, version=load(tools.snapinfo).version))


# --- export, import, drift -------------------------------------------------------------------------------------------


def export(tools: Tools, file: Path) -> Path:
    """Write settings, datasets and policies as they are now to a file of the station (TR 6.1).

    Raises:
        NotAllowed: the file is inside the folder in which smhvlab is installed, or cannot be written.
    """
    target = file.expanduser().resolve()
    if target.is_relative_to(Path(__file__).resolve().parent.parent):
        raise NotAllowed(
            f"{file} is inside the folder in which smhvlab is installed",
            why="it would be lost when smhvlab is removed or renewed",
            next_action="Choose a folder of your own.",
            tr="6.1",
        )
    snapinfo = tools.snapinfo
    document = {
        "format": _FORMAT,
        "site": tools.nodes.cluster or tools.nodes.names[0],
        "snapinfo": snapinfo.folder(),
        "settings": tomllib.loads(load(snapinfo).toml()),
        "dataset": [
            {"name": d.name, "description": d.description, "vm": [{"name": m.name, "id": m.id} for m in d.members]}
            for d in snapinfo.datasets()
        ],
        "policy": [tomllib.loads(policy.toml()) for policy in PolicyStore(snapinfo).policies()],
    }
    try:
        target.write_text(tomli_w.dumps(document), "utf-8")
    except OSError as error:
        raise NotAllowed(f"{file} cannot be written", why=str(error), next_action="Choose another file.") from error
    return target


@dataclass(frozen=True)
class Imported:
    """What an import changed; what was the same already is not named."""

    settings: bool
    datasets: tuple[str, ...]
    policies: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        parts = [*(["settings"] if self.settings else []), *(f"dataset {d}" for d in self.datasets)]
        text = ", ".join([*parts, *(f"policy {p}" for p in self.policies)]) or "nothing: all of it was there"
        return f"Imported {text}" + "".join(f"\n  {sentence}" for sentence in self.missing)


def load_export(site: Site, file: Path) -> Imported:
    """Make settings, datasets and policies those of an export, each as a new version (TR 6.1).

    VMs are taken by id, and by name if the id is not there (another site); a VM that is nowhere is left out and told.

    Raises:
        NotAllowed: the file is no export, or something in it does not fit; nothing is changed then.
    """
    document = _document(file)
    snapinfo = site.tools().snapinfo
    wanted = from_toml(tomli_w.dumps(document.get("settings", {})))
    policies = [replace(from_document({**entry, "version": 0}), version=0) for entry in document.get("policy", [])]
    machines = site.tools().nodes.vms()
    by_id, by_name = {vm.id: vm for vm in machines}, {vm.name.casefold(): vm for vm in machines}
    missing: list[str] = []
    datasets: list[Dataset] = []
    for entry in document.get("dataset", []):
        members = []
        for member in entry["vm"]:
            vm = by_id.get(member["id"]) or by_name.get(member["name"].casefold())
            if vm is None:
                missing.append(f"{member['name']} of the dataset {entry['name']} is not on this site")
            else:
                members.append(DatasetMember(vm.id, vm.name))
        if members:
            datasets.append(Dataset(entry["name"], tuple(members), entry.get("description", "")))
    present = load(snapinfo)
    changed = wanted != present
    if changed:
        save(snapinfo, replace(wanted, version=present.version))
    return Imported(changed, _datasets(snapinfo, datasets), _policies(site, policies), tuple(missing))


def _document(file: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise NotAllowed(
            f"{file} is no export of a configuration", why=str(error), next_action="Export it again.", tr="6.1"
        ) from error
    if document.get("format") != _FORMAT:
        raise NotAllowed(
            f"{file} is no export that this version knows",
            why=f"its format is {document.get('format')!r}, not {_FORMAT}",
            next_action="Export it again with this version.",
            tr="6.1",
        )
    return document


def _datasets(snapinfo: SnapInfo, wanted: Sequence[Dataset]) -> tuple[str, ...]:
    known = {dataset.name.casefold(): dataset for dataset in snapinfo.datasets()}
    written = []
    for dataset in wanted:
        present = known.get(dataset.name.casefold())
        if present is None or (present.members, present.description) != (dataset.members, dataset.description):
            snapinfo.write_dataset(replace(dataset, version=present.version if present else 0))
            written.append(dataset.name)
    return tuple(written)


def _policies(site: Site, wanted: Sequence[Any]) -> tuple[str, ...]:
    store = PolicyStore(site.tools().snapinfo)
    written = []
    for policy in wanted:
        history = store.history(policy.name)
        version = history[-1].version if history else 0
        if history and replace(history[-1], version=0, since=None) == replace(policy, since=None):
            continue
        site.set_policy(replace(policy, version=version), accept={LIMIT_KEY})  # it was accepted where it comes from
        written.append(policy.name)
    return tuple(written)


def drift(tools: Tools) -> list[tuple[str, str, str, bool]]:
    """Each node's own settings: value, node, what it says, and whether all nodes say the same (TR 6.1)."""
    said: dict[str, dict[str, str]] = {}
    for node in tools.nodes.up():
        try:
            records = node.host.run("Get-ItemProperty", {"LiteralPath": REGISTRY})
        except SmhvLabError:
            records = []  # type: ignore[assignment]  # this node has no settings at all
        values = {name: str(value) for record in records for name, value in record.items() if not name.startswith("PS")}
        for name, value in values.items():
            said.setdefault(name, {})[node.name] = value
        said.setdefault("SnapInfoPath", {})
    names = [node.name for node in tools.nodes.up()]
    rows = []
    for value_name, by_node in sorted(said.items()):
        same = len({by_node.get(name, "") for name in names}) == 1
        rows += [(value_name, name, by_node.get(name, "not set"), same) for name in names]
    return rows


def unprotected(tools: Tools) -> list[tuple[str, str, str, str]]:
    """VMs in no dataset: name, host, state, id (TR 5.2)."""
    try:
        members = {member.id for dataset in tools.snapinfo.datasets() for member in dataset.members}
    except NotFound:
        members = set()  # no SnapInfo yet: nothing is protected
    return [(vm.name, vm.host, vm.state, vm.id) for vm in tools.nodes.vms() if vm.id not in members]
