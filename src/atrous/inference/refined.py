"""What comes last: probabilities are made to follow the edges of the image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from torch import Tensor

from atrous.crf.refiner import Refiner
from atrous.errors import AtrousError
from atrous.geometry import size_of
from atrous.inference.bands import bands_of
from atrous.inference.inference import Band, Inference, InferenceProtocol, Wrapper
from atrous.inference.whole_image import WholeImage
from atrous.models.network import Network


class Refined(Wrapper):
    """Class probabilities after a CRF or another refiner, which sees those that all other steps have led to.

    They have the image's own size, as in DeepLabv1 §4.2: enlarged bilinearly, and after several scales, mirror images
    and windows are fused. It holds all B×C×H×W of them.

    Args:
        refiner: Such as ``atrous.crf.DenseCRF``.
        inner: What gives the probabilities; ``None`` for one pass over the whole image.

    Raises:
        AtrousError: The inner inference is refined already.
    """

    def __init__(self, *, refiner: Refiner, inner: Inference | None = None) -> None:
        self.refiner = refiner
        self.inner = _unrefined(WholeImage() if inner is None else inner).smooth()

    def around(self, inner: Inference) -> Self:
        """The same around another inference; see ``Wrapper``."""
        return super().around(_unrefined(inner).smooth())

    def wrap(self, inference: Inference) -> Inference:
        """Refine what an inference gives, whatever it does.

        Raises:
            AtrousError: It is refined already.
        """
        return self.around(inference)

    @property
    def protocol(self) -> InferenceProtocol:
        """The refiner, and what is done before."""
        return {**self.inner.protocol, "crf": self.refiner.description}

    def bands(self, network: Network, image: Tensor) -> Iterator[Band]:
        """Class probabilities; see ``Inference``.

        Raises:
            AtrousError: The network has a CRF of its own.
        """
        if network.crf is not None:
            raise AtrousError(
                f"the network has a {network.crf.description} of its own: leave out the one that comes after it"
            )
        refined = self.refiner.to(image.device).refine(self.inner(network, image), image)
        for rows in bands_of(size_of(image), refined.shape[0] * refined.shape[1], refined.device):
            yield rows, refined[:, :, rows]


def _unrefined(inference: Inference) -> Inference:
    """The inference, unless it is refined at any depth."""
    within: Inference | None = inference
    while within is not None:
        if isinstance(within, Refined):
            raise AtrousError("probabilities are refined twice: by inference and by callbacks, or by two callbacks")
        within = within.inner if isinstance(within, Wrapper) else None
    return inference
