"""The page of a run: well formed, self-contained, true to the figures, small, and no name out of a file is markup."""

import base64
import hashlib
import math
import re
from itertools import pairwise

import hand_made
import hand_made_sweeps
import pytest
from hand_made import HOSTILE, audit, norm, report
from hand_made_sweeps import layers, norms_of, observation, size
from parsed_page import ATTACKS, page, rendered, swapped

from bn_audit.reporters._web.script import SCRIPT
from bn_audit.subject.norm import Mode
from bn_audit.subject.observation import CONTENT, SIZE, LayerEffect, Place

PAGE_LIMIT = 1_000_000
"""Characters of a page: what mail and chat take without a word."""


def run(**changes):
    return audit(report(observation=observation(**changes)))


def charts(of) -> list[tuple[str, str]]:
    """Return (description, content) of each chart."""
    return re.findall(r'<svg class="chart"[^>]*aria-label="([^"]*)"[^>]*>(.*?)</svg></div>', rendered(of), re.DOTALL)


def chart(of, title: str) -> str:
    return next(content for label, content in charts(of) if label.startswith(title))


def titles(content: str) -> list[str]:
    return re.findall(r"<title>([^<]*)</title>", content)


@pytest.mark.parametrize("case", hand_made_sweeps.ALL)
def test_the_page_is_well_formed_and_loads_nothing(case):
    of = hand_made_sweeps.ALL[case]
    parsed = page(of)
    names = {tag for tag, _ in parsed.tags}
    assert not names & {"link", "img", "iframe", "object", "embed", "base", "form", "foreignobject", "use", "image"}
    given = [pair for _, attributes in parsed.tags for pair in attributes.items()]
    assert not [name for name, _ in given if name.startswith("on") or name in ("src", "srcset", "xlink:href")]
    assert all(value.startswith("#") for name, value in given if name == "href")
    written = rendered(of).replace(SCRIPT, "")
    assert "url(" not in written
    assert "@import" not in written
    assert not re.search(r"https?:", written)


@pytest.mark.parametrize("case", hand_made_sweeps.ALL)
def test_the_policy_allows_one_script_by_its_digest(case):
    parsed = page(hand_made_sweeps.ALL[case])
    digest = base64.b64encode(hashlib.sha256("".join(parsed.scripts).encode()).digest()).decode()
    (policy,) = [given["content"] for tag, given in parsed.tags if tag == "meta" and "http-equiv" in given]
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert [tag for tag, _ in parsed.tags].count("script") == 1


def test_a_page_without_a_run_has_no_script():
    assert "script" not in rendered(hand_made.CLEAN)
    assert "prefers-color-scheme: dark" in rendered(hand_made_sweeps.COMPANIONS)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_name_becomes_markup(attack):
    before, after = page(hand_made_sweeps.HOSTILE_RUN), page(swapped(hand_made_sweeps.HOSTILE_RUN, HOSTILE, attack))
    assert [tag for tag, _ in after.tags] == [tag for tag, _ in before.tags]
    assert [given.keys() for _, given in after.tags] == [given.keys() for _, given in before.tags]
    assert after.scripts == before.scripts
    assert attack in "".join(after.text)


@pytest.mark.parametrize("case", hand_made_sweeps.ALL)
def test_every_character_prints(case):
    assert all(row.isprintable() for row in rendered(hand_made_sweeps.ALL[case]).split("\n"))


@pytest.mark.parametrize("case", ["sweep_companions", "sweep_undecided", "sweep_sizes", "sweep_hostile"])
def test_every_chart_is_described_and_has_its_figures_in_a_table(case):
    of = hand_made_sweeps.ALL[case]
    written = rendered(of)
    assert written.count("<figure") == len(charts(of)) == len(re.findall(r'<svg class="chart"[^>]*role="img"', written))
    assert all(len(label) > 20 for label, _ in charts(of))
    assert len(re.findall("<table", written)) >= len(charts(of))


