"""Experiments: what entries inherit, lists that mean each of their values, and what is refused."""

import dataclasses
import json

import jsonschema
import pytest
import yaml
from concord.cache import ConfigError
from concord.fuse.catalogue import HEADS
from concord.fuse.settings import ExperimentSettings, TrainingSettings, WindowSettings
from concord.pipelines import sweeps as sweeps_module
from concord.pipelines.config import load_config, parse_config
from concord.pipelines.plan import Plan
from concord.pipelines.schema import json_schema
from hypothesis import given, settings
from hypothesis import strategies as st

AUDIO, VISUAL = "audio/resnet18", "visual/resnet18"
STREAMS = {AUDIO: {}, VISUAL: {"weights": "seeded"}}
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def configured(*entries, **fuse):
    return {"streams": STREAMS, "fuse": {**fuse, "experiments": list(entries)}}


def read(*entries, **fuse):
    return parse_config(configured(*entries, **fuse)).fuse.experiments


def entry(**keys):
    return {"head": "concat", "streams": [AUDIO], **keys}


def test_an_entry_inherits_window_and_training():
    shared = {"window": {"length": 16, "hop": 4}, "training": {"lr": 0.1, "seeds": [7]}}
    own = entry(window={"hop": 2}, training={"epochs": 3})
    inheriting, differing = read(entry(), own, **shared)
    assert inheriting.window == WindowSettings(length=16, hop=4)
    assert inheriting.training == TrainingSettings(lr=0.1, seeds=(7,))
    assert differing.window == WindowSettings(length=16, hop=2)
    assert differing.training == TrainingSettings(lr=0.1, seeds=(7,), epochs=3)


@pytest.mark.parametrize(
    ("own", "meant"),
    [
        ({"preset": "livia"}, WindowSettings(preset="livia")),
        ({"preset": "livia", "hop": 64}, WindowSettings(preset="livia", hop=64)),
        ({"preset": "whole"}, WindowSettings(preset="whole")),
        ({"hop": 2}, WindowSettings(preset="sucv", length=100, hop=2)),
        ({"preset": "sucv", "hop": 2}, WindowSettings(preset="sucv", length=100, hop=2)),
        ({}, WindowSettings(preset="sucv", length=100, hop=50)),
    ],
)
def test_another_preset_comes_with_its_own_numbers(own, meant):
    shared = {"window": {"preset": "sucv", "length": 100, "hop": 50}}
    (found,) = read(entry(window=own), **shared)
    assert found.window == meant


def test_presets_vary_over_a_window_of_ones_own():
    shared = {"window": {"length": 16, "hop": 4}}
    found = read(entry(window={"preset": ["short", "sucv"]}), **shared)
    assert [e.window.resolved().length for e in found] == [16, 300]
    found = read(entry(window=[{"preset": "sucv", "length": 64}, {}]), **shared)
    assert [e.window.resolved().length for e in found] == [64, 16]


def test_an_entry_can_go_back_to_a_default():
    (found,) = read(entry(window={"length": 0}, training={"lr": 1e-3}), training={"lr": 0.1})
    assert found.training == TrainingSettings()


def test_the_last_key_varies_fastest_in_the_order_written():
    text = """
    head: [concat, jca_any]
    training: {lr: [1e-3, 1e-4]}
    width: [8, 4]
    streams: [audio/resnet18]
    """
    found = [(e.head, e.training.lr, e.width) for e in read(yaml.safe_load(text))]
    assert found == [
        (h, lr, w) for h in ("concat", "jca_any") for lr in (1e-3, 1e-4) for w in (8, 4)
    ]


def test_entries_follow_each_other():
    found = read(entry(width=[1, 2]), entry(width=3), entry(width=[5, 4]))
    assert [e.width for e in found] == [1, 2, 3, 5, 4]


