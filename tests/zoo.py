"""Every pair of the zoo, small: which model goes with which guide, and how the two are made.

`python -m tests.zoo` writes the table of CONTRIBUTING.md anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from pyro.infer import ELBO as PyroELBO
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn

import ppl_vae as pv
from ppl_vae import data, estimators, guides, likelihoods, models, nets, priors
from ppl_vae.estimators.enumerated import EnumeratedELBO

CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
BEGIN, END = "<!-- zoo: ", "<!-- end of zoo -->"

BATCH, LATENT, HIDDEN, CLASSES = 4, 3, (6,), 3
VALUES = 2  # of each code
IMAGE, LARGE_IMAGE, VECTOR, TABLE = (1, 4, 4), (1, 8, 8), (5,), (4,)
SEQUENCE, STRING, SYMBOLS = (2, 4), (3,), 3

Make = Callable[[], pv.Pair]


@dataclass(frozen=True)
class Case:
    """A pair, the data that it takes, and the estimator that it is trained with.

    Args:
        model, guide: the names of the classes.
        make: a new pair.
        detail: what sets it apart from other cases of the same two classes, such as its prior.
        shape: the event shape of its data.
        labels: whole numbers, the second tensor of its batch: labels, or lengths; or None.
        second: the name of that tensor.
        views: the name and event shape of further observed arrays.
        estimator: a valid estimator.
        has_prior: whether data can be drawn from the model.
        has_mean: whether its likelihood has one; else questions show its mode, or draws, in its place.
        has_density: whether the densities of all its latents can be computed.
        site: the latent that is interpolated and traversed.
        discrete: whether all of its latents are, so that nothing lies between their values.
        combined: whether its model, guide and prior each stand in another case too; the dearer tests hold
            such a case only in the grid.
    """

    model: str
    guide: str
    make: Make
    detail: str = ""
    shape: tuple[int, ...] = IMAGE
    labels: tuple[int, ...] | None = None
    views: tuple[tuple[str, tuple[int, ...]], ...] = ()
    second: str = "y"
    estimator: PyroELBO = field(default_factory=estimators.ELBO)
    has_prior: bool = True
    has_mean: bool = True
    has_density: bool = True
    site: str = "z"
    discrete: bool = False
    combined: bool = False

    @property
    def id(self) -> str:
        return "-".join([self.model, self.guide, *filter(None, [self.detail.replace(" ", "_")])])

    def pair(self, dtype: torch.dtype = torch.float32) -> pv.Pair:
        """The pair, of the same weights every time; nothing in it is at the zero where it may start."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            pair = self.make().to(dtype)
            with torch.no_grad():
                for parameter in pair.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
        return pair

    def batch(self, dtype: torch.dtype = torch.float32, size: int = BATCH) -> tuple[Tensor, ...]:
        """The same data every time."""
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(size, *self.shape, generator=generator).to(dtype)
        if self.shape == TABLE:  # two numbers, a class and a count, with gaps
            x[:, 2], x[:, 3] = x[:, 2].abs().round().clamp(max=2), x[:, 3].exp().round()
            x[torch.rand(x.shape, generator=generator) < 0.3] = torch.nan
        elif self.shape == STRING:
            x = (2 * x).abs().round().clamp(max=SYMBOLS)
            x = x.masked_fill((x == 0).cumsum(-1) > 0, 0)  # of unequal lengths
        elif self.shape != VECTOR:
            x = (x > 0.5).to(dtype)
        if self.views:  # of each the first datum lacks all, and the second a number
            more = [torch.randn(size, *shape, generator=generator).to(dtype) for _, shape in self.views]
            for view in more:
                view[0], view[1].view(-1)[0] = torch.nan, torch.nan
            return (x, *more)
        if self.labels is None:
            return (x,)
        return x, torch.tensor(self.labels).repeat(size)[:size]


def split_of(case: Case, batch: tuple[Tensor, ...]) -> data.Split:
    """The batch as data to train on."""
    missing = any(bool(tensor.isnan().any()) for tensor in batch)
    if case.views or case.second != "y":
        names = ("x", *([name for name, _ in case.views] or [case.second]))
        return data.Split.from_tensors(dict(zip(names, batch)), missing=missing)
    return data.Split.from_tensor(*batch, labels=case.labels is not None, missing=missing)


