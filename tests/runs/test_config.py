from __future__ import annotations

import textwrap
from typing import Literal

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from ppl_vae import guides, models, nets
from ppl_vae.runs import config
from ppl_vae.runs.config import ConfigError, build, describe

TRUST = (__name__,)


class Net(nn.Module):
    """Follows the constructor convention."""

    def __init__(
        self,
        hidden: tuple[int, ...] = (4, 3),
        scale: float = 0.5,
        mode: Literal["plain", "gated"] = "plain",
        bias: bool = True,
        width: int | None = None,
        inner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if scale < 0:
            raise ValueError(f"scale must not be negative, got {scale}")
        self.hidden, self.scale, self.mode, self.bias = tuple(hidden), scale, mode, bias
        self.width, self.inner = width, inner


class Two(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second


class Several(nn.Module):
    def __init__(self, parts: list[nn.Module], stack: nn.ModuleList) -> None:
        super().__init__()
        self.parts, self.stack = nn.ModuleList(parts), stack


class Forgetful(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.size = hidden


class WithTensor(nn.Module):
    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.mean = mean


class Variadic(nn.Module):
    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.sizes = sizes


class Raising(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()

    @property
    def size(self) -> int:
        raise RuntimeError("not yet")


def not_a_class() -> None:
    raise AssertionError("a config called a function")


def through_yaml(module: nn.Module, trust: tuple[str, ...] = TRUST) -> nn.Module:
    text = yaml.safe_dump(describe(module), sort_keys=False)
    return build(yaml.safe_load(text), trust)


def tree(cls: type, **init_args: object) -> config.Tree:
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": init_args}


def test_arguments_survive_yaml_with_their_types():
    net = Net((7, 2), scale=1e-9, mode="gated", bias=False, width=3, inner=Net(()))
    again = through_yaml(net)
    assert isinstance(again, Net)
    for name in ("hidden", "scale", "mode", "bias", "width"):
        assert getattr(again, name) == getattr(net, name)
        assert type(getattr(again, name)) is type(getattr(net, name))
    assert again.inner.hidden == ()


def test_numbers_of_numpy_are_written_as_pythons():
    net = Net((np.int64(7), 2), scale=np.float64(0.25), bias=np.bool_(False), width=np.int32(3))
    written, plain = (
        describe(net)["init_args"],
        describe(Net((7, 2), scale=0.25, bias=False, width=3))["init_args"],
    )
    assert written == plain
    assert [type(value) for value in written.values()] == [type(value) for value in plain.values()]


def test_defaults_are_written_so_that_a_new_default_does_not_change_an_old_run():
    assert describe(Net())["init_args"] == {
        "hidden": [4, 3], "scale": 0.5, "mode": "plain", "bias": True, "width": None, "inner": None,
    }  # fmt: skip


def test_a_module_that_occurs_twice_is_shared_again():
    shared = Net()
    module = Two(shared, Two(shared, Net()))
    written = describe(module)
    assert written["init_args"]["first"] is written["init_args"]["second"]["init_args"]["first"]
    assert "&id001" in yaml.safe_dump(written)
    again = through_yaml(module)
    assert again.first is again.second.first
    assert again.first is not again.second.second


def test_modules_are_shared_across_calls():
    shared, seen, built = Net(), {}, {}
    trees = [describe(Two(shared, Net()), seen), describe(Two(Net(), shared), seen)]
    first, second = (build(one, TRUST, built=built) for one in trees)
    assert first.first is second.second


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(2, 3),
        nn.Linear(2, 3, bias=False),
        nn.Conv2d(1, 2, (3, 5), stride=2, padding="valid", bias=False),
        nn.ConvTranspose2d(2, 1, 4, 2, 1),
        nn.BatchNorm1d(4, affine=False),
        nn.LayerNorm((3, 2), bias=False),
        nn.GroupNorm(2, 4),
        nn.Flatten(-3),
        nn.Unflatten(-1, (2, 3)),
        nn.Identity(),
        nn.Tanh(),
        nn.Dropout(0.25),
        nn.Embedding(5, 2),
        nn.Sequential(nn.Flatten(-2), nn.Sequential(nn.Linear(6, 3), nn.GLU(-1)), nn.Softplus(2.0)),
    ],
    ids=str,
)
def test_torch_layers_are_rebuilt(layer):
    again = through_yaml(layer, trust=())
    assert repr(again) == repr(layer)
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in layer.state_dict().items()
    }


def test_a_layer_used_twice_in_a_sequential_is_shared():
    layer = nn.Linear(2, 2)
    again = through_yaml(nn.Sequential(layer, nn.Tanh(), layer), trust=())
    assert again[0] is again[2]


def test_sequences_of_modules_become_the_containers_of_the_annotation():
    again = through_yaml(Several([Net((1,)), Net((2,))], nn.ModuleList([Net((3,))])))
    assert [part.hidden for part in again.parts] == [(1,), (2,)]
    assert isinstance(again.stack, nn.ModuleList)
    assert again.stack[0].hidden == (3,)


def test_our_own_nets_models_and_guides_are_rebuilt():
    encoder = nets.Encoder(nn.Sequential(nn.Flatten(-3), nn.Linear(64, 9), nn.Tanh()), 9, 2, min_scale=1e-3)
    decoder = nets.MLPDecoder(2, (1, 8, 8), hidden=(5,), activation="gated")
    for module in (
        guides.FullRank(nets.MLPEncoder((1, 8, 8), 2, hidden=())),
        guides.MeanField(encoder),
        models.VAE(nn.Identity(), decoder, 2),
        models.LinearGaussian(2, 5, noise=0.3),
    ):
        again = through_yaml(module, trust=())
        assert repr(again) == repr(module)
        assert describe(again) == describe(module)
        again.load_state_dict(module.state_dict())


def test_the_public_short_path_works_too():
    short = {"class_path": "ppl_vae.models.LinearGaussian", "init_args": {"latent_dim": 1, "data_dim": 2}}
    assert isinstance(build(short), models.LinearGaussian)


def local_class() -> nn.Module:
    class Local(nn.Module):
        pass

    return Local()


def in_main() -> nn.Module:
    return type("Drawn", (nn.Module,), {"__module__": "__main__"})()


def nowhere() -> nn.Module:
    return type("Ghost", (nn.Module,), {"__module__": __name__})()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (local_class, "Local is defined in a function.*file of its own"),
        (in_main, "Drawn is defined in a notebook or a script.*file of its own"),
        (nowhere, "Ghost cannot be imported as"),
        (lambda: Forgetful(3), "Forgetful has no attribute 'hidden'.*self.hidden = hidden"),
        (lambda: Raising(3), "Raising has no attribute 'size'"),
        (lambda: WithTensor(torch.ones(2)), "argument 'mean' of WithTensor is a Tensor"),
        (lambda: Net(width=torch.relu), "argument 'width' of Net is of type builtin"),
        (lambda: Net(width={"a": 1}), "argument 'width' of Net is of type dict"),
        (lambda: Variadic(1, 2), r"Variadic takes \*sizes"),
        (lambda: Two(Net(), Two(Forgetful(1), Net())), "Forgetful"),
        (lambda: nn.Sequential(nn.modules.container.OrderedDict(a=nn.Tanh())), r"named layers \['a'\]"),
    ],
)
def test_a_class_off_the_convention_is_named_with_the_fix(make, message):
    with pytest.raises(ConfigError, match=message):
        describe(make())


