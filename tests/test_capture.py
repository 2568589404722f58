"""The captured step: the mathematics of the eager one, fresh noise, nothing baked in, and honest refusals.

Most of it runs the traced graph as it is, `backend="graph"`, since compiling takes longer than the rest.
"""

from __future__ import annotations

import copy
import functools
import shutil
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import nn

import ppl_vae as pv
from ppl_vae import data, estimators, guides, kl, likelihoods, models, nets
from ppl_vae import step as step_module
from ppl_vae.capture import CapturedStep, CaptureError, worth_capturing
from ppl_vae.capture.graph import require_compiler
from ppl_vae.capture.matmul import available
from ppl_vae.capture.numerics import decompositions, log1p
from ppl_vae.kl import KLSchedule
from ppl_vae.step import NotFinite, Objective, Step
from tests.conftest import SIGMAS
from tests.oracle import make_pair
from tests.programs import BernoulliGuide, BernoulliModel, ChainGuide, ChainModel

STEPS, BATCH = 20, 8
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


def vae(dtype=torch.float32, likelihood=None, guide=guides.MeanField, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        likelihood = likelihood or likelihoods.Bernoulli()
        decoder = nets.MLPDecoder(3, likelihood.raw_shape((1, 4, 4)), (6,), **options)
        pair = pv.Pair(models.VAE(likelihood, decoder, 3), guide(nets.MLPEncoder((1, 4, 4), 3, (6,))))
    return pair.to(dtype)


def convolutional(dtype):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder = nets.ConvDecoder(3, (1, 8, 8), channels=4)
        encoder = nets.ConvEncoder((1, 8, 8), 3, channels=4, num_features=8)
        return pv.Pair(models.VAE(likelihoods.Bernoulli(), decoder, 3), guides.MeanField(encoder)).to(dtype)


def images(count=BATCH, dtype=torch.float32, side=4):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return (torch.rand(count, 1, side, side) < 0.4).to(dtype)


def adam(pair, **options):
    return torch.optim.Adam(pair.parameters(), lr=3e-3, **options)


def captured_step(pair, estimator, optimizer, *, backend="graph", penalties=None, **options):
    objective = Objective(pair, estimator)
    objective.penalties = penalties or {}
    return CapturedStep(objective, optimizer, backend=backend, same_noise=True, **options)


def difference(first, second):
    """The largest difference of two pairs' states, relative to each tensor's largest entry or 1e-2."""
    return max(
        ((a.double() - b.double()).abs().max() / a.double().abs().max().clamp_min(1e-2)).item()
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
        if a.numel()
    )


def assert_same_steps(pair, estimator, batches, make=adam, backend="graph", steps=STEPS, **options):
    """`steps` captured steps against as many eager ones, from the same weights and the same noise."""
    other, other_estimator = copy.deepcopy(pair), copy.deepcopy(estimator)
    eager = Step(pair, estimator, make(pair), **options)
    captured = captured_step(other, other_estimator, make(other), backend=backend, **options)
    losses = []
    for run in (eager, captured):
        torch.manual_seed(5)
        with pyro.validation_enabled(False):
            losses.append(torch.stack([run(*batches[i % len(batches)]) for i in range(steps)]))
    tolerance = TOLERANCE[pair.dtype]
    assert losses[0].std() > 0
    # Pyro's RenyiELBO gives a Python float, of which the eager step makes a float32
    rounding = max(tolerance, 4 * torch.finfo(losses[0].dtype).eps)
    torch.testing.assert_close(losses[1].to(losses[0].dtype), losses[0], rtol=rounding, atol=rounding)
    assert difference(pair, other) < tolerance
    count = steps * len(batches[0][0])
    means = eager.pop_means()
    sums = {name: total.item() / count for name, total in captured.pop().items()}
    assert sums.keys() == means.keys()
    assert sums == pytest.approx(means, rel=2 * rounding, abs=rounding)


def _name(estimator):
    return f"{type(estimator).__module__.split('.')[0]}-{type(estimator).__name__}-{estimator.num_particles}"


EVERY_ESTIMATOR = [
    estimators.ELBO(),
    estimators.ELBO(3),
    estimators.MeanFieldELBO(2),
    estimators.IWAE(3),
    estimators.Renyi(0.5, 3),
    estimators.STL(2),
    estimators.DReG(3),
    estimators.PIWAE(2, 2),
    estimators.TVO(3),
    estimators.ReweightedWakeSleep(3, insomnia=0.5),
    estimators.VIMCO(3),
    # told the nesting, which they else guess with a run that uses up random numbers
    Trace_ELBO(),
    Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1),
    TraceMeanField_ELBO(num_particles=2, max_plate_nesting=1),
    RenyiELBO(alpha=0.5, num_particles=3, vectorize_particles=True, max_plate_nesting=1),
]


