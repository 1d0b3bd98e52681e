"""Downloads from a server of our own, which breaks off, sends other bytes, or knows no ranges."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atrous.data.preparation.downloads import download
from atrous.errors import AtrousError

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Counts requests; ``ranges`` of what it was asked for; how many bytes it sends before it breaks off, each time."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.knows_ranges, self.breaks_off, self.status = CONTENT, True, [], 200
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data.tar"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.knows_ranges else 0
        content = self.server.content[first:]
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        if first and not content:
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content)))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{first + len(content) - 1}/{len(self.server.content)}")
        self.end_headers()
        if self.server.breaks_off:
            self.wfile.write(content[: self.server.breaks_off.pop(0)])
        else:
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def fetch(server: Server, target: Path) -> None:
    download(server.url, target, md5=MD5, pause=0.01)


def test_a_file_is_fetched_once(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        fetch(server, tmp_path / "new" / "data.tar")
    assert (tmp_path / "new" / "data.tar").read_bytes() == CONTENT
    assert server.asked == [None]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["data.tar"]
    assert "fetching data.tar.part: 100 % of 3 MiB" in capsys.readouterr().out


def test_a_transfer_that_breaks_off_goes_on(server: Server, tmp_path: Path) -> None:
    server.breaks_off = [1_500_000, 0, 700_000]
    fetch(server, tmp_path / "data.tar")
    assert (tmp_path / "data.tar").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1500000-", "bytes=1500000-", "bytes=2200000-"]


def test_a_later_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.breaks_off = [100_000] * 5
    with pytest.raises(AtrousError, match="broke off 5 times, with 500000 bytes so far: start again"):
        fetch(server, tmp_path / "data.tar")
    assert not (tmp_path / "data.tar").exists()
    fetch(server, tmp_path / "data.tar")
    assert (tmp_path / "data.tar").read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=500000-"


@pytest.mark.parametrize("have", [10, len(CONTENT)])
def test_a_server_without_ranges_begins_again(server: Server, have: int, tmp_path: Path) -> None:
    (tmp_path / "data.tar.part").write_bytes(b"x" * have)
    server.knows_ranges = False
    fetch(server, tmp_path / "data.tar")
    assert (tmp_path / "data.tar").read_bytes() == CONTENT


def test_what_is_complete_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.tar.part").write_bytes(CONTENT)
    fetch(server, tmp_path / "data.tar")
    assert (tmp_path / "data.tar").read_bytes() == CONTENT


def test_a_wrong_check_sum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(AtrousError, match="is not what it should be"):
        fetch(server, tmp_path / "data.tar")
    assert not list(tmp_path.iterdir())
    (tmp_path / "data.tar").write_bytes(b"of the user")
    with pytest.raises(AtrousError, match="is there but is not the file"):
        fetch(server, tmp_path / "data.tar")
    assert (tmp_path / "data.tar").read_bytes() == b"of the user"


def test_what_cannot_be_fetched_is_one_sentence(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(AtrousError, match=r"cannot be fetched: the server says 404 Not Found"):
        fetch(server, tmp_path / "data.tar")
    server.status = 503
    with pytest.raises(AtrousError, match="broke off 5 times, with 0 bytes"):
        fetch(server, tmp_path / "data.tar")
    with pytest.raises(AtrousError, match="no address of a file on the network"):
        download(f"file://{tmp_path}/a", tmp_path / "b", md5=MD5)
    with pytest.raises(AtrousError, match=r"cannot be fetched: .*refused"):
        download("http://127.0.0.1:9/data.tar", tmp_path / "data.tar", md5=MD5)
