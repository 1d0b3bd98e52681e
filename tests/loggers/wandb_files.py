"""What W&B wrote offline, read without it."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def records(run_dir: Path) -> list[Any]:
    """What the offline runs of a folder would send, in the order in which it was logged."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: list[Any] = []
    for file in sorted((run_dir / "wandb").glob("offline-run-*/run-*.wandb")):
        for _ in range(200):  # W&B writes the end after it has said that it has finished
            written = [Record.FromString(content) for content in log_of(file.read_bytes())]
            if written and written[-1].HasField("exit"):
                break
            time.sleep(0.05)
        found += written
    return found


def artifacts(run_dir: Path) -> list[Any]:
    return [each.artifact for each in records(run_dir) if each.HasField("artifact")]


def log_of(content: bytes) -> Iterator[bytes]:
    """Records of a log as LevelDB writes it: parts in blocks of 32 KiB, each after a sum, a length and a kind."""
    block, place, record = 2**15, 7, b""  # W&B's own header comes first
    while place + 7 <= len(content):
        if block - place % block < 7:  # no room for another part
            place += block - place % block
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""
