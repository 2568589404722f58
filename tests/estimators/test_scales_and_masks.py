"""Scales and masks: every estimator's gradient against enumeration of all draws, for every kind of site."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.testing.rejection_gamma import ShapeAugmentedGamma
from pyro.infer import Trace_ELBO, TraceGraph_ELBO
from torch import nn

from ppl_vae import Pair, PairError, estimators
from ppl_vae.testing.site_facts import read_sites
from tests.estimators.treated import (
    EVERY,
    MASK,
    TREATMENTS,
    Given,
    Program,
    X,
    configurations,
    density,
    estimated,
    exact,
    log_mean_exp,
)
from tests.estimators.treated import make as make_pair

pytestmark = pytest.mark.usefixtures("double")


def iwae(w, _):
    return log_mean_exp(w)


def elbo(w, _):
    return w.mean(0)


def renyi(w, _):
    return log_mean_exp(0.6 * w) / 0.6


def minus_cubo(w, _):
    return -log_mean_exp(2 * w) / 2


def wake_phi(w, log_guide):
    return (w.detach().softmax(0) * log_guide).sum(0)


def jackknife(w, _):
    return 2 * log_mean_exp(w) - w.mean(0)


def tvo(w, _):  # at the betas 0, 0.025 and 1
    return 0.025 * w.mean(0) + 0.975 * ((0.025 * w).softmax(0) * w).sum(0)


class Baseline(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, x):
        return self.weight * x


ANY = ("discrete", "mixed", "continuous")
# estimator, K, what the model's gradient is of, the guide's, and the kinds of sites that it treats
CASES = {
    "ELBO": (lambda: estimators.ELBO(2), 2, elbo, elbo, ANY),
    "ELBO, one particle": (lambda: estimators.ELBO(), 1, elbo, elbo, ANY),
    "MeanFieldELBO": (lambda: estimators.MeanFieldELBO(2), 2, elbo, elbo, ANY),
    "ScoreFunction": (lambda: estimators.ScoreFunction(2), 2, elbo, elbo, ANY),
    "NVIL": (lambda: estimators.NVIL(Baseline(), 2), 2, elbo, elbo, ANY),
    "VIMCO": (lambda: estimators.VIMCO(2), 2, iwae, iwae, ANY),
    "IWAE": (lambda: estimators.IWAE(2), 2, iwae, iwae, ANY),
    "Renyi": (lambda: estimators.Renyi(0.4, 2), 2, renyi, renyi, ANY),
    "CIWAE": (lambda: estimators.CIWAE(1.0, 2), 2, elbo, elbo, ANY),
    "MIWAE": (lambda: estimators.MIWAE(2, 1), 2, elbo, elbo, ANY),
    "PIWAE": (lambda: estimators.PIWAE(2, 1), 2, iwae, elbo, ANY),
    "JVI": (lambda: estimators.JVI(1, 2), 2, jackknife, jackknife, ANY),
    "CUBO": (lambda: estimators.CUBO(2.0, 2), 2, iwae, minus_cubo, ANY),
    "ReweightedWakeSleep": (lambda: estimators.ReweightedWakeSleep(2), 2, iwae, wake_phi, ANY),
    "TVO": (lambda: estimators.TVO(2, 2), 2, tvo, None, ANY),
    "STL": (lambda: estimators.STL(), 1, elbo, elbo, ("continuous",)),
    "STL, two particles": (lambda: estimators.STL(2), 2, iwae, None, ("continuous",)),
    "DReG": (lambda: estimators.DReG(2), 2, iwae, iwae, ("continuous",)),
    "wake-phi DReG": (lambda: estimators.DReG(2, alpha=1.0), 2, iwae, wake_phi, ("continuous",)),
}

# those that leave out a term because its average is zero, or take a KL in closed form
AVERAGED = ("MeanFieldELBO", "STL", "DReG", "wake-phi DReG")


# sites that are all discrete stand among others in "mixed" too
KINDS = [
    pytest.param(case, kind, marks=[pytest.mark.grid] if kind == "discrete" else [])
    for case, row in CASES.items()
    for kind in row[-1]
]


@pytest.mark.parametrize(("case", "kind"), KINDS)
def test_the_expected_gradient_is_exact_under_every_scale_and_mask(case, kind):
    make, count, *follows, _ = CASES[case]
    averaged = kind != "discrete" and case in AVERAGED
    drawn = configurations(kind, count, averaged)
    # quadrature at eight nodes for each of up to four normal draws is good to 1.2 %, at twelve to 0.5 %
    tolerance = 2e-2 if averaged else 1e-9
    wrong = []
    for treatment in TREATMENTS:
        found = estimated(make(), kind, treatment, drawn)
        for row, (role, bound) in enumerate(zip(EVERY, follows, strict=True)):
            if bound is None:
                continue
            wanted = exact(kind, treatment, bound, drawn, held=bound is wake_phi)[row]
            if not (found[row] - wanted).abs().max() < tolerance * wanted.abs().max().clamp_min(1):
                wrong.append(f"{treatment}, {role}: {found[row].tolist()} for {wanted.tolist()}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("make", [estimators.ARM, estimators.DisARM])
def test_opposite_draws(make, treatment, monkeypatch):
    # u enters by the interval it is in, and in ARM's factor linearly: the middle of each stands for it
    pair = make_pair("apart", treatment)
    with torch.no_grad():
        logits = [density("guide", site, {}, X, pair.guide.p).logits for site in "ag"]
    middles, widths = zip(*[_intervals(each.sigmoid()) for each in logits], strict=True)
    grid = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    uniform = iter([middle[grid[:, row]].T.reshape(1, -1) for row, middle in enumerate(middles)])
    width = (widths[0][grid[:, 0]] * widths[1][grid[:, 1]]).T.reshape(-1)
    monkeypatch.setattr(torch, "rand_like", lambda _: next(uniform))
    particles = make().draw(pair.model, pair.guide, X.repeat_interleave(9), MASK.repeat_interleave(9))
    total = (width * make().surrogate(particles)).sum()
    found = torch.autograd.grad(total, [pair.model.p, pair.guide.p])
    wanted = exact("apart", treatment, elbo, configurations("apart", 1))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def _intervals(probability):
    """(3, B) middles and widths of the intervals of u within which z and z' stay as they are."""
    low, high = torch.minimum(probability, 1 - probability), torch.maximum(probability, 1 - probability)
    edges = torch.stack([torch.zeros_like(low), low, high, torch.ones_like(low)])
    return (edges[1:] + edges[:-1]) / 2, edges.diff(dim=0)


