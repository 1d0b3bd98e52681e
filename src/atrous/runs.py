"""Run folders: a new one that nobody shares, that of a resumed run, and the checkpoints in them."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from atrous.errors import AtrousError
from atrous.hub import PREFIX, fetch, is_hub_folder

CHECKPOINTS = "checkpoints"
BEFORE_LAST = "before_last.ckpt"
"""The checkpoint before ``last.ckpt``."""
RECORD = "config.yaml"
"""The file that makes a folder a run: it is written when training begins."""

_OF_A_START = (".lock", "tensorboard", "wandb", "wandb_id.txt")
_claimed: set[Path] = set()


def claim_folder(parent: str | Path) -> Path:
    """Create a folder that is named after the time and belongs to this process alone."""
    Path(parent).mkdir(parents=True, exist_ok=True)
    time = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in itertools.count(1):
        folder = Path(parent) / (time if number == 1 else f"{time}_{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            _claimed.add(folder)
            return folder
    raise AssertionError("there are more numbers")


def release_unused_folders() -> None:
    """Remove the folders that this process claimed if they stayed unused: no training began, no result was written."""
    for folder in _claimed:
        if all(path.suffix == ".log" or path.name in _OF_A_START for path in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
    _claimed.clear()


def newest_run(runs: str | Path) -> Path | None:
    """The run that was started last among those in a folder, whether it has a checkpoint or not."""
    folders = [record.parent for record in Path(runs).glob(f"*/{RECORD}")]
    return max(folders, key=lambda folder: (folder.name[:19], len(folder.name), folder.name), default=None)


def run_of(checkpoint: str | Path) -> Path | None:
    """The run folder that a checkpoint lies in, if it lies in one."""
    folder = Path(checkpoint).absolute().parent
    return folder.parent if folder.name == CHECKPOINTS else None


def checkpoint_to_use(path: str | Path) -> Path:
    """The checkpoint to use for a path: the file itself, or the best or last one of a run's folder.

    A model of the hub, ``hf://user/name`` or a folder of that kind, is a folder with weights and card.

    Raises:
        AtrousError: There is none.
    """
    if str(path).startswith(PREFIX):
        return fetch(str(path))
    if is_hub_folder(Path(path)):
        return Path(path)
    return _checkpoint(path, ("best.ckpt", "last.ckpt"))


def checkpoint_to_continue(path: str | Path) -> Path:
    """The checkpoint from which training continues: the given file, or the last one in a run's folder.

    Raises:
        AtrousError: There is none.
    """
    return _checkpoint(path, ("last.ckpt", BEFORE_LAST))


def _checkpoint(path: str | Path, names: tuple[str, ...]) -> Path:
    path = Path(path)
    if path.is_dir():
        for name in names:
            if (path / CHECKPOINTS / name).is_file():
                return path / CHECKPOINTS / name
        wanted = " or ".join(name for name in names if name != BEFORE_LAST)
        raise AtrousError(
            f"the folder {path} holds no {CHECKPOINTS}/{wanted}: give a checkpoint, or the folder of a run that has one"
        )
    if not path.is_file():
        raise AtrousError(f"there is no checkpoint {path}")
    return path


@contextlib.contextmanager
def locked(run: str | Path) -> Iterator[None]:
    """Keep other processes from training in a run's folder; the lock ends with this process, no matter how it ends.

    Raises:
        AtrousError: Another process trains there.
    """
    folder = Path(run)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            # not inherited by loader processes, which may outlive a killed parent by seconds
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise AtrousError(
                f"the run {folder} is still running in another process (id {file.read().strip() or 'unknown'}): wait "
                "for it, or stop it first"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
