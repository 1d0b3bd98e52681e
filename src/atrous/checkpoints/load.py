"""Loading a ready-to-use network from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atrous.checkpoints.card import Card, read_checkpoint
from atrous.checkpoints.hub_folder import read_hub_folder
from atrous.checkpoints.recipe import build_model
from atrous.errors import AtrousError
from atrous.models import Segmentor
from atrous.runs import checkpoint_to_use


def load_segmentor(
    path: str | Path, *, output_stride: int | None = None, trust: Sequence[str] = ()
) -> tuple[Segmentor, Card]:
    """Build the network of a checkpoint and load its weights, in evaluation mode.

    Args:
        path: A checkpoint of ours, the folder of a run (its best checkpoint), or a model of the hub: ``hf://user/name``
            or the folder that ``format=hub`` writes.
        output_stride: 8, 16 or 32; ``None`` for the one used in training.
        trust: Packages whose classes the checkpoint may name besides ours.

    Raises:
        AtrousError: The checkpoint is missing, damaged or not ours, or names what it may not; or the output stride is
            impossible.
    """
    path = checkpoint_to_use(path)
    card, weights = read_hub_folder(path) if path.is_dir() else read_checkpoint(path)
    segmentor = build_model(card.recipe.get("model"), card.label_space.num_classes, trust=trust)
    try:
        segmentor.load_state_dict(weights)
    except RuntimeError as error:
        raise AtrousError(f"the weights in {path} are not those of the network that it describes") from error
    if output_stride is not None:
        segmentor.set_output_stride(output_stride)
    return segmentor.eval(), card
