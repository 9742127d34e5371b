"""The table: what each line says, which settings have a column, means over folds, three forms."""

import copy
import csv
import io
import json

import numpy as np
import pytest
from concord.cache import DataError
from concord.fuse.table import table_rows, to_csv, to_json, to_markdown

WINDOW = {
    "preset": "short",
    "length": 32,
    "hop": 8,
    "hop_scoring": 16,
    "dilation": 1,
    "tail": "align",
}
COLUMNS = [
    *("head", "variant", "streams", "stride", "width", "encoder", "fold", "window", "protocol"),
    *("smoothing", "seeds", "rows"),
    *("valence_mean", "valence_std", "valence_low", "valence_high"),
    *("arousal_mean", "arousal_std", "arousal_low", "arousal_high"),
    *("score_mean", "score_std", "score_low", "score_high"),
]


def experiment(mean=0.5, rows=100, **changed):
    record = {
        "name": "concat / audio",
        "head": "concat",
        "variant": "paper",
        "streams": ["audio/x@aaaaaaaa", "visual/x@bbbbbbbb"],
        "strides": [1, 8],
        "width": 8,
        "encoder": "none",
        "fold": "official",
        "window": WINDOW,
        "settings": {"dropout": 0.3, "k": 32, "lr": 0.001, "fold": "official", **WINDOW},
        "seeds": [0, 1, 2],
        "rows": rows,
        "parameters": 12,
        "scores": {
            "valence": {"mean": mean, "std": 0.01, "values": [mean, mean, mean]},
            "arousal": {"mean": 1 / 3, "std": None, "values": [1 / 3, None, None]},
            "score": {"mean": None, "std": None, "values": [None, None, None]},
        },
        "intervals": {"valence": [mean - 0.1, mean + 0.1], "arousal": [-0.001, 0.5], "score": None},
        "runs": [],
    }
    assert set(changed) <= set(record)
    return copy.deepcopy(record | changed)


def results(*experiments, **protocol):
    named = {"name": "official", "smoothing": "none", "split": "val", "rows": 100, "filled": 0}
    return {
        "version": 1,
        "dataset": "demo",
        "edition": "e1",
        "protocol": {**named, **protocol},
        "experiments": list(experiments),
        "traces": [],
    }


def with_settings(**changed):
    one = experiment()
    one["settings"] |= changed
    return one


def at_fold(fold, mean, rows=100, **changed):
    one = experiment(mean, rows, fold=fold, **changed)
    one["settings"]["fold"] = fold
    return one


def test_a_line_says_what_was_measured():
    (row,) = table_rows([results(experiment())])
    assert list(row) == COLUMNS
    assert row == {
        "head": "concat",
        "variant": "paper",
        "streams": "audio/x@aaaaaaaa + visual/x@bbbbbbbb",
        "stride": "1 + 8",
        "width": 8,
        "encoder": "none",
        "fold": "official",
        "window": "short, length 32, hop 8, hop_scoring 16, dilation 1, tail align",
        "protocol": "official",
        "smoothing": "none",
        "seeds": "0 1 2",
        "rows": 100,
        "valence_mean": 0.5,
        "valence_std": 0.01,
        "valence_low": 0.4,
        "valence_high": 0.6,
        "arousal_mean": 1 / 3,
        "arousal_std": None,
        "arousal_low": -0.001,
        "arousal_high": 0.5,
        "score_mean": None,
        "score_std": None,
        "score_low": None,
        "score_high": None,
    }


def test_settings_that_differ_have_columns():
    one, other = with_settings(k=16), with_settings(encoder="tcn", encoders=["tcn"], kernel=3)
    rows = table_rows([results(one, other)])
    own = [name for name in rows[0] if name not in COLUMNS]
    assert own == ["k", "kernel"]
    assert [(row["k"], row["kernel"]) for row in rows] == [(16, None), (32, 3)]
    assert [list(row) for row in rows] == [[*COLUMNS[:10], *own, *COLUMNS[10:]]] * 2


def test_settings_that_are_the_same_have_none():
    rows = table_rows([results(experiment(), experiment(head="jca"))])
    assert [list(row) for row in rows] == [COLUMNS] * 2


