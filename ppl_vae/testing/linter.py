"""The linter: whether an estimator is valid for a pair, by site, and which ones are where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyro.infer
from pyro.infer import ELBO as PyroELBO
from torch import Tensor

from ppl_vae import estimators
from ppl_vae.core.isolation import one_thread
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError
from ppl_vae.estimators import Estimator, ours
from ppl_vae.testing.site_facts import Sites, read_sites

Rule = Callable[[Sites, Any], Iterator[str]]


@one_thread
def check_estimator_for(pair: Pair, batch: Tensor | Sequence[Tensor], estimator: PyroELBO) -> None:
    """Raise unless the estimator gives a pair the bound and the gradients that its name promises.

    The pair, its BatchNorm averages and the random numbers are left as they were. `check_pair` looks
    at the pair alone; here it is taken to keep its contract.

    Args:
        pair: the pair.
        batch: what its programs are called with.
        estimator: one of ours, or of Pyro's.

    Raises:
        PairError: naming the sites, the reason and estimators that are valid, for: a site that is not
            reparameterised under an estimator that needs it to be; `RenyiELBO(alpha=0)` with a
            discrete guide, and under subsampling, with global latents or without a plate; latents
            outside the `data` plate under a bound per datum; a scale or mask on one program only, or
            sites in another order, under `TraceMeanField_ELBO`; `poutine.scale` on a latent site under an
            importance-weighted bound; an enumerated site under anything but `TraceEnum_ELBO`.
    """
    sites = read_sites(pair, batch)
    reasons = list(_reasons(sites, estimator))
    if not reasons:
        return
    valid = _valid(sites)
    raise PairError(
        f"{name_of(estimator)} is not valid for this pair:\n"
        + "\n".join(f"  - {reason}" for reason in reasons)
        + f"\nValid for it: {', '.join(valid)}"
    )


@one_thread
def valid_estimators(pair: Pair, batch: Tensor | Sequence[Tensor]) -> list[str]:
    """The names of common estimators that `check_estimator_for` finds valid for a pair."""
    return _valid(read_sites(pair, batch))


def name_of(estimator: PyroELBO) -> str:
    """An estimator as one writes it: `estimators.IWAE`, `pyro.infer.Trace_ELBO`."""
    kind = type(estimator)
    if getattr(estimators, kind.__name__, None) is kind:
        return f"estimators.{kind.__name__}"
    if getattr(pyro.infer, kind.__name__, None) is kind:
        return f"pyro.infer.{kind.__name__}"
    return kind.__name__


def _reasons(sites: Sites, estimator: PyroELBO) -> Iterator[str]:
    if (own := ours(estimator)) is not None:
        yield from _ours(sites, own)
    else:
        for kind, rule in _PYROS.items():
            if isinstance(estimator, kind):
                yield from rule(sites, estimator)
        if sites.without_density:
            yield _without_density(sites)
        yield from _summed_by_pyro(sites, estimator)
    sums_over = (pyro.infer.TraceEnum_ELBO, pyro.infer.TraceTMC_ELBO, estimators.EnumeratedELBO)
    if sites.enumerated and not isinstance(estimator, sums_over):
        yield (
            f"sites {list(sites.enumerated)} are marked for enumeration, and only pyro.infer.TraceEnum_ELBO "
            "and estimators.EnumeratedELBO sum over their values. Use one, or take the mark off "
            f"(infer={{'enumerate': ...}}, config_enumerate)"
        )
    if sites.not_listed and isinstance(estimator, estimators.EnumeratedELBO):
        yield (
            f"sites {list(sites.not_listed)} of the guide are not reparameterised, and their values are no "
            "list to be summed over"
        )


def _ours(sites: Sites, estimator: Estimator) -> Iterator[str]:
    needs = estimator.facts.needs
    if needs == "reparameterised" and sites.discrete:
        yield (
            f"sites {list(sites.discrete)} of the guide are not reparameterised, and this gradient passes "
            f"through the draws"
        )
    if needs == "bernoulli" and sites.not_bernoulli:
        yield (
            f"sites {list(sites.not_bernoulli)} of the guide are neither Bernoulli nor reparameterised, and "
            f"this gradient is made of pairs of opposite Bernoulli draws"
        )
    if needs == "bernoulli" and sites.dependent:
        yield (
            f"the odds of the guide's sites {list(sites.dependent)} hang on its other draws, so opposite "
            f"draws have different odds there"
        )
    if needs == "bits or one-hot" and sites.not_relaxable:
        yield (
            f"sites {list(sites.not_relaxable)} of the guide are neither bits, nor one-hot vectors, nor "
            f"reparameterised, and this gradient is made of draws between the discrete ones"
        )
    if sites.outside_data and not estimator.handles_global_latents:
        yield (
            f"sites {list(sites.outside_data)} stand outside the plate 'data', and this bound weighs the "
            f"particles of each datum apart"
        )
    if sites.without_density and estimator.needs_density:
        yield _without_density(sites)
    if not estimator.takes_kl_weight:
        yield from _scale_as_beta(sites)


def _without_density(sites: Sites) -> str:
    return (
        f"sites {list(sites.without_density)} have no density that can be computed, only a divergence from "
        "the guide's distribution, and this bound is made of densities"
    )


def _summed_by_pyro(sites: Sites, estimator: PyroELBO) -> Iterator[str]:
    if not sites.only_in_model:
        return
    if not isinstance(estimator, pyro.infer.TraceEnum_ELBO):
        yield (
            f"the guide lacks the sites {list(sites.only_in_model)} of the model, which are to be summed "
            "over, and it would draw them from the model: what comes out is not a bound"
        )
    elif sites.unmarked:
        yield (
            f"the guide lacks the sites {list(sites.unmarked)} of the model, and Pyro sums over those alone "
            "that are marked: pyro.sample(..., infer={'enumerate': 'parallel'}) in the model, or "
            "pyro.infer.config_enumerate(model, 'parallel')"
        )


def _renyi(sites: Sites, estimator: Any) -> Iterator[str]:
    if estimator.alpha == 0 and sites.discrete:
        yield (
            f"sites {list(sites.discrete)} of the guide are not reparameterised, and with alpha=0 Pyro gives "
            f"them a gradient of exactly zero: the guide would not learn"
        )
    if sites.subsampling != 1.0:
        yield (
            f"the plate 'data' is subsampled, and Pyro puts the factor N/B = {sites.subsampling:g} inside "
            f"the log-mean-exp: what comes out is not a bound"
        )
    outside = [name for name in sites.outside_data if name not in sites.without_plate]
    if sites.without_plate or outside:
        yield (
            f"sites {[*sites.without_plate, *outside]} stand outside the plate 'data', so Pyro weighs the "
            f"whole batch jointly, with one weight for all its data"
        )
    yield from _scale_as_beta(sites)


def _mean_field(sites: Sites, _: Any) -> Iterator[str]:
    if sites.only_in_guide:
        yield (
            f"the guide has the pyro.deterministic sites {list(sites.only_in_guide)}, and it takes each of "
            f"the guide's sites to be the model's too: take them out, or use estimators.MeanFieldELBO"
        )
    if sites.discrete:
        yield f"sites {list(sites.discrete)} of the guide are not reparameterised, which it takes for granted"
    if sites.out_of_order:
        yield (
            f"the guide draws the sites {list(sites.out_of_order)} in another order than the model, and its "
            f"closed form of the KL takes the order to be the same"
        )
    if sites.scaled_in_one:
        yield (
            f"sites {list(sites.scaled_in_one)} have a scale or mask in one program that they do not have in "
            "the other, and it takes the guide's alone: put the same poutine.scale or mask around both "
            "programs"
        )


def _tail_adaptive(sites: Sites, estimator: Any) -> Iterator[str]:
    if sites.discrete:
        yield f"sites {list(sites.discrete)} of the guide are not reparameterised, which it takes for granted"
    if not estimator.vectorize_particles:
        yield "it needs vectorize_particles=True"
    yield from _joint(sites)


def _wake_sleep(sites: Sites, _: Any) -> Iterator[str]:
    yield from _joint(sites)


def _joint(sites: Sites) -> Iterator[str]:
    if sites.subsampling != 1.0:
        yield (
            f"the plate 'data' is subsampled, and the factor N/B = {sites.subsampling:g} lands inside its "
            f"weights, of which it has one for the whole batch"
        )
    yield from _scale_as_beta(sites)


def _scale_as_beta(sites: Sites) -> Iterator[str]:
    if sites.scaled:
        listed = ", ".join(f"{name!r} by {scale}" for name, scale in sites.scaled.items())
        yield (
            f"poutine.scale on latent sites ({listed}) enters the weights, which is not the bound with that "
            "beta on its KL term. Weigh the KL term with fit(..., "
            f"kl=kl.Beta({next(iter(sites.scaled.values()))})) under estimators.ELBO or "
            "estimators.MeanFieldELBO instead"
        )


_PYROS: dict[type, Rule] = {
    pyro.infer.RenyiELBO: _renyi,
    pyro.infer.TraceMeanField_ELBO: _mean_field,
    pyro.infer.TraceTailAdaptive_ELBO: _tail_adaptive,
    pyro.infer.ReweightedWakeSleep: _wake_sleep,
}

_COMMON: tuple[Callable[[], PyroELBO], ...] = (
    estimators.ELBO,
    estimators.MeanFieldELBO,
    lambda: estimators.IWAE(5),
    lambda: estimators.DReG(num_particles=5),
    lambda: estimators.VIMCO(5),
    estimators.DisARM,
    lambda: estimators.ReweightedWakeSleep(5),
    pyro.infer.Trace_ELBO,
    pyro.infer.TraceEnum_ELBO,
)


def _valid(sites: Sites) -> list[str]:
    if sites.enumerated:
        return ["estimators.EnumeratedELBO", "pyro.infer.TraceEnum_ELBO"]
    made = [make() for make in _COMMON]
    # VIMCO and DisARM are the plain bounds again where nothing is discrete
    special = set() if sites.discrete else {"VIMCO", "DisARM"}
    if not sites.only_in_model:
        special.add("TraceEnum_ELBO")
    chosen = [each for each in made if type(each).__name__ not in special]
    return [name_of(each) for each in chosen if not any(_reasons(sites, each))]
