"""Dense streams against whole passes of the plain networks over the same frames."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace

import jsonschema
import numpy as np
import pytest
import torch
from concord.cache import ConfigError, FeatureStore
from concord.extract.affwild2 import scan
from concord.extract.backbones import build_backbone
from concord.extract.compute import Workers
from concord.extract.decoder import FrameChunk
from concord.extract.dense import Passes, Support
from concord.extract.dense_stream import DenseStream
from concord.extract.engine import extract
from concord.extract.presets import Preset
from concord.extract.settings import VisualSettings, WindowSettings
from concord.extract.visual import VisualRecipe, VisualStream
from concord.pipelines.config import parse_config
from concord.pipelines.schema import json_schema
from hypothesis import example, given, settings
from hypothesis import strategies as st

from .narrow import SIDE, NarrowI3D, NarrowR3D18

NARROW = {"i3d": NarrowI3D, "r3d18": NarrowR3D18}
CPU = torch.device("cpu")


class Pooled(torch.nn.Module):
    """A backbone of one's own: averages of 2 frames, of which the second is told apart."""

    dim, clip, takes, version = 3, 4, "clips", 1
    preset = Preset(16, True, 16, (0, 0, 0), (1, 1, 1))
    support = Support(step=2, before=0, after=1, centre=0)

    def __init__(self, weights: str) -> None:  # noqa: ARG002 - as all backbones
        super().__init__()
        self.layer = torch.nn.Conv3d(3, 3, (2, 1, 1), (2, 1, 1), groups=3, bias=False)
        self.layer.weight.data = torch.tensor([1.0, 3.0]).view(1, 1, 2, 1, 1).repeat(3, 1, 1, 1, 1)

    def sections(self):
        return [(2, self.layer)]

    def forward(self, x):
        return self.layer(x).mean((2, 3, 4))

    def cells(self, x):
        return self.layer(x).mean((3, 4)).transpose(1, 2)


@pytest.fixture(scope="module", params=list(NARROW))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def networks():
    return {name: narrow().requires_grad_(requires_grad=False) for name, narrow in NARROW.items()}


def narrow(name):
    return f"{NARROW[name].__module__}:{NARROW[name].__name__}"


def made(name, count=8, cells=32, **changes):
    """A stream of a narrow network, cut into chunks of so many cells."""
    window = WindowSettings(dense=count, edge=changes.pop("edge", "replicate"))
    own = {"backbone": narrow(name), "weights": "seeded", "dtype": "float32", "window": window}
    stream = DenseStream(f"visual/{name}", VisualSettings(**{**own, **changes}), CPU)
    stream.passes = replace(stream.passes, chunk_cells=cells)
    return stream


def frames_of(count, side=SIDE):
    """Pictures that change a little from one to the next."""
    steps = np.random.default_rng(0).normal(0, 12, (count, side, side, 3)).cumsum(0) + 128
    return np.abs(steps % 510 - 255).astype(np.uint8)


def item(stream, images, rows=None, size=64, numbers=None, boxes=None):
    numbers = np.arange(len(images)) if numbers is None else np.asarray(numbers)
    rows = rows or int(numbers[-1]) + 1
    building = stream.begin("key", "track", rows, boxes=boxes)
    building.begin(np.arange(rows) / 10)
    for first in range(0, len(images), size):
        cut = slice(first, first + size)
        building.add(FrameChunk(numbers[cut], images[cut]))
    building.end()
    stream.flush()
    assert building.done
    return building.item()


def clip_of(network, images):
    pictures = torch.from_numpy(images).permute(3, 0, 1, 2)[None]
    return network.preset.normalise(pictures)


