"""All that training holds from one step to the next, and its form as tensors and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .ensemble import Ensemble
from .optimisers import Optimiser

if TYPE_CHECKING:
    from .run import Run


class State:
    """Runs in training and where they are."""

    def __init__(self, runs: Sequence[Run], heads: Sequence[nn.Module]) -> None:
        self.numbers = list(range(len(runs)))
        """Places of the runs in the list that training began with."""
        self.runs = list(runs)
        self.ensemble = Ensemble(heads)
        self.optimiser = Optimiser(runs[0].experiment.training.optimiser)
        self.step = 0
        """Steps taken, over all epochs."""
        self.losses = torch.zeros(len(runs), dtype=torch.float64)
        """(M,) sum over the steps of this epoch."""
        for run in runs:
            run.parameters = self.ensemble.parameters

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some members only."""
        if len(members) == len(self.runs):
            return
        self.runs = [self.runs[i] for i in members]
        self.numbers = [self.numbers[i] for i in members]
        index = torch.tensor(members, dtype=torch.int64, device=self.ensemble.weights.device)
        self.ensemble.keep(index)
        self.optimiser.keep(index)
        self.losses = self.losses[index.cpu()]

    def tensors(self) -> dict[str, Tensor]:
        """Give every tensor by name."""
        found = {"weights": self.ensemble.weights, "losses": self.losses}
        found |= {f"buffer/{name}": x for name, x in self.ensemble.buffers.items()}
        found |= {f"moment/{i}": x for i, x in enumerate(self.optimiser.moments)}
        for number, run in zip(self.numbers, self.runs, strict=True):
            found |= {f"best/{number}/{name}": x for name, x in run.best.items()}
            if run.predictions is not None:
                found[f"predictions/{number}"] = run.predictions
        return {name: x.detach().cpu().contiguous() for name, x in found.items()}

    def record(self) -> dict[str, Any]:
        """Give what is no tensor."""
        return {
            "step": self.step,
            "optimiser_steps": self.optimiser.steps,
            "numbers": self.numbers,
            "runs": [run.record() for run in self.runs],
        }

    def restore(self, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go back to where `tensors` and `record` were taken; runs that had ended are left out."""
        self.keep(record["numbers"])
        like = self.ensemble.weights.detach()
        buffers = {name: tensors[f"buffer/{name}"] for name in self.ensemble.buffers}
        buffers = {name: x.to(like.device) for name, x in buffers.items()}
        self.ensemble.load(tensors["weights"].to(like), buffers)
        names = sorted(name for name in tensors if name.startswith("moment/"))
        self.optimiser.moments = [tensors[name].to(like) for name in names]
        self.optimiser.steps, self.step = record["optimiser_steps"], record["step"]
        self.losses = tensors["losses"]
        for number, run, told in zip(self.numbers, self.runs, record["runs"], strict=True):
            run.restore(told)
            start = f"best/{number}/"
            run.best = {n.removeprefix(start): x for n, x in tensors.items() if n.startswith(start)}
            run.predictions = tensors.get(f"predictions/{number}")
