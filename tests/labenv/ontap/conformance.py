"""What the array answers, held against the vendor's published descriptions of each operation.

A body of 2xx must consist of fields that ``netapp-ontap``'s own schema of the route has, with values that it accepts,
nothing unknown at any depth; where the swagger covers the route, its types and enumerations hold too. An error must
have a code that the route declares (``test_ontap_codes`` holds those against the documentation) or a general one.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft4Validator
from marshmallow import Schema, ValidationError
from marshmallow import fields as kinds

from labenv.ontap.rest.call import parse_path
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.dispatch import Dispatcher

from .ontap_bench import GENERIC

SWAGGER = Path(os.environ.get("LABENV_FACTS", "facts")) / "ontap_rest.swagger.yaml"

RESOURCES = {
    "/cluster": "cluster.Cluster",
    "/cluster/jobs": "job.Job",
    "/cluster/licensing/licenses": "license_package.LicensePackage",
    "/cluster/nodes": "node.Node",
    "/cluster/peers": "cluster_peer.ClusterPeer",
    "/cluster/schedules": "schedule.Schedule",
    "/storage/aggregates": "aggregate.Aggregate",
    "/svm/svms": "svm.Svm",
    "/svm/peers": "svm_peer.SvmPeer",
    "/network/ip/interfaces": "ip_interface.IpInterface",
    "/network/fc/interfaces": "fc_interface.FcInterface",
    "/network/fc/ports": "fc_port.FcPort",
    "/network/fc/logins": "fc_login.FcLogin",
    "/protocols/san/iscsi/services": "iscsi_service.IscsiService",
    "/protocols/san/iscsi/sessions": "iscsi_session.IscsiSession",
    "/protocols/san/fcp/services": "fcp_service.FcpService",
    "/protocols/san/igroups": "igroup.Igroup",
    "/protocols/san/igroups/{igroup.uuid}/initiators": "igroup_initiator.IgroupInitiator",
    "/protocols/san/portsets": "portset.Portset",
    "/protocols/san/portsets/{portset.uuid}/interfaces": "portset_interface.PortsetInterface",
    "/storage/luns": "lun.Lun",
    "/protocols/san/lun-maps": "lun_map.LunMap",
    "/protocols/san/lun-maps/{lun.uuid}/{igroup.uuid}/reporting-nodes": "lun_map_reporting_node.LunMapReportingNode",
    "/storage/file/clone": "file_clone.FileClone",
    "/storage/volumes": "volume.Volume",
    "/storage/volumes/{volume.uuid}/snapshots": "snapshot.Snapshot",
    "/storage/volumes/{volume.uuid}/files": "file_info.FileInfo",
    "/storage/qtrees": "qtree.Qtree",
    "/storage/snapshot-policies": "snapshot_policy.SnapshotPolicy",
    "/application/consistency-groups": "consistency_group.ConsistencyGroup",
    "/application/consistency-groups/{consistency_group.uuid}/snapshots": (
        "consistency_group_snapshot.ConsistencyGroupSnapshot"
    ),
    "/snapmirror/policies": "snapmirror_policy.SnapmirrorPolicy",
    "/snapmirror/relationships": "snapmirror_relationship.SnapmirrorRelationship",
    "/snapmirror/relationships/{relationship.uuid}/transfers": "snapmirror_transfer.SnapmirrorTransfer",
    "/support/ems/application-logs": "ems_application_log.EmsApplicationLog",
    "/support/ems/events": "ems_event.EmsEvent",
    "/security/accounts": "account.Account",
    "/security/certificates": "security_certificate.SecurityCertificate",
    "/security/audit/messages": "security_audit_log.SecurityAuditLog",
}
"""Path of a collection -> class of ``netapp_ontap.resources``. The clustershell's commands have none."""

ENVELOPE = {"records", "num_records", "_links", "job", "jobs", "error"}
"""What surrounds records."""

CHANGED_SINCE_SWAGGER = {
    # the swagger is of about 9.8; what netapp-ontap 9.19.1 wants of these is not what it says
    ("/network/ip/interfaces", "/services"): "data_fcp came later",
    ("/snapmirror/policies", "/retention/count"): "an integer once, text today",
    ("/snapmirror/relationships", "/unhealthy_reason/code"): "an integer once, text today",
}
"""Path of a collection and place in a record -> why the swagger does not count there."""


