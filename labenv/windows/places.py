"""Folders that every host has."""

from __future__ import annotations

VIRTUAL_DISKS = "C:\\Users\\Public\\Documents\\Hyper-V\\Virtual Hard Disks"
"""Where new virtual disks go if nothing else is said."""
VIRTUAL_MACHINES = "C:\\ProgramData\\Microsoft\\Windows\\Hyper-V"
"""Where new virtual machines go if nothing else is said."""
