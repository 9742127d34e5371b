"""Fine-tuning: what learns, what stays, what stops it, and what it leaves behind."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from concord.cache import ConfigError, DataError, TrainingError
from concord.extract.audio import AudioStream
from concord.extract.backbones import BACKBONES, build_backbone
from concord.extract.concordance import ccc, ccc_loss
from concord.extract.finetune import _Training, finetune
from concord.extract.finetune_inputs import Inputs
from concord.extract.finetune_problem import Problem
from concord.extract.finetune_settings import FinetuneSettings, weights_of
from concord.extract.finetune_state import (
    Epoch,
    Output,
    Regressor,
    State,
    learning_rate,
    optimiser_of,
)
from concord.extract.loading import Batch
from concord.extract.settings import AudioSettings, VisualSettings, WindowSettings
from concord.extract.training_record import training_record
from concord.extract.visual import VisualStream
from concord.extract.weights import weights_digest
from safetensors.torch import load_file, save_file

from .tuning import ROWS, Small, difference, make, without_labels

STREAM = "visual/small"
PICTURES = VisualSettings(weights="seeded:1", reads="faces", dtype="float32")
QUICK = FinetuneSettings(epochs=2, batch=16, lr=0.01, head_lr=0.01, warmup=2)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(BACKBONES, "small", Small)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make(tmp_path_factory.mktemp("tuning"))


def tuned(data, out, stream=STREAM, own=PICTURES, told=None, **changes):
    settings = replace(QUICK, **changes)
    return finetune(data, stream, own, settings, out, told=told)


def curve(out):
    return [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]


def test_ccc_is_the_formula():
    rng = np.random.default_rng(0)
    pred, target = rng.normal(0.1, 1, (2, 50, 2))
    expected = [
        2
        * np.mean((x - x.mean()) * (y - y.mean()))
        / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        for x, y in zip(pred.T, target.T, strict=True)
    ]
    found = ccc(torch.from_numpy(pred), torch.from_numpy(target))
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert float(ccc_loss(torch.from_numpy(pred), torch.from_numpy(target))) == pytest.approx(
        1 - np.mean(expected)
    )
    same = torch.full((4, 2), 0.5, requires_grad=True)
    loss = ccc_loss(same, torch.full((4, 2), 0.5))
    loss.backward()
    assert float(loss.detach()) == 1
    assert torch.equal(same.grad, torch.zeros(4, 2))


def test_it_learns_and_keeps_the_best_epoch(data, tmp_path):
    out = tmp_path / "tuned.safetensors"
    done = tuned(data, out, epochs=12, patience=12)
    lines = curve(out)
    assert [line["epoch"] for line in lines] == list(range(1, 13))
    best = max(lines, key=lambda line: line["score"])
    assert best["score"] > 0.6
    assert best["rows"] == ROWS - 1
    assert (done.record.epoch, done.record.valence) == (best["epoch"], best["valence"])
    assert training_record(out) == done.record
    assert not list(tmp_path.glob("*checkpoint*"))
    # The file's output layer on the features of the stream gives the predictions that were scored.
    network = build_backbone("small", str(out))
    state = load_file(out)
    from concord.extract.faces import list_crops, read_crop

    track = next(track for track in data.tracks if track.name == "d")
    folder = tmp_path.parent / data.root / str(track.faces)
    pictures = [read_crop(folder / name) for name in list_crops(folder, ROWS).values()][1:]
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        features = network(network.preset.normalise(x))
        pred = features @ state["fc.weight"].T + state["fc.bias"]
    labels = np.loadtxt(tmp_path.parent / data.root / str(track.labels), delimiter=",", skiprows=2)
    found = ccc(pred, torch.from_numpy(labels))
    assert found.tolist() == pytest.approx([best["valence"], best["arousal"]], abs=1e-5)


def test_the_same_seed_gives_the_same_bytes_whatever_the_threads(data, tmp_path):
    names = [tmp_path / f"{k}.safetensors" for k in range(3)]
    tuned(data, names[0])
    torch.rand(3)
    tuned(data, names[1], workers=4)
    tuned(data, names[2], seed=1)
    assert names[0].read_bytes() == names[1].read_bytes()
    assert difference(load_file(names[0]), load_file(names[2])) > 1e-3


@pytest.mark.parametrize("stop", [1, 3, 5, 8])
def test_a_stopped_training_goes_on_bit_for_bit(data, tmp_path, stop):
    """Steps 1 to 5 are of the first epoch; real processes are killed in the command's tests."""
    whole, out = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"

    def stopping(done, _total, _text):
        if done == stop:
            raise KeyboardInterrupt

    tuned(data, whole)
    with pytest.raises(KeyboardInterrupt):
        tuned(data, out, told=stopping, checkpoint_seconds=0.0)
    if stop > 1:
        with pytest.raises(ConfigError, match="another training, which differs in settings"):
            tuned(data, out, clip=1.0)
    texts: list[str] = []
    tuned(data, out, told=lambda *line: texts.append(line[2]))
    assert texts[0].startswith("goes on in epoch") == (stop > 1)
    assert out.read_bytes() == whole.read_bytes()
    assert [{**line, "seconds": 0} for line in curve(out)] == [
        {**line, "seconds": 0} for line in curve(whole)
    ]


