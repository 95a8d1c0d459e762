"""Provision, back up, restore and fail over Hyper-V virtual machines on clustered Data ONTAP (TR-4004).

Start with ``connect``; everything else hangs on the ``Site`` that it returns.
"""

from smhvlab.site import connect

__all__ = ["connect"]
