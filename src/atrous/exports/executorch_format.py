"""ExecuTorch, PyTorch's runtime for phones and small devices, with XNNPACK's kernels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atrous.errors import AtrousError
from atrous.exports.description import Description
from atrous.exports.file_format import FileFormat, Run, cannot_run, needed
from atrous.exports.standalone import Result, Standalone, graph_of, quiet

_EXTRA = "executorch"


class ExecuTorch(FileFormat):
    """A program for one image of one size, because its memory is planned beforehand; see ``FileFormat``.

    The program's method ``atrous`` gives what the file says about itself.

    Args:
        size: Height and width of the image.
        result: What comes out; see ``Standalone``.
    """

    suffix = ".pte"

    def __init__(self, *, size: Sequence[int], result: Result = "logits") -> None:
        super().__init__(result=result, size=size)

    def write(self, network: Standalone, description: Description, path: Path) -> None:
        """See ``FileFormat``."""
        exir = needed("executorch.exir", "writing ExecuTorch files", extra=_EXTRA)
        xnnpack = needed("executorch.backends.xnnpack.partition.xnnpack_partitioner", "writing them", extra=_EXTRA)
        graph = graph_of(network, self.size, batch=1)
        with torch.no_grad(), quiet():
            program = exir.to_edge_transform_and_lower(
                graph,
                partitioner=[xnnpack.XnnpackPartitioner()],
                constant_methods={Description.KEY: description.to_json()},
            ).to_executorch()
        path.write_bytes(program.buffer)

    @classmethod
    def load(cls, path: Path) -> tuple[Run, str | None]:
        """See ``FileFormat``."""
        runtime = needed("executorch.runtime", "running ExecuTorch files", extra=_EXTRA).Runtime.get()
        try:
            program = runtime.load_program(path)
            method = program.load_method("forward")
            said = program.load_method(Description.KEY).execute(())[0]
        except RuntimeError as error:
            raise AtrousError(f"{path} is not an ExecuTorch file that can be run ({error})") from error

        def run(images: NDArray[np.uint8]) -> NDArray[Any]:
            try:
                one_by_one = [method.execute((torch.from_numpy(image[None]),))[0].numpy().copy() for image in images]
            except RuntimeError as error:
                raise AtrousError(cannot_run(path, images, error)) from error
            return np.concatenate(one_by_one)

        return run, str(said)
