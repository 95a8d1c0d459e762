"""A lab that acknowledges changes without keeping them; for the control of the kill tests.

Run as ``python -m tests.labenv.lab_without_commits`` with the options of ``labenv.process``.
"""

from __future__ import annotations

import sys

from labenv import process
from labenv.site import LabSite


class Forgetful(LabSite):
    """Its state is no longer written once the site is there."""

    async def open(self) -> None:
        """Open, then forget how to write."""
        await super().open()
        self.state._write = lambda: None  # type: ignore[method-assign]


if __name__ == "__main__":
    process.LabSite = Forgetful  # type: ignore[misc]
    sys.exit(process.main())
