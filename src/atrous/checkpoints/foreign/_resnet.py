"""ResNets: timm, torchvision and those built on them give the layers of the stages the same names."""

from __future__ import annotations

from atrous.checkpoints.foreign._translation import Renaming
from atrous.errors import AtrousError

_DEPTHS = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}
"""Table 1 of arXiv 1512.03385: bottlenecks or not, units of the four stages."""


def resnet_name(renaming: Renaming, prefix: str) -> str:
    """Name of the ResNet whose tensors are under a prefix.

    Raises:
        AtrousError: It is none that we know.
    """
    units = []
    for stage in range(1, 5):
        count = 0
        while renaming.has(f"{prefix}layer{stage}.{count}."):
            count += 1
        units.append(count)
    bottleneck = renaming.has(f"{prefix}layer1.0.conv3.")
    name = _DEPTHS.get((bottleneck, (units[0], units[1], units[2], units[3])))
    if name is None:
        raise AtrousError(
            f"these are not weights of a network that source={renaming.source} knows: its backbone has {units} units, "
            f"which is none of {', '.join(_DEPTHS.values())}"
        )
    width = renaming.shape(f"{prefix}layer1.0.conv2.weight")
    if tuple(width) != (64, 64, 3, 3):
        raise AtrousError(f"the backbone is a variant of {name} with 3×3 convolutions of shape {list(width)}")
    return name
