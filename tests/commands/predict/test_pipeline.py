from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from atrous.commands.predict.image_files import ImageFile
from atrous.commands.predict.pipeline import Result, predict_files
from atrous.commands.predict.progress import with_progress
from atrous.errors import AtrousError

Pixels = NDArray[np.uint8]


@pytest.fixture
def images(tmp_path: Path) -> list[ImageFile]:
    """Twelve images of three sizes, each of one gray value, and two broken files among them."""
    files = []
    for index in range(14):
        path = tmp_path / f"{index:02}.png"
        if index in (3, 8):
            path.write_text("broken")
        else:
            Image.new("RGB", ((10, 6), (6, 10), (8, 8))[index % 3], (index, 0, 0)).save(path)
        files.append(ImageFile(path, Path(path.stem)))
    return files


class Recorder:
    """Stands for network and writer: the label of a pixel is its red value."""

    def __init__(self, largest: int = 1000) -> None:
        self.batches: list[int] = []
        self.written: dict[str, set[int]] = {}
        self.largest = largest
        self._lock = threading.Lock()

    def predict(self, batch: Pixels) -> Pixels:
        if batch[..., 0].size > self.largest:
            raise MemoryError("needs more memory than cpu has")
        self.batches.append(len(batch))
        return batch[..., 0]

    def write(self, image: ImageFile, rgb: Pixels, labels: Pixels) -> None:
        assert rgb.shape[:2] == labels.shape
        with self._lock:
            self.written[str(image.name)] = set(labels.flatten().tolist())


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_every_image_gets_its_own_labels(images: list[ImageFile], batch_size: int) -> None:
    recorder = Recorder(largest=10**6)
    results = list(predict_files(images, predictor=recorder.predict, write=recorder.write, batch_size=batch_size))
    good = [index for index in range(14) if index not in (3, 8)]
    assert recorder.written == {f"{index:02}": {index} for index in good}
    assert sorted(str(result.image.name) for result in results) == [f"{index:02}" for index in range(14)]
    failed = {str(result.image.name): result.failure for result in results if result.failure}
    assert failed == dict.fromkeys(("03", "08"), "not a picture in a known format")
    assert max(recorder.batches) <= batch_size
    if batch_size == 4:
        assert recorder.batches.count(4) >= 2


def test_many_sizes_do_not_pile_up(tmp_path: Path) -> None:
    files = []
    for index in range(40):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (index + 1, 3)).save(path)
        files.append(ImageFile(path, Path(path.stem)))
    recorder = Recorder()
    first = next(iter(predict_files(files, predictor=recorder.predict, write=recorder.write, batch_size=2)))
    assert first.failure is None
    assert len(recorder.batches) < 20
    done = list(predict_files(files, predictor=recorder.predict, write=recorder.write, batch_size=2))
    assert len(done) == len(recorder.written) == 40


def test_batch_too_large_for_memory_is_split(images: list[ImageFile]) -> None:
    recorder = Recorder(largest=62)  # one image of 6x10, none of 8x8
    results = list(predict_files(images, predictor=recorder.predict, write=recorder.write, batch_size=4))
    reasons = {result.failure for result in results if result.failure}
    assert reasons == {"not a picture in a known format", "with 8x8 pixels it needs more memory than cpu has"}
    assert len(recorder.written) == 9
    assert set(recorder.batches) == {1}


def test_failed_write_stops(images: list[ImageFile]) -> None:
    def full(image: ImageFile, rgb: Pixels, labels: Pixels) -> None:
        raise AtrousError("disk full")

    with pytest.raises(AtrousError, match="disk full"):
        list(predict_files(images, predictor=Recorder().predict, write=full, batch_size=1))


@pytest.mark.parametrize("batch_size", [0, -1, "many"])
def test_batch_size_is_checked(batch_size: int) -> None:
    recorder = Recorder()
    with pytest.raises(AtrousError, match=f"batch_size={batch_size} is not a positive whole number"):
        list(predict_files([], predictor=recorder.predict, write=recorder.write, batch_size=batch_size))


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_passes_everything_on(terminal: bool) -> None:
    results = [Result(ImageFile(Path(f"{index}.png"), Path(str(index)))) for index in range(25)]
    results.append(Result(ImageFile(Path("x.png"), Path("x")), "broken"))
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=120)
    assert list(with_progress(results, 26, console)) == results
    assert "26/26" in written.getvalue()
    if terminal:
        assert "1 failed" in written.getvalue()
    else:
        assert len(written.getvalue().splitlines()) <= 10
