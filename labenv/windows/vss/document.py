"""The documents of a backup: writers' metadata, the Backup Components Document, and the file that holds them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from labenv.windows.vss import cab
from labenv.windows.vss.model import Component, SnapshotSet
from labenv.windows.vss.records import ShadowRecord
from labenv.windows.vss.writer import Writer

if TYPE_CHECKING:
    from labenv.windows.host import Host

MANIFEST, COMPONENTS = "Manifest.xml", "BackupComponents.xml"


def writer_metadata(writer: Writer, components: Sequence[Component], host: Host) -> bytes:
    """What a writer answered to Identify."""
    root = ElementTree.Element("WRITER_METADATA", {"version": "1.2", "backupSchema": "0x00000000"})
    ElementTree.SubElement(
        root,
        "IDENTIFICATION",
        {
            "writerId": str(writer.id),
            "instanceId": str(writer.instance),
            "friendlyName": writer.name,
            "usage": writer.usage,
            "dataSource": "OTHER",
        },
    )
    restore = {"method": "CUSTOM", "writerRestore": "always", "rebootRequired": "no"}
    ElementTree.SubElement(root, "RESTORE_METHOD", restore)
    locations = ElementTree.SubElement(root, "BACKUP_LOCATIONS")
    for component in components:
        element = ElementTree.SubElement(locations, "FILE_GROUP", _named(component))
        element.set("caption", component.caption)
        element.set("selectable", "yes" if component.selectable else "no")
        for path in component.files:
            folder, _, name = path.rpartition("\\")
            ElementTree.SubElement(element, "FILE_LIST", {"path": folder, "filespec": name})
        for guid in sorted(str(v) for v in component.volumes):
            ElementTree.SubElement(element, "AFFECTED_VOLUME", {"name": f"\\\\?\\Volume{{{guid}}}\\"})
    root.set("machine", host.spec.fqdn)
    return _bytes(root)


def _named(component: Component) -> dict[str, str]:
    return {"logicalPath": component.path, "componentName": component.name}


def backup_components(
    work: SnapshotSet, writers: Sequence[Writer], records: Sequence[ShadowRecord], *, kind: str, succeeded: bool
) -> bytes:
    """The Backup Components Document (SaveAsXML)."""
    root = ElementTree.Element(
        "BACKUP_COMPONENTS",
        {
            "version": "1.2",
            "bootableSystemStateBackup": "no",
            "selectComponents": "yes",
            "backupType": kind,
            "partialFileSupport": "no",
            "snapshotSetId": str(work.id),
        },
    )
    for writer in writers:
        element = ElementTree.SubElement(
            root, "WRITER_COMPONENTS", {"instanceId": str(writer.instance), "writerId": str(writer.id)}
        )
        for component in work.of(writer.id):
            child = ElementTree.SubElement(element, "COMPONENT", {**_named(component), "componentType": "filegroup"})
            child.set("backupSucceeded", "yes" if succeeded and not work.status[writer.id].state.failed else "no")
    snapshots = ElementTree.SubElement(root, "SNAPSHOT_SET_DESCRIPTION", {"snapshotSetId": str(work.id)})
    snapshots.set("context", work.context.value)
    for record in records:
        ElementTree.SubElement(
            snapshots,
            "SNAPSHOT_DESCRIPTION",
            {
                "snapshotId": str(record.id),
                "providerId": str(record.provider),
                "originalVolume": record.volume,
                "created": record.created.isoformat(),
                "attributes": " ".join(record.attributes),
            },
        )
    return _bytes(root)


def metadata_file(
    metadata: Mapping[Writer, Sequence[Component]], components: bytes, *, host: Host, now: datetime
) -> dict[str, bytes]:
    """The files of a metadata cabinet: a manifest, the writers' metadata, and the components document."""
    root = ElementTree.Element("MANIFEST", {"machine": host.spec.fqdn, "created": now.isoformat()})
    files: dict[str, bytes] = {MANIFEST: b""}
    for number, (writer, found) in enumerate(metadata.items(), 1):
        name = f"Writer{number}.xml"
        ElementTree.SubElement(root, "WRITER", {"file": name, "writerId": str(writer.id), "name": writer.name})
        files[name] = writer_metadata(writer, found, host)
    ElementTree.SubElement(root, "BACKUP_COMPONENTS", {"file": COMPONENTS})
    files[COMPONENTS] = components
    files[MANIFEST] = _bytes(root)
    return files


def cabinet(files: Mapping[str, bytes], *, now: datetime) -> bytes:
    """These files as a cabinet."""
    return cab.pack(files, now=now)


def _bytes(root: ElementTree.Element) -> bytes:
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8")
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + text
