"""Attend, infer, repeat: how many digits are on a canvas, and where, which nobody has told the pair.

Canvases of 28 x 28 with none, one or two digits of MNIST at half their size, anywhere, and so sometimes one
over the other. The same pair, from the same weights and for the same processor time, under the sum over the
count and under two estimators that draw it. Judged on other canvases by the count's accuracy, and by -ELBO.

    PPL_VAE_DATA=... python benchmarks/objects.py --seconds 120 --out benchmarks/results/objects.json
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from budget import cosine, judged
from matplotlib.patches import Rectangle
from pyro.infer import ELBO
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets, queries
from ppl_vae.runs import atomic_write
from ppl_vae.train.step import Step

SHAPE, GLIMPSE, LATENT, MOST = (1, 28, 28), (1, 12, 12), 12, 2
METHODS: dict[str, Callable[[], ELBO]] = {
    "summed over the count": estimators.EnumeratedELBO,
    "score function, moving average": lambda: estimators.ScoreFunction(1),
    "VIMCO, 4 particles": lambda: estimators.VIMCO(4),
}


def canvases(digits: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(count, 1, 28, 28), and how many digits are on each."""
    generator = torch.Generator().manual_seed(seed)
    small = avg_pool2d(digits, 2)
    how_many = torch.randint(0, MOST + 1, (count,), generator=generator)
    x = torch.zeros(count, *SHAPE)
    for number, there in enumerate(how_many.tolist()):
        for _ in range(there):
            row, column = torch.randint(0, 15, (2,), generator=generator).tolist()
            one = small[int(torch.randint(len(small), (1,), generator=generator))]
            x[number, :, row : row + 14, column : column + 14] += one
    return x.clamp(max=1.0), how_many


def make_pair() -> pv.Pair:
    """The same weights at every call."""
    torch.manual_seed(0)
    look = nets.SpatialTransformer(SHAPE, GLIMPSE, size=0.45, size_spread=0.1, place_spread=0.4)
    decoder = nets.MLPDecoder(LATENT, GLIMPSE, (100,), "relu")
    model = models.AttendInferRepeat(likelihoods.Gaussian(scale=0.3), decoder, look, LATENT, MOST)
    counter = nn.Sequential(nets.shapes.Flatten(SHAPE), nets.MLP(784, (100,), MOST + 1, "relu"))
    features = nets.MLP(784, (200,), None, "relu")
    what = nets.MLPEncoder(GLIMPSE, LATENT, (100,), "relu")
    seen = Seen(features)
    return pv.Pair(model, guides.Attending(counter, seen, what, look, MOST, hidden=100))


class Seen(nn.Module):
    """The features of a canvas's pixels."""

    def __init__(self, net: nets.MLP) -> None:
        super().__init__()
        self.net, self.num_features = net, net.num_features

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x.flatten(-3))
        return found


def train(
    pair: pv.Pair, estimator: ELBO, split: data.Split, test: tuple[Tensor, Tensor], options: Any
) -> dict[str, Any]:
    """Steps until the time is over, with the count's accuracy on the way."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(pair.parameters(), lr=options.learning_rate)
    step = Step(pair, estimator, optimizer, clip_norm=50.0, capture=True)

    def take_step(fraction: float) -> None:
        pair.train()
        step.set_learning_rate(cosine(options.learning_rate, fraction))
        step.on(split, torch.randint(len(split), (options.batch_size,)))

    return judged(take_step, lambda: {"accuracy": accuracy(pair, *test)}, options.seconds, options.points)


def accuracy(pair: pv.Pair, x: Tensor, how_many: Tensor) -> float:
    """The share of canvases whose likeliest count is right."""
    found = queries.class_probabilities(pair.eval(), x, site="count").argmax(-1)
    return float((found == how_many).float().mean())


def picture(pair: pv.Pair, x: Tensor, path: Path) -> None:
    """Canvases with what is found framed, and below what the pair makes of them."""
    code = queries.encode(pair, x, seed=0)
    again = queries.reconstruct(pair, x, seed=0).mean
    look = pair.guide.transformer
    figure, axes = plt.subplots(2, len(x), figsize=(1.1 * len(x), 2.4))
    for number in range(len(x)):
        for ax, image in zip(axes[:, number], (x, again), strict=True):
            ax.imshow(image[number, 0], cmap="gray_r", vmin=0, vmax=1)
            ax.axis("off")
        for one in range(int(code.latents["count"][number])):
            size, (across, down) = look.geometry(code.latents[f"where{one + 1}"][number])
            corner = [14 * (float(each - size) + 1) - 0.5 for each in (across, down)]
            side = 28 * float(size)
            axes[0, number].add_patch(Rectangle(corner, side, side, fill=False, color=f"C{one}"))
    figure.savefig(path, bbox_inches="tight", dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="of the processor, for each")
    parser.add_argument("--points", type=int, default=6, help="of the curve")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--canvases", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/objects.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    mnist = data.load("mnist", binarise=None)
    train_x, _ = canvases(mnist.train.tensors()[0], options.canvases, 0)
    test = canvases(mnist.test.tensors()[0], 1000, 1)
    split = data.Split.from_tensor(train_x)
    result: dict[str, Any] = {
        "settings": {
            "canvas": "28 x 28, none to two digits of 14 x 14, anywhere", "likelihood": "normal, scale 0.3",
            "nets": "dense, 100 to 200 units", "latents": f"count, and where (3) and what ({LATENT}) of each",
            **{name: value for name, value in vars(options).items() if name != "out"},
        },
        "machine": {"processor": platform.machine(), "threads": 1, "torch": torch.__version__},
        "accuracy of the commonest count": float(test[1].bincount().max() / len(test[1])),
        "methods": {},
    }  # fmt: skip
    for name, make in METHODS.items():
        pair = make_pair()
        print(name, flush=True)
        found = train(pair, make(), split, test, options)
        bounds = evaluate.bounds(pair, test[0], 5)
        result["methods"][name] = {
            "test accuracy of the count": accuracy(pair, *test),
            "test -ELBO": -bounds.elbo,
            "standard error": bounds.standard_error,
            **found,
        }
        if name == next(iter(METHODS)):
            picture(pair, test[0][:12], options.out.with_suffix(".png"))
        text = json.dumps(result, indent=2)
        atomic_write(options.out, lambda path, text=text: path.write_text(text + "\n"))  # type: ignore[misc]
    print(text)


if __name__ == "__main__":
    main()
