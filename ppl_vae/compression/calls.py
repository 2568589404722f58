"""Compress and decompress."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppl_vae.compression.bit_swap import BitSwap
from ppl_vae.compression.bits_back import BitsBack
from ppl_vae.compression.classical import sizes
from ppl_vae.compression.coder import Stack, required
from ppl_vae.compression.coding import Coded, Order, code_of, decoded, encoded, in_order
from ppl_vae.compression.environment import difference, digest_of_floats, digest_of_pair, environment
from ppl_vae.compression.errors import CompressionError
from ppl_vae.compression.file_format import Content, of_bytes, size_of_side, to_bytes
from ppl_vae.compression.plan import Plan
from ppl_vae.compression.planning import plan_of
from ppl_vae.compression.programs import Programs, exact
from ppl_vae.compression.result import Compressed
from ppl_vae.compression.side import beside, frame_of, gaps_of, rows_of, shapes_of
from ppl_vae.core.checks import check_choice, check_seed, checked
from ppl_vae.core.isolation import one_thread, random_numbers
from ppl_vae.core.pair import Pair, require_pair
from ppl_vae.evaluate.batches import Tensors, to_data
from ppl_vae.evaluate.bounds_on_data import Bounds, bounds
from ppl_vae.runs.atomic import atomic_write
from ppl_vae.runs.seals import digest_of_tensors

_ROWS = 1024  # that a data set gives at a time


@one_thread
@checked()
def compress(
    pair: Pair,
    data: Any,
    path: str | Path | None = None,
    *,
    num_samples: int = 1,
    bits: int = 10,
    batch_size: int | None = None,
    order: Order = "auto",
    seed: int = 0,
    verify: bool = True,
    coders: bool = True,
    progress: bool = True,
) -> Compressed:
    r"""Data as a file, coded losslessly with a pair by bits-back coding.

    .. math:: \text{bits} = \sum_i -\log_2 \frac{1}{K} \sum_k
        \frac{p(x_i, z_{ki})}{q(z_{ki} \mid x_i)}, \qquad z_{ki} \sim q(z \mid x_i)

    So K = 1 costs the negative ELBO, and K > 1 the K-sample bound. The observed sites factorise given the
    latents and are discrete; the latents are finite, or continuous with distribution functions of prior and
    guide, and then one of 2^bits buckets. Their numbers may be independent, in the prior and in the guide, or
    come one after the other, as under a full covariance. Whatever else is refused by name. Arguments that no
    site observes, such as labels that the model is given, are stored beside the code, and count. Both
    programs run in float64 on the CPU.

    The file decodes with the same weights, torch, thread count and machine, and is refused elsewhere:
    probabilities that differ in their last bit would give other data.

    Args:
        pair: model and guide; it stays as it is.
        data: a `data.Split`, a Tensor (N, \*event), a tuple of Tensors (N, ...), or what `data.as_split`
            takes. They come back bit for bit as the tensors of the pair's batches.
        path: where to write the file; None leaves it in the result.
        num_samples: K.
        bits: 2^bits buckets for each continuous latent, from 1 to 16.
        batch_size: data at a time. More is faster, and the first batch needs more random bits to begin with,
            which the file keeps; by default a thousandth of the data, shared by the K samples, or fewer where
            the tables of probabilities would be large.
        order: "Bit-Swap" alternates along a chain of latents, which needs fewer bits to begin with; "auto"
            does so where the pair is such a chain.
        seed: of the random bits.
        verify: decode the file again and compare every bit.
        coders: what gzip, bz2, lzma and, for images, PNG make of the same data, for the table.
        progress: show a progress bar.

    Raises:
        PairError: a pair or a site that cannot be coded, by name.
        CompressionError: where `constriction` is not installed, or the file does not give the data back.
        ValueError: for an option that is none.

    Townsend, Bird and Barber, Practical Lossless Compression with Latent Variables using Bits Back Coding,
    arXiv:1901.04866. Ruan et al., Improving Lossless Compression Rates via Monte Carlo Bits-Back Coding,
    arXiv:2102.11086. Kingma, Abbeel and Ho, Bit-Swap, arXiv:1905.06845.

    >>> from ppl_vae import Pair, guides, likelihoods, models, nets
    >>> model = models.VAE(likelihoods.Bernoulli(1), nets.MLPDecoder(2, (6,)), latent_dim=2)
    >>> pair = Pair(model, guides.MeanField(nets.MLPEncoder((6,), latent_dim=2)))
    >>> x = torch.bernoulli(torch.full((20, 6), 0.5))
    >>> file = compress(pair, x, progress=False)
    >>> (again,) = decompress(pair, file)
    >>> torch.equal(x, again)
    True
    """
    require_pair(pair)
    required()
    if bits > 16:
        raise ValueError(f"bits must be from 1 to 16, got {bits}: more leave the coder's 24 bits too few")
    check_choice("order", order, ("auto", "bits back", "Bit-Swap"))
    check_seed("seed", seed)
    with random_numbers(seed, pair.device):  # data may be binarised as they are read
        tensors = _tensors(pair, data)
    plan, programs = plan_of(pair, tensors, bits, num_samples, batch_size)
    started = time.perf_counter()
    with exact(plan.dtype):
        code, coded, content = _encode(pair, plan, programs, tensors, order, seed, progress)
        seconds = time.perf_counter() - started
        elbo = bounds(programs.pair, Tensors(programs.batch(tensors)), seed=seed)
    raw = to_bytes(content)
    if verify:
        _verify(pair, raw, progress)
    if path is not None:
        atomic_write(Path(path), lambda temporary: temporary.write_bytes(raw))
    return _result(code, coded, content, raw, tensors, elbo, path, seconds, verify, coders)


@one_thread
@checked()
def decompress(
    pair: Pair, source: str | Path | Compressed, *, anyway: bool = False, progress: bool = True
) -> tuple[Tensor, ...]:
    """The data of a file that `compress` wrote, bit for bit.

    Args:
        pair: with the weights that it had when the file was written.
        source: the path, or the result of `compress`.
        anyway: decode a file from elsewhere too. It holds a checksum of the data, so that what comes back is
            right or refused; as a rule it is refused.
        progress: show a progress bar.

    Returns:
        The tensors of the pair's batches, (N, ...) each.

    Raises:
        CompressionError: for a file that is damaged or another's, a pair with other weights, and another
            machine, torch or thread count.
    """
    require_pair(pair)
    required()
    if isinstance(source, Compressed):
        return _decode(pair, source.content, "the compressed data", progress, anyway)
    try:
        raw = Path(source).read_bytes()
    except OSError as error:
        raise CompressionError(f"{source} cannot be read: {error.strerror}") from error
    return _decode(pair, raw, str(source), progress, anyway)


def _tensors(pair: Pair, data: Any) -> tuple[Tensor, ...]:
    """All data on the CPU, as the tensors of the pair's batches."""
    chunks = list(to_data(data, pair).batches(_ROWS))
    return tuple(torch.cat(each).cpu() for each in zip(*chunks, strict=True))


