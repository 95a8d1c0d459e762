"""Messages that wait for their receiver, cut into PSRP fragments when they are fetched."""

from __future__ import annotations

import struct
from collections import deque

from labenv.clock import Clock, Signal

FRAGMENT_HEADER = 21
ELEMENT = 72
"""What the Stream element around a fragment costs, as bytes before base64."""


class Outbox:
    """Messages for one receiver (the pool or a pipeline), cut into fragments when they are taken."""

    def __init__(self, clock: Clock) -> None:
        self.changed: Signal = clock.signal()
        self._messages: deque[tuple[int, bytes]] = deque()
        self._offset = 0
        self._fragment = 0

    def __bool__(self) -> bool:
        return bool(self._messages)

    def put(self, object_id: int, message: bytes) -> None:
        """Queue a message and wake whoever waits for one."""
        self._messages.append((object_id, message))
        self.changed.set()

    def take(self, room: int) -> list[bytes]:
        """Fragments for up to about ``room`` bytes of base64 text, at least one if there is anything."""
        taken: list[bytes] = []
        room = room * 3 // 4
        while self._messages and (not taken or room > 2 * FRAGMENT_HEADER):
            object_id, message = self._messages[0]
            data = message[self._offset : self._offset + max(room - FRAGMENT_HEADER, 1)]
            self._offset += len(data)
            end = self._offset >= len(message)
            flags = (1 if self._fragment == 0 else 0) | (2 if end else 0)
            taken.append(struct.pack(">QQBI", object_id, self._fragment, flags, len(data)) + data)
            self._fragment += 1
            room -= len(data) + FRAGMENT_HEADER + ELEMENT
            if end:
                self._messages.popleft()
                self._offset = self._fragment = 0
        if not self._messages:
            self.changed.clear()
        return taken
