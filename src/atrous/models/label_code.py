"""A code of label windows: what DUpsampling learns about labels before any network is trained (1903.02120 §3).

A mask is cut into windows of r×r pixels, one per feature of the network. A window is a vector v of N = r·r·C zeros and
ones, classes first, then rows, then columns; void pixels are zero in all classes. The code of a window is ``x = P v``
and its reconstruction ``W x``; P and W have the least squared error over the windows of a data set, without bias.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from atrous.atomic_file import atomic_file
from atrous.errors import AtrousError
from atrous.geometry import Grid, Size
from atrous.places import command

VOID = 255
Mask = NDArray[np.uint8]
Progress = Callable[[str], None]

_WINDOWS_AT_ONCE = 4096
_DENSE_WINDOWS_AT_ONCE = 256


@dataclass(frozen=True)
class LabelCode:
    """Matrices that compress windows of labels and reconstruct them.

    Attributes:
        ratio: Side r of a window in pixels.
        num_classes: Number of classes C.
        grid: Where windows lie: around pixel ``r·i`` (``points``) or from pixel ``r·i`` on (``cells``).
        encoder: P, width×N; or two matrices with a ReLU between them (hidden×N, width×hidden).
        decoder: W, N×width; or two matrices with a ReLU between them (hidden×width, N×hidden).
        explained: Share of the energy of the windows it was fitted to that the reconstruction keeps:
            1 − Σ‖v − v̂‖² / Σ‖v‖².
        origin: What it was fitted to, in words.
    """

    FORMAT: ClassVar[int] = 1

    ratio: int
    num_classes: int
    grid: Grid
    encoder: tuple[Tensor, ...]
    decoder: tuple[Tensor, ...]
    explained: float
    origin: str = ""

    @property
    def width(self) -> int:
        """Numbers in the code of a window."""
        return self.decoder[0].shape[1]

    @property
    def hidden(self) -> int | None:
        """Width of the decoder's hidden layer; ``None`` for a linear code."""
        return self.decoder[0].shape[0] if len(self.decoder) > 1 else None

    def compress(self, mask: Mask) -> Tensor:
        """Code of a mask H×W: width×h×w, one column per feature of the network."""
        windows = cut_windows(mask, ratio=self.ratio, num_classes=self.num_classes, grid=self.grid)
        code = _encode(torch.from_numpy(windows.reshape(-1, self.ratio**2)), self.encoder)
        return code.T.reshape(-1, *windows.shape[:2])

    def reconstruct(self, code: Tensor, size: Size) -> Tensor:
        """Evidence for every class at every pixel, C×H×W, of a code width×h×w."""
        windows = _decode(code.flatten(1).T, self.decoder).T.reshape(1, -1, *code.shape[1:])
        return self.grid.lay_out(windows, size, side=self.ratio)[0]

    def save(self, path: str | Path) -> None:
        """Write a file of plain tensors, numbers and strings, completely or not at all."""
        plain = {
            "label_code": self.FORMAT,
            "ratio": self.ratio,
            "num_classes": self.num_classes,
            "grid": self.grid.value,
            "encoder": [matrix.contiguous() for matrix in self.encoder],
            "decoder": [matrix.contiguous() for matrix in self.decoder],
            "explained": self.explained,
            "origin": self.origin,
        }
        with atomic_file(path) as file:
            torch.save(plain, file)

    @classmethod
    def load(cls, path: str | Path) -> LabelCode:
        """Read a file that ``save`` wrote.

        Raises:
            AtrousError: The file is missing, or is another kind of file.
        """
        if not Path(path).is_file():
            raise AtrousError(f"there is no label code {path}; {command('prepare')} task=dupsampling writes one")
        try:
            plain = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise AtrousError(
                f"{path} cannot be read as a label code: it is damaged, or another kind of file"
            ) from error
        if not isinstance(plain, dict) or plain.get("label_code") != cls.FORMAT:
            raise AtrousError(
                f"{path} is not a label code of format {cls.FORMAT}; {command('prepare')} task=dupsampling writes one"
            )
        return cls(
            ratio=plain["ratio"],
            num_classes=plain["num_classes"],
            grid=Grid(plain["grid"]),
            encoder=tuple(plain["encoder"]),
            decoder=tuple(plain["decoder"]),
            explained=plain["explained"],
            origin=plain["origin"],
        )


