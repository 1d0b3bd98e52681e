"""The order of training samples: complete passes, the same for any number of processes, resumable anywhere."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import pytest
from torch.utils.data import Dataset

from atrous.data.loading.sampling import Draw, EachOnce, ResumableLoader, TrainingStream

FRACTIONS = [1 + number / 10 for number in range(23)]
"""Repeats with which passes differ in length."""


def chunks(stream: TrainingStream, batches: int) -> list[list[Draw]]:
    """The first batches of a stream, taken as a loader takes them: chunk by chunk."""
    taken: list[list[Draw]] = []
    while len(taken) < batches:
        stream.position = len(taken)
        taken += islice(iter(stream), batches - len(taken))
    return taken


def stream(**options: Any) -> TrainingStream:
    return TrainingStream(**{"length": 23, "batch_size": 6, "chunk": 5, "seed": 7, **options})


@pytest.mark.parametrize(("length", "batch_size"), [(23, 6), (5, 12), (12, 4), (1, 3)])
def test_every_pass_visits_every_sample_once(length: int, batch_size: int) -> None:
    passes = 4
    draws = [d for batch in chunks(stream(length=length, batch_size=batch_size), 30 * length) for d in batch]
    for number in range(passes):
        visited = [draw.sample for draw in draws[number * length : (number + 1) * length]]
        assert sorted(visited) == list(range(length))


def test_draws_are_numbered_without_a_gap() -> None:
    draws = [draw for batch in chunks(stream(), 17) for draw in batch]
    assert [draw.number for draw in draws] == list(range(17 * 6))


def test_passes_and_seeds_differ_and_repeat() -> None:
    def order(seed: int) -> list[int]:
        return [draw.sample for batch in chunks(stream(seed=seed, batch_size=23), 2) for draw in batch]

    assert order(7) == order(7)
    assert order(7) != order(8)
    assert order(7)[:23] != order(7)[23:]


def test_shuffling_prefers_no_sample() -> None:
    """Each of 23 samples comes first in about one pass of 23 (0.05 % of honest shufflers would fail)."""
    first = Counter(batch[0].sample for batch in chunks(stream(batch_size=23), 23 * 100))
    assert len(first) == 23
    assert max(abs(count - 100) for count in first.values()) < 45


@pytest.mark.parametrize("world_size", [2, 3, 6])
@pytest.mark.parametrize("repeats", [None, FRACTIONS])
def test_processes_share_the_batches_of_one(world_size: int, repeats: list[float] | None) -> None:
    alone = chunks(stream(repeats=repeats), 12)
    shares = [chunks(stream(rank=rank, world_size=world_size, repeats=repeats), 12) for rank in range(world_size)]
    for batch, *parts in zip(alone, *shares, strict=True):
        assert {len(part) for part in parts} == {6 // world_size}
        assert sorted((draw for part in parts for draw in part), key=lambda draw: draw.number) == batch


@pytest.mark.parametrize("position", [0, 1, 4, 5, 6, 11, 14])
@pytest.mark.parametrize("repeats", [None, FRACTIONS])
def test_it_continues_from_any_position(position: int, repeats: list[float] | None) -> None:
    whole = chunks(stream(repeats=repeats), 15)
    resumed = stream(repeats=repeats)
    resumed.position = position
    rest = list(resumed)
    assert rest == whole[position : (position // 5 + 1) * 5]


def test_length_is_that_of_a_chunk() -> None:
    assert len(stream()) == 5
    assert len(list(stream())) == 5


class _Echo(Dataset[Draw]):
    """Gives back the draw it is asked for."""

    def __getitem__(self, draw: Draw) -> Draw:
        return draw


def loader(workers: int) -> ResumableLoader:
    return ResumableLoader(
        _Echo(),
        batch_sampler=stream(),
        num_workers=workers,
        collate_fn=list,
        persistent_workers=workers > 0,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_hands_out_the_stream_and_counts_what_it_handed_out(workers: int) -> None:
    whole = chunks(stream(), 15)
    uninterrupted = loader(workers)
    assert [batch for _ in range(3) for batch in uninterrupted] == whole
    assert uninterrupted.state_dict() == {"batches": 15}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [3, 5, 8])
def test_a_loader_resumes_behind_the_last_batch_that_was_handed_out(workers: int, stop: int) -> None:
    """Workers have prepared more than that; what they prepared is drawn again."""
    whole = chunks(stream(), 15)
    first = loader(workers)
    seen: list[list[Draw]] = []
    while len(seen) < stop:
        for batch in first:
            seen.append(batch)
            if len(seen) == stop:
                break
    state = first.state_dict()
    assert state == {"batches": stop}
    second = loader(workers)
    second.load_state_dict(state)
    while len(seen) < 15:
        seen += second
    assert seen == whole


@pytest.mark.parametrize(("length", "world_size"), [(10, 1), (10, 3), (7, 2), (2, 4), (0, 2)])
def test_each_sample_is_evaluated_once_over_all_processes(length: int, world_size: int) -> None:
    shares = [list(EachOnce(length, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert sorted(index for share in shares for index in share) == list(range(length))
    assert [len(share) for share in shares] == [
        len(EachOnce(length, rank=r, world_size=world_size)) for r in range(world_size)
    ]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
