"""Passwords: a type that does not show itself, and where they come from. Never a file in clear."""

from __future__ import annotations

import getpass
import hmac
import os
import re
from collections.abc import Callable, Mapping
from typing import Protocol

from smhvlab.errors import SecretMissing

HIDDEN = "***"
"""What stands where a secret was."""

SERVICE = "smhvlab"
"""Under which name the keyring keeps the passwords; the entry is ``<profile>/<endpoint>``."""

Prompt = Callable[[str], str]


class Secret:
    """A password that no repr, str, format, log, traceback or pickle shows; ``reveal()`` gives it to a wire."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The password itself. Only wires call this."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __bool__(self) -> bool:
        return bool(self._text)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Secret:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("A Secret is not written anywhere: keep passwords in the keyring or the environment")


class Endpoint(Protocol):
    """What `Secrets` needs to know of an endpoint."""

    @property
    def key(self) -> str:
        """Under which the password is kept."""

    @property
    def user(self) -> str:
        """Whose password it is."""


class Owner(Protocol):
    """What `Secrets` needs to know of a profile."""

    @property
    def name(self) -> str:
        """The profile's name, part of the variable's and the keyring entry's."""

    @property
    def secrets(self) -> Mapping[str, Secret]:
        """Passwords by endpoint key, when whoever made the profile has them."""


class Secrets:
    """Finds the password of an endpoint: given, in the environment, in the keyring, or asked for; in that order.

    Args:
        profile: whose endpoints are asked for; its own ``secrets`` come first.
        environment: variables to look in, ``os.environ`` by default.
        keyring: whether to ask the machine's keyring.
        prompt: asks the user, given the question; None to never ask. `getpass.getpass` works in a notebook too.
    """

    def __init__(
        self,
        profile: Owner,
        *,
        environment: Mapping[str, str] | None = None,
        keyring: bool = True,
        prompt: Prompt | None = getpass.getpass,
    ) -> None:
        self._profile = profile.name
        self._environment = os.environ if environment is None else environment
        self._keyring = keyring
        self._prompt = prompt
        self._known = dict(profile.secrets)

    def of(self, endpoint: Endpoint) -> Secret:
        """The endpoint's password. A typed one is remembered for this object's life. Raises `SecretMissing`."""
        key = endpoint.key
        if key in self._known:
            return self._known[key]
        variable = variable_name(self._profile, key)
        if variable in self._environment:
            return Secret(self._environment[variable])
        if self._keyring:
            kept = _from_keyring(self._profile, key)
            if kept is not None:
                return kept
        if self._prompt is not None:
            try:
                typed = self._prompt(f"Password of {endpoint.user} on {key}: ")
            except (EOFError, OSError, NotImplementedError):
                # Nobody is there to answer: a script without a terminal, a kernel that allows no input.
                typed = ""
            if typed:
                self._known[key] = Secret(typed)
                return self._known[key]
        raise SecretMissing(
            f"No password for {endpoint.user} on {key} of the profile {self._profile}",
            next_action=f"Set {variable}, or keep it in the keyring with smhvlab.secrets.remember.",
        )


def variable_name(profile: str, key: str) -> str:
    """The environment variable of an endpoint's password, e.g. ``SMHVLAB_SITE_A_CLUSTER1_SVM1_PASSWORD``."""
    return "_".join(["SMHVLAB", *(re.sub(r"[^A-Za-z0-9]+", "_", part).upper() for part in (profile, key)), "PASSWORD"])


def remember(profile: str, key: str, secret: Secret) -> None:
    """Keep a password in the machine's keyring. Raises `SecretMissing` if the machine has none."""
    import keyring
    import keyring.errors

    try:
        keyring.set_password(SERVICE, f"{profile}/{key}", secret.reveal())
    except keyring.errors.KeyringError as problem:
        raise SecretMissing(
            "This machine has no usable keyring",
            why=str(problem),
            next_action=f"Set {variable_name(profile, key)} instead.",
        ) from problem


def _from_keyring(profile: str, key: str) -> Secret | None:
    # Imported here: most sessions get their passwords elsewhere, and looking for backends takes a while.
    import keyring
    import keyring.errors

    try:
        text = keyring.get_password(SERVICE, f"{profile}/{key}")
    except (keyring.errors.KeyringError, RuntimeError):
        return None
    return Secret(text) if text is not None else None
