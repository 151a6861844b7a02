"""Names that fit, beside what torch's own ``load_state_dict`` reports."""

from __future__ import annotations

import random
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from compared_networks import Network, trained
from torch import Tensor, nn

from bn_audit.alignment.keys import Side, Spec, align_keys
from bn_audit.alignment.naming import canonical, is_foreign, mapped, parse_mapping, prefixes_of
from bn_audit.audit import compare
from bn_audit.errors import UnrelatedError, UsageError
from bn_audit.subject.key_alignment import KeyAlignment


def side(*names: str, **shapes: tuple[int, ...]) -> Side:
    tensors = {name: Spec(shape=(4,)) for name in names} | {name: Spec(shape=shape) for name, shape in shapes.items()}
    return Side(name="file", tensors=tensors)


def keys(reference: Path, target: Path, **options: object) -> KeyAlignment:
    comparison = compare(reference, target, **options).comparison
    assert comparison is not None
    (alignment,) = comparison.keys
    return alignment


def saved(value: object, path: Path) -> Path:
    torch.save(value, path)
    return path


@pytest.mark.parametrize("seed", range(12))
def test_missing_and_unexpected_keys_are_those_of_load_state_dict(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    state = trained().state_dict()
    kept = OrderedDict((name, value) for name, value in state.items() if chance.random() > 0.2)
    for name in chance.sample(sorted(kept), 3):
        kept[f"other.{name}" if chance.random() < 0.5 else f"{name}_old"] = kept[name]
    kept._metadata = state._metadata  # without versions torch makes up the batch counters
    told = Network().load_state_dict(kept, strict=False)
    alignment = keys(saved(trained(), tmp_path / "model.pt"), saved(kept, tmp_path / "weights.pt"))
    assert (alignment.reference_prefix, alignment.target_prefix) == ("", "")
    assert list(alignment.missing) == told.missing_keys
    assert sorted(alignment.unexpected) == sorted(told.unexpected_keys)


class Shared(nn.Module):
    """One module under two names, one tensor under two names, and buffers that are not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.second = self.first
        self.tied = nn.Linear(3, 4)
        self.tied.weight = self.first[0].weight
        self.register_buffer("positions", torch.zeros(5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(x)


def test_aliases_and_buffers_that_are_not_saved_are_counted_as_torch_does(tmp_path: Path) -> None:
    model = Shared()
    told = Shared().load_state_dict(model.state_dict(), strict=False)
    alignment = keys(saved(model, tmp_path / "model.pt"), saved(model.state_dict(), tmp_path / "weights.pt"))
    assert list(alignment.missing) == told.missing_keys == []
    assert list(alignment.unexpected) == told.unexpected_keys == []


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "state.net.0."])
@pytest.mark.parametrize("wrapped", ["reference", "target", "both"])
def test_prefixes_are_stripped_and_reported(prefix: str, wrapped: str) -> None:
    names = ("conv.weight", "bn.weight", "bn.running_mean")
    with_prefix = tuple(prefix + name for name in names)
    other = tuple("other." + name for name in names)
    reference, target = {
        "reference": (with_prefix, names),
        "target": (names, with_prefix),
        "both": (with_prefix, other),
    }[wrapped]
    alignment = align_keys(side(*reference), side(*target))
    assert alignment.missing == alignment.unexpected == ()
    assert alignment.reference_prefix == (prefix if wrapped != "target" else "")
    assert alignment.target_prefix == {"reference": "", "target": prefix, "both": "other."}[wrapped]


def test_a_prefix_of_most_names_is_found_beside_others() -> None:
    names = [f"layer{index}.weight" for index in range(10)]
    target = [f"model.{name}" for name in names] + ["criterion.weight"]
    alignment = align_keys(side(*names), side(*target))
    assert (alignment.target_prefix, alignment.unexpected) == ("model.", ("criterion.weight",))
    assert len(alignment.matched) == 10


def test_names_that_fit_as_they_are_keep_their_common_prefix() -> None:
    names = ("model.conv.weight", "model.bn.weight")
    alignment = align_keys(side(*names), side(*names))
    assert (alignment.reference_prefix, alignment.target_prefix) == ("", "")
    assert prefixes_of(names)[:2] == ("", "model.")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bn.gamma", "bn.weight"),
        ("bn.moving_variance", "bn.running_var"),
        ("block/bn/moving_mean:0", "block.bn.running_mean"),
        ("res2_0_branch2a_bn_riv", "res2_0_branch2a_bn.running_var"),
        ("res2_0_branch2a_bn_s", "res2_0_branch2a_bn.weight"),
        ("bn.weight", "bn.weight"),
        ("gamma", "weight"),
        ("a/b.c", "a/b.c"),
    ],
)
def test_names_of_other_frameworks(name: str, expected: str) -> None:
    assert canonical(name) == expected
    assert is_foreign(name) == (name != expected)


def test_foreign_names_match_and_are_reported(tmp_path: Path) -> None:
    state = {"bn.weight": 1, "bn.bias": 0, "bn.running_mean": 0, "bn.running_var": 1}
    renamed = {"bn.gamma": 1, "bn.beta": 0, "bn.moving_mean": 0, "bn.moving_variance": 1}
    report = compare(
        saved({name: torch.full((4,), float(value)) for name, value in state.items()}, tmp_path / "one.pt"),
        saved({name: torch.full((4,), float(value)) for name, value in renamed.items()}, tmp_path / "two.pt"),
    )
    assert [finding.code for finding in report.findings] == ["BN701"]
    assert report.comparison is not None
    (alignment,) = report.comparison.keys
    assert alignment.foreign == tuple(renamed)
    assert all(match.renamed for match in alignment.matched)


def test_a_mapping_renames_the_reference(tmp_path: Path) -> None:
    state = trained().state_dict()
    renamed = {name.replace("stem.", "backbone.start_"): value for name, value in state.items()}
    reference, target = saved(state, tmp_path / "one.pt"), saved(renamed, tmp_path / "two.pt")
    assert keys(reference, target).missing != ()
    alignment = keys(reference, target, mapping=[r"^stem\.=backbone.start_"])
    assert alignment.missing == alignment.unexpected == ()
    comparison = compare(reference, target, mapping=[r"^stem\.=backbone.start_"]).comparison
    assert comparison is not None
    assert {pair.reference.path: pair.target.path for pair in comparison.pairs}["stem.1"] == "backbone.start_1"


@pytest.mark.parametrize("rule", ["stem", "(=x", "a=\\9", "=x"])
def test_a_mapping_that_is_none_is_refused(rule: str) -> None:
    with pytest.raises(UsageError, match="--map"):
        mapped("a", parse_mapping([rule]))


def test_two_names_for_one_thing_are_both_counted() -> None:
    alignment = align_keys(side("bn.weight"), side("bn.weight", "bn.gamma"))
    assert [match.target for match in alignment.matched] == ["bn.weight"]
    assert alignment.unexpected == ("bn.gamma",)


def test_shapes_and_dtypes_that_differ() -> None:
    expected = {name: Spec(shape=(4,), dtype="float32") for name in ("a", "b", "bn.running_var", "c")}
    stored = {
        "a": Spec(shape=(5,), dtype="float32"),
        "b": Spec(shape=(4,), dtype="float16"),
        "bn.running_var": Spec(shape=(4,), dtype="float16"),
        "c": Spec(shape=(4,), dtype="int8"),
    }
    alignment = align_keys(Side(name="r", tensors=expected), Side(name="t", tensors=stored))
    assert [(item.target, item.difference, item.is_shape) for item in alignment.mismatched] == [
        ("a", "shape [5], the reference has [4]", True),
        ("bn.running_var", "dtype float16, the reference has float32", False),
        ("c", "dtype int8, the reference has float32", False),
    ]
    assert [match.target for match in alignment.matched] == ["b", "bn.running_var", "c"]
    assert alignment.total == 4


def test_two_networks_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    one = saved({"a.weight": torch.zeros(3, 2)}, tmp_path / "one.pt")
    two = saved({"b.weight": torch.zeros(7, 5)}, tmp_path / "two.pt")
    with pytest.raises(UnrelatedError, match="in common"):
        compare(one, two)
