"""Sizes of what convolutions and pools make of an image.

Source: onnx/docs/Operators.md of ONNX 1.23, Conv and MaxPool.
"""

from __future__ import annotations

from collections.abc import Sequence

from bn_audit.formats._onnx.arguments import attribute_integers
from bn_audit.formats._onnx.calls import Call
from bn_audit.subject.graph import Dim


def window_sizes(call: Call, image: Sequence[Dim], kernel: Sequence[Dim]) -> tuple[Dim, ...]:
    """Return the spatial sizes of the output; None for those that are not known."""
    rank = len(image)
    strides = attribute_integers(call, "strides") or (1,) * rank
    dilations = attribute_integers(call, "dilations") or (1,) * rank
    pads = attribute_integers(call, "pads") or (0,) * (2 * rank)
    padding = call.node.attributes.get("auto_pad", "NOTSET")
    if not len(kernel) == len(strides) == len(dilations) == rank or len(pads) != 2 * rank:
        return (None,) * rank
    found: list[Dim] = []
    for axis, (size, width, stride, dilation) in enumerate(zip(image, kernel, strides, dilations, strict=True)):
        if not isinstance(size, int) or not isinstance(width, int) or stride < 1:
            found.append(None)
        elif padding in ("SAME_UPPER", "SAME_LOWER"):
            found.append(-(-size // stride))
        else:
            padded = size + (0 if padding == "VALID" else pads[axis] + pads[rank + axis])
            steps = padded - dilation * (width - 1) - 1
            # The last window of a pool that rounds up may begin in the padding and is then left out: not followed.
            known = steps >= 0 and not call.node.attributes.get("ceil_mode")
            found.append(steps // stride + 1 if known else None)
    return tuple(found)