def encoder(shape: tuple[int, ...] = IMAGE, latent_dim: int = LATENT) -> nets.MLPEncoder:
    return nets.MLPEncoder(shape, latent_dim, HIDDEN)


def decoder(extra: int = 0) -> nets.MLPDecoder:
    return nets.MLPDecoder(LATENT + extra, IMAGE, HIDDEN)


def vae(make_guide: Callable[..., nn.Module], make_prior: Callable[..., nn.Module] | None = None) -> pv.Pair:
    """A VAE of images; a VampPrior and the guide share the encoder."""
    shared = encoder()
    prior = None if make_prior is None else make_prior(shared)
    model = models.VAE(likelihoods.Bernoulli(), decoder(), LATENT, prior)
    return pv.Pair(model, make_guide(shared, model))


def of_vectors(kind: type[nn.Module], make_guide: Callable[..., nn.Module]) -> pv.Pair:
    model = kind(LATENT, VECTOR[0])
    return pv.Pair(model, make_guide(encoder(VECTOR), model))


# Guides over all of R^d, for any model with the one site z: (encoder, model) -> guide
REAL: dict[str, Callable[[nets.Encoder, nn.Module], nn.Module]] = {
    "MeanField": lambda encoder, _: guides.MeanField(encoder),
    "FullRank": lambda encoder, _: guides.FullRank(encoder),
    "LowRank": lambda encoder, _: guides.LowRank(encoder, rank=2),
    "Planar": lambda encoder, _: guides.Planar(encoder, num_transforms=2),
    "Sylvester": lambda encoder, _: guides.Sylvester(encoder, num_transforms=2, num_columns=2),
    "HouseholderSylvester": lambda encoder, _: guides.HouseholderSylvester(encoder, 2, 2),
    "IAF": lambda encoder, _: guides.IAF(encoder, 2, hidden=(5,), context_dim=2),
    "Spline": lambda encoder, _: guides.Spline(encoder, 2, bins=3, hidden=(5,), context_dim=2),
    "SemiAmortised": lambda encoder, model: guides.SemiAmortised(
        guides.MeanField(encoder), model, num_steps=1
    ),
    "Hamiltonian": lambda encoder, model: guides.Hamiltonian(guides.MeanField(encoder), model, num_steps=2),
}

# Priors over all of R^d: the guide's encoder -> prior
PRIORS: dict[str, Callable[[nets.Encoder], nn.Module]] = {
    "StandardNormal": lambda _: priors.StandardNormal(LATENT),
    "DiagonalNormal": lambda _: priors.DiagonalNormal(LATENT),
    "MixtureOfGaussians": lambda _: priors.MixtureOfGaussians(LATENT, 4),
    "VampPrior": lambda shared: priors.VampPrior(shared, 4),
    "Flow": lambda _: priors.Flow(LATENT, transforms=2, hidden=(5,)),
}

# (prior, guide) of the other families
FAMILIES = [
    ("LogNormal", "LogNormal"),
    ("Gamma", "Gamma"),
    ("Exponential", "Exponential"),
    ("Exponential", "Gamma"),
    ("Gumbel", "Gumbel"),
    ("Laplace", "Laplace"),
    ("StudentT", "StudentT"),
    ("Sphere", "PowerSpherical"),
    ("WrappedNormal", "WrappedNormal"),
]


