"""Two disjoint halves of the training data."""

from __future__ import annotations

import numpy as np
import pytest

from atrous.data.loading.halves import PairedStream, halves
from atrous.data.loading.sampling import TrainingStream
from atrous.errors import AtrousError


@pytest.mark.parametrize("length", [2, 3, 10, 101])
def test_halves_are_disjoint_and_complete(length: int) -> None:
    first, second = halves(length, seed=5)
    assert sorted([*first, *second]) == list(range(length))
    assert len(first) - len(second) == length % 2
    again = halves(length, seed=5)
    assert all(np.array_equal(one, other) for one, other in zip((first, second), again, strict=True))


def test_another_seed_has_other_halves() -> None:
    assert not np.array_equal(halves(100, seed=0)[0], halves(100, seed=1)[0])
    assert not np.array_equal(halves(100, seed=0)[0], np.arange(50))


def test_one_image_has_no_halves() -> None:
    with pytest.raises(AtrousError, match="a search needs two training images"):
        halves(1, seed=0)


def paired(rank: int = 0, world_size: int = 1, second_from: int = 0) -> PairedStream:
    of = ([3, 5, 7, 9], [2, 4, 6])
    streams = [
        TrainingStream(len(half), batch_size=4, chunk=3, seed=seed, rank=rank, world_size=world_size)
        for seed, half in enumerate(of)
    ]
    return PairedStream(*streams, of=of, second_from=second_from)


def test_pairs_come_from_their_halves() -> None:
    batches = list(paired())
    assert len(batches) == len(paired()) == 3
    firsts = [pair.first for batch in batches for pair in batch]
    seconds = [pair.second for batch in batches for pair in batch if pair.second is not None]
    assert [draw.number for draw in firsts] == [draw.number for draw in seconds] == list(range(12))
    for passed in range(3):  # each pass over four images has each once
        assert sorted(draw.sample for draw in firsts[4 * passed : 4 * passed + 4]) == [3, 5, 7, 9]
    for passed in range(4):
        assert sorted(draw.sample for draw in seconds[3 * passed : 3 * passed + 3]) == [2, 4, 6]


def test_the_second_half_waits() -> None:
    batches = list(paired(second_from=2))
    assert [[pair.second is None for pair in batch] for batch in batches] == [[True] * 4, [True] * 4, [False] * 4]
    assert batches[2] == list(paired())[2]


def test_it_goes_on_where_it_stood_and_two_processes_share_a_batch() -> None:
    whole = list(paired())
    later = paired()
    later.position = 2
    assert list(later) == whole[2:]
    parts = [list(paired(rank, 2)) for rank in range(2)]
    for number, batch in enumerate(whole):
        assert sorted(batch) == sorted([*parts[0][number], *parts[1][number]])