def test_what_was_measured_is_in_plain_words():
    words = " ".join(" ".join(page(hand_made_sweeps.COMPANIONS).text).split())
    for part in (
        "depends on companions A sample's answer changes with the other samples in its batch, by up to 13.2% of",
        "first layer layer1.1.bn (BatchNorm2d, aten.native_batch_norm.default)",
        "restored by evaluation mode in layer1.1.bn",
        "seed 0, full tier, 26 forward passes in 3.1 s",
        "x float32 3x224x224 (Conv2d 'stem', drawn at random)",
        "bn-audit sweep model.pt --trust --batch-sizes 1,2,3,8 --seed 0",
        "torch 2.13.0+cpu",
        "samples first meet in layer 17, layer1.1.bn",
    ):
        assert part in words


# Divergence by batch size.


def heights(of) -> list[float]:
    return [
        float(y) for y in re.findall(r'<svg class="mark \w+" x="[^"]*" y="([^"]*)"', chart(of, "Divergence by batch"))
    ]


def test_a_decade_is_the_same_step_everywhere():
    sizes = tuple(size(number, 10.0**-number, samples=()) for number in range(1, 6))
    places = heights(run(sizes=sizes, noise_floor=None, reference_size=None))
    steps = [after - before for before, after in pairwise(places)]
    assert steps == pytest.approx([steps[0]] * 4)
    assert steps[0] > 0


def test_the_band_ends_where_its_figure_lies():
    of = run(sizes=(size(1, 1e-4, samples=()), size(2, 1e-2, samples=())), noise_floor=1e-4, reference_size=None)
    (top, height) = re.findall(
        r'<rect class="band"[^>]* y="([^"]*)"[^>]* height="([^"]*)"', chart(of, "Divergence by batch")
    )[0]
    assert float(top) == heights(of)[0]
    assert float(top) + float(height) == 200


def test_equal_bits_lie_on_the_ground_and_what_is_no_number_at_the_top():
    sizes = (size(1, 0.0), size(2, math.nan), size(3, 0.1))
    assert heights(run(sizes=sizes, reference_size=None))[:2] == [200, 0]


@pytest.mark.parametrize(
    ("effect", "shape"),
    [(0.0, "below"), (1e-7, "below"), (1.3e-6, "below"), (1.4e-6, "above"), (math.inf, "failed"), (math.nan, "failed")],
)
def test_a_mark_says_on_which_side_of_the_noise_a_size_lies(effect, shape):
    content = chart(run(verdict=SIZE, sizes=(size(1, effect), size(2, 0.1))), "Divergence by batch")
    assert re.findall(r'class="mark (\w+)"', content) == [shape, "above"]


def test_an_independent_model_has_no_mark_beyond_the_noise():
    of = run(sizes=(size(1, 1e-4, samples=(1e-4,)), size(2, 0.0)), noise_floor=None)
    assert "mark above" not in rendered(of)
    assert "cell level" not in rendered(of)


def test_sizes_that_failed_or_have_no_figure_are_told_apart():
    sizes = (size(1, None, status="failed", error="too small"), size(2, None), size(3, 0.1))
    content = chart(run(verdict=SIZE, sizes=sizes), "Divergence by batch")
    assert re.findall(r'class="mark (\w+)"', content) == ["failed", "above"]
    assert titles(content)[:2] == ["batch size 1, failed: too small", "batch size 2: not comparable"]


def test_the_size_that_others_are_compared_with_has_no_figure():
    written = rendered(hand_made_sweeps.COMPANIONS)
    row = re.findall(r"<tr><td>8</td><td>(.*?)</tr>", written)[0]
    assert " ".join(re.sub("<[^>]*>", " ", row).split()) == "ok (the others are compared with it) - - - 3.5 ms"
    assert "batch size 8: the others are compared with it" in written


def test_without_any_figure_there_is_no_chart():
    assert charts(run(sizes=(size(2, None), size(3, None)))) == []
    assert charts(hand_made_sweeps.CRASHED) == []


# Samples.


def test_each_sample_has_its_cell():
    told = titles(chart(hand_made_sweeps.COMPANIONS, "Divergence of each sample"))
    assert len(told) == 1 + 2 + 3 + 16
    assert "batch size 2, sample 2: 0.155" in told


