"""Queries against the linear-Gaussian oracle, and on pairs with several sites,
plates and discrete latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae import Pair, models, queries
from ppl_vae.core.sites import PairError

SIGMA = 4.5


class ExactGuide(nn.Module):
    """The linear-Gaussian model's own posterior."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.source = [model]  # in a list: the parameters belong to the model

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", self.source[0].posterior(x))


class Program(nn.Module):
    """A program from a function of the module and the batch, with a net that has a mode to restore."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.drop = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm1d(2).eval()
        self.weight = nn.Parameter(torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(2, 3))

    def forward(self, *batch: Tensor) -> Any:
        return self.function(self, *batch)


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(default)


def linear() -> tuple[Pair, Tensor]:
    model = models.LinearGaussian(latent_dim=2, data_dim=4, noise=0.5)
    nn.init.normal_(model.bias)
    x = torch.randn(6, 4)
    return Pair(model, ExactGuide(model), example=(x,)), x


def chain() -> tuple[Pair, Tensor]:
    """z2 -> z1 -> x in the model, z1 -> z2 in the guide."""

    def model(self: Program, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            z1 = pyro.sample("z1", dist.Normal(3 * z2, 0.1).to_event(1))
            pyro.deterministic("double", 2 * z1)
            pyro.factor("nudge", z1.sum(-1))
            pyro.sample("x", dist.Normal(z1 @ self.weight, 1.0).to_event(1), obs=x)

    def guide(self: Program, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(self.drop(x)[:, :2], 0.1).to_event(1))
            pyro.sample("z2", dist.Normal(z1 / 3 + 1, 0.2).to_event(1))

    x = torch.randn(5, 3)
    return Pair(Program(model), Program(guide), example=(x,)), x


def series() -> tuple[Pair, Tensor]:
    """A latent for each datum, one for each of its 3 time steps, and one for all data."""

    def model(self: Program, x: Tensor) -> None:
        shift = pyro.sample("shift", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            with pyro.plate("time", 3, dim=-2):
                step = pyro.sample("step", dist.Normal(z.sum(-1), 1.0))
                loc = step.unsqueeze(-1) + z + shift
                pyro.sample("x", dist.Normal(loc, 0.1).to_event(1), obs=x.transpose(0, 1))

    def guide(self: Program, x: Tensor) -> None:
        pyro.sample("shift", dist.Normal(x.new_zeros(2), 0.1).to_event(1))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x.mean(1), 0.1).to_event(1))
            with pyro.plate("time", 3, dim=-2):
                pyro.sample("step", dist.Normal(x.sum(-1).T, 0.1))

    x = torch.randn(5, 3, 2)
    return Pair(Program(model), Program(guide), example=(x,)), x


def labelled() -> tuple[Pair, tuple[Tensor, Tensor]]:
    """A class k, a switch s, an observed label y that x hangs on, and an input that is not a site."""

    def model(self: Program, x: Tensor, y: Tensor) -> None:
        table = torch.tensor([[0.0, 0.0, 0.0], [10.0, 10.0, 10.0]])
        with pyro.plate("data", len(x), dim=-1):
            k = pyro.sample("k", dist.Categorical(x.new_ones(2)))
            s = pyro.sample("s", dist.Bernoulli(x.new_full((), 0.5)))
            label = pyro.sample("y", dist.Categorical(x.new_ones(4)), obs=y)
            loc = table[k] + 100 * label.unsqueeze(-1) + 1000 * s.unsqueeze(-1)
            pyro.sample("x", dist.Normal(loc, 0.1).to_event(1), obs=x)

    def guide(self: Program, x: Tensor, y: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            logits = torch.stack([-x[:, 0], x[:, 0]], -1)
            pyro.sample("k", dist.Categorical(logits=logits))
            pyro.sample("s", dist.Bernoulli(torch.full((len(x),), 0.8)))

    x, y = torch.tensor([[-20.0, 0, 0], [20.0, 0, 0], [20.0, 1, 1]]), torch.tensor([1, 2, 3])
    return Pair(Program(model), Program(guide), example=(x, y)), (x, y)


def decoded(pair: Pair, z: Tensor) -> Tensor:
    return z @ pair.model.weight.T + pair.model.bias


def test_encode_gives_the_exact_posterior() -> None:
    pair, x = linear()
    posterior = pair.model.posterior(x)
    encoded = queries.encode(pair, x, num_samples=4000, seed=1)
    torch.testing.assert_close(encoded.mean, posterior.mean, rtol=1e-12, atol=1e-12)
    assert encoded.latent.shape == (4000, 6, 2)
    assert not encoded.values
    error = posterior.variance.sqrt() / math.sqrt(4000)
    assert ((encoded.latent.mean(0) - posterior.mean).abs() < SIGMA * error).all()
    assert queries.encode(pair, x).latent.shape == (6, 2)


def test_samples_have_the_moments_of_the_model() -> None:
    pair, _ = linear()
    n = 20000
    draws = queries.sample(pair, n, seed=2)
    weight, bias = pair.model.weight.detach(), pair.model.bias.detach()
    covariance = weight @ weight.T + 0.25 * torch.eye(4)
    spread = covariance.diagonal()
    assert ((draws.value.mean(0) - bias).abs() < SIGMA * (spread / n).sqrt()).all()
    error = ((spread[:, None] * spread + covariance**2) / n).sqrt()
    assert ((draws.value.T.cov() - covariance).abs() < SIGMA * error).all()
    torch.testing.assert_close(draws.mean, decoded(pair, draws.latent))


def test_decode_is_the_decoder() -> None:
    pair, _ = linear()
    z = torch.randn(2, 3, 5, 2)
    draws = queries.decode(pair, z)
    assert draws.value.shape == (2, 3, 5, 4)
    torch.testing.assert_close(draws.mean, decoded(pair, z))
    torch.testing.assert_close(draws.latent, z)
    torch.testing.assert_close(queries.decode(pair, {"z": z[0, 0]}).mean, decoded(pair, z[0, 0]))
    torch.testing.assert_close(queries.decode(pair, z[0, 0].float().numpy()).mean, draws.mean[0, 0])


def test_reconstruct_replays_the_guide() -> None:
    pair, x = linear()
    draws = queries.reconstruct(pair, x, num_samples=3000, seed=3)
    assert draws.value.shape == (3000, 6, 4)
    torch.testing.assert_close(draws.mean, decoded(pair, draws.latent))
    posterior, weight = pair.model.posterior(x), pair.model.weight
    variance = (weight @ posterior.covariance_matrix @ weight.T).diagonal(dim1=-2, dim2=-1) + 0.25
    gap = draws.value.mean(0) - decoded(pair, posterior.mean)
    assert (gap.abs() < SIGMA * (variance / 3000).sqrt()).all()
    assert queries.reconstruct(pair, x).value.shape == (6, 4)


@pytest.mark.parametrize("method", ["linear", "spherical"])
def test_interpolation_runs_between_the_means(method: Any) -> None:
    pair, x = linear()
    draws = queries.interpolate(pair, x[:3], x[3:], steps=5, method=method)
    assert draws.value.shape == (5, 3, 4)
    means = pair.model.posterior(x).mean
    ends = decoded(pair, means)
    torch.testing.assert_close(draws.mean[[0, -1]], torch.stack([ends[:3], ends[3:]]))
    torch.testing.assert_close(draws.mean, decoded(pair, draws.latent))
    if method == "linear":
        torch.testing.assert_close(draws.latent[2], (means[:3] + means[3:]) / 2)


def identity() -> Pair:
    """A pair whose guide's mean is x itself."""

    def model(self: Program, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.1).to_event(1), obs=x)

    def guide(self: Program, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x, 0.1).to_event(1))

    return Pair(Program(model), Program(guide), example=(torch.zeros(1, 2),))