def cut_windows(mask: Mask, *, ratio: int, num_classes: int, grid: Grid) -> Mask:
    """Cut a mask H×W into the windows of a network's features: h×w×r², void where they reach over the mask's border.

    Raises:
        AtrousError: The mask holds an id that is neither a class nor void.
    """
    known = mask[mask != VOID]
    if known.size and known.max() >= num_classes:
        raise AtrousError(f"a mask holds the id {known.max()}, but there are {num_classes} classes and void is {VOID}")
    before = grid.overhang(ratio)
    height, width = (grid.features(extent, ratio) for extent in mask.shape)
    frame = np.full((height * ratio, width * ratio), VOID, dtype=np.uint8)
    # on a grid of points the last window reaches at least as far as the last pixel
    frame[before : before + mask.shape[0], before : before + mask.shape[1]] = mask
    windows = frame.reshape(height, ratio, width, ratio).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(windows).reshape(height, width, ratio * ratio)


def fit_closed_form(
    masks: Iterable[Mask],
    *,
    num_classes: int,
    ratio: int,
    width: int = 64,
    grid: Grid = Grid.POINTS,
    passes: int = 16,
    tolerance: float = 1e-5,
    oversampling: int = 16,
    seed: int = 0,
    origin: str = "",
    progress: Progress | None = None,
) -> LabelCode:
    """Principal directions of the label windows, without centering: the best linear code there is (§3).

    ``W`` has the first eigenvectors of ΣvvT in its columns and P is its transpose. They are found by block power
    iteration from a random subspace with Rayleigh–Ritz (Halko, Martinsson and Tropp 2011, §4.5): every pass over the
    masks multiplies ΣvvT with a thin matrix, window by window. Windows of a single class, the majority, are only
    counted; the others are multiplied class by class, by those pixels only that a class has. Memory is a few thin
    matrices N×(width + oversampling), whatever the number of masks.

    Args:
        masks: Labels uint8 H×W, 255 void; iterated once per pass.
        num_classes: Number of classes.
        ratio: Side of a window.
        width: Numbers in the code of a window.
        grid: Where windows lie.
        passes: At most this many passes over the masks.
        tolerance: Stop when a pass changes the explained share of the energy by less.
        oversampling: Directions that are followed beyond ``width``, which speeds up convergence.
        seed: Seed of the random start.
        origin: What the masks are, in words.
        progress: Called after every mask with the name of the pass.

    Raises:
        AtrousError: ``width`` is impossible, or no pixel has a label.
    """
    length = _length(num_classes, ratio, width)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(length, min(length, width + oversampling), generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(start).Q
    explained = -math.inf
    for number in range(1, passes + 1):
        image = torch.zeros_like(basis)
        counts, energy = torch.zeros(num_classes, dtype=torch.float64), 0.0
        for batch in _batches(masks, ratio, num_classes, grid, stage=f"pass {number}", progress=progress):
            image += _normal_product(batch.mixed, basis.float())
            counts += batch.pure
            energy += batch.labeled
        if energy == 0:
            raise AtrousError(f"no pixel of the masks{_of(origin)} has a label, so there is nothing to fit")
        by_class = basis.view(num_classes, ratio**2, -1).sum(dim=1) * counts[:, None]
        image.view(num_classes, ratio**2, -1).add_(by_class[:, None])
        values, vectors = torch.linalg.eigh(_symmetric(basis.T @ image))
        values, vectors = values.flip(0)[:width], vectors.flip(1)[:, :width]
        before, explained = explained, float(values.sum()) / energy
        decoder = basis @ vectors
        if explained - before < tolerance:
            break
        basis = torch.linalg.qr(image).Q
    weights = decoder.float().contiguous()
    return LabelCode(ratio, num_classes, grid, (weights.T.contiguous(),), (weights,), explained, origin)


def fit_by_gradient(
    masks: Iterable[Mask],
    *,
    num_classes: int,
    ratio: int,
    width: int = 64,
    hidden: int | None = None,
    grid: Grid = Grid.POINTS,
    epochs: int = 5,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
    start: LabelCode | None = None,
    seed: int = 0,
    origin: str = "",
    progress: Progress | None = None,
) -> LabelCode:
    """Train P and W as an autoencoder by stochastic gradient descent with Adam's step sizes (§3).

    A step sees random windows of several classes, and one window of each single class with the weight of their number.
    The learning rate falls linearly to zero.

    Args:
        masks: Labels uint8 H×W, 255 void; iterated once per epoch and twice more to count.
        num_classes: Number of classes.
        ratio: Side of a window.
        width: Numbers in the code of a window.
        hidden: Width of a hidden layer with ReLU in encoder and decoder; ``None`` for a linear autoencoder.
        grid: Where windows lie.
        epochs: Passes over the masks.
        batch_size: Windows per step.
        learning_rate: Adam's, at the start.
        start: Linear code to start from; a hidden layer of at least twice its width starts as exactly this code, since
            ``x = relu(x) − relu(−x)``. ``None`` for random weights.
        seed: Seed of weights and order.
        origin: What the masks are, in words.
        progress: Called after every mask with the name of the epoch.

    Raises:
        AtrousError: ``width`` or ``hidden`` is impossible, or no window has more than one class.
    """
    length = _length(num_classes, ratio, width)
    if hidden is not None and start is not None and hidden < 2 * width:
        raise AtrousError(f"dupsampling.hidden={hidden} must be at least twice dupsampling.width={width}")
    generator = torch.Generator().manual_seed(seed)
    encoder, decoder = _first_layers(length, width, hidden, start, generator)
    layers = [matrix.requires_grad_() for matrix in (*encoder, *decoder)]
    optimizer = torch.optim.Adam(layers, lr=learning_rate)
    counts, mixed = torch.zeros(num_classes), 0
    for batch in _batches(masks, ratio, num_classes, grid, stage="counting", progress=progress):
        counts += batch.pure.float()
        mixed += len(batch.mixed)
    if not mixed:
        raise AtrousError(f"no window of the masks{_of(origin)} has two classes: use dupsampling.method=closed_form")
    single = _windows_of_one_class(num_classes, ratio)
    done = 0
    for epoch in range(1, epochs + 1):
        for batch in _batches(masks, ratio, num_classes, grid, stage=f"epoch {epoch}", progress=progress):
            order = torch.randperm(len(batch.mixed), generator=generator)
            for chosen in torch.split(order, batch_size):
                optimizer.param_groups[0]["lr"] = learning_rate * (1 - done / (mixed * epochs))
                windows = batch.mixed[chosen]
                loss = _squared_errors(windows, encoder, decoder, num_classes).mean()
                loss = loss + (_squared_errors(single, encoder, decoder, num_classes) * counts).sum() / mixed
                optimizer.zero_grad()
                torch.autograd.backward(loss / ratio**2)
                optimizer.step()
                done += len(chosen)
    for matrix in layers:
        matrix.requires_grad_(False)
    fitted = LabelCode(ratio, num_classes, grid, tuple(encoder), tuple(decoder), math.nan, origin)
    explained = explained_energy(fitted, masks, progress=progress)
    return LabelCode(ratio, num_classes, grid, fitted.encoder, fitted.decoder, explained, origin)


def explained_energy(code: LabelCode, masks: Iterable[Mask], *, progress: Progress | None = None) -> float:
    """Share of the energy of the windows of some masks that a code keeps: 1 − Σ‖v − v̂‖² / Σ‖v‖².

    Raises:
        AtrousError: No pixel has a label.
    """
    error, energy = 0.0, 0.0
    counts = torch.zeros(code.num_classes, dtype=torch.float64)
    layers = (code.encoder, code.decoder, code.num_classes)
    for batch in _batches(masks, code.ratio, code.num_classes, code.grid, stage="measuring", progress=progress):
        counts += batch.pure
        energy += batch.labeled
        for windows in torch.split(batch.mixed, _DENSE_WINDOWS_AT_ONCE):
            error += float(_squared_errors(windows, *layers).double().sum())
    if energy == 0:
        raise AtrousError("no pixel of the masks has a label, so there is nothing to measure")
    error += float((_squared_errors(_windows_of_one_class(code.num_classes, code.ratio), *layers) * counts).sum())
    return 1 - error / energy


@dataclass(frozen=True)
class _Batch:
    """Windows of several masks.

    Attributes:
        mixed: Labels m×r², uint8, of the windows that have several classes, or void besides a class.
        pure: Number of windows of each single class, float64.
        labeled: Number of pixels with a label, those of pure windows included.
    """

    mixed: Tensor
    pure: Tensor
    labeled: float


def _batches(
    masks: Iterable[Mask], ratio: int, num_classes: int, grid: Grid, *, stage: str, progress: Progress | None
) -> Iterator[_Batch]:
    """Sort the windows of a pass over the masks into batches of bounded size."""
    waiting: list[Mask] = []
    counts, labeled, number = np.zeros(num_classes), 0, 0

    def gathered() -> _Batch:
        mixed = np.concatenate(waiting) if waiting else np.empty((0, ratio**2), dtype=np.uint8)
        return _Batch(torch.from_numpy(mixed), torch.from_numpy(counts), float(labeled))

    for mask in masks:
        windows = cut_windows(mask, ratio=ratio, num_classes=num_classes, grid=grid).reshape(-1, ratio**2)
        first = windows[:, 0]
        pure = (windows == first[:, None]).all(axis=1)
        counts += np.bincount(first[pure & (first != VOID)], minlength=num_classes)
        labeled += int((mask != VOID).sum())
        waiting.append(windows[~pure])
        number += len(waiting[-1])
        if number >= _WINDOWS_AT_ONCE:
            yield gathered()
            waiting, counts, labeled, number = [], np.zeros(num_classes), 0, 0
        if progress is not None:
            progress(stage)
    yield gathered()


def _members(labels: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For each class in windows m×r²: the class, the windows that have it, and their indicators of it (float)."""
    for label in torch.bincount(labels.flatten(), minlength=1).nonzero().flatten().tolist():
        if label != VOID:
            here = labels == label
            rows = here.any(dim=1).nonzero().flatten()
            yield label, rows, here[rows].float()


def _normal_product(labels: Tensor, basis: Tensor) -> Tensor:
    """ΣvvT times a matrix N×l, over windows m×r²: N×l, float64."""
    members = list(_members(labels))
    blocks = basis.view(-1, labels.shape[1], basis.shape[1])
    projected = basis.new_zeros(len(labels), basis.shape[1])
    for label, rows, indicator in members:
        projected.index_add_(0, rows, indicator @ blocks[label])
    product = torch.zeros(blocks.shape, dtype=torch.float64)
    for label, rows, indicator in members:
        product[label] = (indicator.T @ projected[rows]).double()
    return product.view(basis.shape)


def _encode(labels: Tensor, encoder: Sequence[Tensor]) -> Tensor:
    """Codes m×width of windows m×r², without their dense vectors."""
    first = encoder[0].T
    blocks = first.reshape(-1, labels.shape[1], first.shape[1])
    code = first.new_zeros(len(labels), first.shape[1])
    for label, rows, indicator in _members(labels):
        code = code.index_add(0, rows, indicator.to(code.dtype) @ blocks[label])
    for matrix in encoder[1:]:
        code = code.relu() @ matrix.T
    return code


def _decode(code: Tensor, decoder: Sequence[Tensor]) -> Tensor:
    """Reconstructed vectors m×N of codes m×width."""
    for matrix in decoder[:-1]:
        code = (code @ matrix.T).relu()
    return code @ decoder[-1].T


def _squared_errors(labels: Tensor, encoder: Sequence[Tensor], decoder: Sequence[Tensor], num_classes: int) -> Tensor:
    """‖v − v̂‖² of each of some windows m×r²; the dense vectors exist for these windows only."""
    found = labels.long()
    classes = F.one_hot(found.where(found < num_classes, num_classes), num_classes + 1)[..., :num_classes]
    truth = classes.transpose(1, 2).flatten(1).to(decoder[-1].dtype)
    errors: Tensor = (truth - _decode(_encode(labels, encoder), decoder)).square().sum(dim=1)
    return errors


def _windows_of_one_class(num_classes: int, ratio: int) -> Tensor:
    return torch.arange(num_classes, dtype=torch.uint8)[:, None].expand(-1, ratio**2).contiguous()


def _first_layers(
    length: int, width: int, hidden: int | None, start: LabelCode | None, generator: torch.Generator
) -> tuple[list[Tensor], list[Tensor]]:
    """Encoder and decoder before training."""

    def random(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator) / math.sqrt(columns)

    if start is None:
        if hidden is None:
            return [random(width, length)], [random(length, width)]
        return [random(hidden, length), random(width, hidden)], [random(hidden, width), random(length, hidden)]
    if hidden is None:
        return [start.encoder[0].clone()], [start.decoder[0].clone()]
    (encoder,), (decoder,) = start.encoder, start.decoder
    rest, one = hidden - 2 * width, torch.eye(width)
    return (
        [torch.cat([encoder, -encoder, random(rest, length)]), torch.cat([one, -one, torch.zeros(width, rest)], dim=1)],
        [
            torch.cat([one, -one, random(rest, width)]),
            torch.cat([decoder, -decoder, torch.zeros(length, rest)], dim=1),
        ],
    )


def _length(num_classes: int, ratio: int, width: int) -> int:
    length = num_classes * ratio**2
    if ratio < 1 or not 1 <= width <= length:
        raise AtrousError(
            f"a code of width {width} is impossible for windows of {ratio}x{ratio} pixels with {num_classes} classes: "
            f"choose 1 to {length}"
        )
    return length


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2


def _of(origin: str) -> str:
    return f" of {origin}" if origin else ""
