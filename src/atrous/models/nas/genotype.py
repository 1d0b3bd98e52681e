"""What a search finds, as plain data that a person can read: the strides of the cells, and what one cell does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from atrous.atomic_file import atomic_file
from atrous.errors import AtrousError

STRIDES = (4, 8, 16, 32)
"""Strides of cells (Auto-DeepLab §3.2)."""

FIRST, SECOND = 0, 1
"""The inputs of a cell: what the cell before it gives, and the one before that; block ``i`` (from 0) is ``2 + i``."""

_OF_BLOCKS = 2


class Operation(StrEnum):
    """What a block does to an input (Auto-DeepLab §3.1)."""

    SEPARABLE_3X3 = "separable_3x3"
    SEPARABLE_5X5 = "separable_5x5"
    ATROUS_3X3 = "atrous_3x3"
    ATROUS_5X5 = "atrous_5x5"
    AVERAGE_POOLING = "average_pooling_3x3"
    MAX_POOLING = "max_pooling_3x3"
    SKIP = "skip"
    NONE = "none"


@dataclass(frozen=True)
class Branch:
    """One of the two halves of a block: an operation and what it works on.

    Attributes:
        operation: The operation.
        source: ``FIRST`` or ``SECOND`` input of the cell, or 2 and more for an earlier block.
    """

    operation: Operation
    source: int


Block = tuple[Branch, Branch]
"""Two branches, whose results are added."""


@dataclass(frozen=True)
class Genotype:
    """The path through the trellis, and the cell that all its layers share.

    Attributes:
        strides: Stride of every cell, in the order of the layers.
        blocks: The blocks of the cell; all their results are concatenated.

    Raises:
        AtrousError: A stride is none of a cell or cannot follow the one before it, or a block uses itself or a later
            block.
    """

    strides: tuple[int, ...]
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if not self.strides or not self.blocks:
            raise AtrousError("a genotype needs at least one stride and one block")
        for layer, stride in enumerate(self.strides, start=1):
            if stride not in STRIDES:
                raise AtrousError(
                    f"genotype: layer {layer} has stride {stride}; choose one of {', '.join(map(str, STRIDES))}"
                )
        for layer, (before, stride) in enumerate(zip((STRIDES[0], *self.strides), self.strides, strict=False), start=1):
            if not before <= 2 * stride <= 4 * before:
                whose = "the stem" if layer == 1 else f"layer {layer - 1}"
                raise AtrousError(
                    f"genotype: layer {layer} has stride {stride} after {before} of {whose}; a layer keeps, halves or "
                    "doubles the stride before it"
                )
        for number, block in enumerate(self.blocks):
            for branch in block:
                if not 0 <= branch.source < _OF_BLOCKS + number:
                    raise AtrousError(
                        f"genotype: block {number + 1} works on {source_name(branch.source)}; it can work on "
                        f"{', '.join(map(source_name, range(_OF_BLOCKS + number)))}"
                    )

    @classmethod
    def of(cls, plain: Genotype | Mapping[str, Any] | str | Path) -> Genotype:
        """A genotype from plain data, or from a YAML file of it.

        Raises:
            AtrousError: The file is missing, or what it says is no genotype.
        """
        if isinstance(plain, Genotype):
            return plain
        if isinstance(plain, str | Path):
            return cls._of_mapping(_read(Path(plain)))
        return cls._of_mapping(plain)

    @classmethod
    def _of_mapping(cls, plain: Any) -> Genotype:
        if not isinstance(plain, Mapping) or set(plain) != {"strides", "blocks"}:
            found = ", ".join(map(str, plain)) if isinstance(plain, Mapping) else repr(plain)
            raise AtrousError(f"a genotype has strides and blocks, this one has {found or 'nothing'}")
        strides, blocks = plain["strides"], plain["blocks"]
        if not _is_list(strides) or not all(type(stride) is int for stride in strides):
            raise AtrousError(f"genotype: strides must be a list of whole numbers, one a layer; got {strides!r}")
        if not _is_list(blocks):
            raise AtrousError(f"genotype: blocks must be a list, got {blocks!r}")
        return cls(tuple(strides), tuple(_block(number, block) for number, block in enumerate(blocks, start=1)))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings."""
        return {
            "strides": list(self.strides),
            "blocks": [
                [[branch.operation.value, source_name(branch.source)] for branch in block] for block in self.blocks
            ],
        }

    def to_yaml(self) -> str:
        """A file for ``conf/genotype``, one line a block."""
        plain = self.to_dict()
        lines = [f"strides: [{', '.join(map(str, plain['strides']))}] # of the cells", "blocks: # of every cell"]
        lines += [f"  - [{', '.join(f'[{operation}, {source}]' for operation, source in b)}]" for b in plain["blocks"]]
        return "\n".join(lines) + "\n"

    def write(self, path: Path, heading: str) -> None:
        """Write such a file, whole or not at all, with a line of comment above."""
        with atomic_file(path) as file:
            file.write(f"# {heading}\n{self.to_yaml()}".encode())


def source_name(source: int) -> str:
    """An input of a block in words: ``l-1``, ``l-2`` or ``block 1``."""
    if source in (FIRST, SECOND):
        return ("l-1", "l-2")[source]
    return f"block {source - _OF_BLOCKS + 1}"


def sources_of(block: int) -> range:
    """The inputs that a block, counted from 0, can have."""
    return range(_OF_BLOCKS + block)


def _block(number: int, plain: Any) -> Block:
    if not _is_list(plain) or len(plain) != 2:
        raise AtrousError(f"genotype: block {number} must be two pairs of an operation and an input, got {plain!r}")
    first, second = (_branch(number, pair) for pair in plain)
    return first, second


def _branch(number: int, plain: Any) -> Branch:
    if not _is_list(plain) or len(plain) != 2:
        raise AtrousError(f"genotype: block {number} has {plain!r} in place of an operation and its input")
    operation, source = plain
    if operation not in list(Operation):
        raise AtrousError(
            f"genotype: block {number} has the operation {operation!r}; choose one of {', '.join(Operation)}"
        )
    known = re.fullmatch(r"(l-[12])|block ([1-9]\d*)", source) if isinstance(source, str) else None
    if known is None:
        raise AtrousError(f"genotype: block {number} works on {source!r}; name l-1, l-2 or block 1 and so on")
    place = ("l-1", "l-2").index(known[1]) if known[1] else _OF_BLOCKS + int(known[2]) - 1
    return Branch(Operation(operation), place)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise AtrousError(f"there is no genotype {path}")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AtrousError(f"the genotype {path} is no YAML: {' '.join(str(error).split())}") from error


def _is_list(plain: Any) -> bool:
    return isinstance(plain, Sequence) and not isinstance(plain, str)
