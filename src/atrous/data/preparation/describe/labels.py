"""Labels that tools wrote as outlines, found in a folder with their images."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import yaml

from atrous.data.annotations import AnnotatedImage, read_coco, read_labelme, read_yolo
from atrous.data.decoding import image_size, is_turned
from atrous.data.preparation.describe.splits import SPLIT_OF_WORD
from atrous.data.preparation.parallel import in_parallel
from atrous.data.sets.files import naming
from atrous.errors import AtrousError

Tool = Literal["coco", "labelme", "yolo"]
_LOOKED_AT = 5
_MOST_CLASSES = 254  # besides the background
LABELME_VOID, LABELME_BACKGROUND = "__ignore__", "_background_"
"""Labelme's own labels."""

_YOLO_NAMES = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml", "classes.txt", "obj.names", "coco.yaml")


class Labels(NamedTuple):
    """Outlines of a folder.

    Attributes:
        classes: Names of the classes besides the background.
        images: What is on each image, by its path in the folder.
        splits: Images of each split, where the files say it.
        upright: Whether outlines fit images once they are turned as their EXIF tag says; ``None`` if none is turned.
    """

    classes: tuple[str, ...]
    images: dict[str, AnnotatedImage]
    splits: dict[str, list[str]]
    upright: bool | None


def find_tool(root: Path, pictures: Sequence[str]) -> Tool | None:
    """Which tool wrote labels into a folder; ``None`` if there are none that we know."""
    for path in _json_files(root)[:_LOOKED_AT]:
        kind = _kind(path)
        if kind is not None:
            return kind
    some = itertools.islice(_yolo_files(root, pictures), _LOOKED_AT)
    return "yolo" if any(_is_yolo(path) for _, path in some) else None


def read_labels(root: Path, tool: Tool, pictures: Sequence[str], *, workers: int | None = None) -> Labels:
    """Read all outlines of a folder.

    Args:
        root: The folder.
        tool: Who wrote them.
        pictures: Pictures of the folder, as paths in it.
        workers: Processes; ``None`` for one on each core.

    Raises:
        AtrousError: A file is none of the tool's, an image is missing, or has another size than its file says.
    """
    if tool == "labelme":
        labels = _read_labelme(root, pictures, workers)
    else:
        labels = {"coco": _read_coco, "yolo": _read_yolo}[tool](root, pictures)
    if not labels.images:
        raise AtrousError(f"{root}: the labels ({tool}) name no image")
    if len(labels.classes) > _MOST_CLASSES:
        found = len(labels.classes)
        raise AtrousError(f"{root}: the labels ({tool}) have {found} classes; at most {_MOST_CLASSES} are possible")
    return labels


def _json_files(root: Path) -> list[Path]:
    files = (path.relative_to(root) for path in root.rglob("*.json"))
    return sorted(
        root / path for path in files if not any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    )


def _kind(path: Path) -> Tool | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, Mapping):
        return None
    if {"images", "annotations", "categories"} <= content.keys():
        return None if _has_keypoints(content["categories"]) else "coco"
    return "labelme" if {"shapes", "imagePath"} <= content.keys() else None


def _has_keypoints(categories: object) -> bool:
    """Whether a file is about the poses of objects that another file names too, as COCO's own are."""
    return isinstance(categories, list) and any("keypoints" in each for each in categories if isinstance(each, dict))


def _is_yolo(path: Path) -> bool:
    """Whether the first line of a text is a class and corners, or a class and a box."""
    try:
        words = path.read_text(encoding="utf-8-sig").split("\n", 1)[0].split()
        return len(words) >= 5 and words[0].isdigit() and all(-1 <= float(word) <= 2 for word in words[1:])
    except (OSError, ValueError):
        return False


def _read_coco(root: Path, pictures: Sequence[str]) -> Labels:
    files = [path for path in _json_files(root) if _kind(path) == "coco"]
    classes: dict[str, None] = {}
    images: dict[str, AnnotatedImage] = {}
    splits: dict[str, list[str]] = {}
    find = _Finder(pictures)
    fits = []
    for path in files:
        names, annotated = read_coco(path)
        classes |= dict.fromkeys(names)
        found = []
        for each in annotated:
            place = find(each.file, near=path.parent.relative_to(root).as_posix(), said_by=path)
            found.append(place)
            before = images[place].outlines if place in images else ()
            images[place] = dataclasses.replace(each, outlines=(*before, *each.outlines))
            fits.append(_fit(root / place, each.size, said_by=path))
        splits.setdefault(_split_of(path, root), []).extend(found)
    splits = {split: list(dict.fromkeys(paths)) for split, paths in splits.items()}
    return Labels(tuple(classes), images, splits if len(splits) > 1 else {}, _either(fits, root))


def _split_of(path: Path, root: Path) -> str:
    """The split that a file of annotations is for, by its name or its folder."""
    words = [*path.stem.lower().replace("-", "_").replace(".", "_").split("_"), path.parent.name.lower()]
    if path.parent == root:
        words = words[:-1]
    for word in words:
        plain = word.rstrip("0123456789")
        if plain in SPLIT_OF_WORD:
            return SPLIT_OF_WORD[plain]
    return path.stem


def _read_labelme(root: Path, pictures: Sequence[str], workers: int | None) -> Labels:
    find = _Finder(pictures)
    files = [path for path in _json_files(root) if find.knows(path.stem) or _kind(path) == "labelme"]
    read = in_parallel(read_labelme, files, "reading labels", workers=workers)
    images: dict[str, AnnotatedImage] = {}
    classes: set[str] = set()
    fits = []
    for path, each in zip(files, read, strict=True):
        near = path.parent.relative_to(root).as_posix()
        place = find(each.file, near=near, said_by=path, otherwise=path.stem)
        images[place] = each
        classes.update(outline.label for outline in each.outlines)
        fits.append(_fit(root / place, each.size, said_by=path))
    return Labels(tuple(sorted(classes - {LABELME_VOID, LABELME_BACKGROUND})), images, {}, _either(fits, root))


