from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.commands.predict.image_files import find_images, read_rgb
from atrous.errors import AtrousError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(given: Path | str, output: Path) -> dict[str, str]:
    return {image.path.name: str(image.name) for image in find_images(str(given), output=output).images}


def test_folder_keeps_subfolders_and_leaves_out_other_files(tmp_path: Path) -> None:
    images = tmp_path / "images"
    touch(images, "a.jpg", "B.PNG", "sub/deep/c.webp", "notes.txt", ".hidden.png", ".cache/d.png", "e.v2.tiff")
    assert names(images, tmp_path / "out") == {"a.jpg": "a", "B.PNG": "B", "c.webp": "sub/deep/c", "e.v2.tiff": "e.v2"}


def test_order_is_that_of_the_paths(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a/z.png", "c.png")
    found = [image.path for image in find_images(str(tmp_path), output=tmp_path / "out").images]
    assert found == sorted(found)
    assert len(found) == 3


def test_equal_stems_keep_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.jpg", "a.png", "a.jpg.png", "b.jpg", "sub/a.jpg", "c.jpg", "C.bmp")
    found = find_images(str(tmp_path / "in"), output=tmp_path / "out").images
    results = [str(image.name).lower() for image in found]
    assert len(set(results)) == len(found) == 7
    assert {str(image.path.relative_to(tmp_path / "in")): str(image.name) for image in found} == {
        "a.jpg": "a.jpg",
        "a.png": "a.png",
        "a.jpg.png": "a.jpg.png",
        "b.jpg": "b",
        "sub/a.jpg": "sub/a",
        "c.jpg": "c.jpg",
        "C.bmp": "C.bmp",
    }


def test_results_of_an_earlier_run_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "out/a.png", "out/overlay/a.jpg")
    assert names(tmp_path, tmp_path / "out") == {"a.jpg": "a"}


def test_glob_is_relative_to_its_fixed_part(tmp_path: Path) -> None:
    touch(tmp_path, "x/left/a.jpg", "y/left/a.jpg", "y/right/a.jpg", "x/left/a.txt")
    found = find_images(str(tmp_path / "*" / "left" / "*"), output=tmp_path / "out").images
    assert [str(image.name) for image in found] == ["x/left/a", "y/left/a"]
    everything = find_images(str(tmp_path / "**" / "*.jpg"), output=tmp_path / "out").images
    assert [str(image.name) for image in everything] == ["x/left/a", "y/left/a", "y/right/a"]


def test_name_with_glob_characters_is_a_name_where_it_exists(tmp_path: Path) -> None:
    touch(tmp_path, "photo[1].jpg")
    assert names(tmp_path / "photo[1].jpg", tmp_path) == {"photo[1].jpg": "photo[1]"}


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "in", tmp_path / "out") == {"a.jpg": "a", "b.jpg": "linked/b"}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("missing", "does not exist"),
        ("empty", "holds no image"),
        ("empty/*.jpg", "matches no image"),
        ("text.txt", "is not an image by its suffix"),
    ],
)
def test_nothing_found_names_input_and_suffixes(tmp_path: Path, given: str, reason: str) -> None:
    touch(tmp_path, "text.txt", "empty/text.txt")
    with pytest.raises(AtrousError) as error:
        find_images(str(tmp_path / given), output=tmp_path / "out")
    assert f"input={tmp_path / given} {reason}" in str(error.value)
    assert ".jpeg, .jpg, .pgm, .png" in str(error.value)


def test_output_among_the_images_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(AtrousError, match="is the folder of the images"):
        find_images(str(tmp_path), output=tmp_path)
    with pytest.raises(AtrousError, match="is the folder of the images"):
        find_images(str(tmp_path / "*.jpg"), output=tmp_path)
    assert names(tmp_path / "a.jpg", tmp_path) == {"a.jpg": "a"}


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tif", "jpg"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    pixels = np.full((5, 7, 3), (200, 30, 90), dtype=np.uint8)
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(pixels).save(path)
    read = read_rgb(path)
    assert read.shape == (5, 7, 3)
    assert read.dtype == np.uint8
    assert np.abs(read.astype(int) - pixels).max() <= (0 if suffix in ("png", "bmp", "tif") else 6)


