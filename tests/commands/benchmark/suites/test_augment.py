from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from atrous.commands.benchmark.command import SUITES, run_suite
from atrous.data.augment.naive import naive_chain
from atrous.errors import AtrousError


def test_table_and_figures_agree() -> None:
    console = Console(file=io.StringIO(), width=120)
    options = {"cases": [[64, 96, 65]], "samples": 2, "repetitions": 3}
    result = run_suite("augment", options, console)
    (row,) = json.loads(json.dumps(result))["rows"]
    assert row["ratio"] == pytest.approx(row["naive_ms"] / row["ours_ms"])
    assert row["ours_ms"] > 0
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "64x96" in printed
    assert f"{row['ratio']:.1f}x" in printed


def test_thread_counts_are_put_back() -> None:
    before = cv2.getNumThreads(), torch.get_num_threads()
    run_suite(
        "augment",
        {"cases": [[32, 32, 33]], "samples": 1, "repetitions": 1},
        Console(file=io.StringIO()),
    )
    assert (cv2.getNumThreads(), torch.get_num_threads()) == before


def test_unknown_suite_lists_the_valid_ones() -> None:
    assert "augment" in SUITES
    with pytest.raises(AtrousError, match=r"no benchmark suite 'augmnt'; choose one of .*augment"):
        run_suite("augmnt", {}, Console(file=io.StringIO()))


def test_the_peer_gives_normalized_crops_of_the_same_size() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (40, 90, 3), dtype=np.uint8), rng.integers(0, 5, (40, 90), dtype=np.uint8)
    result = naive_chain(65)(image=image, mask=mask)
    assert result["image"].shape == (3, 65, 65)
    assert result["image"].dtype == torch.float32
    assert result["mask"].shape == (65, 65)
