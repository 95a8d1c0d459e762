"""Identifiers that are the same in every run: hashes of the seed, the kind and the names above them."""

from __future__ import annotations

import hashlib
from uuid import UUID

from labenv.state import State


class Ids:
    """Derives every id from (seed, kind, names above it, how many of that name); never a draw from a generator.

    So an id depends on what it names, not on what else happened before it.
    """

    def __init__(self, seed: int, state: State) -> None:
        self.seed = seed
        self._counts = state.table("ids", int)

    def digest(self, kind: str, *names: str) -> bytes:
        """32 bytes for the next thing of this kind and these names."""
        key = "\x1f".join((kind, *names))
        count = self._counts.get(key, 0)
        self._counts[key] = count + 1
        return hashlib.sha256(f"{self.seed}\x1f{key}\x1f{count}".encode()).digest()

    def uuid(self, kind: str, *names: str) -> UUID:
        """A version-4-shaped UUID."""
        return UUID(bytes=self.digest(kind, *names)[:16], version=4)

    def lasting(self, kind: str, *names: str) -> UUID:
        """A UUID that is the same whenever it is asked for again (``uuid`` gives the next one)."""
        key = "\x1f".join((str(self.seed), kind, *names))
        return UUID(bytes=hashlib.sha256(key.encode()).digest()[:16], version=4)

    def text(self, kind: str, *names: str, length: int, alphabet: str) -> str:
        """A string of characters of an alphabet (serial numbers, host names)."""
        number = int.from_bytes(self.digest(kind, *names), "big")
        characters = []
        for _ in range(length):
            number, index = divmod(number, len(alphabet))
            characters.append(alphabet[index])
        return "".join(characters)
