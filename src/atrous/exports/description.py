"""What an exported file says about itself, as plain data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from atrous.checkpoints import Card
from atrous.errors import AtrousError
from atrous.exports.standalone import Result, known_result
from atrous.geometry import Grid, Size
from atrous.models import Network


@dataclass(frozen=True)
class Description:
    """All that a program needs to use an exported network, and to score it as its checkpoint was.

    Attributes:
        card: Label space, preprocessing, recipe and score of the checkpoint.
        result: What comes out.
        size: Height and width of all images; ``None`` for any.
        precision: Numbers that the network computes in: ``fp32`` or ``int8``.
        grid: Where features lie in the image.
        output_stride: Stride of the backbone's last feature map.
        input_scales: Scales at which the network looks at its input.
    """

    KEY: ClassVar[str] = Card.KEY

    card: Card
    result: Result
    size: Size | None
    precision: str
    grid: Grid
    output_stride: int | None
    input_scales: tuple[float, ...]

    @classmethod
    def of(cls, network: Network, card: Card, *, result: Result, size: Size | None, precision: str) -> Self:
        """The description of a network that is exported."""
        return cls(card, result, size, precision, network.grid, network.output_stride, network.input_scales)

    def to_json(self) -> str:
        """One line."""
        plain = {
            "card": self.card.to_dict(),
            "result": self.result,
            "size": self.size,
            "precision": self.precision,
            "grid": self.grid.value,
            "output_stride": self.output_stride,
            "input_scales": self.input_scales,
        }
        return json.dumps(plain)

    @property
    def mean(self) -> Tensor:
        """The mean color, RGB, 0…255, that images are extended with."""
        return torch.tensor(self.card.preprocessing["mean"], dtype=torch.float32)

    @classmethod
    def from_json(cls, text: str | None, where: str) -> Self:
        """Read what a file says.

        Args:
            text: The line; ``None`` if the file has none.
            where: Name of the file.

        Raises:
            AtrousError: It was not exported by Atrous, or is damaged.
        """
        if text is None:
            raise AtrousError(f"{where} was not exported by Atrous: it says nothing of classes and preprocessing")
        try:
            plain: dict[str, Any] = json.loads(text)
            size, card = plain["size"], Card.of({Card.KEY: plain["card"]}, where)
            if len(card.preprocessing["mean"]) != 3:
                raise ValueError("a mean color has three numbers")
            return cls(
                card=card,
                result=known_result(plain["result"]),
                size=None if size is None else (int(size[0]), int(size[1])),
                precision=str(plain["precision"]),
                grid=Grid(plain["grid"]),
                output_stride=None if plain["output_stride"] is None else int(plain["output_stride"]),
                input_scales=tuple(float(scale) for scale in plain["input_scales"]),
            )
        except AtrousError:
            raise
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise AtrousError(
                f"{where} describes itself in a way that cannot be read ({error}): it is damaged"
            ) from error
