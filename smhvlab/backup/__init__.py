"""Backups of datasets, of both kinds, and what proves them (TR 6.2, 9, 10, 12)."""
