"""The Data ONTAP VSS Hardware Provider: Snapshot copies and LUN clones through the array's REST API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from labenv.clock import SECOND
from labenv.windows import events as log
from labenv.windows.disks.layout import Layout
from labenv.windows.inventory import DATA_ONTAP, PROVIDER_NAME
from labenv.windows.records import DiskRecord
from labenv.windows.volumes import Volume
from labenv.windows.vss import codes
from labenv.windows.vss.arrayclient import ArrayClient, ArrayError
from labenv.windows.vss.arrival import Arrivals
from labenv.windows.vss.codes import VssError
from labenv.windows.vss.model import SnapshotSet, Target
from labenv.windows.vss.provider import Provider
from labenv.windows.vss.records import ArrayCopy, ShadowRecord
from labenv.windows.vss.settings import Settings

if TYPE_CHECKING:
    from labenv.windows.host import Host

SOURCE = "Navssprv"
COMMITTED, TOO_LATE, REFUSED = 4089, 4364, 4363
"""Event ids; the first two are the TR's, the third is the lab's own choice."""

LIMIT = 10_000
"""Milliseconds in which a commit has to be done."""

BUSY = "1520351"
IDLE_FIX = "KB972623"
"""The hotfix that lets a hardware provider finish its cleaning up."""

IDLE = 180
"""Seconds after which the VSS service ends when nobody uses it."""
_CODES = {
    "525062": codes.MAXIMUM_SNAPSHOTS,
    "524479": codes.INSUFFICIENT_STORAGE,
    "13565952": codes.INSUFFICIENT_STORAGE,
}


@dataclass
class Lun:
    """A LUN of a set, and what the provider has made of it so far."""

    client: ArrayClient
    uuid: str
    serial: str
    name: str
    volume: str
    volume_name: str
    svm: str
    igroup: str
    clone_name: str = ""
    record: DiskRecord | None = None
    original: Layout | None = None

    @property
    def base(self) -> str:
        """The last part of its name."""
        return self.name.rsplit("/", 1)[-1]


def image_name(lun: str, set_id: UUID) -> str:
    """The last part of the name of a LUN's clone, whose contents are the consistent ones in the second copy."""
    return f"{lun}_{{{set_id}}}.rws"


def first_copy(set_id: UUID) -> str:
    """The Snapshot copy that a set begins with."""
    return f"{{{set_id}}}"


def second_copy(set_id: UUID) -> str:
    """The Snapshot copy that holds the recovered images."""
    return f"{{{set_id}}}_backup"


