"""The page of a run as a browser shows it: nothing to complain about, no sideways scrolling, both colour schemes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hand_made
import hand_made_sweeps
import pytest
from browser import Browser, browser, executable
from parsed_page import rendered, swapped

LONG_NAMES = swapped(hand_made_sweeps.HOSTILE_RUN, hand_made.HOSTILE, "a_name_without_a_break" * 20)
PAGES = {
    **hand_made_sweeps.ALL,
    "long_names": LONG_NAMES,
    "drifted": hand_made.DRIFTED,
    "clean": hand_made.CLEAN,
}
LAPTOP, PHONE = 1280, 390

pytestmark = [
    pytest.mark.skipif(executable() is None, reason="no Chromium on the PATH: install it, or set BN_AUDIT_BROWSER"),
    pytest.mark.skipif(os.name != "posix", reason="the browser is driven through inherited pipes"),
]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(executable() or "", tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, of in PAGES.items():
        (folder / f"{name}.html").write_text(rendered(of), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in PAGES}


def count(tab: Browser, selector: str) -> int:
    return int(tab.evaluate(f"document.querySelectorAll({selector!r}).length"))


@pytest.mark.parametrize("width", [LAPTOP, PHONE])
@pytest.mark.parametrize("name", PAGES)
def test_the_page_loads_alone_and_fits(tab, pages, name, width):
    tab.open(pages[name], width)
    assert tab.complaints() == []
    assert tab.requests() == [pages[name].as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("document.documentElement.clientWidth") <= width


OUTSIDE = """
[...document.querySelectorAll("svg.chart text, svg.chart rect:not(.area), svg.chart path")].filter(drawn => {
  const box = drawn.getBoundingClientRect();
  return box.width && (box.left < 0 || box.right > document.documentElement.clientWidth);
}).map(drawn => drawn.outerHTML)
"""
SMALL = (
    "[...document.querySelectorAll('svg.chart text')].filter(t => parseFloat(getComputedStyle(t).fontSize) < 11).length"
)


@pytest.mark.parametrize("width", [LAPTOP, PHONE])
@pytest.mark.parametrize("name", ["sweep_independent", "sweep_companions", "sweep_undecided", "sweep_sizes"])
def test_nothing_of_a_chart_is_cut_off_or_too_small_to_read(tab, pages, name, width):
    tab.open(pages[name], width)
    assert tab.evaluate(OUTSIDE) == []
    assert tab.evaluate(SMALL) == 0


def test_the_charts_are_there(tab, pages):
    tab.open(pages["sweep_companions"], LAPTOP)
    assert count(tab, "svg.chart") == 3
    assert count(tab, "svg.chart .band") == 1
    assert count(tab, "svg.chart .mark.above") == 4
    assert count(tab, "svg.chart rect.cell") == 22
    assert count(tab, "svg.chart rect.bar") == 32
    assert count(tab, "table.norms tbody tr") == 16
    assert count(tab, "table.sizes tbody tr") == 5
    assert tab.evaluate("document.querySelector('pre.command').innerText").startswith("bn-audit sweep model.pt")


CONTRAST = """
(() => {
  const light = colour => {
    const [r, g, b] = colour.match(/[0-9.]+/g).map(v => v / 255).map(
      v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  const ratio = colour => (Math.max(light(colour), ground) + 0.05) / (Math.min(light(colour), ground) + 0.05);
  const fill = selector => getComputedStyle(document.querySelector(selector)).fill;
  return {
    text: ratio(getComputedStyle(document.body).color), tick: ratio(fill("svg.chart .tick")),
    above: ratio(fill("svg.chart .mark.above")), bar: ratio(fill("svg.chart rect.bar")),
    lane: ratio(fill("svg.chart .lane.train")), ground: ground,
  };
})()
"""


@pytest.mark.parametrize("dark", [False, True])
def test_both_colour_schemes_can_be_read(tab, pages, dark):
    tab.open(pages["sweep_companions"], LAPTOP, dark=dark)
    found = tab.evaluate(CONTRAST)
    assert (found.pop("ground") < 0.1) == dark
    # WCAG 2.2: 4.5 for text (1.4.3), 3 for what a chart needs to be understood (1.4.11).
    assert min(found["text"], found["tick"]) >= 4.5
    assert min(found.values()) >= 3.0


def test_a_pointer_and_the_arrow_keys_show_the_figures(tab, pages):
    tab.open(pages["sweep_companions"], LAPTOP)
    assert tab.evaluate("document.querySelector('.tip').hidden")
    x, y = tab.evaluate(
        "(() => { const b = document.querySelector('svg.chart .hit').getBoundingClientRect();"
        " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    tab.point(x, y)
    shown = "document.querySelector('.tip').hidden ? '' : document.querySelector('.tip').textContent"
    assert tab.evaluate(shown).startswith("batch size 1: 0.731 relative")
    assert count(tab, ".hit[tabindex='0']") == 3
    tab.evaluate("document.querySelector('.hit').focus()")
    tab.press("ArrowRight")
    assert tab.evaluate(shown).startswith("batch size 2: 0.31 relative")
    tab.press("End")
    assert tab.evaluate(shown).startswith("batch size 16: 0.0871 relative")
    box = tab.evaluate(
        "(() => { const b = document.querySelector('.tip').getBoundingClientRect(); return [b.left, b.right]; })()"
    )
    assert 0 <= box[0] <= box[1] <= LAPTOP
    assert tab.complaints() == []


def test_a_script_that_a_name_smuggled_in_would_not_run(tab, tmp_path):
    written = rendered(hand_made_sweeps.COMPANIONS)
    smuggled = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
    path = tmp_path / "smuggled.html"
    path.write_text(written.replace("<footer>", f"{smuggled}<footer>"), encoding="utf-8")
    tab.open(path, LAPTOP)
    assert tab.evaluate("document.title") == "bn-audit: model.pt"
    assert tab.complaints()


def test_a_page_of_very_many_figures_opens(tab, tmp_path):
    sizes = tuple(hand_made_sweeps.size(number, 1 / number) for number in (*range(1, 100), 256))
    observed = hand_made_sweeps.observation(sizes=sizes, profile=hand_made_sweeps.layers(2000, first=700))
    path = tmp_path / "many.html"
    path.write_text(rendered(hand_made.audit(hand_made.report(observation=observed))), encoding="utf-8")
    for width in (LAPTOP, PHONE):
        tab.open(path, width)
        assert tab.complaints() == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate(OUTSIDE) == []
