"""Vocabulary of a collection: fields, who may use it, and the two kinds of change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.rest.values import Kind

Read = Callable[[Core, Any], Any]


@dataclass(frozen=True)
class Field:
    """A field of a collection's records.

    Attributes:
        read: gives the value for (core, record), None if unset; None: the lab knows the name, but never sets it.
        create, modify: whether POST and PATCH take it.
        expensive: shown only if it is named or with ``fields=**``.
        items: fields of the elements, for lists of objects.
    """

    name: str
    kind: Kind = Kind.TEXT
    read: Read | None = None
    create: bool = False
    modify: bool = False
    expensive: bool = False
    choices: tuple[str, ...] = ()
    items: tuple[Field, ...] = ()


class Access(Enum):
    """Who may use a collection."""

    CLUSTER = "cluster administrators"
    SVM = "cluster administrators and, for their own SVM, SVM administrators"
    READ = "everyone reads, cluster administrators change"


@dataclass(frozen=True)
class Now:
    """A change that is made before the answer, at the end of its cost; ``apply`` gives the record."""

    cost: str
    apply: Callable[[], Any]


@dataclass(frozen=True)
class Later:
    """A change that a job makes.

    Attributes:
        operation: name of the effect; also of the cost, after ``ontap.``, unless ``seconds`` is given.
        name: what the query form of Location asks for.
        doomed: state error that is already certain; the job fails with it.
        location: what Location asks for, if not the name: a query.
    """

    operation: str
    arguments: dict[str, Any]
    node: str
    svm: str | None = None
    locks: tuple[str, ...] = ()
    name: str = ""
    doomed: ApiError | None = None
    seconds: float | None = None
    location: str = ""


Work = Now | Later
Codes = Mapping[str, tuple[str, ...]]
Parameters = Mapping[str, tuple[Field, ...]]
Links = Mapping[str, str]
Body = dict[str, Any]


def svm_fields(*, create: bool = True) -> tuple[Field, ...]:
    """The pair ``svm.name``, ``svm.uuid`` of records that have an ``svm`` attribute holding a uuid or None."""
    return (
        Field("svm.uuid", read=lambda core, record: record.svm, create=create),
        Field(
            "svm.name",
            read=lambda core, record: core.svms[record.svm].name if record.svm in core.svms else None,
            create=create,
        ),
    )


SVM_LINK = {"svm": "/api/svm/svms/{svm.uuid}"}
