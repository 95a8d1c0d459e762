"""PowerShell's parameter binding: arguments to parameters of one parameter set, or the error that Windows gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labenv.windows.call import PsError
from labenv.windows.objects import PsObject
from labenv.windows.remoting.convert import CannotConvert, NotAccepted, ScriptRefused, convert
from labenv.windows.remoting.signatures import ALL_SETS, Parameter, Signature

BINDING = "System.Management.Automation.ParameterBindingException"
VALIDATION = "System.Management.Automation.ParameterBindingValidationException"
TRANSFORMATION = "System.Management.Automation.ParameterBindingArgumentTransformationException"

_PREFERENCES = {
    "silentlycontinue": "SilentlyContinue",
    "stop": "Stop",
    "continue": "Continue",
    "inquire": "Inquire",
    "ignore": "Ignore",
    "suspend": "Suspend",
    "0": "SilentlyContinue",
    "1": "Stop",
    "2": "Continue",
    "3": "Inquire",
    "4": "Ignore",
}
_COMMON = {
    "verbose": "Verbose",
    "vb": "Verbose",
    "debug": "Debug",
    "db": "Debug",
    "erroraction": "ErrorAction",
    "ea": "ErrorAction",
    "warningaction": "WarningAction",
    "wa": "WarningAction",
    "informationaction": "InformationAction",
    "infa": "InformationAction",
    "errorvariable": "ErrorVariable",
    "ev": "ErrorVariable",
    "warningvariable": "WarningVariable",
    "wv": "WarningVariable",
    "informationvariable": "InformationVariable",
    "iv": "InformationVariable",
    "outvariable": "OutVariable",
    "ov": "OutVariable",
    "outbuffer": "OutBuffer",
    "ob": "OutBuffer",
    "pipelinevariable": "PipelineVariable",
    "pv": "PipelineVariable",
}
_ASKING = {"whatif": "WhatIf", "wi": "WhatIf", "confirm": "Confirm", "cf": "Confirm"}


@dataclass(frozen=True)
class Common:
    """The common parameters of a call."""

    error_action: str = "Continue"
    warning_action: str = "Continue"
    verbose: bool = False
    what_if: bool = False
    confirm: bool | None = None


@dataclass(frozen=True)
class Bound:
    """A call whose arguments fit: canonical names, converted values, the parameter set ('' if there is only one)."""

    parameters: Mapping[str, Any]
    parameter_set: str
    common: Common = field(default_factory=Common)


def bind(
    signature: Signature,
    arguments: Sequence[tuple[str | None, object]],
    *,
    piped: PsObject | None = None,
    attended: bool = False,
) -> Bound:
    """Bind arguments, and the object that comes through the pipeline if there is one; raises PsError.

    ``attended``: somebody says yes to whatever is asked (never so over the wire, where a question is an error).
    """
    return _Binding(signature).run(arguments, piped, attended)


class _Binding:
    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._sets = list(signature.sets)
        self._bound: dict[str, Any] = {}
        self._given: set[str] = set()
        self._common: dict[str, Any] = {}

    def run(self, arguments: Sequence[tuple[str | None, object]], piped: PsObject | None, attended: bool) -> Bound:
        for name, value in arguments:
            if name is not None:
                self._named(name.lstrip("-").rstrip(":"), value)
        for name, value in arguments:
            if name is None:
                self._positional(value)
        if piped is not None:
            self._piped(piped)
        chosen = self._choose()
        force = bool(self._bound.get("Force"))
        confirm = self._common.get("Confirm")
        if not attended and (confirm or (confirm is None and self._signature.prompts and not force)):
            raise self._error(
                "A command that prompts the user failed because the host program or the command type does not support "
                "user interaction.",
                "HostFunctionNotImplemented",
                category="NotImplemented",
                exception="System.Management.Automation.Host.HostException",
            )
        return Bound(
            parameters=self._bound,
            parameter_set="" if chosen == ALL_SETS else chosen,
            common=Common(
                error_action=self._common.get("ErrorAction", "Continue"),
                warning_action=self._common.get("WarningAction", "Continue"),
                verbose=bool(self._common.get("Verbose", False)),
                what_if=bool(self._common.get("WhatIf", False)),
                confirm=confirm,
            ),
        )

    def _error(
        self, message: str, error_id: str, *, category: str = "InvalidArgument", exception: str = BINDING
    ) -> PsError:
        return PsError(
            message, error_id=error_id, category=category, exception=exception, suffix=self._signature.suffix
        )

    def _named(self, name: str, value: object) -> None:
        parameter = self._signature.find(name)
        if parameter is None:
            self._common_parameter(name, value)
            return
        if parameter.name in self._given:
            raise self._error(
                f"Cannot bind parameter because parameter '{parameter.name}' is specified more than once. To provide "
                f"multiple values to parameters that can accept multiple values, use the array syntax.",
                "ParameterAlreadyBound",
            )
        self._set(parameter, value)

    def _refuse_ambiguous(self, name: str) -> None:
        """An abbreviation of several parameters; one of a single parameter is just not accepted here."""
        known = [p for p in self._signature.parameters if p.lower().startswith(name.lower())]
        if name and len(known) > 1:
            possible = " ".join(f"-{each}" for each in known)
            raise self._error(
                f"Parameter cannot be processed because the parameter name '{name}' is ambiguous. Possible matches "
                f"include: {possible}.",
                "AmbiguousParameter",
            )

    def _common_parameter(self, name: str, value: object) -> None:
        common = _COMMON.get(name.lower())
        if common is None and self._signature.asks:
            common = _ASKING.get(name.lower())
        if common is None:
            self._refuse_ambiguous(name)
            raise self._error(
                f"A parameter cannot be found that matches parameter name '{name}'.", "NamedParameterNotFound"
            )
        if common in self._common:
            raise self._error(
                f"Cannot bind parameter because parameter '{common}' is specified more than once.",
                "ParameterAlreadyBound",
            )
        if common.endswith("Action"):
            preference = _PREFERENCES.get(str(value).lower())
            if preference is None or preference in ("Inquire", "Suspend"):
                raise self._error(
                    f"Cannot bind parameter '{common}'. Cannot convert value \"{value}\" to type "
                    f'"System.Management.Automation.ActionPreference".',
                    "CannotConvertArgumentNoMessage",
                )
            self._common[common] = preference
        elif common in ("Verbose", "Debug", "WhatIf", "Confirm"):
            if value is not None and not isinstance(value, (bool, int)):
                raise self._error(
                    f"Cannot convert 'System.String' to the type 'System.Management.Automation.SwitchParameter' "
                    f"required by parameter '{common}'.",
                    "CannotConvertArgument",
                )
            self._common[common] = True if value is None else bool(value)
        else:
            self._common[common] = value

    def _set(self, parameter: Parameter, value: object) -> None:
        converted = self._convert(parameter, value)
        self._given.add(parameter.name)
        remaining = [s for s in self._sets if s in parameter.roles]
        if not remaining:
            raise self._ambiguous()
        self._sets = remaining
        if converted is None or (parameter.is_switch and not converted):
            return  # a switch that is off, or null for a parameter that takes it, is as good as absent
        self._bound[parameter.name] = converted

    def _ambiguous(self) -> PsError:
        return self._error(
            "Parameter set cannot be resolved using the specified named parameters.", "AmbiguousParameterSet"
        )

    def _convert(self, parameter: Parameter, value: object) -> object:
        try:
            converted = convert(value, parameter)
        except ScriptRefused:
            raise PsError(
                f"Script text is not allowed here: parameter '{parameter.name}' takes none in this session.",
                error_id="ScriptsNotAllowed",
                category="ParserError",
                exception="System.Management.Automation.ParseException",
            ) from None
        except NotAccepted as error:
            listed = ",".join(parameter.values)
            raise self._error(
                f"Cannot validate argument on parameter '{parameter.name}'. The argument \"{error}\" does not belong "
                f'to the set "{listed}" specified by the ValidateSet attribute.',
                "ParameterArgumentValidationError",
                category="InvalidData",
                exception=VALIDATION,
            ) from None
        except CannotConvert as error:
            if self._signature.function:
                raise self._error(
                    f"Cannot process argument transformation on parameter '{parameter.name}'. {error}",
                    "ParameterArgumentTransformationError",
                    category="InvalidData",
                    exception=TRANSFORMATION,
                ) from None
            raise self._error(f"Cannot bind parameter '{parameter.name}'. {error}", error.error_id) from None
        if not parameter.empty_allowed and any(parameter.roles[s].mandatory for s in parameter.roles):
            self._refuse_empty(parameter, value, converted)
        return converted

    def _refuse_empty(self, parameter: Parameter, value: object, converted: object) -> None:
        def refusal(what: str, error_id: str) -> PsError:
            return self._error(
                f"Cannot bind argument to parameter '{parameter.name}' because it is {what}.",
                f"ParameterArgumentValidationError{error_id}NotAllowed",
                category="InvalidData",
                exception=VALIDATION,
            )

        if value is None and not parameter.is_switch:
            raise refusal("null", "Null")
        if converted == "":
            raise refusal("an empty string", "EmptyString")
        if isinstance(converted, list):
            if not converted:
                raise refusal("an empty array", "EmptyArray")
            if any(item == "" for item in converted):
                raise refusal("an empty string", "EmptyString")

    def _positional(self, value: object) -> None:
        for name in self._ordered_sets():
            places = sorted(
                (role.position, p.name)
                for p in self._signature.parameters.values()
                if p.name not in self._given and (role := p.roles.get(name)) and role.position is not None
            )
            if not places:
                continue
            parameter = self._signature.parameters[places[0][1]]
            try:
                convert(value, parameter)
            except (CannotConvert, NotAccepted):
                if name != self._ordered_sets()[-1]:
                    continue
            self._set(parameter, value)
            return
        raise self._error(
            f"A positional parameter cannot be found that accepts argument '{value}'.", "PositionalParameterNotFound"
        )

    def _ordered_sets(self) -> list[str]:
        default = self._signature.default
        return sorted(self._sets, key=lambda s: s != default)

    def _piped(self, piped: PsObject) -> None:
        for parameter in self._signature.parameters.values():
            if parameter.pipeline is None or parameter.name in self._given:
                continue
            if not any(s in parameter.roles for s in self._sets):
                continue
            try:
                converted = convert(piped, parameter)
            except CannotConvert:
                continue
            self._given.add(parameter.name)
            self._bound[parameter.name] = converted
            self._sets = [s for s in self._sets if s in parameter.roles]
            return
        raise PsError(
            "The input object cannot be bound to any parameters for the command either because the command does not "
            "take pipeline input or the input and its properties do not match any of the parameters that take "
            "pipeline input.",
            error_id="InputObjectNotBound",
            category="InvalidArgument",
            target=piped,
            exception=BINDING,
            suffix=self._signature.suffix,
        )

    def _missing(self, name: str) -> list[str]:
        return [
            p.name
            for p in self._signature.parameters.values()
            if p.name not in self._given and (role := p.roles.get(name)) and role.mandatory
        ]

    def _choose(self) -> str:
        complete = [s for s in self._sets if not self._missing(s)]
        default = self._signature.default
        if len(complete) == 1:
            return complete[0]
        if complete:
            if default in complete:
                return str(default)
            raise self._ambiguous()
        if len(self._sets) == 1 or default in self._sets:
            names = " ".join(self._missing(self._sets[0] if len(self._sets) == 1 else str(default)))
            raise self._error(
                f"Cannot process command because of one or more missing mandatory parameters: {names}.",
                "MissingMandatoryParameter",
            )
        raise self._ambiguous()