@pytest.mark.parametrize("estimator", EVERY_ESTIMATOR, ids=_name)
def test_estimators_equal_the_eager_step(estimator):
    x = images(dtype=torch.float64)
    assert_same_steps(vae(torch.float64), estimator, [(x,), (1 - x,)])


PAIRS = {
    "dropout and batch norm": lambda dtype: vae(dtype, dropout=0.2, batch_norm=True),
    "full rank": lambda dtype: vae(dtype, guide=guides.FullRank),
    "convolutional": convolutional,
    "gaussian": lambda dtype: vae(dtype, likelihoods.Gaussian("per_output")),
    "laplace": lambda dtype: vae(dtype, likelihoods.Laplace("learned")),
    "poisson": lambda dtype: vae(dtype, likelihoods.Poisson()),
    "negative binomial": lambda dtype: vae(dtype, likelihoods.NegativeBinomial()),
    "linear gaussian": lambda dtype: make_pair(perturb=0.3).to(dtype),
}


def sgd(pair):
    """Not Adam, which divides by the rounding errors of the bias before a BatchNorm, that has no gradient."""
    return torch.optim.SGD(pair.parameters(), lr=1e-4)


def inputs(name):
    x = images(dtype=torch.float64, side=8 if name == "convolutional" else 4)
    return x.flatten(1)[:, :5] if name == "linear gaussian" else x


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_equal_the_eager_step(name):
    assert_same_steps(PAIRS[name](torch.float64), estimators.IWAE(2), [(inputs(name),)], sgd)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("estimator", EVERY_ESTIMATOR, ids=_name)
def test_the_whole_grid_equals_the_eager_step(name, estimator):
    if isinstance(estimator, estimators.VIMCO) or name == "dropout and batch norm":
        pytest.skip("in the tests above")
    pair, x = PAIRS[name](torch.float64), inputs(name)
    assert_same_steps(pair, estimator, [(x,)], sgd)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    "make",
    [
        functools.partial(adam, fused=True),
        functools.partial(adam, weight_decay=0.1, fused=True),
        lambda pair: torch.optim.AdamW(pair.parameters(), lr=3e-3, weight_decay=0.1),
        lambda pair: torch.optim.Adamax(pair.parameters(), lr=3e-3, weight_decay=0.1),
        lambda pair: torch.optim.SGD(pair.parameters(), lr=3e-3, momentum=0.9, nesterov=True),
    ],
    ids=["adam", "adam with decay", "adamw", "adamax", "sgd"],
)
def test_optimizers_equal_torchs(make, dtype):
    x = images(dtype=dtype)
    assert_same_steps(vae(dtype), estimators.ELBO(), [(x,)], make, clip_norm=0.5)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_compiled_steps_equal_the_eager_step(dtype):
    x = images(dtype=dtype)
    assert_same_steps(vae(dtype, dropout=0.2), estimators.IWAE(3), [(x,)], backend="inductor", clip_norm=1.0)


def test_discrete_latents_and_their_moving_average():
    pair = pv.Pair(BernoulliModel(), BernoulliGuide())
    estimator = estimators.ScoreFunction(2)
    assert_same_steps(pair, estimator, [(torch.linspace(-1, 1, 6),)])


