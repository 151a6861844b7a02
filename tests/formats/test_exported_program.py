"""Every layer of an exported program is what torch says about the module it was exported from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from exported_networks import (
    BATCH,
    CALLS,
    FORMS,
    MODES,
    NETWORKS,
    FoldedGroups,
    Residual,
    StatisticsFromBatch,
    data,
    export,
    exported,
    network,
    norm_modules,
    quietly,
    read,
    save,
)
from torch import nn

from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormKind
from bn_audit.subject.subject import Facts, Form

CASES = [
    (name, mode, form)
    for name in NETWORKS
    for mode in MODES
    for form in FORMS
    if not (mode == "mixed" and len(norm_modules(network(name, "eval"))) < 2)
    # torch cannot export the cumulative average: its factor is a value of the counter.
    and not (name == "series" and mode == "train")
]


def has_statistics(module: nn.Module) -> bool:
    return module.running_mean is not None


def qualified(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


@pytest.mark.parametrize(("name", "mode", "form"), CASES)
def test_layers_are_the_modules_of_torch(name: str, mode: str, form: str, tmp_path: Path) -> None:
    model = network(name, mode)
    subject = read(save(exported(name, mode, form), tmp_path / "program.pt2"))
    modules = norm_modules(model)
    assert [norm.path for norm in subject.norms] == list(modules)
    for norm in subject.norms:
        module = modules[norm.path]
        assert norm.type_name == qualified(module)
        assert norm.mode_origin is ModeOrigin.EXPORTED_ARGUMENT
        assert norm.eps == getattr(module, "eps", 2e-3)
        assert norm.momentum == getattr(module, "momentum", 0.3)
        assert norm.num_features == getattr(module, "num_features", 3)
        assert norm.affine is (module.weight is not None)
        is_instance = isinstance(module, nn.modules.instancenorm._InstanceNorm)
        assert norm.kind is (NormKind.INSTANCE_NORM if is_instance else NormKind.BATCH_NORM)
        if has_statistics(module):
            assert norm.mode is (Mode.TRAIN if module.training else Mode.EVAL)
        assert norm.requires_grad is (None if module.weight is None else True)
        assert norm.confidence is Confidence.HIGH
        held = {role: getattr(module, role, None) for role in ("weight", "bias", "running_mean", "running_var")}
        held["num_batches_tracked"] = getattr(module, "num_batches_tracked", None)
        truth = {role: (tuple(value.shape), data(value)) for role, value in held.items() if value is not None}
        assert {role: (ref.shape, ref.load()) for role, ref in norm.tensors.items()} == truth


@pytest.mark.parametrize(
    ("name", "mode", "form"),
    [
        *(case for case in CASES if case[1] != "mixed"),
        *((name, mode, form) for name in CALLS for mode in ("train", "eval") for form in FORMS),
    ],
)
def test_batch_statistics_are_used_where_companions_change_the_answer(
    name: str, mode: str, form: str, tmp_path: Path
) -> None:
    program = exported(name, mode, form)
    subject = read(save(program, tmp_path / "program.pt2"))
    module = program.module()
    shape = (BATCH, *(NETWORKS | CALLS)[name][1])
    torch.manual_seed(7)
    one, other = torch.randn(shape), torch.rand(shape) ** 6 * 5
    other[0] = one[0]
    with torch.no_grad():
        difference = (module(one)[0] - module(other)[0]).abs().max().item()
    assert {norm.uses_batch_statistics for norm in subject.norms} <= {True, False}
    assert any(norm.uses_batch_statistics for norm in subject.norms) == (difference > 1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_calls_without_a_norm_module_say_what_they_normalise(form: str, tmp_path: Path) -> None:
    found = {
        name: read(save(exported(name, "eval", form), tmp_path / f"{name}.pt2")).norms
        for name in ("functional", "weight_standardised", "folded_groups")
    }
    assert {name: [(norm.path, norm.input_origin) for norm in norms] for name, norms in found.items()} == {
        "functional": [(found["functional"][0].node, InputOrigin.ACTIVATIONS)],
        "weight_standardised": [("0", InputOrigin.PARAMETERS)],
        "folded_groups": [("1", InputOrigin.INSTANCES)],
    }
    assert all(norms[0].type_name.startswith("aten.") for norms in found.values())
    assert all(not norm.has_running_statistics for norms in found.values() for norm in norms)


def test_layer_called_twice_is_one_layer(tmp_path: Path) -> None:
    for form in FORMS:
        (norm,) = read(save(exported("twice_called", "train", form), tmp_path / f"{form}.pt2")).norms
        assert (norm.path, norm.uses_batch_statistics) == ("norm", True)


def test_program_as_a_whole(tmp_path: Path) -> None:
    model = network("residual", "eval")
    subject = read(save(exported("residual", "eval", "dynamic"), tmp_path / "program.pt2"))
    (found,) = subject.models
    assert (found.route, found.form, found.mode, found.takes_gradients) == ("", Form.GRAPH, Mode.EVAL, True)
    assert found.type_name == qualified(model)
    truth = {path: qualified(module) for path, module in model.named_modules()}
    assert {node.path: node.type_name for node in found.modules}.items() <= truth.items()
    assert {"", "stem", "stem.0", "stem.1", "conv", "norm", "head"} == {node.path for node in found.modules}
    assert {node.training for node in found.modules} == {None}
    state = {name: (tuple(value.shape), data(value)) for name, value in model.state_dict().items()}
    assert {ref.name: (ref.shape, ref.load()) for ref in found.tensors} == state
    assert subject.facts == Facts.MODES | Facts.SETTINGS | Facts.VALUES | Facts.GRAPH | Facts.GRADIENTS
    assert [norm.preceding for norm in subject.norms] == ["stem.0", "conv"]
    modes = {mode: read(save(exported("residual", mode, "static"), tmp_path / mode)).models[0].mode for mode in MODES}
    assert modes == {"train": Mode.TRAIN, "eval": Mode.EVAL, "mixed": Mode.UNKNOWN}


def test_frozen_parameters_take_no_gradients(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    model[1].requires_grad_(False)
    subject = read(save(export(model, (3, 5, 5), "static"), tmp_path / "part.pt2"))
    assert (subject.norms[0].requires_grad, subject.models[0].takes_gradients) == (False, True)
    model.requires_grad_(False)
    subject = read(save(export(model, (3, 5, 5), "static"), tmp_path / "all.pt2"))
    assert (subject.norms[0].requires_grad, subject.models[0].takes_gradients) == (False, False)


def test_statistics_computed_in_the_graph_leave_the_question_open(tmp_path: Path) -> None:
    for form in FORMS:
        (norm,) = read(save(export(StatisticsFromBatch(), (3, 5, 5), form), tmp_path / form)).norms
        assert (norm.mode, norm.uses_batch_statistics) == (Mode.EVAL, None)


def test_batch_of_one_proves_no_instance_norm(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), FoldedGroups())
    program = quietly(lambda: torch.export.export(model, (torch.randn(1, 3, 5, 5),)))
    (norm,) = read(save(program, tmp_path / "one.pt2")).norms
    assert (norm.input_origin, norm.confidence) == (InputOrigin.UNDECIDED, Confidence.MEDIUM)
    assert norm.uses_batch_statistics is True


def test_sync_batch_norm_keeps_its_kind(tmp_path: Path) -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(Residual()).eval()
    for form in FORMS:
        norms = read(save(export(model, (3, 5, 5), form), tmp_path / form)).norms
        assert {(norm.kind, norm.mode) for norm in norms} == {(NormKind.SYNC_BATCH_NORM, Mode.EVAL)}


def test_program_exported_again_from_its_own_module(tmp_path: Path) -> None:
    first = exported("residual", "train", "dynamic")
    again = export(first.module(), (3, 5, 5), "dynamic")
    norms = [read(save(program, tmp_path / "program.pt2")).norms for program in (first, again)]
    assert [(norm.path, norm.type_name, norm.mode) for norm in norms[0]] == [
        (norm.path, norm.type_name, norm.mode) for norm in norms[1]
    ]


def test_wrapper_of_the_exporter_is_no_root_type(tmp_path: Path) -> None:
    traced = torch.fx.symbolic_trace(network("residual", "eval"))
    subject = read(save(export(traced, (3, 5, 5), "static"), tmp_path / "traced.pt2"))
    assert [norm.path for norm in subject.norms] == ["stem.1", "norm"]
    assert subject.models[0].type_name is None
