"""Rights: a folder that a group writes in stays so, whatever the umask of those who add to it.

What is new takes over the group's rights and the setgid bit of the folder that it lies in, so a
store is shared by making its root once: `chgrp team store && chmod 2770 store`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_FOLDER = stat.S_IRWXG | stat.S_ISGID
_FILE = stat.S_IRGRP | stat.S_IWGRP


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing; each as the one above it."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir()
        hand_down(path)


def hand_down(path: Path) -> None:
    """Give a new file, or a new folder with all below it, the group's rights of the folder above.

    Where the group may not write there, or everybody may, nothing changes.
    """
    given = path.parent.stat().st_mode
    if not given & stat.S_IWGRP or given & stat.S_IWOTH:
        return
    for each in _below(path):
        mode = each.lstat().st_mode
        wanted = mode | given & (_FOLDER if stat.S_ISDIR(mode) else _FILE)
        if wanted != mode and not stat.S_ISLNK(mode):
            # Somebody else's, in a race for one name: theirs to set.
            with suppress(PermissionError):
                each.chmod(stat.S_IMODE(wanted))


def _below(path: Path) -> Iterator[Path]:
    yield path
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in (*folders, *files))
