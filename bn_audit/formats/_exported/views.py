"""Which ATen operators give a view of their operand, and how a changed view is put back into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bn_audit.subject.graph import AttributeValue, InputRef, Node

_RESHAPING = frozenset(
    (
        *("view", "view_as", "unflatten", "squeeze", "unsqueeze", "alias", "detach", "lift_fresh", "_reshape_alias"),
        *("positive", "resolve_conj", "resolve_neg"),
    )
)
"""Views that hold all elements of their operand in the same order."""

_REORDERING = frozenset(("transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT", "matrix_H", "mH", "adjoint"))
"""Views that undo themselves."""

_PARTIAL = frozenset(("select", "slice", "narrow", "diagonal", "unbind", "split", "split_with_sizes", "chunk"))
_OTHER = frozenset(
    (
        *("permute", "movedim", "moveaxis", "expand", "expand_as", "unfold", "as_strided", "tensor_split", "hsplit"),
        *("vsplit", "dsplit", "view_as_real", "view_as_complex", "real", "imag", "broadcast_to", "unsafe_chunk"),
    )
)
_IF_CONTIGUOUS = frozenset(("reshape", "flatten", "contiguous", "ravel", "reshape_as"))
_IF_SAME_TYPE = frozenset(("to", "type_as"))
_IF_OFF = frozenset(("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"))
_LIKE_A_VIEW = _RESHAPING | _IF_CONTIGUOUS | _IF_SAME_TYPE | _IF_OFF

_SCATTERS = {"select": "select_scatter", "slice": "slice_scatter", "diagonal": "diagonal_scatter"}


def short_name(op: str) -> str:
    """Return the name of an ATen operator without namespace and overload; ``""`` for any other operator."""
    namespace, _, rest = op.partition(".")
    return rest.partition(".")[0] if namespace == "aten" else ""


def is_view(node: Node, dtype: Callable[[str], object], is_contiguous: Callable[[str], bool | None]) -> bool | None:
    """Return whether the outputs of a node share their elements with its first operand; None where it may be."""
    name = short_name(node.op)
    if name in _RESHAPING or name in _REORDERING or name in _PARTIAL or name in _OTHER:
        return True
    if name in _IF_CONTIGUOUS:
        contiguous = is_contiguous(node.inputs[0]) if node.inputs else None
        return True if contiguous else None if name != "contiguous" or contiguous is None else False
    if name in _IF_SAME_TYPE:
        if node.attributes.get("copy") is True or not node.inputs or not node.outputs:
            return False
        before, after = dtype(node.inputs[0]), dtype(node.outputs[0])
        return None if before is None or after is None else before == after
    if name in _IF_OFF:
        live = node.attributes.get("train")
        return live is False or node.attributes.get("p") == 0
    return False


def written_back(view: Node, index: int) -> Node | None:
    """Return the node that computes a viewed tensor from itself and from the changed view; None where none does.

    Its inputs are the tensor, the changed view and what else the view takes; the caller fills them in.

    Args:
        index: Which output of the node `view` changed.
    """
    name = short_name(view.op)
    rest = {key: _shifted(value) for key, value in view.attributes.items() if key not in ("self", "input")}
    pair: dict[str, AttributeValue] = {"self": InputRef(0), "src": InputRef(1)}
    if name in _SCATTERS:
        return replace(view, op=f"aten.{_SCATTERS[name]}.default", attributes=pair | rest)
    if name in _LIKE_A_VIEW:
        attributes: dict[str, AttributeValue] = {"self": InputRef(1), "other": InputRef(0)}
        return replace(view, op="aten.view_as.default", attributes=attributes)
    if name in _REORDERING:
        return replace(view, attributes={"self": InputRef(1)} | rest)
    if name == "permute":
        return _permuted_back(view)
    if name == "unbind":
        attributes = pair | {"dim": view.attributes.get("dim", 0), "index": index}
        return replace(view, op="aten.select_scatter.default", attributes=attributes)
    bounds = _bounds(name, view.attributes, index)
    if bounds is None:
        return None
    attributes = pair | {"dim": view.attributes.get("dim", 0), "start": bounds[0], "end": bounds[1]}
    return replace(view, op="aten.slice_scatter.default", attributes=attributes)


def _shifted(value: AttributeValue) -> AttributeValue:
    """Return an argument of the view for a node with one more operand in front."""
    if isinstance(value, InputRef):
        return InputRef(value.index + 1)
    return tuple(map(_shifted, value)) if isinstance(value, tuple) else value


def _permuted_back(view: Node) -> Node | None:
    dims = view.attributes.get("dims")
    if not isinstance(dims, tuple):
        return None
    order = [dim % len(dims) for dim in dims if isinstance(dim, int)]
    if sorted(order) != list(range(len(dims))):
        return None
    back = tuple(order.index(axis) for axis in range(len(order)))
    return replace(view, attributes={"self": InputRef(1), "dims": back})


def _bounds(name: str, attributes: Mapping[str, AttributeValue], index: int) -> tuple[int, int] | None:
    """Return where one part of a split lies, or what a narrow takes; None where that is not constant."""
    if name == "narrow":
        start, length = attributes.get("start"), attributes.get("length")
        return (start, start + length) if isinstance(start, int) and isinstance(length, int) and start >= 0 else None
    sizes = attributes.get("split_sizes", attributes.get("split_size"))
    if isinstance(sizes, int):
        return index * sizes, (index + 1) * sizes
    if isinstance(sizes, tuple) and index < len(sizes):
        numbers = [size for size in sizes if isinstance(size, int)]
        if len(numbers) == len(sizes):
            return sum(numbers[:index]), sum(numbers[: index + 1])
    return None
