"""Finite sites that the model alone has: summed over exactly, by datum, in inner plates and along a chain."""

from __future__ import annotations

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators
from ppl_vae.core import drawing, separate
from ppl_vae.core.sites import PairError
from ppl_vae.testing import check_pair
from tests.core.summed_programs import (
    HMM,
    STATES,
    TIMES,
    WORDS,
    Amortised,
    Clusters,
    Empty,
    Mixture,
    Nested,
    Topics,
    TopicsGuide,
)

pytestmark = pytest.mark.usefixtures("double")

X = torch.linspace(-2, 3, 7, dtype=torch.float64)
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def assert_evidence(model, batch, expected, num_particles):
    """The log-weights of a model without other latents, and their gradient, are the evidence's."""
    particles = drawing.draw(model, Empty(), batch, num_particles=num_particles)
    torch.testing.assert_close(particles.log_weight, expected.expand(num_particles, -1), **EXACT)
    parameters = list(model.parameters())
    for ours, truth in zip(
        torch.autograd.grad(particles.log_weight.mean(0).sum(), parameters),
        torch.autograd.grad(expected.sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, truth, **EXACT)


@pytest.mark.parametrize("mark", [None, "parallel", "sequential"])
@pytest.mark.parametrize("num_particles", [1, 3])
def test_a_mixture_is_mixture_same_family(mark, num_particles):
    model = Clusters(mark)
    assert_evidence(model, (X,), model.log_evidence(X), num_particles)


class Marginal(Mixture):
    """The same model with its sum written out."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", self.prior())
            return pyro.sample("x", dist.Normal(z, 1.0), obs=x)


@pytest.mark.parametrize(
    "estimator",
    [
        estimators.ELBO(3),
        estimators.MeanFieldELBO(3),
        estimators.IWAE(3),
        estimators.Renyi(0.5, 3),
        estimators.STL(3),
        estimators.DReG(3),
        estimators.PIWAE(2, 2),
        estimators.TVO(3, 2),
        estimators.CUBO(2.0, 3),
        estimators.VIMCO(3),
        estimators.ReweightedWakeSleep(3),
        estimators.JVI(1, 3),
        estimators.EnumeratedELBO(2),
        estimators.ELBO(),
    ],
    ids=repr,
)
def test_every_estimator_takes_the_sum_for_the_prior_that_it_is(estimator):
    results = []
    for model in (Mixture(), Marginal()):
        guide = Amortised()
        pyro.set_rng_seed(0)
        loss = estimator.differentiable_loss(model, guide, X)
        parameters = [model.logits, model.means, *guide.parameters()]
        results.append([loss.detach(), *torch.autograd.grad(loss, parameters)])
    for ours, truth in zip(*results, strict=True):
        torch.testing.assert_close(ours, truth, **EXACT)


def test_the_terms_are_the_prior_and_the_likelihood_with_the_sum_taken():
    model, guide = Mixture(), Amortised()
    particles = drawing.draw(model, guide, (X,), num_particles=2)
    z = particles.guide_trace.nodes["z"]["value"]
    torch.testing.assert_close(particles.log_prior["z"], model.prior().log_prob(z))
    torch.testing.assert_close(particles.reconstruction, dist.Normal(z, 1.0).log_prob(X))
    assert particles.under_sum == {"z"}
    assert particles.kl_closed_form("z") is None
    assert set(particles.log_prior) == {"z"}


@pytest.mark.parametrize("num_particles", [1, 2])
@pytest.mark.parametrize("forbidden", [False, True])
def test_a_chain_of_unequal_lengths_is_the_forward_algorithm(num_particles, forbidden):
    model, lengths = HMM(forbidden), torch.tensor([TIMES, 1, 3, 2])
    batch = torch.randn(4, TIMES), lengths
    assert_evidence(model, batch, model.log_evidence(*batch), num_particles)


def test_the_terms_of_a_chain_are_the_predictive_densities():
    model, lengths = HMM(), torch.tensor([TIMES] * 3)
    x = torch.randn(3, TIMES)
    terms = drawing.draw(model, Empty(), (x, lengths)).log_likelihood
    for t in range(TIMES):
        so_far = sum(terms[f"x_{s}"][0] for s in range(t + 1))
        torch.testing.assert_close(so_far, model.log_evidence(x[:, : t + 1], torch.full((3,), t + 1)))


@pytest.mark.parametrize("num_particles", [1, 2])
def test_sites_in_an_inner_plate_are_every_combination_of_its_slices(num_particles):
    model, batch = Nested(), (torch.randn(3, WORDS), torch.randn(3))
    assert_evidence(model, batch, model.log_evidence(*batch), num_particles)


@pytest.mark.parametrize("num_particles", [1, 3])
def test_topics_of_words_under_a_guide_for_the_documents(num_particles):
    model, guide, x = Topics(), TopicsGuide(), torch.randint(0, 6, (3, WORDS))
    particles = drawing.draw(model, guide, (x,), num_particles=num_particles)
    theta = particles.guide_trace.nodes["theta"]["value"].reshape(num_particles, 3, STATES)
    words = (theta @ model.words.softmax(-1)).log().gather(-1, x.expand(num_particles, -1, -1))
    torch.testing.assert_close(particles.log_likelihood["x"], words.sum(-1), **EXACT)
    check_pair(pv.Pair(model, guide), x)


class TwoBits(nn.Module):
    """A pair of bits as one event, and a category that hangs on them: every kind of value."""

    def __init__(self):
        super().__init__()
        self.bits, self.table = nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(4, 3))
        self.loc = nn.Parameter(torch.randn(4, 3))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            bits = pyro.sample("bits", dist.Bernoulli(logits=self.bits).to_event(1))
            index = (bits[..., 0] + 2 * bits[..., 1]).long()
            c = pyro.sample("c", dist.OneHotCategorical(logits=self.table[index]))
            pyro.sample("x", dist.Normal((self.loc[index] * c).sum(-1), 1.0), obs=x)

    def log_evidence(self, x):
        terms = []
        for one, two, c in itertools.product(range(2), range(2), range(3)):
            bits = torch.tensor([float(one), float(two)])
            term = dist.Bernoulli(logits=self.bits).log_prob(bits).sum()
            term = term + self.table.log_softmax(-1)[one + 2 * two, c]
            terms.append(term + dist.Normal(self.loc[one + 2 * two, c], 1.0).log_prob(x))
        return torch.stack(terms).logsumexp(0)


@pytest.mark.parametrize("num_particles", [1, 2])
def test_events_of_bits_and_one_hot_values(num_particles):
    model = TwoBits()
    assert_evidence(model, (X,), model.log_evidence(X), num_particles)


def test_entries_that_are_not_observed_are_summed_over():
    class Labels(nn.Module):
        """A label that some data lack, by obs_mask, and a measurement that hangs on it."""

        def __init__(self):
            super().__init__()
            self.logits, self.loc = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))

        def forward(self, x, y):
            with pyro.plate("data", len(x), dim=-1):
                y = pyro.sample("y", dist.Categorical(logits=self.logits), obs=y.clamp(0), obs_mask=y >= 0)
                pyro.sample("x", dist.Normal(self.loc[y], 1.0), obs=x)

    model, y = Labels(), torch.tensor([0, -1, 2, -1, 1, -1, 0])
    particles = drawing.draw(model, Empty(), (X, y))
    joint = model.logits.log_softmax(0) + dist.Normal(model.loc, 1.0).log_prob(X[:, None])
    known = joint.gather(-1, y.clamp(0)[:, None])[:, 0]
    torch.testing.assert_close(
        particles.log_weight[0], torch.where(y >= 0, known, joint.logsumexp(-1)), **EXACT
    )


def test_probabilities_far_apart_do_not_vanish():
    class Apart(nn.Module):
        """Two measurements that contradict each other by far more than a float can hold."""

        def __init__(self):
            super().__init__()
            self.means = nn.Parameter(torch.tensor([-100.0, 100.0]))

        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                k = pyro.sample("k", dist.Categorical(logits=torch.zeros(2)))
                pyro.sample("a", dist.Normal(self.means[k], 1.0), obs=x)
                pyro.sample("b", dist.Normal(self.means[k], 1.0), obs=-x)

    model = Apart()
    particles = drawing.draw(model, Empty(), (torch.tensor([100.0, -100.0]),))
    expected = 2 * dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.0)) - 0.5 * 200.0**2
    torch.testing.assert_close(particles.log_weight, expected.expand(1, 2))
    assert torch.autograd.grad(particles.log_weight.sum(), model.means)[0].isfinite().all()


def test_a_subsampled_plate_and_a_scale_multiply_the_sum():
    model = Clusters(data_size=70, scale=0.5)
    particles = drawing.draw(model, Empty(), (X,))
    assert particles.scale == 10
    torch.testing.assert_close(particles.log_weight[0], 0.5 * model.log_evidence(X), **EXACT)


@pytest.mark.parametrize("scale", [0.25, torch.tensor(0.25)], ids=["number", "tensor"])
def test_a_scale_that_is_made_twice_is_one_scale(scale):
    model = Clusters(scale=scale)
    particles = drawing.draw(poutine.scale(model, scale), Empty(), (X,))
    torch.testing.assert_close(particles.log_weight[0], 0.0625 * model.log_evidence(X))


def test_the_first_draw_uses_no_random_numbers_for_what_is_summed():
    model, guide = Mixture(), Amortised()
    states = []
    for _ in range(2):
        pyro.set_rng_seed(3)
        drawing.draw(model, guide, (X,))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_separate_gradients_and_programs_that_change_are_followed():
    class Sometimes(Clusters):
        def forward(self, x):
            if self.training:
                return super().forward(x)
            with pyro.plate("data", len(x), dim=-1):
                return pyro.sample("x", dist.Normal(self.means[0], 1.0), obs=x)

    model, guide = Sometimes(), Empty()
    for training in (False, True, False, True):
        model.train(training)
        expected = model.log_evidence(X) if training else dist.Normal(model.means[0], 1.0).log_prob(X)
        torch.testing.assert_close(separate.draw(model, guide, (X,)).model_term[0], expected)


# what the exact posterior draws


def test_draws_of_what_is_summed_are_the_posteriors():
    model, size = Nested(), 20_000
    x, y = torch.randn(1, 2).expand(size, -1), torch.randn(1).expand(size)
    particles = drawing.draw(model, Empty(), (x, y))
    nodes = drawing.with_summed_draws(particles.guide_trace, particles).nodes
    c, u = nodes["c"]["value"], nodes["u"]["value"]
    assert c.shape == (size,)
    assert u.shape == (2, size)
    code = c * STATES**2 + u[0] * STATES + u[1]
    frequency = torch.bincount(code, minlength=2 * STATES**2) / size
    log_c, log_u, joint = model.c.log_softmax(0), model.u.log_softmax(-1), []
    for c, *u in itertools.product(range(2), range(STATES), range(STATES)):
        term = log_c[c] + log_u[c, u].sum() + dist.Normal(model.y[c], 1.0).log_prob(y[0])
        joint.append(term + dist.Normal(model.loc[c, u], 1.0).log_prob(x[0]).sum())
    exact = torch.stack(joint).softmax(0)
    assert ((frequency - exact).abs() <= 4.5 * (exact * (1 - exact) / size).sqrt() + 1e-9).all()


def test_draws_of_a_chain_with_particles_have_the_states_posterior():
    model, lengths = HMM(), torch.full((2,), 3)
    x, size = torch.randn(2, 3), 8000
    particles = drawing.draw(model, Empty(), (x, lengths), num_particles=size)
    nodes = drawing.with_summed_draws(particles.guide_trace, particles).nodes
    states = torch.stack([nodes[f"s_{t}"]["value"] for t in range(3)])
    assert states.shape == (3, size, 2)
    table, means = model.logits.log_softmax(-1), model.means
    for datum in range(2):
        joint = {
            path: table[0, path[0]]
            + sum(table[1 + path[t], path[t + 1]] for t in range(2))
            + sum(dist.Normal(means[path[t]], 1.0).log_prob(x[datum, t]) for t in range(3))
            for path in itertools.product(range(STATES), repeat=3)
        }
        exact = torch.stack(list(joint.values())).softmax(0)
        code = states[0, :, datum] * STATES**2 + states[1, :, datum] * STATES + states[2, :, datum]
        frequency = torch.bincount(code, minlength=STATES**3) / size
        assert ((frequency - exact).abs() <= 4.5 * (exact * (1 - exact) / size).sqrt() + 1e-9).all()


# what is refused


def refusal(program, x=X, guide=None):
    with pytest.raises(PairError) as error:
        drawing.draw(program() if isinstance(program, type) else program, guide or Empty(), (x,))
    return str(error.value)


def test_a_site_outside_the_plate_of_data_is_refused():
    class Global(Clusters):
        def forward(self, x):
            k = pyro.sample("k", dist.Categorical(logits=self.logits))
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("x", dist.Normal(self.means[k], 1.0), obs=x)

    assert "site 'k' of the model" in (message := refusal(Global))
    assert "outside the plate of the data" in message


def test_a_site_whose_values_cannot_be_listed_belongs_to_the_guide():
    class Counts(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                n = pyro.sample("n", dist.Binomial(torch.arange(float(len(x))), 0.5 * torch.ones(len(x))))
                pyro.sample("x", dist.Normal(n, 1.0), obs=x)

    assert "only in the model: ['n']" in refusal(Counts)


def test_data_in_a_plate_to_the_left_of_another_are_told_where_to_stand():
    """As Pyro's examples of hidden Markov models have them, the tones to the right of the sequences."""

    class Tones(nn.Module):
        def __init__(self):
            super().__init__()
            self.rates = nn.Parameter(torch.rand(2, 3))

        def forward(self, x):
            with pyro.plate("sequences", len(x), dim=-2):
                k = pyro.sample("k", dist.Categorical(x.new_ones(2)))
                with pyro.plate("tones", 3, dim=-1):
                    pyro.sample("x", dist.Poisson(self.rates[k.squeeze(-1)]), obs=x)

    for num_particles in (1, 3):
        with pytest.raises(PairError, match=r"in 'sequences' at dim=-2: the plate of the .*sits at dim=-1"):
            drawing.draw(Tones(), Empty(), (torch.ones(5, 3),), num_particles=num_particles)


@pytest.mark.parametrize("expand", [False, True])
def test_a_site_that_gathers_the_slices_of_a_plate_is_refused(expand):
    class Gathers(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                with pyro.plate("pixels", 3, dim=-2):
                    u = pyro.sample("u", dist.Bernoulli(0.5 * torch.ones(())), infer={"expand": expand})
                pyro.sample("x", dist.Normal(u.sum(-2, keepdim=True), 1.0), obs=x)

    message = refusal(Gathers)
    assert "site 'u' is summed over in each slice of the plate 'pixels'" in message
    assert "'x' of the model, which stands outside" in message
    assert "8 combinations" in message


def test_sites_of_two_plates_that_meet_in_a_third_are_refused():
    class Grid(nn.Module):
        def forward(self, x):
            rows, columns = pyro.plate("rows", 2, dim=-2), pyro.plate("columns", 3, dim=-3)
            with pyro.plate("data", len(x), dim=-1):
                with rows:
                    u = pyro.sample("u", dist.Bernoulli(0.5 * torch.ones(())))
                with columns:
                    w = pyro.sample("w", dist.Bernoulli(0.5 * torch.ones(())))
                with rows, columns:
                    pyro.sample("x", dist.Normal(u + w, 1.0), obs=x.expand(3, 2, -1))

    message = refusal(Grid)
    assert "'u'" in message
    assert "'w'" in message


def test_too_many_combinations_are_refused_with_their_number():
    class Coupled(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                k = [pyro.sample(f"k_{i}", dist.Categorical(torch.ones(64))) for i in range(5)]
                pyro.sample("x", dist.Normal(torch.zeros(()), 1.0), obs=x)
                for i in range(5):
                    for j in range(i):
                        pyro.factor(f"f_{i}{j}", -(k[i] - k[j]).abs() + 0.0 * x)

    assert f"{64**5:,} combinations" in (message := refusal(Coupled))
    assert "['k_0'" in message


def test_scales_that_differ_under_one_sum_are_refused():
    class Scaled(Clusters):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                with poutine.scale(scale=0.5):
                    k = pyro.sample("k", dist.Categorical(logits=self.logits))
                pyro.sample("x", dist.Normal(self.means[k], 1.0), obs=x)

    assert "['k', 'x']" in (message := refusal(Scaled))
    assert "kl.Beta" in message


def test_a_program_that_does_not_broadcast_is_told_how():
    class Joined(Clusters):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                k = pyro.sample("k", dist.Categorical(logits=self.logits))
                both = torch.cat([z[:, None], nn.functional.one_hot(k, 3).to(z)], -1)
                pyro.sample("x", dist.Normal(both.sum(-1), 1.0), obs=x)

    message = refusal(Joined, guide=Amortised())
    assert "the sites ['k'] of the model" in message
    assert "broadcasts" in message


def test_particles_that_do_not_fit_are_not_laid_to_the_sum():
    class Indexed(nn.Module):
        """Means that are latent too, for all data: indexed as for one particle alone."""

        def forward(self, x):
            with pyro.plate("components", 2):
                means = pyro.sample("means", dist.Normal(0.0, 1.0))
            with pyro.plate("data", len(x)):
                k = pyro.sample("k", dist.Categorical(torch.ones(2)))
                pyro.sample("x", dist.Normal(means[k], 1.0), obs=x)

    class Means(nn.Module):
        def forward(self, x):
            with pyro.plate("components", 2):
                pyro.sample("means", dist.Normal(0.0, 1.0))

    assert drawing.draw(Indexed(), Means(), (X,)).log_weight.shape == (1, len(X))
    with pytest.raises(PairError, match="cannot run with 3 particles at once, though it can with one"):
        drawing.draw(Indexed(), Means(), (X,), num_particles=3)


def test_a_continuous_site_beside_it_still_belongs_to_the_guide():
    message = refusal(Mixture())
    assert "only in the model: ['k', 'z']" in message


def test_a_forgotten_observation_is_named():
    class Forgot(Clusters):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("x", dist.Categorical(logits=self.logits))

    with pytest.raises(PairError, match="the model observes nothing"):
        check_pair(pv.Pair(Forgot(), Empty()), X)