def test_nested_settings_and_lists():
    nested = [{"training": {"lr": lr, "milestones": [1, 2]}, "window": WINDOW} for lr in (0.1, 0.2)]
    nested[1]["training"]["milestones"] = [3]
    nested[1]["window"] = {**WINDOW, "length": 8}
    rows = table_rows([results(*(experiment(settings=one) for one in nested))])
    assert [(row["lr"], row["milestones"]) for row in rows] == [(0.1, "1 2"), (0.2, "3")]
    assert "length" not in rows[0]


def test_whole_tracks_have_no_more_to_say():
    window = {**WINDOW, "preset": "whole", "length": 0}
    assert table_rows([results(experiment(window=window))])[0]["window"] == "whole"


def test_several_files_make_one_table():
    smoothed = results(experiment(), smoothing="box:20", name="sucv")
    other = {**results(experiment()), "edition": "e2"}
    rows = table_rows([results(experiment()), smoothed, other])
    assert [row["smoothing"] for row in rows] == ["none", "box:20", "none"]
    assert [row["protocol"] for row in rows] == ["official", "sucv", "official"]
    assert [row["edition"] for row in rows] == ["e1", "e1", "e2"]
    assert "dataset" not in rows[0]


def test_folds_have_a_mean():
    means = {"six:0": 0.5, "six:1": 0.2, "six:2": 0.6}
    folds = [at_fold(fold, mean, 10 + i) for i, (fold, mean) in enumerate(means.items())]
    rows = table_rows([results(*folds, experiment(head="jca"))])
    assert [row["fold"] for row in rows] == [*means, "mean of six:0, six:1, six:2", "official"]
    mean = rows[3]
    assert mean["valence_mean"] == pytest.approx(np.mean(list(means.values())), abs=1e-12)
    assert mean["valence_std"] == pytest.approx(np.std(list(means.values()), ddof=1), abs=1e-12)
    assert (mean["valence_low"], mean["valence_high"]) == (None, None)
    assert (mean["score_mean"], mean["score_std"]) == (None, None)
    assert mean["rows"] == 33
    same = ("head", "variant", "streams", "width", "encoder", "window", "protocol", "seeds")
    assert {name: mean[name] for name in same} == {name: rows[0][name] for name in same}


def test_an_undefined_fold_is_left_out_of_the_mean():
    folds = [at_fold("six:1", 0.2), at_fold("six:2", 0.4), at_fold("six:3", 0.9)]
    folds[2]["scores"]["valence"] = {"mean": None, "std": None, "values": [None] * 3}
    mean = table_rows([results(*folds)])[-1]
    assert mean["valence_mean"] == pytest.approx(0.3)
    assert mean["valence_std"] == pytest.approx(np.std([0.2, 0.4], ddof=1))


def test_each_set_has_its_mean_after_its_last_fold():
    grid = [at_fold(f"six:{i}", 0.1 * i, width=w) for i in (1, 2) for w in (4, 8)]
    rows = table_rows([results(*grid[:3]), results(grid[3])])
    assert [(row["fold"], row["width"]) for row in rows] == [
        ("six:1", 4),
        ("six:1", 8),
        ("six:2", 4),
        ("mean of six:1, six:2", 4),
        ("six:2", 8),
        ("mean of six:1, six:2", 8),
    ]


def test_the_official_fold_is_one_of_six():
    rows = table_rows([results(at_fold("official", 0.1), at_fold("six:1", 0.3))])
    assert rows[-1]["fold"] == "mean of official, six:1"


