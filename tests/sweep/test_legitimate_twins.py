"""Networks that look like a mistake and are none: a sweep of each says nothing at all against it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.ao import quantization
from torch.nn import functional

import bn_audit
from bn_audit.reporters._verdict import PASS, verdict
from bn_audit.subject.finding import Severity

SAMPLES = 16


def images() -> Tensor:
    return torch.randn(SAMPLES, 3, 8, 8)


def rows() -> Tensor:
    return torch.randn(SAMPLES, 8)


def network(norm: nn.Module, convolution: type[nn.Conv2d] = nn.Conv2d) -> nn.Module:
    return nn.Sequential(convolution(3, 6, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(216, 4))


def trained(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return the network with statistics that it learned, in evaluation mode."""
    with torch.no_grad():
        for _ in range(3):
            model(images() * 2 + 1)
    return model.eval().to(dtype)


class Calls(nn.Module):
    """Calls a function between two layers, with itself as first argument."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 4)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self, self.first(x)))


class WritesTheSame(nn.Module):
    """Writes into a buffer at each call what is there already."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)
        self.register_buffer("table", torch.arange(8.0))

    def forward(self, x: Tensor) -> Tensor:
        self.table.copy_(torch.arange(8.0))
        return self.layer(x + self.table)


class StandardisedWeights(nn.Conv2d):
    """Normalises its weights, which no companion changes, with the operator of batch norm."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = functional.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6)
        return self._conv_forward(x, weight.reshape_as(self.weight), self.bias)


class InstancesAsChannels(nn.Module):
    """InstanceNorm as one batch norm over one sample of many channels."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x.reshape(1, -1, *x.shape[2:]), None, None, training=True).view_as(x)


