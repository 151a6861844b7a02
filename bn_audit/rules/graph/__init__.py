"""Modes that an export baked into a graph."""
