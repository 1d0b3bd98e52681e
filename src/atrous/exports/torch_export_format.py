"""PyTorch's own exported programs, which run without the Python code of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atrous.exports.description import Description
from atrous.exports.file_format import FileFormat, Run
from atrous.exports.standalone import Standalone, graph_of


class TorchExport(FileFormat):
    """An archive for ``torch.export.load``, and for ahead-of-time compilation; see ``FileFormat``."""

    suffix = ".pt2"

    def write(self, network: Standalone, description: Description, path: Path) -> None:
        """See ``FileFormat``."""
        torch.export.save(graph_of(network, self.size), path, extra_files={Description.KEY: description.to_json()})

    @classmethod
    def load(cls, path: Path) -> tuple[Run, str | None]:
        """See ``FileFormat``; for files from this program alone, because PyTorch unpickles some of what is in them."""
        said = {Description.KEY: ""}
        module = torch.export.load(path, extra_files=said).module()

        def run(images: NDArray[np.uint8]) -> NDArray[Any]:
            with torch.no_grad():
                result: NDArray[Any] = module(torch.from_numpy(images)).numpy()
            return result

        return run, said[Description.KEY] or None
