"""Strings: their probabilities sum to one, and writing agrees with judging."""

from __future__ import annotations

import itertools

import pytest
import torch

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, kl, likelihoods, models, nets

SYMBOLS, LENGTH = 2, 4


def every_string(length=LENGTH):
    """All strings of up to `length` symbols, as rows."""
    found = [
        [*string, *[0] * (length - size)]
        for size in range(length + 1)
        for string in itertools.product(range(1, SYMBOLS + 1), repeat=size)
    ]
    return torch.tensor(found)


@pytest.fixture(params=["recurrent", "transformer"])
def likelihood(request):
    def make(length=LENGTH, **options):
        torch.manual_seed(0)
        if request.param == "recurrent":
            made = likelihoods.Strings(SYMBOLS, length, 3, hidden=5, embedding_dim=2, **options)
        else:
            made = likelihoods.TransformerStrings(SYMBOLS, length, 3, 6, 2, num_heads=2, **options)
        return made.double()

    return make


def text_vae(written):
    decoder = nets.MLPDecoder(1, written.raw_shape((LENGTH,)), (4,))
    guide = guides.MeanField(nets.StringEncoder(SYMBOLS, LENGTH, 1, 4, 2))
    return pv.Pair(models.VAE(written, decoder, 1), guide).double()


def test_the_probabilities_of_all_strings_sum_to_one(likelihood):
    c = 3 * torch.randn(7, 1, 3, dtype=torch.float64)
    total = likelihood()(c).log_prob(every_string()).logsumexp(-1)
    torch.testing.assert_close(total, torch.zeros(7, dtype=torch.float64))


def test_so_do_those_of_a_vae_and_its_bounds_lie_below(likelihood):
    """p(x) by quadrature over the one latent."""
    pair, x = text_vae(likelihood()), every_string()
    z = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    log_prior = torch.distributions.Normal(0.0, 1.0).log_prob(z)
    given = pair.model.likelihood(pair.model.decoder(z[:, None, None]).expand(-1, len(x), -1)).log_prob(x)
    log_evidence = (given + log_prior[:, None]).logsumexp(0) + (z[1] - z[0]).log()
    torch.testing.assert_close(log_evidence.exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    x = x.double()
    assert bool((evaluate.bounds(pair, x, 500).per_datum < log_evidence).all())
    many = evaluate.log_likelihood(pair, x, 4000, progress=False).per_datum
    torch.testing.assert_close(many, log_evidence, rtol=0, atol=0.03)


def test_more_places_change_no_shorter_string(likelihood):
    x = every_string(LENGTH - 1)
    short = torch.nn.functional.pad(x, (0, 1))
    wide = torch.nn.functional.pad(x, (0, 5))
    c = torch.randn(3, dtype=torch.float64)
    first, second = likelihood(LENGTH), likelihood(LENGTH + 4)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second(c).log_prob(wide), first(c).log_prob(short))


def test_strings_are_drawn_as_often_as_their_probabilities_say(likelihood):
    fn, x = likelihood()(torch.randn(3, dtype=torch.float64)), every_string()
    drawn = fn.sample((20_000,))
    assert fn.support.check(drawn).all()
    count = (drawn[:, None] == x).all(-1).sum(0)
    assert count.sum() == len(drawn)
    p = fn.log_prob(x).exp()
    error = (count / len(drawn) - p) / (p * (1 - p) / len(drawn)).sqrt()
    assert error.abs().max() < 4.5
    assert likelihood()(torch.randn(6, 1, 3).double()).expand((6, 2)).sample().shape == (6, 2, LENGTH)


def test_the_mode_takes_the_likeliest_symbol_at_each_place(likelihood):
    fn = likelihood()(torch.randn(9, 3, dtype=torch.float64))
    for row, c in zip(fn.mode, fn.condition):
        one = likelihood()(c)
        for place in range(LENGTH):
            if place and row[place - 1] == 0:
                assert row[place] == 0
                continue
            starts = every_string()
            same = (starts[:, :place] == row[:place]).all(-1)
            weight = one.log_prob(starts).exp() * same
            by_symbol = torch.stack([weight[starts[:, place] == s].sum() for s in range(SYMBOLS + 1)])
            assert by_symbol.argmax() == row[place]


