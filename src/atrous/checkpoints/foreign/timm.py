"""A classifier with timm's names, whose layers become the backbone of a DeepLabv3+ yet to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import timm
import torch
from torch import Tensor

from atrous.checkpoints.foreign._translation import Renaming, Translation, model_node
from atrous.data.sets.voc import VOC_2012
from atrous.errors import AtrousError
from atrous.models.backbones import TimmBackbone

_BACKBONE = "backbone.network."


def translate(
    state: Mapping[str, Tensor],
    *,
    backbone: str | None = None,
    output_stride: int | None = None,
    classes: Sequence[str] | None = None,
) -> Translation:
    """Take the backbone from a state dict and leave the head random.

    Args:
        state: The tensors.
        backbone: timm's name of the model.
        output_stride: Output stride of the network; ``None`` for 16.
        classes: Names of the classes; ``None`` for those of VOC.

    Raises:
        AtrousError: The name is missing, or the tensors are not those of this model.
    """
    if backbone is None:
        raise AtrousError("source=timm needs the name of the model: give import_weights.backbone=resnet50 or another")
    renaming = Renaming("timm", state)
    expected = TimmBackbone(backbone).network.state_dict()
    after = set(timm.create_model(backbone, pretrained=False).state_dict()) - set(expected)
    for name in expected:
        if name.endswith("num_batches_tracked") and not renaming.has(name):
            renaming.state[_BACKBONE + name] = torch.tensor(0)
        else:
            renaming.state[_BACKBONE + name] = renaming.take(name)
    unused = tuple(
        f"{name} (after the backbone's last feature map)" if name in after else name for name in renaming.left()
    )
    return Translation(
        model=model_node(
            backbone={"name": backbone, "output_stride": output_stride or 16},
            head={"_target_": "atrous.models.heads.DeepLabV3PlusHead"},
        ),
        state=renaming.state,
        unused=unused,
        num_classes=VOC_2012.num_classes if classes is None else len(classes),
        missing=("head.",),
    )