def test_spherical_path() -> None:
    x0 = torch.tensor([[1.0, 0], [2.0, 0], [0.0, 0], [1.0, 1], [1.0, 0], [0.0, 0]])
    x1 = torch.tensor([[0.0, 1], [0.0, 2], [1.0, 1], [2.0, 2], [-1.0, 0], [0.0, 0]])
    path = queries.interpolate(identity(), x0, x1, steps=5, method="spherical").mean
    norm = path.norm(dim=-1)
    torch.testing.assert_close(norm[:, 0], torch.ones(5))
    torch.testing.assert_close(norm[:, 1], torch.full((5,), 2.0))
    angle = torch.atan2(path[:, 0, 1], path[:, 0, 0])
    torch.testing.assert_close(angle, torch.linspace(0, math.pi / 2, 5))
    t = torch.linspace(0, 1, 5)[:, None, None]
    straight = (1 - t) * x0[2:] + t * x1[2:]  # a zero end, parallel, opposite, both zero
    torch.testing.assert_close(path[:, 2:], straight)


def test_traverse_moves_one_dimension() -> None:
    pair, x = linear()
    result = queries.traverse(pair, x, values=[-1, 0, 4])
    assert result.mean.shape == (2, 3, 6, 4)
    assert (result.site, result.dims, result.positions.tolist()) == ("z", (0, 1), [-1, 0, 4])
    expected = pair.model.posterior(x).mean.expand(2, 3, 6, 2).clone()
    for dim in range(2):
        expected[dim, ..., dim] = torch.tensor([-1.0, 0, 4])[:, None]
    torch.testing.assert_close(result.latent, expected)
    torch.testing.assert_close(result.mean, decoded(pair, expected))
    only = queries.traverse(pair, x, dims=[1], span=2, steps=5)
    assert only.positions.tolist() == [-2, -1, 0, 1, 2]
    assert only.value.shape == (1, 5, 6, 4)


