"""Samples of what the report reads; every test gets its own to change."""

import json
from copy import deepcopy

import pytest
from concord.pipelines.report import write_report

from .commands import concord


@pytest.fixture
def cache_command():
    """Give the exit code, standard output and standard error of `concord cache …`."""

    def run(*arguments):
        done = concord("cache", *arguments)
        return done.returncode, done.stdout, done.stderr

    return run


def as_json(result, code=0):
    """Read what a command of `cache_command` printed."""
    assert result[0] == code, result[2]
    return json.loads(result[1])


def score(values):
    known = [value for value in values if value is not None]
    mean = sum(known) / len(known) if known else None
    return {"mean": mean, "std": 0.0123 if len(known) > 1 else None, "values": values}


def experiment(name, head, base):
    values = {
        kind: [base + shift + seed / 100 for seed in range(3)]
        for kind, shift in (("valence", 0.1), ("arousal", -0.1), ("score", 0.0))
    }
    curve = {key: [0.1, None, base] for key in ("train_loss", "valence", "arousal", "score")}
    run = {"digest": "ab" * 32, "epochs": 3, "best_epoch": 3, "seconds": 1.9, "score": base}
    run |= {"valence": base + 0.1, "arousal": None, "curve": {"epoch": [1, 2, 3], **curve}}
    return {
        "name": name,
        "head": head,
        "variant": "paper",
        "streams": ["audio/resnet18@3fa9c1d2"],
        "strides": [1],
        "width": 128,
        "encoder": "none",
        "fold": "official",
        "window": {"preset": "short", "length": 32},
        "settings": {"length": 32, "rate": base},
        "seeds": [0, 1, 2],
        "rows": 700,
        "filled": 0,
        "without_value": [],
        "in_quarantine": [],
        "parameters": 123456,
        "scores": {kind: score(of) for kind, of in values.items()},
        "intervals": {kind: [of[0] - 0.05, of[2] + 0.05] for kind, of in values.items()},
        "runs": [{"seed": seed, **run} for seed in range(3)],
    }


@pytest.fixture
def results():
    names = {"jca / audio+visual": 0.5, "concat / audio": 0.2, "mean / visual": 0.35}
    times = [row / 10 for row in range(40)]
    labels = [None if 10 < row < 15 else row / 50 for row in range(40)]
    series = [row / 60 for row in range(40)]
    spread = {"valence_std": [0.05] * 40, "arousal_std": None}
    prediction = {"valence": series, "arousal": series}
    trace = {
        "times": times,
        "clock": True,
        "labels": {"valence": labels, "arousal": labels},
        "predictions": dict.fromkeys(names, prediction | spread),
    }
    trace["predictions"]["concat / audio"] = prediction
    return {
        "version": 1,
        "dataset": "demo",
        "edition": "3fa9c1d2e4b5",
        "protocol": {
            "name": "official",
            "description": "all labelled rows",
            "split": "val",
            "rows": 700,
            "filled": 0,
            "smoothing": "none",
        },
        "experiments": [experiment(name, name.split()[0], base) for name, base in names.items()],
        "traces": [{"track": track, **deepcopy(trace)} for track in ("video3", "102", "8_left")],
    }


@pytest.fixture
def coverage():
    size = {"tracks": 9, "sources": 8, "families": 7, "rows": 1260, "labelled": 1200}
    size["labels"] = {"valence": [0.2412, 0.31], "arousal": [-0.1, 0.25]}
    stream = {"digest": "3f" * 32, "dim": 512, "dtype": "float16", "items": 12, "rows": 1900}
    stream |= {"invalid": 23, "repeated": 2, "recipe": {"backbone": "resnet18"}}
    track = {"track": "video3", "source": "video3", "split": "val", "rows": 160, "labelled": 150}
    covered = {"visual/resnet18": {"invalid": 3, "repeated": 0}, "audio/resnet18": None}
    failed = {"source": "x", "tracks": ["video3"], "stream": "audio/resnet18"}
    return {
        "version": 1,
        "dataset": "demo",
        "edition": "3fa9c1d2e4b5",
        "splits": {"train": size, "val": size},
        "streams": {"visual/resnet18": stream, "audio/resnet18": dict(stream)},
        "tracks": [track | {"streams": covered}],
        "quarantine": [failed | {"error": "MediaError", "message": "no moov", "place": "open"}],
        "budget": {"sources": 13, "quarantined": 2, "allowed": 3},
    }


@pytest.fixture
def write(tmp_path, coverage, results):
    def run(out="out", **changed):
        for name, value in ({"coverage": coverage, "results": results} | changed).items():
            (tmp_path / f"{name}.json").write_text(json.dumps(value))
        return write_report(tmp_path / "coverage.json", tmp_path / "results.json", tmp_path / out)

    return run
