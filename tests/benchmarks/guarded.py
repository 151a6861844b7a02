"""What a guard adds to a forward pass at batch size 1, printed as JSON; run as a script.

The parts are timed, not the guarded pass: the difference between two passes of a hundred milliseconds drowns in the
noise of other programs. Seconds of the processor, the least of many turns.

The network has the layers of a ResNet-50 and, without its pooling, takes half its image: the same work behind the stem.
"""

import json
import sys
import time
from collections.abc import Callable

import torch
from networks import trained
from torch import nn

import bn_audit

RESNET_50 = (3, 4, 6, 3)


def seconds(call: Callable[[], object], times: int = 1) -> float:
    """Return the least time of several calls in a row; the first of them finds the caches cold."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return min(taken)


def main(rounds: int) -> None:
    model = trained(RESNET_50).eval()
    sample = torch.randn(1, 3, 112, 112)
    norms = [
        (norm, torch.randn(1, norm.num_features, 1, 1)) for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)
    ]

    def block() -> None:
        with bn_audit.guard(model):
            pass

    def calls() -> None:
        for norm, pixel in norms:
            norm(pixel)

    least = dict.fromkeys(("pass", "block", "calls", "watched"), float("inf"))
    with torch.inference_mode():
        for turn in range(rounds + 2):
            taken = {"pass": seconds(lambda: model(sample)), "block": seconds(block), "calls": seconds(calls, 4)}
            with bn_audit.guard(model):
                taken["watched"] = seconds(calls, 4)
            if turn > 1:
                least = {name: min(least[name], value) for name, value in taken.items()}
    print(json.dumps({"pass": least["pass"], "block": least["block"], "watching": least["watched"] - least["calls"]}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
