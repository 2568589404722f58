"""Indices out of range: an IndexError, as torch's, and before any loop of several threads."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ppl_vae.compiler import native
from ppl_vae.compiler.graph import lower, prepare
from ppl_vae.compiler.rewrites import Setting
from ppl_vae.compiler.rewrites.indices import KNOWN, look_before
from tests.capture.helpers import needs_compiler

pytestmark = needs_compiler

CPU = torch.device("cpu")
TABLE = torch.randn(5, 7)
READS = {  # of a table and indices from 0 to 4, and whether these may count from the end
    "index": (lambda x, i: x[i], True),
    "index_of_two": (lambda x, i: x[i.unsqueeze(-1), i], True),
    "index_behind": (lambda x, i: x.t()[:, i], True),
    "index_put": (lambda x, i: x.clone().index_put_((i,), x[0, :1]), True),
    "index_fill": (lambda x, i: x.index_fill(0, i, 1.0), True),
    "take": (lambda x, i: x[:, 0].take(i), True),
    "put": (lambda x, i: x[0, :5].put(i, x.new_ones(5)), True),
    "put_in_place": (lambda x, i: x[0, :5].clone().put_(i, x.new_ones(5), accumulate=True), True),
    "max_unpool2d": (
        lambda x, i: functional.max_unpool2d(
            x.new_ones(1, 1, 1, 5), i[None, None, None], 1, output_size=(1, 5)
        ),
        False,
    ),
    "multi_margin_loss": (lambda x, i: functional.multi_margin_loss(x.t(), i.repeat(2)[:7]), False),
    "multilabel_margin_loss": (  # of which -1 is the end
        lambda x, i: functional.multilabel_margin_loss(x.t(), i.repeat(7, 1)),
        True,
    ),
    "index_select": (lambda x, i: x.index_select(0, i), False),
    "index_add": (lambda x, i: x.index_add(0, i, x.new_ones(len(i), 7)), False),
    "index_copy": (lambda x, i: x.index_copy(-2, i, x.new_ones(len(i), 7)), False),
    "gather": (lambda x, i: x.gather(0, i.unsqueeze(-1).expand(-1, 7)), False),
    "scatter": (lambda x, i: x.scatter(0, i.unsqueeze(-1), 1.0), False),
    "scatter_add": (lambda x, i: x.scatter_add(0, i.unsqueeze(-1), x), False),
    "embedding": (lambda x, i: functional.embedding(i, x), False),
    "embedding_of_int32": (lambda x, i: functional.embedding(i.int(), x), False),
    "nll_loss": (lambda x, i: functional.nll_loss(x.t(), i.repeat(2)[:7], ignore_index=-100), False),
    "nll_loss_of_images": (
        lambda x, i: functional.nll_loss(x[None, :, :, None], i.repeat(2)[None, :7, None]),
        False,
    ),
}


@pytest.fixture(autouse=True)
def there() -> None:
    if native.library() is None:
        pytest.skip("this compiler has no loops of ours")


def looked_at(function, *tensors):
    graph = lower(lambda given: [function(*given)], tensors, CPU)
    return graph, look_before(graph)


@pytest.mark.parametrize("name", READS)
def test_an_index_out_of_range_is_an_error(name):
    function, from_the_end = READS[name]
    index = torch.tensor([0, 3, 2, 4, 2])
    graph, count = looked_at(function, TABLE, index)
    assert count >= 1
    wrong, right = [[5, 0, 0, 0, 0], [0, 0, 2, 0, -6]], [[1, 0, 3, 1, 4]]
    (right if from_the_end else wrong).append([0, 0, -1, 0, 0])
    for each in map(torch.tensor, right):
        torch.testing.assert_close(graph(TABLE, each)[0], function(TABLE, each))
    for each in map(torch.tensor, wrong):
        with pytest.raises((IndexError, RuntimeError)):
            function(TABLE, each)
        with pytest.raises(IndexError, match="is out of bounds for a dimension with size 5"):
            graph(TABLE, each)


# targets that are no indices; what a kernel found itself; what is asked to be looked at by nobody
OTHERS = ("binary_cross_entropy", "huber_loss", "mse_loss", "smooth_l1_loss", "soft_margin_loss")
OTHERS += ("max_pool2d_with_indices_backward", "_unsafe")


def test_every_operation_that_reads_by_indices_in_loops_of_inductors_is_known():
    from torch._inductor.decomposition import decompositions
    from torch._inductor.lowering import fallbacks, lowerings

    unknown = []
    for operator in {*decompositions, *lowerings} - fallbacks:
        if not isinstance(operator, torch._ops.OpOverload) or "hacked_twin" in str(operator):
            continue
        arguments = operator._schema.arguments
        reads = any(
            each.name in ("index", "indices", "target") and "Tensor" in str(each.type) for each in arguments
        )
        if reads and not any(each.is_out for each in arguments) and not operator._can_decompose():
            unknown.append(operator.overloadpacket.__name__)
    unknown = [each for each in unknown if each not in KNOWN and each.rstrip("_") not in KNOWN]
    assert not [each for each in unknown if not each.startswith(OTHERS)]


def test_what_a_loss_ignores_is_none():
    scores, target = TABLE.t().clone(), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    graph, count = looked_at(lambda x, i: functional.cross_entropy(x, i, ignore_index=9), scores, target)
    target[2] = 9
    assert count == 1
    torch.testing.assert_close(
        graph(scores, target)[0], functional.cross_entropy(scores, target, ignore_index=9)
    )
    target[3] = 5
    with pytest.raises(IndexError, match="index 5 "):
        graph(scores, target)


def test_each_use_of_an_index_is_looked_at_as_the_index_is_then():
    def moved(x, i):
        first = x[i]
        i.add_(1)
        return first + x[i]

    index = torch.tensor([0, 3])
    graph, count = looked_at(moved, TABLE, index.clone())
    assert count == 2
    torch.testing.assert_close(graph(TABLE, index.clone())[0], moved(TABLE, index.clone()))
    with pytest.raises(IndexError, match="index 5 "):
        graph(TABLE, index + 1)
    graph, count = looked_at(lambda x, i: x[i, i] + x[i, i].exp(), TABLE.t(), index)
    assert count == 2
    with pytest.raises(IndexError, match="index 6 is out of bounds for a dimension with size 5"):
        graph(TABLE.t(), index + 3)


@pytest.mark.parametrize(
    "drawn",
    [
        lambda x: torch.multinomial(x.exp(), 1)[:, 0],
        lambda x: x.argmax(-1),
        lambda x: torch.randperm(7)[:3],
        lambda x: torch.arange(7).unsqueeze(-1).expand(7, 2),
    ],
)
def test_what_is_drawn_or_counted_is_not_looked_at(drawn):
    columns = TABLE.t().contiguous()
    assert looked_at(lambda x: columns_of(x, drawn), columns)[1] == 0
    assert looked_at(lambda x: columns_of(x, lambda y: drawn(y) + 1), columns)[1] == 1


def columns_of(x, drawn):
    return x[drawn(x.t())]


def test_a_compiled_graph_of_several_threads_raises_and_goes_on():
    index, before = torch.arange(200_000) % 5, torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run = prepare(lambda given: [given[0][given[1]].tanh()], [TABLE[:, 0], index], Setting(CPU))
        with pytest.raises(IndexError, match="index 50 is out of bounds"):
            run(TABLE[:, 0], index.where(index != 3, 50))
        torch.testing.assert_close(run(TABLE[:, 0], index)[0], TABLE[:, 0][index].tanh())
    finally:
        torch.set_num_threads(before)
