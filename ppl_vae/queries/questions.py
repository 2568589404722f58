"""The four questions that the others are made of: sample, encode, reconstruct, decode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae.isolation import questioning
from ppl_vae.pair import Pair
from ppl_vae.queries.arguments import Batch, as_tensors, check_count, check_site, rows
from ppl_vae.queries.draws import Draws
from ppl_vae.queries.handlers import (
    Centre,
    Uncondition,
    find_plate_dim,
    latent_sites,
    mean_of,
    repeated,
    run,
    sample_sites,
)
from ppl_vae.queries.layout import common_shape, laid_out, placed
from ppl_vae.sites import check_sites_match


def sample(
    pair: Pair, n: int, *, like: Batch | None = None, given: Sequence[str] = (), seed: int | None = None
) -> Draws:
    r"""Draw n data from the model alone, z ~ p(z), x ~ p(x | z); a latent outside `data` is drawn once.

    Args:
        n: how many; the draws are (n, ...).
        like: a batch whose rows, repeated up to n, stand for the programs' inputs that are not
            sites (the label of a conditional model). Zeros in the shape of the data by default.
        given: observed sites of `like` to hold rather than draw: `sample(pair, 10, like=(x, y),
            given=["y"])` draws x for the given labels.

    Raises:
        ValueError: when n < 1, when the pair has not seen data and `like` is missing, when a site in
            `given` is not observed.
    """
    check_count("n", n)
    with questioning(pair, seed, pair.device):
        batch = rows(pair, n, like, given)
        return read(run(pair.model, batch, Uncondition(given)), given)


def encode(pair: Pair, *batch: Tensor, num_samples: int = 1, seed: int | None = None) -> Draws:
    r"""Draw the latents of a batch from the guide, z ~ q(z | x), and give the guide's mean.

    `means` is E[z | x]; with several sites it goes site after site, each given the earlier ones at
    their means (a discrete one at its mode). A distribution without a mean has its mode (Categorical),
    one with neither (a flow) the average over 100 draws.

    Args:
        num_samples: draws for each datum: `latents` are (n, ...) for 1, else (num_samples, n, ...).

    Raises:
        ValueError: for a batch that is not one, num_samples < 1.
    """
    check_count("num_samples", num_samples)
    with questioning(pair, seed, pair.device):
        tensors = as_tensors(pair, batch)
        plate_dim = find_plate_dim(pair, tensors) if num_samples > 1 else None
        drawn = run(repeated(pair.guide, num_samples, plate_dim), tensors)
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


def reconstruct(
    pair: Pair,
    *batch: Tensor,
    num_samples: int = 1,
    given: Sequence[str] = (),
    seed: int | None = None,
) -> Draws:
    r"""Draw data again through their latents, z ~ q(z | x), x' ~ p(x' | z).

    For the picture through the guide's mean instead of a draw:
    `decode(pair, encode(pair, x).means, like=x)`.

    Args:
        num_samples: reconstructions of each datum: (n, ...) for 1, else (num_samples, n, ...).
        given: observed sites to hold at their data rather than draw, a label for instance.

    Raises:
        PairError: when model and guide have different latent sites.
    """
    check_count("num_samples", num_samples)
    with questioning(pair, seed, pair.device):
        tensors = as_tensors(pair, batch)
        plate_dim = find_plate_dim(pair, tensors) if num_samples > 1 else None
        guide_trace = run(repeated(pair.guide, num_samples, plate_dim), tensors)
        for name, site in list(guide_trace.nodes.items()):
            if site["type"] == "sample" and site["is_observed"]:
                guide_trace.remove_node(name)  # replay refuses what the guide did not draw
        model = repeated(Uncondition(given)(pair.model), num_samples, plate_dim)
        model_trace = run(poutine.replay(model, trace=guide_trace), tensors)
        lead = (num_samples,) if num_samples > 1 else ()
        draws = read(model_trace, given, lead, plate_dim)
        for name in draws.values:
            model_trace.nodes[name]["is_observed"] = True
        check_sites_match(model_trace, guide_trace)
        return draws


def decode(
    pair: Pair,
    latents: Tensor | Mapping[str, Tensor],
    *,
    like: Batch | None = None,
    given: Sequence[str] = (),
    seed: int | None = None,
) -> Draws:
    r"""Draw data from chosen latents, x ~ p(x | z); latents that are not chosen are drawn given them.

    Args:
        latents: by site, or a tensor when there is one latent site: (n, *event), or with any
            further dims to the left, which the result then has too. A site without
            them is shared.
        like, given: as in `sample`.

    Raises:
        ValueError: for an unknown site and a wrong shape, naming the sites and the expected shape.
    """
    with questioning(pair, seed, pair.device):
        first = rows(pair, 1, like, given)
        sites = latent_sites(run(pair.model, first, Uncondition(given)), given)
        if not isinstance(latents, Mapping):
            if len(sites) != 1:
                raise ValueError(
                    f"this pair has the latent sites {list(sites)}, so a single tensor of latents could be "
                    f"any of them: pass a dict from site to tensor"
                )
            latents = {next(iter(sites)): latents}
        chosen = {}
        for name, value in latents.items():
            check_site(name, sites)
            tensor = torch.as_tensor(value, device=pair.device)
            chosen[name] = tensor.to(pair.dtype) if tensor.is_floating_point() else tensor
        lead, n = common_shape(chosen, sites)
        batch = rows(pair, n or (1 if like is None else len(as_tensors(pair, like)[0])), like, given)
        plate_dim = find_plate_dim(pair, batch) if lead else None
        count = lead.numel()
        data = {name: placed(value, sites[name], count, plate_dim) for name, value in chosen.items()}
        model = repeated(Uncondition(given)(pair.model), count, plate_dim)
        return read(run(poutine.condition(model, data=data), batch), given, tuple(lead), plate_dim)


def read(
    trace: Trace, given: Sequence[str], lead: tuple[int, ...] = (), plate_dim: int | None = None
) -> Draws:
    """What a run of the unconditioned model drew; `given` are the observed sites that it did not draw."""
    observed = [
        name
        for name, site in sample_sites(trace).items()
        if site["infer"].get("was_observed") or (name in given and site["is_observed"])
    ]
    if unknown := [name for name in given if name not in observed]:
        raise ValueError(f"given must name observed sites {observed}, got {unknown}")
    latents, values, means = {}, {}, {}
    for name, site in sample_sites(trace).items():
        value = laid_out(site["value"], site, lead, plate_dim)
        if name in observed:
            mean = mean_of(site)
            values[name] = value
            means[name] = value if mean is None else laid_out(mean, site, lead, plate_dim)
        else:
            latents[name] = value
    return Draws(latents, values, means)
