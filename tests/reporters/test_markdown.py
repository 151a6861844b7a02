"""Markdown, read back through a CommonMark parser: no name breaks the table, links, mentions or becomes HTML."""

import io
import re
from html.parser import HTMLParser

import hand_made
import pytest
from hand_made import audit, finding, report
from markdown_it import MarkdownIt

from bn_audit.reporters.markdown import REPORTER
from bn_audit.styled import clean
from bn_audit.subject.finding import Location
from bn_audit.subject.report import Failed, Skipped
from bn_audit.subject.waiver import WaivedFinding

LIMIT = 65_536
"""Characters that GitHub takes for a comment."""

EMPTY = "\u200b"
OURS = {"h3", "ul", "li", "p", "strong", "code", "table", "thead", "tbody", "tr", "th", "td", "br", "sub"}
OURS |= {"details", "summary"}

MENTIONS = re.compile(
    r"@\w|#\w|!\d|~\w|%\"|:[\w+-]+:|://|www\.|GH-\d",
)
"""What GitHub or GitLab look for in finished text: mentions, references, emoji, addresses."""


class Page(HTMLParser):
    """The elements, their attributes, the text in code and the text outside of it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.cells: list[list[str]] = []
        self.code: list[str] = []
        self.prose: list[str] = []

    def handle_starttag(self, tag, attrs):
        assert not attrs, (tag, attrs)
        self.tags.append(tag)
        if tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")
        elif tag == "code":
            self.code.append("")
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1][-1] += data
        if "code" in self.open:
            self.code[-1] += data
        else:
            self.prose.append(data)


def written(of) -> str:
    out = io.StringIO()
    REPORTER.render(of, out, False)
    return out.getvalue()


def page(of) -> Page:
    parsed = Page()
    parsed.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(written(of)))
    assert parsed.open == []
    return parsed


@pytest.mark.parametrize("case", hand_made.ALL)
def test_it_is_a_well_formed_page_of_our_elements(case):
    read = page(hand_made.ALL[case])
    assert set(read.tags) <= OURS
    assert len(written(hand_made.ALL[case])) <= LIMIT


def test_the_table_has_a_row_for_each_finding_the_worst_first():
    rows = page(hand_made.EVERYTHING).cells
    assert rows[0] == ["severity", "rule", "source", "finding"]
    assert [len(row) for row in rows] == [4] * 5
    findings = [item for report in hand_made.EVERYTHING.reports for item in report.findings]
    assert [row[1] for row in rows[1:]] == [
        f"{item.code} {item.name}" for item in sorted(findings, key=lambda item: -item.severity.rank)
    ]


def test_it_says_the_verdict_what_failed_and_what_was_not_checked():
    text = written(hand_made.EVERYTHING)
    assert text.startswith("### bn-audit: 3 sources: 1 FAIL, 1 NOT AUDITED, 1 clean; exit code 3\n")
    assert "`broken.pt` read: broken.pt: is empty" in text
    assert "BN308: the artifact records no operators" in text
    assert "not read: callbacks: no model in it" in text
    assert "1 source clean, matching or with nothing to judge" in text


def test_accepted_findings_are_shown_with_their_reason():
    text = written(hand_made.ACCEPTED)
    assert "<summary>2 findings waived</summary>" in text
    assert "Waived (batch-statistics): pix2pix does so by design" in text
    assert "Waived until 2031-12-31: until the next export" in text
    assert "<summary>1 finding known, in the baseline</summary>" in text
    assert "found nothing to waive: an old experiment" in text
    assert "no longer occurs" in text
    assert "clean" not in text


ATTACKS = [
    hand_made.HOSTILE,
    "a|b",
    "a\\|b|",
    "|---|---|",
    "`code` ``more`` `",
    "`",
    " x ",
    "x`|`y",
    "<img src=x onerror=alert(1)>",
    "</code></td></details><script>",
    "[click](https://evil.example)",
    "![pixel](https://evil.example/x.png)",
    "https://evil.example www.evil.example me@evil.example",
    "@everyone #1 !2 ~label :tada: GH-3 owner/repo#4",
    "<!-- hidden -->",
    "**bold** __init__ _x_ ~~gone~~ $x$",
    "# heading",
    "a\n\n# heading\n\n- item",
    "/close",
    "&lt;b&gt; &amp; &#64;all",
    "\\",
    "\u202egnp.exe",
]


@pytest.mark.parametrize("name", ATTACKS)
def test_no_name_breaks_out(name):
    told = finding(message=name, remedy=name, locations=(Location(path=name),))
    source = name.replace("/", "-")
    of = audit(
        report(
            source,
            findings=(told,),
            waived=(WaivedFinding(finding=told, reason=name),),
            baselined=(told,),
            skipped=(Skipped(code="BN102", reason=name),),
            failed=(Failed(stage="read", error=name),),
            unread=(name,),
        ),
        report("second.pt"),
        listed=[(source, name)],
    )
    read = page(of)
    assert set(read.tags) <= OURS
    assert [len(row) for row in read.cells] == [4, 4]
    prose, shown = "".join(read.prose), clean(name)
    assert MENTIONS.findall(prose) == []
    assert prose.replace(EMPTY, "").count(shown.strip()) >= 6
    named = {text.replace(EMPTY, "").strip() for text in read.code}
    assert named == {shown.strip(), clean(source).strip()}
    assert len(read.code) >= 8
    assert read.tags.count("h3") == 1


def test_the_patterns_of_this_test_find_what_they_look_for():
    for text in ("@me", "#12", ":tada:", "https://x", "www.x", "GH-3", "~label"):
        assert MENTIONS.search(text), text


def test_names_without_bars_are_code_as_they_are():
    read = page(audit(report("models/a_b*c.pt", findings=(finding(locations=(Location(path="a`b"),)),))))
    assert {"models/a_b*c.pt", "a`b"} == set(read.code)


def test_a_large_run_fits_into_a_comment_and_says_what_is_left_out():
    places = tuple(Location(path=f"{'block.' * 30}{chr(97 + n % 26)}{n}x.bn") for n in range(60))
    of = audit(
        *(
            report(
                f"runs/{n}/model.pt", findings=(finding(f"BN{100 + n % 40}", locations=places),), unread=("x" * 900,)
            )
            for n in range(200)
        )
    )
    text = written(of)
    assert len(text) <= LIMIT
    assert "left out: the JSON and HTML reports have all" in text
    assert set(page(of).tags) <= OURS


def test_no_absolute_path_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failure = Failed(stage="read", error=f"{tmp_path}/m.pt: cannot be opened")
    text = written(audit(report(f"{tmp_path}/m.pt", failed=(failure,))))
    assert str(tmp_path) not in text
    assert "m.pt: cannot be opened" in text
