"""A disk that is full or cannot be written to: one sentence, exit status 2, and what was there is still there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from atrous.atomic_file import keep_as
from atrous.commands.train import command as entry_point
from atrous.composition import register_resolvers
from atrous.errors import AtrousError

pytestmark = pytest.mark.integration

OPTIONS = (
    "backbone=timm", "backbone.name=test_resnet", "model.head.aspp_channels=8", "model.head.decoder_channels=8",
    "data.dataset.size=64", "data.dataset.lengths={train: 8, val: 2, test: 2}", "data.num_workers=0",
    "augment.crop_size=33", "data.batch_size=2", "trainer=cpu", "logger=none", "callbacks=minimal",
    "callbacks.last.every=1", "validate_every=2",
)  # fmt: skip


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of its own with some mount options; skipped where this user may not mount any."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
        ).returncode:
            pytest.skip("needs the right to mount a file system")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)


def test_a_read_only_disk_is_one_sentence(mounted: Callable[[str], Path], repository: Path) -> None:
    folder = mounted("ro")
    command = [sys.executable, str(repository / "src" / "train.py"), *OPTIONS, f"paths.logs={folder}"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"error: {folder}/train cannot be used: Read-only file system\n"


def test_a_disk_that_fills_up_keeps_the_older_checkpoints(
    mounted: Callable[[str], Path], composed: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mounted("size=16m")
    config = composed("train", *OPTIONS, "trainer.max_steps=8")
    config.paths.run = str(folder / "run")

    class Fill(entry_point.RunRecord):
        def on_train_batch_end(self, trainer: entry_point.pl.Trainer, *args: object) -> None:
            if trainer.global_step == 5:
                keep_as(*(folder / "run" / "checkpoints" / name for name in ("last.ckpt", "before_last.ckpt")))
                (folder / "others").write_bytes(bytes(free(folder)))

    monkeypatch.setattr(entry_point, "RunRecord", Fill)
    with pytest.raises(AtrousError) as refusal:
        entry_point.train(config)
    assert "last.ckpt cannot be written (No space left on device); older ones are intact" in str(refusal.value)
    checkpoints = folder / "run" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["before_last.ckpt", "best.ckpt", "last.ckpt"]
    assert torch.load(checkpoints / "last.ckpt")["global_step"] == 4


def free(folder: Path) -> int:
    """Bytes that a disk has left, less a kilobyte."""
    return shutil.disk_usage(folder).free - 1024


def test_a_path_that_is_no_folder_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    register_resolvers()
    with pytest.raises(SystemExit, match="2"):
        print(OmegaConf.create({"folder": f"${{new_folder:{tmp_path}/file/benchmark}}"}).folder)
    assert capsys.readouterr().err == f"error: {tmp_path}/file/benchmark cannot be used: Not a directory\n"
