from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from atrous.commands.predict.image_files import ImageFile
from atrous.commands.predict.result_files import ResultFiles
from atrous.data.label_space import IGNORE_COLOR, LabelSpace
from atrous.errors import AtrousError

STREET = LabelSpace(
    name="street",
    classes=("road", "car"),
    palette=((128, 64, 128), (0, 0, 142)),
    raw_ids=(7, 26),
    ignored_raw_ids=(0, 255),
)


def image(tmp_path: Path, name: str = "sub/a.v2") -> ImageFile:
    return ImageFile(tmp_path / "in" / f"{name}.jpg", Path(name))


def test_mask_holds_raw_ids_in_their_colors(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 1], [1, 0, 255]], dtype=np.uint8)
    files = ResultFiles(tmp_path / "out", STREET)
    files.write(image(tmp_path), np.zeros((2, 3, 3), dtype=np.uint8), labels)
    with Image.open(tmp_path / "out" / "sub" / "a.v2.png") as mask:
        assert mask.mode == "P"
        assert mask.size == (3, 2)
        assert np.asarray(mask).tolist() == [[7, 26, 26], [26, 7, 0]]
        colors = np.asarray(mask.convert("RGB"))
    assert (colors == STREET.colorize(labels)).all()
    assert tuple(colors[1, 2]) == IGNORE_COLOR


def test_raw_ids_above_255_become_16_bit(tmp_path: Path) -> None:
    large = LabelSpace(name="large", classes=("a", "b"), palette=((1, 2, 3), (4, 5, 6)), raw_ids=(300, 24001))
    labels = np.array([[0, 1]], dtype=np.uint8)
    ResultFiles(tmp_path, large, overlay=False).write(image(tmp_path), np.zeros((1, 2, 3), dtype=np.uint8), labels)
    with Image.open(tmp_path / "sub" / "a.v2.png") as mask:
        assert np.asarray(mask).tolist() == [[300, 24001]]


@pytest.mark.parametrize("alpha", [0, 0.25, 1])
def test_overlay_blends(tmp_path: Path, alpha: float) -> None:
    rgb = np.full((16, 16, 3), (100, 200, 40), dtype=np.uint8)
    files = ResultFiles(tmp_path, STREET, alpha=alpha)
    files.write(image(tmp_path), rgb, np.ones((16, 16), dtype=np.uint8))
    expected = (1 - alpha) * rgb + alpha * np.array(STREET.palette[1])
    with Image.open(tmp_path / "overlay" / "sub" / "a.v2.jpg") as overlay:
        assert np.abs(np.asarray(overlay) - expected).max() <= 4


def test_results_exist_only_when_all_of_them_do(tmp_path: Path) -> None:
    one = image(tmp_path)
    with_overlay, without = ResultFiles(tmp_path, STREET), ResultFiles(tmp_path, STREET, overlay=False)
    assert not without.exist(one)
    without.write(one, np.zeros((1, 1, 3), dtype=np.uint8), np.zeros((1, 1), dtype=np.uint8))
    assert without.exist(one)
    assert not with_overlay.exist(one)


def test_nothing_but_results_is_left(tmp_path: Path) -> None:
    files = ResultFiles(tmp_path, STREET)
    for _ in range(2):
        files.write(image(tmp_path, "a"), np.zeros((1, 1, 3), dtype=np.uint8), np.zeros((1, 1), dtype=np.uint8))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.jpg", "a.png", "overlay"]


def test_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ResultFiles(tmp_path, STREET, overlay=False)
    rgb, labels = np.zeros((1, 1, 3), dtype=np.uint8), np.zeros((1, 1), dtype=np.uint8)
    files.write(image(tmp_path, "a"), rgb, labels)
    before = files.mask(image(tmp_path, "a")).read_bytes()

    def full(self: Image.Image, file: BinaryIO, **options: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(AtrousError, match=r"No space left on device.*skip_existing=true"):
        files.write(image(tmp_path, "a"), rgb, labels + 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert files.mask(image(tmp_path, "a")).read_bytes() == before


def test_image_is_not_overwritten(tmp_path: Path) -> None:
    picture = ImageFile(tmp_path / "a.png", Path("a"))
    with pytest.raises(AtrousError, match=r"would overwrite the image .*a\.png"):
        ResultFiles(tmp_path, STREET).require_apart([picture])
    ResultFiles(tmp_path / "out", STREET).require_apart([picture])


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match=r"alpha=1\.5 is not between 0 and 1"):
        ResultFiles(tmp_path, STREET, alpha=1.5)
    (tmp_path / "file").touch()
    with pytest.raises(AtrousError, match=r"output=.*file is no folder"):
        ResultFiles(tmp_path / "file", STREET)
