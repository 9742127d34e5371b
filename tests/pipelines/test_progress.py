"""Progress off a terminal: the first line at once, then at most one every 30 s, then the last."""

import os
import pty
import subprocess
import sys

from concord.pipelines import progress as module
from concord.pipelines.progress import progress


def test_plain_lines_are_few(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress("extract") as told:
        for done in range(100):
            told(done, 100, f"source {done}")
            now[0] += 1
        told(100, 100, "done")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "extract: 0/100 after 0 s; source 0"
    assert lines[1] == "extract: 30/100 after 30 s, about 70 s left; source 30"
    assert lines[-1] == "extract: 100/100 after 100 s; done"
    assert len(lines) == 5


def test_a_terminal_gets_a_bar():
    script = (
        "from concord.pipelines.progress import progress\n"
        "with progress('extract') as told:\n"
        "    for i in range(3): told(i, 2, f'source {i}')\n"
    )
    reader, writer = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", script], stderr=writer) as process:
        os.close(writer)
        shown = b"".join(iter(lambda: read(reader), b""))
    os.close(reader)
    assert process.returncode == 0
    assert b"extract" in shown
    assert b"2/2" in shown


def read(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # a terminal whose other end is closed
        return b""
