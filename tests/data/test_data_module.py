"""Loaders of a run: what is in a batch, and what is refused."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.data import LabelSpace, RawSample, Sample, SegmentationDataModule, SegmentationDataset, to_sample
from atrous.data.data_module import collate
from atrous.data.sets import Shapes
from atrous.data.sets.files import ImageMaskFiles, read_image
from atrous.errors import AtrousError

SIZES = {"train": 7, "val": 5, "test": 3}


class Numbers(SegmentationDataset):
    """Images filled with their own index."""

    label_space = LabelSpace("numbers", ("even", "odd"), ((0, 0, 0), (9, 9, 9)))

    def __init__(self, *, split: str, root: str | None = None, size: tuple[int, int] = (4, 6)) -> None:
        self.split = split
        self.root = root
        self.size = size
        self.names = [f"{split}-{i}" for i in range(SIZES[split])]

    def __getitem__(self, index: int) -> RawSample:
        image = np.full((*self.size, 3), index, dtype=np.uint8)
        return RawSample(image, np.full(self.size, index % 2, dtype=np.uint8), self.names[index])


def stamped(raw: RawSample, seed: int) -> Sample:
    """An augmentation that writes its seed into the name."""
    sample = to_sample(raw)
    sample["name"] = f"{raw.name}:{seed}"
    return sample


@pytest.fixture
def module() -> Callable[..., SegmentationDataModule]:
    def build(rank: int | None = None, world_size: int = 1, accumulate: int = 1, **options: Any) -> Any:
        settings = {"batch_size": 4, "validate_every": 3, "num_workers": 0, "dataset": Numbers, "augment": stamped}
        data = SegmentationDataModule(**{**settings, **options})
        if rank is not None:
            data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, accumulate_grad_batches=accumulate)
        return data

    return build


def test_a_training_batch(module: Callable[..., SegmentationDataModule]) -> None:
    (batch, *others) = list(module().train_dataloader())
    assert len(others) == 2
    assert batch["image"].shape == (4, 3, 4, 6)
    assert batch["mask"].shape == (4, 4, 6)
    assert batch["image"].dtype == batch["mask"].dtype == torch.uint8
    assert batch["size"] == [(4, 6)] * 4
    for image, mask, name in zip(batch["image"], batch["mask"], batch["name"], strict=True):
        index = int(name.split("-")[1].split(":")[0])
        assert bool((image == index).all())
        assert bool((mask == index % 2).all())


def test_every_draw_of_a_run_is_augmented_with_a_seed_of_its_own(module: Callable[..., SegmentationDataModule]) -> None:
    def seeds(seed: int) -> list[int]:
        loader = module(seed=seed).train_dataloader()
        return [int(name.split(":")[1]) for _ in range(4) for batch in loader for name in batch["name"]]

    both = seeds(0) + seeds(1)
    assert len(set(both)) == len(both) == 2 * 4 * 3 * 4


def test_processes_together_train_on_the_batch_of_one(module: Callable[..., SegmentationDataModule]) -> None:
    """Augmentation included: names carry the seeds."""
    alone = [batch["name"] for batch in module().train_dataloader()]
    shares = [[batch["name"] for batch in module(rank, 2).train_dataloader()] for rank in (0, 1)]
    for batch, first, second in zip(alone, *shares, strict=True):
        assert sorted(first + second) == sorted(batch)


def test_accumulation_lengthens_the_chunk(module: Callable[..., SegmentationDataModule]) -> None:
    """``validate_every`` counts optimizer steps, the loader batches."""
    assert len(module(0, 1, accumulate=4).train_dataloader()) == 12


def test_batch_size_has_to_be_shared_evenly(module: Callable[..., SegmentationDataModule]) -> None:
    with pytest.raises(AtrousError, match=r"data\.batch_size=4 .*must be a multiple of their number \(3\)"):
        module(0, 3).train_dataloader()


@pytest.mark.parametrize("stage", ["val", "test"])
def test_evaluation_sees_every_image_once_and_untouched(
    module: Callable[..., SegmentationDataModule], stage: str
) -> None:
    def names(data: SegmentationDataModule) -> list[str]:
        loader = data.val_dataloader() if stage == "val" else data.test_dataloader()
        return [name for batch in loader for name in batch["name"]]

    expected = [f"{stage}-{i}" for i in range(SIZES[stage])]
    assert names(module(eval_batch_size=2)) == expected
    assert sorted(names(module(0, 2)) + names(module(1, 2))) == expected


def test_splits_go_by_their_given_names(module: Callable[..., SegmentationDataModule]) -> None:
    data = module(train_split="val", test_split="train")
    assert data.dataset("train").split == "val"
    assert data.dataset("train") is data.dataset("val")
    assert data.split("test") == "train"
    assert data.label_space.name == "numbers"


def test_root_reaches_the_data_set_only_where_given(module: Callable[..., SegmentationDataModule]) -> None:
    assert vars(module(root="somewhere").dataset("val"))["root"] == "somewhere"
    assert vars(module().dataset("val"))["root"] is None


def test_images_of_different_sizes_cannot_share_a_batch(module: Callable[..., SegmentationDataModule]) -> None:
    raws = [Numbers(split="val", size=size)[0] for size in ((4, 6), (5, 6))]
    with pytest.raises(AtrousError, match=r"different sizes \(4x6, 5x6\) cannot share a batch: crop them to one size"):
        collate([to_sample(raw) for raw in raws])


class Damaged(Numbers):
    """Numbers of which the second cannot be read."""

    def __getitem__(self, index: int) -> RawSample:
        if index == 1:
            raise AtrousError("b.png: image cannot be read; replace the file")
        return super().__getitem__(index)


class Growing(Numbers):
    """Numbers of different sizes."""

    def __getitem__(self, index: int) -> RawSample:
        return super().__getitem__(index)._replace(mask=np.zeros((4, 6 + index), dtype=np.uint8))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        (Damaged, "b.png: image cannot be read; replace the file"),
        (Growing, r"images of different sizes \(.*\) cannot share a batch: crop them to one size"),
    ],
)
def test_a_worker_says_what_is_wrong_with_a_file_and_nothing_else(
    module: Callable[..., SegmentationDataModule], dataset: type[SegmentationDataset], sentence: str, workers: int
) -> None:
    data = module(dataset=dataset, num_workers=workers, eval_batch_size=2)
    others = set(multiprocessing.active_children())
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    for loader in loaders if dataset is Damaged else loaders[:1]:
        with pytest.raises(AtrousError) as raised:
            list(loader)
        assert re.fullmatch(sentence, str(raised.value))
        assert set(multiprocessing.active_children()) <= others


class Mixed(Numbers):
    """Numbers of three sizes in turn."""

    def __getitem__(self, index: int) -> RawSample:
        raw = super().__getitem__(index)
        side = 6 + index % 3
        return raw._replace(image=np.zeros((4, side, 3), dtype=np.uint8), mask=np.zeros((4, side), dtype=np.uint8))


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_images_of_one_size(
    module: Callable[..., SegmentationDataModule], world_size: int, workers: int
) -> None:
    """Every image once over all processes, in the order of the list within a size."""
    seen: list[str] = []
    for rank in range(world_size):
        loader = module(
            rank, world_size, dataset=Mixed, val_split="train", eval_batch_size=2, num_workers=workers
        ).val_dataloader()
        batches = [(batch["image"].shape, batch["name"]) for batch in loader]
        for batch in loader:
            assert batch["name"] == [f"train-{index}" for index in batch["index"]]
        assert len(loader) == len(batches)
        for shape, names in batches:
            assert {6 + int(name.rpartition("-")[2]) % 3 for name in names} == {shape[-1]}
            assert names == sorted(names, key=lambda name: int(name.rpartition("-")[2]))
        if world_size == 1:
            assert [len(names) for _, names in batches] == [2, 2, 2, 1]
        seen += [name for _, names in batches for name in names]
    assert sorted(seen) == sorted(f"train-{index}" for index in range(SIZES["train"]))


def test_a_size_is_known_without_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    files = ImageMaskFiles(Numbers.label_space, "val", names=["a"], images=[path], masks=[path])
    path.write_bytes(path.read_bytes()[:5000])
    assert files.image_size(0) == (50, 90)
    with pytest.raises(AtrousError, match="truncated"):
        read_image(path)
    path.write_bytes(b"nothing")
    with pytest.raises(AtrousError, match="not a picture in a known format"):
        files.image_size(0)
    assert Shapes("val", size=(64, 96)).image_size(0) == (64, 96)


def test_every_process_needs_an_image_to_score(module: Callable[..., SegmentationDataModule]) -> None:
    """One without would leave validation early, and the others would wait for its part of the score."""
    assert [len(module(rank, 5).val_dataloader()) for rank in range(5)] == [1] * 5
    for rank in range(6):
        with pytest.raises(AtrousError, match=r"numbers val has fewer images \(5\) than .*set trainer.devices to 5"):
            module(rank, 6).val_dataloader()


def test_workers_deliver_the_same_batches(module: Callable[..., SegmentationDataModule]) -> None:
    assert [b["name"] for b in module(num_workers=2).train_dataloader()] == [
        b["name"] for b in module().train_dataloader()
    ]


def test_classes_are_counted_once_and_kept_where_statistics_are(
    module: Callable[..., SegmentationDataModule], tmp_path: Path
) -> None:
    data = module(statistics=tmp_path, train_split="val", val_split="val")
    counts = data.class_counts("train")
    assert data.class_counts("val") is counts  # of the same split
    (file,) = tmp_path.iterdir()
    assert np.array_equal(np.load(file, allow_pickle=False), counts.pixels)
    assert counts.pixels[:2].tolist() == [[24, 0], [0, 24]]
    np.save(file, np.where(counts.occurs, 7, 0))  # a later run believes the file
    assert module(statistics=tmp_path, train_split="val").class_counts("train").pixels[0].tolist() == [7, 0]
    assert module(train_split="val").class_counts("train").pixels[0].tolist() == [24, 0]


def test_a_folder_for_a_data_set_without_files_is_refused(module: Callable[..., SegmentationDataModule]) -> None:
    with pytest.raises(AtrousError, match=r"data\.root is unknown; valid: split, size"):
        module(dataset=Shapes, root="/data")


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_shrunk_data_are_shrunk_everywhere(module: Callable[..., SegmentationDataModule], cache: str) -> None:
    data = module(shrink=2, cache=cache)
    (batch, *_) = data.val_dataloader()
    assert batch["image"].shape[-2:] == batch["mask"].shape[-2:] == (2, 3)
    assert data.class_counts("train").pixels.sum() == 7 * 6
    assert data.dataset("test").shrink == 2


def test_a_factor_below_one_is_refused(module: Callable[..., SegmentationDataModule]) -> None:
    with pytest.raises(AtrousError, match=r"data\.shrink=0 must be at least 1"):
        module(shrink=0)
