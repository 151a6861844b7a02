"""Runs of live modules: the answers are torch's own, and nothing of the model or the process changes."""

from __future__ import annotations

import random
from collections import namedtuple
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
import torch
from runners.torch_networks import LIVE, Counter, convnet, images, training
from torch import Tensor, nn

from bn_audit.errors import RunError, UnsupportedRunError
from bn_audit.runners._torch.opening import opened_module
from bn_audit.runners.torch_module import session_for
from bn_audit.subject.run import Job


def test_answers_are_those_of_the_model() -> None:
    model, batch = convnet(), images()
    with torch.no_grad():
        expected = model(torch.from_numpy(batch)).numpy()
    with session_for(model, LIVE) as session:
        run = session.run({"input": batch})
    np.testing.assert_array_equal(run.outputs[0]["output"], expected)
    assert run.changed == ()
    assert len(run.seconds) == 1


def test_consecutive_batches_run_on_one_copy_and_the_next_run_on_a_fresh_one() -> None:
    model, batch = nn.Sequential(Counter()), {"input": np.ones((2, 1), np.float32)}
    with session_for(model, LIVE) as session:
        first = session.run(batch, batch)
        again = session.run(batch)
    assert [float(outputs["output"][0, 0]) for outputs in first.outputs] == pytest.approx([1.1, 1.2])
    assert float(again.outputs[0]["output"][0, 0]) == pytest.approx(1.1)
    assert model[0].calls == 0


def test_moved_statistics_are_named_and_gone_in_the_next_run() -> None:
    model = training(1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with session_for(model, LIVE) as session:
        first, second = session.run({"input": images()}), session.run({"input": images()})
    assert first.changed == second.changed == ("1.running_mean", "1.running_var", "1.num_batches_tracked")
    assert set(first.changed) <= set(session.state_names)
    np.testing.assert_array_equal(first.outputs[0]["output"], second.outputs[0]["output"])
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class WritesWeights(nn.Module):
    """Clips its own weights by way of ``.data``, which counts no write."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.linear.weight.data.mul_(0.5)
        return self.linear(x)


def test_a_parameter_that_a_run_writes_is_named_and_restored() -> None:
    model, batch = WritesWeights(), {"x": np.ones((2, 3), np.float32)}
    with session_for(model, LIVE) as session:
        runs = [session.run(batch) for _ in range(3)]
    assert [run.changed for run in runs] == [("linear.weight",)] * 3
    for run in runs[1:]:
        np.testing.assert_array_equal(run.outputs[0]["output"], runs[0].outputs[0]["output"])


class Refuses(nn.Module):
    """Cannot be copied, and moves a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1))

    def __deepcopy__(self, memo: object) -> nn.Module:
        raise TypeError("holds a connection")

    def forward(self, x: Tensor) -> Tensor:
        self.total += x.sum()
        return x + self.total


def test_a_live_module_that_cannot_be_copied_is_refused() -> None:
    with pytest.raises(UnsupportedRunError, match="holds a connection"), session_for(Refuses(), LIVE):
        pass


def test_tensors_of_a_module_that_cannot_be_copied_are_put_back() -> None:
    module, batch = Refuses(), {"x": np.ones((2, 1), np.float32)}
    with opened_module(module, LIVE, runner="torch", remarks=()) as session:
        runs = [session.run(batch) for _ in range(2)]
        assert session.in_mode(training=True) is None
        assert len(session.remarks) == 1
        assert "cannot be copied (TypeError: holds a connection)" in session.remarks[0]
    assert [run.changed for run in runs] == [("total",)] * 2
    np.testing.assert_array_equal(runs[0].outputs[0]["output"], runs[1].outputs[0]["output"])
    assert module.total.item() == 0


def test_modes_hooks_generators_and_threads_are_left_as_found() -> None:
    model = training(4)
    calls: list[int] = []
    handle = model[0].register_forward_hook(lambda *_: calls.append(1))
    modes = [module.training for module in model.modules()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    threads = torch.get_num_threads()
    base = {"input": images()}
    with session_for(model, Job(source="", format="live-module", threads=1)) as session:
        assert session.threads == 1
        session.run(base, seed=3)
        session.localise(base, base, base, 0)
        session.calls(base)
        assert len(calls) > 0, "hooks of the user run"
    assert torch.get_num_threads() == threads
    assert [module.training for module in model.modules()] == modes
    assert list(model[0]._forward_hooks) == [handle.id]
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.is_grad_enabled()


def test_the_seed_decides_what_is_drawn() -> None:
    model = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5))
    batch = {"input": np.ones((3, 8), np.float32)}
    with session_for(model, LIVE) as session:
        one, same, other = (session.run(batch, seed=seed).outputs[0]["output"] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_double_precision_is_that_of_the_converted_model() -> None:
    model, batch = convnet(), images()
    with session_for(model, LIVE) as session:
        run = session.run({"input": batch}, float64=True)
        single = session.run({"input": batch})
    with torch.no_grad():
        expected = convnet().double()(torch.from_numpy(batch).double()).numpy()
    assert run.outputs[0]["output"].dtype == np.float64
    np.testing.assert_allclose(run.outputs[0]["output"], expected, rtol=1e-12)
    assert not run.low_precision
    assert single.outputs[0]["output"].dtype == np.float32


class CastsInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).float().softmax(-1).to(x.dtype)


