"""Writing checkpoints so that a kill never leaves half of one, and reading them as plain data."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from atrous.checkpoints.card import load_plain
from atrous.errors import AtrousError

_PARTIAL = ".partial"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a file beside the target, flushes it to the disk and renames it.

    Whenever the process dies, the target is the old checkpoint or the new one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write one checkpoint.

        Raises:
            AtrousError: The disk is full or cannot be written to; the old checkpoint is still there.
        """
        target = Path(path)
        # no other process writes to the same name, so that two of them cannot mix their halves
        partial = target.with_name(f"{target.name}.{os.getpid()}-{secrets.token_hex(4)}{_PARTIAL}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except (OSError, RuntimeError) as error:  # PyTorch's own writer raises the latter
            reason = _reason(error)
            raise AtrousError(f"the checkpoint {target} cannot be written ({reason}); older ones are intact") from error
        finally:
            if partial.exists():
                partial.unlink()

    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> dict[str, Any]:
        """Read one checkpoint onto the CPU.

        Raises:
            AtrousError: It is missing, damaged, or more than plain data.
        """
        return load_plain(path)


def _reason(error: BaseException) -> str:
    """What the system said, which PyTorch's writer hides behind a message of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error).splitlines()[0]


def remove_partial_files(folder: Path) -> None:
    """Remove what processes that were killed while they wrote checkpoints have left behind."""
    for partial in folder.glob(f"*{_PARTIAL}"):
        partial.unlink(missing_ok=True)
