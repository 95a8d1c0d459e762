"""Provision, back up, restore and fail over Hyper-V virtual machines on clustered Data ONTAP (TR-4004)."""