def test_every_sample_is_augmented_by_itself_and_anew_in_every_epoch(data, tmp_path):
    problem = Problem.of(data, STREAM, PICTURES, QUICK, tmp_path / "x.safetensors")
    inputs = Inputs(problem, torch.device("cpu"))
    assert inputs.margin == 1
    pixels = torch.randint(0, 256, (1, 3, 18, 18), dtype=torch.uint8).expand(6, -1, -1, -1)
    rows = ("row",) * 6
    batch = Batch(pixels, None, torch.zeros(6, 2), tuple(range(6)), rows)
    plain, first, second = inputs(batch), inputs(batch, 1), inputs(batch, 2)
    assert torch.equal(plain[0], problem.network.preset.normalise(pixels)[0, :, 1:-1, 1:-1])
    assert torch.equal(plain, plain[:1].expand_as(plain))
    drawn = [*first, *second]
    for k, one in enumerate(drawn):
        assert not any(torch.allclose(one, other) for other in drawn[:k])
    assert torch.equal(first, inputs(batch, 1))


def step_of(data, out, **changes):
    """Take one step from an output that is not zero; gives its loss and gradients."""
    settings = replace(QUICK, batch_norm="frozen", rows_per_epoch=32, clip=0.0, **changes)
    problem = Problem.of(data, STREAM, PICTURES, settings, out)
    with _Training(problem, torch.device("cpu"), lambda *_: None) as training:
        weight = training.state.model.head.linear.weight
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))
        training._step(list(training.loader.batches(problem.training, training._plan(0))))
        learning = [p for p in training.state.model.parameters() if p.requires_grad]
        return training.state.losses, torch.cat([p.grad.flatten() for p in learning])


def test_accumulated_passes_equal_one_large_pass(data, tmp_path):
    loss, gradient = step_of(data, tmp_path / "1.safetensors", batch=32)
    losses, accumulated = step_of(data, tmp_path / "2.safetensors", batch=8, accumulate=4)
    assert loss == pytest.approx(losses, abs=1e-5)
    assert 0.1 < loss[0] != pytest.approx(1, abs=0.01)
    assert float((gradient - accumulated).norm() / gradient.norm()) < 1e-4
    out = tmp_path / "3.safetensors"
    tuned(data, out, batch=8, accumulate=4, rows_per_epoch=64, epochs=1)
    assert [line["steps"] for line in curve(out)] == [2]


@pytest.mark.parametrize("statistics", ["frozen", "trained"])
def test_frozen_stages_and_statistics_stay(data, tmp_path, statistics):
    out = tmp_path / "x.safetensors"
    tuned(data, out, freeze=1, batch_norm=statistics)
    before, after = build_backbone("small", "seeded:1").state_dict(), load_file(out)
    stays = {n for n in before if torch.equal(before[n], after[n])}
    learnt = {"high.0.weight", "high.1.weight", "high.1.bias"}
    if statistics == "trained":
        learnt |= {"high.1.running_mean", "high.1.running_var", "high.1.num_batches_tracked"}
    assert set(before) - stays == learnt


def test_the_first_of_the_best_epochs_is_kept():
    model = Regressor(Small("seeded"), 8)
    state = State(model, optimiser_of([(0.1, list(model.parameters()))], 0.0))
    for number, score in enumerate([0.1, 0.3, 0.2, 0.3], 1):
        with torch.no_grad():
            model.head.linear.bias.fill_(number)
        state.add(Epoch(number, 1, 0.5, score, score, score, 9, 1.0))
    assert state.best["fc.bias"].tolist() == [2, 2]
    assert (state.best_epoch.epoch, state.waited, state.epoch) == (2, 2, 4)


