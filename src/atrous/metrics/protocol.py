"""How a score was measured: without it, two numbers cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Protocol:
    """Everything besides the weights that decides a score; its string is the line printed next to every number.

    Attributes:
        dataset: Name of the data set.
        split: Split that was scored.
        output_stride: Output stride of the backbone while scoring; None where the model has no such notion.
        scales: Factors by which the image was resized; their results are averaged, or fused by the network itself.
        flip: Whether the mirrored image was averaged in as well.
        window: Height and width of the sliding window in pixels; None = the whole image at once.
        stretched: Height and width in pixels that every image was stretched to; None = its own size.
        padded: Height and width in pixels that every image was padded to; None = as far as the output stride asks.
        trimap_width: Largest distance in pixels between a counted pixel and an ignored one; None = all count.
        crf: Name of the dense CRF that refined the scores; None = no CRF.
        precision: Number format that the network computed in, as ``trainer.precision`` names it; None = not recorded.
        checkpoint: File name of the weights; None = the weights as they were in memory.
    """

    dataset: str
    split: str
    output_stride: int | None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: tuple[int, int] | None = None
    stretched: tuple[int, int] | None = None
    padded: tuple[int, int] | None = None
    trimap_width: int | None = None
    crf: str | None = None
    precision: str | None = None
    checkpoint: str | None = None

    def __str__(self) -> str:
        """One line, such as ``voc val · OS 16 · scale 1 · no flip · whole image · no CRF · 32-true · best.ckpt``."""
        scales = ", ".join(f"{scale:g}" for scale in self.scales)
        parts = [
            f"{self.dataset} {self.split}",
            "" if self.output_stride is None else f"OS {self.output_stride}",
            f"scale {scales}" if len(self.scales) == 1 else f"scales {scales}",
            "flip" if self.flip else "no flip",
            "whole image" if self.window is None else f"window {self.window[0]}×{self.window[1]}",
            "" if self.stretched is None else f"stretched to {self.stretched[0]}×{self.stretched[1]}",
            "" if self.padded is None else f"padded to {self.padded[0]}×{self.padded[1]}",
            "" if self.trimap_width is None else f"trimap of {self.trimap_width} px",
            "no CRF" if self.crf is None else f"CRF {self.crf}",
            self.precision or "",
            self.checkpoint or "",
        ]
        return " · ".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, for JSON and checkpoints."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "output_stride": self.output_stride,
            "scales": list(self.scales),
            "flip": self.flip,
            "window": None if self.window is None else list(self.window),
            "stretched": None if self.stretched is None else list(self.stretched),
            "padded": None if self.padded is None else list(self.padded),
            "trimap_width": self.trimap_width,
            "crf": self.crf,
            "precision": self.precision,
            "checkpoint": self.checkpoint,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Protocol:
        """Inverse of ``to_dict``."""
        window, stretched, padded = values["window"], values.get("stretched"), values.get("padded")
        return cls(
            dataset=values["dataset"],
            split=values["split"],
            output_stride=values["output_stride"],
            scales=tuple(values["scales"]),
            flip=values["flip"],
            window=None if window is None else (window[0], window[1]),
            stretched=None if stretched is None else (stretched[0], stretched[1]),
            padded=None if padded is None else (padded[0], padded[1]),
            trimap_width=values.get("trimap_width"),
            crf=values["crf"],
            precision=values.get("precision"),
            checkpoint=values["checkpoint"],
        )
