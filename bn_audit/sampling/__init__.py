"""Inputs: what a model takes, and batches drawn for it."""
