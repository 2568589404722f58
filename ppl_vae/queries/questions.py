"""The four questions that the others are made of: sample, encode, reconstruct, decode."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair, require_pair
from ppl_vae.core.sites import Site, Uncondition, check_sites_match
from ppl_vae.core.summing import sums_over
from ppl_vae.distributions.improper import is_improper
from ppl_vae.queries.arguments import Batch, as_tensors, check_site, rows
from ppl_vae.queries.draws import Draws
from ppl_vae.queries.handlers import (
    Centre,
    centre_of,
    find_plate_dim,
    is_discrete,
    latent_sites,
    mean_of,
    run,
    sample_sites,
    several,
    with_sums,
)
from ppl_vae.queries.inputs import Inputs, check_inputs, held, names_given, put, require_choice
from ppl_vae.queries.site_tensors import common_shape, laid_out, placed
from ppl_vae.queries.sums import given_what_is_chosen, left_to_sums


@one_thread
@checked()
def sample(
    pair: Pair,
    n: int,
    *,
    inputs: Inputs | None = None,
    like: Batch | None = None,
    given: Sequence[str] = (),
    seed: int | None = None,
) -> Draws:
    r"""Draw n data from the model alone, z ~ p(z), x ~ p(x | z); a latent outside `data` is drawn once.

    Args:
        n: how many; the draws are (n, ...).
        inputs: values of the model's arguments by name, one for all or (n, ...): of a conditional model,
            `sample(pair, 10, inputs={"y": 3})` draws ten threes and `inputs={"y": torch.arange(10)}` one
            of each. An argument that is an observed site's data holds that site.
        like: a batch whose rows, repeated up to n, stand for the arguments not in `inputs`. Needed where
            the model reads the values of its data outside `obs=`, a library size for instance; else the
            data's shape alone matters.
        given: observed sites of `like` to hold rather than draw: `sample(pair, 10, like=(x, y),
            given=["y"])` draws x for the given labels.

    Raises:
        ValueError: when n < 1, when the pair has not seen data and `like` is missing, when a site in
            `given` is not observed, for unknown or misshapen `inputs`, for an argument that the
            model reads the values of and that is in neither `inputs` nor `like`, and for a model without a
            prior.
    """
    require_pair(pair)
    with questioning(pair, seed, pair.device):
        return read(drawn_from_model(pair, n, inputs, like, given)[1], given, inputs)


def drawn_from_model(
    pair: Pair, n: int, inputs: Inputs | None, like: Batch | None, given: Sequence[str]
) -> tuple[tuple[Tensor, ...], Trace]:
    """What `sample` calls the unconditioned model with, and its trace there."""
    batch = put(pair, rows(pair, n, like, _of_like(given, inputs)), inputs)
    if like is None:
        require_choice(pair, inputs)
    trace = run(pair.model, batch, Uncondition(held(given, inputs)))
    _refuse_improper(trace)
    return batch, trace


@one_thread
@checked()
def encode(pair: Pair, *batch: Tensor, num_samples: int = 1, seed: int | None = None) -> Draws:
    r"""Draw the latents of a batch from the guide, z ~ q(z | x), and give the guide's mean.

    Latents that the model alone has are not among them.

    `means` is E[z | x]; with several sites it goes site after site, each given the earlier ones at
    their means (a discrete one at its mode). A distribution without a mean has its mode (Categorical),
    one with neither (a flow) the average over 100 draws.

    Args:
        num_samples: draws for each datum: `latents` are (n, ...) for 1, else (num_samples, n, ...).

    Raises:
        ValueError: for a batch that is not one, num_samples < 1.
    """
    require_pair(pair)
    with questioning(pair, seed, pair.device):
        tensors = as_tensors(pair, batch)
        plate_dim = find_plate_dim(pair, tensors) if num_samples > 1 else None
        drawn = several(pair.guide, tensors, num_samples, plate_dim)
        latents = latent_sites(drawn)
        central = latent_sites(run(pair.guide, tensors, Centre()))
        means = {}
        for name, site in central.items():
            mean = mean_of(site)
            means[name] = laid_out(site["value"] if mean is None else mean, site)
        lead = (num_samples,) if num_samples > 1 else ()
        return Draws(
            {name: laid_out(site["value"], site, lead, plate_dim) for name, site in latents.items()},
            {},
            means,
        )


@one_thread
@checked()
def reconstruct(
    pair: Pair,
    *batch: Tensor,
    num_samples: int = 1,
    inputs: Inputs | None = None,
    given: Sequence[str] = (),
    seed: int | None = None,
) -> Draws:
    r"""Draw data again through their latents, z ~ q(z | x), x' ~ p(x' | z).

    Finite latents that the model alone has, and sums over, are drawn from p(k | x, z), exactly.
    For the picture through the guide's mean instead of a draw:
    `decode(pair, encode(pair, x).means, like=x)`.

    Args:
        num_samples: reconstructions of each datum: (n, ...) for 1, else (num_samples, n, ...).
        inputs: as in `sample`, for the model alone: the guide sees the batch's own. So `reconstruct(pair,
            x, y, inputs={"y": 3})` draws threes in the style of x.
        given: observed sites to hold at their data rather than draw, a label for instance.

    Raises:
        PairError: when model and guide have different latent sites.
    """
    require_pair(pair)
    with questioning(pair, seed, pair.device):
        tensors = as_tensors(pair, batch)
        plate_dim = find_plate_dim(pair, tensors) if num_samples > 1 else None
        guide_trace = several(pair.guide, tensors, num_samples, plate_dim)
        for trace in (guide_trace, *getattr(guide_trace, "singles", ())):
            for name, site in list(trace.nodes.items()):
                if site["type"] == "sample" and site["is_observed"]:
                    trace.remove_node(name)  # replay refuses what the guide did not draw
        model = Uncondition(held(given, inputs))(pair.model)

        def drawn(latents: Trace) -> tuple[Draws, Trace]:
            trace = several(model, put(pair, tensors, inputs), num_samples, plate_dim, replay=latents)
            lead = (num_samples,) if num_samples > 1 else ()
            draws = read(trace, given, inputs, lead, plate_dim)
            for name in draws.values:
                trace.nodes[name]["is_observed"] = True
            return draws, trace

        draws, model_trace = drawn(guide_trace)
        if sums_over(model_trace, guide_trace):
            guide_trace = with_sums(pair, guide_trace, tensors, num_samples, plate_dim)
            draws, model_trace = drawn(guide_trace)
        check_sites_match(prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace))
        return draws


@one_thread
@checked()
def decode(
    pair: Pair,
    latents: Tensor | Mapping[str, Tensor],
    *,
    inputs: Inputs | None = None,
    like: Batch | None = None,
    given: Sequence[str] = (),
    seed: int | None = None,
) -> Draws:
    r"""Draw data from chosen latents, x ~ p(x | z); the model draws latents that are not chosen.

    Finite latents that the model alone has, and sums over, are drawn from p(k | z), exactly: of a mixture as
    prior, p(k) p(z | k), the component that z is of. All others are drawn given those before them.

    Args:
        latents: by site, or a tensor when there is one latent site but for those that the model sums over:
            (n, *event), or with any further dims to the left, which the result then has too. A site without
            them is shared.
        inputs, like, given: as in `sample`.

    Raises:
        ValueError: for an unknown site and a wrong shape, naming the sites and the expected shape; for
            `inputs` as `sample`.
    """
    require_pair(pair)
    with questioning(pair, seed, pair.device):
        if like is None and pair.datum_spec:
            require_choice(pair, inputs)
        few = rows(pair, pair.fixed_rows or 1, like, _of_like(given, inputs))
        sites = latent_sites(run(pair.model, few, Uncondition(given)), given)
        if not isinstance(latents, Mapping):
            own = list(sites)
            if len(own) > 1:
                summed = left_to_sums(pair, few, sites)
                own = [name for name in sites if name not in summed]
            if len(own) != 1:
                raise ValueError(
                    f"this pair has the latent sites {list(sites)}, so a single tensor of latents could be "
                    f"any of them: pass a dict from site to tensor"
                )
            latents = {own[0]: latents}
        chosen = {}
        for name, value in latents.items():
            check_site(name, sites)
            chosen[name] = _chosen(pair, name, value, sites[name])
        lead, n = common_shape(chosen, sites)
        batch = rows(
            pair, n or (1 if like is None else len(as_tensors(pair, like)[0])), like, _of_like(given, inputs)
        )
        batch = put(pair, batch, inputs)
        plate_dim = find_plate_dim(pair, batch) if lead else None
        count = lead.numel()
        data = {name: placed(value, sites[name], count, plate_dim) for name, value in chosen.items()}
        model = Uncondition(held(given, inputs))(pair.model)
        free = {name: site for name, site in sites.items() if name not in chosen}
        if left := left_to_sums(pair, batch, free):
            first_dim, known = find_plate_dim(pair, batch), held(given, inputs)
            data |= given_what_is_chosen(model, left, batch, count, plate_dim, first_dim, data, known)
        trace = several(model, batch, count, plate_dim, data=data)
        _refuse_improper(trace, chosen)
        return read(trace, given, inputs, tuple(lead), plate_dim)


def read(
    trace: Trace,
    given: Sequence[str],
    inputs: Inputs | None = None,
    lead: tuple[int, ...] = (),
    plate_dim: int | None = None,
) -> Draws:
    """What a run of the unconditioned model drew; the observed sites `held` are those that it did not
    draw.
    """
    not_drawn = held(given, inputs)
    observed = [
        name
        for name, site in sample_sites(trace).items()
        if site["infer"].get("was_observed") or (name in not_drawn and site["is_observed"])
    ]
    if unknown := [name for name in given if name not in observed]:
        raise ValueError(f"given must name observed sites {observed}, got {unknown}")
    if latent := [name for name in sample_sites(trace) if name in (inputs or {}) and name not in observed]:
        raise ValueError(
            f"inputs names {latent}, which the model draws, so its argument does not matter: choose it by "
            f"decode(pair, {{{latent[0]!r}: ...}})"
        )
    latents, values, means = {}, {}, {}
    for name, site in sample_sites(trace).items():
        value = laid_out(site["value"], site, lead, plate_dim)
        if name in observed:
            values[name] = value
            means[name] = laid_out(centre_of(site), site, lead, plate_dim)
        else:
            latents[name] = value
    return Draws(latents, values, means)


def _chosen(pair: Pair, name: str, value: Any, site: Site) -> Tensor:
    """A latent that the caller chose, as a tensor of the type of the program's."""
    try:
        tensor = torch.as_tensor(value, device=pair.device)
        tensor.to(pair.dtype)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise ValueError(
            f"latent site {name!r}: the chosen latents must be a tensor of numbers ({error})"
        ) from error
    if not bool(tensor.isfinite().all()):
        raise ValueError(
            f"latent site {name!r}: the chosen latents hold NaN or infinity: choose finite numbers"
        )
    whole = is_discrete(site["fn"]) and not tensor.is_floating_point()
    return tensor if whole else tensor.to(pair.dtype)


def _of_like(given: Sequence[str], inputs: Inputs | None) -> list[str]:
    check_inputs(inputs)
    return [name for name in names_given(given) if name not in (inputs or {})]


def _refuse_improper(trace: Trace, chosen: Container[str] = ()) -> None:
    drawn = [name for name, site in sample_sites(trace).items() if name not in chosen]
    if improper := [name for name in drawn if is_improper(trace.nodes[name]["fn"])]:
        raise ValueError(
            f"the model has no prior over {improper}, so nothing can be drawn from it: give latents, "
            f"decode(pair, z), or use a model with a prior, such as models.VAE"
        )
