"""The metric adds up over batches, and over processes that saw different amounts."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from atrous.metrics import SegmentationScore, confusion_matrix

NUM_CLASSES = 4
SHARES = ((0, 1, 2, 3, 4), (5, 6))  # images of the first and of the second process


def image_pair(index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and truth of one image, of a size of its own."""
    generator = torch.Generator().manual_seed(index)
    shape = (1, 4 + index, 6)
    target = torch.randint(0, NUM_CLASSES, shape, generator=generator)
    target[torch.rand(shape, generator=generator) < 0.1] = 255
    return torch.randint(0, NUM_CLASSES, shape, generator=generator), target


def score(indices: tuple[int, ...]) -> SegmentationScore:
    """A metric that has seen these images."""
    metric = SegmentationScore(NUM_CLASSES)
    for index in indices:
        metric.update(*image_pair(index))
    return metric


def test_batches_add_up() -> None:
    metric = score((0, 1, 2))
    expected = sum(confusion_matrix(*image_pair(index), NUM_CLASSES) for index in range(3))
    assert torch.equal(metric.total_confusion(), torch.as_tensor(expected))
    assert metric.confusion.dtype == torch.int64
    metric.reset()
    assert metric.total_confusion().sum() == 0


def test_half_precision_modules_keep_integer_counts() -> None:
    assert score((0,)).half().confusion.dtype == torch.int64


def _share(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=len(SHARES))
    metric = score(SHARES[rank])
    torch.save((metric.compute(), metric.total_confusion(), metric.confusion), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_with_unequal_shares_equal_one(tmp_path: Path) -> None:
    method = mp.get_start_method()  # a fork, where there is one, imports nothing again
    mp.start_processes(_share, args=(str(tmp_path),), nprocs=len(SHARES), start_method=method)
    alone = score(SHARES[0] + SHARES[1])
    for rank, share in enumerate(SHARES):
        scores, total, own = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert scores == alone.compute()
        assert torch.equal(total, alone.total_confusion())
        assert torch.equal(own, score(share).confusion), "counts of other processes must not stay in this one's"
