"""From a parsed request to its answer: routes, permissions, single and bulk changes, jobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from labenv.clock import SECOND
from labenv.ontap.accounts import READ_ONLY, role_of
from labenv.ontap.core import Core
from labenv.ontap.errors import ERRORS, ApiError
from labenv.ontap.jobs import Jobs
from labenv.ontap.records import Job
from labenv.ontap.rest.call import Call, Reply, parse_path
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import (
    Access,
    Later,
    Now,
    Work,
)
from labenv.ontap.rest.values import flatten

MULTI_STATUS = {"POST": (201, 202), "PATCH": (200, 202), "DELETE": (200, 202)}
"""HTTP status of a change that is done, and of one whose job still runs."""


@dataclasses.dataclass(frozen=True)
class Route:
    """A collection and the keys that a path gives: of what it is in, and of one record (None: the collection)."""

    collection: Collection
    parents: Mapping[str, str]
    keys: tuple[str, ...] | None


class Dispatcher:
    """Answers requests from the collections."""

    def __init__(
        self, core: Core, jobs: Jobs, collections: Sequence[Collection], *, changed: Callable[[], None] = lambda: None
    ) -> None:
        """``changed`` is called after every request that may have changed something.

        ``strict`` is to be set from outside: a PATCH without anything to change is then refused, which shows clients
        that drop what they were told to send.
        """
        self._changed = changed
        self.strict = False
        self._core = core
        self._jobs = jobs
        self.collections = tuple(collections)
        self._templates = [(collection.template, collection) for collection in collections]

    def route(self, segments: Sequence[str]) -> Route | None:
        """The collection behind a path; one that is written out wins over one with keys."""
        for template, collection in self._templates:
            extra = len(segments) - len(template)
            if extra not in (0, len(collection.keys) if collection.addressable else 0):
                continue
            if all(t.startswith("{") or t == s for t, s in zip(template, segments, strict=False)):
                pairs = zip(template, segments, strict=False)
                parents = {t[1:-1]: s for t, s in pairs if t.startswith("{")}
                keys = tuple(segments[len(template) :]) if extra else None
                return Route(collection, parents, keys)
        return None

    async def answer(self, call: Call) -> Reply:
        """The answer to a request; errors are answers too."""
        reply = await self._answer(call)
        if call.method != "GET":
            self._changed()
        return reply

    async def _answer(self, call: Call) -> Reply:
        try:
            route = self.route(call.segments)
            if route is None:
                raise ApiError("3", path=call.path)
            if call.method not in route.collection.methods:
                raise ApiError("3", path=call.path, status=405)
            self._permit(call, route.collection)
            if call.method == "GET":
                return await self._get(call, route)
            call.return_timeout  # noqa: B018 - checked before anything is changed
            if call.method == "POST":
                return await self._post(call, route)
            return await self._change(call, route)
        except ApiError as error:
            if call.method != "GET":
                self._core.state.commit()  # a bulk change may have been made in part
            return Reply(error.status, error.body())

    @staticmethod
    def _permit(call: Call, collection: Collection) -> None:
        role = role_of(call.user)
        if role == "none" or (role in READ_ONLY and call.method != "GET"):
            raise ApiError("6")
        if call.svm is None or collection.access is Access.SVM:
            return
        if collection.access is Access.CLUSTER or call.method != "GET":
            raise ApiError("6")

    # reading ----------------------------------------------------------------------------------------------------------

    async def _get(self, call: Call, route: Route) -> Reply:
        collection = route.collection
        if route.keys is None and collection.keys:
            if self._awaited(collection) or (collection.polls and self._unfinished(call, route)):
                await self._core.clock.spend(1)
            return collection.listing(call, route.parents)
        record = collection.find(call, route.parents, route.keys or ())
        if self._awaited(collection) or (collection.polls and collection.unfinished(record)):
            await self._core.clock.spend(1)
            record = collection.find(call, route.parents, route.keys or ())
        data = collection.read_data(call, record)
        if data is not None:
            return data
        collection.parse_filters(call, known=collection.known("GET"))
        wanted = collection.wanted(call, instance=True)
        return Reply(200, collection.show(record, wanted, hal=call.hal))

    def _awaited(self, collection: Collection) -> bool:
        """Whether a job is under way that a request to this collection began: who polls for its effect must see it."""
        for job in self._core.unfinished_jobs[True]:
            route = self.route(parse_path(job.description.partition(" ")[2].encode())[1:])
            if route is not None and route.collection is collection:
                return True
        return False

    @staticmethod
    def _unfinished(call: Call, route: Route) -> bool:
        collection = route.collection
        filters = collection.parse_filters(call, known=collection.known("GET"))
        records = collection.matching(collection.within(call, route.parents), filters)
        return any(collection.unfinished(record) for record in records)

    # creating ---------------------------------------------------------------------------------------------------------

    async def _post(self, call: Call, route: Route) -> Reply:
        collection = route.collection
        if (route.keys is not None) != collection.named_by_client:
            raise ApiError("3", path=call.path, status=405)
        bulk = call.body.get("records")
        bodies = bulk if isinstance(bulk, list) else [call.body]
        if not bodies or not all(isinstance(body, dict) for body in bodies):
            raise ApiError("2", reason='"records" is a list of objects')
        self._refuse_unknown(call, collection)
        collection.require_parents(call, route.parents)
        if "*" in route.parents.values() and not collection.anywhere:
            raise ApiError("4", target=next(iter(route.parents)))
        call = dataclasses.replace(call, parents=route.parents, keys=route.keys or ())
        flats = [self._with_svm(call, collection, flatten(dict(body))) for body in bodies]

        def work(flat: Mapping[str, Any]) -> Work:
            return collection.create(call, collection.read_body(call, flat))

        works = [(flat, work(flat)) for flat in flats]  # all of them are checked before the first is made
        made: list[Any] = []
        jobs: list[Job] = []
        for flat, planned in works:
            if isinstance(planned, Later):
                jobs.append(self._submit(call, collection, planned))
                continue
            await self._core.clock.spend(self._core.costs[f"ontap.{planned.cost}"])
            again = work(flat)  # the site may have changed while time passed
            assert isinstance(again, Now)
            made.append(again.apply())
        self._core.state.commit()
        if jobs:
            later = [planned for _, planned in works if isinstance(planned, Later)]
            return await self._accepted(call, collection, jobs, location=self._query_location(call, later))
        return self._created(call, collection, made)

    def _with_svm(self, call: Call, collection: Collection, flat: dict[str, Any]) -> dict[str, Any]:
        """Who is confined to an SVM need not name it, and may name no other."""
        field = collection.by_name.get("svm.uuid")
        if call.svm is None or field is None or not field.create:
            return flat
        name, uuid = flat.get("svm.name", flat.get("svm")), flat.get("svm.uuid")
        if name is None and uuid is None:
            return {**flat, "svm.uuid": call.svm}
        if (uuid or call.svm) != call.svm or (name or "") not in ("", self._core.svms[call.svm].name):
            raise ApiError("2621462", svm=name or uuid, target="svm", status=400)
        return flat

    def _created(self, call: Call, collection: Collection, made: list[Any]) -> Reply:
        body: dict[str, Any] = {"num_records": len(made)}
        if call.flag("return_records"):
            wanted = collection.wanted(dataclasses.replace(call, general={"fields": "*"}), instance=True)
            body["records"] = [collection.show(record, wanted, hal=call.hal) for record in made]
        headers = {"Location": collection.href(made[0])} if len(made) == 1 else {}
        return Reply(201, body, headers)

    @staticmethod
    def _query_location(call: Call, works: Sequence[Later]) -> str:
        path = "/api/" + "/".join(quote(s, safe="*") for s in call.segments) + "/"
        if len(works) == 1 and works[0].location:
            return f"{path}?{works[0].location}"
        named = [work.name for work in works if work.name]
        return f"{path}?{urlencode({'name': '|'.join(named)})}" if named else path

    # changing ---------------------------------------------------------------------------------------------------------

    async def _change(self, call: Call, route: Route) -> Reply:
        collection = route.collection
        call = dataclasses.replace(call, parents=route.parents)
        flat = flatten(dict(call.body)) if call.method == "PATCH" and "records" not in call.body else {}
        says_nothing = not call.body and not call.parts and not set(call.query) & set(collection.known("PATCH"))
        if self.strict and call.method == "PATCH" and says_nothing:
            raise ApiError("2", reason="the body has nothing to change")
        targets = self._targets(call, route, flat)
        planned = [(keys, own, self._plan(call, collection, keys, own)) for keys, own in targets]
        jobs: list[Job] = []
        for keys, own, work in planned:
            if work is None:
                continue
            if isinstance(work, Later):
                jobs.append(self._submit(call, collection, work))
                continue
            await self._core.clock.spend(self._core.costs[f"ontap.{work.cost}"])
            again = self._plan(call, collection, keys, own)
            if isinstance(again, Now):
                again.apply()
        self._core.state.commit()
        single = route.keys is not None or not collection.keys
        if jobs:
            return await self._accepted(call, collection, jobs, location="", single=single)
        return Reply(200, {} if single else {"num_records": len(planned)})

    def _targets(self, call: Call, route: Route, flat: dict[str, Any]) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
        """Keys (parents first) and changes of every record that a PATCH or DELETE is about."""
        collection = route.collection
        if route.keys is not None or not collection.keys:
            self._refuse_unknown(call, collection)
            record = collection.find(call, route.parents, route.keys or ())
            return [(self._identity(collection, record), flat)]
        collection.require_parents(call, route.parents)
        listed = call.body.get("records")
        if isinstance(listed, list):
            return [self._listed(call, route, element) for element in listed if isinstance(element, dict)]
        filters = collection.parse_filters(call, known=collection.known(call.method))
        if not filters:
            raise ApiError("2", reason=f"{call.method} of a collection needs a query that selects its records")
        records = collection.select(collection.within(call, route.parents), filters)
        return [(self._identity(collection, record), flat) for record in records]

    @staticmethod
    def _refuse_unknown(call: Call, collection: Collection) -> None:
        """Raise 262179 for a parameter that the method does not have; a change must not be dropped in silence."""
        known = collection.known(call.method)
        for name in call.query:
            if name not in known and not call.flag("ignore_unknown_fields"):
                raise ApiError("262179", name=name, target=name)

    def _listed(self, call: Call, route: Route, element: dict[str, Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
        collection = route.collection
        flat = flatten(element)
        keys = tuple(str(flat.pop(key, "")) for key in collection.keys)
        record = collection.find(call, route.parents, keys)
        return self._identity(collection, record), flat if call.method == "PATCH" else {}

    @staticmethod
    def _identity(collection: Collection, record: Any) -> tuple[str, ...]:
        parents = [part[1:-1] for part in collection.template if part.startswith("{")]
        return tuple(str(collection.value(record, name)) for name in (*parents, *collection.keys))

    def _plan(
        self, call: Call, collection: Collection, identity: tuple[str, ...], flat: Mapping[str, Any]
    ) -> Work | None:
        names = [part[1:-1] for part in collection.template if part.startswith("{")]
        parents = dict(zip(names, identity, strict=False))
        record = collection.find(call, parents, identity[len(names) :])
        if call.svm is not None and collection.shared and collection.value(record, collection.svm_field) is None:
            raise ApiError("6")  # the cluster's own, which an SVM's administrator can only read
        if call.method == "DELETE":
            collection.read_body(call, {})
            return collection.remove(call, record)
        data = collection.write_data(call, record)
        if data is not None:
            return data
        return collection.modify(call, record, collection.read_body(call, flat))

    # jobs -------------------------------------------------------------------------------------------------------------

    def _submit(self, call: Call, collection: Collection, work: Later) -> Job:
        seconds = self._core.costs[f"ontap.{work.operation}"] if work.seconds is None else work.seconds
        return self._jobs.submit(
            work.operation,
            work.arguments,
            description=f"{call.method} /api{call.path}",
            seconds=seconds,
            node=work.node,
            svm=work.svm,
            locks=work.locks,
            doomed=call.doom() or work.doomed,
        )

    async def _accepted(
        self, call: Call, collection: Collection, jobs: list[Job], *, location: str, single: bool = True
    ) -> Reply:
        until = self._core.now + call.return_timeout * SECOND
        if call.return_timeout:
            jobs = [await self._jobs.wait(job.uuid, until) for job in jobs]
        done, running = MULTI_STATUS[call.method]
        body: dict[str, Any] = {}
        if len(jobs) == 1 and single:
            body["job"] = job_link(jobs[0].uuid)
            failure = jobs[0].failure
            if failure is not None:
                error = {"message": failure.message, "code": failure.code}
                if failure.target:
                    error["target"] = failure.target
                return Reply(ERRORS.get(failure.code, (500, ""))[0], {"error": error, **body})
        else:
            body["num_records"] = len(jobs)
            body["jobs"] = [job_link(job.uuid) for job in jobs]
        finished = all(job.end_time is not None for job in jobs)
        if finished and call.method == "POST" and call.flag("return_records"):
            wanted = collection.wanted(dataclasses.replace(call, general={"fields": "*"}), instance=True)
            uuids = {job.result for job in jobs}
            records = [r for r in collection.records(call) if getattr(r, "uuid", None) in uuids]
            body["records"] = [collection.show(record, wanted, hal=call.hal) for record in records]
            body["num_records"] = len(records)
        headers = {"Location": location} if location else {}
        return Reply(done if finished else running, body, headers)


def job_link(uuid: str) -> dict[str, Any]:
    """How an answer names a job; clients of every kind follow the link, so it is there without HAL too."""
    return {"uuid": uuid, "_links": {"self": {"href": f"/api/cluster/jobs/{uuid}"}}}
