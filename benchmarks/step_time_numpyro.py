"""NumPyro's part of `step_time.py`, in an environment of its own: the same nets,
jitted with the batch inside.
"""

from __future__ import annotations

import os
import sys

threads = int(sys.argv[2])
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
os.environ["OMP_NUM_THREADS"] = str(threads)
if hasattr(os, "sched_setaffinity"):  # XLA takes as many threads as there are processors to run on
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])

import itertools  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpyro  # noqa: E402
import numpyro.distributions as dist  # noqa: E402
from jax import lax  # noqa: E402
from numpyro.infer import SVI, RenyiELBO, Trace_ELBO  # noqa: E402
from step_time_serve import PIXELS, SIDE, Point, Run, batches, rows, serve  # noqa: E402

Net = Callable[[Any], Any]
LAYOUT = ("NHWC", "HWIO", "NHWC")  # the one that XLA's CPU code is fastest with


def weights(name: str, shape: tuple[int, ...], inputs: int, outputs: int) -> Any:
    scale = (6 / (inputs + outputs)) ** 0.5
    key = jax.random.PRNGKey(sum(map(ord, name)))
    initial = jax.random.uniform(key, shape, minval=-scale, maxval=scale)
    return numpyro.param(f"{name}.weight", initial), numpyro.param(f"{name}.bias", jnp.zeros(shape[-1]))


def dense(name: str, *sizes: int, activation: Net = jnp.tanh) -> Net:
    """Layers whose weights are NumPyro parameters, with activations between."""
    made = [weights(f"{name}.{number}", pair, *pair) for number, pair in enumerate(itertools.pairwise(sizes))]

    def run(x: Any) -> Any:
        for number, (weight, bias) in enumerate(made):
            x = x @ weight + bias
            x = activation(x) if number + 1 < len(made) else x
        return x

    return run


def convolution(name: str, inputs: int, outputs: int, transposed: bool = False) -> Net:
    weight, bias = weights(name, (4, 4, inputs, outputs), 16 * inputs, 16 * outputs)

    def run(x: Any) -> Any:
        if transposed:
            # as torch's padding of 1: each side of the dilated input is padded by 4 - 1 - 1
            x = lax.conv_transpose(x, weight, (2, 2), [(2, 2), (2, 2)], dimension_numbers=LAYOUT)
        else:
            x = lax.conv_general_dilated(x, weight, (2, 2), [(1, 1), (1, 1)], dimension_numbers=LAYOUT)
        return x + bias

    return run


def encoder_of(point: Point) -> Net:
    latent_dim = point["latent_dim"]
    if point["kind"] == "dense":
        return dense("encoder", PIXELS, *point["hidden"], 2 * latent_dim)
    first, second = convolution("encoder.a", 1, 32), convolution("encoder.b", 32, 64)
    last = dense("encoder", 64 * (SIDE // 4) ** 2, 256, 2 * latent_dim, activation=jax.nn.relu)

    def run(x: Any) -> Any:
        x = jax.nn.relu(second(jax.nn.relu(first(x.reshape(-1, SIDE, SIDE, 1)))))
        return last(x.reshape(len(x), -1))

    return run


def decoder_of(point: Point) -> Net:
    latent_dim, small = point["latent_dim"], SIDE // 4
    if point["kind"] == "dense":
        return dense("decoder", latent_dim, *point["hidden"], PIXELS)
    first = dense("decoder", latent_dim, 256, 64 * small**2, activation=jax.nn.relu)
    second = convolution("decoder.a", 64, 32, transposed=True)
    third = convolution("decoder.b", 32, 1, transposed=True)

    def run(z: Any) -> Any:
        x = jax.nn.relu(first(z)).reshape(-1, small, small, 64)
        return third(jax.nn.relu(second(x))).reshape(*z.shape[:-1], PIXELS)

    return run


def normal(parameters: Any) -> Any:
    loc, log_scale = jnp.split(parameters, 2, -1)
    return dist.Normal(loc, jnp.exp(log_scale)).to_event(1)


def one_layer(point: Point) -> tuple[Any, Any]:
    size, latent_dim = point["batch"], point["latent_dim"]

    def model(x: Any) -> None:
        decoder = decoder_of(point)
        with numpyro.plate("data", size):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(latent_dim), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        encoder = encoder_of(point)
        with numpyro.plate("data", size):
            numpyro.sample("z", normal(encoder(x)))

    return model, guide


def two_layers(point: Point) -> tuple[Any, Any]:
    size, (lower, upper), (below, above) = point["batch"], point["latent_dim"], point["hidden"]

    def model(x: Any) -> None:
        middle = dense("middle", upper, above, above, 2 * lower)
        decoder = dense("decoder", lower, below, below, PIXELS)
        with numpyro.plate("data", size):
            z2 = numpyro.sample("z2", dist.Normal(jnp.zeros(upper), 1.0).to_event(1))
            z1 = numpyro.sample("z1", normal(middle(z2)))
            numpyro.sample("x", dist.Bernoulli(logits=decoder(z1)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        first = dense("first", PIXELS, below, below, 2 * lower)
        second = dense("second", lower, above, above, 2 * upper)
        with numpyro.plate("data", size):
            z1 = numpyro.sample("z1", normal(first(x)))
            numpyro.sample("z2", normal(second(z1)))

    return model, guide


def make(point: Point) -> Run:
    size, particles = point["batch"], point["num_particles"]
    model, guide = (two_layers if point["kind"] == "two layers" else one_layer)(point)
    loss = Trace_ELBO() if particles == 1 else RenyiELBO(alpha=0.0, num_particles=particles)
    svi = SVI(model, guide, numpyro.optim.Adam(1e-3), loss)
    pixels, following = jnp.asarray(rows()), batches(size)
    state = svi.init(jax.random.PRNGKey(0), jnp.zeros((size, PIXELS)))

    def step(state: Any, key: Any, pixels: Any, index: Any) -> Any:
        key, now = jax.random.split(key)
        x = (jax.random.uniform(now, (size, PIXELS)) < pixels[index] / 255).astype(jnp.float32)
        state, loss = svi.update(state, x)
        return state, key, loss

    jitted = jax.jit(step, donate_argnums=(0, 1))
    kept = {"state": state, "key": jax.random.PRNGKey(1)}

    def run() -> float:
        kept["state"], kept["key"], loss = jitted(kept["state"], kept["key"], pixels, following())
        # Trace_ELBO sums over the batch
        return float(loss) / size

    return run


if __name__ == "__main__":
    serve(make)
