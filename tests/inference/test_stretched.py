"""The fixed-size protocol against Pillow, which it was published with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.geometry import Grid, size_of
from atrous.inference import Stretched
from atrous.metrics import Protocol
from atrous.models.logit_map import LogitMap
from atrous.models.upsamplers import Bilinear


class Remember(nn.Module):
    """Answers every picture with logits of its own, and keeps the picture."""

    def logit_map(self, image: Tensor) -> LogitMap:
        self.seen, size = image, size_of(image)
        upsampler = Bilinear(grid=Grid.POINTS, num_classes=4)
        return LogitMap(self(image), upsampler, num_classes=4, grid=Grid.POINTS, size=size, extended=size)

    def forward(self, image: Tensor) -> Tensor:
        return torch.randn(1, 4, *image.shape[-2:], generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("shape", [(80, 131), (37, 20), (33, 33)])
def test_the_network_sees_and_the_user_gets_what_pillow_makes(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    network = Remember()
    probabilities = Stretched(size=33)(network, torch.from_numpy(pixels).permute(2, 0, 1)[None])
    wanted = np.asarray(Image.fromarray(pixels).resize((33, 33), Image.Resampling.BILINEAR))
    seen = network.seen[0].permute(1, 2, 0).numpy()
    assert np.abs(seen - wanted).max() <= 1  # recent Pillows shrink the longer side of a portrait first
    if shape[0] <= shape[1]:
        assert (seen != wanted).mean() < 0.01
    assert probabilities.shape == (1, 4, *shape)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1, *shape))
    classes = network(network.seen).argmax(1)[0].numpy().astype(np.uint8)
    enlarged = np.asarray(Image.fromarray(classes).resize(shape[::-1], Image.Resampling.NEAREST))
    assert np.array_equal(probabilities.argmax(1)[0].numpy(), enlarged)


def test_height_and_width_can_differ() -> None:
    network = Remember()
    Stretched(size=(17, 33))(network, torch.zeros(1, 3, 20, 20, dtype=torch.uint8))
    assert network.seen.shape[-2:] == (17, 33)


def test_a_score_says_so() -> None:
    protocol = Protocol("voc", "val", 8, **Stretched(size=257).protocol)
    assert "stretched to 257×257" in str(protocol)
    assert Protocol.from_dict(protocol.to_dict()) == protocol


@pytest.mark.parametrize("size", [0, (1, 2, 3), (4, -1)])
def test_sizes_that_are_none_are_refused(size: int | tuple[int, ...]) -> None:
    with pytest.raises(AtrousError, match=r"inference\.size"):
        Stretched(size=size)
