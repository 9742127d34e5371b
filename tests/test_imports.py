"""The house: imports point down only, and nobody uses the bare names of the folders."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "cache": {"cache"},
    "extract": {"extract", "cache"},
    "fuse": {"fuse", "cache"},
    "pipelines": {"pipelines", "extract", "fuse", "cache"},
}
MODULES = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).glob("*.py"))]


def imported(path):
    """Give the modules that a file imports, relative ones spelt out as concord.…"""
    package = ["concord", path.parent.name]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_imports_point_down(path):
    for name in imported(path):
        first, *rest = name.split(".")
        assert first not in MAY_IMPORT, f"bare name {name}"
        if first == "concord" and rest and rest[0] in MAY_IMPORT:
            assert rest[0] in MAY_IMPORT[path.parent.name], name


def test_the_check_sees_what_it_forbids(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    file = folder / "bad.py"
    file.write_text("def f():\n    from ..extract import dataset\n    import fuse.heads\n")
    assert "concord.extract" in set(imported(file))
    assert "fuse.heads" in set(imported(file))


def test_folders_are_flat():
    for folder in MAY_IMPORT:
        assert not list((ROOT / folder).glob("*/__init__.py"))


def test_what_the_workflow_reads_is_light():
    import subprocess
    import sys

    code = "import sys, concord.pipelines.plan; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "zarr", "h5py", "dask", "decord", "snakemake"}
    assert not heavy & set(loaded.stdout.split())
