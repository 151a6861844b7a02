"""Reporters: one file per output, each with REPORTER."""
