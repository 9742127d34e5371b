"""Figures that papers report for Aff-Wild2: a reference, never mixed with our results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .report_schema import Experiment

Pair = tuple[float, float]
"""CCC of valence and of arousal."""
PLAIN = "+none"
"""How the name of a backbone without a temporal encoder would end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A line of a paper's results."""

    method: str
    """Name of the head, without its variant."""
    visual: tuple[str, ...]
    """Backbones, each with its temporal encoder: `i3d+tcn`."""
    audio: tuple[str, ...] = ("resnet18",)
    text: tuple[str, ...] = ()
    validation: Pair | None = None
    """None: the figures are not known to us, so there is nothing to compare with."""
    test: Pair | None = None
    release: str
    """Of the labels."""
    source: str
    note: str = ""
    own_form: bool = False
    """It is of a form of the method that we do not have."""

    @property
    def backbones(self) -> dict[str, tuple[str, ...]]:
        """Modality to its backbones."""
        return {"visual": self.visual, "audio": self.audio, "text": self.text}


ABLATION = "ablation of arXiv 2203.14779"
UNKNOWN = "figures not known to us: see the paper"
PROTOCOL = "the challenge's: CCC pooled over all labelled rows of its validation or test tracks"
"""How all of them were scored, as far as the papers say."""


def _cell(method: str, *visual: str) -> Published:
    """Make a line of the ablation whose figures are in the paper alone."""
    return Published(method=method, visual=visual, release="ABAW3", source=ABLATION, note=UNKNOWN)


PUBLISHED = (
    Published(
        method="jca",
        visual=("i3d+tcn",),
        validation=(0.663, 0.584),
        test=(0.374, 0.363),
        release="ABAW3",
        source="abstract of arXiv 2203.14779v4",
    ),
    _cell("jca", "resnet18+gru"),
    _cell("jca", "r3d18"),
    _cell("jca", "i3d"),
    _cell("jca", "i3d+tcn", "r3d18"),
    _cell("concat", "i3d"),
    _cell("concat", "r3d18"),
    _cell("cross_attention", "i3d"),
    replace(
        _cell("leader_follower", "i3d"),
        note=f"Schoneveld's form, of which there is no program; ours is Zhang's; {UNKNOWN}",
        own_form=True,
    ),
    Published(
        method="leader_follower",
        visual=("iresnet50+tcn",),
        audio=("vggish+tcn", "mfcc+tcn"),
        validation=(0.469, 0.649),
        test=(0.463, 0.492),
        release="ABAW2",
        source="abstract of arXiv 2107.01175, leaderboard",
    ),
    Published(
        method="jmt",
        visual=("r2plus1d", "i3d+tcn"),
        validation=(0.717, 0.614),
        release="not stated",
        source="secondary source of arXiv 2403.10488",
        note="sources disagree on its test figures: 0.472 / 0.443 or 0.420 / 0.467",
    ),
    Published(
        method="rjcma",
        visual=("iresnet50+tcn",),
        audio=("vggish+tcn",),
        text=("bert+tcn",),
        validation=(0.455, 0.652),
        test=(0.542, 0.619),
        release="ABAW6",
        source="abstract of arXiv 2403.13659; validation from a page on it",
        note="versions of the paper also give 0.585 / 0.659 and 0.585 / 0.674, on other folds as "
        "far as can be told",
    ),
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A published line beside one of ours, and in what the two differ."""

    published: Published
    differs: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """Give it as plain values, for files."""
        line = self.published
        backbones = [name for several in line.backbones.values() for name in several]
        return {
            "validation": line.validation and list(line.validation),
            "test": line.test and list(line.test),
            "release": line.release,
            "backbones": backbones,
            "protocol": PROTOCOL,
            "source": line.source,
            "note": line.note,
            "differs": list(self.differs),
        }


def references_of(
    experiment: Experiment, edition: str, recipes: Mapping[str, Mapping[str, Any]]
) -> list[Reference]:
    """Find the published line that is nearest to an experiment; none where its method has none.

    Where that line's figures are not known, the nearest one whose figures are follows it.

    Args:
        experiment: A line of the results.
        edition: Of the data set that it was scored on.
        recipes: Stream's name to its recipe, which names its backbone.
    """
    ours = backbones_of(experiment, recipes)
    method = experiment["head"].partition(":")[0]
    lines = [line for line in PUBLISHED if line.method == method]
    lines.sort(key=lambda line: len(set(line.visual) ^ set(ours["visual"])))
    chosen = [*lines[:1], *[line for line in lines if line.validation][:1]]
    found: list[Reference] = []
    for line in dict.fromkeys(chosen):
        differs = [
            f"{modality}: {' and '.join(theirs) or 'none'}"
            for modality, theirs in line.backbones.items()
            if set(theirs) != set(ours[modality])
        ]
        differs += [f"labels: {line.release}"] if line.release not in edition else []
        differs += ["variant"] if experiment["variant"] != "paper" or line.own_form else []
        found.append(Reference(line, tuple(differs)))
    return found


def backbones_of(
    experiment: Experiment, recipes: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Name an experiment's backbones with their temporal encoders, modality by modality."""
    names = _names(experiment)
    encoders = experiment["encoder"].split(", ")
    encoders = encoders if len(encoders) == len(names) else encoders[:1] * len(names)
    found: dict[str, list[str]] = {"visual": [], "audio": [], "text": []}
    for name, encoder in zip(names, encoders, strict=True):
        modality, _, own = name.partition("/")
        backbone = str(recipes.get(name, {}).get("backbone") or own)
        found.setdefault(modality, []).append(f"{backbone}+{encoder}".removesuffix(PLAIN))
    return found


def _names(experiment: Experiment) -> list[str]:
    return [stream.partition("@")[0] for stream in experiment["streams"]]
