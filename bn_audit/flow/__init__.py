"""Walks over the operators of a graph."""
