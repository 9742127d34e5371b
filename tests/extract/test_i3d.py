"""I3D: against a plain version written from the description, for every padding and length."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from concord.cache import ConfigError
from concord.extract.backbones import build_backbone
from concord.extract.i3d import I3D, same_padding
from torch import nn

_spec = importlib.util.spec_from_file_location(
    "reference_i3d", Path(__file__).with_name("reference_i3d.py")
)
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

VARIANTS = ("tf_exact", "video_features")
PORT_LENGTHS = (10, 16, 17, 24)


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def clips(frames, size, batch=1):
    g = torch.Generator().manual_seed(frames)
    return 2 * torch.rand(batch, 3, frames, size, size, generator=g) - 1


@pytest.fixture(scope="module")
def state():
    return reference.random_state(1)


@pytest.fixture(scope="module")
def networks(state):
    built = {variant: I3D(variant).eval() for variant in VARIANTS}
    for network in built.values():
        network.load_state_dict(state)
    return built


def test_entries_and_parameters():
    network = I3D()
    names = list(network.state_dict())
    assert len(names) == 344
    assert sum(name.endswith("num_batches_tracked") for name in names) == 57
    assert sum(p.numel() for p in network.parameters()) == 12_697_264
    assert set(names) == set(reference.random_state(0))


@pytest.mark.parametrize(
    ("variant", "frames", "size"),
    [
        ("tf_exact", 9, 224),
        ("video_features", 10, 208),
        pytest.param("tf_exact", 16, 224, marks=pytest.mark.slow),
        pytest.param("video_features", 16, 224, marks=pytest.mark.slow),
    ],
)
@torch.inference_mode()
def test_features_and_logits_of_whole_clips(networks, state, variant, frames, size):
    x = clips(frames, size)
    features, logits = reference.features(state, x, variant)
    network = networks[variant]
    assert relative(network(x), features) < 2e-5
    assert relative(network.classes(x), logits) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_features_of_a_whole_stack(networks, state, variant):
    x = clips(64, 224)
    assert relative(networks[variant](x), reference.features(state, x, variant)[0]) < 2e-5


@pytest.mark.parametrize(
    ("variant", "frames", "size"),
    # 50 leaves 25, 13, 7, 4 and 2 pixels, so that strides meet odd sizes in space, too.
    [("tf_exact", frames, 50) for frames in (9, *PORT_LENGTHS)]
    + [("video_features", frames, 50) for frames in PORT_LENGTHS]
    + [(variant, 64, 32) for variant in VARIANTS],
)
@torch.inference_mode()
def test_every_length(networks, state, variant, frames, size):
    x = clips(frames, size)
    expected = reference.maps(state, x, variant)
    found = networks[variant].maps(x)
    assert found.shape == expected.shape
    assert relative(found, expected) < 2e-5
    cells = networks[variant].cells(x)
    assert cells.shape == (1, expected.shape[2], 1024)
    assert relative(cells[:, -1], expected[:, :, -1].mean(dim=(2, 3))) < 2e-5


@pytest.mark.parametrize(("variant", "frames"), [("tf_exact", 17), ("video_features", 17)])
@torch.inference_mode()
def test_replicated_edges_of_moving_clips(state, variant, frames):
    network = I3D(variant, "replicate").eval()
    network.load_state_dict(state)
    x = clips(frames, 50)
    expected = reference.maps(state, x, variant, replicate=True)
    assert relative(network.maps(x), expected) < 2e-5
    assert relative(reference.maps(state, x, variant), expected) > 0.05


@pytest.mark.parametrize(
    ("frames", "least", "most"), [(16, 0.003, 0.05), (10, 0.03, 0.6), (17, 0.08, 0.8)]
)
@torch.inference_mode()
def test_variants_differ_by_epsilon_and_where_strides_do_not_divide(
    state, networks, frames, least, most
):
    # Variances as trained networks have them, around 1.
    usual = {n: 6 * v if n.endswith("running_var") else v for n, v in state.items()}
    found = []
    for variant in VARIANTS:
        network = I3D(variant).eval()
        network.load_state_dict(usual)
        found.append(network.cells(clips(frames, 64)).mean(dim=1))
    assert least < relative(found[1], found[0]) < most


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (224, 7, 2, (2, 3)),
        (17, 7, 2, (3, 3)),
        (9, 3, 2, (1, 1)),
        (8, 3, 2, (0, 1)),
        (5, 2, 2, (0, 1)),
        (4, 2, 2, (0, 0)),
        (4, 1, 1, (0, 0)),
        (7, 1, 2, (0, 0)),
    ],
)
def test_padding_as_in_tensorflow(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride, dynamic=True) == expected


class OnlyPooled(I3D):
    """Takes Mixed_5c itself for a clip, so that what follows can be tested cheaply."""

    def maps(self, x):
        return x


def test_cells_at_the_ends_count_half():
    x = torch.rand(2, 1024, 3, 7, 7)
    network = OnlyPooled()
    first, middle, last = network.cells(x).unbind(dim=1)
    expected = (first / 2 + middle + last / 2) / 2
    torch.testing.assert_close(network(x), expected)
    assert relative(network(x), x.mean(dim=(2, 3, 4))) > 1e-3


@torch.inference_mode()
def test_folding_changes_rounding_only(networks):
    network = networks["video_features"]
    x = clips(10, 64)
    folded = network.folded()
    assert not any(isinstance(module, nn.BatchNorm3d) for module in folded.modules())
    assert sum(isinstance(module, nn.BatchNorm3d) for module in network.modules()) == 57
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        y = folded.cells(x.contiguous(memory_format=layout))
        assert 0 < relative(y, network.cells(x)) < 5e-6


@torch.inference_mode()
def test_replicated_edges_equal_a_longer_clip_of_repeated_frames(state):
    network = I3D(edges="replicate").eval()
    network.load_state_dict(state)
    plain = I3D().eval()
    plain.load_state_dict(state)
    still = clips(1, 32).expand(-1, -1, 16, -1, -1)
    cells = network.cells(still)
    # One picture over and over: every cell is the same, and what a very long clip has inside.
    torch.testing.assert_close(cells[:, 0], cells[:, 1], rtol=1e-5, atol=1e-5)
    longer = plain.cells(clips(1, 32).expand(-1, -1, 112, -1, -1))
    assert relative(cells[:, 0], longer[:, 7]) < 1e-5
    assert relative(plain.cells(still)[:, 0], longer[:, 7]) > 0.1


@pytest.mark.parametrize("cells", [(1, 7, 7), (2, 6, 7), (2, 7, 6)])
def test_clips_too_small_for_the_last_pool(cells):
    with pytest.raises(ConfigError, match=r"give at least 10 frames of 224"):
        OnlyPooled()(torch.zeros(1, 1024, *cells))


@pytest.mark.parametrize(("variant", "shortest"), [("tf_exact", 9), ("video_features", 10)])
@torch.inference_mode()
def test_the_shortest_clip_leaves_two_cells(networks, variant, shortest):
    assert networks[variant].cells(clips(shortest, 32)).shape[1] == 2
    assert networks[variant].cells(clips(shortest - 1, 32)).shape[1] == 1


def test_options_are_checked():
    with pytest.raises(ConfigError, match="variant is 'tf'; expected one of tf_exact, video_"):
        I3D("tf")
    with pytest.raises(ConfigError, match="edges is 'reflect'; expected one of zero, replicate"):
        build_backbone("i3d", edges="reflect")


@torch.inference_mode()
def test_seeded_networks_keep_the_scale_of_what_passes():
    network = build_backbone("i3d", "seeded:4")
    cells = network.cells(clips(16, 64))
    assert 0.05 < float(cells.std()) < 50
    assert not any(p.requires_grad for p in network.parameters())
