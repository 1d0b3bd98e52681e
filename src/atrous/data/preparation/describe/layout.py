"""Which pictures of a folder are images, and which are their masks."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from atrous.data.description import Pattern
from atrous.errors import AtrousError

_SPLIT_WORD = re.compile(r"(?:^|(?<=[_-]))(training|train|trn|validation|valid|val|dev|testing|test)(?=$|[_-]|annot)")
_WORDS_OF_MASKS = re.compile(r"mask|label|annot|segm|truth|target|\bgt|_gt|ground", re.IGNORECASE)
_WORDS_OF_OTHERS = re.compile(r"colou?r|instance|object|overlay|visual|preview|depth|edge|train_?ids", re.IGNORECASE)
_WORDS_OF_ENDS = re.compile(f"{_WORDS_OF_MASKS.pattern}|image|img|rgb|photo", re.IGNORECASE)
_FEWEST = 2
_LOOKED_AT = 5
_MOST_COLORS = 300  # of a mask; photographs have thousands
_MOST_PATTERNS = 12  # that a file may belong to


class Layout(NamedTuple):
    """Files of samples by pattern.

    Attributes:
        images: Pattern of the images.
        masks: Pattern of the masks.
        names: Samples with both, sorted.
        unlabeled: Samples without a mask, sorted.
    """

    images: Pattern
    masks: Pattern
    names: list[str]
    unlabeled: list[str]


class _Form(NamedTuple):
    """A pattern in parts, which counts the files that fit it."""

    before: str  # folders up to the name, such as "images/"
    end: str  # of the name, such as "_mask"
    suffix: str  # ".png", or ".*"

    @property
    def text(self) -> str:
        return f"{self.before}{{name}}{self.end}{self.suffix}"


def find_layout(root: Path, files: Sequence[str], *, images: str | None = None, masks: str | None = None) -> Layout:
    """Find the patterns of images and masks.

    Pairs are files of equal names in two folders, or with two ends in one; of several, the one with most pairs counts.

    Args:
        root: The folder.
        files: Its pictures, as paths in it.
        images: The pattern of images, if it is known.
        masks: The pattern of masks, if it is known.

    Raises:
        AtrousError: There are no pairs, or nobody can tell images and masks apart.
    """
    if images is not None and masks is not None:
        return _layout(Pattern(images, key="describe.images"), Pattern(masks, key="describe.masks"), files)
    found = _pairs(files)
    for pattern, place, key in ((images, 0, "describe.images"), (masks, 1, "describe.masks")):
        if pattern is not None:
            wanted = Pattern(pattern, key=key).text
            found = Counter({pair: count for pair, count in found.items() if wanted in (pair[0].text, pair[1].text)})
            found = Counter({_with(pair, wanted, place): count for pair, count in found.items()})
    if not found:
        raise AtrousError(
            f"{root}: {len(files):,} pictures, but no two folders with files of the same names, and no names with two "
            "ends such as _mask: name the two folders, describe.images=photos describe.masks=labels"
        )
    most = max(found.values())
    candidates = [pair for pair, count in found.items() if count == most]
    known = images is not None or masks is not None
    ranked = sorted((pair if known else _in_order(root, files, pair) for pair in candidates), key=_rank)
    best = ranked[0]
    return _layout(Pattern(best[0].text), Pattern(best[1].text), files)


def _with(pair: tuple[_Form, _Form], wanted: str, place: int) -> tuple[_Form, _Form]:
    """The pair, with the wanted pattern at its place."""
    return pair if pair[place].text == wanted else (pair[1], pair[0])


def _layout(images: Pattern, masks: Pattern, files: Sequence[str]) -> Layout:
    of_images: set[str] = set()
    of_masks: set[str] = set()
    for path in files:
        image, mask = images.name(path), masks.name(path)
        if image is not None and (mask is None or images.literal_length > masks.literal_length):
            of_images.add(image)
        elif mask is not None:
            of_masks.add(mask)
    if not of_images & of_masks:
        raise AtrousError(f"no picture {images} has a mask {masks}")
    return Layout(images, masks, sorted(of_images & of_masks), sorted(of_images - of_masks))


def _pairs(files: Sequence[str]) -> Counter[tuple[_Form, _Form]]:
    """How many samples have a file of each of two forms; every two forms once."""
    known_ends = _ends(files)
    forms_of: defaultdict[str, list[tuple[_Form, str]]] = defaultdict(list)
    for path in files:
        for form, name in _forms(path, known_ends):
            forms_of[name].append((form, path))
    found: Counter[tuple[_Form, _Form]] = Counter()
    for forms in forms_of.values():
        forms = forms[: _MOST_PATTERNS * _MOST_PATTERNS]
        for number, (one, path) in enumerate(forms):
            for other, other_path in forms[number + 1 :]:
                if path != other_path and one != other:
                    found[(one, other) if one < other else (other, one)] += 1
    return found


def _ends(files: Sequence[str]) -> set[str]:
    """Ends of names such as ``_mask`` that many files share."""
    counts: Counter[str] = Counter()
    for path in files:
        counts.update(_tails(_stem(path)))
    fewest = max(_FEWEST, len(files) // 20)
    return {end for end, count in counts.items() if count >= fewest or _WORDS_OF_ENDS.search(end)}


def _tails(stem: str) -> list[str]:
    """What follows a separator, if it is a word: of ``a_0001_gtFine_labelIds``, ``_labelIds`` and more."""
    places = [place for place, letter in enumerate(stem) if letter in "_-. " and place > 0]
    tails = [stem[place:] for place in places]
    return [tail for tail in tails if tail[1:2].isalpha()]


def _forms(path: str, known_ends: set[str]) -> list[tuple[_Form, str]]:
    """Patterns that a file fits, with the name of the sample in each."""
    *folders, _ = path.split("/")
    stem, suffix = _stem(path), path[path.rindex(".") :]
    ends = ["", *(tail for tail in _tails(stem) if tail in known_ends)]
    found = []
    for depth in range(len(folders) + 1):
        before, inner = folders[:depth], folders[depth:]
        for end in ends:
            name = "/".join((*inner, stem[: len(stem) - len(end)]))
            for each in (suffix, ".*"):
                found.append((_Form("".join(f"{folder}/" for folder in before), end, each), name))
                for place, folder in enumerate(before):
                    word = _SPLIT_WORD.search(folder)
                    if word is not None:
                        inside = [*before[:place], folder.replace(word[1], "{folder}", 1), *before[place + 1 :]]
                        form = _Form("".join(f"{part}/" for part in inside), end, each)
                        found.append((form, f"{word[1]}/{name}"))
    return found


def _stem(path: str) -> str:
    file = path.rpartition("/")[2]
    return file[: file.rindex(".")]


def _rank(pair: tuple[_Form, _Form]) -> tuple[object, ...]:
    """Smaller is better: no words of other pictures, words of masks, few placeholders, much that is said."""
    image, mask = pair
    return (
        bool(_WORDS_OF_OTHERS.search(mask.text)) + bool(_WORDS_OF_OTHERS.search(image.text)),
        not _WORDS_OF_MASKS.search(mask.text),
        bool(_WORDS_OF_MASKS.search(image.text)),
        image.text.count("{folder}") + mask.text.count("{folder}"),
        -len(image.before) - len(mask.before),
        image.suffix == ".*",
        mask.suffix == ".*",
        image.text,
        mask.text,
    )


def _in_order(root: Path, files: Sequence[str], pair: tuple[_Form, _Form]) -> tuple[_Form, _Form]:
    """Image first: the one whose pictures have more colors."""
    one, other = (_colors(root, files, Pattern(form.text)) for form in pair)
    if max(one, other) <= _MOST_COLORS:  # such as drawings: the names decide
        first_is_mask = bool(_WORDS_OF_MASKS.search(pair[0].text))
        return (pair[1], pair[0]) if first_is_mask else pair
    return pair if one > other else (pair[1], pair[0])


def _colors(root: Path, files: Sequence[str], pattern: Pattern) -> float:
    """Median number of colors in a few files of a pattern; what cannot be read does not count."""
    found = []
    fitting = [path for path in files if pattern.name(path) is not None]
    for path in fitting[:: max(1, len(fitting) // _LOOKED_AT)][:_LOOKED_AT]:
        try:
            with Image.open(root / path) as picture:
                if picture.format in ("JPEG", "MPO", "WEBP"):
                    found.append(float("inf"))  # no mask
                    continue
                pixels = np.asarray(picture if picture.mode in ("P", "L", "1", "I;16") else picture.convert("RGB"))
                flat = pixels.reshape(pixels.shape[0] * pixels.shape[1], -1)
                found.append(float(len(np.unique(flat, axis=0))))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    return float(np.median(found)) if found else 0.0
