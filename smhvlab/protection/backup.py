"""A backup as a policy wants it: scripts before, the backup, then mirrors, retention, scripts after (TR 5.2, 6.3, 6.5).

What comes after the backup never takes the backup back: it is told as a warning.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from smhvlab.backup.crash import BackupDone, CrashConsistentBackup, CrashState
from smhvlab.backup.production import CheckpointBackup, CheckpointState
from smhvlab.backup.shadowcopy import ApplicationConsistentBackup, SetsState
from smhvlab.dr.replication import Replication, update_after_backup
from smhvlab.errors import Cancelled, NotAllowed, NotFound, SmhvLabError
from smhvlab.flow import CHOSEN
from smhvlab.procedure import Procedure
from smhvlab.protection.policy import Phase, Policy
from smhvlab.protection.retention import RetentionDone, retain, rules_of
from smhvlab.protection.scripts import ScriptRun, run_scripts, uses, variables
from smhvlab.protection.store import PolicyStore
from smhvlab.snapinfo import Backup
from smhvlab.steps import step

if TYPE_CHECKING:
    from smhvlab.site import Site

S = TypeVar("S")


@dataclass(frozen=True)
class PolicyBackupDone:
    """A backup under a policy, with what came before and after it.

    Attributes:
        backup: the backup's own account.
        retention: what was deleted, None if the policy keeps everything or retention failed.
        mirrors: a sentence for each relationship that was updated.
        warnings: what went wrong although the backup is good.
        unverified: whether the policy wants it verified; ``site.verify`` does that, a scheduler by itself.
    """

    backup: BackupDone
    policy: str
    retention: RetentionDone | None = None
    mirrors: tuple[str, ...] = ()
    scripts: tuple[ScriptRun, ...] = ()
    warnings: tuple[str, ...] = ()
    unverified: bool = False

    def _lines(self) -> list[str]:
        lines = [f"Script {run}" for run in self.scripts]
        lines += [f"Mirror {text}" for text in self.mirrors]
        lines += str(self.retention).splitlines() if self.retention is not None else []
        lines += [f"Warning: {text}" for text in self.warnings]
        return lines + [f'To be verified: site.verify("{self.backup.backup.name}")'] * self.unverified

    def __str__(self) -> str:
        return "\n".join([str(self.backup), f"Policy {self.policy}", *(f"  {line}" for line in self._lines())])

    def _repr_html_(self) -> str:
        rows = "".join(f"<li>{escape(line.strip())}</li>" for line in self._lines())
        return f"{self.backup._repr_html_()}<p>Policy {escape(self.policy)}</p><ul>{rows}</ul>"


@dataclass(frozen=True)
class Told:
    """What came before and after a backup, so far; a later process goes on with it.

    Attributes:
        scripts, mirrors, warnings, retention: as in ``PolicyBackupDone``.
    """

    scripts: tuple[ScriptRun, ...] = ()
    mirrors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    retention: RetentionDone | None = None

    def warned(self, *warnings: str) -> Told:
        """The same with more warnings."""
        return replace(self, warnings=self.warnings + warnings)


@dataclass(frozen=True, kw_only=True)
class _PolicyState:
    """What the state of a backup under a policy has besides that of the backup.

    Attributes:
        told: what came before and after it.
    """

    told: Told = field(default_factory=Told, metadata=CHOSEN)


@dataclass(frozen=True, kw_only=True)
class PolicyCrashState(_PolicyState, CrashState):
    """What a crash-consistent backup under a policy touches and creates."""


@dataclass(frozen=True, kw_only=True)
class PolicySetsState(_PolicyState, SetsState):
    """What a backup through VSS under a policy touches and creates."""


@dataclass(frozen=True, kw_only=True)
class PolicyCheckpointState(_PolicyState, CheckpointState):
    """What a backup through production checkpoints under a policy touches and creates."""


class _UnderPolicy(Procedure[S]):
    """What the parts of a policy's backup share."""

    def __init__(self, site: object, *, dataset: str, policy: str) -> None:
        Procedure.__init__(self, site, dataset=dataset, policy=policy)
        self.dataset = dataset
        self.policy = policy
        self.given: Policy | None = None
        self._found: Policy | None = None

    @property
    def rules(self) -> Policy:
        """The policy that was given (by who has just read it), or as it is when it is first asked for.

        Raises NotFound, NotAllowed.
        """
        if self._found is None:
            found = self.given or PolicyStore(self.snapinfo).policy(self.policy)
            if found.dataset.casefold() != self.dataset.casefold():
                raise NotAllowed(
                    f"The policy {found.name} is of the dataset {found.dataset}",
                    next_action=f"Back up {found.dataset}, or use another policy.",
                    tr="5.2",
                )
            self._found = found
        return self._found

    def _member_hosts(self) -> list[str]:
        """Hosts of the dataset's VMs."""
        ids = {member.id for member in self.snapinfo.dataset(self.dataset).members}
        return sorted({vm.host for vm in self.site.tools().nodes.vms() if vm.id in ids})


