"""A pretended GPU: what it lets meet and what not; and the note that a pair gets which would fail on one."""

from __future__ import annotations

import operator

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import guides, models, nets
from ppl_vae.testing import check_pair
from ppl_vae.testing.pretended_cuda import OtherDevice, PretendedCuda

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a real GPU says it better")

MEET = {
    "sum": operator.add,
    "product": torch.matmul,
    "stack": lambda there, here: torch.stack([there, here]),
    "no scalar is stacked": lambda there, here: torch.stack([there[0], here[0]]),
    "where": lambda there, here: torch.where(here > 0, there, there),
    "in place": lambda there, here: there.mul_(here),
    "into the CPU's": lambda there, here: here.add_(there),
    "a scalar of the GPU": lambda there, here: here + there.sum(),
    "indexed by the GPU's": lambda there, here: here[there.long() * 0],
    "set at indices": lambda there, here: there.__setitem__(torch.tensor([0, 1]), here[:2]),
    "a net": lambda there, here: nn.Linear(3, 2)(there),
    "views": lambda there, here: there.view(3, 1)[1:].T.squeeze() + here[1:],
    "a parameter": lambda there, here: nn.Parameter(there) * here,
    "under vmap": lambda there, here: torch.func.vmap(operator.add)(there, here),
}
BESIDE = {
    "a scalar of the CPU": lambda there, here: there * here.sum(),
    "indexed by the CPU's": lambda there, here: there[torch.tensor([0, 2])],
    "set by a slice": lambda there, here: there.__setitem__(slice(0, 3), here),
    "copied": lambda there, here: there.copy_(here),
    "brought there": lambda there, here: there + here.to(there),
    "made there": lambda there, here: there + torch.arange(3, device=there.device),
    "made alike": lambda there, here: there + torch.ones_like(there) + there.new_zeros(3),
    "a net that was brought": lambda there, here: nn.Linear(3, 2).to("cuda")(there),
    "brought back": lambda there, here: there.cpu() + here,
}


@pytest.mark.parametrize("function", MEET.values(), ids=MEET)
def test_tensors_of_two_devices_do_not_meet(function):
    with PretendedCuda(), pytest.raises(OtherDevice, match="same device"):
        function(torch.randn(3, device="cuda"), torch.randn(3))


@pytest.mark.parametrize("function", BESIDE.values(), ids=BESIDE)
def test_what_may_stand_beside(function):
    with PretendedCuda():
        function(torch.randn(3, device="cuda"), torch.randn(3))


def test_tensors_say_where_they_are():
    with PretendedCuda() as gpu:
        x = torch.randn(3, device="cuda", requires_grad=True)
        (x.double() ** 2).sum().backward()
        for there in (x, x.grad, x.detach(), x[:2], x.to(torch.float16), torch.zeros(2, device=x.device)):
            assert there.device == torch.device("cuda:0")
            assert there.is_cuda
            assert gpu.holds(there)
        home, copied = torch.ones(3), x.cpu()
        assert {home.device.type, copied.device.type, home.to(torch.float64).device.type} == {"cpu"}
        assert home.to("cuda").data_ptr() != home.data_ptr()
        assert home.to(home.dtype, non_blocking=True).data_ptr() == home.data_ptr()
        for copied in (x.to(x.dtype, copy=True), x.to(x.dtype, False, True), x.to(x.device, copy=True)):
            assert copied.is_cuda
            assert copied.data_ptr() != x.data_ptr()
        with pytest.raises(TypeError, match=r"Tensor.cpu\(\)"):
            x.detach().numpy()
    assert x.device.type == "cpu"  # as it is, once nothing is pretended any more


class Model(nn.Module):
    """A VAE's model with one tensor that is left behind."""

    def __init__(self, way: str):
        super().__init__()
        self.way, self.decoder, self.loc = way, nets.MLPDecoder(2, (4,), (5,)), torch.zeros(2)
        self.register_buffer("brought", torch.zeros(2), persistent=False)

    def forward(self, x):
        zero = {"constant": self.loc, "made": torch.zeros(2), "buffer": self.brought}.get(
            self.way, x.new_zeros(2)
        )
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(zero, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)


@without_gpu
@pytest.mark.parametrize("way", ["constant", "made", "buffer", "new"])
def test_a_pair_that_would_fail_on_a_gpu_is_told_so(way):
    pair = pv.Pair(Model(way), guides.MeanField(nets.MLPEncoder((4,), 2, (5,))))
    notes = check_pair(pair, torch.randn(6, 4)).notes
    if way in ("constant", "made"):
        (note,) = notes
        assert note.startswith("on a GPU the programs fail at site 'z' of the model: Expected all tensors")
        assert "device=x.device" in note
        assert "register_buffer" in note
    else:
        assert notes == ()
    assert pair.device.type == "cpu"


def test_numbers_there_are_the_cpus():
    def train(device: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        pair = pv.Pair(models.LinearGaussian(1, 2), guides.MeanField(nets.MLPEncoder((2,), 1, hidden=(4,))))
        x = torch.randn(8, 2, generator=torch.Generator().manual_seed(1))
        pv.fit(pair, pv.estimators.IWAE(3), x, epochs=2, batch_size=4, device=device, progress=False)
        return [parameter.detach().cpu() for parameter in pair.parameters()]

    with PretendedCuda():
        there = train("cuda")
    assert all(map(torch.equal, there, train("cpu")))


@without_gpu
def test_the_line_is_named_where_it_is_the_users():
    class Shifted(Model):
        def forward(self, x):
            super().forward(x - torch.ones(4))

    pair = pv.Pair(Shifted("new"), guides.MeanField(nets.MLPEncoder((4,), 2, (5,))))
    (note,) = [note for note in check_pair(pair, torch.randn(6, 4)).notes if "GPU" in note]
    assert "test_pretended_cuda.py, line " in note
    assert "super().forward(x - torch.ones(4)): Expected all tensors" in note
