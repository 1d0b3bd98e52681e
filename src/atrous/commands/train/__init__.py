"""Train a segmentation model: ``python src/train.py model=deeplabv3plus backbone=resnet50 data=voc``."""

from __future__ import annotations

import sys

from atrous.composition import continue_recorded_run, entry_point, exit_with_one_sentence

_compose_and_train = entry_point("train", "atrous.commands.train.command:train")


def main() -> None:
    """Train from the command line; with ``ckpt_path``, the run's original settings apply as well."""
    sys.argv[1:] = exit_with_one_sentence(continue_recorded_run)(sys.argv[1:])
    _compose_and_train()


if __name__ == "__main__":
    main()
