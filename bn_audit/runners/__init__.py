"""Backends: one file each, with RUNNER."""
