"""Commands run in the tests' own process: starting Python and torch takes seconds each time."""

from __future__ import annotations

import io
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass

import torch
from concord.pipelines.cli import main


@dataclass(frozen=True)
class Done:
    """As of `subprocess.run`."""

    returncode: int
    stdout: str
    stderr: str


def concord(*arguments, cwd=None):
    """Run `concord …`, in another folder if need be; torch is set up as before afterwards."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    try:
        with chdir(cwd or "."), redirect_stdout(out), redirect_stderr(err):
            main([*map(str, arguments)])
    except SystemExit as exit_:
        code = exit_.code or 0
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
        torch.utils.deterministic.fill_uninitialized_memory = filled
    return Done(code, out.getvalue(), err.getvalue())
