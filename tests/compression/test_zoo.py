"""Every pair of the zoo: its data come back bit for bit, or a refusal names the site and why."""

from __future__ import annotations

import pytest
import torch

import ppl_vae as pv
from tests.zoo import PARTS

FACTORS = "site 'z' does not factorise"
REFUSED = {
    **dict.fromkeys(
        ("Planar", "Sylvester", "HouseholderSylvester", "IAF", "Spline"),
        rf"{FACTORS}.*Use a guide that draws its numbers by themselves, or one after the other",
    ),
    **dict.fromkeys(("Flow", "Sphere", "WrappedNormal", "Diffusion"), rf"{FACTORS}.*Use a prior whose"),
    "StudentT": "site 'z': its prior, StudentT, has no distribution function",
    "table": "site 'x': its GaussianDistribution is continuous",
    "LinearGaussian": "site 'x': its Normal is continuous",
    "FactorAnalysis": "site 'x': its Normal is continuous",
    "classes summed over": r"sums over \['y'\], which the guide does not draw",
    "strings": "site 'x' does not factorise",
    **dict.fromkeys(("lengths", "transforms and lengths"), "site 'x' has a mask or a scale"),
    "transformer": "site 'x' does not factorise",
    "BayesianDecoderVAE": r"the latents \[.*\] outside the plate 'data' are shared by all",
    "real numbers": "site 'x': its Normal is continuous",
    "Autoencoder": "the guide puts site 'z' in one point",
    **dict.fromkeys(("Hamiltonian", "RiemannianHamiltonian"), "the guide draws 'z_start' for itself"),
    "autoregressive": "site 'x' does not factorise",
    "MixtureVAE": r"sums over \['y'\], which the guide does not draw",
    "SemiSupervised": None,  # which draws the class of its mixture
    "MultimodalVAE": "site 'x' has a mask or a scale",
}


def refusal(case):
    """What refuses the pair first: the data, then the prior, then the guide."""
    for name in (case.detail, case.guide, case.model):
        if name in REFUSED:
            return REFUSED[name]
    return None


@pytest.mark.parametrize("case", PARTS)
def test_every_bit_comes_back_or_a_refusal_says_why_not(case):
    pair, batch = case.pair(), case.batch(size=6)
    said = refusal(case)
    for options in ({"batch_size": 4}, {"num_samples": 3, "bits": 6}):
        if said is not None:
            with pytest.raises(pv.PairError, match=said):
                pv.compress(pair, batch, progress=False, **options)
            continue
        file = pv.compress(pair, batch, progress=False, coders=False, verify=False, **options)
        again = pv.decompress(pair, file, progress=False)
        assert len(again) == len(batch)
        for one, other in zip(again, batch, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
