"""The command ``smhvlab``."""