class MakesPositions(nn.Module):
    """Builds a table in single precision, the same for every batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sin(torch.arange(x.shape[1]).float())


@pytest.mark.parametrize(("model", "low"), [(CastsInside(), True), (MakesPositions(), False)])
def test_operators_that_work_in_less_than_double_are_noticed(model: nn.Module, low: bool) -> None:
    with session_for(model, LIVE) as session:
        run = session.run({"x": np.ones((3, 4), np.float32)}, float64=True)
    assert run.low_precision is low


def test_a_model_with_a_type_written_into_it_does_not_run_in_double() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ torch.ones(4, 4)

    batch = {"x": np.ones((2, 4), np.float32)}
    with session_for(Fixed(), LIVE) as session:
        session.run(batch)
        with pytest.raises(UnsupportedRunError, match="in double precision: RuntimeError"):
            session.run(batch, float64=True)


def test_weights_move_by_one_unit_in_the_last_place() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    batch = {"input": np.eye(4, dtype=np.float32)}
    with session_for(model, LIVE) as session:
        plain = session.run(batch).outputs[0]["output"]
        moved = session.run(batch, weight_jitter=1).outputs[0]["output"]
        again = session.run(batch, weight_jitter=1).outputs[0]["output"]
        other = session.run(batch, weight_jitter=2).outputs[0]["output"]
    assert np.array_equal(moved, again)
    assert not np.array_equal(moved, other)
    assert 0 < np.abs(moved - plain).max() < 4e-7


def test_equal_operators_give_equal_traces() -> None:
    with session_for(convnet(), LIVE) as session:
        one, other = (session.run({"input": images(seed=seed)}, traced=True) for seed in (0, 1))
        smaller = session.run({"input": images(4)}, traced=True)
        plain = session.run({"input": images()})
    assert one.trace == other.trace != smaller.trace
    assert one.trace is not None
    assert plain.trace is None
    np.testing.assert_array_equal(plain.outputs[0]["output"], one.outputs[0]["output"])


def test_nested_tensors_have_no_trace() -> None:
    class Nests(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nested.nested_tensor(list(x)).to_padded_tensor(0.0)

    with session_for(Nests(), LIVE) as session:
        assert session.run({"x": np.ones((2, 3), np.float32)}, traced=True).trace is None


Pair = namedtuple("Pair", ["logits", "mask"])


@dataclass
class Answer:
    score: Tensor
    parts: list[Tensor]


class Everything(nn.Module):
    def forward(self, x: Tensor) -> dict[str, object]:
        return {
            "pair": Pair(x, x > 0),
            "answer": Answer(score=x.to(torch.bfloat16), parts=[x.half(), x.long()]),
            "complex": torch.complex(x, x),
            "sparse": x.to_sparse(),
            "nested": torch.nested.nested_tensor([x[0], x[0, :1]]),
            "float8": x.to(torch.float8_e4m3fn),
            "number": 3,
            "text": "no",
            "nothing": None,
        }


def test_outputs_of_every_kind_have_names_and_keep_their_bits() -> None:
    batch = np.array([[1.5, 2.0], [-1.0, 0.25]], np.float32)
    with session_for(Everything(), LIVE) as session:
        outputs = session.run({"x": batch}).outputs[0]
    assert list(outputs) == [
        *("pair.logits", "pair.mask", "answer.score", "answer.parts.0", "answer.parts.1"),
        *("complex", "sparse", "nested", "float8", "number"),
    ]
    assert outputs["pair.mask"].dtype == np.bool_
    assert outputs["answer.score"].dtype == ml_dtypes.bfloat16
    assert outputs["float8"].dtype == ml_dtypes.float8_e4m3fn
    assert outputs["answer.parts.0"].dtype == np.float16
    np.testing.assert_array_equal(outputs["answer.parts.1"], batch.astype(np.int64))
    np.testing.assert_array_equal(outputs["complex"], batch + 1j * batch)
    np.testing.assert_array_equal(outputs["sparse"], batch)
    np.testing.assert_array_equal(outputs["nested"], [[1.5, 2.0], [1.5, 0.0]])
    np.testing.assert_array_equal(outputs["answer.score"].astype(np.float32), batch)


def test_bfloat16_inputs_and_models() -> None:
    model = convnet().bfloat16()
    batch = images().astype(ml_dtypes.bfloat16)
    with torch.no_grad():
        expected = model(torch.from_numpy(images()).bfloat16()).float().numpy()
    with session_for(convnet(), Job(source="", format="live-module", dtype="bfloat16")) as session:
        assert session.dtype == "bfloat16"
        assert next(session.input_candidates())[0].dtype == "bfloat16"
        output = session.run({"input": batch}).outputs[0]["output"]
    np.testing.assert_array_equal(output.astype(np.float32), expected)


def test_a_model_may_write_into_its_input() -> None:
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2)

    batch = np.ones((2, 2), np.float32)
    with session_for(Writes(), LIVE) as session:
        session.run({"x": batch})
    assert (batch == 1).all()


def test_members_of_dicts_lists_and_keywords_are_passed_by_dotted_names() -> None:
    class Nested(nn.Module):
        def forward(self, batch: dict[str, Tensor], pair: list[object], *, scale: Tensor) -> Tensor:
            return (batch["a"] + batch["b"] * pair[0] - pair[1]) * scale

    values = {name: np.full((2, 1), value, np.float32) for name, value in zip("abcde", range(1, 6), strict=True)}
    given = dict(zip(("batch.a", "batch.b", "pair.0", "pair.1", "scale"), values.values(), strict=True))
    with session_for(Nested(), LIVE) as session:
        output = session.run(given).outputs[0]["output"]
    np.testing.assert_array_equal(output, np.full((2, 1), (1 + 2 * 3 - 4) * 5))


def test_a_list_of_samples_is_passed_as_one() -> None:
    class Detector(nn.Module):
        def forward(self, images: list[Tensor]) -> Tensor:
            assert isinstance(images, list)
            return torch.stack([image.mean() for image in images])

    with session_for(Detector(), LIVE) as session:
        assert session.run({"images": images()}).outputs[0]["output"].shape == (5,)


class Detector(nn.Module):
    """Answers with a dict for each image, of as many boxes as it sees."""

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        counts = [int(image[0, 0, 0] > 0) + 1 for image in images]
        return [
            {"boxes": image[0, :count, :4], "size": image.sum()} for image, count in zip(images, counts, strict=True)
        ]


def test_answers_for_each_sample_are_put_together() -> None:
    batch = np.abs(images(3))
    batch[1] *= -1
    with session_for(Detector(), LIVE) as session:
        outputs = session.run({"images": batch}).outputs[0]
        single = session.run({"images": batch[:1]}).outputs[0]
    assert (outputs["boxes"].shape, outputs["size"].shape) == ((3, 128, 4), (3,))
    np.testing.assert_array_equal(outputs["boxes"][0, :2], batch[0, 0, :2, :4])
    np.testing.assert_array_equal(outputs["boxes"][1, :1], batch[1, 0, :1, :4])
    assert not outputs["boxes"][1, 1:].any()
    assert single["size"].shape == (1,)


def test_errors_are_one_line_with_their_type() -> None:
    with session_for(convnet(), LIVE) as session, pytest.raises(RunError) as caught:
        session.run({"input": np.zeros((2, 4, 8, 8), np.float32)})
    assert str(caught.value).startswith("RuntimeError: Given groups=1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_running_out_of_memory_is_named(error: Exception) -> None:
    class Greedy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise error

    with session_for(Greedy(), LIVE) as session, pytest.raises(RunError, match=r"^out of memory"):
        session.run({"x": np.zeros(1, np.float32)})


def test_an_exit_inside_the_model_is_its_error() -> None:
    class Leaves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise SystemExit(3)

    with session_for(Leaves(), LIVE) as session, pytest.raises(RunError, match="SystemExit: 3"):
        session.run({"x": np.zeros(1, np.float32)})


def test_modes_are_set_on_a_copy() -> None:
    model = training(1, 4)
    batch = {"input": images()}
    with session_for(model, LIVE) as session:
        assert session.norm_paths == ("1", "4")
        first = session.in_mode(training=False, paths=["1"])
        whole = session.in_mode(training=True)
        assert first is not None and whole is not None
        assert first.run(batch).changed == ("4.running_mean", "4.running_var", "4.num_batches_tracked")
        assert len(whole.run(batch).changed) == 6
        assert len(session.run(batch).changed) == 6
    assert [model[1].training, model[4].training, model[0].training] == [True, True, False]


def test_what_autograd_made_does_not_hinder_copies() -> None:
    torch.manual_seed(0)
    with pytest.warns(FutureWarning, match="deprecated"):
        model = torch.nn.utils.weight_norm(nn.Linear(3, 2))
    batch = np.ones((2, 3), np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(batch)).numpy()
    with session_for(model, LIVE) as session:
        np.testing.assert_array_equal(session.run({"input": batch}).outputs[0]["output"], expected)
        assert session.remarks == ()


def test_a_missing_gpu_is_said() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with (
        pytest.raises(RunError, match="torch sees no GPU here"),
        session_for(convnet(), Job(source="", format="live-module", device="cuda")),
    ):
        pass
