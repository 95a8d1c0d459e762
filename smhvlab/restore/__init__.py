"""Restore of VMs from backups (TR 6.7)."""
