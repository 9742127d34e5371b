"""Configuration: what is right is read, what is wrong is answered with what is right."""

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from concord.cache import ConfigError
from concord.extract.settings import AudioSettings, VisualSettings
from concord.fuse.settings import WindowSettings
from concord.pipelines.config import Config, load_config, parse_config
from concord.pipelines.schema import json_schema

BOTH = ["audio/resnet18", "visual/i3d"]
DEMO = Path(__file__).parents[2] / "pipelines" / "configs" / "demo.yaml"

WRONG = [
    ({"part": 3}, r"part: unknown key; did you mean 'parts'\?"),
    ({"data": {"adaptor": "demo"}}, r"data\.adaptor: unknown key; did you mean 'adapter'\?"),
    (
        {"fuse": {"training": {"patiance": 3}}},
        r"fuse\.training\.patiance: unknown key; did you mean 'patience'\?",
    ),
    (
        {"streams": {"visual/resnet18": {"weigths": "seeded"}}},
        r"streams\.visual/resnet18\.weigths: unknown key; did you mean 'weights'\?",
    ),
    ({"streams": {"vizual/resnet18": {}}}, r"did you mean 'visual'\?"),
    ({"streams": {"resnet18": {}}}, "expected a stream name such as visual/resnet18"),
    (
        {
            "streams": {"audio/resnet18": {}},
            "fuse": {"experiments": [{"head": "jcaa", "streams": ["audio/resnet18"]}]},
        },
        r"experiments\[0\]\.head: unknown head 'jcaa'; did you mean 'jca'\?",
    ),
    ({"fuse": {"experiments": [{"head": "jca"}]}}, r"experiments\[0\]: missing .*'streams'"),
    (
        {"fuse": {"experiments": [{"head": "concat", "streams": ["visual/i3d"]}]}},
        r"stream 'visual/i3d' is not configured",
    ),
    ({"groups": {"both": ["audio/resnet"]}, "streams": {"audio/resnet18": {}}}, "did you mean"),
    ({"parts": "4"}, "parts: expected int, found '4'"),
    ({"parts": True}, "parts: expected int, found True"),
    ({"failure_budget": "much"}, "failure_budget: expected float, found 'much'"),
    ({"fuse": {"training": {"seeds": 3}}}, r"fuse\.training\.seeds: expected a list, found 3"),
    ({"parts": 0}, "parts: expected at least 1, found 0"),
    ({"device": "gpu"}, "device: expected auto, cpu or cuda:N, found 'gpu'"),
    ({"failure_budget": 5}, "failure_budget: expected 0 to 1, found 5"),
    ({"data": {"name": "my data"}}, r"data\.name: expected letters.*found 'my data'"),
    (
        {"streams": {"visual/i3d": {"backbone": "resnet18"}}},
        r"name says 'i3d', but its backbone is 'resnet18'",
    ),
    ({"streams": {"visual/i3d": {}}}, r"visual/i3d\.weights: i3d has none .* give a file"),
    ({"streams": {"visual/r3d": {}}}, r"unknown backbone 'r3d', .*did you mean 'r3d18'"),
    (
        {"streams": {"visual/r3d18": {"window": {"spacing": 0}}}},
        r"streams\.visual/r3d18\.window\.spacing: expected at least 1, found 0",
    ),
    ({"streams": {"audio/resnet18": {"stride": 0}}}, r"resnet18\.stride: expected at least 1"),
    (
        {"streams": {"audio/resnet18": {}}, "groups": {"audio-resnet18": ["audio/resnet18"]}},
        "a stream's own job has that name",
    ),
    (
        {"streams": {"audio/resnet18": {}}, "groups": {n: ["audio/resnet18"] for n in "ab"}},
        r"groups\.b: stream 'audio/resnet18' is in group 'a' too",
    ),
    (
        {"fuse": {"window": {"length": 4, "hop_scoring": 8}}},
        r"fuse\.window\.hop_scoring: expected 1 to length \(4\), so that every row.*found 8",
    ),
    (
        {"fuse": {"window": {"preset": "livia", "hop_scoring": 513}}},
        r"hop_scoring: expected 1 to length \(16\) times dilation \(32\) = 512.*found 513",
    ),
    ({"fuse": {"window": {"hop_scoring": -1}}}, r"window\.hop_scoring: expected 1 to .*found -1"),
    ({"fuse": {"window": {"hop": -1}}}, r"window\.hop: expected at least 1, found -1"),
    ({"fuse": {"window": {"length": -1}}}, r"window\.length: expected at least 1, found -1"),
    ({"fuse": {"window": {"dilation": -1}}}, r"window\.dilation: expected at least 1, found -1"),
    ({"fuse": {"window": {"preset": "livea"}}}, r"window\.preset: .*did you mean 'livia'\?"),
    ({"fuse": {"training": {"seeds": []}}}, r"seeds: expected at least one, found \[\]"),
    ({"fuse": {"training": {"seeds": [1, 1]}}}, r"seeds: expected each once, found \[1, 1\]"),
    ({"fuse": {"training": {"seeds": [-1]}}}, r"seeds: expected 0 or more each, found \[-1\]"),
    ({"fuse": {"training": {"epochs": 0}}}, r"epochs: expected at least 1, found 0"),
    ({"fuse": {"training": {"patience": 0}}}, r"training\.patience: expected at least 1, found 0"),
    ({"fuse": {"training": {"batch": 0}}}, r"training\.batch: expected at least 1, found 0"),
    ({"fuse": {"training": {"every": 0}}}, r"training\.every: expected at least 1, found 0"),
    ({"fuse": {"training": {"warmup": -1}}}, r"training\.warmup: expected 0 or more, below .* -1"),
    (
        {"fuse": {"training": {"warmup": 3, "epochs": 3}}},
        r"training\.warmup: expected 0 or more, below epochs \(3\), found 3",
    ),
    ({"fuse": {"training": {"lr": 0}}}, r"training\.lr: expected more than 0, found 0\.0"),
    (
        {"fuse": {"training": {"lr": float("nan")}}},
        r"training\.lr: expected more than 0, found nan",
    ),
    ({"fuse": {"training": {"clip": 0}}}, r"training\.clip: expected more than 0, found 0\.0"),
    ({"fuse": {"training": {"momentum": 1}}}, r"training\.momentum: expected 0 or more and less"),
    (
        {"fuse": {"training": {"momentum": -0.1}}},
        r"training\.momentum: expected 0 or more and less",
    ),
    (
        {"fuse": {"training": {"decay": 1}}},
        r"training\.decay: expected more than 0 and less than 1",
    ),
    (
        {"fuse": {"training": {"decay": 0}}},
        r"training\.decay: expected more than 0 and less than 1",
    ),
    ({"fuse": {"training": {"weight_decay": -0.1}}}, r"weight_decay: expected 0 or more, found -0"),
    (
        {"fuse": {"training": {"lr": [1e-3, 1e-4]}}},
        r"fuse\.training\.lr: expected float, .*go into an entry of fuse\.experiments",
    ),
    (
        {"fuse": {"training": {"optimiser": ["adam", "sgd"]}}},
        r"training\.optimiser: expected one of .*go into an entry of fuse\.experiments",
    ),
    ({"fuse": {"smoothing": "box:0"}}, r"fuse\.smoothing: unknown smoothing 'box:0'"),
    ({"fuse": {"smoothing": "box:9,"}}, r"fuse\.smoothing: unknown smoothing 'box:9,'"),
    (
        {"fuse": {"smoothing": "box:9", "protocol": "livia"}},
        r"fuse\.smoothing: protocol 'livia' smooths by itself",
    ),
    ({"fuse": {"protocol": "oficial"}}, r"fuse\.protocol: .*did you mean 'official'\?"),
    ({"fuse": {"resamples": 99}}, r"fuse\.resamples: expected at least 100, found 99"),
    ({"fuse": {"batches": 0}}, r"fuse\.batches: expected at least 1, found 0"),
    ({"fuse": {"memory": -1}}, r"fuse\.memory: expected at least 0, found -1\.0"),
    ({"fuse": {"traces": -1}}, r"fuse\.traces: expected at least 0, found -1"),
    (
        {"fuse": {"experiments": [{"head": "concat", "streams": []}]}},
        r"experiments\[0\]\.streams: expected at least one",
    ),
    (
        {
            "streams": {"audio/resnet18": {}},
            "fuse": {"experiments": [{"head": "jca", "streams": ["audio/resnet18"]}]},
        },
        r"experiments\[0\]\.head: head 'jca': expected modalities: two or more",
    ),
    (
        {
            "streams": {"audio/resnet18": {}},
            "fuse": {"experiments": [{"head": "concat", "streams": ["audio/resnet18"]}] * 2},
        },
        r"experiments\[1\]: .*'concat' over audio/resnet18 is listed twice, by .*\[0\] too",
    ),
    ({"data": ["demo"]}, "data: expected keys and values"),
    (["demo"], "configuration: expected keys and values"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_wrong_values_are_answered(values, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(values)


def test_the_demo_configuration_is_read():
    config = load_config(DEMO)
    assert config.parts == 2
    assert config.streams["visual/resnet18"] == VisualSettings(
        weights="seeded", resize=112, crop=112
    )
    assert config.streams["audio/resnet18"] == AudioSettings(weights="seeded")
    assert [e.head for e in config.fuse.experiments] == ["concat", "concat", "concat", "jca"]


def test_nothing_is_needed():
    assert parse_config({}) == Config()


def test_a_whole_number_does_where_a_fraction_is_meant():
    assert parse_config({"failure_budget": 1}).failure_budget == 1.0


def test_numbers_that_yaml_takes_for_text():
    assert parse_config(yaml.safe_load("fuse: {training: {lr: 1e-3}}")).fuse.training.lr == 1e-3


def test_the_printed_configuration_reads_back():
    config = load_config(DEMO)
    assert load_config(json.dumps(dataclasses.asdict(config))) == config


def test_whole_tracks_have_no_length_and_no_hops():
    window = {"preset": "whole", "length": -1, "hop": -1, "hop_scoring": -1}
    assert parse_config({"fuse": {"window": window}}).fuse.window.resolved().length == 0


@pytest.mark.parametrize(
    "window",
    [
        {"length": 8, "hop_scoring": 8},
        {"length": 8, "dilation": 2, "hop_scoring": 16},
        {"preset": "livia", "hop_scoring": 512},
        {"preset": "sucv", "hop": 1000},
        {"length": 1},
    ],
)
def test_windows_that_predict_every_row(window):
    assert dataclasses.asdict(parse_config({"fuse": {"window": window}}).fuse.window) == {
        **dataclasses.asdict(WindowSettings()),
        **window,
    }


@pytest.mark.parametrize("smoothing", ["none", "box:1", "box:20", "box:20,50"])
def test_smoothing(smoothing):
    assert parse_config({"fuse": {"smoothing": smoothing}}).fuse.smoothing == smoothing


def test_folders_are_tidied():
    found = parse_config({"data": {"path": "~/data/"}, "results": "./results//mine/"})
    assert found.data.path == str(Path.home() / "data")
    assert found.results == "results/mine"


def test_text_that_is_not_json():
    with pytest.raises(ConfigError, match="not JSON"):
        load_config("{bad")


def test_the_schema_explains_fields():
    fields = json_schema()["properties"]
    assert fields["device"]["description"] == "auto, cpu, or cuda:N."
    assert "quarantine" in fields["failure_budget"]["description"]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"my\.yaml: cannot be read: No such file"):
        load_config(tmp_path / "my.yaml")


def test_a_file_that_is_not_yaml(tmp_path):
    (tmp_path / "my.yaml").write_text("data: [")
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(tmp_path / "my.yaml")


def test_the_schema_takes_what_the_reader_takes():
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(yaml.safe_load(DEMO.read_text()), json_schema())
    jsonschema.validate(json.loads(json.dumps(dataclasses.asdict(Config()))), json_schema())


@pytest.mark.parametrize(
    "values",
    [
        values
        for values, message in WRONG
        if "not configured" not in message and "unknown head" not in message
    ][:7],
)
def test_the_schema_refuses_what_the_reader_refuses(values):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, json_schema())


def test_every_setting_is_explained():
    def undocumented(kind):
        lines = Path(__file__).parents[2].joinpath(*kind.__module__.split(".")[1:])
        text = lines.with_suffix(".py").read_text()
        body = text.split(f"class {kind.__name__}:")[1].split("\n@dataclass")[0]
        for field in dataclasses.fields(kind):
            after = body.split(f"\n    {field.name}: ", 1)[1].split("\n", 1)[1]
            if field.name not in EVIDENT and not after.lstrip().startswith('"""'):
                yield field.name

    assert not list(undocumented(Config))


EVIDENT = {"data", "fuse"}


def test_a_configuration_is_laid_over_a_shipped_one():
    own = {
        "base": "rjcma",
        "data": {"path": "mine"},
        "streams": {"text/bert": None, "visual/i3d": {"stride": 4}},
        "fuse": {"training": {"seeds": [7]}, "experiments": [{"head": "concat", "streams": BOTH}]},
    }
    below = yaml.safe_load((DEMO.parent / "jca.yaml").read_text())  # Over which rjcma is laid.
    config = parse_config(own)
    assert list(config.streams) == list(below["streams"])
    i3d = config.streams["visual/i3d"]
    assert (i3d.stride, i3d.weights) == (4, below["streams"]["visual/i3d"]["weights"])
    assert (config.data.adapter, config.data.path) == ("affwild2", "mine")
    assert config.fuse.training.seeds == (7,)
    assert config.fuse.training.epochs == below["fuse"]["training"]["epochs"]
    assert [each.head for each in config.fuse.experiments] == ["concat"]
    assert config.fuse.window.preset == "sucv"


def test_every_shipped_configuration_can_be_laid_under_and_named_wrongly():
    shipped = [path.stem for path in DEMO.parent.glob("*.yaml")]
    assert {"ablation", "jca", "jmt", "rjcma", "demo"} <= set(shipped)
    for name in shipped:
        assert parse_config({"base": name}) == load_config(DEMO.parent / f"{name}.yaml")
    with pytest.raises(ConfigError, match=r"base: expected one of .*did you mean 'ablation'\?"):
        parse_config({"base": "ablatoin"})
    with pytest.raises(ConfigError, match="base: expected one of"):
        parse_config({"base": 3})