def _read_yolo(root: Path, pictures: Sequence[str]) -> Labels:
    names = _yolo_names(root)
    if names is None:
        raise AtrousError(
            f"{root}: YOLO's labels hold numbers; the names of their classes are expected in {_YOLO_NAMES[0]} (names:) "
            "or classes.txt"
        )
    files = dict(_yolo_files(root, pictures))
    folders = {picture.rpartition("/")[0] for picture in files}
    images: dict[str, AnnotatedImage] = {}
    splits: defaultdict[str, list[str]] = defaultdict(list)
    turned = False
    for picture in pictures:
        if picture.rpartition("/")[0] not in folders:
            continue
        path = root / picture
        with naming(path, "image"):
            size = image_size(path, upright=True)
            turned = turned or is_turned(path.read_bytes())
        label = files.get(picture, root / picture)
        images[picture] = read_yolo(label if label.suffix == ".txt" else Path(), names, file=picture, size=size)
        splits[_split_word(picture)].append(picture)
    return Labels(names, images, {} if "" in splits else dict(splits), True if turned else None)


def _split_word(picture: str) -> str:
    words = (SPLIT_OF_WORD.get(folder.lower()) for folder in picture.split("/")[:-1])
    return next((word for word in words if word is not None), "")


def _yolo_files(root: Path, pictures: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Images with their text files: beside them, or in ``labels`` where they are in ``images``."""
    for picture in pictures:
        stem = picture[: picture.rindex(".")]
        parts = stem.split("/")
        places = [stem]
        if "images" in parts:
            at = len(parts) - 1 - parts[::-1].index("images")
            places.insert(0, "/".join([*parts[:at], "labels", *parts[at + 1 :]]))
        for place in places:
            if (root / f"{place}.txt").is_file():
                yield picture, root / f"{place}.txt"
                break


def _yolo_names(root: Path) -> tuple[str, ...] | None:
    for file in _YOLO_NAMES:
        for path in sorted([root / file, *root.glob(f"*/{file}")]):
            if not path.is_file():
                continue
            try:
                text = path.read_text(encoding="utf-8-sig")
                if path.suffix not in (".yaml", ".yml"):
                    return tuple(line.strip() for line in text.splitlines() if line.strip()) or None
                content = yaml.safe_load(text)
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise AtrousError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
            names = content.get("names") if isinstance(content, Mapping) else None
            if isinstance(names, list) and names:
                return tuple(map(str, names))
            if isinstance(names, Mapping) and names:
                numbers = sorted(int(number) for number in names)
                if numbers != list(range(len(numbers))):
                    raise AtrousError(f"{path}: names must be numbered from 0 without gaps")
                return tuple(str(names[number]) for number in numbers)
    return None


class _Finder:
    """Finds the picture that a file of labels means."""

    def __init__(self, pictures: Sequence[str]) -> None:
        self._known = set(pictures)
        self._of_file: defaultdict[str, list[str]] = defaultdict(list)
        self._of_stem: defaultdict[str, list[str]] = defaultdict(list)
        for picture in pictures:
            file = picture.rpartition("/")[2]
            self._of_file[file].append(picture)
            self._of_stem[file[: file.rindex(".")]].append(picture)

    def knows(self, stem: str) -> bool:
        """Whether a picture is called so."""
        return stem in self._of_stem

    def __call__(self, name: str, *, near: str, said_by: Path, otherwise: str | None = None) -> str:
        """The path of a picture: beside the labels, in the folder, in its ``images``, or the only one of this name."""
        plain = name.replace("\\", "/").removeprefix("./")
        beside = "" if near == "." else f"{near}/"
        for place in (f"{beside}{plain}", plain, f"{beside}images/{plain}", f"images/{plain}"):
            if place in self._known:
                return place
        candidates = self._of_file[plain.rpartition("/")[2]] or (self._of_stem[otherwise] if otherwise else [])
        same_end = [each for each in candidates if each.endswith(f"/{plain}")] or candidates
        if len(same_end) == 1:
            return same_end[0]
        problem = f"{len(same_end)} pictures have this name" if same_end else "there is no such picture in the folder"
        raise AtrousError(f"{said_by}: it labels {name!r}, but {problem}")


class _Fit(NamedTuple):
    turned: bool
    stored: bool
    upright: bool


def _fit(path: Path, size: tuple[int, int], *, said_by: Path) -> _Fit:
    """Whether labels made for a size fit an image as it is stored, and once it is upright."""
    with naming(path, "image"):
        stored, upright = image_size(path), image_size(path, upright=True)
        turned = is_turned(path.read_bytes())
    if size not in (stored, upright):
        raise AtrousError(
            f"{said_by}: it labels {path.name} at {size[1]}x{size[0]} pixels, but the image has {stored[1]}x{stored[0]}"
        )
    return _Fit(turned, size == stored, size == upright)


def _either(fits: Sequence[_Fit], root: Path) -> bool | None:
    """Whether all labels fit upright images; tools show images upright, so that is meant where both are possible."""
    turned = [fit for fit in fits if fit.turned]
    if not turned:
        return None
    if all(fit.upright for fit in turned):
        return True
    if all(fit.stored for fit in turned):
        return False
    raise AtrousError(f"{root}: some labels fit images as they are stored, and others as their EXIF tags turn them")
