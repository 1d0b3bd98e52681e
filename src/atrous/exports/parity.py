"""Whether an exported file computes what its checkpoint does."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.errors import AtrousError
from atrous.exports.file_format import FileFormat, Run
from atrous.exports.standalone import Result
from atrous.geometry import Size
from atrous.models import Segmentor

_TOLERANCE = 1e-4
_SHARE = 1e-5
"""Of the largest number of a result: rounding grows with what is rounded, in networks with huge logits."""


@dataclass(frozen=True)
class Parity:
    """Differences from the checkpoint over a few images that are not square.

    Attributes:
        largest: Of any number of the result.
        allowed: What it may be.
        same_class: Share of the pixels whose most probable class is the same.
        sizes: Heights and widths of the images.
    """

    largest: float
    allowed: float
    same_class: float
    sizes: tuple[Size, ...]


@torch.no_grad()
def compare(segmentor: Segmentor, run: Run, form: FileFormat) -> Parity:
    """Compare a file with the network that it was made from, in batches of one and of two images.

    The network computes in float64, so that its own rounding is not counted against the file. The sides of
    the images are no multiples of anything.
    """
    step = segmentor.extension
    sizes = (form.size,) if form.size else ((2 * step + 5, 4 * step + 2), (5 * step - 3, 3 * step + 1))
    largest, allowed, same, pixels = 0.0, _TOLERANCE, 0, 0
    exact = copy.deepcopy(segmentor).double()
    generator = torch.Generator().manual_seed(0)
    for batch, size in zip((1, 2), sizes if len(sizes) == 2 else 2 * sizes, strict=True):
        image = _image(batch, size, generator)
        wanted = _result(exact(image), form.result)
        given = torch.from_numpy(run(image.numpy()))
        if given.shape != wanted.shape:
            raise AtrousError(f"the exported file gives {list(given.shape)} where {list(wanted.shape)} are due")
        largest = max(largest, float((given.double() - wanted.double()).abs().max()))
        allowed = max(allowed, _SHARE * float(wanted.abs().max()))
        alike = given == wanted if form.result == "labels" else given.argmax(1) == wanted.argmax(1)
        same, pixels = same + int(alike.sum()), pixels + alike.numel()
    return Parity(largest, allowed, same / pixels, sizes)


def require_parity(found: Parity, form: FileFormat) -> None:
    """Refuse a file that should be exact and is not.

    Raises:
        AtrousError: A number is off by more than 1e-4, or a hundred-thousandth of the largest one; or, of labels, one
            pixel of a thousand is another class.
    """
    labels = form.result == "labels"
    if found.same_class < 0.999 if labels else not found.largest <= found.allowed:
        what = (
            f"{1 - found.same_class:.2%} of the labels differ" if labels else f"numbers differ by {found.largest:.2g}"
        )
        raise AtrousError(f"the exported file does not compute what the checkpoint does ({what}): nothing is written")


def _image(batch: int, size: Size, generator: torch.Generator) -> Tensor:
    """Areas of a few colors with soft and with hard borders, and the grain of a photograph."""
    coarse = 256 * torch.rand(batch, 3, 5, 7, generator=generator)
    soft, hard = (F.interpolate(coarse, size, mode=mode) for mode in ("bicubic", "nearest"))
    image = torch.cat([soft[..., : size[1] // 2], hard[..., size[1] // 2 :]], dim=-1)
    image += 8 * torch.randn(image.shape, generator=generator)
    return image.round().clamp(0, 255).to(torch.uint8)


def _result(logits: Tensor, result: Result) -> Tensor:
    if result == "labels":
        return logits.argmax(dim=1).to(torch.uint8)
    return logits.softmax(dim=1) if result == "probabilities" else logits
