"""M2: its bound against a sum over the labels written out by hand, and what a missing label means."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets
from ppl_vae.core.sites import PairError
from ppl_vae.estimators.enumerated import EnumeratedELBO
from ppl_vae.nets.labels import one_hot
from ppl_vae.nets.shapes import Flatten
from ppl_vae.testing import check_pair
from tests.capture.helpers import assert_same_steps
from tests.conftest import SIGMAS

SHAPE, CLASSES, LATENT, SIZE = (1, 4, 4), 3, 2, 5
LABELS = {
    "labelled": torch.tensor([0, 1, 2, 2, 0]),
    "unlabelled": torch.full((SIZE,), -1),
    "mixed": torch.tensor([0, -1, 2, -1, 1]),
    "mixed, NaN for none": torch.tensor([0, math.nan, 2, math.nan, 1]),
}
ENUMERATED = [
    TraceEnum_ELBO(max_plate_nesting=1),
    EnumeratedELBO(),
    EnumeratedELBO(2),
    EnumeratedELBO(closed_form=True),
]


def make(alpha=0.7):
    flatten = Flatten(SHAPE)
    model = models.SemiSupervisedVAE(
        likelihoods.Bernoulli(), nets.MLPDecoder(LATENT + CLASSES, SHAPE, (6,)), LATENT, CLASSES
    )
    guide = guides.SemiSupervised(
        torch.nn.Sequential(flatten, nets.MLP(16, (7,), CLASSES)),
        torch.nn.Sequential(flatten, nets.MLP(16, (8,))),
        nets.MLPEncoder((8 + CLASSES,), LATENT, (6,)),
        CLASSES,
        alpha,
    )
    x = torch.randint(0, 2, (SIZE, *SHAPE)).to(torch.get_default_dtype())
    pair = pv.Pair(model, guide, example=(x, LABELS["mixed"]))
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return pair, x


def by_hand(pair, x, y, noise, closed_form=False):
    """The objective of each datum, (B,), with the label summed over by a loop; noise is (C, B,
    latent_dim).
    """
    model, guide = pair.model, pair.guide
    log_q = guide.classifier(x).log_softmax(-1)
    features, objectives = guide.features(x), []
    for i in range(len(x)):

        def joint(label, i=i):
            indicator = torch.eye(CLASSES)[label]
            loc, scale = guide.encoder(torch.cat([features[i], indicator]))
            z = loc + scale * noise[label, i]
            logits = model.decoder(torch.cat([z, indicator]))
            terms = -math.log(CLASSES) + torch.distributions.Bernoulli(logits=logits).log_prob(x[i]).sum()
            prior, posterior = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(loc, scale)
            if closed_form:
                return terms - torch.distributions.kl_divergence(posterior, prior).sum()
            return terms + prior.log_prob(z).sum() - posterior.log_prob(z).sum()

        label = -1 if bool(y[i].isnan()) else int(y[i])
        if label >= 0:
            objectives.append(joint(label) + guide.alpha * log_q[i, label])
        else:
            values = torch.stack([joint(each) for each in range(CLASSES)])
            objectives.append((log_q[i].exp() * (values - log_q[i])).sum())
    return torch.stack(objectives)


def noise_of(estimator):
    torch.manual_seed(3)
    noise = torch.normal(torch.zeros(estimator.num_particles * CLASSES, SIZE, LATENT), 1.0)
    return noise.unflatten(0, (estimator.num_particles, CLASSES))


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("estimator", ENUMERATED, ids=["Pyro's", "ours", "ours, K = 2", "closed form"])
def test_the_bound_and_its_gradient_are_the_sum_over_the_labels(double, estimator, labels):
    pair, x = make()
    y = LABELS[labels]
    closed_form = getattr(estimator, "closed_form", False)
    objectives = [by_hand(pair, x, y, noise, closed_form) for noise in noise_of(estimator)]
    expected = torch.stack(objectives).mean(0).sum()
    wanted = torch.autograd.grad(expected, list(pair.parameters()), allow_unused=True)
    torch.manual_seed(3)
    found = -estimator.differentiable_loss(pair.model, pair.guide, x, y)
    torch.testing.assert_close(found, expected)
    got = torch.autograd.grad(found, list(pair.parameters()), allow_unused=True)
    for (name, parameter), ours, hand in zip(pair.named_parameters(), got, wanted, strict=True):
        ours = torch.zeros_like(parameter) if ours is None else ours
        hand = torch.zeros_like(parameter) if hand is None else hand
        torch.testing.assert_close(ours, hand, msg=lambda text, name=name: f"{name}: {text}")


def test_the_particles_hold_the_averages_by_site(double):
    pair, x = make()
    torch.manual_seed(3)
    particles = EnumeratedELBO().draw(pair.model, pair.guide, x, LABELS["mixed"])
    expected = by_hand(pair, x, LABELS["mixed"], noise_of(EnumeratedELBO())[0])
    torch.testing.assert_close(particles.log_weight[0], expected)
    # KL(q(y) || p(y)): log C for a known label, log C - H(q) for a missing one
    entropy = torch.distributions.Categorical(logits=pair.guide.classifier(x)).entropy()
    known = LABELS["mixed"] >= 0
    wanted = math.log(CLASSES) - entropy.where(~known, 0.0)
    torch.testing.assert_close(particles.kl("y")[0], wanted)
    log_q = pair.guide.classifier(x).log_softmax(-1)
    cross_entropy = -(one_hot(LABELS["mixed"], CLASSES, log_q.dtype) * log_q).sum(-1)
    torch.testing.assert_close(particles.kl_sample("classifier")[0], 0.7 * cross_entropy)


def test_the_classification_term_is_part_of_training_alone(double):
    pair, x = make()
    pair.eval()
    torch.manual_seed(3)
    found = EnumeratedELBO().bound(EnumeratedELBO().draw(pair.model, pair.guide, x, LABELS["mixed"]))
    pair.guide.alpha = 0.0
    torch.testing.assert_close(found, by_hand(pair, x, LABELS["mixed"], noise_of(EnumeratedELBO())[0]))


@pytest.mark.parametrize("labels", ["labelled", "unlabelled", "mixed"])
def test_it_keeps_the_contract(labels):
    pair, x = make()
    report = check_pair(pair, x, LABELS[labels], estimator=TraceEnum_ELBO())
    assert report.latent_sites == {"y": (), "z": (LATENT,)}
    assert report.non_reparameterised == ("y",)


def test_estimators_that_do_not_sum_over_the_mark_are_refused_and_work_without_it():
    pair, x = make()
    with pytest.raises(PairError, match=r"'y'.* marked for enumeration"):
        check_pair(pair, x, LABELS["mixed"], estimator=estimators.VIMCO(4))
    pair.guide.enumerate = False
    check_pair(pair, x, LABELS["mixed"], estimator=estimators.VIMCO(4))


def test_a_drawn_label_gives_the_same_bound_in_expectation(double):
    pair, x = make()
    pair.guide.enumerate = False
    pair.eval()
    y = LABELS["mixed"]
    torch.manual_seed(0)
    with torch.no_grad():
        summed = EnumeratedELBO(4000).draw(pair.model, pair.guide, x, y).log_weight
        drawn = estimators.ELBO(4000).draw(pair.model, pair.guide, x, y).log_weight
    error = ((summed.var(0) + drawn.var(0)) / 4000).sqrt()
    assert bool(((summed.mean(0) - drawn.mean(0)).abs() < SIGMAS * error).all())
    assert bool((summed.var(0) <= drawn.var(0) * 1.1).all())


def test_a_label_beyond_the_classes_is_named():
    pair, x = make()
    with pytest.raises(ValueError, match="label 3 is not below num_classes=3"):
        pair.guide(x, torch.tensor([0, 1, 3, -1, 0]))


def test_sizes_that_do_not_fit_and_a_negative_alpha_are_refused():
    with pytest.raises(ValueError, match=r"2 \+ 3 = 5, but the decoder was built for 2"):
        models.SemiSupervisedVAE(likelihoods.Bernoulli(), nets.MLPDecoder(2, SHAPE, (6,)), 2, 3)
    with pytest.raises(ValueError, match="alpha"):
        make(alpha=-1.0)


def test_the_questions_treat_the_label_as_any_latent():
    pair, x = make()
    y = LABELS["mixed"]
    assert pv.sample(pair, 7, seed=0).latents["y"].shape == (7,)
    known = y >= 0
    assert torch.equal(pv.encode(pair, x, y, seed=0).latents["y"][known], y[known])
    chosen = pv.decode(pair, {"y": torch.arange(CLASSES)}, seed=0)
    assert chosen.value.shape == (CLASSES, *SHAPE)
    assert pv.reconstruct(pair, x, y, num_samples=4, seed=0).value.shape == (4, SIZE, *SHAPE)
    path = pv.interpolate(pair, (x[:2], y[:2]), (x[2:4], y[2:4]), steps=3)
    assert path.value.shape == (3, 2, *SHAPE)
    assert pv.traverse(pair, (x, y), "z", steps=3).value.shape == (LATENT, 3, SIZE, *SHAPE)


@pytest.mark.parametrize("labels", ["labelled", "mixed"])
def test_the_captured_step_is_the_eager_step(double, labels):
    pair, x = make()
    assert_same_steps(pair, EnumeratedELBO(2, closed_form=True), [(x, LABELS[labels])], steps=5)


def test_training_learns_the_labels_of_two_blobs(tmp_path):
    torch.manual_seed(0)
    truth = torch.randint(0, 2, (600,))
    x = torch.randn(600, 2) + 4.0 * (truth.unsqueeze(-1) - 0.5)
    y = torch.where(torch.arange(600) % 30 == 0, truth, -1)
    model = models.SemiSupervisedVAE(
        likelihoods.Gaussian(event_dim=1), nets.MLPDecoder(1 + 2, (2,), (8,)), latent_dim=1, num_classes=2
    )
    guide = guides.SemiSupervised(
        nets.MLP(2, (8,), 2), torch.nn.Identity(), nets.MLPEncoder((4,), 1, (8,)), num_classes=2
    )
    pair = pv.Pair(model, guide)
    split = data.Split.from_tensor(x, y, labels=True)
    estimator = EnumeratedELBO(closed_form=True)
    run = pv.fit(
        pair, estimator, split, epochs=8, learning_rate=0.01, check=False,
        run_dir=tmp_path / "run", progress=False,
    )  # fmt: skip
    assert {"train_kl_y", "train_kl_z", "train_kl_classifier"} <= set(run.history)
    right = (guide.classifier(x).argmax(-1) == truth).float().mean()
    assert right > 0.95
    again = pv.load(tmp_path / "run")
    torch.testing.assert_close(again.guide.classifier(x), guide.classifier(x))
    assert evaluate.log_likelihood(pair, split.take(50), num_particles=20).value > -6


def test_pyro_stock_svi_trains_it():
    pair, x = make()
    optimizer = pyro.optim.Adam({"lr": 0.01})
    svi = pyro.infer.SVI(*pair.pyro(), optimizer, TraceEnum_ELBO(max_plate_nesting=1))
    losses = [svi.step(x, LABELS["mixed"]) for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
