"""Reading by plain HTTP from servers that are not trusted: never more than was asked for."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from .errors import RemoteError
from .place import too_large

SILENT_SECONDS = 60.0
"""Longest wait for the next byte."""
SLOWEST = 20_000
"""Bytes per second below which a transfer is given up, after a minute's grace."""
PIECE = 1 << 16
OK, PARTIAL = 200, 206
REDIRECTS = {301, 302, 303, 307, 308}


class _BusyError(ConnectionError):
    """The server cannot answer now."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def read_whole(system: Any, url: str, limit: int) -> bytes:
    """Give a file of at most `limit` bytes.

    Raises:
        FileNotFoundError: There is none.
        StoreError: It is larger; no more than the limit has been read.
        RemoteError: The server redirects, or answers something else than the file.
    """
    return _run(system, url, None, limit)


def read_range(system: Any, url: str, start: int, stop: int) -> bytes:
    """Give a file's bytes from `start` to before `stop`; fewer where the file ends earlier.

    Raises:
        FileNotFoundError: There is no such file.
        RemoteError: The server redirects, or knows no ranges.
    """
    return _run(system, url, (start, stop), stop - start)


def _run(system: Any, url: str, stretch: tuple[int, int] | None, limit: int) -> bytes:
    from fsspec.asyn import sync

    content: Any = sync(system.loop, _get, system, url, stretch, limit)
    return content


async def _get(system: Any, url: str, stretch: tuple[int, int] | None, limit: int) -> bytes:
    from aiohttp import ClientTimeout

    session = await system.set_session()
    headers = {"Accept-Encoding": "identity"}
    if stretch is not None:
        headers["Range"] = f"bytes={stretch[0]}-{stretch[1] - 1}"
    total = SILENT_SECONDS + limit / SLOWEST
    async with session.get(
        system.encode_url(url),
        headers=headers,
        allow_redirects=False,
        timeout=ClientTimeout(total=total, sock_read=SILENT_SECONDS),
    ) as answer:
        _check(answer, url, stretch)
        declared = answer.content_length or 0
        pieces: list[bytes] = []
        size = 0
        if declared <= limit:
            async for piece in answer.content.iter_chunked(PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    break
        if max(size, declared) > limit:
            # Nobody waits for the rest of what was not asked for.
            answer.close()
            raise _more(url, stretch, limit, max(size, declared))
        return b"".join(pieces)


def _check(answer: Any, url: str, stretch: tuple[int, int] | None) -> None:
    status: int = answer.status
    if status in REDIRECTS:
        host = urlsplit(answer.headers.get("Location", "")).hostname or "elsewhere"
        raise RemoteError(
            f"{url}: the server redirects to {ascii(host)[1:-1]:.100}, which is not followed; "
            "if you trust that host, add the remote under its URL"
        )
    if status in (404, 410):
        raise FileNotFoundError(url)
    if status in (401, 403):
        raise PermissionError(status, "refused")
    if status >= 500 or status == 429:
        raise _BusyError(status)
    encoded = answer.headers.get("Content-Encoding", "identity")
    if encoded != "identity":
        raise RemoteError(f"{url}: the server sends compressed what is to be sent as it is")
    if stretch is None:
        if status != OK:
            raise RemoteError(f"{url}: expected status {OK}, found {status}")
        return
    begins = answer.headers.get("Content-Range", "").startswith(f"bytes {stretch[0]}-")
    if status != PARTIAL or not begins:
        raise RemoteError(
            f"{url}: expected bytes {stretch[0]} to {stretch[1]} (status {PARTIAL}), found status "
            f"{status}: the file is shorter, or the server gives no ranges of bytes"
        )


def _more(url: str, stretch: tuple[int, int] | None, limit: int, size: int) -> Exception:
    if stretch is None:
        return too_large(url, size)
    return RemoteError(f"{url}: asked for {limit} bytes, the server sends {size} or more")