def _encode(
    pair: Pair,
    plan: Plan,
    programs: Programs,
    tensors: tuple[Tensor, ...],
    order: Order,
    seed: int,
    progress: bool,
) -> tuple[BitsBack, Coded, Content]:
    count, side = len(tensors[0]), beside(plan, tensors)
    frame = frame_of(plan, side, count, shapes_of(tensors))
    code = in_order(code_of(plan, programs, frame), tensors, order)
    coded = encoded(code, tensors, gaps_of(plan, side, count), seed, progress)
    header = {
        "plan": code.plan.to_plain(),
        "num_data": count,
        "arguments": [[list(shape), _name(dtype)] for shape, dtype in shapes_of(tensors)],
        "environment": environment(),
        "pair": digest_of_pair(pair),
        "floats": digest_of_floats(code, rows_of(frame, slice(0, plan.batch_size))),
        "data": _digest(tensors),
        "stirred": coded.stirred,
    }
    return code, coded, Content(header, side, coded.stack.words()[coded.unused :])


def _decode(pair: Pair, raw: bytes, where: str, progress: bool, anyway: bool) -> tuple[Tensor, ...]:
    content = of_bytes(raw, where)
    header = content.header
    if not anyway and (found := difference(header["environment"])):
        raise CompressionError(f"{where} was written elsewhere: {found}")
    if header["pair"] != digest_of_pair(pair):
        raise CompressionError(
            f"{where} was written with another pair, or other weights of it: give the pair as it was then"
        )
    plan = Plan.of_plain(header["plan"])
    shapes = [(tuple(shape), getattr(torch, name)) for shape, name in header["arguments"]]
    frame = frame_of(plan, content.side, header["num_data"], shapes)
    with exact(plan.dtype):
        code = code_of(plan, Programs(pair, plan.dtype), frame)
        probed = digest_of_floats(code, rows_of(frame, slice(0, plan.batch_size)))
        if not anyway and header["floats"] != probed:
            raise CompressionError(
                f"{where} was written where the same weights gave other floats: its bits come back only from "
                "the same; decode it on the machine, and with the code of the pair, where it was written"
            )
        gaps = gaps_of(plan, content.side, header["num_data"])
        tensors = decoded(code, Stack(content.words), header["stirred"], frame, gaps, progress)
    if header["data"] != _digest(tensors):
        raise CompressionError(
            f"{where} does not give back the data that it was made of: the pair's programs did not give the "
            "same numbers twice. They must depend on their arguments and draws alone; try order='bits back'"
        )
    return tensors


def _verify(pair: Pair, raw: bytes, progress: bool) -> None:
    _decode(pair, raw, "the compressed data", progress, anyway=False)


def _digest(tensors: Sequence[Tensor]) -> str:
    return digest_of_tensors({str(number): each for number, each in enumerate(tensors)})


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _result(
    code: BitsBack,
    coded: Coded,
    content: Content,
    raw: bytes,
    tensors: Sequence[Tensor],
    elbo: Bounds,
    path: str | Path | None,
    seconds: float,
    verified: bool,
    coders: bool,
) -> Compressed:
    plan, side = code.plan, size_of_side(content)
    nats_to_rate = 1 / (plan.num_elements * math.log(2))
    return Compressed(
        path=None if path is None else Path(path),
        num_data=len(tensors[0]),
        num_elements=plan.num_elements,
        rate=(coded.added + 8 * side) / (len(tensors[0]) * plan.num_elements),
        negative_elbo=-elbo.elbo * nats_to_rate,
        standard_error=elbo.standard_error * nats_to_rate,
        num_samples=plan.num_samples,
        order="Bit-Swap" if isinstance(code, BitSwap) else "bits back",
        file_size=len(raw),
        initial_bits=coded.begun,
        side_size=side,
        coders=sizes([tensors[site.argument] for site in plan.data]) if coders else {},
        seconds=seconds,
        verified=verified,
        content=raw,
    )
