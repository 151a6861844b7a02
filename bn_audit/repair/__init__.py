"""Repairs: what can be set right in a model file without guessing, and how the repaired file is written."""
