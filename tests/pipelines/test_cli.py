"""The command: quick help, clear errors, exit codes."""

import json
import subprocess
import sys
import time

import pytest
from concord.pipelines.cli import GROUPS

PAGES = [[], *([name] for name in GROUPS)]


def concord(*arguments, **kwargs):
    command = [sys.executable, "-m", "concord.pipelines", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: "-".join(page) or "concord")
def test_help_comes_at_once_and_names_its_commands(page):
    spent = []
    for _ in range(3):
        begun = time.perf_counter()
        done = concord(*page, "--help")
        spent.append(time.perf_counter() - begun)
    assert done.returncode == 0
    assert "Usage" in done.stdout
    print(f"concord {' '.join(page)} --help: {min(spent):.2f} s")
    # Nothing heavy may be imported; the bound is on the best of three since machines are shared.
    assert min(spent) < 0.4


def test_help_of_the_command_lists_every_group():
    text = concord("--help").stdout
    for name, line in GROUPS.items():
        assert name in text
        assert line.split(":")[0] in text


def test_version():
    from importlib.metadata import version

    assert version("concord") in concord("--version").stdout


def test_a_misspelt_key_is_answered_with_the_right_one():
    done = concord("data", "config", "--config", '{"failure_bugdet": 0.5}')
    assert done.returncode == 2
    assert "failure_bugdet: unknown key; did you mean 'failure_budget'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_errors_say_what_where_and_what_to_do(tmp_path):
    done = concord("cache", "ls", tmp_path)
    assert done.returncode == 5
    assert f"{tmp_path}: no store here" in done.stderr
    assert "run the extraction" in done.stderr


def test_unknown_commands_and_options_are_usage_errors():
    assert concord("cash").returncode == 2
    assert concord("cache", "ls").returncode == 2
    done = concord("extract", "run", "--config", "{}", "--part", "3/2")
    assert done.returncode == 2
    assert "1 <= i <= n" in done.stderr


def test_a_stream_that_is_not_configured():
    done = concord("extract", "run", "--config", "{}", "--stream", "visual/i3d", "--device", "cpu")
    assert done.returncode == 2
    assert "stream 'visual/i3d' is not configured; configured: labels/va" in done.stderr


def test_the_configuration_is_printed_in_full():
    found = json.loads(concord("data", "config", "--config", '{"parts": 7}').stdout)
    assert found["parts"] == 7
    assert found["fuse"]["window"]["preset"] == "short"


def test_heads_are_listed():
    found = json.loads(concord("fuse", "heads", "--json").stdout)
    lengths = {line["head"]: line["length"] for line in found}
    assert len(lengths) == 16
    assert (lengths["concat"], lengths["jca"], lengths["jca_any"]) == ("any", "fixed", "any")
    assert {line["variant"] for line in found} == {"paper", "code"}
    shown = concord("fuse", "heads").stdout
    assert all(name in shown for name in ("jca", "rjcma:code", "temperature", "2203.14779"))


def test_tracks_are_listed_from_names_alone(tmp_path):
    config = {"data": {"adapter": "demo", "profile": "tiny", "path": str(tmp_path / "none")}}
    found = json.loads(concord("data", "tracks", "--config", json.dumps(config), "--json").stdout)
    assert {track["split"] for track in found} == {"train", "val"}
    assert not (tmp_path / "none").exists()


def test_a_folder_that_is_no_data_set(tmp_path):
    config = {"data": {"adapter": "affwild2", "path": str(tmp_path)}}
    done = concord("data", "tracks", "--config", json.dumps(config))
    assert done.returncode == 4
    assert "no label files; expected VA_Estimation_Challenge" in done.stderr
