"""Data-dependent upsampling: the decoder of a code of labels as a 1×1 convolution (DUpsampling, 1903.02120 §3)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.geometry import Grid, Size
from atrous.models.label_code import LabelCode
from atrous.models.upsamplers.upsampler import Upsampler


class DUpsampling(Upsampler):
    """Every score is the code of a window of labels; W decodes it, and a learned temperature T divides the result.

    Channels of W count classes first, then the window's rows, then its columns.

    Args:
        grid: Grid of the backbone.
        num_classes: Number of classes.
        ratio: Side of a window in pixels: the stride of the head's scores.
        width: Channels of the scores.
        hidden: Width of the hidden layer of a non-linear decoder; ``None`` for W alone.
        weights: A label code or the file of one; ``fit`` to leave the weights open until ``load_code`` or
            ``load_state_dict``; ``random`` to train W from random weights.
        frozen: Keep W as it was fitted; otherwise it is fine-tuned with the network, as fast as the backbone.
        temperature: T at the start, 1 in the paper. A perfect reconstruction is 1 for the true class and 0 for the
            others, so T has to become a fraction of 1 before probabilities are sharp; short runs, and optimizers whose
            steps do not grow with the gradient, should begin there.
        learn_temperature: Whether T is learned with the network; otherwise it stays.

    Raises:
        AtrousError: The file is missing or does not fit, random weights are to be frozen, or a number is out of
            range.

    Attributes:
        temperature: T of softmax(z / T).
        unfitted: Whether the weights are still to come: by ``load_code``, or with the state of a trained network.
    """

    ratio: int

    def __init__(
        self,
        *,
        grid: Grid,
        num_classes: int,
        ratio: int,
        width: int = 64,
        hidden: int | None = None,
        weights: LabelCode | str | Path = "fit",
        frozen: bool = False,
        temperature: float = 1.0,
        learn_temperature: bool = True,
    ) -> None:
        super().__init__()
        require_range("upsampler.ratio", ratio, at_least=1)
        require_range("upsampler.width", width, at_least=1)
        require_range("upsampler.hidden", hidden, at_least=1)
        require_range("upsampler.temperature", temperature, above=0)
        self.grid = grid
        self.num_classes = num_classes
        self.ratio = ratio
        self.hidden = hidden
        self.score_channels = width
        self.unfitted = False
        channels = [width, num_classes * ratio**2] if hidden is None else [width, hidden, num_classes * ratio**2]
        self.decoder = nn.Sequential()
        for number, (before, after) in enumerate(pairwise(channels)):
            if number:
                self.decoder.append(nn.ReLU())
            self.decoder.append(nn.Conv2d(before, after, 1, bias=False))
        self.temperature = nn.Parameter(torch.tensor(float(temperature)), requires_grad=learn_temperature)
        if weights == "random":
            if frozen:
                raise AtrousError(
                    "upsampler.weights=random with upsampler.frozen=true would never learn: set upsampler.frozen=false"
                )
        elif weights == "fit":
            self.unfitted = True
        elif isinstance(weights, LabelCode):
            self.load_code(weights)
        else:
            self.load_code(LabelCode.load(weights))
        self.decoder.requires_grad_(not frozen)
        self.pretrained_names = () if weights == "random" else ("decoder",)

    def load_code(self, code: LabelCode) -> None:
        """Load the decoder of a label code.

        Raises:
            AtrousError: The code is for other windows, classes, width or decoder.
        """
        for what, theirs, ours in (
            ("ratio", code.ratio, self.ratio),
            ("num_classes", code.num_classes, self.num_classes),
            ("width", code.width, self.score_channels),
            ("hidden", code.hidden, self.hidden),
            ("grid", code.grid, self.grid),
        ):
            if theirs != ours:
                source = f" of {code.origin}" if code.origin else ""
                raise AtrousError(
                    f"the label code{source} was fitted for {what}={theirs}, but the network needs {what}={ours}: set "
                    "upsampler.weights=fit to fit one that does"
                )
        convolutions = [layer for layer in self.decoder if isinstance(layer, nn.Conv2d)]
        with torch.no_grad():
            for convolution, matrix in zip(convolutions, code.decoder, strict=True):
                convolution.weight.copy_(matrix[..., None, None])
        self.unfitted = False

    def forward(self, scores: Tensor, size: Size) -> Tensor:
        """Decode codes B×D×h×w to logits B×C×H×W."""
        windows = self.decoder(scores)  # B×D×h×w → B×(C·r²)×h×w
        return self.grid.lay_out(windows, size, side=self.ratio) / self.temperature