def test_words_are_dropped_while_training_alone(likelihood):
    written, x = likelihood(word_dropout=0.5), every_string()
    c = torch.zeros(3, dtype=torch.float64)
    dropped = [written(c).log_prob(x) for _ in range(2)]
    assert not torch.allclose(*dropped)
    assert torch.equal(dropped[0][0], dropped[1][0])  # the empty one has nothing to hide
    written.eval()
    torch.testing.assert_close(written(c).log_prob(x), likelihood()(c).log_prob(x))
    drawn = [written.train()(c).mode for _ in range(5)]
    assert all(torch.equal(each, drawn[0]) for each in drawn)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1, 3, 0, 0], "whole numbers, 0 for the end and 1 ... 2 for symbols, found 3"),
        ([1, 0.5, 0, 0], "found 0.5"),
        ([1, 0, 2, 0], "0 from the end of a string on, found 2"),
    ],
)
def test_what_is_no_string_is_named(likelihood, row, message):
    x = torch.tensor([row], dtype=torch.float64)
    written = likelihood()
    for refuse in (written.check, written(torch.zeros(1, 3, dtype=torch.float64)).log_prob):
        with pytest.raises(ValueError, match=message):
            refuse(x)


def test_sizes_that_do_not_fit_are_named(likelihood):
    with pytest.raises(ValueError, match=r"built for strings of length=4, .* shape \(5,\)"):
        likelihood().raw_shape((5,))
    with pytest.raises(ValueError, match="word_dropout must lie in"):
        likelihood(word_dropout=1.5)
    with pytest.raises(ValueError, match="expected condition_dim=3"):
        likelihood()(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="hidden=6 must be a multiple of num_heads=4"):
        likelihoods.TransformerStrings(SYMBOLS, LENGTH, 3, hidden=6)


@pytest.mark.parametrize("make", [nets.StringEncoder, nets.TransformerStringEncoder])
def test_an_encoder_reads_a_string_to_its_end_alone(make):
    """In a row of any width, beside any others, and the order of its symbols."""
    torch.manual_seed(0)
    narrow = make(SYMBOLS, LENGTH, 2, 8).double()
    wide = make(SYMBOLS, LENGTH + 3, 2, 8).double()
    wide.load_state_dict(narrow.state_dict())
    x = every_string()
    loc, scale = narrow(x)
    padded = torch.nn.functional.pad(x, (0, 3))
    torch.testing.assert_close(wide(padded), (loc, scale))
    torch.testing.assert_close(narrow(x[5:6]), (loc[5:6], scale[5:6]))
    assert len(loc.round(decimals=9).unique(dim=0)) == len(x)


@pytest.mark.parametrize("transformer", [False, True])
def test_no_model_of_a_hidden_markov_chain_beats_the_chain(transformer):
    """On average over what the chain draws, and in nats that the forward algorithm knows exactly."""
    strings = data.load("markov_strings", num_data=800)
    torch.manual_seed(0)
    if transformer:
        written = likelihoods.TransformerStrings(6, 12, 8, 16, 1, 2)
        encoder = nets.TransformerStringEncoder(6, 12, 2, 8, 1, 2)
    else:
        written = likelihoods.Strings(6, 12, 8, hidden=16, embedding_dim=8)
        encoder = nets.StringEncoder(6, 12, 2, 8, 4)
    decoder = nets.MLPDecoder(2, written.raw_shape((12,)), ())
    pair = pv.Pair(models.VAE(written, decoder, 2), guides.MeanField(encoder))
    pv.fit(
        pair, estimators.MeanFieldELBO(), strings, epochs=3, batch_size=40, learning_rate=1e-2,
        kl=kl.FreeBits(0.5, per="site"), progress=False, device="cpu",
    )  # fmt: skip
    (x,) = strings.test.tensors()
    exact = data.markov_truth().log_prob(x)
    found = evaluate.log_likelihood(pair, strings.test, 50, progress=False).per_datum.double()
    gap = exact - found
    assert gap.mean() > -4.5 * gap.std() / len(gap) ** 0.5
    uniform = -torch.tensor(7.0).log() * ((x != 0).sum(-1) + 1).double().mean()
    assert found.mean() > uniform + 0.5  # it has learned most of what there is
