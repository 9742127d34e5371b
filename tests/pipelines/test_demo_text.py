"""Words in the demo: what they say, and a third modality from them, as users run it."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from concord.cache import FeatureStore
from concord.extract.transcripts import read_transcript, word_of_rows
from concord.pipelines.config import load_config
from concord.pipelines.demo import PROFILES, demo_dataset, make_demo
from concord.pipelines.demo_signal import track_signal
from concord.pipelines.demo_words import AROUSAL, VALENCE, VOCABULARY, demo_transcript
from concord.pipelines.plan import Plan

CONFIG = Path(__file__).parents[2] / "pipelines" / "configs" / "demo_text.yaml"
CLIPS = [clip for clip in PROFILES["demo"].clips if not clip.damage]


def said(clip, seed=0):
    tracks = [clip.track(region).name for region in clip.regions]
    signals = [track_signal(seed, clip.name, name, clip.rows, clip.rate) for name in tracks]
    labels = np.mean([signal.labels for signal in signals], axis=0)
    return labels, demo_transcript(seed, clip.name, labels, float(clip.rate), clip.sound_start)


def test_words_follow_one_another_within_the_sound():
    for clip in CLIPS:
        words = said(clip)[1]["words"]
        edges = np.array([(word["start"], word["end"]) for word in words]).ravel()
        assert np.all(np.diff(edges) >= 0)
        assert clip.sound_start < edges[0]
        assert edges[-1] < clip.rows / float(clip.rate)
        assert {word["word"] for word in words} <= set(VOCABULARY)


def test_words_say_a_part_of_what_is_felt():
    agreed, spoken, rows = [], 0, 0
    for clip in CLIPS:
        labels, transcript = said(clip)
        times = np.arange(clip.rows) / float(clip.rate)
        for word in transcript["words"]:
            for column, pair in enumerate((VALENCE, AROUSAL)):
                for sign, texts in enumerate(pair):
                    if word["word"] in texts:
                        middle = (word["start"] + word["end"]) / 2
                        row = min(np.searchsorted(times, middle), clip.rows - 1)
                        agreed.append((labels[row, column] > 0) == sign)
            spoken += ((times >= word["start"]) & (times < word["end"])).sum()
        rows += clip.rows
    print(f"{np.mean(agreed):.2f} of {len(agreed)} words agree, in {spoken / rows:.2f} of the rows")
    assert 0.7 < np.mean(agreed) < 1
    assert 0.25 < spoken / rows < 0.6


def test_transcripts_are_written_and_one_is_empty(tmp_path):
    small = [replace(clip, rows=min(clip.rows, 30)) for clip in CLIPS if clip.speechless]
    assert [clip.name for clip in small] == ["video90"]
    make_demo(tmp_path, "tiny", 1)
    tracks = {track.name: track for track in demo_dataset(str(tmp_path), "tiny").tracks}
    told = read_transcript(tmp_path / tracks["21"].transcript)
    assert (told.language, told.recogniser) == ("en", "demo")
    assert (word_of_rows(np.arange(42) / 10, told.words) >= 0).any()
    assert tracks["video8"].transcript is None


def test_the_demos_files_are_the_plans_outputs():
    plan = Plan(load_config(CONFIG))
    root = plan.config.data.path
    transcripts = {f"{root}/{t.transcript}" for t in plan.dataset.tracks if t.transcript}
    assert len(transcripts) == 11
    assert transcripts <= set(plan.demo_outputs()[0])
    read = {name for part in plan.parts for name in plan.inputs("text-bert", part)}
    assert transcripts <= read


@pytest.mark.slow
def test_three_modalities(save_bert, tmp_path):
    """From films and words to a score of recursive joint attention, all in real processes."""
    pytest.importorskip("transformers")
    save_bert(tmp_path / "models" / "bert", VOCABULARY)
    config = yaml.safe_load(CONFIG.read_text())
    # The smallest demo, and small pictures: what is learned here is not the point.
    config["data"]["profile"] = "tiny"
    config["streams"]["visual/resnet18"] |= {"resize": 64, "crop": 64}
    config["fuse"]["window"] = {"length": 16, "hop": 8}
    config["fuse"]["training"] |= {"epochs": 3, "seeds": [0]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    make_demo(tmp_path / config["data"]["path"], "tiny")

    def call(*words):
        command = [sys.executable, "-m", "concord.pipelines", *words, "--config=config.yaml"]
        command += ["--threads=1", "--device=cpu"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=280)

    call("extract", "run")
    call("fuse", "train", "--runs=runs", "--results=results.json")

    items = FeatureStore(tmp_path / config["results"] / "store")["text/bert"].of("demo")
    for track, rows in (("7-8-112x112", 40), ("21", 42), ("video3", 38)):
        assert items[track].rows.shape == (rows, 32)
        assert 0 < items[track].valid.sum() < rows
    experiments = json.loads((tmp_path / "results.json").read_text())["experiments"]
    scores = {each["head"]: each["scores"]["score"]["mean"] for each in experiments}
    print(scores)
    assert set(scores) == {"concat", "rjcma"}
    assert all(math.isfinite(score) for score in scores.values())
