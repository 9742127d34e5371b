"""A finished run on disk: weights, predictions, curve and all that determined them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ..cache import ConfigError
from ..cache.atomic import fsync_tree, publish_folder, room_for, temporary_sibling, write_json
from .run import Run, plain
from .scaling import Scaling
from .settings import ExperimentSettings, TrainingSettings, WindowSettings

if TYPE_CHECKING:
    from torch import Tensor

BEST, LAST = "head.safetensors", "last.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """A run read back from its folder."""

    path: Path
    record: dict[str, Any]
    """Seed, scores, curve: `run.json`."""
    predictions: Tensor
    """(n, 2) of the validation rows, NaN in rows without a value."""

    @classmethod
    def read(cls, path: Path) -> Finished:
        """Read a run's folder.

        Raises:
            ConfigError: It is none.
        """
        try:
            record = json.loads((path / "run.json").read_bytes())
            predictions = load_file(path / "predictions.safetensors")["predictions"]
        except OSError as error:
            raise ConfigError(
                f"{path}: expected the folder of a finished run, found none ({error.strerror}); "
                "`concord fuse train` keeps them under `runs` in the results folder"
            ) from error
        return cls(path, record, predictions)

    def identity(self) -> dict[str, Any]:
        """Everything that determined the run: settings, seed, streams, items."""
        return identity_of(self.path)

    def experiment(self) -> ExperimentSettings:
        """The settings that it was trained with."""
        return experiment_of(self.identity()["experiment"])

    def weights(self, which: str = BEST) -> tuple[dict[str, Tensor], Scaling]:
        """Read the head's state dict and the scaling of its features."""
        tensors = load_file(self.path / which)
        start = "scaling/"
        scaling = {n.removeprefix(start): x for n, x in tensors.items() if n.startswith(start)}
        state = {n: x for n, x in tensors.items() if not n.startswith(start)}
        return state, Scaling.from_tensors(scaling)


def identity_of(path: Path) -> dict[str, Any]:
    """Read everything that determined a run: settings, seed, streams, items.

    Raises:
        ConfigError: The folder holds no run, or a damaged one.
    """
    try:
        with safe_open(path / BEST, "pt") as file:
            return json.loads(file.metadata()["configuration"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{path / BEST}: expected the weights of a finished run, found none that can be read "
            f"({error}); delete the folder and train again"
        ) from error


def experiment_of(values: Mapping[str, Any]) -> ExperimentSettings:
    """Make settings of what `asdict` and JSON made of them."""
    made = _tuples(values)
    made["training"] = TrainingSettings(**_tuples(values["training"]))
    made["window"] = WindowSettings(**values["window"])
    return ExperimentSettings(**made)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(x) if isinstance(x, list) else x for name, x in values.items()}


def publish(path: Path, run: Run, scaling: Scaling, identity: Mapping[str, Any]) -> None:
    """Write a run's folder, as a whole or not at all.

    Raises:
        StoreError: The disk is full; nothing is left behind that a reader would see.
    """
    assert run.predictions is not None
    temporary = temporary_sibling(path)
    configuration = {"configuration": json.dumps(identity, sort_keys=True)}
    scales = {f"scaling/{name}": x for name, x in scaling.tensors().items()}
    with room_for("a finished run", path):
        temporary.mkdir(parents=True)
        save_file({**run.best, **scales}, temporary / BEST, configuration)
        save_file({**run.last, **scales}, temporary / LAST, configuration)
        save_file({"predictions": run.predictions}, temporary / "predictions.safetensors")
        curve = [plain(asdict(epoch)) for epoch in run.curve]
        lines = "".join(json.dumps(epoch) + "\n" for epoch in curve)
        (temporary / "metrics.jsonl").write_text(lines, encoding="utf-8")
        if run.experiment.training.tensorboard:
            _write_events(temporary, curve)
        write_json(temporary / "run.json", _record(path.name, run, curve))
        fsync_tree(temporary)
    publish_folder(temporary, path)


def _record(digest: str, run: Run, curve: list[dict[str, Any]]) -> dict[str, Any]:
    best = curve[run.best_epoch - 1]
    return {
        "seed": run.seed,
        "digest": digest,
        "parameters": run.parameters,
        "together": list(run.together),
        "epochs": len(curve),
        "best_epoch": run.best_epoch,
        **{name: best[name] for name in ("valence", "arousal", "score")},
        "curve": {name: [epoch[name] for epoch in curve] for name in curve[0]},
    }


def check_tensorboard() -> None:
    """Check that events can be written.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise ConfigError(
            "training.tensorboard: TensorBoard is not installed; "
            "run pip install 'concord[tensorboard]', or leave it out"
        )


def _write_events(folder: Path, curve: list[dict[str, Any]]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for epoch in curve:
            for name, value in epoch.items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, epoch["epoch"])
