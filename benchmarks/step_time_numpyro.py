"""NumPyro's part of `step_time.py`, in an environment of its own: questions come in as lines of JSON."""

from __future__ import annotations

import os
import sys

threads = int(sys.argv[1])
flags = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} intra_op_parallelism_threads={threads}"
os.environ["XLA_FLAGS"] = flags
os.environ["OMP_NUM_THREADS"] = str(threads)

import itertools  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import numpyro  # noqa: E402
import numpyro.distributions as dist  # noqa: E402
from numpyro.infer import SVI, RenyiELBO, Trace_ELBO  # noqa: E402

ROWS, PIXELS = 10_000, 784


def layers(name: str, *sizes: int) -> Callable[[Any], Any]:
    """A net of tanh layers whose weights are NumPyro parameters."""
    weights = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        scale = (6 / (inputs + outputs)) ** 0.5
        initial = jax.random.uniform(
            jax.random.PRNGKey(number), (inputs, outputs), minval=-scale, maxval=scale
        )
        weights.append(
            (
                numpyro.param(f"{name}.{number}.weight", initial),
                numpyro.param(f"{name}.{number}.bias", jnp.zeros(outputs)),
            )
        )

    def run(x: Any) -> Any:
        for number, (weight, bias) in enumerate(weights):
            x = x @ weight + bias
            x = jnp.tanh(x) if number + 1 < len(weights) else x
        return x

    return run


def make(point: dict[str, Any]) -> Callable[[], Any]:
    hidden, latent_dim, size = point["hidden"], point["latent_dim"], point["batch"]

    def model(x: Any) -> None:
        decoder = layers("decoder", latent_dim, *hidden, PIXELS)
        with numpyro.plate("data", size):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(latent_dim), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        encoder = layers("encoder", PIXELS, *hidden, 2 * latent_dim)
        loc, log_scale = jnp.split(encoder(x), 2, -1)
        with numpyro.plate("data", size):
            numpyro.sample("z", dist.Normal(loc, jnp.exp(log_scale)).to_event(1))

    particles = point["num_particles"]
    loss = Trace_ELBO() if particles == 1 else RenyiELBO(alpha=0.0, num_particles=particles)
    svi = SVI(model, guide, numpyro.optim.Adam(1e-3), loss)
    noise = np.random.default_rng(0)
    pixels = jnp.asarray((noise.random((ROWS, PIXELS)) ** 3 * 255).astype(np.uint8))
    state = svi.init(jax.random.PRNGKey(0), jnp.zeros((size, PIXELS)))

    @jax.jit
    def step(state: Any, key: Any, index: Any) -> Any:
        key, now = jax.random.split(key)
        x = (jax.random.uniform(now, (size, PIXELS)) < pixels[index] / 255).astype(jnp.float32)
        state, loss = svi.update(state, x)
        return state, key, loss

    kept = {"state": state, "key": jax.random.PRNGKey(1)}

    def run() -> float:
        index = noise.integers(0, ROWS, size)
        kept["state"], kept["key"], loss = step(kept["state"], kept["key"], index)
        return float(loss)

    return run


def turn(run: Callable[[], Any], seconds: float) -> float:
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - before))
    return statistics.median(times)


run: Any = None
for line in sys.stdin:
    question = json.loads(line)
    if "make" in question:
        before = time.perf_counter()
        run = make(question["make"])
        run()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answer = {"first": time.perf_counter() - before, "memory": memory, "numpyro": numpyro.__version__}
    else:
        answer = {"milliseconds": turn(run, question["seconds"])}
    print(json.dumps(answer), flush=True)
