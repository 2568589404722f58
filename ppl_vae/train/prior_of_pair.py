"""What fitting a prior is made of: the pair over codes, the site that may have another, the new pair."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.core.constraints import in_words, innermost_name, kind_of_density, support_fault
from ppl_vae.core.isolation import eval_mode, questioning, random_numbers
from ppl_vae.core.layout import particle_first
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import inner_plates
from ppl_vae.estimators import ELBO
from ppl_vae.guides import TwoStage
from ppl_vae.models import WithPrior


class Codes(nn.Module):
    """Codes as data: x ~ prior."""

    def __init__(self, prior: nn.Module) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor) -> Any:
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("x", self.prior(), obs=x)


class NoGuide(nn.Module):
    """The guide of a model without latents."""

    def forward(self, x: Tensor) -> None:
        """Draw nothing."""


class OwnGuide(nn.Module):
    """The guide of a prior's own latents."""

    def __init__(self, prior: nn.Module) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor) -> Any:
        with pyro.plate("data", len(x), dim=-1):
            return self.prior.guide(x)  # type: ignore[operator]


def require_site(particles: Particles, site: str | None, prior: nn.Module) -> str:
    """The site that gets another prior.

    Raises:
        ValueError: for one that has no prior which is the same for all data, or another event shape.
    """
    sites = [name for name in particles.log_guide if name in particles.log_prior]
    if site is None and len(sites) == 1:
        site = sites[0]
    if site not in sites:
        what = "say which one, site=..." if site is None else f"not {site!r}"
        raise ValueError(f"this pair has the latent sites {sites}: {what}")
    node = particles.model_trace.nodes[site]
    if site in particles.under_sum:
        raise ValueError(
            f"site {site!r} has a prior that hangs on finite sites which the model sums over, and one that "
            "does not would cut it off from them: refit a model that has the sum itself as its prior, a "
            "models.VAE with the mixture in the place of models.MixtureVAE"
        )
    if plates := inner_plates(node):
        raise ValueError(
            f"site {site!r} is in the plates {plates}: a prior is one over all of a datum's code"
        )
    z = particle_first(node["value"], node, particles.num_particles)
    log_prob = node["fn"].log_prob(z[0, 0])
    if not torch.allclose(log_prob, log_prob.flatten()[0].expand_as(log_prob), rtol=1e-4, atol=1e-3):
        raise ValueError(
            f"site {site!r} has a prior that hangs on other latents or on the data's inputs, and one that "
            "does not would cut it off from them: choose the top of a hierarchy, or another site"
        )
    with poutine.block():
        found = prior().event_shape
    if found != node["fn"].event_shape:
        raise ValueError(
            f"site {site!r} has codes of the event shape {list(node['fn'].event_shape)}, and the prior's is "
            f"{list(found)}"
        )
    with poutine.block():
        kinds = kind_of_density(prior()), kind_of_density(drawn := particles.guide_trace.nodes[site]["fn"])
    if None not in kinds and kinds[0] != kinds[1]:
        raise ValueError(
            f"site {site!r}: {type(prior).__name__} is {kinds[0]} and the codes, of the guide's "
            f"{innermost_name(drawn)}, are {kinds[1]}, so their densities cannot be held against each other: "
            f"take a prior whose values are {in_words(drawn.support)}"
        )
    with poutine.block():
        outside = support_fault({**node, "fn": prior(), "value": z[0]})
    if outside:
        raise ValueError(f"site {site!r}: the codes lie outside of {type(prior).__name__}: {outside}")
    return site


def with_prior(pair: Pair, prior: nn.Module, site: str, batch: tuple[Tensor, ...]) -> Pair:
    """A copy of a pair with another prior over a site, of which it has no copy."""
    parts = [*prior.modules(), *prior.parameters(), *prior.buffers()]
    copied = copy.deepcopy(pair, {id(each): each for each in parts})
    model, guide = copied.model, copied.guide
    if not _takes(copied, prior, site, batch):
        model = WithPrior(model, prior, site)
    if hasattr(prior, "guide"):
        guide = TwoStage(guide, prior, site)
    new = Pair(model, guide)
    new.remember(batch)
    new.schema = pair.schema
    with eval_mode(new), random_numbers(0, new.device):
        loss = ELBO().differentiable_loss(new.model, new.guide, *batch)
    trained = [each for each in new.parameters() if each.requires_grad]
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    for each, gradient in zip(trained, found, strict=True):
        if gradient is None:
            each.requires_grad_(False)  # the old prior's, which plays no part any more
    return new


def _takes(pair: Pair, prior: nn.Module, site: str, batch: tuple[Tensor, ...]) -> bool:
    """Whether the model has an argument `prior` that is the site's; it has the new one then."""
    model: Any = pair.model
    if "prior" not in inspect.signature(type(model).__init__).parameters:
        return False
    old, model.prior = model.prior, prior
    try:
        with questioning(pair, 0, pair.device), poutine.block():
            drawn = poutine.trace(pair.guide).get_trace(*batch)
            fn = poutine.trace(poutine.replay(model, trace=drawn)).get_trace(*batch).nodes[site]["fn"]
            value = drawn.nodes[site]["value"]
            # a prior with latents of its own is another density at every run
            taken = hasattr(prior, "guide") or torch.allclose(fn.log_prob(value), prior().log_prob(value))
    except (TypeError, ValueError, AttributeError, RuntimeError):
        taken = False  # what the model asks of its prior is more than a density
    if not taken:
        model.prior = old
    return taken
