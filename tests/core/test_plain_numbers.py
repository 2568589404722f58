"""Constructors take NumPy's numbers as Python's, and refuse another kind of number by the argument's name."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from torch import nn

from ppl_vae import estimators, guides, kl, likelihoods, models, nets, penalties, priors
from ppl_vae.cli.command_train import parser
from ppl_vae.core.plain_numbers import is_protocol, plain, take_plain_numbers
from ppl_vae.runs.config import describe

ROOMS = (estimators, guides, kl, likelihoods, models, nets, penalties, priors)


def net(**options):
    return nets.MLPEncoder((4,), 3, **options)


TAKEN = {
    "a rank": lambda: guides.LowRank(net(), rank=np.int64(2)).rank,
    "particles": lambda: estimators.IWAE(np.int32(5)).num_particles,
    "an order": lambda: estimators.Renyi(np.float64(0.5), np.int64(3)).alpha,
    "a warm-up": lambda: kl.LinearWarmup(np.float32(2)).epochs,
    "a weight": lambda: kl.Beta(np.float64(0.5)).weight,
    "a penalty's weight": lambda: penalties.MSSSIM(np.float64(0.5)).weight,
    "a prior's size": lambda: priors.MixtureOfGaussians(np.int64(3), np.int64(4)).num_components,
    "a learned prior": lambda: priors.Categorical(np.int64(2), np.int64(4), learned=np.False_).learned,
    "a scale": lambda: likelihoods.Gaussian(np.float64(0.5)).scale,
    "sizes": lambda: net(hidden=(np.int64(6), np.int64(5))).hidden,
    "a list of sizes": lambda: net(hidden=[np.int64(6)]).hidden,
    "dropout": lambda: net(dropout=np.float32(0.5)).dropout,
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_number_of_numpys_is_kept_as_pythons(name):
    found = TAKEN[name]()
    values = list(found) if isinstance(found, tuple | list) else [found]
    assert values
    assert {type(each) for each in values} <= {int, float, bool}


REFUSED = {
    "rank must be a whole number": lambda: guides.LowRank(net(), rank=np.float64(2)),
    "latent_dim must be a positive integer": lambda: nets.MLPEncoder((4,), np.float64(3)),
    "hidden must be a sequence of positive integers": lambda: net(hidden=(np.float64(6),)),
    "dropout must be a number": lambda: net(dropout="0.5"),
    "batch_norm must be True or False": lambda: net(batch_norm=np.int64(1)),
    "num_components must be a positive integer": lambda: priors.MixtureOfGaussians(3, np.float64(4)),
    "num_classes must be a whole number": lambda: likelihoods.Categorical(np.float64(3)),
    "num_particles must be a positive whole number": lambda: estimators.IWAE(np.float64(3)),
    "learned must be True or False": lambda: priors.Categorical(2, 4, learned=np.float64(1)),
    "num_steps must be a whole number": lambda: guides.SemiAmortised(
        guides.MeanField(net()), models.LinearGaussian(3, 4), num_steps=True
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_another_kind_of_number_is_refused_by_name(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()


def test_what_is_no_number_is_left_alone():
    values = [None, "name", torch.ones(()), np.ones(3), (1, 2.0), [True], nn.Identity()]
    assert all(plain(each) is each for each in values)
    assert plain((np.int64(1), [np.bool_(True)])) == (1, [True])


def test_every_constructor_of_the_rooms_takes_them_and_keeps_its_signature():
    for room in ROOMS:
        for name in room.__all__:
            cls = getattr(room, name)
            own = inspect.isclass(cls) and cls.__init__.__module__.startswith("ppl_vae")
            if own and not is_protocol(cls):
                assert hasattr(cls.__init__, "takes_plain"), name
                written = list(inspect.signature(inspect.unwrap(cls.__init__)).parameters.values())[1:]
                assert list(inspect.signature(cls).parameters.values()) == written, name


def test_a_configuration_of_such_a_pair_is_plain(tmp_path):
    written = str(describe(guides.LowRank(net(hidden=(np.int64(6),)), rank=np.int64(2))))
    assert "numpy" not in written
    assert "'rank': 2" in written


def test_pythons_own_words_for_what_is_missing_stay():
    class Own:
        def __init__(self, size: int) -> None:
            self.size = size

    take_plain_numbers({"Own": Own}, ["Own"])
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'size'"):
        Own()
    assert Own(np.int64(3)).size == 3


def test_the_command_line_knows_the_arguments_still():
    words = ["--guide", "LowRank", "--guide.encoder", "MLPEncoder", "--guide.encoder.shape", "[4]"]
    found = parser().parse_args(["--data", "digits", *words, "--guide.encoder.latent_dim", "3"])
    assert found.guide.init_args.encoder.init_args.latent_dim == 3
