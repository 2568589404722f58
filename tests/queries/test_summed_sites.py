"""Questions about finite sites that the model sums over, against Bayes' rule written out."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae.queries import class_probabilities
from tests.conftest import SIGMAS
from tests.core.summed_programs import HMM, Amortised, Clusters, Empty, Mixture, Topics, TopicsGuide

pytestmark = pytest.mark.usefixtures("double")

X = torch.linspace(-3, 6, 12, dtype=torch.float64)


def responsibilities(model, x, scale):
    joint = model.logits.log_softmax(0) + dist.Normal(model.means, scale).log_prob(x.unsqueeze(-1))
    return joint.softmax(-1).detach()


def assert_frequencies(draws, wanted):
    """Draws (N, ...) of numbers 0, 1, ... against their probabilities (..., C)."""
    seen = nn.functional.one_hot(draws, wanted.shape[-1]).double().mean(0)
    error = (wanted * (1 - wanted) / len(draws)).sqrt()
    assert bool(((seen - wanted).abs() <= SIGMAS * error + 1e-9).all())


@pytest.fixture
def mixture():
    """p(z | k) p(k), x | z."""
    return pv.Pair(Mixture(), Amortised(), example=(X,))


def test_the_posterior_of_a_class_is_exact_without_other_latents():
    pair = pv.Pair(Clusters(), Empty())
    found = class_probabilities(pair, X, site="k")
    torch.testing.assert_close(found, responsibilities(pair.model, X, 1.0))


def test_the_posterior_of_a_class_behind_another_latent_is_that_of_its_evidence(mixture):
    with torch.no_grad():  # near the posterior: the weights are even
        mixture.guide.slope.fill_(0.6), mixture.guide.log_scale.fill_(0.0)
    wanted = responsibilities(mixture.model, X, (0.8**2 + 1) ** 0.5)
    few = torch.stack(
        [class_probabilities(mixture, X, site="k", num_particles=400, seed=s) for s in range(20)]
    )
    error = few.std(0) / 20**0.5
    assert bool(((few.mean(0) - wanted).abs() < SIGMAS * error + 2e-3).all())  # 1/K of bias
    one = pv.Pair(mixture.model, mixture.guide, vectorize=False)
    assert class_probabilities(one, X, site="k", num_particles=3).shape == (12, 3)


def test_what_latents_that_all_share_say_is_averaged_over_the_guides_draws():
    class Shared(nn.Module):
        def forward(self, x):
            means = pyro.sample("means", dist.Normal(x.new_zeros(2), 3.0).to_event(1))
            with pyro.plate("data", len(x), dim=-1):
                k = pyro.sample("k", dist.Categorical(x.new_ones(2)))
                pyro.sample("x", dist.Normal(means[..., k], 1.0), obs=x)

    class Guide(nn.Module):
        def forward(self, x):
            pyro.sample("means", dist.Delta(x.new_tensor([-1.0, 2.0])).to_event(1))

    class Indexed(Shared):
        def forward(self, x):
            means = pyro.sample("means", dist.Normal(x.new_zeros(2), 3.0).to_event(1))
            with pyro.plate("data", len(x), dim=-1):
                k = pyro.sample("k", dist.Categorical(x.new_ones(2)))
                loc = torch.where(k == 0, means[..., 0], means[..., 1])
                pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    found = class_probabilities(pv.Pair(Indexed(), Guide()), X, site="k", num_particles=5)
    wanted = dist.Normal(torch.tensor([-1.0, 2.0]), 1.0).log_prob(X[:, None]).softmax(-1)
    torch.testing.assert_close(found, wanted)


def test_a_chain_has_the_forward_backward_probabilities():
    model = HMM()
    x, lengths = torch.randn(4, 5), torch.tensor([5, 3, 1, 4])
    pair = pv.Pair(model, Empty())
    table = model.logits.log_softmax(-1)
    found = class_probabilities(pair, x, lengths, site="s_1")
    for row, length in enumerate(lengths.tolist()):
        weight = torch.zeros(3)  # of each value of s_1, by enumeration of all paths
        for path in torch.cartesian_prod(*[torch.arange(3)] * max(length, 2)):
            log_p = table[0][path[0]] + sum(table[1 + path[t - 1]][path[t]] for t in range(1, len(path)))
            log_p = log_p + sum(
                dist.Normal(model.means[path[t]], 1.0).log_prob(x[row, t]) for t in range(length)
            )
            weight[path[1]] += log_p.exp().detach()
        torch.testing.assert_close(found[row], weight / weight.sum())


def test_sites_in_inner_plates_have_a_row_for_each_slice():
    pair = pv.Pair(Topics(), TopicsGuide())
    x = torch.randint(6, (5, 4))
    found = class_probabilities(pair, x, site="topic", num_particles=7)
    assert found.shape == (4, 5, 3)
    torch.testing.assert_close(found.sum(-1), torch.ones(4, 5))


def test_decoded_classes_are_those_that_the_chosen_latent_is_of(mixture):
    z = torch.tensor([-1.0, 0.5, 2.0, 3.0])
    wanted = responsibilities(mixture.model, z, 0.8)
    assert_frequencies(pv.decode(mixture, {"z": z.expand(4000, 4)}, seed=0).latents["k"], wanted)
    alone = pv.decode(mixture, z, seed=0)
    assert alone.latents["k"].shape == alone.value.shape == (4,)
    one = pv.Pair(mixture.model, mixture.guide, vectorize=False, example=(X,))
    assert_frequencies(pv.decode(one, {"z": z.expand(300, 4)}, seed=0).latents["k"], wanted)
    # a class that is chosen stays, and where nothing else is, the other latent follows it
    chosen = pv.decode(mixture, {"k": torch.tensor([2, 2, 0])}, seed=0)
    assert chosen.latents["k"].tolist() == [2, 2, 0]


def test_walks_take_the_classes_along(mixture):
    moved = pv.traverse(mixture, X[:3], values=[-3.0, 6.0])
    assert moved.latents["k"].shape == (1, 2, 3)
    assert moved.latents["k"][0, 0].tolist() == [0, 0, 0]
    path = pv.interpolate(mixture, X[:3], X[3:6], steps=4)
    assert path.latents["k"].shape == (4, 3)


def test_a_label_that_is_held_counts_too():
    class Labelled(nn.Module):
        def forward(self, x, y):
            with pyro.plate("data", len(x), dim=-1):
                k = pyro.sample("k", dist.Categorical(x.new_ones(2)))
                z = pyro.sample("z", dist.Normal(k.to(x.dtype), 1.0))
                pyro.sample("y", dist.Bernoulli(0.1 + 0.8 * k), obs=y)
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    class Guide(nn.Module):
        def forward(self, x, y):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z", dist.Normal(x, 1.0))

    y = (torch.arange(12) % 2).double()
    pair = pv.Pair(Labelled(), Guide(), example=(X, y))
    z = torch.full((4000, 12), 0.2)
    draws = pv.decode(pair, {"z": z}, like=(X, y), given=["y"], seed=0).latents["k"]
    joint = torch.stack([dist.Normal(k, 1.0).log_prob(z[0]) for k in (0.0, 1.0)], -1)
    joint = joint + torch.stack([dist.Bernoulli(p).log_prob(y) for p in (0.1, 0.9)], -1)
    assert_frequencies(draws, joint.softmax(-1))
    free = pv.decode(pair, {"z": z}, like=(X, y), seed=0).latents["k"]
    assert_frequencies(
        free, torch.stack([dist.Normal(k, 1.0).log_prob(z[0]) for k in (0.0, 1.0)], -1).softmax(-1)
    )


def test_a_site_that_there_is_not_is_named(mixture):
    with pytest.raises(ValueError, match=r"no latent site 'c': the latent sites are \['z', 'k'\]"):
        class_probabilities(mixture, X, site="c")
