"""The fully connected CRF of DeepLabv1 (§4.2) and v2 (§3.3), as a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from atrous.autocast import without_autocast
from atrous.crf.approximations import Coarse, resized, smaller
from atrous.crf.backend import Backend, Prepared
from atrous.crf.kernels import Bilateral, Gaussian, Kernel, Normalization, Weight, require_image
from atrous.crf.mean_field import Pairwise, Storage
from atrous.crf.native_backend import NativeBackend, is_available
from atrous.crf.pydensecrf_backend import PydensecrfBackend
from atrous.crf.refiner import Refiner
from atrous.crf.torch_backend import TorchBackend
from atrous.errors import AtrousError, require_range
from atrous.geometry import size_of

Scores = Literal["logits", "probabilities", "energy"]
Result = Literal["logits", "probabilities"]

LEAST = 1e-5
"""Probabilities are raised to this before their logarithm is taken, as by ``pydensecrf.utils.unary_from_softmax``."""

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (TorchBackend(), NativeBackend(), PydensecrfBackend())
}
_AUTO = "auto"


class DenseCRF(Refiner):
    """A CRF in which every pixel is connected to all others, by mean-field inference (arXiv 1210.5644).

    Beginning with Q = softmax(scores), every step computes Q = softmax(scores − μ · Σ wₖ · kₖ(Q)), where kₖ(Q) sums up
    the Q of all pixels under a Gaussian of their features, the pixel itself included. It gives what pydensecrf gives,
    and a gradient to scores, and to weights and compatibility if they are trainable.

    Args:
        kernels: The Gaussians, with names if you like; ``None`` for a bilateral one with 4 / 67 / 3 and one of places
            with 3 / 3, the numbers of most users on VOC.
        compatibility: μ: ``potts``, a penalty of 1 for two different classes; C numbers for what each class gains from
            itself instead of 1; or C×C penalties of class i (row) beside class j (column), which should be symmetric.
        iterations: Steps of mean-field inference; not yet converged at the papers' 10, so they are part of the model.
        normalization: How the sums of a kernel over all pixels are brought to one scale: ``symmetric`` (pydensecrf),
            ``after`` (DeepLab's own code, which its parameters were tuned for), ``before`` or ``none``.
        backend: ``torch`` (any device), ``native`` (C++ on the CPU, built on first use), ``pydensecrf`` where that is
            installed, or ``auto``: native where there is a compiler, otherwise torch.
        trainable: What learns where the CRF is part of a network: ``weights``, which then are C×C for every kernel,
            ``compatibility``, or both (CRF-as-RNN, arXiv 1502.03240 §4). They begin as the numbers given.
        training_iterations: Steps in training; ``None`` for as many as otherwise.
        num_classes: C, given by the network; without it nothing learns.
        prune: Faster and not exact: labels that reach this probability nowhere in an image get no message, as one for
            all others; ``None`` for none. At 0.01 probabilities change by less than 0.001.
        storage: ``float16`` halves what lies between steps, which is faster for large images and not exact; native.
        resolution: Faster and not exact: messages are computed on images of this times the size, such as 0.5.

    Raises:
        AtrousError: A value is impossible, or numbers do not fit each other.
    """

    compatibility: Tensor | None

    def __init__(
        self,
        *,
        kernels: Mapping[str, Kernel] | Sequence[Kernel] | None = None,
        compatibility: Literal["potts"] | Sequence[float] | Sequence[Sequence[float]] = "potts",
        iterations: int = 10,
        normalization: Normalization = "symmetric",
        backend: str = _AUTO,
        trainable: Sequence[Literal["weights", "compatibility"]] = (),
        training_iterations: int | None = None,
        num_classes: int | None = None,
        prune: float | None = None,
        storage: Storage = "float32",
        resolution: float = 1.0,
    ) -> None:
        super().__init__()
        self._options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        require_range("crf.iterations", iterations, at_least=0)
        require_range("crf.training_iterations", training_iterations, at_least=0)
        require_range("crf.prune", prune, above=0, below=1)
        require_range("crf.resolution", resolution, above=0, at_most=1)
        if storage not in get_args(Storage):
            raise AtrousError(f"crf.storage={storage} is unknown: choose {', '.join(get_args(Storage))}")
        if normalization not in get_args(Normalization):
            raise AtrousError(
                f"crf.normalization={normalization} is unknown: choose {', '.join(get_args(Normalization))}"
            )
        if backend not in (_AUTO, *BACKENDS):
            raise AtrousError(f"crf.backend={backend} is unknown: choose {', '.join((_AUTO, *BACKENDS))}")
        given = (Bilateral(), Gaussian()) if kernels is None else kernels
        self.kernels = tuple(given.values() if isinstance(given, Mapping) else given)
        self.iterations = iterations
        self.normalization = normalization
        self.backend = backend
        self.prune, self.storage, self.resolution = prune, storage, resolution
        self.training_iterations = iterations if training_iterations is None else training_iterations
        if unknown := [each for each in trainable if each not in ("weights", "compatibility")]:
            raise AtrousError(f"crf.trainable: {unknown[0]} is unknown: choose weights, compatibility or both")
        if isinstance(compatibility, str) and compatibility != "potts":
            raise AtrousError(f"crf.compatibility={compatibility} is unknown: choose potts, or give numbers")
        weights = [_tensor("weight of a crf kernel", kernel.weight) for kernel in self.kernels]
        penalties = None if isinstance(compatibility, str) else _tensor("crf.compatibility", compatibility)
        self._classes = _agreed([*weights, penalties], num_classes)
        if prune is not None and (trainable or any(each.dim() == 2 for each in _given(*weights, penalties))):
            raise AtrousError(
                f"crf.prune={prune} leaves out labels that pairs of classes and gradients need: set crf.prune=null"
            )
        learns = () if num_classes is None else trainable
        if num_classes is not None and "weights" in learns:
            weights = [_square(weight, num_classes) for weight in weights]
        if num_classes is not None and "compatibility" in learns:
            # a penalty of −1 for equal classes differs from one of 1 for others by the same amount for all classes
            ones = torch.ones(num_classes) if penalties is None else penalties
            penalties = -_square(ones, num_classes) if ones.dim() < 2 else ones
        for number, weight in enumerate(weights):
            self._keep(f"weight_{number}", weight, learns="weights" in learns)
        self._keep("compatibility", penalties, learns="compatibility" in learns)
        if num_classes is None:
            self.eval()  # by itself it is used, not trained

    def learnable(self, num_classes: int) -> DenseCRF:
        """The same for a network of a number of classes: what is trainable learns."""
        return DenseCRF(**{**self._options, "num_classes": num_classes})

    def _keep(self, name: str, numbers: Tensor | None, *, learns: bool) -> None:
        """As a parameter, or as numbers that move to other devices but are no part of checkpoints."""
        if learns and numbers is not None:
            self.register_parameter(name, nn.Parameter(numbers))
        else:
            self.register_buffer(name, numbers, persistent=False)

    @property
    def description(self) -> str:
        """All numbers, such as ``CRF 4/67/3 + 3/3, 10 iterations, symmetric``."""
        kernels = " + ".join(map(str, self.kernels)) or "without kernels"
        compatibility = "" if self.compatibility is None else ", compatibility given"
        learned = " learned" if any(True for _ in self.parameters()) else ""
        said = [f"CRF {kernels}{compatibility}{learned}", f"{self.iterations} iterations", self.normalization]
        said += [] if self.prune is None else [f"labels from {self.prune:g}"]
        said += [] if self.storage == "float32" else [self.storage]
        said += [] if self.resolution == 1 else [f"at {self.resolution:g} of the size"]
        return ", ".join(said)

    def prepare(self, image: Tensor) -> Prepared:
        """Do with images what does not depend on scores, to call the CRF several times.

        Args:
            image: B×3×H×W, RGB, 0…255.

        Raises:
            AtrousError: These are no such images.
        """
        require_image(image)
        with torch.no_grad():
            backend = self._backend(image.device)
            if self.resolution == 1:
                return backend.prepare(image, self.kernels, self.normalization)
            height, width = size_of(image)
            small = resized(image.float(), smaller((height, width), self.resolution))
            kernels = [kernel.scaled(self.resolution) for kernel in self.kernels]
            return Coarse(backend.prepare(small, kernels, self.normalization), (len(image), height, width))

    def _backend(self, device: torch.device) -> Backend:
        if self.backend != _AUTO:
            return BACKENDS[self.backend]
        return BACKENDS["native" if is_available(device) else "torch"]

    def forward(
        self, scores: Tensor, image: Tensor | Prepared, *, takes: Scores = "logits", gives: Result = "logits"
    ) -> Tensor:
        """Run mean-field inference.

        Args:
            scores: B×C×H×W.
            image: B×3×H×W, RGB, 0…255, uint8 or float; or what ``prepare`` has made of it.
            takes: What the scores are: ``logits``, ``probabilities``, or their negative logarithms (``energy``).
            gives: ``logits``, or their softmax, ``probabilities``.

        Returns:
            B×C×H×W, float32 unless scores are float64.

        Raises:
            AtrousError: Scores and images do not fit together, or are not what they should be.
        """
        if isinstance(image, Tensor):
            require_image(image, scores)
        elif scores.dim() != 4 or (len(scores), *scores.shape[2:]) != image.shape:
            raise AtrousError(
                f"the CRF was prepared for {image.shape[0]} images of {image.shape[1]}×{image.shape[2]} pixels, but "
                f"scores are {'×'.join(map(str, scores.shape))}"
            )
        if self._classes not in (None, scores.shape[1]):
            raise AtrousError(f"the CRF has numbers for {self._classes} classes, but scores have {scores.shape[1]}")
        with without_autocast(scores.device.type):
            given = _as_scores(scores, takes)
            prepared = image if isinstance(image, Prepared) else self.prepare(image)
            pairwise = self._pairwise(given)
            if self.prune is not None and torch.is_grad_enabled() and pairwise.learns(given):
                raise AtrousError(f"crf.prune={self.prune} leaves out labels that gradients need: set crf.prune=null")
            solved = prepared.solve(given, pairwise)
            return solved.softmax(dim=1) if gives == "probabilities" else solved

    def refine(self, probabilities: Tensor, image: Tensor) -> Tensor:
        """See ``Refiner``."""
        refined: Tensor = self(probabilities, image, takes="probabilities", gives="probabilities")
        return refined

    def _pairwise(self, like: Tensor) -> Pairwise:
        weights = [cast(Tensor, getattr(self, f"weight_{number}")).to(like) for number in range(len(self.kernels))]
        compatibility = None if self.compatibility is None else self.compatibility.to(like)
        iterations = self.training_iterations if self.training else self.iterations
        return Pairwise(weights, compatibility, iterations, self.prune, self.storage)


def _as_scores(scores: Tensor, takes: Scores) -> Tensor:
    """Logits in float32 or float64.

    Raises:
        AtrousError: They are not finite, or no probabilities.
    """
    if takes not in get_args(Scores):
        raise AtrousError(f"the CRF takes no {takes!r}: choose {', '.join(get_args(Scores))}")
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    with torch.no_grad():
        # the sum tells almost always, without as many truth values
        if not scores.sum().isfinite() and not scores.isfinite().all():
            raise AtrousError(
                f"the CRF got {takes} that are not finite numbers: look for what made them infinite or not a number"
            )
        if takes == "probabilities" and (float(scores.amin()) < 0 or float(scores.amax()) > 1 + 1e-3):
            raise AtrousError(
                f"the CRF got probabilities between {float(scores.amin()):g} and {float(scores.amax()):g}: say "
                "that they are logits if they are"
            )
    if takes == "probabilities":
        return scores.clamp(min=LEAST).log()
    return -scores if takes == "energy" else scores


def _tensor(name: str, numbers: Weight) -> Tensor:
    """One number, several, or a square of them.

    Raises:
        AtrousError: They are something else.
    """
    try:
        tensor = torch.tensor(numbers, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise AtrousError(f"{name}={numbers} must be a number, one for each class, or rows of one length") from error
    if tensor.dim() > 2 or (tensor.dim() == 2 and tensor.shape[0] != tensor.shape[1]) or not tensor.isfinite().all():
        raise AtrousError(f"{name}={numbers} must be a finite number, one for each class, or a square of them")
    return tensor


def _square(weight: Tensor, classes: int) -> Tensor:
    """The same as C×C numbers."""
    return weight.clone() if weight.dim() == 2 else torch.diag(weight.expand(classes))


def _given(*tensors: Tensor | None) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor is not None]


def _agreed(tensors: Sequence[Tensor | None], classes: int | None) -> int | None:
    """The number of classes that all lists and squares are made for; ``None`` if there are none.

    Raises:
        AtrousError: They are made for different numbers.
    """
    counts = {len(tensor) for tensor in _given(*tensors) if tensor.dim() > 0}
    counts |= set() if classes is None else {classes}
    if len(counts) > 1:
        raise AtrousError(f"the numbers of the CRF are for {' and for '.join(map(str, sorted(counts)))} classes")
    return next(iter(counts), None)
