"""A data set seen through a trained guide: each datum replaced by its latent features."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch

from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair
from ppl_vae.data import DataSet, Split, for_pair
from ppl_vae.data.naming import Naming
from ppl_vae.data.rows import ResidentRows
from ppl_vae.queries.arguments import check_site
from ppl_vae.queries.questions import encode

DataSetOrSplit = TypeVar("DataSetOrSplit", DataSet, Split)


@one_thread
@checked()
def latent_features(
    pair: Pair,
    data: DataSetOrSplit,
    *,
    kind: Literal["mean", "draw"] = "mean",
    site: str | None = None,
    batch_size: int = 1000,
    seed: int = 0,
) -> DataSetOrSplit:
    r"""The data set of a trained pair's latents: what the next model of a stack learns from.

    .. math:: z_i = \mathrm{E}_q[z \mid x_i] \quad\text{or}\quad z_i \sim q(z \mid x_i)

    M1+M2 of arXiv:1406.5298 is `SemiSupervisedVAE` on the latent features of a `VAE`.

    Args:
        pair: the trained pair.
        data: all parts, or one; labels and factors stay with their rows, and batches are `(z, y)` where
            there are labels.
        kind: the guide's means, or one draw for each datum.
        site: the latent site; needed when there are several.
        batch_size: data encoded at a time.
        seed: of the draws.

    Returns:
        A data set, or a split, of event shape (*event,) of the site, on the pair's device.

    Raises:
        ValueError: for an unknown site or kind, or no site where there are several.

    >>> from ppl_vae import Pair, data, guides, models, nets
    >>> rows = data.from_tensors(torch.randn(20, 5), torch.arange(20) % 2)
    >>> pair = Pair(models.LinearGaussian(2, 5), guides.MeanField(nets.MLPEncoder((5,), latent_dim=2)))
    >>> features = latent_features(pair, rows)
    >>> features.shape, len(features.train), [tensor.shape for tensor in features.train.take(3).tensors()]
    ((2,), 14, [torch.Size([3, 2]), torch.Size([3])])
    """
    if kind not in ("mean", "draw"):
        raise ValueError(f"kind must be 'mean' or 'draw', got {kind!r}")
    if isinstance(data, DataSet):
        parts: dict[str, Any] = {
            name: latent_features(
                pair, data.part(name), kind=kind, site=site, batch_size=batch_size, seed=seed + number
            )
            for number, name in enumerate(("train", "valid", "test"))
            if name in data.parts()
        }
        return replace(data, **parts)
    # a pair that was trained on one array does not take the labels that its data set may give
    seen = data.choose([data.naming.main]) if len(pair.datum_spec) == 1 else for_pair(data, pair)
    rows = []
    with questioning(pair, seed, pair.device):
        for batch in seen.to(pair.device).batches(batch_size):
            draws = encode(pair, *batch)
            found = draws.means if kind == "mean" else draws.latents
            if site is None and len(found) != 1:
                raise ValueError(f"this pair has the latent sites {list(found)}: say which one, site=...")
            if site is not None:
                check_site(site, found)
            rows.append(found[site if site is not None else next(iter(found))])
    y, factors = (None if known is None else known.to(pair.device) for known in (data.y, data.factors))
    others = {name: rows.to(pair.device) for name, rows in data.others.items()}
    latents = ResidentRows(torch.cat(rows))
    if others:
        naming = Naming("x", ("x", *(name for name in data.held if name != data.naming.main)), by_user=True)
        return Split(latents, y, with_labels=y is not None, factors=factors, others=others, naming=naming)
    return Split(latents, y, with_labels=y is not None, factors=factors)
