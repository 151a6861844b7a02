"""Graphs that try to make the proof hang, crash or fill the memory: undecided, soon, and never an exception."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable

import numpy as np
import pytest

from bn_audit.errors import TensorUnavailableError
from bn_audit.flow.proof import Proof, prove
from bn_audit.subject.graph import AttributeValue, Graph, GraphValue, Node
from bn_audit.subject.tensor import TensorRef

SECONDS = 5.0


def tensor(name: str, values: object, dtype: str = "int64") -> TensorRef:
    array = np.asarray(values, dtype)
    return TensorRef(name=name, dtype=dtype, shape=array.shape, load=array.tobytes)


def unreadable(name: str, shape: tuple[int, ...]) -> TensorRef:
    def load() -> bytes:
        raise TensorUnavailableError(f"{name}: no bytes")

    return TensorRef(name=name, dtype="float32", shape=shape, load=load)


def node(op: str, inputs: str, outputs: str = "y", **attributes: AttributeValue) -> Node:
    return Node(name=f"{op}_{outputs}", op=op, inputs=tuple(inputs.split()), outputs=(outputs,), attributes=attributes)


def graph(
    *nodes: Node, constants: tuple[TensorRef, ...] = (), shape: tuple[int | str, ...] = ("batch", 6), version: int = 17
) -> Graph:
    return Graph(
        dialect="onnx",
        versions={"": version},
        inputs=(GraphValue(name="x", dtype="float32", shape=shape),),
        outputs=(GraphValue(name="y"),),
        constants={constant.name: constant for constant in constants},
        nodes=nodes,
    )


def proved(hostile: Graph) -> Proof:
    start = time.monotonic()
    proof = prove(hostile, time_limit=SECONDS)
    assert time.monotonic() - start < 2 * SECONDS
    assert proof.seconds < 2 * SECONDS
    return proof


def body(*nodes: Node, outputs: tuple[str, ...] = ("going", "s2")) -> Graph:
    names = ("turn", "c", "s")
    return Graph(
        dialect="onnx",
        inputs=tuple(GraphValue(name=name) for name in names),
        outputs=tuple(GraphValue(name=name) for name in outputs),
        nodes=(node("Identity", "c", "going"), *nodes),
    )


def nested(depth: int) -> Graph:
    inner = body(node("Tanh", "s", "s2"))
    for _ in range(depth):
        inner = body(node("Loop", "count c s", "s2", body=inner))
    return inner


HUGE = 1 << 40

HOSTILE: dict[str, Callable[[], Graph]] = {
    "no such value": lambda: graph(node("Add", "x nowhere")),
    "a value of itself": lambda: graph(node("Add", "x y")),
    "no inputs": lambda: graph(node("Conv", "")),
    "too many inputs": lambda: graph(node("Relu", "x x x x x x x x")),
    "wrong types of attributes": lambda: graph(node("Softmax", "x", axis="one")),
    "an axis out of range": lambda: graph(node("Softmax", "x", axis=99)),
    "a permutation that is none": lambda: graph(node("Transpose", "x", perm=(0, 0))),
    "a shape that does not fit": lambda: graph(node("Reshape", "x s"), constants=(tensor("s", [7, 11]),)),
    "a negative shape": lambda: graph(node("Reshape", "x s"), constants=(tensor("s", [-5, -7]),)),
    "an endless expansion": lambda: graph(node("Expand", "x s"), constants=(tensor("s", [HUGE, HUGE, 1, 6]),)),
    "an endless range": lambda: graph(
        node("Range", "a b c"), constants=(tensor("a", 0), tensor("b", HUGE), tensor("c", 1))
    ),
    "endless tiles": lambda: graph(node("Tile", "x s"), constants=(tensor("s", [HUGE, 2]),)),
    "endless padding": lambda: graph(node("Pad", "x s"), constants=(tensor("s", [HUGE, 0, HUGE, 0]),)),
    "endless classes": lambda: graph(
        node("OneHot", "x d v"), constants=(tensor("d", HUGE), tensor("v", [0, 1], "float32"))
    ),
    "an endless constant": lambda: graph(
        node("ConstantOfShape", "s", "z"), node("MatMul", "x z"), constants=(tensor("s", [6, HUGE]),)
    ),
    "endless turns": lambda: graph(
        node("Loop", "count c x", body=body(node("Tanh", "s", "s2"))),
        constants=(tensor("count", HUGE), tensor("c", True, "bool")),
    ),
    "turns within turns": lambda: graph(
        node("Loop", "count c x", body=nested(6)), constants=(tensor("count", 200), tensor("c", True, "bool"))
    ),
    "bodies within bodies": lambda: graph(
        node("Loop", "count c x", body=nested(300)), constants=(tensor("count", 1), tensor("c", True, "bool"))
    ),
    "a body without outputs": lambda: graph(
        node("Loop", "count c x", body=body(outputs=())), constants=(tensor("count", 3), tensor("c", True, "bool"))
    ),
    "splits into nothing": lambda: graph(node("Split", "x", split=(0, 0), axis=1)),
    "too many samples along one axis": lambda: graph(node("Flatten", "x", axis=0), shape=("batch", 1 << 20, 1 << 20)),
    "products of everything": lambda: graph(
        node("Transpose", "x", "t", perm=(1, 0)),
        node("Reshape", "x s", "a"),
        node("Transpose", "a", "b", perm=(1, 0)),
        node("MatMul", "a b"),
        constants=(tensor("s", [-1, 1]),),
        shape=("batch", 4096),
    ),
    "absurd sizes of the input": lambda: graph(node("Relu", "x"), shape=("batch", 1 << 60)),
    "negative sizes of the input": lambda: graph(node("Relu", "x"), shape=("batch", -7)),
    "a batch of a million": lambda: graph(node("Relu", "x"), shape=(1 << 20, 6)),
    "an expression for a size": lambda: graph(node("Relu", "x"), shape=("batch", "a+" * 90 + "9**9**9")),
    "unreadable constants": lambda: graph(node("Reshape", "x s"), constants=(unreadable("s", (2,)),)),
    "an einsum that is none": lambda: graph(node("Einsum", "x x", equation="->->ab,,c")),
    "an einsum of everything": lambda: graph(node("Einsum", "x x x x x x", equation="ab,cd,ef,gh,ij,kl->abcdefghijkl")),
    "a resize to the moon": lambda: graph(
        node("Resize", "x r r s"),
        constants=(tensor("s", [3, HUGE]), tensor("r", [], "float32")),
        shape=("batch", 6),
    ),
    "a window as large as the world": lambda: graph(
        node("MaxPool", "x", kernel_shape=(HUGE,), pads=(HUGE, HUGE)), shape=("batch", 3, 5)
    ),
    "a stride of nothing": lambda: graph(node("MaxPool", "x", kernel_shape=(2,), strides=(0,)), shape=("batch", 3, 5)),
    "groups of nothing": lambda: graph(
        node("Conv", "x w", group=0), constants=(unreadable("w", (4, 3, 1)),), shape=("batch", 3, 5)
    ),
    "an unknown operator": lambda: graph(node("Enigma", "x")),
    "a long chain": lambda: graph(
        node("Tanh", "x", "v0"),
        *(node("Tanh", f"v{i}", f"v{i + 1}") for i in range(30_000)),
        node("Identity", "v30000"),
    ),
    "ever more rows": lambda: graph(
        node("Concat", "x x", "v0", axis=0),
        *(node("Concat", f"v{i} v{i}", f"v{i + 1}", axis=0) for i in range(60)),
        node("Identity", "v60"),
    ),
    "ever more elements": lambda: graph(
        node("Concat", "x x", "v0", axis=1),
        *(node("Concat", f"v{i} v{i}", f"v{i + 1}", axis=1) for i in range(80)),
        node("Identity", "v80"),
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_graphs_get_a_verdict(name: str) -> None:
    (flow,) = proved(HOSTILE[name]()).outputs
    assert flow.verdict in ("undecided", "independent", "mixes", "position", "size")
    assert flow.verdict == "independent" or flow.why


def test_the_memory_stays_small() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("products of everything", "ever more rows", "too many samples along one axis", "an endless constant"):
        proved(HOSTILE[name]())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20, "a gibibyte"


def test_an_unknown_operator_spoils_only_what_depends_on_it() -> None:
    whole = graph(node("Enigma", "x", "z"), node("Tanh", "x", "y"))
    both = Graph(
        dialect="onnx",
        versions=whole.versions,
        inputs=whole.inputs,
        outputs=(GraphValue(name="y"), GraphValue(name="z")),
        nodes=whole.nodes,
    )
    one, other = prove(both).outputs
    assert one.verdict == "independent"
    assert (other.verdict, other.node) == ("undecided", "Enigma_z")
    assert "Enigma" in other.why


def test_another_dialect_is_undecided() -> None:
    (flow,) = prove(Graph(dialect="esperanto", outputs=(GraphValue(name="y"),))).outputs
    assert flow.verdict == "undecided"


@pytest.mark.parametrize("seed", range(60))
def test_scrambled_graphs_get_a_verdict(seed: int) -> None:
    """Operators with operands and attributes that other operators take."""
    chance = random.Random(seed)
    from bn_audit.flow.onnx_operators.table import ONNX

    keys = sorted(ONNX.handlers)
    constants = (
        tensor("i", [0, 1]),
        tensor("j", [[0], [1]]),
        tensor("k", 2),
        tensor("f", np.ones((6, 6)), "float32"),
        tensor("g", [1.5], "float32"),
        tensor("b", True, "bool"),
        unreadable("w", (6, 6, 3)),
    )
    values = ["x", *(constant.name for constant in constants)]
    values_of = {"axis": (0, 1, -1, 7), "axes": ((0,), (1, 0)), "k": (1,), "kernel_shape": ((1,), (3, 3)), "to": (1, 7)}
    nodes = []
    for index in range(30):
        domain, op = chance.choice(keys)
        inputs = tuple(chance.choice(["", *values]) for _ in range(chance.randrange(6)))
        attributes = {name: chance.choice(choices) for name, choices in values_of.items() if chance.random() < 0.4}
        outputs = tuple(f"v{index}_{i}" for i in range(chance.choice([1, 1, 2, 3])))
        nodes.append(Node(name=str(index), op=op, domain=domain, inputs=inputs, outputs=outputs, attributes=attributes))
        values += outputs
    nodes.append(node("Identity", values[-1]))
    proved(graph(*nodes, constants=constants, shape=chance.choice([("batch", 6), ("batch", 3, 6), (4, 6, 6, 2)])))