def cases() -> Iterator[Case]:
    for name, guide in REAL.items():
        yield Case("VAE", name, lambda guide=guide: vae(guide))
    for name, prior in PRIORS.items():
        for guide in ("MeanField", "FullRank", "IAF"):
            make = lambda guide=guide, prior=prior: vae(REAL[guide], prior)  # noqa: E731
            yield Case("VAE", guide, make, name, combined=guide != "MeanField")
    for prior, guide in FAMILIES:
        make = lambda prior=prior, guide=guide: _family(prior, guide)  # noqa: E731
        yield Case("VAE", guide, make, prior, combined=prior != guide and prior != "Sphere")
    for name in ("Bernoulli", "Categorical"):
        make = lambda name=name: _codes(name)  # noqa: E731
        yield Case("VAE", name, make, name, discrete=True)
        make = lambda name=name: _codes(name, path="gumbel-softmax")  # noqa: E731
        yield Case("VAE", name, make, f"{name} relaxed", discrete=True, combined=True)
    yield Case("VAE", "Categorical", lambda: _codes("Autoregressive"), "Autoregressive", discrete=True)
    yield Case("VAE", "VectorQuantised", _quantised, "Categorical", discrete=True)
    yield Case("VAE", "ResidualQuantised", _residual, "Categorical", discrete=True, combined=True)
    yield Case("VAE", "RiemannianHamiltonian", lambda: vae(_curved), combined=True)
    yield Case("VAE", "TwoStage", _two_stage, "TwoStage")
    for guide in ("MeanField", "IAF"):
        make = lambda guide=guide: _table(guide)  # noqa: E731
        yield Case("VAE", guide, make, "table", shape=TABLE, combined=guide == "IAF")
    yield Case("VAE", "MeanField", _pixels, "autoregressive", has_mean=False)
    for kind in (models.LinearGaussian, models.FactorAnalysis):
        for name, guide in REAL.items():
            make = lambda kind=kind, guide=guide: of_vectors(kind, guide)  # noqa: E731
            yield Case(kind.__name__, name, make, shape=VECTOR, combined=name != "MeanField")
    for learned in (True, False):
        detail = "learned prior" if learned else "standard normal"
        make = lambda learned=learned: _conditional(learned)  # noqa: E731
        yield Case("ConditionalVAE", "Conditional", make, detail, labels=(0, 2, 1))
    some = (0, -1, 2)
    ours, pyros = EnumeratedELBO(), TraceEnum_ELBO(max_plate_nesting=1)
    two = "SemiSupervisedVAE", "SemiSupervised"
    yield Case(*two, _semi_supervised, "some labels", labels=some, estimator=ours)
    yield Case(*two, _semi_supervised, "no labels", estimator=ours)
    make = lambda: _semi_supervised(enumerate=True)  # noqa: E731
    yield Case(*two, make, "summed by Pyro", labels=some, estimator=pyros)
    yield Case(two[0], "MeanField", _mixture, "classes summed over")
    yield Case("MixtureVAE", "MeanField", lambda: _clusters("MeanField"))
    make = lambda: _clusters("SemiSupervised")  # noqa: E731
    yield Case(
        "MixtureVAE", "SemiSupervised", make, "some labels", labels=some, estimator=ours, combined=True
    )
    for guide in ("ProductOfExperts", "MixtureOfExperts", "MixtureOfProducts"):
        make = lambda guide=guide: _views(guide)  # noqa: E731
        views = (("other", VECTOR),)
        yield Case("MultimodalVAE", guide, make, views=views, combined=guide != "ProductOfExperts")
    for guide in ("BottomUp", "TopDown"):
        for detail in ("dense", "dense skip", "convolutional"):
            shape = LARGE_IMAGE if detail == "convolutional" else IMAGE
            make = lambda guide=guide, detail=detail: _ladder(guide, detail)  # noqa: E731
            yield Case("LadderVAE", guide, make, detail, shape, site="z2")
    yield Case("SigmoidBeliefNetwork", "BernoulliLayers", _sigmoid_belief, site="z2", discrete=True)
    yield Case("DeepLadder", "DeepTopDown", _deep_ladder, shape=LARGE_IMAGE, site="z3")
    for detail, levels, shape in (("real numbers", None, VECTOR), ("two levels", 2, IMAGE)):
        make = lambda levels=levels: _diffusion(levels, ladder=True)  # noqa: E731
        yield Case(
            "DiffusionLadder", "NoisingLadder", make, detail, shape, site="z0", combined=levels is None
        )
    yield Case("Diffusion", "Noising", _diffusion, estimator=estimators.MeanFieldELBO(), has_density=False)
    yield Case("VAE", "MeanField", _strings, "strings", shape=STRING, has_mean=False, combined=True)
    make = lambda: _strings(transformer=True)  # noqa: E731
    yield Case("VAE", "MeanField", make, "transformer", shape=STRING, has_mean=False, combined=True)
    two = "DeepMarkov", "Smoothing"
    yield Case(*two, _chain, "lengths", shape=SEQUENCE, labels=(2, 1), second="length")
    yield Case(*two, _chain, shape=SEQUENCE, combined=True)
    make = lambda: _chain(num_transforms=2)  # noqa: E731
    detail = "transforms and lengths"
    yield Case(*two, make, detail, shape=SEQUENCE, labels=(2, 1), second="length", combined=True)
    yield Case("AttendInferRepeat", "Attending", _objects, estimator=EnumeratedELBO(), site="what1")
    yield Case("BayesianDecoderVAE", "GlobalMeanField", _bayesian_decoder)
    yield Case("Autoencoder", "Deterministic", _autoencoder, has_prior=False)
    yield Case("WithPrior", "MeanField", _with_prior)


