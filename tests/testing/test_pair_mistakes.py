"""Mistakes in programs and their data: each message names the site, the value or shape, and the way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from torch import nn
from torch.distributions import constraints

from ppl_vae import (
    Pair,
    data,
    estimators,
    evaluate,
    fit,
    guides,
    likelihoods,
    models,
    nets,
    queries,
)
from ppl_vae.core.constraints import in_words
from ppl_vae.testing import check_pair

X = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
COUNTS = torch.randint(0, 50, (20, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
NAN = X.clone()
NAN[3, 1] = float("nan")


class Program(nn.Module):
    """A function of itself and the batch, with a net."""

    def __init__(self, function: Callable, size: int = 4) -> None:
        super().__init__()
        self.function, self.net = function, nn.Linear(4, size)

    def forward(self, x):
        return self.function(self, x)


def model_of(
    plate: str = "data",
    prior: Callable = lambda x: dist.Normal(x.new_zeros(4), 1.0).to_event(1),
    likelihood: Callable = lambda raw: dist.Normal(raw, 1.0).to_event(1),
    decode: Callable = lambda z: z,
    dim: int = -1,
    **observed: Callable,
) -> nn.Module:
    def model(self, x):
        with pyro.plate(plate, len(x), dim=dim):
            z = pyro.sample("z", prior(x))
            given = {name: make(x) for name, make in observed.items()} if observed else {"obs": x}
            return pyro.sample("x", likelihood(self.net(decode(z))), **given)

    return Program(model)


def guide_of(
    plate: str = "data",
    posterior: Callable = lambda raw: dist.Normal(raw, 1.0).to_event(1),
    size: int = 4,
    **also,
) -> nn.Module:
    def guide(self, x):
        with pyro.plate(plate, len(x), dim=-1):
            for name, make in also.items():
                pyro.sample(name, *make(x)[:1], **make(x)[1])
            return pyro.sample("z", posterior(self.net(x)))

    return Program(guide, size)


def pair_of(model: nn.Module | None = None, guide: nn.Module | None = None) -> Pair:
    return Pair(model or model_of(), guide or guide_of())


def two_plates(self, x):
    with pyro.plate("genes", len(x)):
        pyro.sample("gene", dist.Normal(0.0, 1.0), obs=x[:, 0])
    with pyro.plate("cells", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(4), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(self.net(z), 1.0).to_event(1), obs=x)


def automatic(kind) -> Pair:
    model = model_of()
    return Pair(model, kind(model))


def flattening(z):
    return z.view(len(z), -1)


def same_name(self, x):
    with pyro.plate("data", len(x), dim=-1):
        for _ in range(2):
            z = pyro.sample("z", dist.Normal(self.net.weight.new_zeros(4), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(self.net(z), 1.0).to_event(1), obs=x)


def in_place(self, x):
    x -= 1
    return model_of().function(self, x)


def in_loop(self, x):
    for i in pyro.plate("data", len(x)):
        z = pyro.sample(f"z_{i}", dist.Normal(x.new_zeros(4), 1.0).to_event(1))
        pyro.sample(f"x_{i}", dist.Normal(self.net(z), 1.0).to_event(1), obs=x[i])


def guide_in_loop(self, x):
    for i in pyro.plate("data", len(x)):
        pyro.sample(f"z_{i}", dist.Normal(self.net(x[i]), 1.0).to_event(1))


def masked(self, x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(x.new_zeros(4), 1.0).to_event(1))
        with poutine.mask(mask=(x > 0)[:, :1]):
            pyro.sample("x", dist.Normal(self.net(z), 1.0).to_event(1), obs=x)


def observing(self, x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(self.net(x), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(self.net(x), 1.0).to_event(1), obs=x)


def constrained(self, x):
    scale = pyro.param("scale_of_test", torch.tensor(-1.0), constraint=constraints.positive)
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(self.net(x), scale).to_event(1))


def conv(shape=(1, 28, 28)):
    model = models.VAE(likelihoods.Bernoulli(), nets.ConvDecoder(3, (1, 28, 28)), 3)
    return Pair(model, guides.MeanField(nets.ConvEncoder(shape, 3)))


def poisson():
    model = models.VAE(likelihoods.Poisson(event_dim=1), nets.MLPDecoder(3, (4,), (8,)), 3)
    return Pair(model, guides.MeanField(nets.MLPEncoder((4,), 3, (8,))))


def train(pair, x, **options):
    return fit(pair, estimators.ELBO(), x, epochs=1, progress=False, **options)


def unchecked(pair, **options):
    return fit(pair, estimators.IWAE(5), X, epochs=1, progress=False, check=False, **options)


def drawn(pair, num_particles):
    return estimators.IWAE(num_particles).draw(pair.model, pair.guide, X)


class Mistake(NamedTuple):
    name: str
    done: Callable[[], object]
    says: tuple[str, ...]
    not_says: tuple[str, ...] = ()


GAMMA = lambda x: dist.Gamma(x.new_ones(4), 1.0).to_event(1)  # noqa: E731
NOT_TOGETHER = (
    "cannot run with",
    "particles at once, though it can with one",
    "view(len(z), -1)",
    "site 'z' then has shape [",
    "leading dims",
)
FOR_EACH_DATUM = ("autoguide keeps free parameters", "guides.MeanField(encoder)")

MISTAKES = [
    # plates
    Mistake("another name in the guide", lambda: check_pair(pair_of(guide=guide_of("cells")), X), ("['z'] in a plate called 'cells'",)),
    Mistake("another dim", lambda: check_pair(pair_of(model_of(dim=-2)), X), ("'data' sits at dim=-2",)),
    Mistake("a loop over data", lambda: check_pair(Pair(Program(in_loop), Program(guide_in_loop)), X), ("'z_0': the plate 'data' is sequential",)),
    Mistake("a loop over data, evaluated", lambda: evaluate.bounds(Pair(Program(in_loop), Program(guide_in_loop)), X, 3), ("is sequential",)),
    Mistake("no to_event", lambda: check_pair(pair_of(model_of(likelihood=lambda raw: dist.Normal(raw, 1.0))), X), ("site 'x'", "4 entries along dim -1", "'data' has 20", ".to_event(n)"), ("Trace Shapes",)),
    # observed or not
    Mistake("obs forgotten", lambda: check_pair(pair_of(model_of(infer=lambda x: {})), X), ("only in the model: ['x']", "give obs=x to it, pyro.sample('x', ..., obs=x)"), ("Give a latent site the same name",)),
    Mistake("a guide that observes", lambda: check_pair(pair_of(guide=Program(observing)), X), ("the guide observes ['x']", "observed in the model alone")),
    Mistake("model and guide swapped", lambda: check_pair(Pair(guide_of(), model_of()), X), ("are they swapped",)),
    Mistake("a guide without statements", lambda: check_pair(pair_of(guide=nn.Linear(4, 4)), X), ("The guide makes no pyro.sample statement, and must draw ['z']",)),
    Mistake("a model without statements", lambda: check_pair(pair_of(nn.Linear(4, 4)), X), ("The model makes no pyro.sample statement",)),
    Mistake("two sites of one name", lambda: check_pair(pair_of(Program(same_name)), X), ("Multiple sample sites named 'z'", "a name of its own", "test_pair_mistakes.py, line")),
    # values and supports
    Mistake("a guide of another support", lambda: check_pair(pair_of(model_of(prior=GAMMA)), X), ("site 'z': its Gamma takes values that are >= 0", "draws it from Normal, whose values are real", "distribution over >= 0"), ("to_event", "tensor(")),
    Mistake("a guide of another support, trained", lambda: train(pair_of(model_of(prior=GAMMA)), X), ("site 'z': its Gamma",), ("to_event",)),
    Mistake("a discrete guide", lambda: check_pair(pair_of(guide=guide_of(posterior=lambda raw: dist.Bernoulli(logits=raw).to_event(1))), X), ("site 'z': the model's Normal is continuous and the guide's Bernoulli is discrete",)),
    Mistake("a guide on the simplex", lambda: check_pair(pair_of(guide=guide_of(posterior=lambda raw: dist.Dirichlet(raw.exp()))), X), ("site 'z': the model's Normal is continuous and the guide's Dirichlet is continuous on the simplex",)),
    Mistake("a guide's scale of zero", lambda: check_pair(pair_of(guide=guide_of(posterior=lambda raw: dist.Normal(raw, 0.0).to_event(1))), X), ("site 'z': the scale of its Normal must be > 0, and is 0 (80 of 80 values)", "positive_scale"), ("to_event", "tensor(")),
    Mistake("a model's scale of zero", lambda: check_pair(pair_of(model_of(likelihood=lambda raw: dist.Normal(raw, raw * 0).to_event(1))), X), ("site 'x': the scale of its Normal must be > 0",), ("to_event", "tensor(")),
    Mistake("a net's output for a scale", lambda: check_pair(pair_of(guide=guide_of(posterior=lambda raw: dist.Normal(0.0, raw).to_event(1))), X), ("site 'z': the scale of its Normal must be > 0, and is -",), ("to_event", "tensor(")),
    Mistake("a scale of NaN", lambda: check_pair(pair_of(guide=guide_of(posterior=lambda raw: dist.Normal(raw, raw.log()).to_event(1))), X), ("site 'z': the scale of its Normal", "nan", "Look for NaN"), ("tensor(",)),
    Mistake("a net's output for probabilities", lambda: check_pair(pair_of(model_of(likelihood=lambda raw: dist.Bernoulli(raw).to_event(1))), (X > 0).float()), ("site 'x': the probs of its Bernoulli must be from 0 to 1", "logits="), ("positive_scale",)),
    Mistake("a parameter outside its constraint", lambda: check_pair(pair_of(guide=Program(constrained)), X), ("pyro.param('scale_of_test')", "outside of its constraint")),
    Mistake("classes that are none", lambda: check_pair(pair_of(model_of(likelihood=lambda raw: dist.Categorical(logits=raw), obs=lambda x: x[:, 0].abs() * 9)), X), ("site 'x': its Categorical takes values that are whole numbers from 0 to 3",), ("tensor(",)),
    Mistake("counts in bytes", lambda: train(pair_of(model_of(likelihood=lambda raw: dist.Poisson(raw.exp()).to_event(1))), COUNTS), ("site 'x': its Poisson takes values that are counts 0, 1, 2, ...", "bytes (uint8)", "x.float()"), ("tensor(",)),
    Mistake("counts in bytes, our likelihood", lambda: train(poisson(), COUNTS), ("likelihoods.Poisson: data must be counts", "bytes (uint8)", "x.astype('float32')"), ("tensor(",)),
    Mistake("NaN in the data", lambda: check_pair(pair_of(), NAN), ("first in datum 3", "site 'z'"), ("tensor(",)),
    Mistake("NaN into encode", lambda: queries.encode(pair_of(), NAN), ("row 3 holds NaN",), ("tensor(",)),
    # shapes and types
    Mistake("another latent size", lambda: check_pair(Pair(models.LinearGaussian(3, 4), guides.MeanField(nets.MLPEncoder((4,), 2, (4,)))), X), ("site 'z': its event shape is [3] in the model but [2] in the guide", "same number of latent dimensions"), ("to_event",)),
    Mistake("another latent size, broadcast", lambda: check_pair(pair_of(model_of(prior=lambda x: dist.Normal(x.new_zeros(1), 1.0).to_event(1))), X), ("its event shape is [1] in the model but [4] in the guide",), ("to_event",)),
    Mistake("a guide without to_event", lambda: check_pair(pair_of(guide=guide_of(posterior=lambda raw: dist.Normal(raw, 1.0))), X[:4]), ("[4] in the model but [] in the guide", ".to_event(n)")),
    Mistake("data of another type", lambda: check_pair(pair_of(), X.double()), ("same dtype", "The batch is torch.float64", "x.float() or pair.double()"), ("Trace Shapes",)),
    Mistake("data of another type, evaluated", lambda: evaluate.bounds(pair_of(), X.double()), ("The batch is torch.float64",), ("Trace Shapes",)),
    Mistake("a mask of another shape", lambda: check_pair(pair_of(Program(masked)), X), ("site 'x': its mask has shape [20, 1], and its batch shape is [20]",)),
    Mistake("pictures without a channel", lambda: check_pair(conv(), torch.zeros(30, 28, 20)), ("30 data of shape (28, 20) lack 1 of the dims of (1, 28, 28)", "x.unsqueeze(1)", "30 of shape (28, 20)"), ("to_event", "Trace Shapes")),
    Mistake("pictures that are not square", lambda: check_pair(conv(), torch.zeros(30, 1, 28, 20)), ("data of shape (1, 28, 20) are not of shape (1, 28, 28)",), ("to_event",)),
    Mistake("a net for pictures that are not square", lambda: conv((1, 28, 20)), ("got shape (1, 28, 20)", "torch.nn.functional.pad(x, (4, 4, 0, 0)) makes (1, 28, 28)")),
    Mistake("a net for pictures without a channel", lambda: conv((28, 28)), ("got shape (28, 28)", "x.unsqueeze(1) makes images of shape (1, 28, 28)")),
    Mistake("a batch changed in place", lambda: check_pair(pair_of(Program(in_place)), X.clone()), ("changes its batch in place (tensor 0)", "x = x - 1")),
    # programs that do not run over particles
    Mistake("a net that flattens, drawn at once", lambda: drawn(pair_of(model_of(decode=flattening)), 5), (*NOT_TOGETHER, "[5, 20, 4]", "num_particles=1"), ("Trace Shapes",)),
    Mistake("AutoNormal in minibatches", lambda: train(automatic(AutoNormal), X, batch_size=8), ("parameters for each of 8 data, and here are 20 in batches of 8", "batch_size=20")),
    Mistake("AutoNormal in minibatches, unchecked", lambda: unchecked(automatic(AutoNormal), batch_size=8), ("parameters for each of 8 data",)),
    Mistake("AutoNormal on other data", lambda: evaluate.bounds(train(automatic(AutoNormal), X).pair, X[:8], 5), FOR_EACH_DATUM, ("Trace Shapes",)),
    Mistake("two plates that could hold the data", lambda: check_pair(pair_of(Program(two_plates), guide_of("cells")), X), ("no plate is called 'data'", "['genes', 'cells']", "plate='genes'")),
    Mistake("AutoDiagonalNormal", lambda: check_pair(automatic(AutoDiagonalNormal), X), ("'_AutoDiagonalNormal_latent'", *FOR_EACH_DATUM)),
    Mistake("data of another shape, encoded", lambda: queries.encode(pair_of(), X[:, :3]), ("cannot run on a batch of shapes [[20, 3]]", "20 of shape (3,)"), ("Trace Shapes",)),
    # calls
    Mistake("two tensors for one", lambda: check_pair(pair_of(), X, X), ("this batch has 2", "labels=True"), ("to_event",)),
    Mistake("a list to check_pair", lambda: check_pair(pair_of(), [X]), ("got ['list']",)),
    Mistake("arguments of check_pair swapped", lambda: check_pair(X, pair_of()), ("expected a ppl_vae.Pair, got Tensor",)),
    Mistake("arguments of encode swapped", lambda: queries.encode(X, pair_of()), ("expected a ppl_vae.Pair, got Tensor",)),
    Mistake("arguments of fit swapped", lambda: fit(pair_of(), X, estimators.ELBO()), ("got an object of type Tensor: fit(pair, estimator, data)",), ("tensor(",)),
    Mistake("a class for a model", lambda: Pair(models.VAE, guide_of()), ("the class VAE: give an object of it",)),
    Mistake("a distribution of torch", lambda: check_pair(pair_of(guide=guide_of(posterior=lambda raw: torch.distributions.Normal(raw, 1.0))), X), ("pyro.distributions", "object is not callable")),
    Mistake("one-hot labels", lambda: data.from_tensors(X, torch.eye(20), labels=True), ("y.argmax(1)",)),
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_message_names_what_is_wrong_and_the_way_out(mistake):
    pyro.clear_param_store()
    with pytest.raises((ValueError, TypeError)) as caught:
        mistake.done()
    message = str(caught.value)
    for part in mistake.says:
        assert part in message
    for part in mistake.not_says:
        assert part not in message
    assert len(message) < 1200
    assert message.count("\n") < 6


def test_every_mistake_has_a_name():
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES) > 50


def test_a_net_that_flattens_runs_one_by_one_and_says_so():
    pair = pair_of(model_of(decode=lambda z: z.flatten(-1)))
    assert not check_pair(pair, X).notes
    pair = pair_of(model_of(decode=flattening))
    assert evaluate.bounds(pair, X, 1).elbo < 0
    with pytest.warns(UserWarning, match=r"one by one, K of them in K times the time.*vectorize=False"):
        evaluate.bounds(pair, X, 5)
    evaluate.bounds(pair, X, 5)  # once is enough
    assert "one by one" in str(check_pair(pair_of(model_of(decode=flattening)), X))


def test_an_autoguide_of_all_the_data_as_one_batch_has_a_density():
    torch.manual_seed(0)
    model = model_of(prior=GAMMA)
    pair = Pair(model, AutoNormal(model))
    mine = evaluate.bounds(pair, X, 400)
    pyros = torch.tensor([pyro.infer.Trace_ELBO().loss(model, pair.guide, X) for _ in range(400)]) / len(X)
    assert abs(mine.elbo + float(pyros.mean())) < 4.5 * float(pyros.std()) / 20 * 2**0.5
    with pytest.raises(ValueError, match="autoguide keeps free parameters"):
        evaluate.bounds(pair, X[:8], 5)


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (constraints.real_vector, "real"),
        (constraints.independent(constraints.greater_than(2.0), 1), "> 2"),
        (constraints.nonnegative, ">= 0"),
        (constraints.interval(-1.0, 2.0), "from -1 to 2"),
        (constraints.integer_interval(0, 3), "whole numbers from 0 to 3"),
        (constraints.less_than(0.0), "< 0"),
        (constraints.simplex, "rows that are not negative and sum to 1"),
        (constraints.corr_cholesky, "corr cholesky"),
    ],
)
def test_constraints_in_words(constraint, words):
    assert in_words(constraint) == words