def relative(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def extended(x, edge, before, after):
    """The rule of edges, frame by frame: (1, 3, T, H, W) normalised, black being normalised 0."""
    count, blank = x.shape[2], torch.zeros_like(x[:, :, 0])
    found = []
    for place in range(-before, count + after):
        if 0 <= place < count:
            found.append(x[:, :, place])
        elif edge == "replicate":
            found.append(x[:, :, 0 if place < 0 else count - 1])
        elif edge == "reflect":
            at = place
            while not 0 <= at < count:
                at = 0 if count == 1 else -at if at < 0 else 2 * (count - 1) - at
            found.append(x[:, :, at])
        else:
            found.append(blank)
    return torch.stack(found, 2)


@torch.inference_mode()
def whole(network, images, count, edge="replicate"):
    """One call over a whole track: every cell, from row 0 on, every 8 / `count` rows."""
    x, centre, spacing = clip_of(network, images), network.support.centre, 8 // count
    cells = 1
    while 8 * cells + 8 - spacing < len(images) + centre or 8 * cells < len(images):
        cells += 1
    length = 8 * cells + 8 - spacing
    x = extended(x, edge, centre, length - centre - len(images))
    features = network.cells(x) if count == 1 else Passes(network.support, count, 32)(network, x)
    return features[0, : -(-len(images) // spacing)].numpy()


@pytest.mark.parametrize(("variant", "side"), [("tf_exact", 32), ("video_features", 32), (None, 8)])
def test_what_a_cell_sees_and_where_its_energy_is(variant, side):
    """By gradients of random mixtures of a cell's features, as the constants claim."""
    centres = []
    for seed in range(3):
        options = {"variant": variant} if variant else {}
        network = build_backbone("i3d" if variant else "r3d18", f"seeded:{seed}", **options)
        support, cell = network.support, 7
        random = torch.Generator().manual_seed(seed)
        x = torch.randn(1, 3, 14 * support.step, side, side, generator=random).requires_grad_()
        features = network.cells(x)[0, cell]
        energy = torch.zeros(x.shape[2])
        for _ in range(2):
            mixture = (features * torch.randn(features.shape, generator=random)).sum()
            (gradient,) = torch.autograd.grad(mixture, x, retain_graph=True)
            energy += gradient.square().sum((0, 1, 3, 4))
        seen = energy.nonzero().flatten() - support.step * cell
        assert (int(seen[0]), int(seen[-1])) == (-support.before, support.after)
        frames = torch.arange(len(energy)) - support.step * cell
        centres.append(float((energy * frames).sum() / energy.sum()))
    assert abs(np.mean(centres) - support.centre) < 0.6


@torch.inference_mode()
def test_one_pass_is_the_network_itself(networks, name):
    network = networks[name]
    x = clip_of(network, frames_of(40))
    assert torch.equal(Passes(network.support, 1, 32)(network, x), network.cells(x))


@pytest.mark.parametrize("count", [2, 4, 8])
@torch.inference_mode()
def test_passes_that_share_layers_equal_those_begun_later(networks, name, count):
    network, spacing = networks[name], 8 // count
    x = clip_of(network, frames_of(8 * 20 + 8 - spacing))
    found = Passes(network.support, count, 32)(network, x)[0].view(20, count, -1)
    inside = slice(7, -7)
    for number in range(count):
        later = x[:, :, spacing * number :][:, :, : 8 * 20]
        expected = network.cells(later)[0]
        assert relative(found[inside, number].numpy(), expected[inside].numpy()) < 1e-5


@torch.inference_mode()
def test_rows_inside_equal_windows_as_long_as_what_a_cell_sees(name):
    """The same cell of a clip around the row; a shorter clip, or a row beside it, does not do."""
    network = build_backbone(name, "seeded:5")
    images = frames_of(144, 16)
    whole = {"backbone": name, "weights": "seeded:5", "resize": 16, "crop": 16}
    found = item(made(name, 4, 6, **whole), images)
    support = network.support
    ahead, behind = -(-support.before // 8), -(-(support.after + 1) // 8)

    def window(row, ahead):
        first = row - support.centre - 8 * ahead
        clip = clip_of(network, images[first : row - support.centre + 8 * behind])
        return network.cells(clip)[0, ahead].numpy()

    for row in (64, 78):
        expected = window(row, ahead)
        assert relative(found.rows[row], expected) < 1e-4
        assert relative(found.rows[row], window(row, 1)) > 1e-3
        assert relative(found.rows[row + 2], expected) > 1e-3


@given(
    name=st.sampled_from(list(NARROW)),
    length=st.integers(1, 230),
    cells=st.integers(1, 12),
    count=st.sampled_from([1, 2, 4, 8]),
    size=st.integers(1, 100),
    edge=st.sampled_from(["replicate", "reflect", "zero"]),
)
@example(name="i3d", length=150, cells=2, count=1, size=40, edge="replicate")
@example(name="i3d", length=8, cells=1, count=1, size=9, edge="zero")
@example(name="r3d18", length=131, cells=2, count=8, size=7, edge="reflect")
@settings(max_examples=16, deadline=None)
def test_chunks_give_the_numbers_of_one_pass(networks, name, length, cells, count, size, edge):
    images = frames_of(length)
    found = item(made(name, count, cells, edge=edge), images, size=size)
    expected = whole(networks[name], images, count, edge)
    computed = found.rows[:: 8 // count]
    assert relative(computed, expected) < 1e-5
    # Not one cell is off: edges of chunks would show in a few rows only.
    rows = np.linalg.norm(computed - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert rows.max() < 1e-4


def test_rows_between_are_interpolated_and_flagged(networks):
    images = frames_of(45)
    cells = whole(networks["r3d18"], images, 2)
    linear, nearest = (item(made("r3d18", 2, fill=fill), images) for fill in ("linear", "nearest"))
    for found in (linear, nearest):
        assert found.valid.all()
        assert found.flags.tolist() == [0 if row % 4 == 0 else 2 for row in range(45)]
    assert relative(linear.rows[9], 0.75 * cells[2] + 0.25 * cells[3]) < 1e-5
    assert np.array_equal(nearest.rows[9], nearest.rows[8])
    tail = item(made("r3d18", 2), images[:43])
    assert np.array_equal(tail.rows[41:], tail.rows[[40, 40]])


@pytest.mark.parametrize("edge", ["replicate", "black"])
@pytest.mark.parametrize("by_boxes", [False, True])
def test_frames_that_are_missing(networks, edge, by_boxes):
    """Their rows are as a windowed stream has them; the others' cells see what stands for them."""
    images = frames_of(70)
    there = [n for n in range(70) if n not in {0, 1, *range(20, 41)}]
    shown = images.copy()
    for n in set(range(70)) - set(there):
        shown[n] = 0 if edge == "black" else images[max((k for k in there if k < n), default=2)]
    stream = made("r3d18", 8, 2, edge=edge, reads="boxes" if by_boxes else "faces")
    boxes = dict.fromkeys(there, (0, 0, SIDE, SIDE))
    numbers = np.arange(70) if by_boxes else np.array(there)
    found = item(stream, images[numbers], 80, 7, numbers, boxes if by_boxes else None)
    own = {"backbone": narrow("r3d18"), "weights": "seeded", "window": WindowSettings(length=2)}
    windowed = VisualStream("visual/r3d18", VisualSettings(**own), CPU)
    other = item(windowed, images[numbers], 80, 7, numbers, boxes if by_boxes else None)
    assert np.array_equal(found.valid, other.valid)
    assert np.array_equal(found.flags, other.flags)
    if edge == "black":
        # Beyond the ends too: black as a picture, not as a number.
        black = np.zeros_like(shown[: 8 * 9 + 7 - 70])
        network = networks["r3d18"]
        x = clip_of(network, np.concatenate([shown, black]))
        with torch.inference_mode():
            expected = Passes(network.support, 8, 32)(network, x)[0, :70].numpy()
    else:
        expected = whole(networks["r3d18"], shown, 8)
    assert relative(found.rows[there], expected[there]) < 1e-5


def test_a_long_track_takes_no_more_memory():
    stream = made("r3d18", 1, 4, resize=16, crop=16)
    building = stream.begin("key", "track", 1000)
    images = frames_of(50)
    kept = 0
    for first in range(0, 1000, 50):
        building.add(FrameChunk(np.arange(first, first + 50), images))
        kept = max(kept, len(building._clips._prepared) + len(building._clips._raw))
    building.end()
    assert building.item().valid.all()
    assert kept < 8 * (4 + 7 + 6 + 2) + 50


def test_a_backbone_of_ones_own():
    own = {"backbone": f"{__name__}:Pooled", "weights": "none", "dtype": "float32"}
    window = WindowSettings(dense=2)
    stream = DenseStream("visual/pooled", VisualSettings(**own, window=window), CPU)
    images = frames_of(11, 16)
    found = item(stream, images)
    means = images.mean((1, 2)) / 255
    expected = means + 3 * means[[*range(1, 11), 10]]
    assert np.allclose(found.rows, expected, rtol=1e-5)
    with pytest.raises(ConfigError, match=r"Pooled does not run over .* 4 divides"):
        DenseStream("visual/pooled", VisualSettings(**own, window=WindowSettings(dense=4)), CPU)


def test_streams_from_files(tmp_path, media):
    """Beside a windowed stream of the same decode; a second run computes nothing."""
    pictures = list(frames_of(60, 64))
    media.write(tmp_path / "data" / "batch1" / "1.mp4", pictures)
    media.labels(tmp_path / "data" / "VA_Set" / "Train_Set" / "1.txt", 63)
    own = {"backbone": narrow("r3d18"), "weights": "seeded", "dtype": "float32"}
    streams = {
        "visual/r3d18": VisualSettings(**own, window=WindowSettings(dense=1)),
        "visual/r3d18-all": VisualSettings(**own, window=WindowSettings(dense=8)),
        "visual/r3d18-windows": VisualSettings(**own, window=WindowSettings(length=2)),
    }
    store = FeatureStore.create(tmp_path / "store")
    receipt = extract(scan(tmp_path / "data"), streams, store)
    assert not receipt.quarantine
    one, every, windows = (store[name].items.values() for name in streams)
    (one,), (every,), (windows,) = one, every, windows
    assert every.flags[:].tolist() == windows.flags[:].tolist() == [0] * 60 + [1] * 3
    assert relative(one.rows[:60:8], every.rows[:60:8]) < 0.5
    assert one.flags[:60].tolist() == [0 if row % 8 == 0 else 2 for row in range(60)]
    assert np.array_equal(one.times[:], windows.times[:])
    assert len({stream.digest for stream in store.streams()}) == 3
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*")}
    extract(scan(tmp_path / "data"), streams, store)
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*")} == before


@pytest.mark.parametrize(
    ("written", "count", "edge"),
    [
        ("dense", 1, "replicate"),
        ({"dense": 8}, 8, "replicate"),
        ({"dense": 2, "edge": "black"}, 2, "black"),
    ],
)
def test_how_it_is_written(written, count, edge):
    values = {"streams": {"visual/i3d": {"weights": "seeded", "window": written}}}
    jsonschema.validate(values, json_schema())
    config = parse_config(values)
    assert config.streams["visual/i3d"].window == WindowSettings(dense=count, edge=edge)
    printed = json.loads(json.dumps(asdict(config)))
    jsonschema.validate(printed, json_schema())
    assert parse_config(printed) == config


WRONG = [
    ("i3d", {"window": "dens"}, r"window: .*keys and values, or dense.*did you mean 'dense'"),
    ("i3d", {"window": {"dense": 3}}, r"window\.dense: expected one of 0, 1, 2, 4, 8, found 3"),
    ("i3d", {"window": {"dense": 16}}, r"window\.dense: expected one of"),
    ("i3d", {"window": {"dense": True}}, r"window\.dense: expected one of .* found True"),
    ("i3d", {"window": {"dense": "8"}}, r"window\.dense: expected one of"),
    ("i3d", {"window": {"dense": 8, "length": 16}}, r"window\.length: .* found 16; leave one"),
    ("r3d18", {"window": {"dense": 1, "spacing": 2}}, r"window\.spacing: expected nothing beside"),
    ("r3d18", {"window": {"dense": 1, "anchor": "end"}}, r"window\.anchor: .* found 'end'"),
    ("r3d18", {"window": {"dense": 1}, "stride": 8}, r"stride: expected nothing beside .* 8"),
    ("resnet18", {"window": "dense"}, r"'resnet18' does not run over whole tracks.*i3d, r3d18"),
]


@pytest.mark.parametrize(("backbone", "more", "message"), WRONG)
def test_what_has_no_meaning_is_refused(backbone, more, message):
    stream = f"visual/{backbone}"
    with pytest.raises(ConfigError, match=rf"^streams\.{stream}.*{message}"):
        parse_config({"streams": {stream: {"weights": "seeded", **more}}})


@pytest.mark.parametrize(("backbone", "more", "message"), WRONG[5:])
def test_so_it_is_where_no_configuration_is_read(backbone, more, message):
    window = more["window"] if isinstance(more["window"], dict) else {"dense": 1}
    own = {"weights": "seeded", **more, "window": WindowSettings(**window)}
    with pytest.raises(ConfigError, match=message):
        Workers({f"visual/{backbone}": VisualSettings(**own)}, "cpu")


def test_recipes():
    recipes = [
        made("r3d18").recipe,
        made("r3d18", 1).recipe,
        made("r3d18", 1, fill="nearest").recipe,
        made("r3d18", edge="zero").recipe,
        made("r3d18", reads="faces").recipe,
        made("r3d18", crop=24).recipe,
        made("i3d").recipe,
    ]
    assert len(set(recipes)) == len(recipes)
    assert made("r3d18", cells=2).recipe == made("r3d18", fill="nearest").recipe == recipes[0]


def test_recipes_of_windows_are_what_they_were():
    """Another name among these would give every stored stream another digest."""
    assert {field.name for field in fields(VisualRecipe)} == {
        *("backbone", "variant", "weights", "code", "reads", "reader", "preset", "window"),
        *("stride", "fill", "precision", "tolerance", "dtype", "version"),
    }