@pytest.mark.parametrize(
    ("key", "written", "expected"),
    [
        ("streams", [AUDIO, VISUAL], [(AUDIO, VISUAL)]),
        ("streams", [[AUDIO, VISUAL], [AUDIO]], [(AUDIO, VISUAL), (AUDIO,)]),
        ("streams", [[AUDIO]], [(AUDIO,)]),
        ("encoders", [], [()]),
        ("encoders", ["tcn"], [("tcn",)]),
        ("encoders", [[], ["tcn"], ["gru"]], [(), ("tcn",), ("gru",)]),
        ("encoder", ["none", "gru"], ["none", "gru"]),
        ("causal", [True, False], [True, False]),
        ("dropout", [0, "1e-1"], [0.0, 0.1]),
        ("fold", ["six:0", "six:1", "grouped:5"], ["six:0", "six:1", "grouped:5"]),
        ("width", [3], [3]),
    ],
)
def test_one_value_or_each_of_several(key, written, expected):
    assert [getattr(e, key) for e in read(entry(**{key: written}))] == expected


@pytest.mark.parametrize(
    ("key", "written", "expected"),
    [
        ("training", {"seeds": [3, 4]}, [{"seeds": (3, 4)}]),
        ("training", {"seeds": [[3, 4], [5]]}, [{"seeds": (3, 4)}, {"seeds": (5,)}]),
        ("training", {"lr": ["1e-3", 1]}, [{"lr": 1e-3}, {"lr": 1.0}]),
        ("window", {"preset": ["sucv", "livia"]}, [{"preset": "sucv"}, {"preset": "livia"}]),
        (
            "window",
            [{"preset": "sucv"}, {"length": [8, 16], "hop": 2}, {}],
            [{"preset": "sucv"}, {"length": 8, "hop": 2}, {"length": 16, "hop": 2}, {}],
        ),
    ],
)
def test_window_and_training_vary_too(key, written, expected):
    default = {"training": TrainingSettings(), "window": WindowSettings()}[key]
    found = [getattr(e, key) for e in read(entry(**{key: written}))]
    assert found == [dataclasses.replace(default, **one) for one in expected]


OPTIONS = {
    "head": ["concat", "jca_any", "rjcma"],
    "streams": [(AUDIO,), (VISUAL,), (AUDIO, VISUAL)],
    "width": [0, 8, 16],
    "fold": ["official", "six:1", "grouped:2"],
    "window.length": [8, 16, 24],
    "window.tail": ["align", "pad", "drop"],
    "window.preset": ["short", "sucv"],
    "training.lr": [0.1, 0.01, 0.001],
    "training.seeds": [(0,), (1, 2), (3,)],
}


@st.composite
def sweeps(draw):
    """An entry as it is written, and the values that each of its keys means, in that order."""
    more = draw(st.lists(st.sampled_from(list(OPTIONS)[2:]), unique=True, max_size=4))
    keys = draw(st.permutations(["head", "streams", *more]))
    mappings = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    written, meant = {}, {}
    for key in sorted(keys, key=lambda key: mappings.index(key.partition(".")[0])):
        options = st.lists(st.sampled_from(OPTIONS[key]), min_size=1, max_size=3, unique=True)
        meant[key] = draw(options)
        bare = len(meant[key]) == 1 and draw(st.booleans())
        outer, _, name = key.rpartition(".")
        inner = written.setdefault(outer, {}) if outer else written
        inner[name] = meant[key][0] if bare else meant[key]
    return json.loads(json.dumps(written)), meant


def by_nested_loops(meant):
    """The combinations, one loop inside the other."""
    rows = [{}]
    for key, values in meant.items():
        rows = [{**row, key: value} for row in rows for value in values]
    return rows


def told_by(experiment, key):
    value = experiment
    for name in key.split("."):
        value = getattr(value, name)
    return value


@settings(max_examples=80, deadline=None)
@given(sweeps())
def test_all_combinations_once_in_order(sweep):
    written, meant = sweep
    found = read(written)
    expected = by_nested_loops(meant)
    assert [{key: told_by(e, key) for key in meant} for e in found] == expected
    count = 1
    for values in meant.values():
        count *= len(values)
    assert len(found) == count == len(set(found))


@settings(max_examples=40, deadline=None)
@given(
    sweeps(),
    st.sampled_from(
        [
            {},
            {"training": {"lr": 0.5}, "window": {"hop": 2}},
            {"window": {"preset": "sucv", "length": 48, "hop_scoring": 8}},
        ]
    ),
)
def test_a_configuration_survives_its_round_trip(sweep, shared):
    config = parse_config(configured(sweep[0], **shared))
    again = json.dumps(dataclasses.asdict(config))
    assert load_config(again) == config
    plan = Plan.of(configured(sweep[0], **shared))
    assert plan.fuse_settings == Plan.of(json.loads(again)).fuse_settings
    told = parse_config(json.loads(plan.fuse_settings.text))
    assert (told.streams, told.fuse) == (config.streams, config.fuse)


