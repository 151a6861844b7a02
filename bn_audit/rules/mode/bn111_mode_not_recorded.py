"""The artifact cannot say in which mode its batch-norm layers will run.

What it checks: batch norms for which the file holds tensors but no mode, as in a state dict or a safetensors file.
Why it matters: the same weights give the right answer in evaluation mode and a batch-dependent one in training mode.
    Which one it will be is decided by the code that loads the file, and no file of this kind can prove it.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.save(model.state_dict(), "weights.pt")  # BN111: the flag is not part of a state dict
Remedy: audit what is deployed (the saved module, TorchScript, torch.export or ONNX file), or the code that builds the
    model: bn-audit check package.module:factory --weights weights.pt.
Limits: a note, not a fault: state dicts are the usual way to store weights. Layers that cannot depend on the batch in
    any mode are not counted.
Sources: torch.nn.Module.state_dict, which holds parameters and persistent buffers only.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import batch_norm_counts, by_model
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.norm import Mode
from bn_audit.subject.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one note for each model with batch norms of unknown mode."""
    totals = batch_norm_counts(subject)
    unknown = (norm for norm in subject.batch_norms if norm.mode is Mode.UNKNOWN and norm.uses_batch_statistics is None)
    for route, norms in by_model(unknown).items():
        total = totals[route]
        yield RULE.finding(
            f"the mode of {len(norms)} of {total} batch-norm layer{'' if total == 1 else 's'}"
            f"{f' in {route!r}' if route else ''} is not recorded: the code that loads them decides it",
            locations=tuple(norm.location for norm in norms),
            evidence={"unknown": len(norms), "batch_norms": total},
        )


RULE = Rule(
    code="BN111",
    name="mode-not-recorded",
    summary="this artifact cannot say in which mode batch norm will run",
    severity=Severity.NOTE,
    check=check,
    remedy="Audit the saved module, TorchScript, torch.export or ONNX file that is deployed, or the code that builds "
    "the model: bn-audit check package.module:factory --weights FILE.",
)
