"""Devices: choosing one, and keeping a GPU to one process."""

from __future__ import annotations

import ctypes
import fcntl
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..cache import ConfigError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Of malloc.h."""
LARGEST = 2**31 - 1
USUAL = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20}
"""What glibc arrives at by itself in a process with large tensors (mallopt(3))."""


def set_up_torch(threads: int) -> None:
    """Bound torch's threads on the processor (0: torch's choice), and ask for repeatable sums in
    full float32, which recipes promise.
    """  # noqa: D205
    # Without it, cuBLAS refuses to work under deterministic algorithms.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    if threads:
        torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False
    # As use_deterministic_algorithms(True), without loading the compiler for a second and a half.
    torch.set_deterministic_debug_mode("error")
    # What nobody reads need not be filled; it would be done anew for every result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]


def keep_memory() -> None:
    """Ask the C library to keep the memory of freed tensors instead of giving it back.

    A next step of training needs it again, and getting pages from the system anew costs more than
    the arithmetic on them. Elsewhere than with glibc nothing happens.
    """
    _tell_malloc({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: LARGEST})


def _tell_malloc(options: Mapping[int, int]) -> None:
    try:
        libc = ctypes.CDLL("libc.so.6")
        for option, value in options.items():
            libc.mallopt(option, value)
    except (OSError, AttributeError):
        return


@contextmanager
def held_device(name: str) -> Generator[str]:
    """Choose a device and hold it: a GPU is locked by a file that dies with this process.

    Args:
        name: cpu, cuda:N, or auto: the first free GPU, waiting for one if all are taken, else
            the processor.

    Yields:
        `cpu` or `cuda:N`.

    Raises:
        ConfigError: No such device.
    """
    if name == "cpu":
        yield "cpu"
        return
    import torch

    count = torch.cuda.device_count()
    if name == "auto" and not count:
        yield "cpu"
        return
    wanted = list(range(count)) if name in {"auto", "cuda"} else [_number(name, count)]
    handle, number = _lock(wanted)
    try:
        yield f"cuda:{number}"
    finally:
        os.close(handle)


@contextmanager
def prepared_device(name: str, threads: int) -> Generator[str]:
    """Set up torch and memory in this process, and hold a device.

    Dask starts its workers with a C library that gives back whatever is freed (its setting
    `distributed.nanny.pre-spawn-environ`), which a forward pass then waits for again, page by page.
    Every process gets what is usual.

    Args:
        name: As for `held_device`.
        threads: As for `set_up_torch`.

    Yields:
        `cpu` or `cuda:N`.
    """
    set_up_torch(threads)
    _tell_malloc(USUAL)
    with held_device(name) as held:
        yield held


def _number(name: str, count: int) -> int:
    kind, _, number = name.partition(":")
    if kind != "cuda" or not number.isdecimal() or int(number) >= count:
        raise ConfigError(
            f"device {name!r}: expected auto, cpu or cuda:N, with N below {count} on this machine"
        )
    return int(number)


def _lock(numbers: list[int]) -> tuple[int, int]:
    """Lock one of these GPUs: the first free one, or wait for the first."""
    for number in numbers:
        handle = _open(number)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
        else:
            return handle, number
    handle = _open(numbers[0])
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle, numbers[0]


def _identity(number: int) -> str:
    """Name a GPU as every process does, whichever of them it sees and as which number."""
    import torch

    if number < torch.cuda.device_count():
        return str(torch.cuda.get_device_properties(number).uuid)
    return str(number)


def _open(number: int) -> int:
    path = Path(tempfile.gettempdir()) / f"concord-cuda-{_identity(number)}.lock"
    try:
        # Another user's file can be locked as well: reading rights are enough.
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
