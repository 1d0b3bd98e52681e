"""Checkpoints: our format, written atomically and read as plain data."""

from atrous.checkpoints.atomic import AtomicCheckpointIO
from atrous.checkpoints.card import Card, read_checkpoint
from atrous.checkpoints.transfer import Transfer, transfer_weights

__all__ = ["AtomicCheckpointIO", "Card", "Transfer", "read_checkpoint", "transfer_weights"]