class FunctionalNorm(nn.Module):
    """Batch norm with statistics under names of its own, and the mode of its module."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.randn(6))
        self.register_buffer("spread", torch.rand(6) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, self.average, self.spread, training=self.training)


class FrozenInPlace(nn.Module):
    """A frozen batch norm inside a module that has other layers too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)
        for name, value in (("weight", torch.ones(6)), ("bias", torch.zeros(6))):
            self.register_buffer(name, value)
        self.register_buffer("running_mean", torch.randn(6))
        self.register_buffer("running_var", torch.rand(6) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.batch_norm(self.first(x), self.running_mean, self.running_var, self.weight, self.bias, False)
        return self.last(x.relu().mean((2, 3)))


class ZeroGammaBranch(nn.Module):
    """A residual branch as it is initialised: it adds nothing, and would mix nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
        nn.init.zeros_(self.branch[1].weight)
        self.last = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last((x + self.branch(x)).relu().mean((2, 3)))


class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = trained(network(nn.BatchNorm2d(6)))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.inner(x)


class Tokens(nn.Module):
    """Attention and an average that leave out what the mask says is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        pad = attention_mask == 0
        kept = (~pad)[..., None].float()
        return (self.layer(self.table(input_ids), src_key_padding_mask=pad) * kept).sum(1) / kept.sum(1)


class Numbers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 3 + 1


def padded_tokens() -> dict[str, Tensor]:
    lengths = torch.arange(SAMPLES) % 5 + 3
    mask = (torch.arange(7) < lengths[:, None]).long()
    return {"input_ids": torch.randint(1, 20, (SAMPLES, 7)), "attention_mask": mask}


def own_generator(_: nn.Module, x: Tensor) -> Tensor:
    return x + torch.randn(x.shape[1], generator=torch.Generator().manual_seed(3))


def spectral(normalise: Callable[[nn.Module], nn.Module]) -> nn.Module:
    model = network(nn.BatchNorm2d(6))
    model[0] = normalise(model[0])
    return trained(model)


def statically_quantised() -> nn.Module:
    """Return a network whose activation ranges were found by calibration: one range, but no companion's."""
    layers = (quantization.QuantStub(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4), quantization.DeQuantStub())
    model = nn.Sequential(*layers).eval()
    model.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    quantization.prepare(model, inplace=True)
    model(rows())
    return quantization.convert(model)


TWINS: dict[str, tuple[Callable[[], nn.Module], Callable[[], object]]] = {
    "spectral norm by hooks": (lambda: spectral(nn.utils.spectral_norm), images),
    "spectral norm": (lambda: spectral(nn.utils.parametrizations.spectral_norm), images),
    "a buffer that stays the same": (WritesTheSame, rows),
    "standardised weights": (lambda: trained(network(nn.BatchNorm2d(6), StandardisedWeights)), images),
    "instance norm by reshaping": (lambda: network(InstancesAsChannels()), images),
    "functional norm with its own statistics": (lambda: network(FunctionalNorm()), images),
    "frozen norm in place": (FrozenInPlace, images),
    "zero gamma": (lambda: trained(ZeroGammaBranch()), images),
    "its own generator": (lambda: Calls(own_generator), rows),
    "functional dropout with a switch": (lambda: Calls(lambda own, x: functional.dropout(x, 0.3, own.training)), rows),
    "dropout of nothing": (lambda: Calls(lambda _, x: functional.dropout(x, 0.0, True)), rows),
    "stochastic depth of nothing": (lambda: Calls(lambda _, x: x * x.new_empty(len(x), 1).bernoulli_(1.0)), rows),
    "static quantisation": (statically_quantised, rows),
    "masked padding": (Tokens, padded_tokens),
    "integers": (Numbers, lambda: torch.randint(0, 9, (SAMPLES, 5))),
    "an axis of one that is no batch": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.Unflatten(1, (1, 4))),
        lambda: torch.randn(SAMPLES, 1, 8),
    ),
    "group norm": (lambda: network(nn.GroupNorm(2, 6)), images),
    "layer norm": (lambda: network(nn.LayerNorm((6, 6, 6))), images),
    "bfloat16": (lambda: trained(network(nn.BatchNorm2d(6)), torch.bfloat16), images),
    "autocast": (Autocast, images),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_of_a_mistake_is_not_accused(name: str) -> None:
    build, given = TWINS[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = bn_audit.sweep(build().eval(), inputs=given(), batch_sizes=(1, 2, 4), threads=1)
    assert report.failed == ()
    assert [finding.message for finding in report.findings] == []
    assert report.observation is not None
    assert report.observation.verdict == "independent"


def test_the_same_functional_norm_in_training_mode_is_no_registered_layer() -> None:
    torch.manual_seed(0)
    report = bn_audit.sweep(network(FunctionalNorm().train()), inputs=images(), batch_sizes=(1, 2, 4), threads=1)
    assert {"BN106", "BN401"} <= {finding.code for finding in report.findings}


@pytest.mark.parametrize("function", [lambda _, x: x @ x.T @ x, lambda _, x: functional.normalize(x) @ x.T])
def test_similarities_within_a_batch_are_said_to_depend_on_it(function: Callable[[nn.Module, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = Calls(function).eval()
    model.last = nn.Identity()
    report = bn_audit.sweep(model, inputs=rows(), batch_sizes=(1, 2, 4), threads=1)
    assert (report.failed, {finding.code for finding in report.findings}) == ((), {"BN401"})


class Packed(nn.Module):
    """Sorts its samples by length, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.cell = nn.Embedding(20, 8), nn.GRU(8, 8, batch_first=True)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(self.table(tokens), lengths, batch_first=True, enforce_sorted=False)
        return self.cell(packed)[1][-1]


class Experts(nn.Module):
    """Gives each sample to the expert that it asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(8, 3), nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        chosen, answer = self.gate(x).argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            answer = answer.index_copy(0, (rows := (chosen == number).nonzero()[:, 0]), expert(x[rows]))
        return answer


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (Packed, lambda: {"tokens": torch.randint(1, 20, (SAMPLES, 7)), "lengths": torch.arange(SAMPLES) % 5 + 3}),
        (Experts, rows),
    ],
)
def test_samples_that_are_sorted_or_routed_are_a_note_at_most(
    model: type[nn.Module], given: Callable[[], object]
) -> None:
    torch.manual_seed(0)
    report = bn_audit.sweep(model().eval(), inputs=given(), batch_sizes=(1, 2, 4), threads=1)
    assert report.failed == ()
    assert {finding.severity for finding in report.findings} <= {Severity.NOTE}
    assert report.observation is not None
    assert report.observation.verdict == "independent"


class WithLoss(nn.Module):
    """Gives a figure about the whole batch beside its answers."""

    def __init__(self, loss: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.layer, self.loss = nn.Linear(8, 4), loss

    def forward(self, x: Tensor) -> tuple[Tensor, object]:
        answer = self.layer(x)
        return answer, self.loss(answer)


@pytest.mark.parametrize(
    ("loss", "severities"), [(lambda y: y.pow(2).mean(), [Severity.NOTE]), (lambda _: torch.ones(()), [])]
)
def test_an_output_for_the_whole_batch_is_not_judged(
    loss: Callable[[Tensor], object], severities: list[Severity]
) -> None:
    torch.manual_seed(0)
    report = bn_audit.sweep(WithLoss(loss).eval(), inputs=rows(), batch_sizes=(1, 2, 4), threads=1)
    assert [(finding.code, finding.severity) for finding in report.findings] == [("BN410", item) for item in severities]
    said = verdict(report, Severity.ERROR)
    assert said.word == PASS
    assert "1 of 2 outputs not judged" in said.details


class Table(nn.Module):
    """Positions that the first call makes and keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)
        self.register_buffer("positions", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.positions is None:
            self.positions = torch.arange(x.shape[1], dtype=x.dtype)
        return self.head(x + self.positions)


def test_a_table_made_by_the_first_call_is_no_change_of_state() -> None:
    report = bn_audit.sweep(Table().eval(), inputs="x=float32:6")
    assert report.observation is not None
    assert (report.observation.verdict, report.observation.buffers_changed) == ("independent", ())
    assert "BN505" not in {finding.code for finding in report.findings}
