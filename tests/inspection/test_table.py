from __future__ import annotations

import io

import pytest

from bn_audit.inspection.figures import load
from bn_audit.inspection.table import render
from bn_audit.subject.norm import Mode, ModeOrigin, NormKind, NormLayer
from bn_audit.subject.subject import Facts, Form, Model, Subject


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def layer(path: str) -> NormLayer:
    return NormLayer(
        model="",
        path=path,
        kind=NormKind.BATCH_NORM,
        type_name="BatchNorm2d",
        mode=Mode.TRAIN,
        mode_origin=ModeOrigin.MODULE_FLAG,
        uses_batch_statistics=True,
        num_features=64,
        eps=1e-5,
        cumulative=True,
    )


def shown(out: io.StringIO, paths: list[str], *, unread: tuple[str, ...] = ()) -> list[str]:
    norms = tuple(layer(path) for path in paths)
    subject = Subject(
        source="model.pt",
        format="torch-checkpoint",
        facts=Facts.NONE,
        models=(Model(route="", form=Form.MODULE),),
        norms=norms,
        unread=unread,
    )
    render(subject, [load(norm) for norm in norms], out, False)
    return out.getvalue().splitlines()


def test_columns_are_aligned() -> None:
    header, *layers = shown(io.StringIO(), ["a", "layer1.0.bn1"])[2:5]
    assert header == "layer         kind  mode   channels    eps  momentum  batches  mean  variance  dead"
    assert layers == [
        "a             BN    train        64  1e-05   average        -  -     -            -",
        "layer1.0.bn1  BN    train        64  1e-05   average        -  -     -            -",
    ]


def test_a_pipe_gets_one_row_for_each_layer_however_long_its_name() -> None:
    rows = shown(io.StringIO(), ["block." * 19 + "bn", "b"])
    assert rows[3].startswith("block." * 19 + "bn  BN")


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_narrow_terminal_gets_words_in_place_of_columns(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = shown(Terminal(), ["layer1.0.bn1"])
    assert rows[2] == "layer1.0.bn1"
    assert " ".join(" ".join(rows[3:]).split()).startswith("kind BN, mode train, channels 64, eps 1e-05")
    assert all(len(row) <= columns for row in rows)


def test_what_was_not_read_is_named() -> None:
    assert "not read: shard 2" in shown(io.StringIO(), ["a"], unread=("shard 2",))
