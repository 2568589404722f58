"""A penalty from a discriminator that is learned beside the pair, with an optimizer of its own."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ppl_vae.kl.treatment import Penalty


class LearnedPenalty(Penalty):
    """A penalty made of what a net says that takes one step of Adam after each of the pair's.

    `forward` asks the net by `judged`, and hands to `remember` what the net is to learn from. The net's
    weights and its optimizer's state are saved with the training.

    Args:
        net: from the draws or data to logits.
        like: a tensor of the type that the net is given, on its device.
        learning_rate: the optimizer's.
    """

    def __init__(self, net: nn.Module, like: Tensor, learning_rate: float) -> None:
        super().__init__()
        self.discriminator = net.to(device=like.device, dtype=like.dtype)
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=learning_rate,
            betas=(0.5, 0.9),  # as arXiv:1802.05983 and most adversaries have them
            fused=like.device.type in ("cpu", "cuda"),
        )
        self._seen: tuple[Tensor, ...] | None = None

    @abstractmethod
    def loss(self, *seen: Tensor) -> Tensor:
        """Scalar: what the net is to make small, of what was remembered."""

    def judged(self, x: Tensor) -> Any:
        """What the net says of x, cut from its weights: the pair's loss must not train the net."""
        self.discriminator.eval()  # what it does while it learns, such as a power iteration, is its own
        fixed = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        return functional_call(self.discriminator, fixed, (x,))

    def remember(self, *seen: Tensor) -> None:
        """What the next step learns from."""
        self._seen = tuple(each.detach() for each in seen)

    @torch.enable_grad()
    def learn(self, all_reduce: Any = None) -> None:
        seen, self._seen = self._seen, None
        if seen is None:
            return
        self.discriminator.train()
        loss = self.loss(*seen)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if all_reduce is not None:
            for parameter in self.discriminator.parameters():
                parameter.grad = all_reduce(parameter.grad)
        self.optimizer.step()

    def get_extra_state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
