"""Files that run elsewhere: networks as ONNX, OpenVINO and exported programs of PyTorch, each proven equal."""

from atrous.exports.description import Description
from atrous.exports.executorch_format import ExecuTorch
from atrous.exports.exported_network import SUFFIXES, ExportedNetwork, load_network
from atrous.exports.file_format import Calibrated, FileFormat
from atrous.exports.hub import Hub
from atrous.exports.onnx_format import Onnx, OnnxInt8
from atrous.exports.openvino_format import OpenVino, OpenVinoInt8
from atrous.exports.parity import Parity, compare, require_parity
from atrous.exports.standalone import Standalone
from atrous.exports.torch_export_format import TorchExport

__all__ = [
    "SUFFIXES",
    "Calibrated",
    "Description",
    "ExecuTorch",
    "ExportedNetwork",
    "FileFormat",
    "Hub",
    "Onnx",
    "OnnxInt8",
    "OpenVino",
    "OpenVinoInt8",
    "Parity",
    "Standalone",
    "TorchExport",
    "compare",
    "load_network",
    "require_parity",
]