@settings(max_examples=40, deadline=None)
@given(sweeps())
def test_the_schema_takes_every_sweep(sweep):
    config = configured(sweep[0])
    VALIDATOR.validate(config)
    VALIDATOR.validate(json.loads(json.dumps(dataclasses.asdict(parse_config(config)))))


WRONG = [
    ([entry(widht=[1, 2])], r"fuse\.experiments\[0\]\.widht: unknown key; did you mean 'width'\?"),
    (
        [entry(), entry(width=1), entry(training={"learning": [1]})],
        r"fuse\.experiments\[2\]\.training\.learning: unknown key",
    ),
    (
        [entry(), entry(width=[1, 2]), entry(window={"lenght": [8]})],
        r"fuse\.experiments\[2\]\.window\.lenght: unknown key; did you mean 'length'\?",
    ),
    (
        [entry(width=[1, 2]), entry(training={"lr": [1e-3, "much"]})],
        r"fuse\.experiments\[1\]\.training\.lr\[1\]: expected float, found 'much'",
    ),
    (
        [entry(window=[{}, {"preset": ["sucv", "livea"]}])],
        r"experiments\[0\]\.window\[1\]\.preset\[1\]: expected one of .*did you mean 'livia'\?",
    ),
    ([entry(streams=[[AUDIO], VISUAL])], r"\[0\]\.streams\[1\]: expected a list, found 'visual"),
    ([entry(streams=[[AUDIO], [1]])], r"\[0\]\.streams\[1\]\[0\]: expected str, found 1"),
    ([entry(streams=AUDIO)], r"\[0\]\.streams: expected a list, found 'audio"),
    ([entry(width=[[1]])], r"\[0\]\.width\[0\]: expected int, found \[1\]"),
    ([entry(width=[])], r"\[0\]\.width: expected a value, or a list of at least one, found \[\]"),
    ([entry(training={"lr": []})], r"\[0\]\.training\.lr: expected a value, or a list of at least"),
    ([entry(window=[])], r"\[0\]\.window: expected a value, or a list of at least one, found \[\]"),
    ([entry(streams=[[]])], r"\[0\]\.streams: expected at least one, found \[\]"),
    ([entry(training={"seeds": [[0], []]})], r"\[0\]\.training\.seeds: expected at least one"),
    ([entry(window=3)], r"\[0\]\.window: expected keys and values, found 3"),
    ([entry(window=[3])], r"\[0\]\.window\[0\]: expected keys and values, found 3"),
    (["concat"], r"fuse\.experiments\[0\]: expected keys and values, found 'concat'"),
    ([{"head": ["concat", "jca"]}], r"fuse\.experiments\[0\]: missing .*'streams'"),
    ([entry(width=[4, 4])], r"\[0\]\.width: expected each value once, found \[4, 4\]"),
    ([entry(training={"lr": ["1e-3", 0.001]})], r"training\.lr: expected each value once"),
    (
        [entry(window=[{"length": 32}, {"preset": "short"}])],
        r"experiments\[0\]: .*'concat' over audio/resnet18 is listed twice, by itself",
    ),
    (
        [entry(width=[1, 2]), entry(width=[3, 2])],
        r"experiments\[1\]: .*is listed twice, by fuse\.experiments\[0\] too.*leave one out",
    ),
    ([entry(window={"length": 0}), entry(window={"length": 32})], r"\[1\]: .*is listed twice"),
    (
        [entry(width=[1, 2]), entry(fold=["six:0", "six:6"])],
        r"fuse\.experiments\[1\]\.fold: unknown fold 'six:6'; did you mean 'six:",
    ),
    (
        [entry(window={"length": [16, 4], "hop_scoring": 8})],
        r"fuse\.experiments\[0\]\.window\.hop_scoring: expected 1 to length \(4\).*found 8",
    ),
    (
        [entry(width=[1, 2]), entry(training={"epochs": [5, 2], "warmup": 2})],
        r"fuse\.experiments\[1\]\.training\.warmup: .*below epochs \(2\), found 2",
    ),
    (
        [entry(head=["concat", "jcaa"])],
        r"experiments\[0\]\.head: unknown head 'jcaa'; did you mean",
    ),
    (
        [entry(streams=[[AUDIO], ["audio/x"]])],
        r"\[0\]\.streams: stream 'audio/x' is not configured",
    ),
    (
        [entry(head=["concat", "rjcma"], window={"preset": ["short", "whole"]})],
        r"\[0\]\.window\.preset: head 'rjcma' takes windows of one length, found 'whole'",
    ),
]


