"""Fingerprints: stable where nothing changed, different where anything that matters did."""

from __future__ import annotations

from hashlib import sha256
from itertools import combinations

from bn_audit.subject.finding import Location
from bn_audit.subject.fingerprint import fingerprint

LAYER = Location(model="ema", path="stem.bn", node="node_7")


def test_it_is_the_digest_of_what_the_baseline_documents() -> None:
    text = '["bn-audit.fingerprint.v1", "models/gan.pt", "BN101", "ema", "stem.bn", null]'
    assert fingerprint("models/gan.pt", "BN101", LAYER) == sha256(text.encode()).hexdigest()[:32]


def test_the_number_of_a_node_does_not_matter_where_the_layer_is_known() -> None:
    renumbered = Location(model="ema", path="stem.bn", node="node_8")
    assert fingerprint("m.pt", "BN504", LAYER) == fingerprint("m.pt", "BN504", renumbered)


def test_every_part_that_names_the_result_matters() -> None:
    names = [
        fingerprint("m.pt", "BN101", LAYER),
        fingerprint("n.pt", "BN101", LAYER),
        fingerprint("m.pt", "BN102", LAYER),
        fingerprint("m.pt", "BN101", Location(path="stem.bn")),
        fingerprint("m.pt", "BN101", Location(model="ema", path="stem.bn", tensor="stem.bn.weight")),
        fingerprint("m.pt", "BN101", Location(model="ema", node="node_7")),
        fingerprint("m.pt", "BN101", Location()),
    ]
    assert all(one != other for one, other in combinations(names, 2))


def test_separators_in_hostile_names_do_not_let_two_results_share_a_name() -> None:
    one = fingerprint("m.pt", "BN101", Location(model='a", "b', path="c"))
    assert one != fingerprint("m.pt", "BN101", Location(model="a", path='b", "c'))
    assert len(fingerprint("m.pt", "BN101", Location(path="\udcff\n\x1b[31m"))) == 32
