"""How a score was measured: without it, two numbers cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Protocol:
    """Everything besides the weights that decides a score; its string is the line printed next to every number.

    Attributes:
        dataset: Name of the data set.
        split: Split that was scored.
        subset: How many images were scored, and how many the published split has, where those were not all.
        shrink: Whole number that the sides of images and truth were divided by before anything else.
        output_stride: Output stride of the backbone while scoring; None where the model has no such notion.
        scales: Factors by which the image was resized; their results are averaged, or fused by the network itself.
        fusion: How the results of several scales became one: ``mean`` of probabilities, or ``max`` of logits.
        flip: Whether the mirrored image took part as well.
        window: Height and width of the sliding window in pixels; None = the whole image at once.
        window_stride: Pixels from one window to the next, down and across.
        window_blend: Weights of a window's pixels where windows overlap.
        stretched: Height and width in pixels that every image was stretched to; None = its own size.
        padded: Height and width in pixels that every image was padded to; None = as far as the output stride asks.
        trimap_width: Largest distance in pixels between a counted pixel and an ignored one; None = all count.
        crf: The dense CRF, or another refiner, that the probabilities went through; None = none.
        precision: Number format that the network computed in, as ``trainer.precision`` names it; None = not recorded.
        checkpoint: File name of the weights; None = the weights as they were in memory.
    """

    dataset: str
    split: str
    output_stride: int | None
    scales: tuple[float, ...] = (1.0,)
    fusion: str = "mean"
    flip: bool = False
    window: tuple[int, int] | None = None
    window_stride: tuple[int, int] | None = None
    window_blend: str | None = None
    stretched: tuple[int, int] | None = None
    padded: tuple[int, int] | None = None
    trimap_width: int | None = None
    crf: str | None = None
    precision: str | None = None
    checkpoint: str | None = None
    subset: tuple[int, int] | None = None
    shrink: int = 1

    def __str__(self) -> str:
        """One line, such as ``voc val · OS 16 · scale 1 · no flip · whole image · no CRF · 32-true · best.ckpt``."""
        images = "" if self.subset is None else f"{self.subset[0]:,} of {self.subset[1]:,} images"
        size = "" if self.shrink == 1 else f"at 1/{self.shrink} of the size"
        parts = [f"{self.dataset} {self.split}", images, size, *self.steps(), self.checkpoint or ""]
        return " · ".join(part for part in parts if part)

    def steps(self) -> list[str]:
        """What is done with an image, from the network's output stride to its precision."""
        scales = ", ".join(f"{scale:g}" for scale in self.scales)
        parts = [
            "" if self.output_stride is None else f"OS {self.output_stride}",
            f"scale {scales}" if len(self.scales) == 1 else f"scales {scales}",
            "" if self.fusion == "mean" else f"{self.fusion} over scales",
            "flip" if self.flip else "no flip",
            "whole image" if self.window is None else f"window {_said(self.window)}",
            "" if self.window_stride is None else f"every {_said(self.window_stride)} px",
            "" if self.window_blend in (None, "flat") else f"{self.window_blend} weights",
            "" if self.stretched is None else f"stretched to {_said(self.stretched)}",
            "" if self.padded is None else f"padded to {_said(self.padded)}",
            "" if self.trimap_width is None else f"trimap of {self.trimap_width} px",
            self.crf or "no CRF",
            self.precision or "",
        ]
        return [part for part in parts if part]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, for JSON and checkpoints."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "output_stride": self.output_stride,
            "scales": list(self.scales),
            "fusion": self.fusion,
            "flip": self.flip,
            "window": None if self.window is None else list(self.window),
            "window_stride": None if self.window_stride is None else list(self.window_stride),
            "window_blend": self.window_blend,
            "stretched": None if self.stretched is None else list(self.stretched),
            "padded": None if self.padded is None else list(self.padded),
            "trimap_width": self.trimap_width,
            "crf": self.crf,
            "precision": self.precision,
            "checkpoint": self.checkpoint,
            "subset": None if self.subset is None else list(self.subset),
            "shrink": self.shrink,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Protocol:
        """Inverse of ``to_dict``."""
        return cls(
            dataset=values["dataset"],
            split=values["split"],
            output_stride=values["output_stride"],
            scales=tuple(values["scales"]),
            fusion=values.get("fusion", "mean"),
            flip=values["flip"],
            window=_pair(values["window"]),
            window_stride=_pair(values.get("window_stride")),
            window_blend=values.get("window_blend"),
            stretched=_pair(values.get("stretched")),
            padded=_pair(values.get("padded")),
            trimap_width=values.get("trimap_width"),
            crf=values["crf"],
            precision=values.get("precision"),
            checkpoint=values["checkpoint"],
            subset=_pair(values.get("subset")),
            shrink=values.get("shrink", 1),
        )


def _said(pair: tuple[int, int]) -> str:
    return f"{pair[0]}×{pair[1]}"


def _pair(values: Sequence[int] | None) -> tuple[int, int] | None:
    return None if values is None else (values[0], values[1])