def test_modes_become_rgb(tmp_path: Path) -> None:
    rgba = np.zeros((2, 2, 4), dtype=np.uint8)
    rgba[..., :3] = (10, 20, 30)
    rgba[0, 0, 3] = 255
    pictures = {
        "rgba": Image.fromarray(rgba),
        "gray": Image.fromarray(np.full((2, 2), 77, dtype=np.uint8)),
        "bit": Image.fromarray(np.full((2, 2), True)),
        "palette": Image.fromarray(np.full((2, 2, 3), (255, 0, 0), dtype=np.uint8)).quantize(4),
    }
    expected = {"rgba": (10, 20, 30), "gray": (77, 77, 77), "bit": (255, 255, 255), "palette": (255, 0, 0)}
    for name, picture in pictures.items():
        path = tmp_path / f"{name}.png"
        options = {"transparency": b"\x00\x80"} if name == "palette" else {}
        picture.save(path, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert (read_rgb(path) == expected[name]).all(), name


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_gray_is_scaled(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(path)
    assert read_rgb(path)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert read_rgb(path).shape == (1, 4, 3)


def test_orientation_tag_is_not_applied(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert read_rgb(path).shape == (20, 30, 3)


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((64, 64), 50).convert("RGB").save(whole)
    half = tmp_path / "half.jpg"
    half.write_bytes(whole.read_bytes()[: os.path.getsize(whole) // 2])
    floating = tmp_path / "floating.tif"
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(floating)
    for path, reason in (
        (text, "not a picture in a known format"),
        (half, "cannot be decoded"),
        (floating, "floating-point pixels"),
        (tmp_path / "gone.png", "the file is gone"),
    ):
        with pytest.raises(AtrousError, match=reason):
            read_rgb(path)


def picture(path: Path, size: tuple[int, int] = (6, 4), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 40)).save(path, **options)
    return path


def test_files_that_are_passed_over_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    kept = picture(folder / "sub" / "b.png")
    animation = folder / "a.mp4"
    animation.write_bytes(b"x")
    notes = folder / "notes.txt"
    notes.write_text("x")
    (folder / ".hidden").write_text("x")
    nowhere = folder / "gone.jpg"
    nowhere.symlink_to(tmp_path / "nowhere.jpg")
    picture(folder / "out" / "b.png")
    found = find_images(str(folder), output=folder / "out")
    assert [image.path for image in found.images] == [kept]
    assert found.passed_over == sorted([animation, notes, nowhere])
    matched = find_images(str(folder / "*"), output=tmp_path / "out2") if picture(folder / "c.jpg") else None
    assert matched is not None
    assert matched.passed_over == sorted([animation, notes, nowhere, folder / "out", folder / "sub"])


@pytest.mark.parametrize("name", ["animation.gif", "animation.png", "animation.webp", "pages.tif", "animation.jpg"])
def test_pictures_with_several_frames_are_refused_whatever_their_name(tmp_path: Path, name: str) -> None:
    kind = {".gif": "GIF", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".jpg": "GIF"}[Path(name).suffix]
    frames = [Image.new("RGB", (6, 4), (shade, 30, 40)) for shade in (0, 90, 200)]
    path = tmp_path / name
    frames[0].save(path, format=kind, save_all=True, append_images=frames[1:])
    with pytest.raises(AtrousError, match="it holds 3 frames or pages; save the one that you mean"):
        read_rgb(path)


def test_a_photograph_with_a_preview_is_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "camera.jpg"
    Image.new("RGB", (6, 4), (0, 0, 255)).save(
        path, format="MPO", save_all=True, append_images=[Image.new("RGB", (3, 2), (255, 0, 0))]
    )
    pixels = read_rgb(path)
    assert pixels.shape == (4, 6, 3)
    assert pixels[..., 2].min() > 200


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_if_asked(tmp_path: Path, orientation: int) -> None:
    """EXIF's table: what the row 0 and the column 0 of the stored pixels are in the scene."""
    stored = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    scene = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    tag = Image.Exif()
    tag[0x0112] = orientation
    path = tmp_path / "photo.png"
    Image.fromarray(stored).save(path, exif=tag)
    assert (read_rgb(path) == stored).all()
    assert (read_rgb(path, upright=True) == scene).all()