class Before(_UnderPolicy[S]):
    """What a policy does before the backup."""

    @step("Scripts before the backup", tr="6.5")
    def scripts_before(self, s: Any) -> Any:
        if not any(script.phase is Phase.BEFORE for script in self.rules.script):
            return None
        ran = run_scripts(self.site.tools().nodes, self.rules.script, Phase.BEFORE, self._member_hosts(), None)
        if ran and ran[-1].error:
            raise NotAllowed(
                f"The script {ran[-1].command} on {ran[-1].host} failed, so there is no backup",
                why=ran[-1].error,
                next_action="Mend the script of the policy, or what it needs on the host.",
                tr="6.5",
            )
        return replace(s, told=replace(s.told, scripts=(*s.told.scripts, *ran)))


class After(_UnderPolicy[S]):
    """What a policy does after the backup."""

    def __init__(self, site: object, *, dataset: str, policy: str) -> None:
        _UnderPolicy.__init__(self, site, dataset=dataset, policy=policy)  # the backup between the two takes no policy

    @abstractmethod
    def _record(self, s: S) -> Backup:
        """What was backed up."""

    def _tried(self, s: Any, what: str, work: Callable[[Told], Told]) -> Any:
        """The state after something that must not take a good backup back."""
        told: Told = s.told
        try:
            told = work(told)
        except Cancelled:
            raise
        except SmhvLabError as error:
            told = told.warned(f"{what}: {error.message}" + (f" ({error.why})" if error.why else ""))
        return replace(s, told=told)

    @step("Update the mirrors", tr="6.2/7", pivot=True)
    def mirror(self, s: Any) -> Any:
        return self._tried(s, "mirrors", partial(self._update, s)) if self.rules.options.replicate else None

    def _update(self, s: Any, told: Told) -> Told:
        places = [lambda: Replication(self.storage)]
        if (partner := self.site.partner) is not None:
            places.append(lambda: Replication(partner.tools().storage))
        lines = update_after_backup(places, [*s.volumes, s.snapinfo_volume])
        updated = tuple(text for text in lines if not text.startswith("not updated"))
        problems = [f"mirrors: {text}" for text in lines if text not in updated]
        if not lines:
            problems.append(f"mirrors: {self._nowhere(s)}")
        return replace(told, mirrors=told.mirrors + updated).warned(*problems)

    def _nowhere(self, s: Any) -> str:
        """Why there was no mirror to update."""
        names = {(v.svm, v.name) for v in (*s.volumes, s.snapinfo_volume)}
        out = [m for m in Replication(self.storage).outgoing() if (m.source.svm, m.source.volume) in names]
        if not out or self.site.partner is not None:
            return "no relationship begins at the backup's volumes"
        ends = ", ".join(str(mirror.destination) for mirror in out)
        return f"they are managed where they end ({ends}), and that site was not named (--partner, or couple both)"

    @step("Retention", tr="6.3", pivot=True)
    def retention(self, s: Any) -> Any:
        def work(told: Told) -> Told:
            tag = self.rules.tag.value
            rules = {tag: rules_of([self.rules], s.dataset)[tag]}
            now = datetime.fromisoformat(s.time)
            done = retain(self.site.tools(), s.dataset, rules, now=now, volume=s.snapinfo_volume)
            return replace(told, retention=done).warned(*(f"{name} is still there: {why}" for name, why in done.held))

        return self._tried(s, "retention", work)

    @step("Scripts after the backup", tr="6.5", pivot=True)
    def scripts_after(self, s: Any) -> Any:
        if not any(script.phase is Phase.AFTER for script in self.rules.script):
            return None
        backup = self._record(s)
        nodes = self.site.tools().nodes
        values = variables(backup=backup.name, clustered=nodes.cluster is not None)
        if not values["SnapInfoSnapshot"] and uses(self.rules.script, "SnapInfoSnapshot"):
            s = replace(s, told=s.told.warned("scripts: $SnapInfoSnapshot is empty, it is for dedicated VMs only"))

        def work(told: Told) -> Told:
            ran = run_scripts(nodes, self.rules.script, Phase.AFTER, self._member_hosts(), values)
            problems = [f"scripts: {ran[-1]}"] if ran and ran[-1].error else []
            return replace(told, scripts=(*told.scripts, *ran)).warned(*problems)

        return self._tried(s, "scripts", work)

    def _account(self, backup: BackupDone, told: Told) -> PolicyBackupDone:
        return PolicyBackupDone(
            backup,
            self.policy,
            told.retention,
            told.mirrors,
            told.scripts,
            told.warnings,
            self.rules.options.verify,
        )