class DataOntapProvider(Provider):
    """Makes the first Snapshot copy of every volume behind a set, shows clones of its LUNs, makes the second one."""

    id = DATA_ONTAP
    name = PROVIDER_NAME
    kind = "Hardware"
    service = "Navssprv"

    def __init__(self, host: Host, *, settings: Settings, arrivals: Arrivals) -> None:
        self._host = host
        self._settings = settings
        self._arrivals = arrivals
        self._luns: dict[UUID, Lun] = {}
        self._copies: dict[tuple[UUID, str, str], ArrayCopy] = {}
        self.version = {"2008r2": "6.4.0.4505", "2012": "6.5.0.4917"}.get(host.spec.era, "7.1.4.5028")

    def reset(self) -> None:
        """The host has started: what was under way is left on the storage systems."""
        self._luns.clear()
        self._copies.clear()

    # -- finding the LUN -------------------------------------------------------------------------------------------

    async def supports(self, volume: Volume) -> bool:
        """Volumes on LUNs of the storage systems that it can log in to."""
        record = self._host.disks.records.get(volume.disk)
        if record is None or record.kind != "iscsi":
            return False
        return await self._find(record.serial) is not None

    async def _find(self, serial: str) -> tuple[ArrayClient, dict[str, Any]] | None:
        fields = "name,uuid,serial_number,location.volume.uuid,location.volume.name,svm.name"
        refused: tuple[ArrayClient, ArrayError] | None = None  # of no account if another system knows the LUN
        for client in self._settings.clients():
            try:
                found = await client.records("/storage/luns", serial_number=serial, fields=fields)
            except ArrayError as error:
                refused = client, error
                continue
            for record in found:
                if record["serial_number"] == serial:
                    return client, record
        if refused is not None:
            raise self._failed(*refused)
        return None

    async def begin_prepare(self, work: SnapshotSet, target: Target) -> None:
        """Find the LUN on its storage system and the igroup that shows it to this host."""
        serial = self._host.disks.records[target.volume.disk].serial
        found = await self._find(serial)
        if found is None:
            raise VssError(codes.NOT_SUPPORTED_BY_PROVIDER, f"no storage system knows the LUN of {target.shown}")
        client, record = found
        try:
            maps = await client.records(
                "/protocols/san/lun-maps", lun__uuid=record["uuid"], fields="igroup.name,igroup.initiators"
            )
        except ArrayError as error:
            raise self._failed(client, error) from error
        groups = [m["igroup"]["name"] for m in maps if self._host.iqn in m["igroup"].get("initiators", ())]
        if not groups:
            raise VssError(codes.PROVIDER_VETO, f"LUN {record['name']} is not mapped to this host's initiator")
        self._luns[target.shadow] = Lun(
            client=client,
            uuid=record["uuid"],
            serial=serial,
            name=record["name"],
            volume=record["location"]["volume"]["uuid"],
            volume_name=record["location"]["volume"]["name"],
            svm=record["svm"]["name"],
            igroup=await self._own_igroup(client, record["svm"]["name"]) or groups[0],
        )

    async def _own_igroup(self, client: ArrayClient, svm: str) -> str:
        """The igroup of this host alone: on a cluster the clones are shown to the coordinator only."""
        try:
            found = await client.records("/protocols/san/igroups", svm__name=svm, fields="name,initiators.name")
        except ArrayError as error:
            raise self._failed(client, error) from error
        for group in found:
            if [i["name"] for i in group.get("initiators", ())] == [self._host.iqn]:
                return str(group["name"])
        return ""

    # -- the first Snapshot copy -----------------------------------------------------------------------------------

    async def pre_commit(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """See whether the storage systems answer."""
        for client in {id(lun.client): lun.client for lun in self._of(targets)}.values():
            try:
                await client.records("/storage/volumes", max_records=1)
            except ArrayError as error:
                raise self._failed(client, error) from error

    async def commit(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """Make the first Snapshot copy of every volume, all at the same time."""
        started = self._host.clock.now
        try:
            await self._snapshots(targets, first_copy(work.id), retries=0)
        finally:
            spent = (self._host.clock.now - started) // 1000
            if spent > LIMIT:
                text = (
                    f"The VSS provider took {spent} milliseconds for CommitSnapshots of SnapshotSetId {{{work.id}}}, "
                )
                text += f"more than the {LIMIT} milliseconds that VSS allows."
                self._event(TOO_LATE, text, log.ERROR, str(work.id), str(spent))
        if spent <= LIMIT:
            text = "The VSS provider has successfully completed CommitSnapshots for SnapshotSetId "
            self._event(
                COMMITTED, f"{text}{{{work.id}}} in {spent} milliseconds.", log.INFORMATION, str(work.id), str(spent)
            )

    async def _snapshots(self, targets: Sequence[Target], name: str, *, retries: int, comment: str = "") -> None:
        """A Snapshot copy of every volume behind these targets, tried again while clones are being made there."""
        volumes = {(lun.client.address, lun.volume): lun for lun in self._of(targets)}
        pending = list(volumes.values())
        for attempt in range(retries + 1):
            if attempt:
                await self._host.clock.sleep(self._settings.clone_interval)
            pending = await self._try(pending, name, comment, last=attempt == retries)
            if not pending:
                return

    async def _try(self, luns: Sequence[Lun], name: str, comment: str, *, last: bool) -> list[Lun]:
        """Try once; returns those whose volume was busy. Raises ``VssError`` for every other failure."""
        jobs: list[tuple[Lun, str]] = []
        failures: list[tuple[Lun, ArrayError]] = []
        body: dict[str, object] = {"name": name, **({"comment": comment} if comment else {})}
        for lun in luns:
            path = f"/storage/volumes/{lun.volume}/snapshots"
            try:  # the last request waits, so that all of them are made at the same time
                jobs.append((lun, await lun.client.start("POST", path, body, patience=15 if lun is luns[-1] else 0)))
            except ArrayError as error:
                failures.append((lun, error))
        for client in {id(lun.client): lun.client for lun, _ in jobs}.values():
            mine = [(lun, job) for lun, job in jobs if lun.client is client]
            try:
                ended = await client.wait(*(job for _, job in mine))
            except ArrayError as error:
                ended = [error] * len(mine)
            failures += [(lun, each) for (lun, _), each in zip(mine, ended, strict=True) if each is not None]
        busy = [lun for lun, each in failures if each.code == BUSY and not last]
        for lun, each in failures:
            if lun not in busy:
                raise self._failed(lun.client, each)
        return busy

    async def post_commit(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """Note which Snapshot copies these are."""
        await self._note(work, targets, first_copy(work.id))

    async def _note(self, work: SnapshotSet, targets: Sequence[Target], name: str) -> None:
        for lun in self._of(targets):
            try:
                found = await lun.client.records(f"/storage/volumes/{lun.volume}/snapshots", name=name, fields="uuid")
            except ArrayError as error:
                raise self._failed(lun.client, error) from error
            for record in found:
                self._copies[work.id, lun.volume, name] = ArrayCopy(lun.client.address, lun.volume, record["uuid"])

    # -- auto-recovery ---------------------------------------------------------------------------------------------

    async def pre_final_commit(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """Clone the LUNs as they are in the first Snapshot copy, and show the clones to this host."""
        if not work.recover:
            return
        serials: dict[UUID, str] = {}
        for target in targets:
            lun = self._luns[target.shadow]
            try:
                serials[target.shadow] = await self._clone(work, lun)
            except ArrayError as error:
                raise self._failed(lun.client, error) from error
        for target in targets:
            lun = self._luns[target.shadow]
            lun.record = await self._arrivals.find(serials[target.shadow])
            lun.original, volumes = self._arrivals.show(lun.record)
            offset = target.volume.partition.offset
            target.presented = next((v for v in volumes if v.partition.offset == offset), None)
            if target.presented is None:
                raise VssError(codes.NO_SNAPSHOTS_IMPORTED, f"the copy of {target.shown} holds no volume")

    async def _clone(self, work: SnapshotSet, lun: Lun) -> str:
        """Clone a LUN and map the clone; returns its serial number."""
        parent, _, base = lun.name.rpartition("/")
        lun.clone_name = name = f"{parent}/{image_name(base, work.id)}"
        source = f"/vol/{lun.volume_name}/.snapshot/{first_copy(work.id)}/{base}"
        svm = {"name": lun.svm}
        body: dict[str, object] = {"name": name, "svm": svm, "clone": {"source": {"name": source}}}
        await lun.client.run("POST", "/storage/luns", body)
        clone = (await self._clones(lun))[0]
        mapping: dict[str, object] = {"lun": {"uuid": clone["uuid"]}, "igroup": {"name": lun.igroup}, "svm": svm}
        await lun.client.request("POST", "/protocols/san/lun-maps", mapping)
        serial: str = clone["serial_number"]
        return serial

    async def _clones(self, lun: Lun) -> list[dict[str, Any]]:
        fields = "uuid,serial_number,lun_maps"
        return await lun.client.records("/storage/luns", name=lun.clone_name, svm__name=lun.svm, fields=fields)

    async def post_final_commit(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """Dismount the clones, make the second Snapshot copy, and only then delete them."""
        if not work.recover:
            return
        try:
            for target in targets:
                self._hide(target)
            comment = f"Auto-recovered images of VSS snapshot set {first_copy(work.id)}: LUN name + "
            comment += f"{image_name('', work.id)}"
            await self._snapshots(targets, second_copy(work.id), retries=self._settings.clone_retries, comment=comment)
            await self._note(work, targets, second_copy(work.id))
        finally:
            await self._drop_clones(targets)

    def _hide(self, target: Target) -> None:
        lun = self._luns[target.shadow]
        target.presented = None
        if lun.record is not None and lun.original is not None:
            record, original = lun.record, lun.original
            lun.original = None
            self._arrivals.hide(record, original)

    async def _drop_clones(self, targets: Sequence[Target]) -> None:
        """Unmap and delete the clones; what cannot be deleted now is left, and logged."""
        for target in targets:
            lun = self._luns.get(target.shadow)
            if lun is None or not lun.clone_name:
                continue
            try:
                self._hide(target)
            except VssError as error:
                self._event(REFUSED, f"The identity of a disk could not be reverted: {error.detail}", log.WARNING)
            try:
                for clone in await self._clones(lun):
                    for mapping in clone.get("lun_maps", ()):
                        path = f"/protocols/san/lun-maps/{clone['uuid']}/{mapping['igroup']['uuid']}"
                        await lun.client.request("DELETE", path)
                    await self._arrivals.forget(clone["serial_number"])
                    await lun.client.run("DELETE", f"/storage/luns/{clone['uuid']}")
                lun.clone_name = ""
            except ArrayError as error:
                self._log_refusal(lun.client, error)

    # -- the end ---------------------------------------------------------------------------------------------------

    async def abort(self, work: SnapshotSet, targets: Sequence[Target]) -> None:
        """Delete the clones and both Snapshot copies."""
        await self._drop_clones(targets)
        for lun in self._of(targets):
            for name in (second_copy(work.id), first_copy(work.id)):
                try:
                    path = f"/storage/volumes/{lun.volume}/snapshots"
                    for record in await lun.client.records(path, name=name, fields="uuid"):
                        await self._delete(lun.client, lun.volume, record["uuid"], within=self._patience())
                except ArrayError as error:
                    self._log_refusal(lun.client, error)
        for target in targets:
            self._luns.pop(target.shadow, None)

    def _patience(self) -> int | None:
        """Seconds for which cleaning up may go on: in the oldest era the VSS service ends under it, unless mended."""
        mended = IDLE_FIX in self._host.inventory.record.hotfixes
        return None if self._host.spec.era != "2008r2" or mended else IDLE

    async def _delete(self, client: ArrayClient, volume: str, snapshot: str, *, within: int | None = None) -> None:
        started = self._host.clock.now
        for attempt in range(self._settings.clone_retries + 1):
            if within is not None and self._host.clock.now - started > within * SECOND:
                raise ArrayError(BUSY, "the service has ended before the Snapshot copy could be deleted")
            if attempt:
                await self._host.clock.sleep(self._settings.clone_interval)
            try:
                await client.run("DELETE", f"/storage/volumes/{volume}/snapshots/{snapshot}")
            except ArrayError as error:
                if error.code in ("4", "1638600"):
                    return
                if error.code == BUSY and attempt < self._settings.clone_retries:
                    continue
                raise
            return

    def copies(self, target: Target) -> tuple[ArrayCopy, ...]:
        """Both Snapshot copies of the LUN's volume."""
        lun = self._luns[target.shadow]
        return tuple(copy for (_, volume, _), copy in self._copies.items() if volume == lun.volume)

    def forget(self, work: SnapshotSet) -> None:
        """The set is complete: nothing of it is under way any more."""
        for target in work.targets:
            self._luns.pop(target.shadow, None)
        for key in [key for key in self._copies if key[0] == work.id]:
            del self._copies[key]

    async def exists(self, record: ShadowRecord) -> bool:
        """While its storage system has at least one of its Snapshot copies, whatever they are called by now."""
        for copy in record.copies:
            client = self._settings.client(copy.address)
            if client is None:
                continue
            try:
                await client.request("GET", f"/storage/volumes/{copy.volume}/snapshots/{copy.snapshot}")
            except ArrayError:
                continue
            return True
        return False

    async def delete(self, record: ShadowRecord) -> None:
        """Delete its Snapshot copies."""
        for copy in reversed(record.copies):
            client = self._settings.client(copy.address)
            if client is None:
                raise VssError(codes.PROVIDER_VETO, f"no login for the storage system at {copy.address}")
            try:
                await self._delete(client, copy.volume, copy.snapshot)
            except ArrayError as error:
                raise self._failed(client, error) from error

    # -- inside ----------------------------------------------------------------------------------------------------

    def _of(self, targets: Sequence[Target]) -> list[Lun]:
        return [self._luns[t.shadow] for t in targets if t.shadow in self._luns]

    def _failed(self, client: ArrayClient, error: ArrayError) -> VssError:
        self._log_refusal(client, error)
        return VssError(_CODES.get(error.code, codes.PROVIDER_VETO), f"the storage system refused: {error}")

    def _log_refusal(self, client: ArrayClient, error: ArrayError) -> None:
        text = f"The VSS provider was refused by the storage system at {client.address}: {error}"
        self._event(REFUSED, text, log.ERROR, client.address, error.code)

    def _event(self, event: int, text: str, level: int, *values: str) -> None:
        self._host.events.write("Application", SOURCE, event, text, level=level, values=values)