def _family(prior: str, guide: str) -> pv.Pair:
    return vae(lambda shared, _: getattr(guides, guide)(shared), lambda _: getattr(priors, prior)(LATENT))


def _codes(name: str, **options: Any) -> pv.Pair:
    """Bits, or codes of few values."""
    own = [] if name == "Bernoulli" else [VALUES]
    prior = getattr(priors, name)(4 // VALUES if own else 4, *own)
    guide = (guides.Categorical if own else guides.Bernoulli)(encoder(latent_dim=4), *own, **options)
    return pv.Pair(models.VAE(likelihoods.Bernoulli(), nets.MLPDecoder(4, IMAGE, HIDDEN), 4, prior), guide)


def _quantised() -> pv.Pair:
    """Two codes of four values, whose vectors are moving averages."""
    book = nets.Codebook(4, 2, moving=True, decay=0.9)
    decoder = nets.CodebookDecoder(book, nets.MLPDecoder(4, IMAGE, HIDDEN))
    model = models.VAE(likelihoods.Bernoulli(), decoder, 8, priors.Categorical(2, 4, learned=False))
    return pv.Pair(model, guides.VectorQuantised(encoder(latent_dim=4), book))


def _residual() -> pv.Pair:
    """Two levels of four values."""
    book = nets.ResidualCodebook(2, 4, LATENT)
    decoder = nets.ResidualCodebookDecoder(book, nets.MLPDecoder(LATENT, IMAGE, HIDDEN), depth_dropout=0.2)
    model = models.VAE(likelihoods.Bernoulli(), decoder, 8, priors.Categorical(2, 4, learned=False))
    return pv.Pair(model, guides.ResidualQuantised(encoder(), book))


def _curved(shared: nets.Encoder, model: nn.Module) -> nn.Module:
    metric = nets.RiemannianMetric(LATENT, num_centres=2, regularisation=0.5)
    return guides.RiemannianHamiltonian(guides.MeanField(shared), model, metric, num_steps=2)


def _two_stage() -> pv.Pair:
    prior = priors.TwoStage(encoder((2,), LATENT), encoder((LATENT,), 2))
    model = models.VAE(likelihoods.Bernoulli(), decoder(), LATENT, prior)
    return pv.Pair(model, guides.TwoStage(guides.MeanField(encoder()), prior))


def _with_prior() -> pv.Pair:
    model = models.Autoencoder(likelihoods.Bernoulli(), decoder(), LATENT)
    return pv.Pair(models.WithPrior(model, priors.MixtureOfGaussians(LATENT, 2)), guides.MeanField(encoder()))


def _sigmoid_belief() -> pv.Pair:
    sizes: dict[str, Any] = {"latent_dims": (3, 2), "hidden": (HIDDEN, (4,))}
    model = models.SigmoidBeliefNetwork.dense(likelihoods.Bernoulli(), IMAGE, **sizes)
    return pv.Pair(model, guides.BernoulliLayers.dense(IMAGE, **sizes))


def _table(guide: str) -> pv.Pair:
    parts = (
        likelihoods.Gaussian(event_dim=1, num_columns=2),
        likelihoods.Categorical(3, event_dim=1),
        likelihoods.NegativeBinomial(event_dim=1),
    )
    likelihood = likelihoods.Mixed(parts, columns=((0, 1), (2,), (3,)))
    decoder = nets.MLPDecoder(LATENT, likelihood.raw_shape(TABLE), HIDDEN)
    model = models.VAE(likelihood, decoder, LATENT)
    encoder = nets.ColumnEncoder((1, 1, 3, 1), LATENT, HIDDEN, counts=(3,))
    return pv.Pair(model, REAL[guide](encoder, model))


def _pixels() -> pv.Pair:
    elements = likelihoods.Bernoulli()
    net = nets.PixelCNN(IMAGE, 1, channels=4, dilations=(1,), context_channels=2)
    likelihood = likelihoods.Autoregressive(elements, net)
    decoder = nets.MLPDecoder(LATENT, likelihood.raw_shape(IMAGE), HIDDEN)
    return pv.Pair(models.VAE(likelihood, decoder, LATENT), guides.MeanField(encoder()))


def _conditional(learned: bool) -> pv.Pair:
    model = models.ConditionalVAE(likelihoods.Bernoulli(), decoder(CLASSES), LATENT, CLASSES, learned)
    return pv.Pair(model, guides.Conditional(encoder(), CLASSES))


def _semi_supervised(enumerate: bool = False) -> pv.Pair:
    model = models.SemiSupervisedVAE(likelihoods.Bernoulli(), decoder(CLASSES), LATENT, CLASSES)
    return pv.Pair(model, _of_classes(enumerate))


def _of_classes(enumerate: bool = False) -> nn.Module:
    flat = nets.shapes.Flatten(IMAGE)
    classifier = nn.Sequential(nets.shapes.Flatten(IMAGE), nets.MLP(16, HIDDEN, CLASSES))
    return guides.SemiSupervised(classifier, flat, encoder((16 + CLASSES,)), CLASSES, enumerate=enumerate)


def _clusters(guide: str) -> pv.Pair:
    prior = priors.MixtureOfGaussians(LATENT, CLASSES)
    model = models.MixtureVAE(likelihoods.Bernoulli(), decoder(), prior)
    return pv.Pair(model, guides.MeanField(encoder()) if guide == "MeanField" else _of_classes())


def _mixture() -> pv.Pair:
    model = models.SemiSupervisedVAE(likelihoods.Bernoulli(), decoder(CLASSES), LATENT, CLASSES)
    return pv.Pair(model, guides.MeanField(encoder()))


def _views(guide: str) -> pv.Pair:
    likelihood = likelihoods.Bernoulli(), likelihoods.Gaussian(event_dim=1)
    decoders = decoder(), nets.MLPDecoder(LATENT, VECTOR, HIDDEN)
    model = models.MultimodalVAE(("x", "other"), likelihood, decoders, LATENT)
    return pv.Pair(model, getattr(guides, guide)((encoder(), encoder(VECTOR))))


def _ladder(guide: str, detail: str) -> pv.Pair:
    skip = "skip" in detail
    likelihood = likelihoods.Bernoulli()
    if detail == "convolutional":
        sizes: dict[str, Any] = {"channels": 2, "num_features": 4, "hidden": ((4,),)}
        build, shape = "convolutional", LARGE_IMAGE
    else:
        sizes, build, shape = {"hidden": (HIDDEN, (4,))}, "dense", IMAGE
    model = getattr(models.LadderVAE, build)(likelihood, shape, latent_dims=(3, 2), skip=skip, **sizes)
    if guide == "BottomUp":
        return pv.Pair(model, getattr(guides.BottomUp, build)(shape, latent_dims=(3, 2), **sizes))
    made = getattr(guides.TopDown, build)(shape, model.layers, latent_dims=(3, 2), skip=skip, **sizes)
    return pv.Pair(model, made)


def _deep_ladder() -> pv.Pair:
    sizes: dict[str, Any] = {"layers": (1, 2), "latent_channels": (3, 1), "channels": 4}
    path = nets.ConvTopDown(LARGE_IMAGE, **sizes)
    model = models.DeepLadder(likelihoods.Bernoulli(), path)
    return pv.Pair(model, guides.DeepTopDown(nets.ConvBottomUp(LARGE_IMAGE, **sizes, num_blocks=1), path))


def _diffusion(levels: int | None = 2, ladder: bool = False) -> pv.Pair:
    shape = VECTOR if levels is None else IMAGE
    denoiser = nets.MLPDenoiser(shape, HIDDEN, num_frequencies=1)
    units = {} if levels is None else {"shift": 0.5, "factor": 2.0}
    schedule = nets.NoiseSchedule(-5.0, 3.0, **units, learned=True, num_units=2)
    if ladder:
        model: nn.Module = models.DiffusionLadder(denoiser, schedule, 2, levels)
        return pv.Pair(model, guides.NoisingLadder(schedule, 2))
    return pv.Pair(
        models.Diffusion(denoiser, schedule, sampling_steps=3, levels=levels), guides.Noising(schedule)
    )


def _strings(transformer: bool = False) -> pv.Pair:
    if transformer:
        likelihood: nn.Module = likelihoods.TransformerStrings(SYMBOLS, *STRING, 2, 4, 1, 2)
        encoder: nn.Module = nets.TransformerStringEncoder(SYMBOLS, *STRING, LATENT, 4, 1, 2)
    else:
        likelihood = likelihoods.Strings(SYMBOLS, *STRING, condition_dim=2, hidden=4, embedding_dim=2)
        encoder = nets.StringEncoder(SYMBOLS, *STRING, LATENT, 4, 2)
    decoder = nets.MLPDecoder(LATENT, likelihood.raw_shape(STRING), ())
    model = models.VAE(likelihood, decoder, LATENT)
    return pv.Pair(model, guides.MeanField(encoder))


def _chain(num_transforms: int = 0) -> pv.Pair:
    _, width = SEQUENCE
    decoder = nets.MLPDecoder(2, (width,), (4,))
    model = models.DeepMarkov(likelihoods.Bernoulli(event_dim=1), decoder, nets.GatedTransition(2, 4), 2)
    read, combiner = nets.Recurrent(width, 3, "both"), nets.Combiner(2, 6, 4)
    return pv.Pair(model, guides.Smoothing(read, combiner, 2, num_transforms, (5,)))


def _objects() -> pv.Pair:
    """Up to two on a canvas of four by four."""
    look = nets.SpatialTransformer(IMAGE, (1, 2, 2), size=0.6)
    decoder = nets.MLPDecoder(LATENT, (1, 2, 2), HIDDEN)
    model = models.AttendInferRepeat(likelihoods.Bernoulli(), decoder, look, LATENT, 2, background=-1.0)
    flat = nets.shapes.Flatten(IMAGE)
    counter = nn.Sequential(nets.shapes.Flatten(IMAGE), nets.MLP(16, HIDDEN, 3))
    return pv.Pair(model, guides.Attending(counter, flat, encoder((1, 2, 2)), look, 2, hidden=4))


def _bayesian_decoder() -> pv.Pair:
    model = models.BayesianDecoderVAE(likelihoods.Bernoulli(), IMAGE, LATENT, data_size=20, hidden=HIDDEN)
    return pv.Pair(model, guides.GlobalMeanField(encoder(), model.weight_shapes, data_size=20))


def _autoencoder() -> pv.Pair:
    model = models.Autoencoder(likelihoods.Bernoulli(), decoder(), LATENT)
    return pv.Pair(model, guides.Deterministic(encoder()))


CASES = tuple(cases())
PARTS = [pytest.param(case, id=case.id, marks=[pytest.mark.grid] * case.combined) for case in CASES]


def table(known: Sequence[Case] = CASES) -> str:
    """Which combinations the contract test covers."""
    rows: dict[tuple[str, str], list[str]] = {}
    for case in known:
        rows.setdefault((case.model, case.detail), []).append(f"`{case.guide}`")
    lines = ["| model | with | guides |", "|---|---|---|"]
    last = ""
    for (model, detail), names in rows.items():
        lines.append(f"| {'' if model == last else f'`{model}`'} | {detail} | {', '.join(names)} |")
        last = model
    return "\n".join(lines)


def with_table(text: str) -> str:
    """CONTRIBUTING's text with a fresh table between its two marks."""
    before, _, rest = text.partition(BEGIN)
    mark, _, rest = rest.partition("\n")
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{mark}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    CONTRIBUTING.write_text(with_table(CONTRIBUTING.read_text(encoding="utf-8")), encoding="utf-8")
