"""Exported programs for the batch-flow tests, and the truth about them as torch measures it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bn_audit.audit import read_subject
from bn_audit.flow.proof import Proof, prove

Draw = Callable[[torch.Generator, int], Tensor]
"""Draws that many samples of one input."""

SCALES = (1.0, 1.0, 10.0, 0.1)
"""Companions of other scales trip rules that rank or cap."""
TOLERANCE = 1e-9
"""Relative difference that batch size and position may make by rounding in float64; content must not move a bit."""
BATCH = 4


def floats(*shape: int) -> Draw:
    """Return draws of normal numbers of one sample's shape."""
    return lambda generator, count: torch.randn(count, *shape, generator=generator, dtype=torch.float64)


def integers(high: int, *shape: int) -> Draw:
    """Return draws of integers below `high`."""
    return lambda generator, count: torch.randint(0, high, (count, *shape), generator=generator)


def drawn(draws: Sequence[Draw], seed: int, count: int = BATCH, scale: float = 1.0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    found = [draw(generator, count) for draw in draws]
    return tuple(x * scale if x.is_floating_point() else x for x in found)


def exported(
    module: nn.Module, draws: Sequence[Draw], *, dynamic: bool = True, decomposed: bool = False
) -> torch.export.ExportedProgram:
    """Return the module, in float64, as torch.export writes it, with or without an open batch axis in front."""
    shapes = tuple({0: torch.export.Dim("batch", min=2, max=64)} for _ in draws) if dynamic else None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(module.double(), drawn(draws, 0), dynamic_shapes=shapes)
        return program.run_decompositions() if decomposed else program


def proof_of(program: torch.export.ExportedProgram) -> Proof:
    """Return what the package proves about a program as it is saved."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.pt2"
        torch.export.save(program, path)
        with read_subject(path) as subject:
            return prove(subject.graphs[""])


class Runner:
    """Runs a program, each time from the same state and with the same random numbers."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.module = program.module()
        self.state = {name: value.clone() for name, value in self.module.state_dict().items()}

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        self.module.load_state_dict(self.state)
        torch.manual_seed(0)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = self.module(*(x.clone() for x in inputs))
        return [out.clone() for out in torch.utils._pytree.tree_leaves(outputs) if isinstance(out, Tensor)]


def measured(
    program: torch.export.ExportedProgram,
    draws: Sequence[Draw],
    *,
    dynamic: bool = True,
    random: bool = False,
    tolerance: float = TOLERANCE,
) -> list[str]:
    """Return the verdict on each output, found by running the program.

    Companions are replaced at one batch size and compared bit by bit; position is judged on a batch of copies, size on
    smaller batches of the same rows.

    Args:
        random: Rows draw their own numbers, so that position and size cannot be judged.
    """
    run = Runner(program)
    base = drawn(draws, 0)
    outputs = run(base)
    axes = [next((axis for axis, size in enumerate(out.shape) if size == BATCH), None) for out in outputs]
    verdicts = ["independent"] * len(outputs)
    for index in _moved(run, outputs, axes, base, draws):
        verdicts[index] = "mixes"
    if random:
        return verdicts
    copies = tuple(x[:1].expand_as(x).contiguous() for x in base)
    for index, out in enumerate(run(copies)):
        axis = axes[index]
        if verdicts[index] == "independent" and axis is not None:
            rows = out.movedim(axis, 0)
            if not all(close(rows[0], row, tolerance) for row in rows[1:]):
                verdicts[index] = "position"
    for size in (2, 3) if dynamic else ():
        for index, out in enumerate(run([x[:size] for x in base])):
            axis = axes[index]
            if verdicts[index] == "independent":
                whole = outputs[index] if axis is None else outputs[index].narrow(axis, 0, size)
                if out.shape != whole.shape or not close(out, whole, tolerance):
                    verdicts[index] = "size"
    return verdicts


def _moved(
    run: Runner, outputs: list[Tensor], axes: list[int | None], base: tuple[Tensor, ...], draws: Sequence[Draw]
) -> Iterator[int]:
    """Yield the outputs of which a row changes with its companions."""
    for probe in range(BATCH):
        for number, scale in enumerate(SCALES, 1):
            others = drawn(draws, 100 * number + probe, BATCH, scale)
            for x, y in zip(base, others, strict=True):
                y[probe] = x[probe]
            for index, out in enumerate(run(others)):
                axis, whole = axes[index], outputs[index]
                if out.shape != whole.shape:
                    yield index
                    continue
                mine, before = (out, whole) if axis is None else (out.select(axis, probe), whole.select(axis, probe))
                if not same(mine, before):
                    yield index


def same(left: Tensor, right: Tensor) -> bool:
    """Return whether all bits agree, NaN included."""
    if not left.is_floating_point():
        return torch.equal(left, right)
    return torch.equal(left.isnan(), right.isnan()) and torch.equal(left.nan_to_num(), right.nan_to_num())


def close(left: Tensor, right: Tensor, tolerance: float) -> bool:
    if not left.is_floating_point():
        return torch.equal(left, right)
    scale = float(left.abs().max()) if left.numel() else 0.0
    return torch.allclose(left, right, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
