"""Measurements: one file each, with EXPERIMENT."""
