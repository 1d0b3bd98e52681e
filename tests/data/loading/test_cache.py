from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atrous.data import SegmentationDataModule
from atrous.data.augment import Augmentation
from atrous.data.dataset import RawSample, SegmentationDataset
from atrous.data.label_space import LabelSpace
from atrous.data.loading import cache
from atrous.data.loading.cache import CachedDataset, Kind
from atrous.data.sets import CamVid
from atrous.errors import AtrousError

SPACE = LabelSpace("counted", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
ROOM = 1.0  # GiB


class Counted(SegmentationDataset):
    """Pictures of several sizes that say how often each was read."""

    def __init__(self, length: int = 5, *, version: int = 0) -> None:
        self.label_space, self.split, self.version = SPACE, "train", version
        self.names = [str(index) for index in range(length)]
        self.reads = [0] * length

    def __getitem__(self, index: int) -> RawSample:
        self.reads[index] += 1
        height, width = self.image_size(index)
        rng = np.random.default_rng((self.version, index))
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        return RawSample(image, rng.choice(np.array([0, 1, 255], np.uint8), (height, width)), self.names[index])

    def image_size(self, index: int) -> tuple[int, int]:
        return 70 + index, 90

    def fingerprint(self, *, images: bool = False) -> str:
        return f"{self.version} {len(self)}"


def opened(dataset: SegmentationDataset, folder: Path, kind: Kind = "disk", gigabytes: float = ROOM) -> CachedDataset:
    cache._opened.clear()  # as in a process of its own
    return CachedDataset(dataset, kind=kind, folder=folder, gigabytes=gigabytes)


def same(one: RawSample, other: RawSample) -> bool:
    return one.name == other.name and np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_every_file_is_read_once(tmp_path: Path, kind: str) -> None:
    source, truth = Counted(), Counted()
    cached = opened(source, tmp_path, kind)
    assert cached.filled == 0
    for _ in range(3):
        for index in range(len(source)):
            assert same(cached[index], truth[index])
            assert np.array_equal(cached.mask(index), truth[index].mask)
            assert cached.image_size(index) == truth.image_size(index)
    assert source.reads == [1] * 5
    assert cached.filled == 5
    with pytest.raises(IndexError):
        cached[5]


def test_what_was_cached_cannot_be_written_to(tmp_path: Path) -> None:
    cached = opened(Counted(), tmp_path)
    cached[0]
    for pixels in cached[0][:2]:
        with pytest.raises(ValueError, match="read-only"):
            pixels[0, 0] = 1


def test_later_runs_read_no_file(tmp_path: Path) -> None:
    first = opened(Counted(), tmp_path)
    for index in range(3):
        first[index]
    source = Counted()
    second = opened(source, tmp_path)
    for index in range(5):
        assert same(second[index], Counted()[index])
    assert source.reads == [0, 0, 0, 1, 1]


def test_changed_files_are_read_anew(tmp_path: Path) -> None:
    old = opened(Counted(), tmp_path)
    for index in range(5):
        old[index]
    source = Counted(version=1)
    new = opened(source, tmp_path)
    assert same(new[2], Counted(version=1)[2])
    assert source.reads[2] == 1


def test_a_file_that_is_written_anew_is_noticed(camvid_folder: Path, tmp_path: Path) -> None:
    before = opened(CamVid("train", root=camvid_folder), tmp_path)
    before[0]
    other = CamVid("val", root=camvid_folder)
    image = CamVid("train", root=camvid_folder).images[0]
    shutil.copy(other.images[0], image)
    dataset = CamVid("train", root=camvid_folder)
    after = opened(dataset, tmp_path)
    assert after.filled == 0
    assert np.array_equal(after[0].image, other[0].image)


def slot(index: int) -> int:
    return -(-4 * (70 + index) * 90 // cache._PAGE) * cache._PAGE


@pytest.mark.parametrize("kind", ["ram", "disk"])
@pytest.mark.parametrize("fitting", [0, 2, 4])
def test_no_more_than_fits_is_kept(tmp_path: Path, kind: str, fitting: int) -> None:
    room = cache._PAGE + sum(slot(index) for index in range(fitting)) + 17
    source = Counted()
    cached = opened(source, tmp_path, kind, room / 2**30)
    for _ in range(2):
        for index in range(5):
            assert same(cached[index], Counted()[index])
    assert cached.capacity.samples == fitting
    assert cached.capacity.bytes <= room
    assert source.reads == [1] * fitting + [2] * (5 - fitting)
    if kind == "disk":
        assert sum(path.stat().st_size for path in tmp_path.glob("*.pixels")) <= room


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    whole = cache._PAGE + sum(slot(index) for index in range(5))
    for version in range(3):
        opened(Counted(version=version), tmp_path, gigabytes=2.5 * whole / 2**30)
        time.sleep(0.02)
        if version == 1:
            opened(Counted(version=0), tmp_path, gigabytes=2.5 * whole / 2**30)[0]
            time.sleep(0.02)
    assert len(list(tmp_path.glob("*.pixels"))) == 2
    assert opened(Counted(version=0), tmp_path, gigabytes=2.5 * whole / 2**30).filled == 1


def test_what_this_process_uses_stays(tmp_path: Path) -> None:
    whole = cache._PAGE + sum(slot(index) for index in range(5))
    room = 1.5 * whole / 2**30
    first = opened(Counted(), tmp_path, gigabytes=room)
    first[4]
    second = CachedDataset(Counted(version=1), kind="disk", folder=tmp_path, gigabytes=room)
    assert second.capacity.samples == 2
    assert first.filled == 1
    assert len(list(tmp_path.glob("*.pixels"))) == 2


def test_more_room_is_used(tmp_path: Path) -> None:
    few = (cache._PAGE + slot(0) + slot(1)) / 2**30
    assert opened(Counted(), tmp_path, gigabytes=few).capacity.samples == 2
    assert opened(Counted(), tmp_path, gigabytes=ROOM).capacity.samples == 5
    assert opened(Counted(), tmp_path, gigabytes=few).capacity.samples == 2


def fill_slowly(folder: Path, source: SegmentationDataset, begun: Event) -> None:
    """Write half a sample, say so, and wait to be killed."""
    dataset = CachedDataset(source, kind="disk", folder=folder, gigabytes=ROOM)
    dataset[0]
    start = int(dataset._places[1])
    dataset._memory[start : start + 9000] = bytes(range(250)) * 36
    begun.set()
    time.sleep(60)


def test_a_kill_in_the_middle_of_a_sample(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    begun = context.Event()
    process = context.Process(target=fill_slowly, args=(tmp_path, Counted(), begun))
    process.start()
    assert begun.wait(30)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    source = Counted()
    cached = opened(source, tmp_path)
    assert cached.filled == 1
    assert same(cached[0], Counted()[0])
    assert same(cached[1], Counted()[1])
    assert source.reads[:2] == [0, 1]


def build(folder: Path, order: list[int]) -> None:
    dataset = CachedDataset(Counted(40), kind="disk", folder=folder, gigabytes=ROOM)
    for index in order:
        assert same(dataset[index], Counted(40)[index])
    os._exit(0 if dataset.filled == 40 else 1)


def build_at_once(folder: Path, orders: list[list[int]]) -> None:
    """One process for each order."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=build, args=(folder, order)) for order in orders]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def test_one_builder_makes_the_file_while_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = cache._make

    def slowly(path: Path, length: int) -> None:
        (tmp_path / f"made_{os.getpid()}").touch()
        time.sleep(0.3)
        make(path, length)

    monkeypatch.setattr(cache, "_make", slowly)
    build_at_once(tmp_path, [list(range(40))] * 3)
    assert len(list(tmp_path.glob("made_*"))) == 1


def test_builders_share_a_file(tmp_path: Path) -> None:
    build_at_once(tmp_path, [list(range(40)), list(range(39, -1, -1)), list(range(40))])
    assert len(list(tmp_path.glob("*.pixels"))) == 1
    assert not list(tmp_path.glob("*.partial"))
    source = Counted(40)
    cached = opened(source, tmp_path)
    assert all(same(cached[index], Counted(40)[index]) for index in range(40))
    assert sum(source.reads) == 0


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_loaders_fill_it_for_each_other_and_batches_are_the_same(tmp_path: Path, kind: str) -> None:
    """Two loader processes; the process that trains sees what they have filled."""

    def module(**options: Any) -> SegmentationDataModule:
        augment = Augmentation(33, color={"brightness": 0.3})
        return SegmentationDataModule(
            dataset=lambda split: Counted(), augment=augment, batch_size=2, validate_every=8, num_workers=2, **options
        )

    cached = module(cache=kind, cache_folder=tmp_path)
    for ours, theirs in zip(cached.train_dataloader(), module().train_dataloader(), strict=True):
        assert ours["name"] == theirs["name"]
        assert torch.equal(ours["image"], theirs["image"])
        assert torch.equal(ours["mask"], theirs["mask"])
    seen = cached.cached("train")
    assert isinstance(seen, CachedDataset)
    assert seen.filled == 5
    for ours, theirs in zip(cached.val_dataloader(), module().val_dataloader(), strict=True):
        assert torch.equal(ours["image"], theirs["image"])
        assert torch.equal(ours["mask"], theirs["mask"])


def test_another_process_opens_the_same_file(tmp_path: Path) -> None:
    cached = opened(Counted(), tmp_path)
    cached[3]
    again = pickle.loads(pickle.dumps(cached))
    assert again.filled == 1
    assert same(again[3], Counted()[3])
    with pytest.raises(AtrousError, match=r"data\.cache=ram needs loader processes that are forked"):
        pickle.dumps(opened(Counted(), tmp_path, "ram"))


def test_a_file_of_another_length_is_made_anew(tmp_path: Path) -> None:
    opened(Counted(), tmp_path)[0]
    path = next(tmp_path.glob("*.pixels"))
    path.write_bytes(b"")
    assert opened(Counted(), tmp_path).filled == 0
    sizes = next(tmp_path.glob("*.sizes.npy"))
    sizes.write_bytes(b"damaged")
    assert same(opened(Counted(), tmp_path)[2], Counted()[2])


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AtrousError, match=r"data\.cache=disk: .*file.* cannot be used"):
        opened(Counted(), tmp_path / "file" / "inside")


def test_room_on_the_disk_bounds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_free", lambda folder: int((cache._PAGE + slot(0) + slot(1)) / 0.8) + 10)
    assert opened(Counted(), tmp_path).capacity.samples == 2


def test_older_files_make_room_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cache._PAGE + sum(slot(index) for index in range(5))
    opened(Counted(version=1), tmp_path)

    def free(folder: Path) -> int:  # of a disk that has room for one file
        return whole + 10 - sum(path.stat().st_size for path in folder.glob("*.pixels"))

    monkeypatch.setattr(cache, "_free", free)
    assert opened(Counted(version=2), tmp_path).capacity.samples == 5
    assert len(list(tmp_path.glob("*.pixels"))) == 1


def test_room_in_memory_bounds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_memory", lambda: int((cache._PAGE + slot(0) + slot(1)) / 0.8) + 10)
    assert opened(Counted(), tmp_path, "ram").capacity.samples == 2


def test_splits_share_the_memory_that_is_allowed(tmp_path: Path) -> None:
    room = (2 * cache._PAGE + sum(slot(index) for index in range(5)) + slot(0)) / 2**30
    module = SegmentationDataModule(
        dataset=lambda split: Counted(), augment=Augmentation(33), cache="ram", cache_gb=room, num_workers=0
    )
    held = [
        cached.capacity.samples for cached in map(module.cached, ("train", "val")) if isinstance(cached, CachedDataset)
    ]
    assert held == [5, 1]


def test_what_does_not_fit_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    room = (cache._PAGE + slot(0)) / 2**30
    module = SegmentationDataModule(
        dataset=lambda split: Counted(), augment=Augmentation(33), cache="ram", cache_gb=room, num_workers=0
    )
    module.train_dataloader()
    assert "there is room for 1 of the 5 images of counted train" in capsys.readouterr().out


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(AtrousError, match=r"data\.cache_gb=0 must be greater than 0"):
        SegmentationDataModule(dataset=lambda split: Counted(), augment=Augmentation(33), cache_gb=0)
