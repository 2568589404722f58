"""Sites of every kind: alphabets, gaps, plates and arguments beside the code."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_vae as pv
from ppl_vae import guides, likelihoods, models, nets
from ppl_vae.compression.alphabet import Alphabet, alphabet_of
from ppl_vae.compression.buckets import Reference
from ppl_vae.compression.element_rows import Layout
from ppl_vae.compression.plan import DataSite, LatentSite
from ppl_vae.compression.planning import _batch_size

N, D = 12, 4
QUIET = {"progress": False, "coders": False}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def comes_back(model, guide, *batch, **options):
    """The file of a pair of functions, whose data come back."""
    pair = pv.Pair(model, guide)
    file = pv.compress(pair, batch, verify=False, **QUIET, **options)
    again = pv.decompress(pair, file, progress=False)
    for one, other in zip(again, batch, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one.nan_to_num(-7.0), other.nan_to_num(-7.0))
    return file


def normal_guide(x, *rest):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.full((D,), 0.1), 0.7).expand([len(x), D]).to_event(1))


def model_of(likelihood):
    def model(x, *rest):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            pyro.sample("x", likelihood(z), obs=x)

    return model


COUNTS = drawn(N, D).exp().mul(3).round()
CASES = {
    "Bernoulli": (lambda z: dist.Bernoulli(logits=z).to_event(1), (drawn(N, D) > 0).float()),
    "categories": (
        lambda z: dist.Categorical(logits=torch.stack([z, -z, 0 * z], -1)).to_event(1),
        torch.arange(N * D).reshape(N, D) % 3,
    ),
    "Binomial": (lambda z: dist.Binomial(9, logits=z).to_event(1), COUNTS.clamp(max=9)),
    "Binomial of several totals": (
        lambda z: dist.Binomial(torch.tensor([1.0, 5.0, 9.0, 3.0]), logits=z).to_event(1),
        torch.minimum(COUNTS, torch.tensor([1.0, 5.0, 9.0, 3.0])),
    ),
    "Poisson": (lambda z: dist.Poisson(z.exp()).to_event(1), COUNTS),
    "Poisson of zeros alone": (lambda z: dist.Poisson(z.exp()).to_event(1), torch.zeros(N, D)),
    "a single category": (
        lambda z: dist.Categorical(logits=z.unsqueeze(-1)).to_event(1),
        torch.zeros(N, D, dtype=torch.long),
    ),
    "ZeroInflatedPoisson": (
        lambda z: dist.ZeroInflatedPoisson(z.exp(), gate=z.sigmoid()).to_event(1),
        COUNTS,
    ),
    "NegativeBinomial": (likelihoods.NegativeBinomial(2.0, event_dim=1), COUNTS),
    "Geometric": (lambda z: dist.Geometric(logits=z).to_event(1), COUNTS),
    "mixture of Poissons": (
        lambda z: dist.MixtureSameFamily(
            dist.Categorical(torch.ones(2)), dist.Poisson(torch.stack([z.exp(), 2 * z.exp()], -1))
        ).to_event(1),
        COUNTS,
    ),
    "Ordinal": (likelihoods.Ordinal(5, event_dim=1), COUNTS.clamp(max=4)),
    "grey levels": (
        lambda z: likelihoods.DiscretisedLogisticMixture(1, event_dim=1)(z.repeat(1, 3)),
        (drawn(N, D).sigmoid() * 255).round() / 255,
    ),
    "grey levels, rounded otherwise": (
        lambda z: likelihoods.DiscretisedLogisticMixture(1, event_dim=1)(z.repeat(1, 3)),
        (drawn(N, D).sigmoid() * 255).round() * (1 / 255),
    ),
    "one-hot vectors": (
        lambda z: dist.OneHotCategorical(logits=torch.stack([z, -z, 0 * z], -1)).to_event(1),
        torch.eye(3)[torch.arange(N * D).reshape(N, D) % 3],
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("options", [{"batch_size": 5}, {"num_samples": 2, "batch_size": 5, "bits": 5}])
def test_families_of_data_come_back(name, options):
    likelihood, x = CASES[name]
    comes_back(model_of(likelihood), normal_guide, x, **options)


def test_rows_in_another_order_and_one_by_one_come_back():
    likelihood, x = CASES["Poisson"]
    whole = comes_back(model_of(likelihood), normal_guide, x)
    turned = comes_back(model_of(likelihood), normal_guide, x.flip(0))
    assert turned.rate == pytest.approx(whole.rate, rel=0.1)
    for row in (x[:1], x[-1:]):
        comes_back(model_of(likelihood), normal_guide, row)


def test_a_discrete_table_with_gaps_comes_back_and_gaps_count():
    parts = (likelihoods.Categorical(3, event_dim=1), likelihoods.Poisson(event_dim=1))
    likelihood = likelihoods.Mixed(parts, columns=((2, 0), (3, 1)))
    width = likelihood.raw_shape((D,))[0]
    weight = drawn(D, width, seed=4)
    x = torch.stack([COUNTS[:, 0] % 3, COUNTS[:, 1], COUNTS[:, 2] % 3, COUNTS[:, 3]], -1)
    gaps = x.masked_fill(drawn(N, D, seed=5) < -0.5, math.nan)
    model = models.VAE(likelihood, nets.MLPDecoder(D, (width,), ()), D)
    with torch.no_grad():
        next(each for each in model.decoder.parameters() if each.dim() == 2).copy_(weight.T)
    guide = guides.MeanField(nets.ColumnEncoder((3, 1, 3, 1), D, (5,), counts=(1, 3)))
    whole, some = (comes_back(model, guide, each, batch_size=4) for each in (x, gaps))
    assert whole.side_size == 0
    assert some.side_size > 0


def test_inner_plates_come_back():
    """Time steps in a plate of their own, to the left of the data, and z with a plate too."""

    def model(x):
        data, steps = pyro.plate("data", len(x), dim=-1), pyro.plate("steps", 3, dim=-2)
        with data, steps:
            z = pyro.sample("z", dist.Normal(torch.zeros(3, 1), 1.0))
            pyro.sample("x", dist.Bernoulli(logits=z), obs=x.T)

    def guide(x):
        data, steps = pyro.plate("data", len(x), dim=-1), pyro.plate("steps", 3, dim=-2)
        with data, steps:
            pyro.sample("z", dist.Normal(x.T - 0.5, 0.8))

    file = comes_back(model, guide, (drawn(N, 3) > 0).float(), batch_size=4)
    assert file.num_elements == 3


def test_an_argument_that_no_site_observes_is_stored_and_counts():
    labels = torch.arange(N) % 3
    model = models.ConditionalVAE(likelihoods.Bernoulli(1), nets.MLPDecoder(D + 3, (6,), (5,)), D, 3, True)
    guide = guides.Conditional(nets.MLPEncoder((6,), D, (5,)), 3)
    file = comes_back(model, guide, (drawn(N, 6) > 0).float(), labels)
    assert file.side_size > 0


def test_two_sites_and_a_label_that_is_data():
    def model(x, y):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            pyro.sample("y", dist.Categorical(logits=z[..., :3]), obs=y)
            pyro.sample("x", dist.Bernoulli(logits=z).to_event(1), obs=x)

    file = comes_back(model, normal_guide, (drawn(N, D) > 0).float(), torch.arange(N) % 3)
    assert file.num_elements == D + 1
    assert file.side_size == 0


def test_arguments_that_are_alike_for_most_of_the_data():
    """Which of them a site follows is told by the program, and not by the values."""

    def model(one, two):
        with pyro.plate("data", len(one), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            pyro.sample("a", dist.Bernoulli(logits=z).to_event(1), obs=two)
            pyro.sample("b", dist.Bernoulli(logits=-z).to_event(1), obs=one)

    one, two = torch.zeros(700, D), torch.zeros(700, D)
    two[1, 0] = 1.0  # a row that the plan does not look at
    file = pv.compress(pv.Pair(model, normal_guide), {"one": one, "two": two}, batch_size=100, **QUIET)
    assert file.verified
    assert file.side_size == 0


def test_a_plan_is_made_of_all_parts_of_the_data():
    """The prior differs between classes, of which the first rows have but one."""

    def model(label, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(6.0 * label[:, None].expand(-1, D), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z).to_event(1), obs=x)

    def guide(label, x):
        with pyro.plate("data", len(x), dim=-1):
            loc = 6.0 * label[:, None] + 0.3 * x
            pyro.sample("z", dist.Normal(loc, 0.9).to_event(1))

    label = torch.zeros(600)
    label[400:] = 1.0
    data = {"label": label, "x": (drawn(600, D) > 0).float()}
    file = pv.compress(pv.Pair(model, guide), data, batch_size=50, verify=False, **QUIET)
    bits = D * file.num_data * (file.rate - file.negative_elbo) - 8 * file.side_size
    spread = math.sqrt(2) * file.standard_error * D * file.num_data
    assert abs(bits) < 4.5 * spread + 0.01 * D * file.num_data


def test_the_buckets_of_a_single_datum_are_those_of_its_guide():
    """One draw has no deviation: a hierarchy's buckets are cut by several."""

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            w = pyro.sample("w", dist.Normal(torch.zeros(()), 1.0))
            z = pyro.sample("z", dist.Normal(w.unsqueeze(-1).expand(len(x), D), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.2 * x, 0.8).to_event(1))
            pyro.sample("w", dist.Normal(0.5 * z.mean(-1), 0.6))

    x = (drawn(1, D) > 0).float()
    of_many = pv.compress(pv.Pair(model, guide), x.expand(400, -1), verify=False, batch_size=100, **QUIET)
    of_one = [pv.compress(pv.Pair(model, guide), x, seed=n, verify=False, **QUIET).rate for n in range(12)]
    spread = of_many.standard_error * math.sqrt(400 / 12)
    assert abs(sum(of_one) / 12 - of_many.rate) < 4.5 * spread


