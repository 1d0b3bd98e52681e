"""Files from the network: transfers go on where they ended, and a file counts once its check sum is right."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from atrous.errors import AtrousError
from atrous.terminal import track_bytes

_CHUNK = 1 << 20
_ATTEMPTS = 5
_TIMEOUT = 30.0  # seconds without a byte
_PARTIAL = ".part"


def download(url: str, target: Path, *, md5: str | None, pause: float = 1.0) -> None:
    """Fetch a file, unless it is there with the right check sum.

    What arrives is kept beside the target. A transfer that breaks off is taken up again some times; after that, and
    after a kill, the next call goes on where it ended.

    Args:
        url: Where the file is, by http or https.
        target: Where it is written; its folder is created if it is missing.
        md5: Its check sum in hexadecimal; ``None`` where none is published, and the file's length decides.
        pause: Seconds before the second attempt; each further one waits twice as long.

    Raises:
        AtrousError: The server has no such file, the transfer breaks off again and again, or the check sum is wrong.
        OSError: The disk is full or cannot be written to.
    """
    if not url.startswith(("http://", "https://")):
        raise AtrousError(f"{url} is no address of a file on the network")
    if target.is_file():
        if md5 in (None, digest(target)):
            return
        raise AtrousError(f"{target} is there but is not the file from {url} (its check sum differs): move it away")
    partial = target.with_name(target.name + _PARTIAL)
    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        if _fetch(url, partial):
            break
    else:
        have = partial.stat().st_size if partial.exists() else 0
        raise AtrousError(
            f"the transfer of {url} broke off {_ATTEMPTS} times, with {have} bytes so far: start again, it goes on "
            "from there"
        )
    if md5 not in (None, digest(partial)):
        partial.unlink()
        raise AtrousError(f"{url} is not what it should be (its check sum differs), so it was removed: start again")
    os.replace(partial, target)


def digest(path: Path) -> str:
    """The MD5 check sum of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fetch(url: str, partial: Path) -> bool:
    """Fetch what is missing; whether the file is complete then."""
    have = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            goes_on = answer.status == http.client.PARTIAL_CONTENT and _begins_at(answer, have)
            have = have if goes_on else 0  # a server without ranges sends the whole file
            length = answer.headers.get("Content-Length")
            total = None if length is None else have + int(length)
            with partial.open("ab") as file:
                file.truncate(have)
                for chunk in track_bytes(_chunks(answer), f"fetching {partial.name}", done=have, total=total):
                    file.write(chunk)
            return total is None or partial.stat().st_size == total
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # nothing is missing, or the check sum will tell
        if error.code >= 500:
            return False
        raise AtrousError(f"{url} cannot be fetched: the server says {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if have:
            return False
        raise AtrousError(f"{url} cannot be fetched: {error.reason}") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError):
        return False


def _begins_at(answer: Any, have: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _chunks(answer: IO[bytes]) -> Iterator[bytes]:
    while chunk := answer.read(_CHUNK):
        yield chunk
