"""Bytes to plain values, ignorant of batch norm. Everything here treats its input as hostile."""
