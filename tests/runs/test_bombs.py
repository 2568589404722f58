"""Small files that ask for much: a configuration is refused before it has taken time or memory."""

from __future__ import annotations

import pytest
import torch
import yaml

import ppl_vae as pv
from ppl_vae import data, estimators, guides, models, nets
from ppl_vae.cli import main
from ppl_vae.runs.budget import at_most
from ppl_vae.runs.safe_yaml import YamlError, load_yaml


def chain(first, link):
    return f"a: &a {first}\n" + "".join(
        f"{new}: &{new} {link.format(', '.join([f'*{old}'] * 9))}\n"
        for old, new in zip("abcdefghijkl", "bcdefghijklm")
    )


YAML = {
    "lists that multiply": (chain("[x, x, x]", "[{}]"), "values, anchors followed"),
    "merge keys that multiply": (chain("{k: 1, j: 2}", "{{<<: [{}]}}"), "values, anchors followed"),
    "mappings that multiply": (chain("{k: 1}", "{{x: [{}]}}"), "values, anchors followed"),
    "a list that contains itself": ("a: &a [1, *a]", "contains itself"),
    "a mapping that contains itself": ("a: &a {b: {c: *a}}", "contains itself"),
    "a mapping that merges itself": ("a: &a {<<: *a}", "contains itself"),
    "brackets without end": ("[" * 2000, "deeper than 100"),
    "braces without end": ("{a: " * 600, "deeper than 100"),
    "dashes without end": ("- " * 1000, "deeper than 100"),
    "depth by anchors": (
        "".join(f"a{n}: &a{n} [*a{n - 1}]\n" if n else "a0: &a0 []\n" for n in range(150)), "deeper"
    ),
    "no UTF-8": (b"data: \xff\xfe", "is not UTF-8"),
    "too large": ("#" * (2**20 + 1), "larger than"),
    "no date": ("a: 2001-99-99", "no YAML of plain values"),
    "no bool": ("a: !!bool maybe", "no YAML of plain values"),
    "no number": ("a: !!int ''", "no YAML of plain values"),
    "a list as a key": ("? [a]\n: b", "no YAML of plain values"),
    "control characters": ("a: \0", "no YAML"),
}  # fmt: skip


def linear(size):
    return {"class_path": "torch.nn.Linear", "init_args": {"in_features": size, "out_features": size}}


def flow(name, **init_args):
    encoder = {
        "class_path": "ppl_vae.nets.MLPEncoder",
        "init_args": {"shape": [3], "latent_dim": 2, "hidden": [4]},
    }
    return {"class_path": f"ppl_vae.guides.{name}", "init_args": {"encoder": encoder, **init_args}}


SIZES = {
    "a layer": linear(30_000),
    "many layers": {
        "class_path": "torch.nn.Sequential",
        "init_args": {"args": [linear(1500) for _ in range(30)]},
    },
    "more than there are bytes": linear(10**10),
    "a loop": flow("Planar", num_transforms=10**9),
    "masks": flow("IAF", hidden=[30_000, 30_000]),
    "a net of ours": {
        "class_path": "ppl_vae.nets.MLPDecoder",
        "init_args": {"latent_dim": 2, "shape": [10**5, 10**4]},
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bombs") / "run"
    pair = pv.Pair(models.LinearGaussian(2, 3), guides.MeanField(nets.MLPEncoder((3,), 2, hidden=(4,))))
    x = data.from_tensors(torch.randn(30, 3, generator=torch.Generator().manual_seed(0)))
    pv.fit(pair, estimators.ELBO(), x, epochs=1, progress=False, run_dir=folder, device="cpu")
    return folder


@pytest.fixture
def config(run):
    """The path of the run's configuration, which is put back."""
    path = run / "config.yaml"
    kept = path.read_bytes()
    yield path
    path.write_bytes(kept)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("name", YAML)
def test_a_configuration_that_is_a_bomb(name, config, capsys):
    content, says = YAML[name]
    write(config, content)
    with pytest.raises(pv.RunError, match=says):
        pv.load(config.parent)
    assert main(["check", "--config", str(config)]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("name", SIZES)
def test_a_pair_that_its_weights_do_not_hold(name, config):
    kept = yaml.safe_load(config.read_text())
    kept["pair"]["guide"] = SIZES[name]
    config.write_text(yaml.safe_dump(kept))
    with pytest.raises(pv.RunError, match=r"do not belong together|refuses its arguments"):
        pv.load(config.parent)


def test_null_for_a_pair(config):
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "pair": None}))
    with pytest.raises(pv.RunError, match="no mapping 'pair'"):
        pv.load(config.parent)


@pytest.mark.parametrize("group", ["pair", "load", "evaluate", "report"])
def test_null_for_a_group_of_options(group, tmp_path, capsys):
    (tmp_path / "options.yaml").write_text(f"{group}: null\n")
    assert main(["train", "--config", str(tmp_path / "options.yaml")]) == 2
    assert f"{group}: None has no options" in capsys.readouterr().err


def test_anchors_that_share_are_read():
    assert load_yaml("a: &a {x: 1}\nb: [*a, *a]\nc: {<<: *a, y: 2}")["c"] == {"x": 1, "y": 2}
    with pytest.raises(YamlError):
        load_yaml("a: *b")


def test_what_is_counted_is_what_is_made():
    with at_most(10 * 2**20, "that is the test"):
        small = torch.nn.Linear(100, 100)
        small.weight.expand(10**6, 100, 100)  # a view takes nothing
        with pytest.raises(ValueError, match="that is the test"):
            small.weight.expand(10**6, 100, 100).clone()
