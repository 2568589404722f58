"""`Split`: batches, passes, means and selections, for resident and streamed rows alike."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from ppl_vae.data import DataError, Split
from ppl_vae.data.rows import HostTensor, stream


def make(kind: str, **options) -> Split:
    tensor = torch.arange(10 * 2 * 3, dtype=torch.uint8).reshape(10, 1, 2, 3)
    y = torch.arange(10) % 3
    split = Split.from_tensor(tensor, y, **options)
    if kind == "streamed":
        split = Split(stream(HostTensor(tensor)), y, split.divisor, with_labels=split.with_labels)
    return split


@pytest.fixture(params=["resident", "streamed"])
def kind(request):
    return request.param


def test_what_it_is(kind):
    split = make(kind)
    assert (len(split), split.shape, split.device.type) == (10, (1, 2, 3), "cpu")
    assert split.resident == (kind == "resident")
    assert split.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert repr(split).startswith("Split(10, shape=(1, 2, 3), device='cpu'")
    assert ("streamed" in repr(split)) == (kind == "streamed")


def test_a_batch_is_scaled_float32_and_a_copy(kind):
    split = make(kind)
    (x,) = split.batch(torch.tensor([9, 0, 9]))
    assert x.dtype == torch.float32
    expected = torch.arange(60.0).reshape(10, 1, 2, 3)[[9, 0, 9]] / 255
    assert torch.equal(x, expected)
    x.zero_()
    assert torch.equal(split.batch(torch.tensor([9, 0, 9]))[0], expected)


def test_a_batch_of_floats_is_a_copy():
    x = torch.rand(4, 2)
    split = Split.from_tensor(x)
    split.tensors()[0].zero_()
    assert x.min() > 0
    streamed = Split(stream(HostTensor(x)), divisor=2.0)
    assert torch.equal(streamed.tensors()[0], x / 2)
    assert torch.equal(streamed.tensors()[0], x / 2)


def test_uint8_becomes_exactly_the_255th_parts():
    values = torch.arange(256, dtype=torch.uint8)[:, None]
    (x,) = Split.from_tensor(values).tensors()
    assert torch.equal(x, values.double().div(255).float())


def test_labels_come_with_the_batch_only_when_asked_for(kind):
    assert len(make(kind).batch(torch.tensor([1]))) == 1
    x, y = make(kind, labels=True).batch(torch.tensor([1, 2, 3]))
    assert (y.tolist(), y.dtype, len(x)) == ([1, 2, 0], torch.int64, 3)
    with pytest.raises(DataError, match="has no labels"):
        Split.from_tensor(torch.rand(3, 2), labels=True)


def test_a_pass_in_order_holds_every_row_once(kind):
    batches = list(make(kind).batches(4))
    assert [len(x) for (x,) in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([x for (x,) in batches]), make(kind).tensors()[0])
    assert [len(x) for (x,) in make(kind).batches(4, drop_last=True)] == [4, 4]
    assert [len(x) for (x,) in make(kind).batches(5, drop_last=True)] == [5, 5]
    assert [len(x) for (x,) in make(kind).batches(99)] == [10]


def test_a_shuffled_pass_follows_its_generator(kind):
    def one_pass(seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.cat([x for (x,) in make(kind).batches(3, shuffle_generator=generator)])

    first, again, other = one_pass(1), one_pass(1), one_pass(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    order = first[:, 0, 0, 0].argsort()
    assert torch.equal(first[order], make(kind).tensors()[0])


def test_a_pass_draws_nothing_from_the_global_generator(kind):
    before = torch.get_rng_state()
    list(make(kind).batches(3, shuffle_generator=torch.Generator().manual_seed(0)))
    assert torch.equal(before, torch.get_rng_state())


def test_a_pass_that_is_left_early_ends(kind):
    for (x,) in make(kind).batches(3):
        assert len(x) == 3
        break


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0: give at least 1"),
        ({"batch_size": 11, "drop_last": True}, "drops all 10 rows"),
    ],
)
def test_a_bad_batch_size_is_named_at_the_call(options, message):
    with pytest.raises(DataError, match=message):
        make("resident").batches(**options)


def test_the_mean_datum(kind, monkeypatch):
    expected = torch.arange(60.0, dtype=torch.float64).reshape(10, 1, 2, 3).mean(0) / 255
    monkeypatch.setattr("ppl_vae.data.array_checks.CHUNK", 6 * 4)  # three chunks
    mean = make(kind).mean()
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean, expected.float(), rtol=1e-7, atol=0)


def test_the_mean_is_summed_in_float64():
    x = torch.full((2**20, 1), 0.1)
    x[0] = 2.0**24
    exact = (2.0**24 + 0.1 * (2**20 - 1)) / 2**20
    assert Split.from_tensor(x).mean().item() == pytest.approx(exact, rel=1e-6)


def test_tensors_and_take(kind, monkeypatch):
    monkeypatch.setattr("ppl_vae.data.array_checks.CHUNK", 6 * 4)
    split = make(kind, labels=True)
    x, y = split.tensors()
    assert (x.shape, y.tolist()) == ((10, 1, 2, 3), split.labels.tolist())
    x, y = split.tensors(limit=5)
    assert (len(x), len(y)) == (5, 5)
    assert len(split.take(3)) == 3
    assert split.take(100) is split
    with pytest.raises(DataError, match="at least 1 row"):
        split.take(0)
    with pytest.raises(DataError, match=r"seed must be .* got -1"):
        split.take(3, seed=-1)


def test_take_is_a_seeded_random_subset(kind):
    split = make(kind, labels=True)
    rows = [split.take(4, seed=seed).labels.tolist() for seed in (0, 0, 1, 2)]
    assert rows[0] == rows[1]
    assert len({tuple(each) for each in rows}) == 3
    assert split.take(2).labels.tolist() == rows[0][:2]
    x, y = split.take(6).tensors()
    whole, labels = split.tensors()
    where = [int((whole == row).flatten(1).all(1).nonzero()[0]) for row in x]
    assert len(set(where)) == 6
    assert y.tolist() == labels[where].tolist()
    assert torch.equal(split.take(4, in_order=True).tensors()[0], whole[:4])


def test_rows_that_are_sorted_by_class_are_taken_from_every_class():
    split = Split.from_tensor(torch.rand(10_000, 2), torch.arange(10_000) // 1000)
    assert len(split.take(60).labels.unique()) == 10
    state = torch.get_rng_state()
    split.take(60)
    assert torch.equal(torch.get_rng_state(), state)


def test_selections_keep_rows_and_labels_together(kind):
    split = make(kind, labels=True)
    x, y = split.tensors()
    for rows, index in [
        (slice(2, 5), [2, 3, 4]),
        (slice(None, None, -3), [9, 6, 3, 0]),
        (slice(-2, None), [8, 9]),
        (torch.tensor([7, 1]), [7, 1]),
    ]:
        part = split[rows]
        assert torch.equal(part.tensors()[0], x[index])
        assert torch.equal(part.tensors()[1], y[index])
        assert torch.equal(part.labels, y[index])
    assert torch.equal(split[2:9][1:3].tensors()[0], x[3:5])


def test_a_part_does_not_carry_the_whole():
    big = Split.from_tensor(torch.zeros(10_000, 100, dtype=torch.uint8))
    assert len(pickle.dumps(big[:10])) < 10_000


@pytest.mark.parametrize("rows", [3, torch.tensor([True, False]), [1, 2]])
def test_other_selections_are_refused(rows):
    with pytest.raises(TypeError, match=r"split\[5:6\]"):
        make("resident")[rows]


def test_an_empty_split_is_refused(kind):
    with pytest.raises(DataError, match="empty"):
        make(kind)[10:]


def test_dynamic_rows_are_drawn_afresh_with_the_right_probabilities():
    x = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]).repeat(40_000, 1)
    split = Split(Split.from_tensor(x).rows, dynamic=True)
    first, second = split.tensors()[0], split.tensors()[0]
    assert not torch.equal(first, second)
    assert first.unique().tolist() == [0.0, 1.0]
    frequency = torch.cat([first, second]).double().mean(0)
    error = (x[0] * (1 - x[0]) / 80_000).sqrt()
    assert ((frequency - x[0]).abs() <= 4.5 * error + 1e-12).all()  # exact at 0 and at 1
    torch.testing.assert_close(split.mean(), x[0])  # the mean draws nothing


def test_dynamic_rows_follow_the_global_generator():
    split = Split(Split.from_tensor(torch.rand(50, 8)).rows, dynamic=True)
    torch.manual_seed(3)
    first = split.tensors()[0]
    torch.manual_seed(3)
    assert torch.equal(first, split.tensors()[0])


@pytest.mark.filterwarnings("ignore:Guards may run slower")  # torch, on Python 3.13.0 only
@pytest.mark.parametrize("dynamic", [True, False])
def test_a_batch_of_resident_rows_is_one_graph(dynamic):
    tensor = torch.randint(0, 256, (20, 6), dtype=torch.uint8)
    split = Split.from_tensor(tensor, torch.arange(20), labels=True)
    split = Split(split.rows, split.labels, split.divisor, dynamic, True)
    captured = torch.compile(split.batch, fullgraph=True, backend="eager")
    index = torch.tensor([3, 1, 3])
    torch.manual_seed(0)
    expected = split.batch(index)
    torch.manual_seed(0)
    for got, wanted in zip(captured(index), expected):
        assert torch.equal(got, wanted)


def test_float64_tensors_stay_float64_and_float32_is_kept_under_another_default(double):
    assert Split.from_tensor(torch.rand(3, 2)).tensors()[0].dtype == torch.float64
    assert Split.from_tensor(np.ones((3, 2))).mean().dtype == torch.float32
    assert make("resident").tensors()[0].dtype == torch.float32


def test_moving_to_the_same_device_copies_nothing():
    split = make("resident")
    assert split.to("cpu").rows.tensor.data_ptr() == split.rows.tensor.data_ptr()


def test_streamed_rows_can_be_read_into_memory(monkeypatch):
    monkeypatch.setattr("ppl_vae.data.array_checks.CHUNK", 6 * 4)
    split = make("streamed", labels=True)
    kept = split[1:9].in_memory()
    assert kept.resident
    assert kept.in_memory() is kept
    for got, wanted in zip(kept.tensors(), split[1:9].tensors()):
        assert torch.equal(got, wanted)


def test_rows_that_do_not_fit_on_a_device_are_streamed_to_it(monkeypatch):
    # the meta device stands in for a full GPU: only where the rows end up is looked at
    split = make("resident", labels=True)
    monkeypatch.setattr("ppl_vae.data.rows.free_memory", lambda device: 2 * 60 - 1)
    moved = split.to("meta")
    assert not moved.resident
    assert (moved.device.type, moved.labels.device.type) == ("meta", "cpu")
    x, y = moved.batch(torch.tensor([1, 2]))
    assert (x.device.type, y.device.type, x.shape) == ("meta", "meta", (2, 1, 2, 3))
    monkeypatch.setattr("ppl_vae.data.rows.free_memory", lambda device: 2 * 60)
    moved = split.to("meta")
    assert moved.resident
    assert moved.labels.device.type == "meta"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("dynamic", [True, False])
def test_a_batch_on_cuda_neither_waits_nor_moves(dynamic):
    split = make("resident", labels=True).to("cuda")
    split = Split(split.rows, split.labels, split.divisor, dynamic, True)
    index = torch.tensor([3, 1, 3], device="cuda")
    split.batch(index)
    torch.cuda.set_sync_debug_mode("error")
    try:
        x, y = split.batch(index)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert x.device == y.device == split.device
    assert y.tolist() == [0, 1, 0]
    if not dynamic:
        assert torch.equal(x.cpu(), make("resident").batch(index.cpu())[0])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_streamed_rows_end_on_cuda():
    split = make("streamed", labels=True).to("cuda")
    assert not split.resident
    generator = torch.Generator().manual_seed(0)
    batches = list(split.batches(3, shuffle_generator=generator))
    assert all(x.is_cuda and y.is_cuda for x, y in batches)
    x = torch.cat([x for x, _ in batches]).cpu()
    assert torch.equal(x[x[:, 0, 0, 0].argsort()], make("resident").tensors()[0])
    assert split.in_memory().rows.tensor.is_cuda
