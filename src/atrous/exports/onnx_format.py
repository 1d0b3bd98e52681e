"""ONNX, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atrous.errors import AtrousError, first_line
from atrous.exports.description import Description
from atrous.exports.file_format import Calibrated, FileFormat, Run, cannot_run, in_8_bits, needed
from atrous.exports.standalone import Standalone, graph_of, quiet

_INPUT = "image"


class Onnx(FileFormat):
    """The Open Neural Network Exchange; see ``FileFormat``."""

    suffix = ".onnx"

    def write(self, network: Standalone, description: Description, path: Path) -> None:
        """See ``FileFormat``."""
        onnx = needed("onnx", "writing ONNX files")
        needed("onnxscript", "writing ONNX files")
        graph = graph_of(network, self.size)
        try:
            with torch.no_grad(), quiet():
                program = torch.onnx.export(graph, dynamo=True, verbose=False)
        except torch.onnx.OnnxExporterError as error:
            raise AtrousError(f"the network has an operation that ONNX does not have ({first_line(error)})") from error
        assert program is not None
        model = program.model_proto
        _rename(model, {model.graph.input[0].name: _INPUT, model.graph.output[0].name: self.result})
        for value in (model.graph.input[0], model.graph.output[0]):
            _name_sides(value, self)
        del model.graph.value_info[:]
        model = self.changed(model)
        _describe(model, description)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))

    def changed(self, model: Any) -> Any:
        """The model as it is written."""
        return model

    @classmethod
    def load(cls, path: Path) -> tuple[Run, str | None]:
        """See ``FileFormat``."""
        runtime = needed("onnxruntime", "running ONNX files")
        errors = _errors()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # PyTorch takes turns with it
        try:
            session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except errors as error:
            raise AtrousError(f"{path} is not an ONNX file that can be run ({first_line(error)})") from error

        def run(images: NDArray[np.uint8]) -> NDArray[Any]:
            named = {session.get_inputs()[0].name: np.ascontiguousarray(images)}
            try:
                result: NDArray[Any] = session.run(None, named)[0]
            except errors as error:
                raise AtrousError(cannot_run(path, images, error)) from error
            return result

        return run, session.get_modelmeta().custom_metadata_map.get(Description.KEY)


class OnnxInt8(Calibrated, Onnx):
    """Quantized by NNCF, whose correction of biases keeps more than ONNX Runtime's own tool; see ``Calibrated``."""

    def changed(self, model: Any) -> Any:
        """The model in 8 bits."""
        return in_8_bits(model, [{_INPUT: image[None]} for image in self.calibration])


def _rename(model: Any, names: dict[str, str]) -> None:
    """Rename values throughout a graph."""
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]


def _name_sides(value: Any, form: FileFormat) -> None:
    """Give the sides of a graph's input or output their names; those of one size keep their number."""
    sides = value.type.tensor_type.shape.dim
    sides[0].dim_param = "batch"
    if form.size is None:
        sides[len(sides) - 2].dim_param, sides[len(sides) - 1].dim_param = "height", "width"


def _describe(model: Any, description: Description) -> None:
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = Description.KEY, description.to_json()


def _errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: classes without a base of their own."""
    state = needed("onnxruntime.capi.onnxruntime_pybind11_state", "running ONNX files")
    own = (each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception))
    return (ValueError, RuntimeError, *own)
