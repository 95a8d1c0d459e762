"""The TR's lines carried out on a site: the three cmdlets of TR 8, a backup, and ``sdcli snap`` (TR 6.8)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from smhvlab.errors import ConfirmationNeeded, NameTaken, NotAllowed, NotFound
from smhvlab.frames import SNAPSHOT_COLUMNS, frame
from smhvlab.lines import Line, Teller, parse
from smhvlab.record import Event, Plan, StepStarted
from smhvlab.snapdrive import HostDisk
from smhvlab.storage import VolumeRef

if TYPE_CHECKING:
    from smhvlab.flow import Flow
    from smhvlab.site import Site


_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")


class Shell:
    """A prompt of a site.

    Args:
        tell: is given a line for each step of a command with -Verbose.
    """

    def __init__(self, site: Site, *, tell: Teller = print) -> None:
        self.site = site
        self._tell = tell

    def run(self, text: str, *, plan_only: bool = False, accept: Collection[str] = ()) -> Any:
        """Carry out a line; returns a DataFrame, a flow's result, or with -WhatIf (or ``plan_only``) its plan.

        Args:
            accept: keys of warnings that are accepted besides those that the line accepts itself.

        Raises:
            NotFound: no such command, server, VM, backup or Snapshot copy.
            NotAllowed: a token that the command does not know; the message names it, and what is allowed.
            ConfirmationNeeded: the plan has warnings and -Confirm:$false was not given.
        """
        line = parse(text)
        if server := line.text("Server") or line.text("m"):
            self._need_server(server)
        commands = {
            "Get-VMsFromBackup": self._vms,
            "Get-Backup": self._backups,
            "sdcli snap list": self._list,
        }
        if line.command in commands:
            return commands[line.command](line)
        if line.command in ("sdcli snap create", "sdcli snap delete"):
            return self._snapshot(line, plan_only=plan_only)
        return self._flow(line, self._made(line), plan_only=plan_only, accept=accept)

    # --- reading

    def _vms(self, line: Line) -> Any:
        found = {vm.id: vm.name for backup in self.site.tools().snapinfo.backups() for vm in backup.vms}
        ordered = sorted(found.items(), key=lambda vm: (vm[1], vm[0]))
        rows = [{"Name": name, "Id": vm_id.upper()} for vm_id, name in ordered]
        return frame(rows, {"Name": "str", "Id": "str"})

    def _backups(self, line: Line) -> Any:
        wanted, dataset = line.text("ResourceName").casefold(), line.text("DatasetName").casefold()
        columns = (
            "BackupName",
            "RetentionType",
            "DatasetName",
            "BackupId",
            "BackupTime",
            "BackupType",
            "BackedupVMs",
        )
        rows = [
            {
                "BackupName": backup.name,
                "RetentionType": backup.tag or "Unlimited",
                "DatasetName": backup.dataset,
                "BackupId": backup.name,
                "BackupTime": backup.time,
                "BackupType": backup.registered_as.replace("-", " "),
                "BackedupVMs": ", ".join(vm.name for vm in backup.vms),
            }
            for backup in self.site.tools().snapinfo.backups()
            if (not wanted or any(wanted in (vm.name.casefold(), vm.id.casefold()) for vm in backup.vms))
            and (not dataset or backup.dataset.casefold() == dataset)
        ]
        return frame(rows, dict.fromkeys(columns, "str"))

    def _list(self, line: Line) -> Any:
        if not line.text("d"):
            return self.site.snapshots()
        volume, _ = self._volume(line.text("d"))
        table = self.site.snapshots(volume.name)
        return table if len(table) else frame([], SNAPSHOT_COLUMNS)

    # --- changing

    def _made(self, line: Line) -> Flow[Any]:
        site = self.site
        if line.command == "New-Backup":
            kind = line.text("BackupType").casefold().partition("-")[0].partition(" ")[0] or "application"
            if kind not in ("application", "crash"):
                raise NotAllowed(
                    f"{line.text('BackupType')!r} is no type of a backup", next_action="Use Application or Crash."
                )
            return site.backup(line.text("DatasetName"), consistency="crash" if kind == "crash" else "application")
        if line.command == "Restore-Backup":
            alternate = line.on("RestoreToAlternateHost")
            return site.restore(
                line.text("BackupName"),
                line.text("ResourceName"),
                to_host=self._host(line.text("Server")) if alternate else "",
                verify_snapshot=not line.on("DisableVerifySnapshot"),
            )
        if line.command == "sdcli snap unmount":
            return site.unmount(_drive(line.text("d")))
        return self._mount(line)

    def _mount(self, line: Line) -> Flow[Any]:
        snapshot, place = line.text("s"), _drive(line.text("k").rstrip("\\")).casefold()
        places: dict[str, None] = {}
        known: list[str] = []
        for backup in self.site.tools().snapinfo.backups():
            for lun in backup.luns:
                names = (lun.access_path.rstrip("\\").casefold(), f"/vol/{lun.volume}{lun.path}".casefold())
                first = lun.snapshot.removesuffix("_backup")
                places[lun.access_path] = None
                if place not in (*names, lun.volume.casefold()):
                    continue
                known += dict.fromkeys((lun.snapshot, first))
                if snapshot in (lun.snapshot, first):
                    copy = "recovered" if snapshot == lun.snapshot else "first"
                    host = self._host(line.text("m")) if line.text("m") else ""
                    return self.site.mount(
                        backup.name, lun=lun.access_path, at=_drive(line.text("d")), copy=copy, host=host
                    )
        if known:
            raise NotFound(
                f"No backup has a Snapshot copy {snapshot} of {line.text('k')}",
                next_action=f"It has {', '.join(dict.fromkeys(known))}.",
                tr="6.8/2",
            )
        raise NotFound(
            f"No backup holds {line.text('k')}",
            next_action=f"Backups hold {', '.join(places)}." if places else "There is no backup yet: New-Backup.",
            tr="6.8/2",
        )

    def _flow(self, line: Line, flow: Flow[Any], *, plan_only: bool, accept: Collection[str]) -> Any:
        plan: Plan[Any] = flow.plan()
        if plan_only or line.on("WhatIf"):
            return plan
        titles = {step.name: step.title for step in flow.steps()}

        def told(event: Event) -> None:
            if isinstance(event, StepStarted):
                self._tell(f"VERBOSE: {titles[event.step]}")

        if line.on("Verbose"):
            flow.on_event = told
        agreed = line.on("f") or line.values.get("Confirm") is False
        keys = {question.key for question in plan.confirmations} if agreed else set(accept)
        try:
            return flow.run_sync(plan=plan, accept=keys).result
        except ConfirmationNeeded as error:
            word = "-f" if line.command.startswith("sdcli") else "-Confirm:$false"
            error.next_action = f"If that is as it should be, add {word} to the line."
            raise

    def _snapshot(self, line: Line, *, plan_only: bool) -> Any:
        """sdcli snap create and delete: of the volumes behind drive letters, all at once."""
        tools, name = self.site.tools(), line.text("s")
        letters = [part.strip() for part in line.text("D").split(",") if part.strip()]
        found = [self._volume(letter) for letter in letters]
        volumes = list(dict.fromkeys(volume for volume, _ in found))
        owner = next(
            (b.name for b in tools.snapinfo.backups() if any(name in (i.snapshot, b.name) for i in b.luns)), ""
        )
        present = [str(volume) for volume in volumes if tools.storage.snapshot(volume, name) is not None]
        create = line.command.endswith("create")
        if create and not _NAME.match(name):
            raise NotAllowed(
                f"{name!r} is no name for a Snapshot copy",
                next_action="Use letters, digits, hyphens, underscores and points.",
                why="names in braces are those that the VSS provider gives while a backup is under way",
                tr="6.8",
            )
        if create and present:
            raise NameTaken(f"{present[0]} has a Snapshot copy {name}", next_action="Choose another name.", tr="6.8")
        if not create and owner:
            raise NotAllowed(
                f"The Snapshot copy {name} belongs to the backup {owner}",
                next_action="Delete the backup, with smhvlab delete-backup or site.delete_backup: its record goes too.",
                tr="6.3",
            )
        if not create and not present:
            raise NotFound(
                f"There is no Snapshot copy {name} of {', '.join(map(str, volumes))}",
                next_action=f"Look at: sdcli snap list -d {line.text('D')}",
                tr="6.8",
            )
        told = ", ".join(f"{volume}: {name}" for volume in volumes)
        if plan_only:
            return f"{'create' if create else 'delete'} {told}"
        if create:
            for _, disk in found:
                tools.nodes[disk.host].snapdrive.flush(disk)
            tools.storage.ensure_snapshots(volumes, name, comment="sdcli snap create")
        else:
            tools.storage.discard_snapshots(volumes, name)
        return f"{'created' if create else 'deleted'} {told}"

    # --- names

    def _need_server(self, server: str) -> None:
        nodes = self.site.tools().nodes
        known = [*nodes.names, *([nodes.cluster] if nodes.cluster else [])]
        if server.casefold() not in {name.casefold() for name in known}:
            raise NotFound(
                f"The site {self.site.name} has no server {server}", next_action=f"It has {', '.join(known)}.", tr="8"
            )

    def _host(self, server: str) -> str:
        """The host of a name; for the cluster's name the node that has the SnapInfo disk."""
        nodes = self.site.tools().nodes
        if nodes.cluster is not None and server.casefold() == nodes.cluster.casefold():
            return nodes.own().name
        return nodes[server].name

    def _volume(self, place: str) -> tuple[VolumeRef, HostDisk]:
        """The volume behind a drive letter or mount point."""
        tools = self.site.tools()
        path = _drive(place).rstrip("\\").casefold() + "\\"
        for disk in tools.nodes.disks():
            if path in {access.casefold() for access in disk.access_paths}:
                luns = tools.storage.luns_by_disk([disk.unique_id])
                if disk.unique_id in luns:
                    return luns[disk.unique_id].volume, disk
        raise NotFound(f"No LUN of the array is at {place}", next_action="Look at site.disks().", tr="6.8")


def _drive(place: str) -> str:
    """A place as it is given to Windows; a drive letter may stand alone."""
    return f"{place}:" if len(place) == 1 else place
