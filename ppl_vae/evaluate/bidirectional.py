"""The evidence from below and from above: annealing forwards, and backwards from exact draws."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae.capture.function import Capture
from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair, require_pair
from ppl_vae.core.sites import data_frame
from ppl_vae.evaluate.annealed import check_annealing, rows_at_once, slices
from ppl_vae.evaluate.lines import plus_minus, rows
from ppl_vae.evaluate.loop import progress_bar
from ppl_vae.evaluate.statistics import standard_error
from ppl_vae.queries.arguments import Batch
from ppl_vae.queries.handlers import sample_sites
from ppl_vae.queries.inputs import Inputs
from ppl_vae.queries.simulated import simulate
from ppl_vae.sampling.annealing import Annealing, gradient_runs, pilot_steps
from ppl_vae.sampling.bases import Start, base_of
from ppl_vae.sampling.gradients import Gradients
from ppl_vae.sampling.joint import Joint


@dataclass(frozen=True, eq=False)
class Sandwich:
    r"""log p(x) of data drawn from the model, from both sides, in nats per datum.

    Attributes:
        lower: (N,) float64, annealed from the start to the posterior: below log p(x_i) in expectation.
        upper: (N,) float64, annealed back from the exact draw (x_i, z_i): above it in expectation.
        num_temperatures: T.
        num_chains: K, of each direction.
        start: where the forward chains begin: the guide, its moments, or the prior.
    """

    lower: Tensor = field(repr=False)
    upper: Tensor = field(repr=False)
    num_temperatures: int
    num_chains: int
    start: str

    @property
    def gap(self) -> float:
        """The mean of upper minus lower: how far annealing may be off on such data."""
        return float((self.upper - self.lower).mean())

    @property
    def gap_standard_error(self) -> float:
        """Of `gap`, from its spread over the data."""
        return standard_error(self.upper - self.lower)

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        lower, upper = (
            plus_minus(float(each.mean()), standard_error(each)) for each in (self.lower, self.upper)
        )
        how = f"T = {self.num_temperatures:,}, K = {self.num_chains}, from the {self.start}"
        return [
            ("log p(x) ≥", lower, how),
            ("log p(x) ≤", upper, "backwards from exact draws"),
            ("gap", plus_minus(self.gap, self.gap_standard_error), ""),
        ]

    def __str__(self) -> str:
        return rows(f"{len(self.lower):,} data drawn from the model, nats per datum", self.lines())


@one_thread
@checked()
def sandwich(
    pair: Pair,
    num_data: int = 100,
    *,
    num_temperatures: int = 500,
    num_chains: int = 16,
    num_leapfrogs: int = 10,
    start: Start = "guide",
    inputs: Inputs | None = None,
    like: Batch | None = None,
    batch_size: int | None = None,
    seed: int | None = 0,
    progress: bool = True,
    capture: Capture = "auto",
) -> Sandwich:
    r"""How far annealed estimates of log p(x) are off: bidirectional Monte Carlo on data from the model.

    .. math:: \mathbb{E} \log \tfrac1K \textstyle\sum_k w_k \;\le\; \log p(x) \;\le\;
        -\mathbb{E} \log \tfrac1K \textstyle\sum_k 1 / w'_k

    with w of chains from the start to p(z | x), and w' of chains back from z, where (x, z) ~ p(x, z) and so
    z ~ p(z | x) exactly. Only for data that the model has made is such a z known; what the gap is there says
    how many temperatures `log_likelihood(pair, data, method="ais")` wants.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        num_data: N, drawn from the model.
        num_temperatures: T.
        num_chains: K, both ways.
        num_leapfrogs: the most gradients of one move.
        start: "guide", "moments" (the normal density of the guide's mean and covariance), or "prior".
        inputs, like: of a conditional model, as `pv.sample` has them.
        batch_size: data at a time; chosen so that all chains fit where None.
        seed: of everything that is drawn; the caller's random numbers stay as they were.
        progress: show a progress bar.
        capture: compute the densities and their gradients with a compiled graph, as in `posterior`.

    Raises:
        CaptureError: with `capture=True`, for a pair that cannot be captured.
        PairError: for latents that `posterior(method="hmc")` cannot take; for a model that reads its data
            outside `obs=`.
        ValueError: for a number that is not positive, for `inputs` as `pv.sample`.

    Grosse, Ghahramani and Adams, Sandwiching the marginal likelihood using bidirectional Monte Carlo,
    arXiv:1511.02543; Wu, Burda, Salakhutdinov and Grosse, arXiv:1611.04273.

    >>> from ppl_vae import Pair, guides, models, nets
    >>> guide = guides.MeanField(nets.MLPEncoder((5,), 2))
    >>> pair = Pair(models.LinearGaussian(2, 5), guide, example=(torch.zeros(1, 5),))
    >>> result = sandwich(pair, 4, num_temperatures=5, num_leapfrogs=2, progress=False)
    >>> result.lower.shape, result.start
    (torch.Size([4]), 'guide')
    """
    require_pair(pair)
    check_annealing(num_temperatures, num_chains, num_leapfrogs)
    with questioning(pair, seed, pair.device):
        batch, drawn = simulate(pair, num_data, inputs=inputs, like=like)
        lower, upper = torch.empty(2, num_data, dtype=torch.float64)
        largest = max(tensor[0].numel() for tensor in batch)
        size = batch_size or rows_at_once(num_data, largest, num_chains)
        steps = (2 * num_temperatures + pilot_steps(num_temperatures) + 1) * -(-num_data // size)
        runs = 2 * gradient_runs(num_temperatures, num_leapfrogs) * (num_data // size)
        gradients, name = Gradients(pair, capture, runs), ""
        with progress_bar(steps, "sandwich", "temperatures", progress) as bar:
            for part in slices(num_data, size):
                joint = Joint(pair, tuple(tensor[part] for tensor in batch), "sandwich")
                base = base_of(joint, start)
                run = Annealing(
                    joint, base, gradients, num_temperatures, num_chains, num_leapfrogs, bar.update
                )
                exact = joint.from_values(_rows(drawn, part), 1)
                lower[part] = log_mean(run.forward().log_weight)
                upper[part] = -log_mean(-run.backward(exact).log_weight)
                name = base.name
    return Sandwich(lower, upper, num_temperatures, num_chains, name)


def _rows(trace: Trace, part: slice) -> dict[str, Tensor]:
    """Some rows of the values of a run's latents."""
    found = {}
    for name, site in sample_sites(trace).items():
        if data_frame(site) is not None and not site["infer"].get("was_observed"):
            found[name] = site["value"].narrow(-1 - site["fn"].event_dim, part.start, part.stop - part.start)
    return found


def log_mean(log_weight: Tensor) -> Tensor:
    """(B,): log of the mean of exp over the chains, (K, B)."""
    return log_weight.logsumexp(0) - math.log(len(log_weight))
