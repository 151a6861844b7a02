"""ONNX files written byte by byte, for what no library would write."""

from __future__ import annotations


def varint(value: int) -> bytes:
    """Return a number as protocol buffers write it."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*parts, value))


def length_delimited(field: int, data: bytes) -> bytes:
    """Return a field of bytes."""
    return bytes((field << 3 | 2,)) + varint(len(data)) + data


def model(graph: bytes) -> bytes:
    """Return a model of operator set 20 around a graph."""
    return b"\x08\x0a\x42\x02\x10\x14" + length_delimited(7, graph)
