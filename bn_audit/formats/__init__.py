"""Formats: one file per artifact format, each with FORMAT. Files that start with an underscore serve one format."""