def test_many_samples_share_cells_and_the_largest_is_shown():
    values = [1e-5] * 256
    values[9], values[255] = 0.25, math.nan
    told = titles(chart(run(sizes=(size(256, 0.25, samples=tuple(values)),)), "Divergence of each sample"))
    assert len(told) == 32
    assert told[:2] == [
        "batch size 256, samples 1 to 8, largest: 1e-05",
        "batch size 256, samples 9 to 16, largest: 0.25",
    ]
    assert told[-1].endswith("samples 249 to 256, largest: nan")
    assert "each cell is the largest of 8 samples" in rendered(run(sizes=(size(256, 0.25),)))


def test_the_shades_follow_the_figures():
    samples = (0.0, 1e-7, 2e-6, 1e-4, 1e-2, 1.0)
    content = chart(run(verdict=SIZE, sizes=(size(6, 1.0, samples=samples),)), "Divergence of each sample")
    assert re.findall(r'<rect class="cell (\w+)"', content) == ["same", "noise", "level1", "level2", "level4", "level5"]


# Layers.


def test_norm_layers_are_marked_with_their_modes():
    content = chart(hand_made_sweeps.COMPANIONS, "Divergence by layer")
    assert content.count('class="lane train"') == 1
    assert content.count('class="lane eval"') == 15
    assert "layer 17, layer1.1.bn (BatchNorm2d; train): 0.111" in titles(content)


def test_a_norm_of_another_model_lends_no_mode():
    profile = (LayerEffect(path="bn", effect=0.1, is_norm=True),)
    other = audit(report(norms=(norm("bn", Mode.TRAIN, model="ema"),), observation=observation(profile=profile)))
    assert 'class="lane norm"' in rendered(other)


def first_line(of) -> str:
    return re.findall(r'<line class="first" x1="([^"]*)"', rendered(of))[0]


def test_the_first_divergence_is_marked_in_its_layer():
    assert first_line(hand_made_sweeps.COMPANIONS) == f"{100 * 16.5 / 48:.5g}%"
    unplaced = run(verdict=CONTENT, profile=layers(10, first=4))
    assert first_line(unplaced) == "45%"
    later = run(verdict=CONTENT, profile=layers(10, first=4), first_divergence=Place(path="layer0.2.bn"))
    assert first_line(later) == "75%"


def test_samples_that_meet_nowhere_need_no_chart():
    assert "Samples met in none of 10 layers" in rendered(run(profile=layers(10, first=10)))
    assert "Divergence by layer" not in rendered(run(profile=layers(10, first=10)))


def test_many_layers_share_bars_and_the_largest_is_shown():
    profile = (*(LayerEffect(path=f"l{n}", effect=1e-3) for n in range(299)), LayerEffect(path="last", effect=0.5))
    told = titles(chart(run(profile=profile), "Divergence by layer"))
    assert len(told) == 100
    assert told[0] == "layers 1 to 3, largest at l0: 0.001"
    assert told[-1] == "layers 298 to 300, largest at last: 0.5"
    assert "each bar is the largest of 3 layers" in rendered(run(profile=profile))


def test_a_page_of_very_many_figures_stays_small():
    profile = tuple(
        LayerEffect(path=f"backbone.stage{n // 50}.block{n // 5}.branch.layer{n}", effect=n * 1e-5, is_norm=n % 3 == 1)
        for n in range(2000)
    )
    sizes = tuple(size(number, 1 / number) for number in (*range(1, 200), 256))
    observed = observation(
        profile=profile, sizes=sizes, first_divergence=Place(path=profile[1500].path), reference_size=None
    )
    of = audit(report(norms=norms_of(profile, trained=(profile[1900].path,)), observation=observed))
    written = rendered(of)
    assert len(written) < PAGE_LIMIT
    assert f"{profile[1500].path}</code><strong> first</strong>" in written
    assert "400 of 2000 layers" in written
    assert "train, with the batch" in written