def test_hierarchies_masks_and_inner_plates():
    x, mask = torch.randn(6, 2), torch.tensor([[True, False]]).expand(6, 2).contiguous()
    assert_same_steps(pv.Pair(ChainModel(0.5), ChainGuide(0.5)), estimators.IWAE(2), [(x, mask)])


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_batch_is_made_inside(dynamic):
    pair = vae()
    other = copy.deepcopy(pair)
    split = data.Split.from_tensor((images(30) * 255).to(torch.uint8))
    split = data.Split(split.rows, divisor=255.0, dynamic=dynamic)
    eager, captured = (
        Step(pair, estimators.ELBO(), adam(pair)),
        captured_step(other, estimators.ELBO(), adam(other)),
    )
    index = torch.randperm(30).split(10)
    torch.manual_seed(3)
    first = [eager.on(split, rows).item() for rows in index]
    torch.manual_seed(3)
    assert [captured.on(split, rows).item() for rows in index] == pytest.approx(first, rel=1e-5)


# Noise


@pytest.mark.parametrize(
    ("backend", "repeats"),
    [("graph", 1000), pytest.param("inductor", 10_000, marks=[needs_compiler, pytest.mark.slow])],
)
def test_noise_is_fresh_and_right(backend, repeats):
    pair, x = vae(torch.float64), images(dtype=torch.float64)
    objective = Objective(pair, estimators.ELBO())
    still = torch.optim.SGD(pair.parameters(), lr=0.0)
    # Inductor with random numbers of its own
    captured = CapturedStep(objective, still, backend=backend, same_noise=backend == "graph")
    losses = torch.stack([captured(x) for _ in range(repeats)])
    assert len(losses.unique()) == repeats
    with torch.no_grad(), pyro.validation_enabled(False):
        # each particle of the whole batch is one eager step's loss
        eager = -estimators.ELBO(20_000).draw(pair.model, pair.guide, x).log_weight.mean(-1)
    for moment in (lambda y: y, lambda y: (y - eager.mean()).square()):
        one, two = moment(losses), moment(eager)
        error = (one.var() / len(one) + two.var() / len(two)).sqrt()
        assert abs(one.mean() - two.mean()) < SIGMAS * error


# Nothing baked in


@pytest.fixture
def running():
    """A captured step that has run once, its pair, its optimizer and a batch."""
    pair, x = vae(torch.float64), images(dtype=torch.float64)
    optimizer = adam(pair)
    captured = captured_step(pair, estimators.ELBO(), optimizer)
    captured(x)
    return captured, pair, optimizer, x


def seeded(run, *arguments):
    torch.manual_seed(11)
    return run(*arguments).item()


def test_another_learning_rate_is_seen(running):
    captured, pair, optimizer, x = running
    before = copy.deepcopy(pair.state_dict())
    optimizer.param_groups[0]["lr"] = 0.0
    captured(x)
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    optimizer.param_groups[0]["lr"] = 1e-3
    captured(x)
    assert not all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    assert len(captured._graphs) == 1


def test_another_kl_weight_is_seen():
    pair, x = vae(torch.float64), images(dtype=torch.float64)
    step = Step(pair, estimators.ELBO(), torch.optim.SGD(pair.parameters(), lr=0.0), capture=True)
    step.captured.backend, step.captured.same_noise = "graph", True
    losses = []
    for weight in (1.0, 0.0, 3.0):
        step.set_kl_weight({"z": weight})
        losses.append(seeded(step, x))
    divergence = losses[0] - losses[1]
    assert abs(divergence) > 1e-3
    assert losses[2] == pytest.approx(losses[1] + 3 * divergence, rel=1e-10)
    assert len(step.captured._graphs) == 1


