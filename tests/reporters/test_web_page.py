"""The web page: well formed, self-contained, and no name out of a file is markup."""

import re

import hand_made
import pytest
from hand_made import audit, comparison, drift, finding, norm, report
from parsed_page import ATTACKS, page, rendered, swapped

from bn_audit.subject.finding import Location
from bn_audit.subject.norm import Mode


@pytest.mark.parametrize("case", hand_made.ALL)
def test_the_page_is_well_formed_and_loads_nothing(case):
    parsed = page(hand_made.ALL[case])
    names = {tag for tag, _ in parsed.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    attributes = {name for _, given in parsed.tags for name in given}
    assert attributes <= {
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "title",
        "style",
        "scope",
        "open",
        "id",
        "href",
    }
    targets = [str(given["href"]) for _, given in parsed.tags if "href" in given]
    places = {f"#{given['id']}" for _, given in parsed.tags if "id" in given}
    assert set(targets) <= places, "a link that leaves the page"
    written = rendered(hand_made.ALL[case])
    assert "url(" not in written
    assert "@import" not in written
    assert not re.search(r"https?:", written)
    (policy,) = [given["content"] for tag, given in parsed.tags if tag == "meta" and "http-equiv" in given]
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_name_becomes_markup(attack):
    plain = hand_made.HOSTILE_NAMES

    before, after = page(plain), page(swapped(plain, hand_made.HOSTILE, attack))
    assert [tag for tag, _ in after.tags] == [tag for tag, _ in before.tags]
    assert [given.keys() for _, given in after.tags] == [given.keys() for _, given in before.tags]
    assert attack in "".join(after.text)


@pytest.mark.parametrize("case", hand_made.ALL)
def test_every_character_prints(case):
    assert all(row.isprintable() for row in rendered(hand_made.ALL[case]).split("\n"))


def test_the_page_follows_the_colours_of_the_system():
    assert "prefers-color-scheme: dark" in rendered(hand_made.CLEAN)


def table_rows(of) -> list[str]:
    (drifts,) = re.findall(r'<table class="drift">.*?</table>', rendered(of), re.DOTALL)[:1]
    return re.findall(r"<tr><td><code>([^<]*)</code>", drifts)


def test_the_drift_table_begins_with_what_moved_most():
    rows = table_rows(hand_made.DRIFTED)
    assert rows[:3] == ["swap.bn", "layer1.0.bn1", "layer1.13.bn1"]
    assert "meta.bn" not in rows


def test_a_bar_is_as_long_as_its_share_of_the_largest():
    moved = audit(report(comparison=comparison(drift=(drift("a", mean=1.0), drift("b", mean=4.0)))))
    widths = re.findall(r"width:([0-9.]+)%", rendered(moved))
    assert widths == ["100.0", "25.0"]


def test_what_was_not_compared_is_on_the_page():
    text = "".join(page(hand_made.DRIFTED).text)
    assert "14 parts: layer1.{0-13}.conv1.weight (--values bn does not read it)" in text


def test_a_finding_of_a_check_is_shown_with_its_layers_and_remedy():
    found = report(findings=(finding(locations=(Location(path="bn1"),)),), norms=(norm("bn1", Mode.TRAIN),))
    text = "".join(page(audit(found)).text)
    for part in ("BN101 train-mode: 2 of 2 batch norms", "where bn1", "fix Call model.eval()", "FAIL", "1 batch_norm"):
        assert part in text


def test_a_page_of_many_layers_stays_small():
    many = comparison(drift=tuple(drift(f"layer{n}.bn", mean=n / 7) for n in range(500)))
    assert len(rendered(audit(report(comparison=many)))) < 400_000


def test_several_sources_have_a_table_the_worst_first_that_leads_to_their_sections():
    written = rendered(hand_made.EVERYTHING)
    (overview,) = re.findall(r'<table class="overview">.*?</table>', written, re.DOTALL)
    rows = re.findall(r'<a href="#(.*?)"><code>(.*?)</code></a></td><td><span class="badge.*?">(.*?)<', overview)
    assert rows == [
        ("source-1", "runs/7/checkpoint.ckpt", "FAIL"),
        ("source-2", "broken.pt", "NOT AUDITED"),
        ("source-3", "good.pt", "clean"),
    ]
    assert re.findall(r'<section id="(.*?)"><header class="source"><h2><code>(.*?)<', written) == [
        (name, source) for name, source, _ in rows
    ]
    assert "overview" not in re.sub(r"<style>.*?</style>", "", rendered(hand_made.CLEAN), flags=re.DOTALL)


def test_rules_that_fired_are_explained_once_and_findings_lead_there():
    written = rendered(hand_made.ACCEPTED)
    assert re.findall(r'<h3 id="(.*?)">', written) == ["rule-BN101", "rule-BN205", "rule-BN504"]
    assert re.findall(r'<a href="#(rule-.*?)">', written) == ["rule-BN101", "rule-BN504", "rule-BN205"]
    assert "the layers [all of them] use the batch&#x27;s statistics &lt;and&gt; move *theirs*." in written
    assert "if True:\n    torch.save(model, path)  # BN101</pre>" in written


def test_waived_and_known_findings_are_shown_with_their_reason():
    text = "".join(page(hand_made.ACCEPTED).text)
    for part in (
        "waived (batch-statistics) pix2pix does so by design",
        "waived until 2031-12-31 until the next export",
        "1 finding known, in the baseline",
        "found nothing to waive: an old experiment",
        "BN207 of models/gan.pt at ema head.bn is in the baseline and no longer occurs",
    ):
        assert part in text
