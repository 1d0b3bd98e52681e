"""The contract of every format of exported files."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from atrous.errors import AtrousError, first_line, require_range
from atrous.exports.description import Description
from atrous.exports.standalone import Result, Standalone, quiet
from atrous.geometry import Size

Run = Callable[[NDArray[np.uint8]], NDArray[Any]]
"""Images B×3×H×W become a network's result."""


class FileFormat(ABC):
    """Writes a network into a file that runs without Atrous, and runs it.

    Args:
        result: What comes out; see ``Standalone``.
        size: Height and width of all images; ``None`` for any.

    Raises:
        AtrousError: The size is not two positive numbers.

    Attributes:
        suffix: Of its files.
        precision: Numbers that the network computes in.
        exact: Whether the file computes the same numbers as the checkpoint.
    """

    suffix: ClassVar[str]
    precision: ClassVar[str] = "fp32"
    exact: ClassVar[bool] = True

    def __init__(self, *, result: Result = "logits", size: Sequence[int] | None = None) -> None:
        self.result = result
        self.size: Size | None = None
        if size is not None:
            if len(size) != 2:
                raise AtrousError(f"format.size={list(size)} must be height and width, such as [513,769]")
            require_range("format.size", size, at_least=2)
            self.size = (int(size[0]), int(size[1]))

    @abstractmethod
    def write(self, network: Standalone, description: Description, path: Path) -> None:
        """Write the file.

        Raises:
            AtrousError: The network cannot be expressed, or a package is missing.
        """

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> tuple[Run, str | None]:
        """A function that runs a file's network, and what the file says about itself.

        Raises:
            AtrousError: The file cannot be read, or a package is missing.
        """

    def files(self, path: Path) -> list[Path]:
        """All files that ``write(..., path)`` makes; ``path`` comes last, so that it is there when the others are."""
        return [path]


class Calibrated(FileFormat):
    """A format of whole numbers, whose ranges come from images.

    Args:
        images: How many.
        options: Those of ``FileFormat``.

    Attributes:
        calibration: The images, uint8 3×H×W each; they are read once.
    """

    precision = "int8"
    exact = False
    calibration: Iterable[NDArray[np.uint8]] = ()

    def __init__(self, *, images: int = 100, **options: Any) -> None:
        super().__init__(**options)
        require_range("format.images", images, at_least=1)
        self.images = images


def in_8_bits(model: Any, images: Sequence[Any]) -> Any:
    """Quantize a graph statically: filters with a range for every channel, maps with one each, biases corrected.

    Filters take 7 of the 8 bits: on processors without VNNI products of 8 by 8 bits overflow.

    Args:
        model: A graph of ONNX or OpenVINO.
        images: Its inputs, which tell the ranges.

    Raises:
        AtrousError: NNCF is missing.
    """
    nncf = needed("nncf", "quantizing")
    parameters = needed("nncf.quantization.advanced_parameters", "quantizing")
    safe = parameters.AdvancedQuantizationParameters(overflow_fix=parameters.OverflowFix.ENABLE)
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(model, nncf.Dataset(images), subset_size=len(images), advanced_parameters=safe)


def cannot_run(path: Path, images: NDArray[np.uint8], error: Exception) -> str:
    """The sentence for a file whose network refuses images."""
    return f"{path} cannot be run on images of {list(images.shape)} ({first_line(error)})"


def needed(name: str, what: str, *, extra: str = "export") -> Any:
    """A module of a package that is not always there.

    Raises:
        AtrousError: It is missing.
    """
    # OpenVINO and NNCF report to their maker what they are used for, unless this package is missing
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise AtrousError(
            f"{what} needs the package {package}, which is not installed: pip install 'atrous[{extra}]'"
        ) from error