def test_the_output_sees_standardised_features_and_folds_into_plain_ones():
    output = Output(3)
    torch.nn.init.normal_(output.linear.weight)
    features = torch.tensor([[1.0, 100, 7], [3.0, 300, 7], [2.0, 500, 7]])
    assert torch.equal(output(features), output.linear(features))
    output.settle()
    std = torch.tensor([1, 200, 1e-3])
    standard = (features - features.mean(0)) / std
    with torch.no_grad():
        assert torch.allclose(output(features), output.linear(standard))
    output(2 * features[:2])
    output(2 * features[2:])
    output.settle()
    moved = 1.1 * features.mean(0)
    assert torch.allclose(output.mean, moved)
    assert torch.allclose(output.std, torch.tensor([1.1, 220, 1e-3]))
    weights = output.folded()
    expected = output.eval()(features)
    assert torch.allclose(features @ weights["weight"].T + weights["bias"], expected, atol=1e-4)
    assert torch.allclose(output.mean, moved)


def test_the_rate_rises_and_falls():
    factors = [learning_rate(step, 100, 10, "cosine") for step in range(100)]
    assert factors[:10] == pytest.approx([(k + 1) / 11 for k in range(10)])
    assert factors[55] == pytest.approx((1 + np.cos(np.pi * 45 / 90)) / 2)
    assert factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert learning_rate(70, 100, 10, "constant") == 1


def test_patience_and_the_time_limit_end_it(data, tmp_path):
    out = tmp_path / "still.safetensors"
    tuned(data, out, epochs=50, patience=2, lr=0.0, head_lr=0.0, batch_norm="frozen")
    assert [line["score"] for line in curve(out)] == [curve(out)[0]["score"]] * 3
    out = tmp_path / "late.safetensors"
    done = tuned(data, out, epochs=50, minutes=1e-6)
    assert (len(curve(out)), done.record.epoch) == (1, 1)


def test_a_finished_file_is_kept_and_another_one_never_overwritten(data, tmp_path):
    out = tmp_path / "x.safetensors"
    first = tuned(data, out)
    content = out.read_bytes()
    assert tuned(data, out).record == first.record
    with pytest.raises(ConfigError, match="another, which differs in settings"):
        tuned(data, out, seed=5)
    assert out.read_bytes() == content
    save_file({"x": torch.zeros(1)}, tmp_path / "y.safetensors")
    assert training_record(tmp_path / "y.safetensors") is None
    with pytest.raises(ConfigError, match="those of none; delete it"):
        tuned(data, tmp_path / "y.safetensors")


def test_the_record_says_what_was_seen(data, tmp_path):
    out = tmp_path / "x.safetensors"
    record = tuned(data, out).record
    assert (record.training, record.validation) == (("a", "b", "c"), ("d",))
    assert record.seen == frozenset("abcd")
    assert (record.dataset, record.backbone) == (data.name, "small")
    assert record.init == weights_digest(build_backbone("small", "seeded:1"))
    other = make(tmp_path / "other", seed=1)
    changed = tuned(other, tmp_path / "y.safetensors").record
    assert changed.labels != record.labels
    assert changed.begun() != record.begun()
    assert record.differences(changed) == ["labels"]


def test_recipes_of_frozen_and_fine_tuned_never_collide(data, tmp_path):
    out = tmp_path / "x.safetensors"
    tuned(data, out)
    recipes = [
        VisualStream(name, replace(PICTURES, weights=weights), torch.device("cpu")).recipe
        for name in (STREAM, f"{STREAM}-tuned")
        for weights in ("seeded:1", str(out))
    ]
    assert recipes[0] == recipes[2] != recipes[1] == recipes[3]
    assert recipes[1].weights == weights_digest(build_backbone("small", str(out)))


@pytest.mark.parametrize(
    ("name", "options", "own"),
    [("resnet18", {}, "fc.weight"), ("resnet18", {"channels": 1}, "fc.weight"),
     ("r3d18", {}, "fc.weight"), ("i3d", {}, "logits.conv3d.weight")],
)  # fmt: skip
def test_weights_load_by_the_names_of_the_plain_backbone(tmp_path, name, options, own):
    plain = build_backbone(name, "seeded:3", **options)
    model = Regressor(plain, plain.dim)
    path = tmp_path / "x.safetensors"
    state = model.tensors()
    assert state[own].flatten(1).shape == (2, plain.dim)
    save_file(state, path)
    back = build_backbone(name, str(path), **options)
    assert weights_digest(back) == weights_digest(plain)
    if name == "i3d":
        x = torch.zeros(1, 3, 10, 224, 224)
        with torch.inference_mode():
            assert torch.allclose(back.classes(x), model.eval()(x), atol=1e-5)
    if options:
        stream = AudioStream(
            "audio/resnet18-tuned", AudioSettings(weights=str(path)), torch.device("cpu")
        )
        assert stream.recipe.weights == weights_digest(plain)