@pytest.mark.parametrize(
    ("init_args", "message"),
    [
        ({"hiden": [3]}, "guide: Net has no argument 'hiden': it takes 'hidden', 'scale'"),
        ({"hidden": 3}, r"guide.hidden: expected tuple\[int, ...\], got 3"),
        ({"hidden": [3, "a"]}, r"guide.hidden: expected tuple\[int, ...\], got \(3, 'a'\)"),
        ({"hidden": [3, True]}, "guide.hidden"),
        ({"scale": "1e-4"}, "guide.scale: expected float, got '1e-4'.*write 1.0e-4"),
        ({"scale": True}, "guide.scale: expected float, got True"),
        ({"scale": None}, "guide.scale: expected float, got None"),
        ({"mode": "gatd"}, r"guide.mode: expected Literal\['plain', 'gated'\], got 'gatd'"),
        ({"bias": 1}, "guide.bias: expected bool, got 1"),
        ({"width": 1.5}, "guide.width: expected int | None, got 1.5"),
        ({"inner": "x"}, "guide.inner: expected .*Module.*, got 'x'"),
        ({"inner": {"hidden": 3}}, "guide.inner: expected a mapping with a class_path"),
        ({"inner": {"class_path": "torch.nn.Tanh", "args": []}}, "guide.inner: unknown keys 'args'"),
        ({"inner": {"class_path": "torch.nn.Tanh", "init_args": [1]}}, "guide.inner: init_args must be"),
        ({"inner": tree(Net, inner=tree(Net, hidden="no"))}, r"guide.inner.inner.hidden: expected tuple"),
        ({"inner": tree(Two, first=tree(Net))}, "guide.inner: Two lacks the argument 'second'"),
        ({"scale": -1.0}, "guide: Net refuses its arguments: scale must not be negative"),
        ({"width": object()}, "guide.width: .* is of type object"),
    ],
)
def test_wrong_arguments_are_named_by_their_place(init_args, message):
    with pytest.raises(ConfigError, match=message):
        build(tree(Net, **init_args), TRUST, name="guide")


