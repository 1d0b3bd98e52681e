"""A network as one module without anything of ours around it, and its graph: what an exported file holds."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from atrous.errors import AtrousError, first_line
from atrous.geometry import Size, size_of
from atrous.models import Segmentor

Result = Literal["logits", "probabilities", "labels"]


def known_result(name: str) -> Result:
    """A kind of result by its name.

    Raises:
        AtrousError: There is none.
    """
    if name not in get_args(Result):
        raise AtrousError(f"format.result={name} is unknown; choose one of {', '.join(get_args(Result))}")
    return cast(Result, name)


class Standalone(nn.Module):
    """Images become a result of their own size; batch norms are folded into convolutions.

    Args:
        segmentor: The network; it is copied.
        result: ``logits`` or ``probabilities``, float32 B×C×H×W, or ``labels``, the most probable classes, uint8 B×H×W.

    Raises:
        AtrousError: There is no such result, or the network cannot leave PyTorch.
    """

    def __init__(self, segmentor: Segmentor, result: Result = "logits") -> None:
        super().__init__()
        if segmentor.crf is not None:
            raise AtrousError(
                f"the network ends in a {segmentor.crf.description}, which no exported file can hold: export one "
                "without it, and refine what that gives with predict's callbacks=dense_crf"
            )
        self.segmentor = segmentor.folded()
        self.result = known_result(result)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the result.

        Args:
            image: uint8 B×3×H×W, RGB.
        """
        network = self.segmentor
        height, width = size_of(image)
        size = (self._extended(height), self._extended(width)) if network.extend else (height, width)
        scores = network.scores(network.preprocess(image, size))
        logits: Tensor = network.upsampler(scores, size)[..., :height, :width]
        if self.result == "logits":
            return logits
        return logits.softmax(dim=1) if self.result == "probabilities" else logits.argmax(dim=1).to(torch.uint8)

    def _extended(self, side: int) -> int:
        """Pixels that a side is extended to."""
        extra, multiple = self.segmentor.grid.extra, self.segmentor.extension
        whole = (side - extra + multiple - 1) // multiple
        if torch.compiler.is_exporting() and isinstance(side, torch.SymInt):
            # as a number that comes from a tensor: sizes of all maps are then simple in it, which halvings of
            # `side` are not, and PyTorch would reason about these for minutes
            whole = cast(int, torch.full((1,), whole, dtype=torch.int64).sum().item())
            least = 2 - extra  # a map has two features at least: one alone is spread where others are not
            for holds in (whole >= least, whole * multiple + extra >= side, whole * multiple + extra < side + multiple):
                torch._check(holds)
        return whole * multiple + extra


def graph_of(network: Standalone, size: Size | None, *, batch: int | None = None) -> ExportedProgram:
    """The operations that a network consists of.

    Args:
        network: The network.
        size: Height and width of all images; ``None`` for any.
        batch: Number of images; ``None`` for any.

    Raises:
        AtrousError: Something in the network depends on the size in a way that a graph cannot express.
    """
    step = network.segmentor.extension
    height, width = size or (3 * step + 7, 5 * step + 3)  # as examples, neither equal nor whole multiples
    image = torch.zeros(batch or 2, 3, height, width, dtype=torch.uint8)
    dynamic = ({} if batch else {0: Dim.DYNAMIC}) | ({} if size else {2: Dim.DYNAMIC, 3: Dim.DYNAMIC})
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(network, (image,), dynamic_shapes={"image": dynamic}, strict=False)
    except (RuntimeError, ValueError) as error:  # operators' own and those of sizes that are not known
        what = "for one size of images" if size else "for images of any size: set format.size=[<height>,<width>]"
        raise AtrousError(f"the network cannot be exported {what} ({first_line(error)})") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep exporters from printing what only their authors understand."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
