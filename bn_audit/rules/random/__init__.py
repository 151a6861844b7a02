"""Randomness and other state beside batch norm."""
