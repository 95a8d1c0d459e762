"""Backups mounted on a host: disks, folders, single files (TR 6.8)."""
