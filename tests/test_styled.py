import io

import pytest

from bn_audit.styled import clean, is_colourful, line, width_of, write


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(*lines, columns=40, monkeypatch=None):
    out = Terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    write(lines, out, False)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layer1.0.bn1", "layer1.0.bn1"),
        ("Gr\u00fc\u00dfe \u6f22", "Gr\u00fc\u00dfe \u6f22"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\r\tc\x00", "a\\nb\\r\\tc\\x00"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("\u202e\u200b\ufeff\u2028", "\\u202e\\u200b\\ufeff\\u2028"),
        ("\udc80", "\\udc80"),
        ("\xa0", "\\xa0"),
    ],
)
def test_only_what_prints_as_itself_is_kept(text, expected):
    assert clean(text) == expected


def test_a_long_text_is_cut_and_says_so():
    assert clean("x" * 30, 10) == "xxxxxxxxxx... (20 more characters)"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals_that_want_it(variables, expected, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_colourful(Terminal()) is expected
    assert is_colourful(io.StringIO()) is False


@pytest.mark.parametrize(("columns", "expected"), [("200", 120), ("80", 80), ("20", 40)])
def test_width_follows_the_terminal_within_reason(columns, expected, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert width_of(Terminal()) == expected
    assert width_of(io.StringIO()) == 120


def test_rows_are_broken_at_spaces_and_hang(monkeypatch):
    text = "one two three four five six seven eight nine ten"
    rows = written(line(text, indent=2, hang=4), monkeypatch=monkeypatch)
    assert rows == ["  one two three four five six seven", "      eight nine ten"]


def test_a_word_longer_than_the_row_stays_whole(monkeypatch):
    rows = written(line("a " + "b" * 100 + " c"), monkeypatch=monkeypatch)
    assert rows == ["a", "  " + "b" * 100, "  c"]


def test_a_break_may_fall_inside_a_style(monkeypatch):
    rows = written(line("aaaa ", ("bbbb " * 8, "bold"), "cccc"), monkeypatch=monkeypatch)
    assert " ".join(rows).split() == ["aaaa", *["bbbb"] * 8, "cccc"]


def test_nothing_follows_the_last_word(monkeypatch):
    assert written(line("word   ", indent=1), line(), monkeypatch=monkeypatch) == [" word", ""]
