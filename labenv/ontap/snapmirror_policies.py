"""SnapMirror policies: those that every cluster comes with, what they send and what they keep."""

from __future__ import annotations

from collections.abc import Sequence

from labenv.ontap.core import Core
from labenv.ontap.records import Snapshot
from labenv.ontap.snapmirror_records import MirrorPolicy, Rule

CREATED = "sm_created"
"""Label of the Snapshot copies that SnapMirror takes itself."""

ALL = "all_source_snapshots"
"""Label of the rule that stands for every Snapshot copy of the source."""

_MIRROR = Rule(CREATED, 1)
_KEPT = (Rule("daily", 7), Rule("weekly", 52))

BUILTIN: Sequence[tuple[str, str, bool, bool, tuple[Rule, ...]]] = (
    ("Asynchronous", "The active file system, daily and weekly copies", True, False, (_MIRROR, *_KEPT)),
    ("MirrorAllSnapshots", "All Snapshot copies and the active file system", True, True, (_MIRROR, Rule(ALL, 1))),
    ("MirrorLatest", "The active file system", True, False, (_MIRROR,)),
    ("MirrorAndVault", "The active file system, daily and weekly copies", True, False, (_MIRROR, *_KEPT)),
    ("XDPDefault", "Daily and weekly copies", False, False, _KEPT),
)
"""Name, comment, whether a copy is taken at the source, whether all are sent, rules."""


def install_policies(core: Core) -> None:
    """Create the built-in policies that the state does not hold yet."""
    held = {policy.name for policy in core.replication.policies.values()}
    for name, comment, create, copy_all, rules in BUILTIN:
        if name not in held:
            uuid = core.new_uuid("mirror-policy", name)
            core.replication.policies[uuid] = MirrorPolicy(
                uuid, name, comment=comment, create_snapshot=create, copy_all=copy_all, rules=rules, builtin=True
            )


def find_policy(
    core: Core, name: str | None, uuid: str | None = None, *, svm: str | None = None
) -> MirrorPolicy | None:
    """A policy by name or uuid; of several of a name the SVM's own wins."""
    found = [
        policy
        for policy in core.replication.policies.values()
        if uuid in (None, "", policy.uuid) and name in (None, "", policy.name) and policy.svm in (None, svm)
    ]
    return max(found, key=lambda policy: policy.svm is not None, default=None)


def label_of(snapshot: Snapshot) -> str:
    """What a Snapshot copy counts as."""
    return CREATED if snapshot.name.startswith("snapmirror.") else snapshot.snapmirror_label


def chosen(policy: MirrorPolicy, copies: Sequence[Snapshot], *, baseline: bool) -> list[Snapshot]:
    """Which of a source's Snapshot copies a transfer sends, besides the one taken for it; oldest first.

    Args:
        copies: those that are newer than what both ends have.
        baseline: it is the first transfer.
    """
    if policy.copy_all:
        return list(copies)
    labels = {rule.label for rule in policy.rules} - {CREATED, ALL}
    labelled = [s for s in copies if s.snapmirror_label in labels]
    if not baseline:
        return labelled
    if policy.create_snapshot:
        return []
    newest = labelled or list(copies)
    return newest[-1:]


def surplus(policy: MirrorPolicy, here: Sequence[Snapshot], source: Sequence[Snapshot]) -> list[Snapshot]:
    """Snapshot copies of the destination that the policy does not keep; ``here`` oldest first."""
    if policy.copy_all:
        there = {s.version_uuid for s in source}
        return [s for s in here if s.version_uuid not in there]
    gone: list[Snapshot] = []
    for rule in policy.rules:
        matching = [s for s in here if label_of(s) == rule.label]
        gone.extend(matching[: max(0, len(matching) - rule.count)])
    return gone
