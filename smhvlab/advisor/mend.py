"""Mending what the advisor found, where one setting does it and can be set back: a flow like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from smhvlab.advisor.rule import Action
from smhvlab.errors import NotAllowed, NotFound
from smhvlab.procedure import Procedure
from smhvlab.steps import step

if TYPE_CHECKING:
    from smhvlab.wires.powershell import PowerShellWire

_VSS: Final = "5CED1297-4598-4915-A5FC-AD21BB4D02A4"


@dataclass(frozen=True)
class MendState:
    """The changes that one run makes."""

    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Mended:
    """What was changed."""

    actions: tuple[Action, ...]

    def __str__(self) -> str:
        return "\n".join(str(action) for action in self.actions) or "Nothing had to be mended."

    def _repr_html_(self) -> str:
        from smhvlab.panels import html

        rows = [[html.text(a.kind), html.text(a.target), html.text(a.before), html.text(a.after)] for a in self.actions]
        return html.card("Mended", html.table(["What", "Of", "Before", "Now"], rows))


class MendFindings(Procedure[MendState]):
    """Mend what the advisor found.

    Args of the flow: ``rules``, ids of the rules whose findings are mended; none: all that can be.
    """

    tr = "13"

    def __init__(self, site: object, *, rules: Sequence[str] = ()) -> None:
        super().__init__(site, rules=list(rules))
        self.rules = tuple(rules)

    def survey(self) -> MendState:
        """Look at the whole site and choose the changes.

        Raises:
            NotFound: there is no rule of an id.
            NotAllowed: no finding of a rule that was named can be mended by one setting.
        """
        from smhvlab.advisor.catalogue import findings, rules
        from smhvlab.advisor.gather import gather

        known = {rule.id for rule in rules()}
        for name in self.rules:
            if name not in known:
                raise NotFound(f"There is no rule {name}", next_action="Look at site.rules().", tr="13")
        found = [f for f in findings(gather(self.site)) if not self.rules or f.rule.id in self.rules]
        actions = tuple(dict.fromkeys(f.action for f in found if f.action is not None))
        by_hand = {f.rule.id: f.fix for f in found if f.action is None}
        for name in self.rules:
            if name in by_hand and not any(f.rule.id == name and f.action for f in found):
                raise NotAllowed(f"{name} cannot be mended by one setting", next_action=by_hand[name], tr="13")
        return MendState(actions)

    @step(
        "Change the settings",
        tr="13",
        items=lambda s: s.actions,
        counts=lambda s: {"setting": len(s.actions)},
        when=lambda s: bool(s.actions),
        otherwise="nothing has to be mended",
    )
    def change(self, s: MendState) -> None:
        for action in self.track(s.actions):
            self._set(action, action.after)

    @change.undo
    def set_back(self, s: MendState) -> None:
        for action in self.track(reversed(s.actions)):
            self._set(action, action.before)

    def result(self, state: MendState) -> Mended:
        """What was changed."""
        return Mended(state.actions)

    # --- one setting; setting what is set already changes nothing

    def _set(self, action: Action, value: str) -> None:
        setters: dict[str, Any] = {
            "registry value": self._registry,
            "start mode": self._start_mode,
            "service": self._service,
            "integration service": self._integration,
            "redirected access": self._redirected,
            "LUN reservation": self._reservation,
            "deduplication": self._deduplication,
            "Snapshot policy": self._snapshot_policy,
        }
        setters[action.kind](action, value)

    def _on(self, host: str) -> PowerShellWire:
        return self.nodes[host].host

    def _registry(self, action: Action, value: str) -> None:
        key, _, name = action.target.rpartition("\\")
        change = {"LiteralPath": key, "Name": name, "Value": int(value) if value.isdecimal() else value}
        self._on(action.where).run("Set-ItemProperty", change)

    def _start_mode(self, action: Action, value: str) -> None:
        self._on(action.where).run("Set-Service", {"Name": action.target, "StartupType": value})

    def _service(self, action: Action, value: str) -> None:
        cmdlet = "Start-Service" if value == "Running" else "Stop-Service"
        self._on(action.where).run(cmdlet, {"Name": action.target})

    def _integration(self, action: Action, value: str) -> None:
        node = self.nodes.of_vm(action.where)
        if node is None:
            raise NotFound(f"The VM {action.target} is gone", next_action="Plan again.", tr="2.2")
        alike = [vm for vm in node.hyperv.vms() if vm.name.casefold() == action.target.casefold()]
        if len(alike) > 1 or any(letter in action.target for letter in "*?[]"):
            raise NotAllowed(
                f"{action.target} is not the name of one VM of {node.name}", next_action="Rename it first.", tr="2.2"
            )
        services = node.host.run("Get-VMIntegrationService", {"VMName": action.target}, select=("Id", "Name"))
        # its name is in the host's language; the end of its id is the same everywhere
        names = [str(record["Name"]) for record in services if str(record["Id"]).upper().endswith(_VSS)]
        cmdlet = "Enable-VMIntegrationService" if value == "on" else "Disable-VMIntegrationService"
        node.host.run(cmdlet, {"VMName": action.target, "Name": names})

    def _redirected(self, action: Action, value: str) -> None:
        if value == "on":
            self.host.run("Suspend-ClusterResource", {"Name": action.target, "RedirectedAccess": True})
        else:
            self.host.run("Resume-ClusterResource", {"Name": action.target})

    def _reservation(self, action: Action, value: str) -> None:
        from netapp_ontap.resources.lun import Lun

        lun = self.storage.lun(action.target, svm=action.where)
        change = {"space": {"guarantee": {"requested": value == "on"}}}
        self.storage.wire.wait([self.storage.wire.modify(Lun(uuid=lun.uuid), change)])

    def _deduplication(self, action: Action, value: str) -> None:
        self._volume(action, {"efficiency": {"dedupe": "background" if value == "on" else "none"}})

    def _snapshot_policy(self, action: Action, value: str) -> None:
        self._volume(action, {"snapshot_policy": {"name": value}})

    def _volume(self, action: Action, change: dict[str, object]) -> None:
        from netapp_ontap.resources.volume import Volume

        volume = self.storage.volume(action.target, svm=action.where)
        if volume is None:
            raise NotFound(f"The volume {action.target} is gone", next_action="Plan again.", tr="2.2")
        self.storage.wire.wait([self.storage.wire.modify(Volume(uuid=volume.uuid), change)])