@pytest.mark.parametrize(("entries", "message"), WRONG)
def test_wrong_entries_are_answered_where_they_are_written(entries, message):
    with pytest.raises(ConfigError, match=message):
        read(*entries)


def test_experiments_are_a_list():
    with pytest.raises(ConfigError, match=r"fuse\.experiments: expected a list, found \{"):
        parse_config({"fuse": {"experiments": entry()}})


@pytest.mark.parametrize("head", HEADS)
def test_whole_tracks_are_for_heads_of_any_length(head):
    streams = [AUDIO, VISUAL]
    keys = {"head": head, "streams": streams, "window": {"preset": "whole"}}
    if HEADS[head].length == "any":
        assert read(keys)[0].window.preset == "whole"
    else:
        with pytest.raises(
            ConfigError, match=r"that takes any length: concat, .*jca_any"
        ) as caught:
            read(keys)
        assert f" {head}," not in str(caught.value).partition("length: ")[2]


def test_a_users_own_head_takes_what_it_takes():
    (found,) = read(entry(head="my.heads:Mine", window={"preset": "whole"}))
    assert found.window.preset == "whole"


def test_an_explosion_is_refused():
    many = list(range(1, 41))
    grid = entry(width=many, k=many, training={"lr": many, "epochs": 3})
    with pytest.raises(ConfigError) as caught:
        read(entry(), grid, entry(d=[1, 2]))
    assert str(caught.value) == (
        "fuse.experiments: expected at most 10,000 experiments, found 64,003; "
        "fuse.experiments[1] alone gives 64,000 (width 40 * k 40 * training.lr 40); "
        "list fewer values, or divide them among several configurations"
    )


def test_an_explosion_is_refused_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(sweeps_module, "_nested", lambda *_: pytest.fail("made one"))
    with pytest.raises(ConfigError, match=r"found 10,201; .*\(width 101 \* k 101\)"):
        read(entry(width=list(range(101)), k=list(range(1, 102))))


def test_an_explosion_in_a_list_of_windows():
    many = list(range(100, 201))
    windows = [{}, {"length": many, "hop": many}]
    with pytest.raises(
        ConfigError, match=r"\[0\]\.window: .*window\[1\] alone gives 10,201 \(length"
    ):
        read(entry(window=windows))


def test_the_limit_itself_is_allowed():
    grid = entry(width=list(range(100)), k=list(range(1, 101)))
    assert len(read(grid)) == 10_000
    with pytest.raises(
        ConfigError, match=r"found 10,001; fuse\.experiments\[0\] alone gives 10,000"
    ):
        read(grid, entry(d=3))


@pytest.mark.parametrize(
    "bad",
    [
        entry(window={"lenght": [1]}),
        entry(width=["wide"]),
        entry(width=[]),
        entry(training={"optimiser": ["adam", "adm"]}),
        entry(streams=[[1]]),
        {"streams": [AUDIO]},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(bad):
    with pytest.raises(ConfigError):
        read(bad)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(configured(bad))


def test_the_schema_explains_and_widens_experiments_alone():
    fuse = SCHEMA["properties"]["fuse"]["properties"]
    inside = fuse["experiments"]["items"]["properties"]
    assert set(inside) == {field.name for field in dataclasses.fields(ExperimentSettings)}
    assert "six:0" in inside["fold"]["description"]
    assert all(one["anyOf"][1]["items"] == one["anyOf"][0] for one in inside.values())
    assert fuse["training"]["properties"]["lr"] == {"type": "number"}
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({"fuse": {"training": {"lr": [1, 2]}}})
