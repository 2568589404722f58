"""Particles: terms by site as (K, B), whatever plates, masks and scales stand around the sites."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from ppl_vae import Pair, PairError
from ppl_vae.core.drawing import draw
from ppl_vae.core.sites import plate_nesting
from tests.oracle import make_pair
from tests.programs import ChainGuide, ChainModel, GlobalMeanGuide, GlobalMeanModel, Subsampled

pytestmark = pytest.mark.usefixtures("double")


class Program(nn.Module):
    """A function as a program."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *batch):
        return self.function(*batch)


@pytest.mark.parametrize("num_particles", [1, 3])
def test_terms_equal_the_distributions_own(num_particles):
    pair, x = Pair(ChainModel(), ChainGuide()), torch.randn(5, 2)
    particles = draw(pair.model, pair.guide, (x,), num_particles=num_particles)
    assert (particles.num_particles, particles.batch_size) == (num_particles, 5)
    assert particles.latent_sites == ("top", "bottom")
    value = {
        name: particles.guide_trace.nodes[name]["value"].reshape(num_particles, 5, -1)
        for name in ("top", "bottom")
    }
    top, bottom = value["top"], value["bottom"][..., 0]
    expected = {
        "top": dist.Normal(0.0, 1.0).log_prob(top).sum(-1),
        "bottom": dist.Normal(0.7 * top.sum(-1), 1.0).log_prob(bottom),
    }
    for site, term in expected.items():
        torch.testing.assert_close(particles.log_prior[site], term, check_dtype=False, rtol=1e-6, atol=1e-6)
    likelihood = dist.Normal(bottom[..., None], 0.5).log_prob(x).sum(-1)
    torch.testing.assert_close(particles.log_likelihood["x"], likelihood)
    total = likelihood + sum(particles.log_prior.values()) - sum(particles.log_guide.values())
    torch.testing.assert_close(particles.log_weight, total)


def test_a_mask_takes_out_what_is_missing():
    pair, x = Pair(ChainModel(), ChainGuide()), torch.randn(4, 2)
    mask = torch.tensor([[True, False], [True, True], [False, False], [False, True]])
    pyro.set_rng_seed(3)
    masked = draw(pair.model, pair.guide, (x, mask), num_particles=3).log_likelihood["x"]
    pyro.set_rng_seed(3)
    bottom = draw(pair.model, pair.guide, (x,), num_particles=3).guide_trace.nodes["bottom"]["value"]
    each = dist.Normal(bottom.reshape(3, 4, 1), 0.5).log_prob(x)
    torch.testing.assert_close(masked, (each * mask).sum(-1))


def test_the_plate_scale_is_kept_apart_and_a_users_scale_is_not():
    pair, x, index = Pair(ChainModel(scale=0.25), ChainGuide(scale=0.25)), torch.randn(4, 2), torch.arange(4)
    pyro.set_rng_seed(5)
    part = draw(Subsampled(pair.model, 20), Subsampled(pair.guide, 20), (x, index), num_particles=2)
    pyro.set_rng_seed(5)
    whole = draw(pair.model, pair.guide, (x,), num_particles=2)
    assert (part.scale, whole.scale) == (5.0, 1.0)
    torch.testing.assert_close(part.log_weight, whole.log_weight)
    torch.testing.assert_close(part.kl("top"), whole.kl("top"))
    unscaled = Pair(ChainModel(), ChainGuide())
    pyro.set_rng_seed(5)
    plain = draw(unscaled.model, unscaled.guide, (x,), num_particles=2)
    torch.testing.assert_close(whole.log_prior["top"], 0.25 * plain.log_prior["top"])


def test_a_scale_on_one_program_only_is_honoured():
    model, guide, x = ChainModel(scale=0.25), ChainGuide(), torch.randn(4, 2)
    particles = draw(model, guide, (x,))
    torch.testing.assert_close(particles.kl("top"), particles.log_guide["top"] - particles.log_prior["top"])
    assert particles.kl_closed_form("top") is None
    assert particles.kl_closed_form("bottom") is not None


def test_global_latents_stand_apart():
    particles = draw(GlobalMeanModel(10), GlobalMeanGuide(10), (torch.randn(4),), num_particles=3)
    assert particles.latent_sites == ("z",)
    assert particles.global_sites == ("theta",)
    assert particles.global_log_weight.shape == (3,)
    assert particles.scale == 2.5


def test_kl_weights_enter_the_log_weight_by_site():
    pair, x = Pair(ChainModel(), ChainGuide()), torch.randn(4, 2)
    particles = draw(pair.model, pair.guide, (x,), num_particles=2)
    weighted = particles.with_kl_weight({"top": 0.5})
    expected = particles.log_weight + 0.5 * (particles.log_guide["top"] - particles.log_prior["top"])
    torch.testing.assert_close(weighted.log_weight, expected)
    with pytest.raises(PairError, match=r"kl weight for \['tpo'\], but the latent sites are"):
        particles.with_kl_weight({"tpo": 0.5})


def test_misspelt_sites_are_an_error_that_shows_both_sets():
    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("tpo", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("bottom", dist.Normal(x.new_zeros(()), 1.0))

    with pytest.raises(PairError, match=r"only in the model: \['top'\]\n  only in the guide: \['tpo'\]"):
        draw(ChainModel(), Program(guide), (torch.randn(4, 2),))


def test_a_data_plate_at_another_dim_is_an_error():
    def model(x):
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("x", dist.Normal(x.new_zeros(()), 1.0), obs=x[:, None])

    with pytest.raises(PairError, match="the plate 'data' sits at dim=-2"):
        draw(Program(model), Program(lambda x: None), (torch.randn(4),))


def test_a_sequential_data_plate_is_an_error():
    def model(x):
        for i in pyro.plate("data", len(x)):
            pyro.sample(f"x{i}", dist.Normal(x.new_zeros(()), 1.0), obs=x[i])

    with pytest.raises(PairError, match="the plate 'data' is sequential"):
        draw(Program(model), Program(lambda x: None), (torch.randn(4),))


def test_different_subsampling_in_the_two_programs_is_an_error():
    pair, x, index = Pair(ChainModel(), ChainGuide()), torch.randn(4, 2), torch.arange(4)
    with pytest.raises(PairError, match="different subsampling factors"):
        draw(Subsampled(pair.model, 20), Subsampled(pair.guide, 10), (x, index))


def test_finding_the_plates_leaves_no_mark():
    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(5)

        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1), pyro.plate("inner", 5, dim=-2):
                pyro.sample("x", dist.Normal(self.norm(x).T, 1.0), obs=x.T)

    model, before = Normalised(), torch.get_rng_state()
    with poutine.trace() as outer:
        assert plate_nesting(model, Program(lambda x: None), (torch.randn(4, 5),), {}) == 2
    torch.randn(20)
    assert not outer.trace.nodes
    assert model.training
    assert model.norm.num_batches_tracked == 0
    torch.set_rng_state(before)


def test_no_site_in_a_data_plate_is_an_error():
    particles = draw(
        Program(lambda x: pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)),
        Program(lambda x: None),
        (torch.zeros(()),),
    )
    with pytest.raises(PairError, match="neither program has a site inside a plate called 'data'"):
        _ = particles.log_weight


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_particles_live_where_the_pair_does():
    pair = make_pair().to("cuda")
    particles = draw(pair.model, pair.guide, (torch.randn(4, 5, device="cuda"),), num_particles=3)
    assert particles.log_weight.is_cuda