@pytest.mark.parametrize("wrong", [None, [], "ppl_vae.models.VAE", {}, {"class_path": 3}])
def test_what_is_no_tree_is_refused(wrong):
    with pytest.raises(ConfigError, match="expected a mapping with a class_path"):
        build(wrong)


def test_a_tree_that_contains_itself_is_refused():
    loop = tree(Two)
    loop["init_args"].update(first=loop, second=loop)
    with pytest.raises(ConfigError, match=r"first: .*Two contains itself"):
        build(loop, TRUST)


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "torch.load",
        "torch.hub.load",
        "torch.jit.load",
        "torch.nn.parallel.DistributedDataParallel",
        "torch.nn.functional.relu",
        "ppl_vae.runs.config.importlib",
        "ppl_vae.runs.config.importlib.import_module",
        "ppl_vae.runs.config.build",
        "ppl_vae.runs.config.ConfigError",
        "ppl_vae.runs.config.inspect.os.system",
        "ppl_vae.runs.config.nn.Linear.__init__",
        "ppl_vae.runs.config.__builtins__",
        "ppl_vae.__init__.Pair",
        "ppl_vae.__main__.x",
        "ppl_vae_other.Net",
        "ppl_vae.no_such.Net",
        "ppl_vae",
        "..x",
        "",
        "a b.c",
    ],
)
def test_nothing_but_own_modules_is_called(path, monkeypatch):
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("a config ran a command"))
    with pytest.raises(ConfigError):
        build({"class_path": path, "init_args": {}})
    with pytest.raises(ConfigError):
        build({"class_path": path, "init_args": {"command": "touch x"}}, trust=TRUST)


@pytest.mark.parametrize("name", ["not_a_class", "TRUST", "textwrap", "missing"])
def test_a_trusted_file_gives_classes_only(name):
    with pytest.raises(ConfigError, match=r"is not a class|there is no module"):
        build({"class_path": f"{__name__}.{name}"}, TRUST)


def test_trust_is_for_nn_modules_even_in_the_standard_library():
    with pytest.raises(ConfigError, match="is not a class"):
        build({"class_path": "os.system", "init_args": {"command": "touch x"}}, trust=("os",))
    with pytest.raises(ConfigError, match=r"is not a torch\.nn\.Module"):
        build({"class_path": "subprocess.Popen", "init_args": {"args": "true"}}, trust=("subprocess",))


def test_a_users_file_is_imported_only_when_trusted(tmp_path, monkeypatch):
    (tmp_path / "my_own_nets.py").write_text(
        textwrap.dedent(
            """
            from pathlib import Path
            from torch import nn
            Path(__file__).with_name("imported").touch()
            class Own(nn.Module):
                class Inner(nn.Module):
                    pass
            """
        )
    )
    (tmp_path / "my_broken_nets.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = {"class_path": "my_own_nets.Own"}
    with pytest.raises(
        ConfigError, match=r"my_own_nets.Own is not part of ppl_vae.*trust=\('my_own_nets',\)"
    ):
        build(own, trust=("my_own",))
    assert not (tmp_path / "imported").exists()
    assert type(build(own, trust="my_own_nets")).__name__ == "Own"
    inner = through_yaml(build({"class_path": "my_own_nets.Own.Inner"}, ("my_own_nets",)), ("my_own_nets",))
    assert type(inner).__qualname__ == "Own.Inner"
    with pytest.raises(
        ConfigError, match="importing my_broken_nets fails: No module named 'no_such_library'"
    ):
        build({"class_path": "my_broken_nets.Own"}, trust=("my_broken_nets",))
    with pytest.raises(ConfigError, match=r"there is no module my_absent_nets.*PYTHONPATH"):
        build({"class_path": "my_absent_nets.Own"}, trust=("my_absent_nets",))
