"""What a collection of the API is: its fields, its codes, and how records are read, selected and shown."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import dropwhile, islice
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError, invalid_value
from labenv.ontap.rest.call import Call, Reply
from labenv.ontap.rest.model import Access, Body, Field, Now, Work
from labenv.ontap.rest.query import Filter, parse_filter, parse_order, put_in_order
from labenv.ontap.rest.values import Kind, coerce, nest


class Collection(ABC):
    """One collection of the API. Subclasses describe fields and codes, and say how records change.

    ``polls``: whoever reads an unfinished record waits a lab second. ``named_by_client``: a POST goes to the path of
    the record that it makes. ``addressable``: a record has a path of its own. ``shared``: records that belong to no SVM
    can be read by every SVM's administrator. ``anywhere``: a POST below ``*`` says in its body where it belongs.
    """

    path: ClassVar[str]
    keys: ClassVar[tuple[str, ...]] = ("uuid",)
    default: ClassVar[tuple[str, ...]] = ("uuid", "name")
    fields: ClassVar[tuple[Field, ...]] = ()
    access: ClassVar[Access] = Access.SVM
    codes: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    parameters: ClassVar[Mapping[str, tuple[Field, ...]]] = {}
    methods: ClassVar[tuple[str, ...]] = ("GET",)
    missing: ClassVar[str] = "4"
    links: ClassVar[Mapping[str, str]] = {}
    svm_field: ClassVar[str] = "svm.uuid"
    polls: ClassVar[bool] = False
    named_by_client: ClassVar[bool] = False
    addressable: ClassVar[bool] = True
    shared: ClassVar[bool] = False
    anywhere: ClassVar[bool] = False

    def __init__(self, core: Core) -> None:
        self.core = core
        self.by_name = {field.name: field for field in self.fields}

    # what subclasses give ---------------------------------------------------------------------------------------------

    @abstractmethod
    def records(self, call: Call) -> Iterable[Any]:
        """Every record, in the order in which they are listed."""

    def create(self, call: Call, body: Body) -> Work:
        """Check a POST body; nothing is changed yet."""
        raise ApiError("3", path=call.path, status=405)

    def modify(self, call: Call, record: Any, body: Body) -> Work | None:
        """Check a PATCH of one record; None: nothing to change."""
        raise ApiError("3", path=call.path, status=405)

    def remove(self, call: Call, record: Any) -> Work:
        """Check a DELETE of one record."""
        raise ApiError("3", path=call.path, status=405)

    def read_data(self, call: Call, record: Any) -> Reply | None:
        """The raw answer to a GET of one record's data, if that is asked for."""
        return None

    def write_data(self, call: Call, record: Any) -> Now | None:
        """The change that a multipart PATCH of one record's data makes, if it is one."""
        return None

    def unfinished(self, record: Any) -> bool:
        """Whether a reader of the record is waiting for it (only where ``polls``): reading it then costs time."""
        return False

    def not_found(self, values: Sequence[str]) -> ApiError:
        """The error for keys that no record has."""
        return ApiError("4", target=self.keys[-1])

    # paths ------------------------------------------------------------------------------------------------------------

    @property
    def template(self) -> tuple[str, ...]:
        """Segments of the collection's path; those in braces are keys of what it is in."""
        return tuple(part for part in self.path.split("/") if part)

    def collection_path(self, record: Any) -> str:
        """Where a record's collection is, below the host."""
        parts = []
        for part in self.template:
            if part.startswith("{"):
                part = quote(str(self.value(record, part[1:-1])), safe="")
            parts.append(part)
        return "/api/" + "/".join(parts)

    def href(self, record: Any) -> str:
        """The record's own path, below the host."""
        keys = "/".join(quote(str(self.value(record, key)), safe="") for key in self.keys)
        return f"{self.collection_path(record)}/{keys}"

    # values -----------------------------------------------------------------------------------------------------------

    def value(self, record: Any, name: str) -> Any:
        """A field's value; None if unset."""
        read = self.by_name[name].read
        return None if read is None else read(self.core, record)

    def filter_values(self, record: Any, name: str) -> list[Any]:
        """What a query on a field compares: one value, or those of all elements of a list."""
        field = self.by_name.get(name)
        if field is not None:
            value = self.value(record, name)
            return list(value) if isinstance(value, list) else [value]
        parent, item = self._split_item(name)
        return [element.get(item) for element in self.value(record, parent) or []]

    def _split_item(self, name: str) -> tuple[str, str]:
        for field in self.fields:
            if field.items and name.startswith(f"{field.name}."):
                return field.name, name[len(field.name) + 1 :]
        raise KeyError(name)

    def find_field(self, name: str) -> Field | None:
        """The description of a field or of a list element's field."""
        if name in self.by_name:
            return self.by_name[name]
        for field in self.fields:
            for item in field.items:
                if name == f"{field.name}.{item.name}":
                    return item
        return None

    def canonical(self, name: str) -> str:
        """The full name of a field that is named by its object (``svm`` for ``svm.name``)."""
        if name not in self.by_name and f"{name}.name" in self.by_name:
            return f"{name}.name"
        return name

    # selecting --------------------------------------------------------------------------------------------------------

    def parse_filters(self, call: Call, *, known: tuple[str, ...] = ()) -> list[Filter]:
        """Filters of a query, except the parameters that the method knows; raises 262179 for other names."""
        filters = []
        for name, text in call.query.items():
            if name in known or name.startswith("start."):
                continue
            full = self.canonical(name)
            field = self.find_field(full)
            if field is None:
                if call.flag("ignore_unknown_fields"):
                    continue
                raise ApiError("262179", name=name, target=name)
            if text != "":
                filters.append(parse_filter(full, field.kind, text, choices=field.choices))
        return filters

    def visible(self, call: Call) -> Iterable[Any]:
        """Records that the caller may see: those of the SVM that the request is confined to, if any."""
        records = self.records(call)
        if call.svm is None or self.svm_field not in self.by_name:
            return records
        allowed = (call.svm, None) if self.shared else (call.svm,)
        return (record for record in records if self.value(record, self.svm_field) in allowed)

    def select(self, records: Iterable[Any], filters: Sequence[Filter]) -> list[Any]:
        """The records that pass every filter."""
        return list(self.matching(records, filters))

    def matching(self, records: Iterable[Any], filters: Sequence[Filter]) -> Iterator[Any]:
        """The records that pass every filter, one after the other: whoever wants a page need not look at all."""
        if not filters:
            yield from records
            return
        tests = [(f, f.field, f.field in self.by_name) for f in filters]
        for record in records:
            for f, name, plain in tests:
                value = self.value(record, name) if plain else self.filter_values(record, name)
                if not (f.matches(value) if isinstance(value, list) else f.passes(value)):
                    break
            else:
                yield record

    def within(self, call: Call, parents: Mapping[str, str]) -> Iterable[Any]:
        """Visible records below the given parents (keys of the path; ``*`` is any)."""
        if not parents:
            return self.visible(call)
        filters = [
            parse_filter(name, Kind.TEXT, text if "*" in text else f'"{text}"') for name, text in parents.items()
        ]
        return self.matching(self.visible(call), filters)

    def find(self, call: Call, parents: Mapping[str, str], values: Sequence[str]) -> Any:
        """The record with the given keys; raises what ``not_found`` says."""
        self.require_parents(call, parents)
        table = self.keyed()
        if table is not None and len(values) == 1:
            found = table.get(values[0])
            if found is not None and self._is_within(call, parents, found):
                return found
            raise self.not_found(values)
        for record in self.within(call, parents):
            if all(str(self.value(record, key)) == value for key, value in zip(self.keys, values, strict=True)):
                return record
        raise self.not_found(values)

    def keyed(self) -> Mapping[str, Any] | None:
        """The records by their only key, where there is such a table: nobody has to look through them all."""
        return None

    def _is_within(self, call: Call, parents: Mapping[str, str], record: Any) -> bool:
        if call.svm is not None and self.svm_field in self.by_name:
            allowed = (call.svm, None) if self.shared else (call.svm,)
            if self.value(record, self.svm_field) not in allowed:
                return False
        return all("*" in text or self.value(record, name) == text for name, text in parents.items())

    def require_parents(self, call: Call, parents: Mapping[str, str]) -> None:
        """Raise if what the collection is in does not exist."""

    # showing ----------------------------------------------------------------------------------------------------------

    def wanted(self, call: Call, *, instance: bool, filters: Sequence[Filter] = ()) -> dict[str, set[str] | None]:
        """Field -> names of element fields to show (None: all), for the ``fields`` parameter; raises 262197."""
        text = call.general.get("fields", "")
        wanted: dict[str, set[str] | None] = {}
        for name in (*self._parents(), *self.keys, *self.default):
            if name in self.by_name:
                wanted[name] = None
        if instance and not text:
            text = "*"
        for item in text.split(","):
            name = item.strip()
            if name:
                self._want(name, wanted, call)
        for f in filters:
            self._want(f.field, wanted, call)
        return wanted

    def _parents(self) -> list[str]:
        return [part[1:-1] for part in self.template if part.startswith("{")]

    def _want(self, name: str, wanted: dict[str, set[str] | None], call: Call) -> None:
        name = name.removesuffix(".*") if name not in ("*", "**") else name
        if name in ("*", "**"):
            for field in self.fields:
                if not field.expensive or name == "**":
                    wanted[field.name] = None
            return
        if name in self.by_name:
            wanted[name] = None
            return
        children = [field.name for field in self.fields if field.name.startswith(f"{name}.")]
        if children:
            wanted.update(dict.fromkeys(children))
            return
        if self.find_field(name) is not None:
            parent, item = self._split_item(name)
            chosen = wanted.get(parent, set())
            wanted[parent] = None if chosen is None else chosen | {item}
            return
        if any(field.items and any(i.name.startswith(f"{name}."[len(field.name) + 1 :]) for i in field.items)
               and name.startswith(f"{field.name}.") for field in self.fields):  # fmt: skip
            parent = next(f.name for f in self.fields if f.items and name.startswith(f"{f.name}."))
            prefix = f"{name}."[len(parent) + 1 :]
            names = {i.name for i in self.by_name[parent].items if i.name.startswith(prefix)}
            chosen = wanted.get(parent, set())
            wanted[parent] = None if chosen is None else chosen | names
            return
        if not call.flag("ignore_unknown_fields"):
            raise invalid_value(name, "fields", "field,...")

    def show(self, record: Any, wanted: Mapping[str, set[str] | None], *, hal: bool) -> dict[str, Any]:
        """A record as JSON."""
        flat: dict[str, Any] = {}
        for field in self.fields:
            if field.name not in wanted or field.read is None:
                continue
            value = field.read(self.core, record)
            if field.items and value is not None:
                only = wanted[field.name]
                value = [nest({k: v for k, v in element.items() if only is None or k in only}) for element in value]
                if hal and field.name in self.links:
                    for shown, element in zip(value, self.value(record, field.name), strict=True):
                        shown["_links"] = _self(_fill(self.links[field.name], element))
            flat[field.name] = value
        shown = nest(flat)
        if hal:
            self._add_links(shown, record)
        return shown

    def _add_links(self, shown: dict[str, Any], record: Any) -> None:
        for name, template in self.links.items():
            place: Any = shown
            for part in name.split("."):
                place = place.get(part) if isinstance(place, dict) else None
            if not isinstance(place, dict) or not place:
                continue
            keys = re.findall(r"\{([^}]+)\}", template)
            values = {key: self.value(record, key) for key in keys}
            if all(value is not None for value in values.values()):
                place["_links"] = _self(_fill(template, values))
        shown["_links"] = _self(self.href(record))

    def listing(self, call: Call, parents: Mapping[str, str]) -> Reply:
        """Answer to GET of the collection."""
        self.require_parents(call, parents)
        filters = self.parse_filters(call, known=self.known(call.method))
        wanted = self.wanted(call, instance=False, filters=filters)
        order = parse_order(call.general.get("order_by", ""))
        pool = self.within(call, parents)
        if not order:
            pool, marked = self._from_mark(call, parents, pool)
            return self.page(call, self.matching(pool, filters), wanted, path=self._listed_at(call), marked=marked)
        for name, _ in order:
            if self.find_field(name) is None:
                raise invalid_value(name, "order_by", "field,...")
        ordered = put_in_order(self.select(pool, filters), order, self._order_value)
        rest, marked = self._from_mark(call, parents, ordered)
        return self.page(call, rest, wanted, path=self._listed_at(call), marked=marked)

    def _order_value(self, record: Any, name: str) -> Any:
        values = self.filter_values(record, name)
        return values[0] if values else None

    def _listed_at(self, call: Call) -> str:
        return "/api/" + "/".join(quote(segment, safe="*") for segment in call.segments)

    def page(
        self,
        call: Call,
        records: Iterable[Any],
        wanted: Mapping[str, set[str] | None],
        *,
        path: str,
        marked: bool = False,
    ) -> Reply:
        """At most ``max_records`` of the records, with the link to the next ones.

        ``marked``: the records begin where the page begins.
        """
        call.number("return_timeout", default=15, low=0, high=120)
        limit = call.number("max_records", default=10_000, low=1, high=2**31 - 1)
        text = call.query.get("start.index", "0")
        start = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
        rest = iter(records)
        if not marked:
            for _ in islice(rest, start):
                pass
        chosen = list(islice(rest, limit))
        following = next(rest, None)
        parameters = {**call.query, **call.general}
        answer: dict[str, Any] = {}
        if call.flag("return_records", default=True):
            answer["records"] = [self.show(record, wanted, hal=call.hal) for record in chosen]
        answer["num_records"] = len(chosen)
        links: dict[str, Any] = _self(_with_query(path, parameters)) if call.hal else {}
        if following is not None:
            parameters = {name: text for name, text in parameters.items() if not name.startswith("start.")}
            for key in self.keys:
                parameters[f"start.{key}"] = str(self.value(following, key))
            parameters["start.index"] = str(start + limit)
            links["next"] = {"href": _with_query(path, parameters)}
        if links:
            answer["_links"] = links
        return Reply(200, answer)

    def _from_mark(self, call: Call, parents: Mapping[str, str], records: Iterable[Any]) -> tuple[Iterable[Any], bool]:
        """The records from the one on that the link to this page names, if it is still there."""
        marks = {key: call.query[f"start.{key}"] for key in self.keys if f"start.{key}" in call.query}
        if not marks:
            return records, False
        table = self.keyed()
        first = None if table is None else table.get(next(iter(marks.values())))
        if first is not None and self._is_within(call, parents, first):
            return dropwhile(lambda record: record is not first, records), True
        every = list(records)
        for index, record in enumerate(every):
            if all(str(self.value(record, key)) == text for key, text in marks.items()):
                return every[index:], True
        return every, False

    # bodies -----------------------------------------------------------------------------------------------------------

    def known(self, method: str) -> tuple[str, ...]:
        """Names of the query parameters that a method has of its own."""
        return tuple(field.name for field in self.parameters.get(method, ()))

    def read_body(self, call: Call, flat: Mapping[str, Any]) -> Body:
        """Typed values of a flat body, and of the method's own query parameters; raises 262179, 262196 or 262197."""
        creating = call.method == "POST"
        own = {field.name: field for field in self.parameters.get(call.method, ())}
        body: Body = {}
        for name, value in {**flat, **{k: v for k, v in call.query.items() if k in own}}.items():
            full = name if name in own else self.canonical(name)
            field = own.get(name) or self.by_name.get(full)
            if field is None:
                if call.flag("ignore_unknown_fields"):
                    continue
                raise ApiError("262179", name=name, target=name)
            if name not in own and not (field.create if creating else field.modify):
                raise ApiError("262196", field=name, target=name)
            value = coerce(field.kind, value, name=name, choices=field.choices)
            if field.kind is Kind.OBJECTS and value is not None:
                value = [self._read_item(field, element) for element in value]
            body[full] = value
        return body

    @staticmethod
    def _read_item(field: Field, element: Mapping[str, Any]) -> dict[str, Any]:
        items = {item.name: item for item in field.items}
        read = {}
        for name, value in element.items():
            item = items.get(name)
            if item is None:
                raise ApiError("262179", name=f"{field.name}.{name}", target=f"{field.name}.{name}")
            read[name] = coerce(item.kind, value, name=f"{field.name}.{name}", choices=item.choices)
        return read


def _self(href: str) -> dict[str, Any]:
    return {"self": {"href": href}}


def _fill(template: str, values: Mapping[str, Any]) -> str:
    return re.sub(r"\{([^}]+)\}", lambda m: quote(str(values.get(m[1], "")), safe=""), template)


def _with_query(path: str, parameters: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(parameters, safe='*,')}" if parameters else path