class _Registers(After[S]):
    """A backup's own steps with the policy's name and tag in its record.

    Attributes:
        under: the state of such a backup.
    """

    under: ClassVar[type[_PolicyState]]

    def survey(self) -> Any:
        """As the backup's; also reads the policy. Raises NotFound, NotAllowed."""
        self._found = None
        self._apply(self.rules)
        state: Any = super().survey()  # type: ignore[safe-super]  # the backup comes next among the bases
        return self.under(**{each.name: getattr(state, each.name) for each in fields(state)})

    def _apply(self, rules: Policy) -> None:
        """Take over what the policy says of the backup itself."""

    def _record(self, s: Any) -> Backup:
        record: Backup = s.record
        return replace(record, policy=self.policy, tag=self.rules.tag.value)

    def result(self, state: Any) -> Any:
        """The backup's account with what came before and after."""
        done: Any = super().result(state)
        try:
            record = self._record(state)
        except NotFound:
            record = state.record
        return self._account(replace(done, backup=record), state.told)


class PolicyCrashBackup(_Registers[PolicyCrashState], CrashConsistentBackup, Before[PolicyCrashState]):
    """Back up a dataset under a policy, crash-consistent."""

    under = PolicyCrashState
    tr = "5.2, 6.3, 10"

    @step("Register the backup in SnapInfo", tr="6.2/4", items=lambda s: (f"{s.name}.json",))
    def register(self, s: CrashState) -> None:
        self.snapinfo.ensure_backup(self._record(s))

    @register.undo
    def unregister(self, s: CrashState) -> None:
        self.snapinfo.discard_backup(s.dataset, s.name, run=s.run)


class PolicySetsBackup(_Registers[PolicySetsState], ApplicationConsistentBackup, Before[PolicySetsState]):
    """Back up a dataset under a policy, application-consistent, through VSS."""

    under = PolicySetsState
    tr = "5.2, 6.3, 9, 12"

    def _apply(self, rules: Policy) -> None:
        self.distributed = rules.options.distributed
        self.allow_saved_state = rules.options.allow_saved_state

    @step("Register the backup in SnapInfo", tr="6.2/7", items=lambda s: (f"{s.name}.json",))
    def register(self, s: SetsState) -> None:
        self.snapinfo.ensure_backup(self._record(s))

    @register.undo
    def unregister(self, s: SetsState) -> None:
        self.snapinfo.discard_backup(s.dataset, s.name, run=s.run)


class PolicyCheckpointBackup(_Registers[PolicyCheckpointState], CheckpointBackup, Before[PolicyCheckpointState]):
    """Back up a dataset under a policy, application-consistent, through production checkpoints."""

    under = PolicyCheckpointState
    tr = "5.2, 6.2, 6.3"

    def _apply(self, rules: Policy) -> None:
        self.allow_saved_state = rules.options.allow_saved_state

    @step("Register the backup in SnapInfo", tr="6.2/7", items=lambda s: (f"{s.name}.json",))
    def register(self, s: CheckpointState) -> None:
        self.snapinfo.ensure_backup(self._record(s))

    @register.undo
    def unregister(self, s: CheckpointState) -> None:
        self.snapinfo.discard_backup(s.dataset, s.name, run=s.run)


def policy_backup(site: Site, policy: Policy) -> _UnderPolicy[Any]:
    """The backup that a policy asks for: a flow; nothing has happened yet. Raises NotAllowed: it is not offered."""
    consistency: Any = policy.consistency
    flow = site.backup(policy.dataset, consistency=consistency, policy=policy.name)
    assert isinstance(flow, _UnderPolicy)
    flow.given = policy
    return flow