def test_a_rising_capacity_is_seen():
    pair, x = vae(torch.float64), images(dtype=torch.float64)
    schedule = KLSchedule(kl.Capacity(target=5.0, epochs=10, gamma=2.0), ("z",), 20)
    example = estimators.ELBO().draw(pair.model, pair.guide, x)
    schedule.make_penalties(example, len(x))
    still = torch.optim.SGD(pair.parameters(), lr=0.0)
    both = [Step(pair, estimators.ELBO(), still, kl=schedule, capture=capture) for capture in (False, True)]
    both[1].captured.backend, both[1].captured.same_noise = "graph", True
    for epoch in (0.0, 5.0):
        losses = []
        for step in both:
            step.set_epoch(epoch)
            losses.append(seeded(step, x))
        assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_another_batch_is_seen(running):
    captured, _, optimizer, x = running
    optimizer.param_groups[0]["lr"] = 0.0
    assert seeded(captured, x) == seeded(captured, x)
    assert seeded(captured, x) != seeded(captured, 1 - x)


def test_another_data_set_is_seen(running):
    captured, _, optimizer, x = running
    optimizer.param_groups[0]["lr"] = 0.0
    index = torch.arange(4)
    first, second = (data.Split.from_tensor(part) for part in (x, 1 - x))
    assert seeded(captured.on, first, index) != seeded(captured.on, second, index)
    assert seeded(captured.on, second, index) == pytest.approx(seeded(captured, 1 - x[:4]), rel=1e-12)


def test_reloaded_weights_and_optimizer_are_seen(running):
    captured, pair, optimizer, x = running
    weights, state = copy.deepcopy(pair.state_dict()), copy.deepcopy(optimizer.state_dict())
    first = [seeded(captured, x) for _ in range(3)]
    pair.load_state_dict(weights)
    optimizer.load_state_dict(state)
    assert [seeded(captured, x) for _ in range(3)] == first
    assert len(captured._graphs) == 1
    with torch.no_grad():
        pair.model.decoder.output_bias.data = pair.model.decoder.output_bias.data + 1
    assert seeded(captured, x) != first[-1]


def test_modes_and_frozen_parameters_are_seen():
    pair, x = vae(torch.float64, dropout=0.5), images(dtype=torch.float64)
    captured = captured_step(pair, estimators.ELBO(), torch.optim.SGD(pair.parameters(), lr=0.1))
    captured(x)
    pair.eval()
    with torch.no_grad(), pyro.validation_enabled(False):
        torch.manual_seed(11)
        expected = Objective(pair, estimators.ELBO())(x)[0].item()
    assert seeded(captured, x) == pytest.approx(expected, rel=1e-10)
    pair.model.requires_grad_(False)
    before = copy.deepcopy(pair.state_dict())
    captured(x)
    moved = [name for name, value in pair.state_dict().items() if not torch.equal(value, before[name])]
    assert moved
    assert all(name.startswith("guide.") for name in moved)


def test_a_frozen_parameter_can_be_freed():
    pair, x = vae(), images()
    pair.model.requires_grad_(False)
    captured = captured_step(pair, estimators.ELBO(), adam(pair))
    captured(x)
    pair.model.requires_grad_(True)
    before = pair.model.decoder.output_bias.detach().clone()
    captured(x)
    assert not torch.equal(pair.model.decoder.output_bias, before)


def test_eager_and_captured_steps_mix():
    x = images(dtype=torch.float64)
    pair = vae(torch.float64)
    other = copy.deepcopy(pair)
    eager, mixed = adam(pair), adam(other)
    plain = Step(pair, estimators.ELBO(), eager)
    runs = [Step(other, estimators.ELBO(), mixed), captured_step(other, estimators.ELBO(), mixed)]
    for number in range(6):
        assert seeded(plain, x) == pytest.approx(seeded(runs[number % 2], x), rel=1e-10)
    assert difference(pair, other) < 1e-10
    for one, two in zip(eager.state.values(), mixed.state.values(), strict=True):
        assert one["step"] == two["step"] == 6


# Refusals


class VonMisesGuide(nn.Module):
    """Angles: their sampler rejects in a Python loop."""

    def __init__(self):
        super().__init__()
        self.concentration = nn.Parameter(torch.ones(()))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("angle", dist.VonMises(x, self.concentration.exp()))


