"""What a search has found outlives the process, and belongs to no other search."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atrous.commands.search.ledger import Ledger
from atrous.errors import AtrousError

ABOUT = {"checkpoint": "a.ckpt", "images": ["one", "two"]}
KEY, OTHER = (3.0, 40.0, 3.5, 10.0, 5.0), (0.0, 0.0, 0.0, 10.0, 5.0)


def test_counts_are_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "search.npz"
    ledger = Ledger(path, ABOUT, classes=3)
    assert ledger.seen(KEY) == 0
    assert ledger.confusion(KEY).sum() == 0
    ledger.save()
    ones = torch.ones(3, 3, dtype=torch.int64)
    ledger.add(KEY, ones)
    ledger.add(KEY, 2 * ones)
    ledger.add(OTHER, 2**40 * ones)
    ledger.save()
    ledger.add(KEY, ones)  # lost with the process
    again = Ledger(path, ABOUT, classes=3)
    assert set(again.counted()) == {KEY, OTHER}
    assert (again.seen(KEY), again.seen(OTHER)) == (2, 1)
    assert torch.equal(again.confusion(KEY), 3 * ones)
    assert torch.equal(again.confusion(OTHER), 2**40 * ones)
    assert [file.name for file in tmp_path.iterdir()] == ["search.npz"]


def test_another_search_and_damage_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "search.npz"
    Ledger(path, ABOUT, classes=3).save()
    with pytest.raises(AtrousError, match=r"a search with other settings \(images, more\)"):
        Ledger(path, {**ABOUT, "images": ["one"], "more": 1}, classes=3)
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], b"", b"nonsense"):
        path.write_bytes(part)
        with pytest.raises(AtrousError, match="is damaged: remove it to begin again"):
            Ledger(path, ABOUT, classes=3)