@pytest.mark.parametrize("closed_form", [False, True])
@pytest.mark.parametrize("treatment", TREATMENTS)
def test_summed_over(treatment, closed_form):
    pair = make_pair("flat", treatment)
    estimator = estimators.EnumeratedELBO(closed_form=closed_form)
    loss = -estimator.differentiable_loss(pair.model, pair.guide, X, MASK)
    found = torch.autograd.grad(loss, [pair.model.p, pair.guide.p])
    wanted = exact("flat", treatment, elbo, configurations("flat", 1))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["flat", "three", "continuous"])
@pytest.mark.parametrize("treatment", TREATMENTS)
def test_the_value_and_the_gradient_of_a_draw_are_pyros(treatment, kind):
    if "own" in str(TREATMENTS[treatment]) and kind != "continuous":
        return  # Pyro masks the score of a draw with the distribution's own mask; the enumeration does not
    found = []
    # a score meets what is downstream of its draw, as Pyro finds it by the values' provenance
    pyros = Trace_ELBO if kind == "continuous" else TraceGraph_ELBO
    for loss in (estimators.ELBO(), pyros(max_plate_nesting=2)):
        pair = make_pair(kind, treatment)
        pyro.set_rng_seed(3)
        loss.loss_and_grads(*pair.pyro(), X, MASK)
        found.append([p.grad for p in pair.parameters()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_tvos_guide_follows_its_limit_under_a_scale():
    # sixteen particles that are spread as a guide with the odds 1/4 draws them: self-normalised weights are
    # exact
    values = {"a": (torch.arange(16) < 4).double(), "e": (torch.arange(16) % 4 < 1).double()}
    for treatment in TREATMENTS:
        pair = make_pair("flat", treatment)
        with torch.no_grad():
            pair.guide.p.copy_(torch.tensor([-1.0986122886681098, 0.0, 0.0, -1.0986122886681098, 0.4, 0.2]))
        estimator = estimators.TVO(16, 3)
        with Given({site: value.repeat_interleave(2) for site, value in values.items()}):
            particles = estimator.draw(pair.model, pair.guide, X, MASK)
        found = torch.autograd.grad(estimator.surrogate(particles).sum(), pair.guide.p, retain_graph=True)[0]
        log_weight, log_draw = particles.log_weight, sum(particles.log_draw.values())
        beta, total = estimator.betas(particles), 0.0
        for left, width in zip(beta[:-1], beta.diff(dim=0), strict=True):
            # the gradient of the integral over q w^beta, q's own density included, at the exact weights
            path = (left * log_weight + log_draw - log_draw.detach()).softmax(0)
            total = total + (width * (path * log_weight).sum(0)).sum()
        wanted = torch.autograd.grad(total, pair.guide.p)[0]
        torch.testing.assert_close(found, wanted, msg=treatment)


def test_a_closed_form_with_other_masks_in_the_two_programs_is_not_taken():
    for role, mask in (("guide", MASK), ("model", ~MASK)):
        treatment = {("guide", "b"): {"own": True}, ("model", "b"): {"own": True}}
        pair = Pair(Program("model", "three", treatment), Program("guide", "three", treatment))
        program = getattr(pair, role)
        program.forward = lambda x, _, run=program.forward, mask=mask: run(x, mask)
        other = MASK if role == "model" else ~MASK
        particles = estimators.MeanFieldELBO().draw(pair.model, pair.guide, X, other)
        assert particles.kl_closed_form("b") is None
        assert [s for s in read_sites(pair, (X, other)).scaled_in_one] == ["b"]


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_discrete_latent_outside_data_under_a_scale(scale):
    def model(x):
        with poutine.scale(scale=scale):
            s = pyro.sample("s", dist.Bernoulli(0.3))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", dist.Normal(s, 1.0), obs=x)

    def guide(x):
        logit = pyro.param("logit", torch.tensor(0.4))
        with poutine.scale(scale=scale), poutine.mask(mask=torch.tensor(scale == 1.0)):
            pyro.sample("s", dist.Bernoulli(logits=logit))

    kept = float(scale == 1.0)
    logit = torch.tensor(0.4, requires_grad=True)
    found, wanted = 0.0, 0.0
    for s in (torch.tensor(0.0), torch.tensor(1.0)):
        log_q, log_p = dist.Bernoulli(logits=logit).log_prob(s), dist.Bernoulli(0.3).log_prob(s)
        reward = dist.Normal(s, 1.0).log_prob(X).sum() + scale * (log_p - kept * log_q)
        wanted = wanted + torch.autograd.grad(-log_q.exp() * reward, logit)[0]
        pyro.clear_param_store()
        with Given({"s": s}):
            estimators.ELBO().loss_and_grads(model, guide, X)
        found = found + log_q.exp().detach() * pyro.get_param_store()._params["logit"].grad
    torch.testing.assert_close(found, wanted)


def test_a_mask_wider_than_its_site_is_refused():
    def program(x, obs=None):
        with pyro.plate("data", len(x), dim=-1), poutine.mask(mask=torch.ones(3, len(x), dtype=torch.bool)):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(PairError, match=r"site 'z': a mask of shape \[3, 2\] does not fit .* \[2\]"):
        estimators.ELBO().loss(program, program, X)


def test_draws_that_are_reparameterised_in_part_are_refused():
    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Gamma(2.0, 1.0)), 1.0), obs=x)

    def guide(x):
        shape = pyro.param("shape", torch.tensor(2.0))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", ShapeAugmentedGamma(shape.expand(len(x)), torch.ones(len(x))))

    with pytest.raises(PairError, match=r"site 'z': .* reparameterised in part.*Trace_ELBO"):
        estimators.ELBO().loss(model, guide, X)
