"""Heads of one structure trained at once: their weights lie side by side, (members, weights)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..cache import ConfigError

AGREES = 1e-3
"""How far a vectorised head may be from the same head alone, on rows of about 1 in float32."""


class Ensemble:
    """M heads of one structure as one function of M batches.

    All weights are one tensor (M, P), so that optimiser, clipping and checkpoints are a few
    operations on it. One member alone is called as it is; several are vectorised by torch.func.
    """

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        """Take over heads that differ in their weights alone."""
        self.head = heads[0]
        self.shapes = {name: x.shape for name, x in self.head.named_parameters()}
        names = dict(self.head.named_buffers())
        buffers = {n: torch.stack([dict(head.named_buffers())[n] for head in heads]) for n in names}
        self.load(torch.stack([_flat(head) for head in heads]), buffers)

    def load(self, weights: Tensor, buffers: Mapping[str, Tensor]) -> None:
        """Take over weights (M, P) and buffers (M, …)."""
        self.weights = weights.detach().requires_grad_()
        self._buffers = dict(buffers)
        if len(self) == 1:
            # The head's own tensors become views of these.
            state = self._state()
            for name, x in (*self.head.named_parameters(), *self.head.named_buffers()):
                x.data = state[name][0].detach()

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Buffers by name, (M, …) each."""
        if len(self) == 1:
            return {name: x[None] for name, x in self.head.named_buffers()}
        return self._buffers

    @property
    def parameters(self) -> int:
        """Weights of one member."""
        return self.weights.shape[1]

    def __call__(
        self,
        features: Mapping[str, Tensor],
        valid: Mapping[str, Tensor],
        rows: Tensor,
        *,
        shared: bool = False,
    ) -> Tensor:
        """Apply every member.

        Args:
            features: Stream to (M, B, T, d); (B, T, d) if shared.
            valid: Stream to (M, B, T) or (B, T).
            rows: (M, B, T) or (B, T).
            shared: All members take the same windows.

        Returns:
            (M, B, T, 2).
        """
        given = dict(features), dict(valid), rows
        if len(self) == 1:
            return self.head(*(given if shared else _of_member(given, 0)))[None]
        shape = None if shared else 0
        call = vmap(self._call, in_dims=(0, shape, shape, shape), randomness="different")
        return call(self._state(), *given)

    def _call(
        self,
        state: dict[str, Tensor],
        features: dict[str, Tensor],
        valid: dict[str, Tensor],
        rows: Tensor,
    ) -> Tensor:
        """Apply one member, as torch.func sees it."""
        return functional_call(self.head, state, (features, valid, rows))

    def gradient(self, losses: Tensor) -> Tensor:
        """Give the gradient (M, P) of the members' losses (M,); 0 for weights without a part."""
        if len(self) > 1:
            return torch.autograd.grad(losses.sum(), [self.weights])[0]
        own = list(self.head.parameters())
        found = torch.autograd.grad(losses.sum(), own, allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in found])[None]

    def _state(self) -> dict[str, Tensor]:
        """Weights and buffers by name, (M, …) each, as views."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = self.weights.split(sizes, dim=1)
        views = zip(self.shapes.items(), parts, strict=True)
        return {
            **{name: part.view(len(self), *shape) for (name, shape), part in views},
            **self._buffers,
        }

    def train(self, mode: bool) -> None:
        """Put all members into training or evaluation mode."""
        self.head.train(mode)

    def member(self, number: int) -> dict[str, Tensor]:
        """Copy one member's weights and buffers, by the names of `named_parameters` and buffers."""
        state = {**self._state(), **self.buffers}
        return {name: x[number].detach().cpu().clone() for name, x in state.items()}

    def keep(self, members: Tensor) -> None:
        """Go on with some members only."""
        if len(members):
            kept = {name: x[members] for name, x in self.buffers.items()}
            self.load(self.weights.detach()[members], kept)


def cannot(heads: Sequence[nn.Module], dims: Mapping[str, int], length: int) -> str:
    """Say why heads cannot be trained at once; empty if they can.

    They are tried: two vectorised members must agree with each on its own.
    """
    pair = [heads[0], heads[-1]]
    ensemble = Ensemble(pair)
    device = ensemble.weights.device
    generator = torch.Generator().manual_seed(0)
    features = {s: torch.randn(2, 2, length, d, generator=generator) for s, d in dims.items()}
    features = {s: x.to(ensemble.weights) for s, x in features.items()}
    rows = torch.ones(2, 2, length, dtype=torch.bool, device=device)
    given: Any = (features, dict.fromkeys(dims, rows), rows)
    try:
        # A part that torch.func takes member by member is announced by a warning.
        with warnings.catch_warnings(action="error", category=UserWarning):
            ensemble.train(True)
            ensemble(*given).sum().backward()
        ensemble.train(False)
        with torch.no_grad():
            found = ensemble(*given)
            alone = [head.eval()(*_of_member(given, i)) for i, head in enumerate(pair)]
    except Exception as error:  # noqa: BLE001 - a head of a user's may fail in any way here
        return str(error).strip().partition("\n")[0][:120]
    away = float((found - torch.stack(alone)).abs().max())
    return "" if away < AGREES else f"vectorised, its output is {away:.1g} away from its own"


def load_member(head: nn.Module, state: Mapping[str, Tensor], where: str) -> nn.Module:
    """Give a head the weights and buffers that `Ensemble.member` copied.

    Args:
        head: Built with the same settings.
        state: By the head's own names; a tensor that a state dict lists twice is there once.
        where: What the tensors were read from, for the error.

    Raises:
        ConfigError: Others than the head has.
    """
    own = {**dict(head.named_parameters()), **dict(head.named_buffers())}
    shapes = {name: tuple(x.shape) for name, x in own.items()}
    found = {name: tuple(x.shape) for name, x in state.items()}
    if shapes != found:
        first = min(name for name, _ in shapes.items() ^ found.items())
        raise ConfigError(
            f"{where}: its weights do not fit this version's head: {first}: expected "
            f"{shapes.get(first, 'none')}, found {found.get(first, 'none')}; train it again"
        )
    with torch.no_grad():
        for name, x in own.items():
            x.copy_(state[name])
    return head


def _flat(head: nn.Module) -> Tensor:
    return torch.cat([x.detach().reshape(-1) for _, x in head.named_parameters()])


def _of_member(given: Any, number: int) -> Any:
    if isinstance(given, Tensor):
        return given[number]
    if isinstance(given, dict):
        return {name: x[number] for name, x in given.items()}
    return tuple(_of_member(each, number) for each in given)
