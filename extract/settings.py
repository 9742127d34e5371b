"""What a user may set of a stream; light to import, since the workflow reads it while parsing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ..cache import ConfigError

LABELS = "labels/va"
TENSOR_FILES = (".pt", ".pth", ".safetensors")
"""Suffixes of weights that are files of the user's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSettings:
    """Which frames a row's clip is made of (backbones that take clips)."""

    SHORT: ClassVar = {"dense": {"dense": 1}}
    """Words that stand for settings."""

    length: int = 0
    """Frames; 0: as many as the backbone was made for (16)."""
    spacing: int = 1
    """Frames from one to the next."""
    anchor: Literal["centre", "end", "start"] = "centre"
    """Where in the clip the row's own frame is; `end` looks back only."""
    edge: Literal["replicate", "reflect", "zero", "black"] = "replicate"
    """What stands for frames beyond the ends; with `black` also for missing faces."""
    dense: Literal[0, 1, 2, 4, 8] = 0
    """Passes of the network over the whole track (i3d, r3d18) in place of windows; each gives a
    vector per 8 rows, so that 8 give every row, and rows between are interpolated. 0: windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualSettings:
    """A stream of one vector per picture or clip, `visual/…`."""

    backbone: str = ""
    """i3d, r3d18, resnet18, an entry point's name, or `module:Class`; where empty, the name in the
    stream's own: `visual/i3d` or `visual/i3d-left`."""
    weights: str = ""
    """A name that torchvision knows, a file (.safetensors, .pt, .pth), `seeded[:N]`, or `inflate:…`
    (i3d); where empty, torchvision's IMAGENET1K_V1 for resnet18 and KINETICS400_V1 for r3d18."""
    variant: Literal["tf_exact", "video_features"] = "tf_exact"
    """Padding and eps of i3d: as in TensorFlow, or as published video_features numbers have it."""
    reads: Literal["video", "faces", "boxes"] = "video"
    """`video`: the person's part of each decoded frame; `faces`: numbered crops; `boxes`: the part
    of each frame that the track's box file gives."""
    reader: Literal["pyav", "decord"] = "pyav"
    """`decord` reads files that pass its gate, PyAV the others; the frames are the same."""
    resize: int = 0
    """Shorter side in pixels after resizing; 0: as the weights expect."""
    crop: int = 0
    """Side of the centre crop in pixels; 0: as the weights expect."""
    window: WindowSettings = field(default_factory=WindowSettings)
    stride: int = 1
    """Rows from one that is computed to the next; those between are interpolated, and flagged."""
    fill: Literal["linear", "nearest"] = "linear"
    """How rows between computed ones are filled, in time."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 is faster where the hardware has it; features then differ by up to 1 %."""
    dtype: Literal["float16", "float32"] = "float16"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSettings:
    """A stream of one vector per row from the sound around it, `audio/…`."""

    backbone: str = ""
    """resnet18, an entry point's name, or `module:Class`; where empty, the name in the stream's
    own."""
    weights: str = "seeded"
    """As for visual streams."""
    stem: Literal["load", "sum", "mean"] = "load"
    """How a first convolution for three channels takes one: its kernels' `sum` equals three equal
    channels, `mean` is for fine-tuning; `load` takes weights of one channel as they are."""
    spectrogram: Literal["livia", "tsav", "vggish"] = "livia"
    """Which segment of sound a row has, and how it becomes a picture."""
    stride: int = 1
    """As for visual streams."""
    fill: Literal["linear", "nearest"] = "linear"
    """As for visual streams."""
    dtype: Literal["float16", "float32"] = "float16"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """A stream of one vector per row from the word spoken at its time, `text/…`."""

    backbone: Literal["", "bert"] = ""
    """bert: any encoder of its kind; where empty, the name in the stream's own."""
    weights: str = ""
    """A folder with the encoder and its tokenizer as transformers saves them, in safetensors; a
    hub's name such as bert-base-uncased; or `seeded[:N]`, a small one that spells every word."""
    layers: int = 4
    """Last hidden layers whose sum is a piece's vector; a word's is the mean of its pieces'."""
    max_tokens: int = 256
    """Most tokens that are read together, the two that mark their ends included."""
    chunk: Literal["sentence", "longest"] = "sentence"
    """What is read together: each sentence alone, or as many as fit."""
    pause: float = 0.7
    """Seconds of silence that end a sentence, as . ! ? do."""
    dtype: Literal["float16", "float32"] = "float16"


StreamSettings = VisualSettings | AudioSettings | TextSettings

KINDS: dict[str, type[VisualSettings] | type[AudioSettings] | type[TextSettings]] = {
    "visual": VisualSettings,
    "audio": AudioSettings,
    "text": TextSettings,
}
"""First half of a stream's name to its settings."""


BACKBONES = ("i3d", "r3d18", "resnet18")
"""Names of the built-in backbones."""
WEIGHTS = {"r3d18": "KINETICS400_V1", "resnet18": "IMAGENET1K_V1"}
"""Backbone of pictures or clips to the weights that it has where none are named."""


DENSE = ("i3d", "r3d18")
"""Built-in backbones that run over whole tracks."""


def check_dense(where: str, backbone: str, settings: VisualSettings) -> None:
    """Check that nothing stands beside `window.dense` that has no meaning there.

    Args:
        where: Where the settings stand, for messages.
        backbone: The stream's backbone.
        settings: The stream's settings.

    Raises:
        ConfigError: Something does, or the backbone does not run over whole tracks.
    """
    window = settings.window
    if not window.dense:
        return
    if backbone in BACKBONES and backbone not in DENSE:
        raise ConfigError(
            f"{where}.window.dense: backbone {backbone!r} does not run over whole tracks; expected "
            f"one of {', '.join(DENSE)}, or leave dense out"
        )
    for key, found, only in (
        ("window.length", window.length, 0),
        ("window.spacing", window.spacing, 1),
        ("window.anchor", window.anchor, "centre"),
        ("stride", settings.stride, 1),
    ):
        if found != only:
            raise ConfigError(
                f"{where}.{key}: expected nothing beside window.dense, which has no windows and "
                f"chooses its rows itself, found {found!r}; leave one of them out"
            )


def backbone_of(stream: str, settings: StreamSettings) -> str:
    """Name a stream's backbone: `visual/i3d-left` has i3d, unless its settings say another."""
    return settings.backbone or stream.partition("/")[2].split("-")[0].split(".")[0]