def test_a_discrete_latent_vector_and_one_that_hangs_on_it():
    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            k = pyro.sample("k", dist.Bernoulli(torch.full((2,), 0.3)).to_event(1))
            z = pyro.sample("z", dist.LogNormal(k @ torch.ones(2, D), 0.3).to_event(1))
            pyro.sample("x", dist.Poisson(z).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.LogNormal((x + 1).log(), 0.4).to_event(1))
            pyro.sample("k", dist.Bernoulli(logits=z[..., :2] - 1).to_event(1))

    comes_back(model, guide, COUNTS, batch_size=4, order="bits back")
    comes_back(model, guide, COUNTS, num_samples=3, bits=6)


def refused(model, x, said, guide=normal_guide):
    with pytest.raises(pv.PairError, match=said):
        pv.compress(pv.Pair(model, guide), x, **QUIET)


def test_what_has_no_code_is_refused_by_name():
    x = (drawn(N, D) > 0).float()

    def masked(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z).mask(x < 2).to_event(1), obs=x)

    def weighed(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            pyro.factor("nudge", z.sum(-1))
            pyro.sample("x", dist.Bernoulli(logits=z).to_event(1), obs=x)

    def changed(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z).to_event(1), obs=1 - x)

    def teacher_forced(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            before = torch.cat([0 * x[:, :1], x[:, :-1]], -1)
            pyro.sample("x", dist.Bernoulli(logits=z + before).to_event(1), obs=x)

    refused(masked, x, "site 'x' has a mask or a scale")
    refused(weighed, x, "'nudge' is a pyro.factor")
    refused(changed, x, r"site 'x' observes what is made of the arguments \['x'\]")
    refused(teacher_forced, x, r"reads the values of its argument 'x' outside obs=")
    refused(
        model_of(lambda z: dist.Multinomial(9, logits=z)), 9 * torch.eye(D).repeat(3, 1), "'x' does not fac"
    )
    refused(model_of(lambda z: dist.Poisson(z.exp()).to_event(1)), x * 1e5, "an alphabet ends at 65,536")


def test_values_that_would_not_come_back_are_refused():
    x = (drawn(N, D) > 0).float()
    minus = torch.where(x == 0, -0.0, x)
    likelihood = CASES["Bernoulli"][0]
    refused(model_of(likelihood), minus, "the data hold -0, which.*x [+] 0.0 makes 0 of a negative zero")


def test_a_batch_is_a_thousandth_of_the_data_unless_its_tables_are_large():
    pixels = DataSite("x", 0, Layout((), (784,)), ((Layout((), (784,)), Alphabet("x", torch.arange(256))),))
    latents = (LatentSite("z", Layout((), (50,)), Reference(bits=10)),)
    assert _batch_size(10_000, (pixels,), latents, 1) == 10
    assert _batch_size(500, (pixels,), latents, 1) == 1
    assert _batch_size(10_000_000, (pixels,), latents, 1) == 2**24 // (784 * 256 + 50 * 1024)
    assert _batch_size(10_000_000, (pixels,), latents, 10_000) == 1


def test_the_alphabet_of_each_family():
    layout = Layout((), (2,))
    for fn, size in (
        (dist.Bernoulli(torch.full((3, 2), 0.3)), 2),
        (dist.Categorical(torch.ones(3, 2, 5)), 5),
        (dist.Binomial(4, torch.full((3, 2), 0.3)), 5),
    ):
        alphabet = alphabet_of(fn, None, "x")
        assert len(alphabet) == size
        table = torch.from_numpy(alphabet.table(fn, layout))
        assert table.shape == (3, 2, size)
        torch.testing.assert_close(table.sum(-1), torch.ones(3, 2, dtype=torch.float64), rtol=1e-6, atol=0)
    assert alphabet_of(dist.Normal(torch.zeros(3, 2), 1.0), None, "x") is None
    assert alphabet_of(dist.Poisson(torch.ones(3, 2)), None, "x") is None
