"""The wheel: complete, and nothing but `concord` in it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("cache", "extract", "fuse", "pipelines")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    import shutil

    source = tmp_path_factory.mktemp("source")
    for name in (*FOLDERS, "pyproject.toml", "README.md", "LICENSE"):
        where = ROOT / name
        if where.is_dir():
            shutil.copytree(where, source / name)
        else:
            shutil.copy(where, source)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(out.glob("*.whl"))) as file:
        yield file


def test_holds_every_file_of_the_four_folders(wheel):
    expected = {
        f"concord/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.parent.name != "images"
    }
    assert expected <= set(wheel.namelist())


def test_holds_nothing_but_concord(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"concord"}


def test_is_typed_and_has_its_command(wheel):
    names = wheel.namelist()
    assert all(f"concord/{folder}/py.typed" in names for folder in FOLDERS)
    entry = next(name for name in names if name.endswith("entry_points.txt"))
    assert "concord = concord.pipelines.cli:main" in wheel.read(entry).decode()
    assert any(name.endswith("licenses/LICENSE") for name in names)
