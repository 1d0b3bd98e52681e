"""ADE20K's folders and its own table of classes, on generated files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from atrous.data.sets import ADE20K
from atrous.errors import AtrousError

NAMES = ["wall", "building, edifice", "sky", *(f"thing{index}, thing" for index in range(4, 150)), "wall"]


def table(separator: str, *, colors: bool = False, names: Sequence[str] = NAMES) -> str:
    """As in the archive (tabs) or as in the authors' repository (commas, other synonyms, sometimes colors)."""
    columns = ["Idx", "Ratio", "Train", "Val", *(["Color_Code (R,G,B)"] if colors else []), "Name"]
    lines = [separator.join(columns)]
    for index, name in enumerate(names, start=1):
        given = name if separator == "\t" else name.replace(", ", ";")
        color = [f'"({index}, 7, 200)"'] if colors else []
        lines.append(separator.join([str(index), "0.1", "10", "2", *color, given]))
    return "\n".join(lines) + "\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(name: str = "objectInfo150.txt", text: str = table("\t")) -> Path:
        folder = tmp_path / "ADEChallengeData2016"
        for part, count in (("training", 3), ("validation", 2)):
            for number in range(count):
                stem = f"ADE_{'train' if part == 'training' else 'val'}_{number:08d}"
                for kind, suffix in (("images", "jpg"), ("annotations", "png")):
                    (folder / kind / part).mkdir(parents=True, exist_ok=True)
                    ids = np.arange(152 * 6, dtype=np.int64).reshape(24, 38) % 151
                    pixels = ids.astype(np.uint8) if kind == "annotations" else np.zeros((24, 38, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / kind / part / f"{stem}.{suffix}")
        (folder / name).write_text(text, encoding="utf-8")
        return tmp_path

    return written


@pytest.mark.parametrize(("split", "length"), [("train", 3), ("val", 2), ("trainval", 5)])
@pytest.mark.parametrize(
    ("name", "text"),
    [("objectInfo150.txt", table("\t")), ("objectInfo150.csv", table(",")), ("objectInfo150.txt", table("\t") + "\n")],
)
def test_classes_are_those_of_the_table(
    split: str, length: int, name: str, text: str, write: Callable[..., Path]
) -> None:
    data = ADE20K(split, root=write(name, text))
    assert len(data) == length
    assert data.label_space.classes[:3] == ("wall 1", "building", "sky")
    assert data.label_space.classes[149] == "wall 150", "names that several classes share carry the id"
    mask = data[length - 1].mask
    raw = np.arange(152 * 6).reshape(24, 38) % 151
    np.testing.assert_array_equal(mask[raw > 0], raw[raw > 0] - 1)
    assert set(mask[raw == 0]) == {255}
    np.testing.assert_array_equal(data.label_space.decode(mask), raw)


def test_colors(write: Callable[..., Path]) -> None:
    without = ADE20K("val", root=write()).label_space
    assert without.palette[0] == (128, 0, 0), "VOC's color of id 1"
    root = write()
    savemat(root / "ADEChallengeData2016" / "color150.mat", {"colors": np.full((150, 3), 9, dtype=np.uint8)})
    assert set(ADE20K("val", root=root).label_space.palette) == {(9, 9, 9)}
    given = ADE20K("val", root=write("objectInfo150.txt", table("\t", colors=True))).label_space
    assert given.palette[:2] == ((1, 7, 200), (2, 7, 200))


def test_mistakes_are_explained(write: Callable[..., Path]) -> None:
    root = write()
    with pytest.raises(AtrousError, match="ade20k: unknown split 'test'; choose one of train, val, trainval"):
        ADE20K("test", root=root)
    with pytest.raises(AtrousError, match=r"no ADE20K in .*expected images and annotations"):
        ADE20K("val", root=root / "ADEChallengeData2016" / "images")
    for text in ("not\ta table\n", table("\t", names=NAMES[:149]), table("\t", names=[*NAMES[:-1], ""])):
        with pytest.raises(AtrousError, match=r"objectInfo150\.txt: (not a table of|expected the classes)"):
            ADE20K("val", root=write("objectInfo150.txt", text))
    with pytest.raises(AtrousError, match="expected 150 colors"):
        ADE20K("val", root=write("objectInfo150.txt", table("\t", colors=True).replace("7, 200", "7, 300")))
    (root / "ADEChallengeData2016" / "objectInfo150.txt").unlink()
    with pytest.raises(AtrousError, match=r"no objectInfo150\.txt or objectInfo150\.csv"):
        ADE20K("val", root=root)
