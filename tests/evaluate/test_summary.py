from __future__ import annotations

import torch

from ppl_vae import evaluate
from ppl_vae.evaluate.lines import plus_minus, rows
from tests.oracle import make_pair


def test_summary_holds_the_three_results(double):
    pair, x = make_pair(perturb=0.01), torch.randn(20, 5)
    result = evaluate.summary(pair, x, 200, seed=5, threshold=0.02, progress=False)
    alone = evaluate.log_likelihood(pair, x, 200, seed=5, progress=False)
    assert torch.equal(result.log_likelihood.per_datum, alone.per_datum)
    assert torch.equal(result.bounds.per_datum, evaluate.bounds(pair, x, seed=5).per_datum)
    assert result.active_units.threshold == 0.02
    names = [line.strip().split("  ")[0] for line in str(result).splitlines()]
    assert names == [
        "20 data, nats per datum",
        "ELBO",
        "reconstruction",
        "KL z",
        "-log p(x)",
        "effective sample size",
        "k-hat above 0.57",
        "active units z",
    ]


def test_table_is_aligned_at_the_point():
    text = rows("title", [("a", "1.5", "x"), ("longer", "-100.25", ""), ("n", "12", "of 20")])
    assert text.splitlines() == [
        "title",
        "  a          1.5   x",
        "  longer  -100.25",
        "  n         12     of 20",
    ]


def test_values_show_as_many_digits_as_their_error():
    assert plus_minus(-98.316, 0.451) == "-98.32 ± 0.45"
    assert plus_minus(1.0, 1.1e-9) == "1.000000 ± 0.000000"
    assert plus_minus(2.0, 0.0) == "2.00 ± 0.00"
