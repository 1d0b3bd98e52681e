"""OpenVINO, for processors, graphics and accelerators of Intel, and Arm."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.errors import AtrousError, first_line
from atrous.exports.description import Description
from atrous.exports.file_format import Calibrated, FileFormat, Run, cannot_run, in_8_bits, needed
from atrous.exports.onnx_format import Onnx
from atrous.exports.standalone import Standalone


class OpenVino(FileFormat):
    """A graph ``.xml`` with its weights ``.bin`` beside it; see ``FileFormat``."""

    suffix = ".xml"

    def write(self, network: Standalone, description: Description, path: Path) -> None:
        """See ``FileFormat``."""
        openvino = needed("openvino", "writing OpenVINO files")
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            exact = Path(folder, "exact.onnx")
            Onnx(result=self.result, size=self.size).write(network, description, exact)
            model = self.changed(openvino.convert_model(str(exact)))
            model.set_rt_info(description.to_json(), Description.KEY)
            openvino.save_model(model, str(path), compress_to_fp16=False)

    def changed(self, model: Any) -> Any:
        """The model as it is written."""
        return model

    @classmethod
    def load(cls, path: Path) -> tuple[Run, str | None]:
        """See ``FileFormat``."""
        core = _core()
        try:
            model = core.read_model(str(path))
            said = model.get_rt_info(Description.KEY).astype(str) if model.has_rt_info(Description.KEY) else None
            compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            raise AtrousError(f"{path} is not an OpenVINO file that can be run ({first_line(error)})") from error

        def run(images: NDArray[np.uint8]) -> NDArray[Any]:
            try:
                result: NDArray[Any] = compiled(np.ascontiguousarray(images))[0].copy()
            except RuntimeError as error:
                raise AtrousError(cannot_run(path, images, error)) from error
            return result

        return run, said

    def files(self, path: Path) -> list[Path]:
        """See ``FileFormat``."""
        return [path.with_suffix(".bin"), path]


class OpenVinoInt8(Calibrated, OpenVino):
    """Static quantization by NNCF; see ``Calibrated``."""

    def changed(self, model: Any) -> Any:
        """The model in 8 bits."""
        return in_8_bits(model, [image[None] for image in self.calibration])


@functools.cache
def _core() -> Any:
    """OpenVINO's runtime, kept until the process ends: it unloads libraries whose threads may go on."""
    return needed("openvino", "running OpenVINO files").Core()
