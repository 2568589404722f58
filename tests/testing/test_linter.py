from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
    config_enumerate,
)  # fmt: skip
from torch import nn

from ppl_vae import Pair, PairError, estimators
from ppl_vae.estimators import ARM, IWAE, STL, DReG, MeanFieldELBO, ScoreFunction
from ppl_vae.testing.linter import check_estimator_for, valid_estimators
from tests.oracle import make_pair
from tests.programs import (
    BernoulliGuide,
    BernoulliModel,
    ChainGuide,
    ChainModel,
    GlobalMeanGuide,
    GlobalMeanModel,
    Subsampled,
)  # fmt: skip


class Program(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *batch):
        return self.function(*batch)


def _categorical_model(x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Categorical(torch.ones(3)))
        pyro.sample("x", dist.Normal(z.float(), 1.0), obs=x)


def _categorical_guide(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Categorical(torch.ones(3)))


def _without_plate(x):
    z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0).to_event(1))
    pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def _masked_guide(x):
    with pyro.plate("data", len(x), dim=-1), poutine.mask(mask=torch.tensor([True, True, False, True])):
        pyro.sample("z", dist.Normal(x, 1.0))


def _plain_model(x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


X, CHAIN = torch.tensor([0.3, -0.2, 1.0, 0.5]), torch.linspace(-1, 1, 8).reshape(4, 2)
NORMAL = (make_pair(), (torch.zeros(4, 5),))
DISCRETE = (Pair(BernoulliModel(), BernoulliGuide()), (X,))
CATEGORICAL = (Pair(Program(_categorical_model), Program(_categorical_guide)), (X,))
GLOBAL = (Pair(GlobalMeanModel(4), GlobalMeanGuide(4)), (X,))
SUBSAMPLED = (
    Pair(Subsampled(BernoulliModel(), 10), Subsampled(BernoulliGuide(), 10)),
    (X, torch.arange(4)),
)
SUBSAMPLED_CHAIN = (
    Pair(Subsampled(ChainModel(), 10), Subsampled(ChainGuide(), 10)),
    (CHAIN, torch.arange(4)),
)
BETA = (Pair(ChainModel(scale=3.0), ChainGuide(scale=3.0)), (CHAIN,))
ONE_SIDED = (Pair(ChainModel(scale=3.0), ChainGuide()), (CHAIN,))
MASKED = (Pair(Program(_plain_model), Program(_masked_guide)), (X,))
NO_PLATE = (
    Pair(Program(_without_plate), Program(lambda x: pyro.sample("z", dist.Normal(x, 1.0).to_event(1)))),
    (X,),
)
ENUMERATED = (Pair(Program(config_enumerate(_categorical_model)), Program(lambda x: None)), (X,))
UNMARKED = (Pair(Program(_categorical_model), Program(lambda x: None)), (X,))
ENUMERATED_GUIDE = (
    Pair(Program(_categorical_model), Program(config_enumerate(_categorical_guide))),
    (X,),
)

REFUSED = [
    (DISCRETE, DReG(num_particles=3), "sites ['z'] of the guide are not reparameterised"),
    (DISCRETE, STL(3), "not reparameterised"),
    (DISCRETE, TraceMeanField_ELBO(), "not reparameterised"),
    (DISCRETE, TraceTailAdaptive_ELBO(num_particles=3, vectorize_particles=True), "not reparameterised"),
    (CATEGORICAL, ARM(), "sites ['z'] of the guide are neither Bernoulli nor reparameterised"),
    (DISCRETE, RenyiELBO(alpha=0, num_particles=3), "gradient of exactly zero"),
    (SUBSAMPLED, RenyiELBO(alpha=0.5), "factor N/B = 2.5 inside the log-mean-exp"),
    (SUBSAMPLED, ReweightedWakeSleep(), "N/B = 2.5"),
    (SUBSAMPLED_CHAIN, TraceTailAdaptive_ELBO(num_particles=3, vectorize_particles=True), "N/B = 2.5"),
    (NORMAL, TraceTailAdaptive_ELBO(num_particles=3), "vectorize_particles=True"),
    (GLOBAL, RenyiELBO(alpha=0.5), "sites ['theta'] stand outside the plate 'data'"),
    (NO_PLATE, RenyiELBO(alpha=0.5), "weighs the whole batch jointly"),
    (GLOBAL, IWAE(3), "sites ['theta'] stand outside the plate 'data'"),
    (ONE_SIDED, TraceMeanField_ELBO(), "sites ['top'] have a scale or mask in one program"),
    (MASKED, TraceMeanField_ELBO(), "sites ['z'] have a scale or mask in one program"),
    (BETA, IWAE(3), "poutine.scale on latent sites ('top' by 3)"),
    (BETA, RenyiELBO(alpha=0.5), "kl=kl.Beta(3)"),
    (ENUMERATED, Trace_ELBO(), "the guide lacks the sites ['z'] of the model"),
    (ENUMERATED, Trace_ELBO(), "estimators.IWAE"),
    (UNMARKED, TraceEnum_ELBO(max_plate_nesting=1), "infer={'enumerate': 'parallel'}"),
    (ENUMERATED_GUIDE, Trace_ELBO(), "sites ['z'] are marked for enumeration"),
    (ENUMERATED_GUIDE, IWAE(2), "pyro.infer.TraceEnum_ELBO"),
]


@pytest.mark.parametrize(
    ("given", "estimator", "reason"), REFUSED, ids=lambda v: v if isinstance(v, str) else ""
)
def test_an_estimator_that_is_not_valid_is_refused_by_site_and_a_valid_one_is_named(given, estimator, reason):
    pair, batch = given
    with pytest.raises(PairError) as caught:
        check_estimator_for(pair, batch, estimator)
    message = str(caught.value)
    assert reason in message
    named = message.rsplit("Valid for it: ", 1)[1].split(", ")
    assert named == valid_estimators(pair, batch)
    for name in named:
        kind = eval(name, {"estimators": estimators, "pyro": pyro})
        check_estimator_for(pair, batch, kind())


ACCEPTED = [
    *[
        (NORMAL, each)
        for each in (DReG(num_particles=3), STL(), RenyiELBO(), TraceMeanField_ELBO(), TraceGraph_ELBO())
    ],
    (NORMAL, TraceTailAdaptive_ELBO(num_particles=3, vectorize_particles=True)),
    *[
        (DISCRETE, each)
        for each in (IWAE(3), ARM(), ScoreFunction(), RenyiELBO(alpha=0.5), TraceGraph_ELBO())
    ],
    *[(SUBSAMPLED, each) for each in (IWAE(3), Trace_ELBO(), MeanFieldELBO())],
    *[(GLOBAL, each) for each in (estimators.ELBO(), MeanFieldELBO(), Trace_ELBO())],
    *[(BETA, each) for each in (estimators.ELBO(3), TraceMeanField_ELBO(), STL(1), Trace_ELBO())],
    *[(ONE_SIDED, each) for each in (estimators.ELBO(), MeanFieldELBO())],
    (ENUMERATED, TraceEnum_ELBO(max_plate_nesting=1)),
    (ENUMERATED, estimators.ELBO()),
    (UNMARKED, IWAE(3)),
    (ENUMERATED_GUIDE, TraceEnum_ELBO(max_plate_nesting=1)),
    (CATEGORICAL, TraceEnum_ELBO(max_plate_nesting=1)),
]


@pytest.mark.parametrize(("given", "estimator"), ACCEPTED)
def test_an_estimator_that_is_valid_is_accepted(given, estimator):
    check_estimator_for(given[0], given[1], estimator)


def test_a_single_tensor_is_a_batch_and_nothing_is_disturbed():
    pair = make_pair()
    pair.train()
    state = torch.get_rng_state()
    check_estimator_for(pair, torch.zeros(3, 5), IWAE(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert pair.training


def test_latents_that_only_one_program_has_are_the_pairs_mistake():
    pair = Pair(ChainModel(), Program(_categorical_guide))
    with pytest.raises(PairError, match="latent sites of model and guide differ"):
        check_estimator_for(pair, CHAIN, IWAE(2))
