"""Writing checkpoints completely or not at all, even if killed, and reading them as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from atrous.atomic_file import atomic_file
from atrous.checkpoints.card import load_plain
from atrous.errors import AtrousError, first_line


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints as atomic files, and reads them as plain data after checking their checksums."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write one checkpoint.

        Raises:
            AtrousError: The disk is full or cannot be written to; the old checkpoint is still there.
        """
        try:
            with atomic_file(path) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # PyTorch's own writer raises the latter
            reason = _reason(error)
            raise AtrousError(f"the checkpoint {path} cannot be written ({reason}); older ones are intact") from error

    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> dict[str, Any]:
        """Read one checkpoint onto the CPU.

        Raises:
            AtrousError: It is missing, damaged, or more than plain data.
        """
        return load_plain(path)


def _reason(error: BaseException) -> str:
    """The system's error message, which PyTorch's writer hides behind its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return first_line(error)