@functools.cache
def schema_of(path: str) -> Schema | None:
    """The client's schema of a collection's records."""
    name = RESOURCES.get(path)
    if name is None:
        return None
    module, _, kind = name.partition(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schema: Schema = getattr(importlib.import_module(f"netapp_ontap.resources.{module}"), f"{kind}Schema")()
    return schema


@functools.cache
def keys_of(schema: Schema) -> dict[str, kinds.Field]:
    """A schema's fields by their names on the wire."""
    return {field.data_key or name: field for name, field in schema.fields.items()}


def strict(schema: Schema, value: Any, at: str) -> Iterator[str]:
    """What a strict schema (unknown fields refused at every depth) does not accept."""
    if not isinstance(value, dict):
        yield f"{at}: {value!r} is not an object"
        return
    known = keys_of(schema)
    for name, inner in value.items():
        if name not in known:
            yield f"{at}/{name}: unknown field"
        elif inner is not None:
            yield from _field(known[name], inner, f"{at}/{name}")


def _field(field: kinds.Field, value: Any, at: str) -> Iterator[str]:
    if isinstance(field, kinds.Nested):
        yield from strict(_nested(field), value, at)
    elif isinstance(field, kinds.List):
        if not isinstance(value, list):
            yield f"{at}: {value!r} is not a list"
            return
        for number, element in enumerate(value):
            yield from _field(field.inner, element, f"{at}/{number}")
    else:
        try:
            field.deserialize(value)
        except ValidationError as error:
            yield f"{at}: {value!r}: {error}"


def _nested(field: kinds.Nested) -> Schema:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # netapp-ontap's models warn when they are first imported
        schema: Schema = field.schema
    return schema


@functools.cache
def swagger() -> dict[str, Any] | None:
    """The published swagger; None where it is not at hand."""
    if not SWAGGER.exists():
        return None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document: dict[str, Any] = yaml.load(SWAGGER.read_text("utf-8"), Loader=loader)  # noqa: S506 - a safe loader
    return document


@functools.cache
def validator(path: str) -> Draft4Validator | None:
    """Types and enumerations of one record by the swagger; None where it does not have the route."""
    document = swagger()
    if document is None:
        return None
    operation = document["paths"].get(path, {}).get("get")
    if operation is None:
        return None
    response = operation["responses"]["200"]["schema"]
    name = response.get("$ref", "").rpartition("/")[2]
    properties = (document["definitions"][name] if name else response)["properties"]
    record = properties["records"]["items"] if "records" in properties else response
    return Draft4Validator({"definitions": document["definitions"], **record})


def by_swagger(path: str, record: Any, at: str) -> Iterator[str]:
    """What the swagger does not accept of a record."""
    check = validator(path)
    if check is None:
        return
    for error in check.iter_errors(record):
        place = "/" + "/".join(step for step in error.absolute_path if isinstance(step, str))
        if (path, place) in CHANGED_SINCE_SWAGGER:
            continue
        yield f"{at}{place} (swagger): {error.message[:200]}"


class Gate:
    """Looks at every answer of every dispatcher; ``violations`` says what no cluster would have answered."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.seen: set[bytes] = set()
        self.records = 0

    def look(self, dispatcher: Dispatcher, method: str, segments: tuple[str, ...], status: int, body: Any) -> None:
        """Take one answer down."""
        route = dispatcher.route(segments)
        if route is None:
            return
        at = f"{method} {route.collection.path}"
        if status >= 300:
            self._error(at, method, route.collection, body)
        elif (route.keys is None and (route.collection.keys or method != "GET")) or "records" in body:
            self._envelope(at, body)
            for record in body.get("records", []):
                self._record(dispatcher, at, route.collection, record)
        elif method == "GET":
            self._record(dispatcher, at, route.collection, body)
        else:
            self._envelope(at, body)

    def _error(self, at: str, method: str, collection: Collection, body: Any) -> None:
        error = body.get("error", {})
        if not {"message", "code"} <= set(error) or not isinstance(error["code"], str):
            self.violations.append(f"{at}: no error body of ONTAP's form: {body!r}")
        elif error["code"] not in GENERIC and error["code"] not in collection.codes.get(method, ()):
            self.violations.append(f"{at}: code {error['code']} is not declared")

    def _envelope(self, at: str, body: Any) -> None:
        surplus = set(body) - ENVELOPE
        if surplus:
            self.violations.append(f"{at}: {sorted(surplus)} beside the records")
        if "records" in body and not isinstance(body.get("num_records"), int):
            self.violations.append(f"{at}: records without their number")
        for job in [body[name] for name in ("job",) if name in body] + body.get("jobs", []):
            if set(job) != {"uuid", "_links"}:
                self.violations.append(f"{at}: a job link of {sorted(job)}")

    def _record(self, dispatcher: Dispatcher, at: str, collection: Collection, record: Any) -> None:
        path = collection.path
        schema = schema_of(path)
        if path == "/cluster/jobs" and "error" in record:
            self._job(dispatcher, record)
        digest = hashlib.sha1(json.dumps([path, record]).encode(), usedforsecurity=False).digest()
        if schema is None or digest in self.seen:
            return
        self.seen.add(digest)
        self.records += 1
        self.violations += strict(schema, record, at)
        self.violations += by_swagger(path, record, at)

    def _job(self, dispatcher: Dispatcher, record: Any) -> None:
        """A job fails with a code of the operation that began it."""
        method, _, path = record.get("description", "").partition(" ")
        route = dispatcher.route(parse_path(path.encode())[1:])
        if route is not None:
            self._error(f"job of {method} {route.collection.path}", method, route.collection, record)
