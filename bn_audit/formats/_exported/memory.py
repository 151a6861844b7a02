"""In which order the elements of a value lie in memory, as its metadata tells."""

from __future__ import annotations

from bn_audit.formats._exported.document import size_of


def is_contiguous(metadata: object) -> bool | None:
    """Return whether a value lies in memory in row-major order; None where its sizes are not numbers."""
    found = _sizes_and_strides(metadata)
    if found is None:
        return None
    return _is_dense(*found, list(range(len(found[0]))))


def memory_order(metadata: object) -> tuple[int, ...] | None:
    """Return the axes of a value from the slowest to the fastest; None where it does not fill its memory."""
    found = _sizes_and_strides(metadata)
    if found is None:
        return None
    sizes, strides = found
    numbers = [stride for stride in strides if isinstance(stride, int)]
    if len(numbers) != len(strides):
        return None
    order = sorted(range(len(sizes)), key=lambda axis: (-numbers[axis], axis))
    return tuple(order) if _is_dense(sizes, strides, order) else None


def _is_dense(sizes: list[int | str | None], strides: list[int | str | None], order: list[int]) -> bool | None:
    expected = 1
    for place in reversed(range(len(order))):
        size, stride = sizes[order[place]], strides[order[place]]
        if size != 1 and stride != expected:
            return False if isinstance(stride, int) else None
        if not isinstance(size, int):
            return True if place == 0 else None
        expected *= size
    return True


def _sizes_and_strides(metadata: object) -> tuple[list[int | str | None], list[int | str | None]] | None:
    inner = metadata.get("meta", metadata) if isinstance(metadata, dict) else None
    sizes, strides = (inner.get(key) for key in ("sizes", "strides")) if isinstance(inner, dict) else (None, None)
    if not isinstance(sizes, list) or not isinstance(strides, list) or len(sizes) != len(strides):
        return None
    return [size_of(size) for size in sizes], [size_of(stride) for stride in strides]