def test_statistics_follow_where_the_weights_come_from():
    def chosen(takes, *, scratch, **more):
        return FinetuneSettings(**more).resolved("resnet18", takes, scratch=scratch).batch_norm

    assert chosen("pictures", scratch=False) == "frozen"
    assert chosen("pictures", scratch=True) == "trained"
    assert chosen("spectrograms", scratch=False) == "trained"
    assert chosen("pictures", scratch=False, batch_norm="trained") == "trained"
    settings = FinetuneSettings(lr=0.5).resolved("i3d", "clips", scratch=False)
    assert (settings.lr, settings.freeze, settings.accumulate) == (0.5, 2, 4)
    assert FinetuneSettings().resolved("i3d", "clips", scratch=True).freeze == 0


def test_what_cannot_be_is_refused_before_work_starts(data, tmp_path):
    out = tmp_path / "x.safetensors"
    with pytest.raises(ConfigError, match=r"ends in \.safetensors"):
        tuned(data, tmp_path / "x.pt")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        tuned(data, tmp_path / "file" / "x.safetensors")
    with pytest.raises(ConfigError, match="unknown backbone 'smal'"):
        tuned(data, out, stream="visual/smal")
    with pytest.raises(ConfigError, match="does not exist"):
        tuned(data, out, own=replace(PICTURES, weights="gone.safetensors"))
    with pytest.raises(ConfigError, match=r"window\.dense"):
        tuned(data, out, own=replace(PICTURES, window=WindowSettings(dense=8)))
    with pytest.raises(ConfigError, match="batch: expected at least 1, not 0"):
        FinetuneSettings(batch=0)
    with pytest.raises(ConfigError, match="flip: expected at most 1"):
        FinetuneSettings(flip=2)
    with pytest.raises(ConfigError, match="sampling: expected one of tracks, rows"):
        FinetuneSettings(sampling="sources")  # pyright: ignore[reportArgumentType]
    twice = replace(data, tracks=(*data.tracks, replace(data.tracks[0], split="val")))
    with pytest.raises(DataError, match="track 'a' is in both train and val"):
        tuned(twice, out)
    shared = replace(data, tracks=(*data.tracks, replace(data.tracks[0], name="z", split="val")))
    with pytest.raises(DataError, match="source 'a' is in both"):
        tuned(shared, out)
    bare = make(tmp_path / "bare", training=("a",))
    without_labels(tmp_path / "bare", "a")
    with pytest.raises(DataError, match="no track of split 'train' has a labelled row"):
        tuned(bare, out)
    assert not list(tmp_path.glob("x.*"))


def test_short_names_of_weights():
    assert weights_of("imagenet", "resnet18") == "IMAGENET1K_V1"
    assert weights_of("imagenet", "i3d") == "inflate:IMAGENET1K_V1"
    assert weights_of("kinetics400", "r3d18") == "KINETICS400_V1"
    assert weights_of("seeded:4", "i3d") == "seeded:4"
    with pytest.raises(ConfigError, match="kinetics400: torchvision has no such weights for 'i3d'"):
        weights_of("kinetics400", "i3d")


def test_a_loss_that_is_no_number_says_where(data, tmp_path):
    with pytest.raises(
        TrainingError, match=r"visual/small: epoch 1, step \d+: the (loss|gradient)"
    ):
        tuned(data, tmp_path / "x.safetensors", lr=1e30, head_lr=1e30, clip=0.0)


def test_what_cannot_be_read_is_listed_and_left_out(data, tmp_path):
    whole = make(tmp_path / "data")
    gone = tmp_path / "data" / "cropped_aligned" / "b"
    for path in gone.iterdir():
        path.unlink()
    told: list[str] = []
    done = tuned(whole, tmp_path / "x.safetensors", told=lambda *line: told.append(line[2]))
    assert list(done.quarantine) == ["b"]
    assert "holds no image" in done.quarantine["b"]
    assert any("CCC" in text for text in told)
    for track in "ac":
        for path in (tmp_path / "data" / "cropped_aligned" / track).iterdir():
            path.unlink()
    with pytest.raises(TrainingError, match="no training row could be read"):
        tuned(whole, tmp_path / "y.safetensors")
