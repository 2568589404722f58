"""The pictures of a report: which of them make sense for a pair and its data, and how each is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.distributions import constraints

from ppl_vae import plots, queries
from ppl_vae.cli.criticism import Criticism
from ppl_vae.cli.showing import as_images, base_of, is_image, shown_and_held
from ppl_vae.core.isolation import questioning
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import Site, data_frame, is_of_data
from ppl_vae.data import Schema, Split, for_pair
from ppl_vae.evaluate import ActiveUnits, Bounds, Summary
from ppl_vae.queries import Draws
from ppl_vae.queries.handlers import centre, is_discrete
from ppl_vae.queries.inputs import names_of
from ppl_vae.queries.site_tensors import laid_out

NUM_COLUMNS = 10
NUM_SAMPLES = 64
NUM_POINTS = 1000
NUM_TRAVERSED = 8
NUM_CLASSES = 20
NUM_MAPPED = 2000

Figures = Iterator[tuple[str, Callable[[], Axes]]]


def figures_of(
    pair: Pair,
    split: Split,
    result: Summary | Bounds | ActiveUnits,
    history: pd.DataFrame | None,
    seed: int,
    criticism: Criticism | None = None,
) -> Figures:
    """The pictures of a pair on data, by name, each to be drawn when it is called for."""
    if history is not None and len(history) > 1:
        yield "training_curves", lambda: plots.training_curves(history)
    if isinstance(result, Summary):
        yield "k_hat", lambda: plots.k_hat(result.log_likelihood)
    if criticism is not None and (ranks := criticism.calibration) is not None:
        yield "calibration", lambda: plots.calibration(ranks)
    if criticism is not None and (check := criticism.check) is not None:
        yield "predictive_check", lambda: plots.predictive_check(check)[0]
    yield from Pictures.of(pair, split, result, seed).all()


@dataclass(frozen=True, eq=False)
class Pictures:
    """What the pictures of one pair on one data set have in common.

    Attributes:
        batch: some data, a batch.
        observed: the observed site that is drawn: the one whose values are the data.
        held: the other observed sites, a label above all, which are not drawn anew.
        latents: the real latent sites of single data, as the guide centres them.
        label: the name of the second argument, where the batches hold labels.
    """

    pair: Pair
    split: Split
    result: Summary | Bounds | ActiveUnits
    seed: int
    batch: tuple[Tensor, ...]
    observed: str
    held: list[str]
    latents: Mapping[str, Site]
    discrete: list[str] = field(default_factory=list)
    label: str = ""

    @classmethod
    def of(cls, pair: Pair, split: Split, result: Summary | Bounds | ActiveUnits, seed: int) -> Pictures:
        split = for_pair(split, pair)
        with questioning(pair, seed, pair.device):
            batch = split.take(2 * NUM_COLUMNS).tensors()
            guide = {name: site for name, site in centre(pair, batch).items() if data_frame(site) is not None}
        shown, held = shown_and_held(pair, batch, seed)
        names = names_of(pair, 2)
        return cls(
            pair,
            split,
            result,
            seed,
            batch,
            shown,
            held,
            {name: site for name, site in guide.items() if not is_discrete(site["fn"])},
            [name for name, site in guide.items() if is_discrete(site["fn"])],
            names[1] if len(batch) > 1 and len(names) > 1 else "",
        )

    def all(self) -> Figures:
        """Every picture that makes sense."""
        for number, site in enumerate(self.latents):
            name = "latent_map" if number == 0 else f"latent_map_{site}"
            yield name, lambda site=site: self.latent_map(site)  # type: ignore[misc]
        if self.observed and self.split.naming.alphabet is None:  # strings are written, not drawn
            yield "reconstructions", self.reconstructions
            yield "samples", self.samples
            if self.split.labels is not None and len(self.batch) > 1 and self.is_image:
                yield "samples_by_label", self.samples_by_label
            if self.is_image and len(self.batch[0]) > 1 and self.latents:
                yield "interpolation", self.interpolation
            for number, site in enumerate(self.latents):
                name = "traversal" if number == 0 else f"traversal_{site}"
                yield name, lambda site=site: self.traversal(site)  # type: ignore[misc]

    @property
    def is_image(self) -> bool:
        return is_image(self.split.shape)

    @property
    def schema(self) -> Schema | None:
        """What the columns of x are, where the data is a table."""
        return self.split.naming.schema or cast("Schema | None", self.pair.schema)

    def latent_map(self, site: str) -> Axes:
        """The guide's means of a site."""
        part = self.split.take(NUM_MAPPED)
        mean = self._codes(site, part)
        axes = plots.latent_map(mean, self._classes(part))
        axes.set_title(f"E[{site} | x]")
        return axes

    def reconstructions(self) -> Axes:
        """The batch and its reconstructions, labels held."""
        x = self.batch[0]
        again = self._mean(
            queries.reconstruct(self.pair, *self.batch, given=self.held, seed=self.seed), x.shape
        )
        if not self.is_image:
            shown = self._comparable(x.flatten(1)), self._comparable(again.flatten(1))
            return self._with_scale(plots.vector_reconstructions(*shown, names=self._names))
        return plots.reconstructions(as_images(x), as_images(again), NUM_COLUMNS)

    def samples(self) -> Axes:
        """Samples of the model; of a model that takes a label, for the labels of data."""
        count = NUM_SAMPLES if self.is_image else min(NUM_POINTS, len(self.split))
        like: tuple[Tensor, ...] | None = None
        if len(self.batch) > 1:
            with questioning(self.pair, self.seed, self.pair.device):  # the rows of a dynamic split are drawn
                like = self.split.take(count).tensors()
        drawn = queries.sample(self.pair, count, like=like, given=self.held, seed=self.seed)
        if self.is_image:
            return plots.samples(as_images(self._mean(drawn, (count, *self.split.shape))))
        with questioning(self.pair, self.seed, self.pair.device):
            x = self.split.take(count).tensors()[0].flatten(1)
        samples = drawn.values[self.observed].reshape(count, -1)
        if self.schema is not None:
            names = list(self._names)  # without those that are constant
            return plots.columns(*(self.schema.inverse(rows)[names] for rows in (x, samples)))
        return plots.cloud(x, samples)

    def samples_by_label(self) -> Axes:
        """A row of samples for each class."""
        assert self.split.labels is not None
        known = self.split.labels[self.split.labels >= 0].unique()
        if not len(known):
            raise ValueError("no datum has a label")
        chosen = known[torch.linspace(0, len(known) - 1, min(len(known), NUM_CLASSES)).round().long()]
        labels = chosen.repeat_interleave(NUM_COLUMNS).to(self.batch[1])
        rows = torch.arange(len(labels)) % len(self.batch[0])
        like = (self.batch[0][rows], labels)
        if self.label in self.discrete:  # a label that the model draws
            drawn = queries.decode(self.pair, {self.label: labels}, like=like, seed=self.seed)
        else:
            drawn = queries.sample(self.pair, len(labels), like=like, given=self.held, seed=self.seed)
        images = as_images(self._mean(drawn, (len(labels), *self.split.shape)))
        return plots.by_label(images, chosen.tolist(), NUM_COLUMNS)

    def interpolation(self) -> Axes:
        """Paths between data; of data with labels, under those of their start."""
        half = min(5, len(self.batch[0]) // 2)
        start, end = (
            tuple(each[part] for each in self.batch) for part in (slice(half), slice(half, 2 * half))
        )
        path = queries.interpolate(self.pair, start, end, given=self.held, seed=self.seed)
        mean = path.means[self.observed]
        return plots.interpolation(
            as_images(mean.reshape(-1, *self.split.shape)).unflatten(0, mean.shape[:2])
        )

    def traversal(self, site: str) -> Axes:
        """One latent dimension at a time, those that move most over the data."""
        one = tuple(each[:1] for each in self.batch)
        fn = self.latents[site]["fn"]
        dims = list(range(fn.event_shape.numel()))
        if isinstance(self.result, Summary | ActiveUnits):
            units = self.result.active_units if isinstance(self.result, Summary) else self.result
            variance = units.variance.get(site)
            if variance is not None and variance.numel() % len(dims) == 0:
                most = variance.reshape(-1, len(dims)).amax(0).argsort(descending=True)
                dims = sorted(most[:NUM_TRAVERSED].tolist())
        values = self._values(site, dims[:NUM_TRAVERSED])
        drawn = queries.traverse(
            self.pair, one, site, dims[:NUM_TRAVERSED], values=values, given=self.held, seed=self.seed
        )
        mean = drawn.means[self.observed]
        if self.is_image:
            flat = as_images(mean.reshape(-1, *self.split.shape))
            mean = flat.reshape(*mean.shape[:2], 1, *flat.shape[1:])
        else:
            mean = self._comparable(mean.reshape(*mean.shape[:2], 1, -1))
        shown = queries.Traversal({}, {}, {"x": mean}, drawn.site, drawn.dims, drawn.positions)
        if self.is_image:
            return plots.traversal(shown)
        return self._with_scale(plots.vector_traversal(shown, names=self._names))

    def _values(self, site: str, dims: list[int]) -> list[float] | None:
        """Where the dimensions go: -3 to 3 on the real line, and where there are codes on a part of it."""
        support = base_of(self.latents[site]["fn"].support)
        if support is constraints.real:
            return None
        if not hasattr(support, "lower_bound") and not hasattr(support, "upper_bound"):
            raise ValueError(f"site {site!r} lives on {support}, where no dimension can move alone")
        codes = self._codes(site, self.split.take(NUM_MAPPED)).double()
        low, high = (
            codes.reshape(-1, codes.shape[-1])[:, dims]
            .flatten()
            .quantile(torch.tensor([0.02, 0.98]).to(codes))
        )
        return torch.linspace(float(low), float(high), 7, dtype=torch.float64).tolist()

    def _codes(self, site: str, part: Split) -> Tensor:
        """(n, d): the guide's means of a site, one row a datum, its inner plates beside its event."""
        with questioning(self.pair, self.seed, self.pair.device):
            found = centre(self.pair, part.tensors())[site]
        value = laid_out(found["value"], found)
        place = value.dim() - len(found["fn"].event_shape) - 1
        frames = [f.dim for f in found["cond_indep_stack"] if is_of_data(f)]
        place -= sum(1 for f in found["cond_indep_stack"] if f.dim is not None and f.dim > frames[0])
        return value.movedim(place, 0).reshape(len(part), -1)

    @property
    def _names(self) -> tuple[str, ...]:
        return () if self.schema is None else self.schema.names

    def _with_scale(self, axes: Axes) -> Axes:
        """What the colours of a table's heat map are in."""
        if len(self._names) > 2:
            axes.figure.axes[-1].set_ylabel("deviations from the column's mean")
        return axes

    def _classes(self, part: Split) -> Tensor | np.ndarray | None:
        """The labels of a part, those of a table as its cells have them."""
        if part.labels is None or self.schema is None or self.schema.label is None:
            return part.labels
        names = np.array([*map(str, self.schema.label.levels), "missing"])
        return cast(np.ndarray, names[part.labels.cpu().numpy()])  # -1 is the last

    def _comparable(self, x: Tensor) -> Tensor:
        """Rows of a table for a picture: in the user's units where each column has an axis of its own, and
        where they share one scale of colours, each column by its own mean and deviation.
        """
        if self.schema is None:
            return x
        if len(self._names) <= 2:
            columns = [
                column.in_units(x[..., place].cpu().double().numpy())
                for place, column in enumerate(self.schema)
            ]
            return torch.from_numpy(np.stack(columns, -1))
        with questioning(self.pair, self.seed, self.pair.device):
            rows = self.split.take(NUM_MAPPED).tensors()[0]
        centre = rows.nanmean(0)
        spread = (rows - centre).square().nanmean(0).sqrt()
        return (x - centre) / spread.where(spread > 0, 1.0)

    def _mean(self, drawn: Draws, shape: tuple[int, ...]) -> Tensor:
        mean = drawn.means[self.observed]
        if mean.numel() != torch.Size(shape).numel():
            raise ValueError(
                f"the mean of site {self.observed!r} is {tuple(mean.shape)}, and the data {shape}"
            )
        return mean.reshape(shape)
