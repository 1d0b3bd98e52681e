"""A kill while a checkpoint is written leaves the old one."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from atrous.atomic_file import remove_partial_files
from atrous.checkpoints import AtomicCheckpointIO
from atrous.errors import AtrousError


def half_then(error: BaseException) -> Callable[[Any, BinaryIO], None]:
    """A ``torch.save`` that dies in the middle."""
    whole = torch.save

    def save(data: Any, file: BinaryIO) -> None:
        memory = io.BytesIO()
        whole(data, memory)
        file.write(memory.getvalue()[: memory.tell() // 2])
        file.flush()
        raise error

    return save


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "seen"), [(FULL, AtrousError), (KeyboardInterrupt(), KeyboardInterrupt)], ids=["disk", "kill"]
)
def test_a_crash_while_writing_leaves_the_old_file_whole(
    error: BaseException, seen: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"step": 1, "weight": torch.arange(1000)}, path)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half_then(error))
        with pytest.raises(seen):
            writer.save_checkpoint({"step": 2, "weight": torch.zeros(1000)}, path)
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"], "no half of a file is left"
    old = writer.load_checkpoint(path)
    assert old["step"] == 1
    assert torch.equal(old["weight"], torch.arange(1000))
    writer.save_checkpoint({"step": 3}, path)
    assert writer.load_checkpoint(path)["step"] == 3
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_nothing_is_found_when_the_first_one_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "save", half_then(FULL))
    with pytest.raises(AtrousError, match=r"last\.ckpt cannot be written \(No space left on device\); older ones are"):
        AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("last.ckpt", "last.ckpt.123-abcd.partial", "best.ckpt", "images/a.webp.1-ab.partial", "images/b.webp"):
        (tmp_path / name).touch()
    remove_partial_files(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["b.webp", "best.ckpt", "last.ckpt"]
    remove_partial_files(tmp_path / "missing")


def test_the_content_is_on_the_disk_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a renamed file without its content would be worse than the old one."""
    import os

    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        calls.append("fsync")
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> None:
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    assert calls[:2] == ["fsync", "replace"]
