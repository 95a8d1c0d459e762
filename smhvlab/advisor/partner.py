"""One look at a site and at the one that it is coupled with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from smhvlab.advisor.gather import gather
from smhvlab.errors import ConnectionFailed, OntapError

if TYPE_CHECKING:
    from smhvlab.advisor.site_facts import Facts
    from smhvlab.site import Site


def gather_pair(site: Site) -> Facts:
    """Look at the site, and at its partner if it has one; nothing is changed on either.

    A partner that does not answer is told in ``Facts.apart``: a site must be looked at while the other one is dead.

    Raises:
        ConnectionFailed: no host of the site itself answers, or its array does not. OntapError, Cancelled.
    """
    other = site.partner
    mine = replace(gather(site, networks=other is not None), name=site.name)
    if other is None:
        return mine
    try:
        theirs = replace(gather(other, networks=True), name=other.name)
        relations = [
            *((m.source, m.destination) for m in theirs.array.mirrors if m.source_cluster == mine.array.name),
            *((m.destination, m.source) for m in mine.array.mirrors if m.source_cluster == theirs.array.name),
        ]
        theirs = replace(theirs, refused=_refused(other, {there for _, there in relations}))
    except (ConnectionFailed, OntapError) as error:
        return replace(mine, apart=f"{other.name} does not answer: {error.message}")
    return replace(mine, partner=theirs, refused=_refused(site, {here for here, _ in relations}))


def _refused(site: Site, ends: set[str]) -> tuple[str, ...]:
    """The logins of the cluster and of the SVMs of mirrors' ends, as far as they are missing or refused."""
    from smhvlab.dr.sites import check_credentials

    return tuple(check_credentials(site, {end.partition(":")[0] for end in ends})) if ends else ()