@pytest.mark.parametrize(
    "folds",
    [
        [at_fold("six:1", 0.1)],
        [at_fold("six:1", 0.1), at_fold("six:1", 0.1)],
        [at_fold("six:1", 0.1), at_fold("six:1", 0.1), at_fold("six:2", 0.1)],
        [at_fold("six:0", 0.1), at_fold("official", 0.1), at_fold("six:1", 0.2)],
        [at_fold("six:1", 0.1), at_fold("grouped:1", 0.1)],
        [at_fold("official", 0.1), at_fold("grouped:1", 0.1)],
        [at_fold("six:1", 0.1), at_fold("six:2", 0.1, width=9)],
        [at_fold("six:1", 0.1), at_fold("six:2", 0.1, seeds=[0])],
        [at_fold("six:1", 0.1), at_fold("six:2", 0.1, window={**WINDOW, "hop": 9})],
        [at_fold("six:1", 0.1), at_fold("six:2", 0.1, streams=["audio/x@cccccccc"])],
        [at_fold("six:1", 0.1), at_fold("six:2", 0.1, settings={"lr": 1.0})],
    ],
)
def test_what_differs_in_more_than_the_fold_has_no_mean(folds):
    rows = table_rows([results(*folds)])
    assert [row["fold"] for row in rows] == [fold["fold"] for fold in folds]


def test_folds_under_two_protocols_have_no_mean():
    parts = [results(at_fold("six:1", 0.1)), results(at_fold("six:2", 0.1), name="sucv")]
    assert len(table_rows(parts)) == 2


ROWS = table_rows(
    [results(with_settings(k=0.1 + 0.2), experiment(1e-5, streams=["audio/x@a,b"]))],
)


def test_csv_keeps_every_digit():
    read = list(csv.DictReader(io.StringIO(to_csv(ROWS))))
    assert list(read[0]) == list(ROWS[0])
    for line, row in zip(read, ROWS, strict=True):
        for name, value in row.items():
            if isinstance(value, float):
                assert line[name] == repr(value)
            else:
                assert line[name] == ("" if value is None else str(value))
    assert read[0]["k"] == "0.30000000000000004"
    assert read[1]["valence_mean"] == "1e-05"
    assert "\r" not in to_csv(ROWS)


def test_json_reads_back():
    assert json.loads(to_json(ROWS)) == ROWS
    assert '"score_mean": null' in to_json(ROWS)


def test_numbers_that_are_none_in_json():
    one = experiment()
    one["scores"]["score"]["mean"] = float("nan")
    assert json.loads(to_json(table_rows([results(one)])))[0]["score_mean"] is None


def test_markdown_is_for_people():
    lines = to_markdown(ROWS).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    shown = [*COLUMNS[:10], "k", "seeds", "rows", "valence", "arousal", "score"]
    assert cells[0] == shown
    assert cells[1] == ["---"] * len(shown)
    assert cells[2][-3:] == ["0.500 ± 0.010 [0.40, 0.60]", "0.333 [0.00, 0.50]", "undefined"]
    assert len(cells) == 4
    assert {len(line) for line in cells} == {len(shown)}


def test_markdown_of_a_mean_over_folds():
    text = to_markdown(table_rows([results(at_fold("six:1", 0.25), at_fold("six:2", 0.75))]))
    assert "| mean of six:1, six:2 |" in text
    assert "| 0.500 ± 0.354 | 0.333 ± 0.000 | undefined |" in text


def test_markdown_cells_keep_to_their_column():
    text = to_markdown(table_rows([results(experiment(head="my:A|B\nC"))]))
    assert r"| my:A\|B C |" in text


def test_the_same_input_gives_the_same_text():
    given = [results(with_settings(k=1), at_fold("six:1", 0.1)), results(at_fold("six:2", 0.2))]
    before = copy.deepcopy(given)
    first, again = table_rows(given), table_rows(copy.deepcopy(given))
    for write in (to_csv, to_json, to_markdown):
        assert write(first) == write(again)
    assert given == before


def test_nothing_to_show():
    assert table_rows([]) == table_rows([results()]) == []
    assert to_csv([]) == ",".join(COLUMNS) + "\n"
    assert to_json([]) == "[]\n"
    assert to_markdown([]).splitlines()[0].startswith("| head | variant | streams |")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("protocol", r"results 2: expected 'protocol', found version, dataset"),
        (
            "intervals",
            r"results 2, experiments\[1\]: expected 'intervals', found name, head.*train",
        ),
        ("fold", r"results 2, experiments\[1\]: expected 'fold'"),
    ],
)
def test_files_of_an_older_form(part, message):
    older = results(experiment(), experiment(width=3))
    older.pop(part, None)
    older["experiments"][1].pop(part, None)
    with pytest.raises(DataError, match=message):
        table_rows([results(experiment()), older])
