from __future__ import annotations

from pathlib import Path

import pytest

from atrous.data.description import Pattern, picture_files
from atrous.errors import AtrousError


@pytest.mark.parametrize(
    ("pattern", "path", "name"),
    [
        ("images/{name}.jpg", "images/a.jpg", "a"),
        ("images/{name}.jpg", "images/train/a b.jpg", "train/a b"),
        ("images/{name}.jpg", "images/a.png", None),
        ("images/{name}.jpg", "other/images/a.jpg", None),
        ("images/{name}.*", "images/a.JPG", "a"),
        ("images/{name}.*", "images/a.txt", None),
        ("images", "images/sub/a.tif", "sub/a"),
        (".", "a.png", "a"),
        ("{name}_mask.png", "ship_mask.png", "ship"),
        ("{name}_mask.png", "ship.png", None),
        ("{folder}/masks/{name}.png", "val/masks/a.png", "val/a"),
        ("{folder}annot/{name}.png", "trainannot/a.png", "train/a"),
        ("*/masks/{name}.png", "x/masks/a.png", "a"),
        ("*/masks/{name}.png", "x/y/masks/a.png", None),
        ("a.b/{name}.png", "aXb/c.png", None),
    ],
)
def test_names_of_files(pattern: str, path: str, name: str | None) -> None:
    assert Pattern(pattern).name(path) == name


@pytest.mark.parametrize(
    "pattern", ["images/*.jpg", "{name}/{name}.png", "../{name}.png", "/abs/{name}.png", "{nam}.png", "{name}{x}.png"]
)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(AtrousError, match=r"^masks: "):
        Pattern(pattern, key="masks")


def test_pictures_below_a_folder(tmp_path: Path) -> None:
    for path in ("b.PNG", "sub/a.jpg", "sub/deeper/c.tiff", ".hidden/d.png", "__MACOSX/._b.png", ".e.png", "f.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    elsewhere = tmp_path.with_name(f"{tmp_path.name}_elsewhere")
    elsewhere.mkdir()
    (elsewhere / "g.png").touch()
    (tmp_path / "link").symlink_to(elsewhere)
    (tmp_path / "sub" / "up").symlink_to(tmp_path)  # a circle
    assert picture_files(tmp_path) == ["b.PNG", "link/g.png", "sub/a.jpg", "sub/deeper/c.tiff"]


def test_a_folder_with_the_name_of_a_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(AtrousError, match=r"a\.jpg has the name of a picture but is a folder"):
        picture_files(tmp_path)
