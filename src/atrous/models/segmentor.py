"""The segmentation network that users use, save and export."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.autocast import without_autocast
from atrous.crf import DenseCRF
from atrous.errors import AtrousError, require_range
from atrous.geometry import Grid, Size, size_of
from atrous.models.activation_checkpointing import recompute_in_backward, units_of
from atrous.models.atrous_convolution import compute_by
from atrous.models.backbones.backbone import Backbone
from atrous.models.batch_norm import fold_batch_norms, fuse_batch_norms
from atrous.models.heads.head import Head
from atrous.models.logit_map import LogitMap
from atrous.models.network import Network
from atrous.models.upsamplers.bilinear import Bilinear
from atrous.models.upsamplers.upsampler import Upsampler

Outputs = Literal["logits", "map", "all", "scores"]


class Segmentor(Network):
    """Preprocessing, backbone, head and upsampler in one module.

    Images are RGB with values 0…255, of any size. They are normalized as the backbone's weights expect and extended at
    the lower and right border with the mean color until the outermost features lie on the border (a multiple of the
    output stride plus one pixel: the papers' 513 and 769 need no extension). So features lie at the same place relative
    to the pixels whatever the image's size, and logits are cut back to the image's own size.

    Args:
        backbone: The feature extractor.
        head: Called with the backbone's maps and the number of channels that the upsampler takes.
        num_classes: Number of classes.
        upsampler: Called with ``grid`` and ``num_classes``.
        auxiliary: Called like ``head``; a second head that only takes part in training.
        auxiliary_weight: Weight of its loss.
        multi_grid: Factors on the atrous rates of the units of the backbone's last stage (v3 §3.2.1).
        batch_norm_momentum: Weight of a new batch in the running statistics of every batch norm (1 − decay in
            TensorFlow's terms: 0.0003 in the papers); ``None`` keeps PyTorch's 0.1.
        batch_norm_eps: Small number in the denominator of every batch norm; ``None`` keeps each layer's own.
        crf: A dense CRF that refines the logits as the last layer, in training too (CRF-as-RNN, arXiv 1502.03240); what
            is trainable in it learns.
        extend: Extend images as described above; otherwise the network gets them as they are, as the networks of
            torchvision and mmsegmentation do.

    Raises:
        AtrousError: The parts are incompatible, or a number is out of range.

    Attributes:
        loss_weights: Weight of the loss of every output that training sees; ``main`` is the one that is used.
    """

    std: Tensor

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: Callable[..., Head],
        num_classes: int,
        upsampler: Callable[..., Upsampler] = Bilinear,
        auxiliary: Callable[..., Head] | None = None,
        auxiliary_weight: float = 0.4,
        multi_grid: Sequence[int] | None = None,
        batch_norm_momentum: float | None = None,
        batch_norm_eps: float | None = None,
        crf: DenseCRF | None = None,
        extend: bool = True,
    ) -> None:
        super().__init__()
        require_range("model.auxiliary_weight", auxiliary_weight, at_least=0)
        require_range("model.batch_norm_momentum", batch_norm_momentum, above=0, at_most=1)
        require_range("model.batch_norm_eps", batch_norm_eps, above=0)
        self.num_classes = num_classes
        self.backbone = backbone
        self.extend = extend
        if multi_grid is not None:
            backbone.set_multi_grid(multi_grid)
        self.upsampler = upsampler(grid=backbone.grid, num_classes=num_classes)
        self.head = self._join(head, self.upsampler.score_channels)
        self.auxiliary = None if auxiliary is None else self._join(auxiliary, num_classes)
        self.loss_weights: Mapping[str, float] = {"main": 1.0} | (
            {} if auxiliary is None else {"auxiliary": auxiliary_weight}
        )
        if self.upsampler.ratio not in (None, self.head.stride):
            raise AtrousError(
                f"upsampler.ratio={self.upsampler.ratio} does not fit this head, whose scores have stride "
                f"{self.head.stride}: set upsampler.ratio={self.head.stride}"
            )
        if self.upsampler.ratio is not None and not extend:
            raise AtrousError(
                f"model.extend=false does not go with {type(self.upsampler).__name__}, which makes whole strides of "
                "pixels: set model.extend=true or upsampler=bilinear"
            )
        self.crf = None if crf is None else crf.learnable(num_classes)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = module.momentum if batch_norm_momentum is None else batch_norm_momentum
                module.eps = module.eps if batch_norm_eps is None else batch_norm_eps
        compute_by(self)
        self._fuse_batch_norms()
        self.register_buffer("mean", _per_channel(backbone.mean), persistent=False)
        self.register_buffer("std", _per_channel(backbone.std), persistent=False)

    def _join(self, head: Callable[..., Head], channels: int) -> Head:
        built = head(self.backbone.maps, channels)
        built.inherit(self.backbone)
        return built

    @torch.no_grad()
    def _fuse_batch_norms(self) -> None:
        """Join batch norms with the activations after them, in all heads."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        weight = next(self.parameters(), torch.empty(0))

        def run() -> None:
            features = self.backbone(torch.zeros(1, 3, 65, 65, dtype=weight.dtype, device=weight.device))
            for head in filter(None, (self.head, self.auxiliary)):
                head(features)

        fuse_batch_norms(self, run)
        for module, training in modes:
            module.training = training

    @property
    def grid(self) -> Grid:
        """Where features lie in the image."""
        return self.backbone.grid

    @property
    def output_stride(self) -> int:
        """Stride of the backbone's last feature map."""
        return self.backbone.output_stride

    @property
    def extension(self) -> int:
        """Images are extended to a multiple of this many pixels (plus one, on a grid of points)."""
        return self.backbone.extension

    def set_output_stride(self, output_stride: int) -> None:
        """Trade strides for atrous rates throughout, with the same weights (v3 §4.1: train at 16, test at 8).

        Raises:
            AtrousError: The backbone cannot have this output stride, or the upsampler is made for another one.
        """
        before = self.output_stride
        self.backbone.set_output_stride(output_stride)
        for head in filter(None, (self.head, self.auxiliary)):
            head.set_output_stride(output_stride)
        ratio = self.upsampler.ratio
        if ratio not in (None, self.head.stride):
            self.set_output_stride(before)
            raise AtrousError(
                f"output stride {output_stride} is impossible for this network: its {type(self.upsampler).__name__} "
                f"was trained to enlarge scores {ratio} times; keep output stride {before}"
            )

    def checkpoint_activations(self) -> None:
        """Keep the inputs of blocks and stages alone in training, and compute what is inside once more on the way back.

        It takes less memory and about a third more time; results and statistics stay the same.
        """
        recompute_in_backward(self.units())

    def units(self) -> list[nn.Module]:
        """Blocks and stages, in the order in which they are computed; what is computed is computed by calling them."""
        heads = [self.head] if self.auxiliary is None else [self.head, self.auxiliary]
        return [*self.backbone.units(), *(unit for head in heads for unit in units_of(head))]

    def preprocessing(self) -> dict[str, object]:
        """How images become inputs, as plain data for a checkpoint."""
        return {
            "channels": "RGB",
            "range": [0, 255],
            "mean": [255 * value for value in self.backbone.mean],
            "std": [255 * value for value in self.backbone.std],
            "extension": "lower and right border, mean color, to a multiple of the output stride"
            + (f" plus {self.grid.extra}" if self.grid.extra else "")
            if self.extend
            else "none",
        }

    @torch.no_grad()
    def folded(self) -> Segmentor:
        """A copy for prediction alone: in evaluation, with batch norms folded into the convolutions before them.

        Batch norms that follow something else stay.

        Raises:
            AtrousError: The network uses the result of a convolution twice, so it would compute something else.
        """
        copied = copy.deepcopy(self).eval()
        copied.requires_grad_(False)
        image = torch.rand(1, 3, 65, 65, generator=torch.Generator().manual_seed(0)).to(self.mean) * 255
        wanted = copied(image, outputs="map")
        fold_batch_norms(copied, lambda: copied(image, outputs="map"))
        if not torch.allclose(copied(image, outputs="map"), wanted, rtol=0, atol=float(1e-2 * wanted.std())):
            raise AtrousError("the batch norms of this network cannot be folded: it uses a convolution's result twice")
        return copied

    def forward(self, image: Tensor, *, outputs: Outputs = "logits") -> Tensor | dict[str, Tensor]:
        """Compute logits.

        Args:
            image: B×3×H×W, RGB, uint8 or float, 0…255.
            outputs: ``logits`` of the main output alone; what ``logit_map`` makes them from; ``all`` outputs that
                training sees, by name; or the ``scores`` of all of them at their own resolution.

        Returns:
            Logits B×C×H×W, the head's scores B×D×h×w, or for each name logits or scores B×C×h×w.
        """
        height, width = image.shape[-2:]
        extended = self.preprocess(image)  # B×3×H'×W', normalized; 500×375 becomes 513×385 at output stride 16
        if outputs == "map":
            return self.scores(extended)
        if outputs == "logits":
            logits = self._enlarge(self.scores(extended), extended, upsampler=self.upsampler)
            return self._refined(logits[..., :height, :width], image)  # back to the image's own size
        scores = self.training_scores(extended)
        if outputs == "scores":
            if not isinstance(self.upsampler, Bilinear):
                raise AtrousError(
                    f"scores of a {type(self.upsampler).__name__} are no class scores, so the loss cannot be taken on "
                    "them: set task.loss_resolution=labels"
                )
            if self.crf is not None:
                raise AtrousError(
                    "a CRF in the network refines logits at full size, so the loss cannot be taken on scores: set "
                    "task.loss_resolution=labels"
                )
            return scores
        logits_of = {
            name: self._enlarge(score, extended, upsampler=self.upsampler if name == "main" else None)[
                ..., :height, :width
            ]
            for name, score in scores.items()
        }
        return {**logits_of, "main": self._refined(logits_of["main"], image)}

    def logit_map(self, image: Tensor) -> LogitMap:
        """Run the network, and enlarge its scores only where somebody reads them.

        Args:
            image: B×3×H×W, RGB, uint8 or float, 0…255.
        """
        size = size_of(image)
        if self.crf is not None:  # which needs the logits of all pixels
            return LogitMap(
                self(image),
                Bilinear(grid=self.grid, num_classes=self.num_classes),
                num_classes=self.num_classes,
                grid=self.grid,
                size=size,
                extended=size,
            )
        scores = self(image, outputs="map")
        return LogitMap(
            scores,
            self.upsampler,
            num_classes=self.num_classes,
            grid=self.grid,
            size=size,
            extended=self.extended_size(size),
        )

    def scores(self, extended: Tensor) -> Tensor:
        """The head's output for normalized, extended images: B×D×h×w."""
        scores: Tensor = self.head(self.backbone(extended))  # B×3×H'×W' → maps, fine to coarse → B×D×h×w
        return scores

    def training_scores(self, extended: Tensor) -> dict[str, Tensor]:
        """Scores of every output that has a loss, by name."""
        features = self.backbone(extended)
        scores = {"main": self.head(features)}
        if self.auxiliary is not None:
            scores["auxiliary"] = self.auxiliary(features)
        return scores

    def preprocess(self, image: Tensor, size: Size | None = None) -> Tensor:
        """Normalize and extend images; see the class.

        Args:
            image: B×3×H×W, 0…255.
            size: Height and width to extend them to, always the right ones; ``None`` to find them out here.
        """
        normalized = (image.to(self.mean.dtype) - self.mean) / self.std
        own = size_of(image)
        height, width = self.extended_size(own) if size is None else size
        margins = (0, width - own[1], 0, height - own[0])
        return F.pad(normalized, margins) if size is not None or any(margins) else normalized  # 0 is the mean color

    def extended_size(self, size: Size) -> Size:
        """Height and width to which images of a size are extended; see the class."""
        bottom, right = self.grid.missing(size, self.extension) if self.extend else (0, 0)
        return size[0] + bottom, size[1] + right

    def _refined(self, logits: Tensor, image: Tensor) -> Tensor:
        """Logits of whole images after the CRF, if there is one."""
        if self.crf is None:
            return logits
        refined: Tensor = self.crf(logits, image)
        return refined

    def _enlarge(self, scores: Tensor, extended: Tensor, *, upsampler: Upsampler | None) -> Tensor:
        """Logits in float32 under autocast too: rounded to bf16, classes would tie and the first of them win."""
        size = size_of(extended)
        at_least_float32 = torch.promote_types(scores.dtype, torch.float32)
        with without_autocast(scores.device.type):
            if upsampler is None:
                return self.grid.resize(scores.to(at_least_float32), size)
            # in a network of half precision, the upsampler's weights have half precision too
            precision = next((weight.dtype for weight in upsampler.parameters()), at_least_float32)
            logits: Tensor = upsampler(scores.to(precision), size)
            return logits


def _per_channel(values: tuple[float, float, float]) -> Tensor:
    return 255 * torch.tensor(values).view(1, 3, 1, 1)
