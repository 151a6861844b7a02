import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.reporters._fold import fold, fold_line


def expand(pattern: str) -> set[str]:
    """Every path that a printed pattern stands for, read back from the text alone."""
    pieces = re.split(r"\{([^}]*)\}", pattern)
    choices = [[piece] if number % 2 == 0 else list(numbers(piece)) for number, piece in enumerate(pieces)]
    return {"".join(parts) for parts in itertools.product(*choices)}


def numbers(text: str):
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from (str(number) for number in range(int(first), int(last or first) + 1))


def resnet50_norms() -> list[str]:
    paths = ["bn1"]
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            paths += [f"layer{stage}.{block}.bn{number}" for number in (1, 2, 3)]
            if block == 0:
                paths.append(f"layer{stage}.{block}.downsample.1")
    return paths


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], []),
        (["bn"], ["bn"]),
        (["bn1", "bn2"], ["bn{1,2}"]),
        (["bn1", "bn2", "bn3"], ["bn{1-3}"]),
        (["f.0", "f.3", "f.4", "f.5", "f.9"], ["f.{0,3-5,9}"]),
        (["a.1", "b.1"], ["a.1", "b.1"]),
        (["bn01", "bn1", "bn2"], ["bn01", "bn{1,2}"]),
        (["x" + "9" * 30, "x1"], ["x" + "9" * 30, "x1"]),
        (["bn1", "bn1"], ["bn1"]),
        (["l.0.bn1", "l.0.bn2", "l.1.bn1"], ["l.0.bn{1,2}", "l.1.bn1"]),
    ],
)
def test_fold(paths, expected):
    assert [str(pattern) for pattern in fold(paths)] == expected


def test_a_resnet_fits_one_line():
    paths = resnet50_norms()
    assert len(paths) == 53
    assert fold_line(paths) == (
        "bn1, layer{1,4}.{0-2}.bn{1-3}, layer{1-4}.0.downsample.1, layer2.{0-3}.bn{1-3} (+18 more)"
    )


def test_the_number_of_hidden_paths_is_of_paths_not_of_patterns():
    assert fold_line([f"{letter}.bn{n}" for letter in "abcdef" for n in range(10)]).endswith("(+20 more)")


paths = st.lists(st.from_regex(r"[a-z]{0,2}[0-9]{0,2}(\.[a-z]{0,2}[0-9]{0,2}){0,3}", fullmatch=True), max_size=30)


@given(paths)
def test_folding_neither_loses_nor_invents_a_path(paths):
    patterns = fold(paths)
    expanded = [expand(str(pattern)) for pattern in patterns]
    assert set().union(*expanded) == set(paths)
    assert sum(pattern.count for pattern in patterns) == len(set(paths))
