"""Images of a split with what a network says about them."""

from __future__ import annotations

import torch
from torch import Tensor

from atrous.checkpoints.card import require_same_classes
from atrous.checkpoints.load import load_segmentor
from atrous.commands.predict.predictor import choose_device
from atrous.composition import Config
from atrous.composition.inference import build_inference
from atrous.composition.parts import build_evaluation_data
from atrous.data.dataset import to_sample
from atrous.errors import AtrousError
from atrous.inference import most_probable
from atrous.memory import keep_freed_memory
from atrous.metrics import confusion_matrix
from atrous.runs import checkpoint_to_use

Image = tuple[Tensor, Tensor, Tensor]
"""Probabilities 1×C×H×W, picture 1×3×H×W and mask H×W."""


class Source:
    """The images of a split with what a network says about them.

    Args:
        config: Checkpoint, data and inference.
        limit: How many images, evenly spaced; ``None`` for all.
    """

    def __init__(self, config: Config, *, limit: int | None) -> None:
        self.checkpoint = checkpoint_to_use(config.ckpt_path)
        self.segmentor, card = load_segmentor(self.checkpoint, output_stride=config.output_stride, trust=config.trust)
        self.data = data = build_evaluation_data(config, card)
        require_same_classes(card.label_space, data.label_space)
        self._dataset = data.dataset("test")
        if not self._dataset.labeled:
            raise AtrousError(
                f"{data.label_space.name} {config.split} has no labels to search with: choose another split"
            )
        self.device = choose_device(config.device)
        self.segmentor.to(self.device).to(memory_format=torch.channels_last)
        if self.device.type == "cpu":
            keep_freed_memory()
        self._inference = build_inference(config).smooth()
        self.label_space = data.label_space.name
        self._ignore_index = data.label_space.ignore_index
        self.classes = data.label_space.num_classes
        self.places = list(range(len(self._dataset)))
        self.places = self.spread(len(self.places) if limit is None else limit)
        self.names = {place: self._dataset.names[place] for place in self.places}

    def spread(self, count: int) -> list[int]:
        """Some of the images, evenly spaced."""
        count = min(count, len(self.places))
        return [self.places[place * len(self.places) // count] for place in range(count)]

    @torch.inference_mode()
    def read(self, place: int) -> Image:
        """One image, as the CRF gets it."""
        sample = to_sample(self._dataset[place])
        image = sample["image"][None].to(self.device)
        return self._inference(self.segmentor, image), image, sample["mask"].to(self.device)

    def count(self, probabilities: Tensor, mask: Tensor) -> Tensor:
        """The confusion matrix of one image, on the CPU."""
        counts = confusion_matrix(most_probable(probabilities)[0], mask, self.classes, self._ignore_index)
        return counts.cpu()
