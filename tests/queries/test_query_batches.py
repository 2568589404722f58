"""The batches of questions are converted as evaluations convert theirs, and none holds a NaN."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ppl_vae import Pair, evaluate, guides, likelihoods, models, nets, queries
from ppl_vae.data import Split
from ppl_vae.queries import class_probabilities
from tests.programs import BernoulliGuide, BernoulliModel

BITS = torch.bernoulli(torch.full((6, 1, 4, 4), 0.5), generator=torch.Generator().manual_seed(0))
GREY = torch.randint(0, 256, (6, 1, 4, 4), generator=torch.Generator().manual_seed(1)).to(torch.uint8)

QUESTIONS = {
    "encode": lambda pair, x: queries.encode(pair, x, seed=0).latent,
    "reconstruct": lambda pair, x: queries.reconstruct(pair, x, seed=0).mean,
    "sample": lambda pair, x: queries.sample(pair, 4, like=x, seed=0).mean,
    "decode": lambda pair, x: queries.decode(pair, torch.ones(4, 2), like=x, seed=0).mean,
    "interpolate": lambda pair, x: queries.interpolate(pair, x[:3], x[3:], steps=3, seed=0).mean,
    "traverse": lambda pair, x: queries.traverse(pair, x, steps=2, seed=0).mean,
}


def make(seen: bool, likelihood=None) -> Pair:
    torch.manual_seed(0)
    likelihood = likelihood or likelihoods.ContinuousBernoulli()
    model = models.VAE(likelihood, nets.MLPDecoder(2, (1, 4, 4), hidden=(4,)), 2)
    return Pair(
        model, guides.MeanField(nets.MLPEncoder((1, 4, 4), 2, hidden=(4,))), example=(BITS,) if seen else ()
    )


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("question", QUESTIONS)
def test_bytes_bits_and_arrays_are_converted(question, seen):
    ask, pair = QUESTIONS[question], make(seen)
    expected = ask(pair, BITS)
    for x in (
        BITS.to(torch.uint8),
        BITS.bool(),
        BITS.numpy(),
        BITS.numpy().astype(np.uint8),
        BITS.numpy().astype(bool),
    ):
        torch.testing.assert_close(ask(pair, x), expected)
    grey = ask(pair, GREY.float() / 255)
    for x in (GREY, GREY.numpy()):
        torch.testing.assert_close(ask(pair, x), grey)
    for x in (BITS.half(), BITS.bfloat16(), BITS.to(torch.int8), BITS.short().numpy()):
        torch.testing.assert_close(ask(pair, x), expected)
    if seen:  # then the type is known
        for x in (BITS.long(), BITS.double(), BITS.double().numpy()):
            torch.testing.assert_close(ask(pair, x), expected)


def test_as_bounds_does():
    pair = make(True)
    for x in (GREY, BITS.bool(), BITS.double(), BITS.numpy().astype(np.float64), (GREY,), (BITS.numpy(),)):
        batch = x if isinstance(x, tuple) else (x,)
        values = [evaluate.bounds(pair, x).elbo, evaluate.bounds(pair, batch).elbo]
        assert values[0] == pytest.approx(values[1])
    assert evaluate.bounds(pair, GREY).elbo == evaluate.bounds(pair, Split.from_tensor(GREY)).elbo


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_value_that_is_not_finite_is_named_by_its_row(question, value):
    x = BITS.clone()
    x[2, 0, 1, 1] = value
    with pytest.raises(
        ValueError, match=r"the batch: row 2 holds (NaN|an infinite value).*takes? a mask"
    ) as caught:
        QUESTIONS[question](make(True), x)
    assert "tensor(" not in str(caught.value)


def test_labels_are_whole_numbers():
    model = models.ConditionalVAE(
        likelihoods.Bernoulli(), nets.MLPDecoder(2 + 3, (1, 4, 4), (4,)), 2, num_classes=3
    )
    guide = guides.Conditional(nets.MLPEncoder((1, 4, 4), 2, (4,)), num_classes=3)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    pair = Pair(model, guide, example=(BITS, y))
    expected = queries.encode(pair, BITS, y, seed=0).latent
    for labels in (y.double(), y.to(torch.uint8), y.int(), y.numpy(), y.float().numpy()):
        torch.testing.assert_close(queries.encode(pair, BITS, labels, seed=0).latent, expected)
    with pytest.raises(
        ValueError, match=r"tensor 1 of the batch: the programs take whole numbers.*holds 0.5"
    ):
        queries.encode(pair, BITS, y + 0.5)
    for wrong in (1.5, float("nan")):
        with pytest.raises(ValueError, match=r"inputs\['y'\]"):
            queries.sample(pair, 3, inputs={"y": wrong})
    assert queries.sample(pair, 3, inputs={"y": 1.0}).value.shape == (3, 1, 4, 4)


def test_bytes_of_an_argument_that_is_not_the_data_are_not_guessed_at():
    pair = make(False)
    pair.remember((BITS, BITS))
    with pytest.raises(ValueError, match=r"tensor 1 of the batch: bytes \(uint8\) may be pixels or counts"):
        queries.encode(pair, BITS, GREY)


def test_chosen_latents_are_finite_numbers_of_any_type():
    pair = make(True)
    expected = queries.decode(pair, torch.ones(3, 2)).mean
    for z in (torch.ones(3, 2, dtype=torch.long), np.ones((3, 2)), torch.ones(3, 2).bool()):
        torch.testing.assert_close(queries.decode(pair, z).mean, expected)
    with pytest.raises(ValueError, match="latent site 'z': the chosen latents hold NaN"):
        queries.decode(pair, torch.full((3, 2), float("nan")))
    discrete = Pair(BernoulliModel(), BernoulliGuide(), example=(torch.zeros(2),))
    assert queries.decode(discrete, torch.ones(3, 2, dtype=torch.long).double()).value.shape == (3,)


def test_classes_of_bytes():
    x = torch.randint(0, 256, (5, 4)).to(torch.uint8)

    class Sees(torch.nn.Module):
        def forward(self, x: Tensor) -> None:
            import pyro
            import pyro.distributions as dist

            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("y", dist.Categorical(logits=x))

    pair = Pair(Sees(), Sees(), example=(x.float(),))
    torch.testing.assert_close(class_probabilities(pair, x), (x.float() / 255).softmax(-1))
    bad = x.float()
    bad[1, 1] = float("nan")
    with pytest.raises(ValueError, match="row 1 holds NaN"):
        class_probabilities(pair, bad)


@pytest.mark.parametrize("ask", [queries.encode, evaluate.bounds, evaluate.log_likelihood])
def test_a_pair_without_values_is_refused(ask):
    with pytest.raises(ValueError, match="the pair is on the device 'meta', where parameters have shapes"):
        ask(make(seen=False).to("meta"), BITS)
