"""Progress of long work: a bar on a terminal, a plain line every 30 s elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

LINE_SECONDS = 30.0
Progress = Callable[[int, int, str], None]


@contextmanager
def progress(what: str) -> Generator[Progress]:
    """Show progress on standard error.

    Args:
        what: What is being done, such as `extract visual/resnet18 part 1/3`.

    Yields:
        A function to be called with (done, total, what comes next).
    """
    if sys.stderr.isatty():
        with _bar(what) as update:
            yield update
    else:
        yield _Lines(what)


@contextmanager
def _bar(what: str) -> Generator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None, text="")
        yield lambda done, total, text: bar.update(task, completed=done, total=total, text=text)


class _Lines:
    """Plain lines: the first and the last at once, others at most every 30 s."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._begun = time.monotonic()
        self._told: float | None = None

    def __call__(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        due = self._told is None or now - self._told >= LINE_SECONDS or done == total
        if not due:
            return
        self._told = now
        spent = now - self._begun
        left = f", about {spent / done * (total - done):.0f} s left" if 0 < done < total else ""
        line = f"{self._what}: {done}/{total} after {spent:.0f} s{left}; {text}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is the log of a job


def note(text: str) -> None:
    """Write a line on standard error; above the bar, where there is one."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the log of a job
