"""Matching the tensors and layers of two artifacts, and the equations of a fold."""
