"""The captured step's own random numbers: the published cipher, the right distributions, torch's seed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ppl_vae.compiler import native
from ppl_vae.compiler.graph import lower, prepare
from ppl_vae.compiler.rewrites import Setting
from ppl_vae.compiler.rewrites.noise import Noise
from tests.capture.helpers import needs_compiler
from tests.conftest import SIGMAS

pytestmark = needs_compiler

CPU = torch.device("cpu")
COUNT = 200_000


@pytest.fixture(autouse=True)
def compiled() -> None:
    native.library()  # what is traced here is run as it is


def cipher(key, counter, rounds=13):
    """Two words of 32 random bits for a counter under a key: Threefry-2x32, in Python's whole numbers."""
    words = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    x, y = ((one + two) % 2**32 for one, two in zip(counter, words))
    for number in range(rounds):
        x, turn = (x + y) % 2**32, (13, 15, 26, 6, 17, 29, 16, 24)[number % 8]
        y = ((y << turn | y >> (32 - turn)) % 2**32) ^ x
        if number % 4 == 3:
            block = number // 4 + 1
            x, y = (x + words[block % 3]) % 2**32, (y + words[(block + 1) % 3] + block) % 2**32
    return x, y


@pytest.mark.parametrize(
    ("rounds", "key", "counter", "expected"),
    [
        (13, (0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
        (13, (2**32 - 1,) * 2, (2**32 - 1,) * 2, (0xFD36D048, 0x2D17272C)),
        (13, (0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xBA3E4725, 0xF27D669E)),
        (20, (0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        (20, (0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
    ids=["13 zeros", "13 ones", "13 pi", "20 zeros", "20 pi"],
)
def test_the_cipher_is_the_published_one(rounds, key, counter, expected):
    assert cipher(key, counter, rounds) == expected


@pytest.mark.parametrize("count", [1, 37, 5000])
def test_compiled_it_gives_the_same_words(count):
    key = torch.tensor([-5, 2**31 - 1], dtype=torch.int32)
    found = native.threefry(key, 3, count)
    expected = zip(*(cipher((2**32 - 5, 2**31 - 1), (number, 3)) for number in range(count)))
    assert [[each % 2**32 for each in word] for word in found.tolist()] == [*map(list, expected)]


def test_without_the_library_torch_draws_as_it_does(monkeypatch):
    monkeypatch.setattr(native, "expected", lambda: False)
    graph = lower(lambda tensors: [torch.rand_like(tensors[0])], [torch.ones(3)], CPU, same_noise=False)
    torch.manual_seed(0)
    found = graph(torch.ones(3))[0]
    torch.manual_seed(0)
    assert torch.equal(found, torch.rand(3))


def test_where_our_code_does_not_compile_a_graph_is_made_again_without_it(monkeypatch):
    waited = []
    monkeypatch.setattr(native, "library", lambda path=None: waited.append(path))
    monkeypatch.setattr(native, "expected", lambda: not waited)
    run = prepare(
        lambda tensors: [torch.rand_like(tensors[0])], [torch.ones(3)], Setting(CPU, same_noise=False)
    )
    assert waited
    torch.manual_seed(0)
    (found,) = run(torch.ones(3))
    torch.manual_seed(0)
    assert torch.equal(found, torch.rand(3))


def draws(name, dtype):
    torch.manual_seed(0)
    noise = Noise(CPU)
    return getattr(noise, name)((COUNT,), dtype), getattr(noise, name)((COUNT,), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("name", "cumulative"),
    [("uniform", lambda x: x), ("normal", torch.special.ndtr)],
    ids=["uniform", "normal"],
)
def test_the_distribution_is_right(name, cumulative, dtype):
    x, other = draws(name, dtype)
    ranks = cumulative(x.double().sort().values)
    steps = torch.arange(COUNT + 1, dtype=torch.float64) / COUNT
    distance = torch.maximum((ranks - steps[:-1]).abs().max(), (ranks - steps[1:]).abs().max())
    # Kolmogorov: P(sqrt(n) D > 3.3) = 7e-10
    assert math.sqrt(COUNT) * distance < 3.3
    for first, second in [(x, other), (x[1:], x[:-1]), (x[256:], x[:-256])]:
        u, v = cumulative(first.double()) - 0.5, cumulative(second.double()) - 0.5
        assert abs(12 * (u * v).mean()) * math.sqrt(len(u)) < SIGMAS
    if name == "uniform":
        assert x.min() >= 0
        assert x.max() < 1
    else:
        assert x.isfinite().all()


def noisy(tensors):
    x, p = tensors
    return [
        torch.rand(3, 5),
        torch.randn(2, 5, dtype=torch.float64),
        torch.rand_like(x),
        torch.randn_like(x),
        torch.empty(7).normal_(2.0, 0.5),
        torch.empty(7).uniform_(-1.0, 1.0),
        torch.bernoulli(p),
        nn.functional.dropout(x, 0.25),
    ]


def test_torchs_random_operators_are_replaced_and_follow_its_seed():
    x, p = torch.ones(300, 400), torch.full((300, 400), 0.3, dtype=torch.float64)
    graph = lower(noisy, [x, p], CPU, same_noise=False)
    kinds = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    random = [kind for kind in kinds if torch.Tag.nondeterministic_seeded in getattr(kind, "tags", ())]
    assert [kind.name() for kind in random] == ["aten::randint.low"]
    torch.manual_seed(1)
    first, second = graph(x, p), graph(x, p)
    torch.manual_seed(1)
    again = graph(x, p)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert [each.dtype for each in first] == [each.dtype for each in noisy([x, p])]
    assert [each.shape for each in first] == [each.shape for each in noisy([x, p])]
    *_, uniform, bits, dropped = first
    assert uniform.min() < 0 < uniform.max() <= 1
    sigma = math.sqrt(x.numel())
    assert abs(bits.mean() - 0.3) < SIGMAS * math.sqrt(0.21) / sigma
    assert abs(dropped.mean() - 1) < SIGMAS * math.sqrt(0.25 / 0.75) / sigma
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])


def test_a_generator_of_ones_own_is_left_alone():
    generator = torch.Generator().manual_seed(3)
    noise = Noise(CPU)
    assert noise.operators()[torch.ops.aten.normal_.default](torch.empty(2), generator=generator) is (
        NotImplemented
    )
    rand_like = noise.operators()[torch.ops.aten.rand_like.default]
    assert rand_like(torch.empty(2, dtype=torch.bfloat16)) is NotImplemented
