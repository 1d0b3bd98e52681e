"""Training steps of mmsegmentation's DeepLabs, in a Python that has it; run by ``mmseg_peer``.

This file is run by itself, by another Python: it knows PyTorch and mmsegmentation, and nothing of Atrous. Its argument
is JSON; it writes the weights to a file, says ``ready``, and does a step for every line that it reads.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTHS = {"resnet50c": 50, "resnet101c": 101, "resnet50": 50, "resnet101": 101}
FORMS = {
    16: {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2)},
    8: {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)},
}
RATES = {16: (1, 6, 12, 18), 8: (1, 12, 24, 36)}
LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}
HEADS: dict[str, tuple[str, dict[str, int]]] = {
    "deeplabv3": ("ASPPHead", {}),
    "deeplabv3plus": ("DepthwiseSeparableASPPHead", {"c1_in_channels": 256, "c1_channels": 48}),
}
_NORM = {"type": "BN"}
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class _Stub(types.ModuleType):
    """A module whose every name is an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def load() -> dict[str, Any]:
    """Classes of mmsegmentation by name.

    The compiled operators that mmcv-lite lacks are stubs: none of these networks has one.
    """
    mmcv: Any = importlib.import_module("mmcv")
    if importlib.util.find_spec("mmcv._ext") is None:
        sys.modules["mmcv.ops"] = _Stub("mmcv.ops")
    if tuple(map(int, mmcv.__version__.split(".")[:2])) > (2, 1):
        mmcv.__version__ = "2.1.0"  # the newest that mmsegmentation lets pass
    backbones = importlib.import_module("mmseg.models.backbones")
    heads = importlib.import_module("mmseg.models.decode_heads")
    return vars(backbones) | vars(heads)


class Network(nn.Module):
    """Backbone and head under the names of its ``EncoderDecoder``; logits enlarged as there.

    Args:
        classes: What ``load`` returns.
        model: ``deeplabv3`` or ``deeplabv3plus``.
        backbone: timm's name of the ResNet.
        output_stride: 8 or 16.
        num_classes: Number of classes.
    """

    def __init__(
        self, classes: dict[str, Any], model: str, backbone: str, output_stride: int, num_classes: int
    ) -> None:
        super().__init__()
        kind = "ResNetV1c" if backbone.endswith("c") else "ResNet"
        self.backbone = classes[kind](
            depth=DEPTHS[backbone], norm_cfg=_NORM, contract_dilation=True, **FORMS[output_stride]
        )
        common = {"in_channels": 2048, "in_index": 3, "channels": 512, "dilations": RATES[output_stride]}
        common |= {"num_classes": num_classes, "norm_cfg": _NORM, "dropout_ratio": 0.1, "align_corners": False}
        kind, own = HEADS[model]
        self.decode_head = classes[kind](**common, **own)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits B×C×H×W of uint8 images B×3×H×W."""
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.std, Tensor)
        scores = self.decode_head(self.backbone((image - self.mean) / self.std))
        return F.interpolate(scores, image.shape[-2:], mode="bilinear", align_corners=False)


def training_step(network: nn.Module, options: dict[str, Any]) -> Callable[[], None]:
    """Forward, cross-entropy at full size, backward and an update of the weights."""
    batch, side, layout = options["batch"], options["side"], LAYOUTS[options["layout"]]
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (batch, 3, side, side), generator=generator, dtype=torch.uint8)
    mask = torch.randint(0, options["num_classes"], (batch, side, side), generator=generator)
    network.train().to(memory_format=layout)
    image = image.contiguous(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=4e-5)
    if options["compile"]:
        network.compile(dynamic=False)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options["precision"] == "bf16"):
            logits = network(image)
        loss = F.cross_entropy(logits.float(), mask, ignore_index=255)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def main() -> None:
    """Do a step for every line of standard input."""
    options = json.loads(sys.argv[1])
    said, sys.stdout = sys.stdout, sys.stderr  # whatever the libraries print goes elsewhere
    torch.set_num_threads(options["threads"])
    torch.manual_seed(0)
    network = Network(load(), *(options[name] for name in ("model", "backbone", "output_stride", "num_classes")))
    torch.save(network.state_dict(), options["weights"])
    step = training_step(network, options)
    print("ready", file=said, flush=True)
    for _ in sys.stdin:
        step()
        print("done", file=said, flush=True)


if __name__ == "__main__":
    main()
