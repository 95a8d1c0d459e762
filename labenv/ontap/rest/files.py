"""/storage/volumes/{volume.uuid}/files: what lies in a volume and in its Snapshot copies, and plain files' data.

A volume's files lie in its root; LUNs are files, too, and only their own collection changes them. ``.snapshot`` holds
a directory for each Snapshot copy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from labenv.devices import BlockDevice, DeviceError
from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError, invalid_value
from labenv.ontap.files import check_plain_path
from labenv.ontap.rest.call import Call, Reply
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import Body, Codes, Field, Now, Parameters
from labenv.ontap.rest.values import Kind, show_time

MOST_DATA = 1 << 20
Type = Literal["file", "directory", "lun"]


@dataclass(frozen=True)
class Entry:
    """A file or directory.

    Attributes:
        directory: the directory that it is listed in, "" for the root of the volume.
        snapshot: name of the Snapshot copy whose file it is.
        path: of the file inside the volume's blocks.
    """

    volume: str
    directory: str
    name: str
    type: Type
    size: int = 0
    used: int = 0
    snapshot: str | None = None
    path: str = ""
    time: int = 0


def normal(path: str) -> str:
    """A path without slashes at its ends, empty parts and dots."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ApiError("6684674", target="path")
    return "/".join(parts)


def _files(core: Core, volume: r.Volume, snapshot: str | None, directory: str) -> list[Entry]:
    pool = core.pool(volume.uuid)
    found: Mapping[str, Any] = pool.files if snapshot is None else pool.snapshots[snapshot].files
    copy = None if snapshot is None else core.find_snapshot(volume.uuid, snapshot)
    luns = {lun.path for lun in (core.luns_of(volume.uuid) if copy is None else copy.luns)}
    time = volume.create_time if copy is None else copy.create_time
    return [
        Entry(
            volume.uuid,
            directory,
            path[1:],
            "lun" if path in luns else "file",
            file.size,
            file.used,
            snapshot,
            path,
            time,
        )
        for path, file in sorted(found.items())
    ]


def listing(core: Core, volume: r.Volume, directory: str) -> list[Entry]:
    """What a directory holds, with itself and the one above; raises 6684674 or 917752."""
    if volume.state != "online":
        raise ApiError("917752", name=volume.name)
    top, _, rest = directory.partition("/")
    dots = [
        Entry(volume.uuid, directory, name, "directory", 4096, 4096, time=volume.create_time) for name in (".", "..")
    ]
    copies = [copy.name for copy in core.snapshots_of(volume.uuid)]
    if directory == "":
        snapshots = Entry(volume.uuid, "", ".snapshot", "directory", 4096, 4096, time=volume.create_time)
        return [*dots, snapshots, *_files(core, volume, None, "")]
    if directory == ".snapshot":
        return [
            *dots,
            *(
                Entry(volume.uuid, directory, name, "directory", 4096, 4096, name, time=volume.create_time)
                for name in copies
            ),
        ]
    if top == ".snapshot" and rest in copies:
        return [*dots, *_files(core, volume, rest, directory)]
    raise ApiError("6684674", target="path")


def find_entry(core: Core, volume: r.Volume, path: str) -> Entry:
    """The file or directory at a path; raises 6684674 or 917752."""
    if path == "":
        return next(entry for entry in listing(core, volume, "") if entry.name == ".")
    directory, _, name = path.rpartition("/")
    for entry in listing(core, volume, directory):
        if entry.name == name:
            return entry
    raise ApiError("6684674", target="path")


