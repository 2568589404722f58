"""refit_prior: a prior fitted to the codes of a trained pair, which keeps its decoder and its guide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ppl_vae.core.drawing import draw
from ppl_vae.core.isolation import eval_mode, one_thread, questioning
from ppl_vae.core.pair import Pair, require_pair
from ppl_vae.data import DataSet, Split
from ppl_vae.distributions.improper import is_improper
from ppl_vae.estimators import ELBO
from ppl_vae.evaluate.batches import Tensors, to_data
from ppl_vae.evaluate.bounds_on_data import Bounds, bounds
from ppl_vae.evaluate.lines import plus_minus, rows
from ppl_vae.queries.questions import encode
from ppl_vae.train.finish import Run
from ppl_vae.train.fitting import fit
from ppl_vae.train.prior_of_pair import Codes, NoGuide, OwnGuide, require_site, with_prior

_BATCH = 500


@dataclass(frozen=True, eq=False)
class Refit:
    """A pair with a prior that was fitted after the training.

    Attributes:
        pair: the new pair; the one that was given is as it was.
        site: the latent site whose prior is new.
        run: the training of the prior on codes; its `valid_elbo` is the mean log p(z) of the codes held out,
            or a bound on it where the prior has latents of its own. None for a prior with nothing to learn.
        before, after: the bounds of the old and the new pair on the data held out; None where there are none.
        why_no_bound: why, in that case.
    """

    pair: Pair
    site: str
    run: Run | None = field(repr=False)
    before: Bounds | None
    after: Bounds | None
    why_no_bound: str = ""

    def __str__(self) -> str:
        lines = []
        for name, each in (("before", self.before), ("after", self.after)):
            value = "none" if each is None else plus_minus(each.elbo, each.standard_error)
            remark = self.why_no_bound if each is None else f"{len(each.per_datum):,} data held out"
            if each is self.after and self.before and self.after and self.after.elbo < self.before.elbo:
                remark += " ! lower: more epochs, or a richer prior"
            lines.append((f"ELBO {name}", value, remark))
        if self.run is not None:
            lines.append(
                (f"log p({self.site})", f"{self.run.history['valid_elbo'].max():.2f}", "of their codes")
            )
        return rows(f"{type(_prior_of(self.pair)).__name__} over {self.site!r}, nats per datum", lines)


@one_thread
def refit_prior(
    pair: Pair,
    data: Any,
    prior: nn.Module,
    *,
    site: str | None = None,
    num_draws: int = 1,
    seed: int = 0,
    **options: Any,
) -> Refit:
    r"""Fit a prior to the aggregate posterior of a trained pair, whose decoder and guide stay as they are.

    .. math:: \max_\psi \; \frac1N \sum_i \mathbb{E}_{q(z \mid x_i)} \log p_\psi(z)

    which is the part of the bound that hangs on the prior, so the bound rises by what this does. Samples of
    the new pair, `pv.sample(refit.pair, n)`, come from where the decoder has been trained. Any `priors` with
    the support of the site will do: a mixture, a flow, a VampPrior, `priors.Autoregressive` over codes, and
    `priors.TwoStage`, a second VAE over codes. Codes of every tenth datum are held out; the others train.

    Args:
        pair: any pair; a deterministic autoencoder gets a prior for the first time so.
        data: a `data.Split`, a Tensor (N, *event), a tuple of Tensors (N, ...), or what `data.as_split`
            takes.
        prior: trained in place, and a part of the new pair. What it shares with the pair, such as a
            VampPrior's encoder, is held fixed.
        site: the latent site; needed where there are several.
        num_draws: codes of each datum, drawn from the guide.
        seed: of the codes, and of the training.
        options: of `pv.fit`, such as `patience` and `run_dir`; by default 50 epochs at a rate of 0.01. A
            bound that is lower afterwards, which the result says, asks for more of both.

    Raises:
        ValueError: for a site whose prior is not the same for all data (a layer of a hierarchy below its
            top), or that is in an inner plate, a prior of another event shape, one that is a part of the pair
            already, and fewer than 20 data.
        PairError, TypeError: as `pv.fit`.

    Ghosh et al., From Variational to Deterministic Autoencoders, arXiv:1903.12436; Dai and Wipf,
    arXiv:1903.05789; van den Oord et al., arXiv:1711.00937.

    >>> from ppl_vae import guides, models, nets, priors
    >>> pair = Pair(models.LinearGaussian(2, 5), guides.MeanField(nets.MLPEncoder((5,), 2)))
    >>> refit = refit_prior(pair, torch.randn(100, 5), priors.MixtureOfGaussians(2, 3), epochs=2)
    >>> refit.site, refit.pair.model.prior.num_components
    ('z', 3)
    """
    require_pair(pair)
    prior.to(device=pair.device, dtype=pair.dtype)
    own = {id(each) for each in pair.parameters()}
    learned = [each for each in prior.parameters() if id(each) not in own and each.requires_grad]
    if not learned and any(True for _ in prior.parameters()):
        raise ValueError(
            "the prior is a part of the pair already, or frozen, so nothing of it can be fitted: give a new "
            "one, such as copy.deepcopy(prior)"
        )
    with questioning(pair, seed, pair.device):
        source = to_data(data, pair)
        if len(source) < 20:
            raise ValueError(f"a prior needs 20 data or more to be fitted and judged, got {len(source)}")
        first = next(iter(source.batches(min(len(source), _BATCH))))
        site = require_site(draw(pair.model, pair.guide, first, num_particles=2), site, prior)
        codes = torch.cat([_codes(pair, batch, site, num_draws) for batch in source.batches(_BATCH)], 1)
    run = _trained(codes, prior, learned, pair, seed, options) if learned else None
    new = with_prior(pair, prior, site, first)
    held = source[::10] if isinstance(source, Split) else tuple(each[::10] for each in _tensors(source))
    try:
        before = None if _is_improper(pair, site, first) else bounds(pair, held, seed=seed)
        after, why = bounds(new, held, seed=seed), "" if before else "there was no prior"
    except ValueError as error:
        why = str(error).removeprefix("this evaluation: ").partition(", so")[0]
        before, after = None, None
    return Refit(new, site, run, before, after, why)


def _codes(pair: Pair, batch: tuple[Tensor, ...], site: str, num_draws: int) -> Tensor:
    """(num_draws, n, *event)."""
    drawn = encode(pair, *batch, num_samples=num_draws).latents[site]
    return drawn if num_draws > 1 else drawn.unsqueeze(0)


def _trained(
    codes: Tensor, prior: nn.Module, learned: Sequence[Tensor], pair: Pair, seed: int, options: dict[str, Any]
) -> Run:
    held = torch.arange(codes.shape[1], device=codes.device) % 10 == 0
    parts = [codes[:, rows].flatten(0, 1) for rows in (~held, held)]
    train, valid = (Split.from_tensor(part.cpu()) for part in parts)
    guide = OwnGuide(prior) if hasattr(prior, "guide") else NoGuide()
    kept = [each for each in prior.parameters() if each.requires_grad and not any(each is p for p in learned)]
    known: dict[str, Any] = {
        "progress": False,
        "device": str(pair.device),
        "epochs": 50,
        "learning_rate": 1e-2,
    }
    given = {**known, "seed": seed, **options}
    before = {name: each.clone() for name, each in pair.state_dict().items()}
    try:
        for each in kept:
            each.requires_grad_(False)
        with eval_mode(pair):
            return fit(Pair(Codes(prior), guide), ELBO(), DataSet("codes", train, valid, valid), **given)
    finally:
        pair.load_state_dict(before)  # running averages of what the prior shares
        for each in kept:
            each.requires_grad_(True)


def _tensors(source: Any) -> tuple[Tensor, ...]:
    assert isinstance(source, Tensors)  # since it is no Split
    return source.tensors


def _is_improper(pair: Pair, site: str, batch: tuple[Tensor, ...]) -> bool:
    with questioning(pair, 0, pair.device):
        fn: TorchDistribution = draw(pair.model, pair.guide, batch).model_trace.nodes[site]["fn"]
    return is_improper(fn)


def _prior_of(pair: Pair) -> Any:
    return pair.model.prior
