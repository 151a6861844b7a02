"""Partial freezing."""
