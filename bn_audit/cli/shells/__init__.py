"""Completion scripts, one file per shell: a description of the commands becomes text."""
