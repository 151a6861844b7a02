"""Every form beside every other one of the same network, and beside copies with one seeded difference."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from compared_networks import FOLDED, FORMS, SEEDS, STATE, WITHOUT_SETTINGS

from bn_audit.audit import compare
from bn_audit.subject.comparison import PairedBy
from bn_audit.subject.report import Report

PAIRS = list(itertools.product(FORMS, FORMS))
BATCH_NORMS = 5


@pytest.mark.parametrize(("reference", "target"), PAIRS)
def test_the_same_network_compares_clean(reference: str, target: str, original: Path) -> None:
    report = compare(original / reference, original / target)
    assert [finding.message for finding in report.findings] == []
    assert report.failed == ()
    assert {item.code for item in report.skipped} <= ({"BN208", "BN209"} if target in WITHOUT_SETTINGS else set())
    comparison = report.comparison
    assert comparison is not None
    assert comparison.added == ()
    assert all(pair.paired_by is not None for pair in comparison.pairs)
    assert all(pair.fold is None or pair.fold.holds for pair in comparison.pairs)
    if reference not in FOLDED or target not in FOLDED:
        assert len(comparison.pairs) == BATCH_NORMS


@pytest.mark.parametrize("target", FOLDED)
@pytest.mark.parametrize("reference", sorted(set(FORMS) - set(FOLDED)))
def test_a_fold_is_verified_with_the_true_eps(reference: str, target: str, original: Path) -> None:
    comparison = compare(original / reference, original / target).comparison
    assert comparison is not None
    folds = {pair.path: pair.fold for pair in comparison.pairs if pair.fold is not None}
    assert {"stem.1", "bn1"} <= folds.keys()
    assert folds["stem.1"].eps == pytest.approx(1e-3, rel=1e-6)
    assert folds["bn1"].eps == pytest.approx(1e-5, rel=1e-6)
    assert {fold.eps_inferred for fold in folds.values()} == {reference in WITHOUT_SETTINGS}
    assert max(fold.deviation for fold in folds.values()) < 1e-6


def can_be_seen(name: str, reference: str, target: str) -> bool:
    """Whether the two files hold what differs."""
    if name == "another eps":
        return not {reference, target} & set(WITHOUT_SETTINGS) or (reference in FOLDED and target in FOLDED)
    if name == "a prefix added":
        return reference in STATE and target in STATE
    return True


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_a_seeded_difference_is_found_in_every_pair_and_named(
    name: str, original: Path, differing: dict[str, Path]
) -> None:
    seed = SEEDS[name]
    missed = []
    for reference, target in PAIRS:
        if target in seed.without:
            continue
        report = compare(original / reference, differing[name] / target)
        assert report.failed == ()
        if can_be_seen(name, reference, target) != is_named(report, seed.layer, seed.before):
            missed.append((reference, target, [(item.code, item.message) for item in report.findings]))
    assert missed == []


def is_named(report: Report, layer: str, before: str) -> bool:
    """Whether a finding points to the layer, or to the one that it was folded into, or lost its path with."""
    if not layer:
        return any(finding.code == "BN203" for finding in report.findings)
    places = [location for finding in report.findings for location in finding.locations]
    if {layer, before, f"module.{layer}"} & {place.path for place in places}:
        return True
    # A frozen TorchScript archive has no paths: a constant or a numbered call is all there is.
    nameless = [place for place in places if (place.tensor or "").startswith("CONSTANTS.")]
    return bool(nameless) or any(place.path.startswith("batch_norm") for place in places)


def test_layers_without_names_are_paired_by_their_contents(original: Path) -> None:
    comparison = compare(original / "module.pt", original / "frozen.pt").comparison
    assert comparison is not None
    paired = {pair.path: pair.paired_by for pair in comparison.pairs}
    assert paired == {
        "stem.1": PairedBy.FOLD,
        "bn1": PairedBy.FOLD,
        "up_norm": PairedBy.CONTENTS,
        "hidden_norm": PairedBy.FOLD,
        "alone": PairedBy.CONTENTS,
    }