class Files(Collection):
    """Files and directories of one volume, their metadata and the data of plain files."""

    path = "/storage/volumes/{volume.uuid}/files"
    keys = ("path",)
    named_by_client = True
    default = ("path", "name", "type")
    methods = ("GET", "POST", "PATCH", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("917752", "918235", "6684674", "262197"),
        "POST": ("131073", "131102", "917752", "918235", "6488064", "6488118", "6684674"),
        "PATCH": ("131073", "131102", "917752", "918235", "6488064", "6488082", "6684674"),
        "DELETE": ("131073", "131102", "131138", "917752", "918235", "6684674"),
    }
    parameters: ClassVar[Parameters] = {
        "GET": (
            Field("return_metadata", Kind.BOOLEAN),
            Field("byte_offset", Kind.INTEGER),
            Field("length", Kind.INTEGER),
        ),
        "POST": (Field("overwrite", Kind.BOOLEAN), Field("byte_offset", Kind.INTEGER)),
        "PATCH": (Field("byte_offset", Kind.INTEGER),),
        "DELETE": (Field("recurse", Kind.BOOLEAN),),
    }
    fields = (
        Field("volume.uuid", read=lambda core, e: e.volume),
        Field("volume.name", read=lambda core, e: core.volumes[e.volume].name),
        Field("path", read=lambda core, e: e.directory or "/", create=True, modify=True),
        Field("name", read=lambda core, e: e.name),
        Field("type", read=lambda core, e: e.type, create=True, choices=("file", "directory", "lun")),
        Field("size", Kind.SIZE, read=lambda core, e: e.size),
        Field("bytes_used", Kind.SIZE, read=lambda core, e: e.used),
        Field("creation_time", Kind.TIME, read=lambda core, e: show_time(e.time)),
        Field("is_snapshot", Kind.BOOLEAN, read=lambda core, e: e.snapshot is not None or None),
        Field("is_empty", Kind.BOOLEAN, read=lambda core, e: False if e.type == "directory" else None),
        Field("hard_links_count", Kind.INTEGER, read=lambda core, e: 1),
        Field(
            "unix_permissions",
            Kind.INTEGER,
            read=lambda core, e: 755 if e.type == "directory" else 600,
            create=True,
        ),
        Field("owner_id", Kind.INTEGER, read=lambda core, e: 0),
        Field("group_id", Kind.INTEGER, read=lambda core, e: 0),
    )

    # reading ----------------------------------------------------------------------------------------------------------

    def _volume(self, call: Call, uuid: str) -> r.Volume:
        volume = self.core.volumes.get(uuid)
        if volume is None or call.svm not in (None, volume.svm):
            raise ApiError("918235", volume=uuid, target="volume.uuid")
        return volume

    def require_parents(self, call: Call, parents: Mapping[str, str]) -> None:
        self._volume(call, parents["volume.uuid"])

    def within(self, call: Call, parents: Mapping[str, str]) -> list[Any]:
        return list(listing(self.core, self._volume(call, parents["volume.uuid"]), ""))

    def find(self, call: Call, parents: Mapping[str, str], values: Sequence[str]) -> Entry:
        return find_entry(self.core, self._volume(call, parents["volume.uuid"]), normal(values[-1]))

    def records(self, call: Call) -> Iterable[Entry]:
        return ()

    def value(self, record: Entry, name: str) -> Any:
        """As any collection; as key ``path`` is the whole path, while a record shows that of its directory."""
        return f"{record.directory}/{record.name}".strip("/") if name == "path" else super().value(record, name)

    def href(self, record: Entry) -> str:
        path = quote(self.value(record, "path"), safe="").replace(".", "%2E")
        return f"/api/storage/volumes/{record.volume}/files/{path}"

    def read_data(self, call: Call, record: Entry) -> Reply:
        """A file's data, its metadata, or what a directory holds: always with the path of the request as ``path``."""
        if call.multipart:
            return self._data(call, record)
        filters = self.parse_filters(call, known=self.known("GET"))
        wanted = self.wanted(call, instance=call.flag("return_metadata"), filters=filters)
        volume = self.core.volumes[record.volume]
        if record.type != "directory" or call.flag("return_metadata"):
            entries = [dataclasses.replace(record, directory=normal(call.segments[-1]), name="")]
        else:
            entries = listing(self.core, volume, normal(call.segments[-1]))
        return self.page(call, self.select(entries, filters), wanted, path="/api" + call.path)

    def _data(self, call: Call, record: Entry) -> Reply:
        if record.type == "directory":
            raise ApiError("6488064", reason="a directory has no data")
        offset = call.whole("byte_offset", default=0)
        length = call.whole("length", default=MOST_DATA)
        if length > MOST_DATA:
            raise invalid_value(length, "length", f"1..{MOST_DATA}")
        pool = self.core.pool(record.volume)
        file: BlockDevice = (
            pool.files[record.path] if record.snapshot is None else pool.snapshots[record.snapshot].files[record.path]
        )
        data = file.read(offset, min(length, file.size - offset)) if offset < file.size else b""
        return Reply.multipart(data, name="data", boundary=record.volume.replace("-", ""))

    # changing ---------------------------------------------------------------------------------------------------------

    def create(self, call: Call, body: Body) -> Now:
        """A plain file with the data of a multipart body."""
        volume = self._volume(call, call.parents["volume.uuid"])
        path = normal(call.keys[-1])
        self._require_plain(volume, path)
        if not call.parts:
            raise ApiError("6488064", reason="the lab makes files with data, not directories and links")
        data = b"".join(call.parts.values())[: MOST_DATA + 1]
        if not 0 < len(data) <= MOST_DATA:
            raise invalid_value(len(data), "length", f"1..{MOST_DATA}")
        files = self.core.pool(volume.uuid).files
        exists = f"/{path}" in files
        if exists and self.core.find_lun(volume.uuid, f"/{path}") is not None:
            raise ApiError("131073", path=path)
        if exists and not body.get("overwrite"):
            raise ApiError("6488118", target="path")

        def apply() -> Entry:
            pool = self.core.pool(volume.uuid)
            try:
                file = pool.files[f"/{path}"] if exists else pool.create_file(f"/{path}", len(data), reserved=False)
                if file.size != len(data):
                    file.resize(len(data))
                file.write(0, data)
            except DeviceError as error:
                raise ApiError("917536", reason=str(error)) from None
            return find_entry(self.core, volume, path)

        return Now("file.create", apply)

    def _require_plain(self, volume: r.Volume, path: str) -> None:
        """Raise unless something at a path may be changed here."""
        if volume.state != "online":
            raise ApiError("917752", name=volume.name)
        if path.split("/")[0] == ".snapshot" or volume.type != "rw":
            raise ApiError("131102", target="path")
        check_plain_path(path)
        if self.core.find_lun(volume.uuid, f"/{path}") is not None:
            raise ApiError("131073", path=path)

    def write_data(self, call: Call, record: Entry) -> Now | None:
        if not call.parts:
            return None
        volume = self.core.volumes[record.volume]
        self._require_plain(volume, record.path.lstrip("/"))
        data = b"".join(call.parts.values())
        offset = call.whole("byte_offset", default=0)
        if not 0 < len(data) <= MOST_DATA:
            raise invalid_value(len(data), "length", f"1..{MOST_DATA}")

        def apply() -> None:
            file = self.core.pool(volume.uuid).files[record.path]
            try:
                if offset + len(data) > file.size:
                    file.resize(offset + len(data))
                file.write(offset, data)
            except DeviceError as error:
                raise ApiError("917536", reason=str(error)) from None

        return Now("file.write", apply)

    def modify(self, call: Call, record: Entry, body: Body) -> Now | None:
        """Rename a plain file."""
        if "path" not in body:
            return None
        volume = self.core.volumes[record.volume]
        target = normal(body["path"] or "")
        if record.type == "directory":
            raise ApiError("6488082", path=record.name, target="path")
        for path in (record.path.lstrip("/") if record.snapshot is None else ".snapshot", target):
            self._require_plain(volume, path)
        if f"/{target}" in self.core.pool(volume.uuid).files:
            raise ApiError("6488082", path=record.name, target="path")
        return Now("file.rename", lambda: self.core.pool(volume.uuid).rename_file(record.path, f"/{target}"))

    def remove(self, call: Call, record: Entry) -> Now:
        volume = self.core.volumes[record.volume]
        if record.snapshot is not None or record.name == ".snapshot":
            raise ApiError("131102", target="path")
        if record.type == "directory":
            raise ApiError("131138", target="path")
        self._require_plain(volume, record.path.lstrip("/"))
        return Now("file.delete", lambda: self.core.pool(volume.uuid).delete_file(record.path))