class AngleModel(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            angle = pyro.sample("angle", dist.VonMises(torch.zeros(()), torch.ones(())))
            return pyro.sample("x", dist.Normal(angle, 1.0), obs=x)


def test_a_rejection_sampler_falls_back_once_and_names_its_site():
    pair, x = pv.Pair(AngleModel(), VonMisesGuide()), torch.linspace(-1, 1, 5)
    estimator = estimators.VIMCO(2)
    step = Step(pair, estimator, adam(pair), capture="auto")
    with pytest.warns(UserWarning, match=r"cannot be captured: site 'angle' \(VonMises\)") as caught:
        step(x)
    assert len(caught) == 1
    assert "values of a tensor" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(x)
    assert step.captured is None
    assert step.pop_means()["bound"] < 0
    with pytest.raises(CaptureError, match="angle"):
        Step(pair, estimator, adam(pair), capture=True)(x)


class Branching(nn.Module):
    def __init__(self, program, loose=False):
        super().__init__()
        self.program, self.hidden = program, [torch.ones(())] if loose else []

    def forward(self, x):
        if self.hidden:
            return self.program(x * self.hidden[0])
        if x.mean() > 100:
            raise AssertionError
        return self.program(x)


def test_control_flow_on_values_names_its_line():
    pair = vae()
    pair.model = Branching(pair.model)
    before = copy.deepcopy(pair.state_dict())
    with pytest.raises(
        CaptureError, match=r"test_capture\.py:\d+, `if x\.mean\(\) > 100:`: the program looks"
    ):
        captured_step(pair, estimators.ELBO(), adam(pair))(images())
    assert difference_of(before, pair.state_dict()) == 0


def difference_of(first, second):
    return max((first[name].double() - second[name].double()).abs().max().item() for name in first)


def test_a_tensor_in_hiding_is_refused_and_not_baked_in():
    pair = vae()
    pair.guide = Branching(pair.guide, loose=True)
    with pytest.raises(CaptureError, match="no parameter, buffer or attribute"):
        captured_step(pair, estimators.ELBO(), adam(pair))(images())


@pytest.mark.parametrize(
    ("estimator", "make", "reason"),
    [
        (estimators.SUMO(), adam, "random number of particles"),
        (TraceGraph_ELBO(), adam, "TraceGraph_ELBO has no differentiable loss"),
        (estimators.ELBO(), lambda p: torch.optim.RMSprop(p.parameters()), "RMSprop: the updates"),
        (estimators.ELBO(), functools.partial(adam, amsgrad=True), "Adam with amsgrad"),
    ],
    ids=["SUMO", "TraceGraph", "RMSprop", "amsgrad"],
)
def test_what_has_no_captured_form_says_so(estimator, make, reason):
    pair = vae()
    with pytest.raises(CaptureError, match=reason):
        captured_step(pair, estimator, make(pair))(images())


def test_a_penalty_that_learns_is_refused():
    pair, x = vae(), images()
    schedule = KLSchedule(kl.FactorVAE(gamma=1.0), ("z",), 1)
    schedule.make_penalties(estimators.ELBO().draw(pair.model, pair.guide, x), len(x))
    with pytest.raises(CaptureError, match="FactorVAEPenalty of site 'z'"):
        captured_step(pair, estimators.ELBO(), adam(pair), penalties=schedule.penalties)


def test_a_loss_that_is_not_finite_moves_nothing():
    pair, x = vae(), images()
    step = Step(pair, estimators.ELBO(), adam(pair), capture=True)
    step.captured.backend = "graph"
    step(x)
    before = copy.deepcopy(pair.state_dict())
    with pytest.raises(NotFinite):
        step(x * float("nan"))
    assert difference_of(before, pair.state_dict()) == 0
    assert step.pop_means()["bound"] > -100


def test_errors_of_the_pair_stay_what_they_are():
    pair = vae()
    pair.guide.encoder.trunk = nn.Flatten(-3)
    with pytest.raises(ValueError, match="features"):
        captured_step(pair, estimators.ELBO(), adam(pair))(images())


# fit


@pytest.fixture
def uncompiled(monkeypatch):
    """`fit` with captured steps that are not compiled."""
    made = []

    def make(*arguments, **options):
        made.append(CapturedStep(*arguments, **options, backend="graph"))
        return made[-1]

    monkeypatch.setattr(step_module, "CapturedStep", make)
    return made


FITTING = {"epochs": 2, "batch_size": 12, "progress": False, "device": "cpu"}


def fitted(capture, **options):
    pair = vae()
    run = pv.fit(pair, estimators.ELBO(), images(30), capture=capture, **FITTING | options)
    return pair, run.history.drop(columns=["seconds", "capture_seconds"], errors="ignore")


def test_fit_is_the_same_captured(uncompiled):
    first, history = fitted(False, schedule="cosine", kl=kl.LinearWarmup(2), clip_norm=1.0)
    second, captured = fitted(True, schedule="cosine", kl=kl.LinearWarmup(2), clip_norm=1.0)
    assert len(uncompiled[0]._graphs) == 1, "the smaller last batch runs as written"
    assert difference(first, second) < 1e-5
    assert captured.to_numpy() == pytest.approx(history.to_numpy(), rel=1e-5)


def test_a_captured_fit_resumes_as_it_would_have_gone_on(uncompiled, tmp_path):
    whole, _ = fitted(True, epochs=4)
    fitted(True, epochs=2, run_dir=tmp_path)
    resumed, _ = fitted(True, epochs=4, run_dir=tmp_path, resume=True)
    assert difference(whole, resumed) == 0


def test_auto_captures_long_trainings_only(uncompiled):
    fitted("auto")
    assert uncompiled == []
    cpu = torch.device("cpu")
    assert not worth_capturing(1000, cpu)
    assert worth_capturing(1_000_000, cpu) == (shutil.which("g++") is not None)


def test_without_a_compiler_auto_is_silent_and_true_an_error(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *arguments, **options: None)
    assert not worth_capturing(1_000_000, torch.device("cpu"))
    with pytest.raises(CaptureError, match=r"install g\+\+"):
        require_compiler()


def test_an_unknown_capture_is_refused():
    with pytest.raises(ValueError, match="capture must be True, False or 'auto'"):
        fitted("always")


# Numerics


def test_log1p_is_exact_to_rounding():
    x = torch.cat([torch.logspace(-30, 30, 400), -torch.logspace(-30, -1e-3, 400), torch.zeros(1)])
    expected = x.double().log1p()
    error = (log1p(x).double() - expected).abs() / expected.abs().clamp_min(1e-38)
    assert error.max() < 4e-7
    assert log1p(torch.tensor(float("inf"))) == float("inf")
    assert log1p(torch.tensor(-1.0)) == -float("inf")


def test_log_sigmoid_and_its_gradient():
    table = decompositions(torch.device("cpu"))
    forward, backward = (
        table[op]
        for op in (torch.ops.aten.log_sigmoid_forward.default, torch.ops.aten.log_sigmoid_backward.default)
    )
    x = torch.linspace(-100, 100, 4001, dtype=torch.float64, requires_grad=True)
    value, buffer = forward(x.detach())
    expected = nn.functional.logsigmoid(x)
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(
        backward(torch.ones_like(value), x.detach(), buffer), gradient, rtol=1e-12, atol=0
    )
    assert backward(torch.ones(1), torch.zeros(1), torch.ones(1)) == 0.5


@pytest.mark.skipif(not available(), reason="this torch has no oneDNN linear layer")
def test_onednns_product_is_the_product():
    x, matrix, bias = torch.randn(5, 7), torch.randn(7, 3), torch.randn(3)
    torch.testing.assert_close(torch.ops.ppl_vae.onednn_linear(x, matrix.t(), bias), x @ matrix + bias)
    torch.testing.assert_close(torch.ops.ppl_vae.onednn_linear(matrix.t(), x, None), matrix.t() @ x.t())
