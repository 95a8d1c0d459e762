"""Tests of the simulated array."""