def test_several_sites_follow_the_hierarchy() -> None:
    pair, x = chain()
    encoded = queries.encode(pair, x, num_samples=3, seed=0)
    torch.testing.assert_close(encoded.means["z1"], x[:, :2])
    torch.testing.assert_close(encoded.means["z2"], x[:, :2] / 3 + 1)
    assert encoded.latents["z2"].shape == (3, 5, 2)

    draws = queries.reconstruct(pair, x, num_samples=3, seed=0)
    assert set(draws.latents) == {"z1", "z2"}
    assert set(draws.values) == {"x"}
    torch.testing.assert_close(draws.latents["z1"], encoded.latents["z1"])  # the same seed, the same draws
    torch.testing.assert_close(draws.mean, draws.latents["z1"] @ pair.model.weight)

    z2 = torch.randn(400, 2)
    draws = queries.decode(pair, {"z2": z2}, seed=0)
    assert (draws.latents["z1"] - 3 * z2).abs().max() < 0.1 * 5.5  # 800 normals, drawn given z2
    assert (draws.latents["z1"] - 3 * z2).std() > 0.05
    wide = queries.decode(pair, {"z1": torch.randn(7, 5, 2), "z2": torch.zeros(5, 2)})
    assert wide.value.shape == (7, 5, 3)
    assert wide.latents["z2"].shape == (7, 5, 2)


def test_interpolate_and_traverse_several_sites() -> None:
    pair, x = chain()
    centre = queries.encode(pair, x).means
    both = queries.interpolate(pair, x[:2], x[2:4], steps=3)
    for name in ("z1", "z2"):
        torch.testing.assert_close(both.latents[name][1], (centre[name][:2] + centre[name][2:4]) / 2)
    one = queries.interpolate(pair, x[:2], x[2:4], steps=3, site="z2")
    torch.testing.assert_close(one.latents["z1"], centre["z1"][:2].expand(3, 2, 2))
    held = queries.traverse(pair, x, "z2", dims=[0], values=[-5, 5])
    torch.testing.assert_close(held.mean[0, 0], held.mean[0, 1])  # z1, which x hangs on, stays
    free = queries.traverse(pair, x, "z2", dims=[0], values=[-5, 5], free=["z1"], seed=0)
    assert ((free.latents["z1"][0, :, :, 0] - torch.tensor([[-15.0], [15.0]])).abs() < 0.55).all()


def test_inner_plates_and_global_latents_keep_their_layout() -> None:
    pair, x = series()
    draws = queries.sample(pair, 4, seed=0)
    assert {name: tuple(value.shape) for name, value in draws.latents.items()} == {
        "shift": (2,),
        "z": (4, 2),
        "step": (3, 4),
    }
    assert draws.value.shape == (3, 4, 2)
    draws = queries.reconstruct(pair, x, num_samples=7, seed=0)
    assert {name: tuple(value.shape) for name, value in draws.latents.items()} == {
        "shift": (7, 2),
        "z": (7, 5, 2),
        "step": (7, 3, 5),
    }
    latents = draws.latents
    expected = latents["step"].unsqueeze(-1) + latents["z"].unsqueeze(1) + latents["shift"][:, None, None]
    torch.testing.assert_close(draws.mean, expected)
    again = queries.decode(pair, draws.latents)
    torch.testing.assert_close(again.mean, expected)
    torch.testing.assert_close(again.latents["z"], latents["z"])
    path = queries.interpolate(pair, x[:2], x[2:4], steps=6)
    assert path.mean.shape == (6, 3, 2, 2)
    swing = queries.traverse(pair, x, "step", steps=2)
    assert swing.mean.shape == (1, 2, 3, 5, 2)
    torch.testing.assert_close(swing.latents["step"][0, 1], torch.full((3, 5), 3.0))
    assert queries.traverse(pair, x, "shift", steps=2).mean.shape == (2, 2, 3, 5, 2)


def test_discrete_latents() -> None:
    pair, (x, y) = labelled()
    encoded = queries.encode(pair, x, y)
    assert encoded.means["k"].tolist() == [0, 1, 1]
    torch.testing.assert_close(encoded.means["s"], torch.full((3,), 0.8))
    path = queries.interpolate(pair, (x[:1], y[:1]), (x[1:2], y[1:2]), steps=4, given=["y"])
    assert path.latents["k"].flatten().tolist() == [0, 0, 1, 1]
    assert path.means["x"][:, 0, 0].tolist() == [1100, 1100, 1110, 1110]  # at x0's label
    assert queries.decode(pair, {"k": torch.tensor([1, 0]), "s": torch.zeros(2)}).means["x"].shape == (2, 3)
    with pytest.raises(ValueError, match="'k' is discrete"):
        queries.traverse(pair, (x, y), "k")


def test_given_sites_are_held() -> None:
    pair, (x, y) = labelled()
    draws = queries.sample(pair, 5, like=(x, y), given=["y"], seed=0)
    assert draws.values["y"].tolist() == [1, 2, 3, 1, 2]
    assert ((draws.means["x"][:, 0] % 1000) // 100).tolist() == [1, 2, 3, 1, 2]
    torch.testing.assert_close(draws.means["y"], draws.values["y"])  # a Categorical has no mean
    draws = queries.reconstruct(pair, x, y, num_samples=2, given=("y",), seed=0)
    assert draws.values["y"].tolist() == [[1, 2, 3], [1, 2, 3]]
    free = queries.reconstruct(pair, x, y, num_samples=200, seed=0)
    assert set(free.values["y"].unique().tolist()) == {0, 1, 2, 3}
    fixed = queries.decode(pair, {"k": torch.ones(3, dtype=torch.long)}, like=(x, y), given=["y"])
    assert fixed.values["y"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("given", [torch.tensor(math.nan), 3, [1], None], ids=repr)
def test_what_names_no_sites_to_hold_is_refused(given: Any) -> None:
    pair, (x, y) = labelled()
    for ask in (
        lambda: queries.sample(pair, 2, like=(x, y), given=given),
        lambda: queries.reconstruct(pair, x, y, given=given),
        lambda: queries.decode(pair, {"k": torch.ones(3, dtype=torch.long)}, like=(x, y), given=given),
    ):
        with pytest.raises(ValueError, match="given names observed sites, such as"):
            ask()


def test_a_guide_without_a_mean_is_averaged() -> None:
    def model(self: Program, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide(self: Program, x: Tensor) -> None:
        base = dist.Normal(x, 0.5)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.TransformedDistribution(base, [dist.transforms.TanhTransform()]))

    pair = Pair(Program(model), Program(guide))
    x = torch.zeros(300)
    means = queries.encode(pair, x, seed=0).mean
    assert 0 < means.abs().max() < SIGMA * 0.5 / math.sqrt(100)


def test_nothing_is_left_behind() -> None:
    pair, x = chain()
    pair.train()
    pair.guide.frozen.eval()
    modes = [module.training for module in pair.modules()]
    seen: list[bool] = []
    hook = pair.guide.drop.register_forward_hook(lambda module, *_: seen.append(module.training))
    asked: list[Callable[[int | None], Any]] = [
        lambda seed: queries.sample(pair, 2, seed=seed),
        lambda seed: queries.encode(pair, x, num_samples=2, seed=seed),
        lambda seed: queries.reconstruct(pair, x, num_samples=2, seed=seed),
        lambda seed: queries.decode(pair, {"z2": torch.zeros(2, 2)}, seed=seed),
        lambda seed: queries.interpolate(pair, x[:1], x[1:2], seed=seed),
        lambda seed: queries.traverse(pair, x, "z1", seed=seed),
    ]
    for ask in asked:
        before = torch.get_rng_state()
        first, second = ask(5), ask(5)
        assert torch.equal(torch.get_rng_state(), before)
        for part in ("latents", "values", "means"):
            for name, value in getattr(first, part).items():
                assert torch.equal(value, getattr(second, part)[name])
                assert not value.requires_grad
        ask(None)
        assert not torch.equal(torch.get_rng_state(), before)
    hook.remove()
    assert seen
    assert not any(seen)
    with pytest.raises(ValueError, match="no latent site"):
        queries.decode(pair, {"z": x}, seed=0)
    assert [module.training for module in pair.modules()] == modes


def test_queries_agree_with_a_handler_by_hand() -> None:
    pair, x = linear()
    torch.manual_seed(7)
    trace = poutine.trace(pair.guide).get_trace(x)
    with torch.no_grad():
        model = poutine.replay(poutine.uncondition(pair.model), trace=trace)
        by_hand = poutine.trace(model).get_trace(x).nodes["x"]["value"]
    assert torch.equal(queries.reconstruct(pair, x, seed=7).value, by_hand)


LINEAR_MISTAKES: list[tuple[Callable[[Pair, Tensor], Any], str]] = [
    (lambda p, x: queries.sample(p, 0), "n must be a positive whole number, got 0"),
    (lambda p, x: queries.sample(p, 2, given=["x"]), "needs the data to hold"),
    (lambda p, x: queries.sample(p, 2, like=x, given=["z"]), r"observed sites \['x'\], got \['z'\]"),
    (lambda p, x: queries.sample(p, 2, like=x, given="x"), r"given=\['x'\]"),
    (lambda p, x: queries.reconstruct(p, x[0]), r"expected a batch of shape \(n, 4\), got \(4\,\)"),
    (lambda p, x: queries.reconstruct(p, x, x), "batches are 1 tensors, got 2"),
    (lambda p, x: queries.reconstruct(p, x[:0]), "positive length"),
    (lambda p, x: queries.reconstruct(p), "got nothing"),
    (lambda p, x: queries.encode(p, {"a": x, "b": x}), r"the programs take \(x\), and the data has a, b"),
    (lambda p, x: queries.encode(p, x, num_samples=0), "num_samples must be"),
    (lambda p, x: queries.decode(p, {"y": x}), r"no latent site 'y': the latent sites are \['z'\]"),
    (lambda p, x: queries.decode(p, x), r"'z': expected shape \(..., n, 2\), got \(6, 4\)"),
    (lambda p, x: queries.decode(p, x[0, :2]), r"expected shape \(..., n, 2\), got \(2,\)"),
    (lambda p, x: queries.interpolate(p, x[:2], x[:3]), r"same shapes, got \[\(2, 4\)\] and \[\(3, 4\)\]"),
    (lambda p, x: queries.interpolate(p, x, x, steps=1), "steps must be a whole number >= 2"),
    (lambda p, x: queries.interpolate(p, x, x, method="cubic"), "'linear' or 'spherical', got 'cubic'"),
    (lambda p, x: queries.interpolate(p, x, x, site="w"), "no latent site 'w'"),
    (lambda p, x: queries.interpolate(p, x, x, free=["z"]), "nothing moves"),
    (lambda p, x: queries.traverse(p, x, dims=[0, 2]), r"dims must be in 0 ... 1 for site 'z', got \[2\]"),
    (lambda p, x: queries.traverse(p, x, dims=[]), "got none"),
    (lambda p, x: queries.traverse(p, x, values=[]), "number of values must be"),
    (lambda p, x: queries.traverse(p, x, free="z"), r"free=\['z'\]"),
    (lambda p, x: queries.sample(Pair(p.model, p.guide), 2), "has not seen data"),
    (lambda p, x: queries.encode(p, x).value, r"these draws have values for \[\]"),
]


@pytest.mark.parametrize(("mistake", "message"), LINEAR_MISTAKES)
def test_mistakes(mistake: Callable[[Pair, Tensor], Any], message: str) -> None:
    pair, x = linear()
    with pytest.raises(ValueError, match=message):
        mistake(pair, x)


def test_mistakes_with_several_sites() -> None:
    pair, x = chain()
    with pytest.raises(ValueError, match=r"sites \['z2', 'z1'\], so a single tensor"):
        queries.decode(pair, x[:, :2])
    with pytest.raises(ValueError, match=r"'z1': expected shape \(..., 5, 2\), got \(4, 2\)"):
        queries.decode(pair, {"z2": torch.zeros(5, 2), "z1": torch.zeros(4, 2)})
    with pytest.raises(ValueError, match=r"leading dims \(4,\) differ from another site's \(3,\)"):
        queries.decode(pair, {"z2": torch.zeros(3, 5, 2), "z1": torch.zeros(4, 5, 2)})
    with pytest.raises(ValueError, match="say which one moves"):
        queries.traverse(pair, x)
    with pytest.raises(PairError, match="only in the model"):
        queries.reconstruct(Pair(pair.model, identity().guide), x)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_gpu_generator_is_restored() -> None:
    pair, x = linear()
    pair.cuda()
    before = torch.cuda.get_rng_state()
    first = queries.reconstruct(pair, x, num_samples=3, seed=0).value  # data move to the pair's device
    second = queries.reconstruct(pair, x, num_samples=3, seed=0).value
    assert first.is_cuda
    assert torch.equal(first, second)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert queries.traverse(pair, x).mean.is_cuda
