"""Search in one partition, against comparing with everything in plain Python."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamsim.store import partition as module
from dreamsim.store.partition import NONE, Excluded, Partition, rounded

DIMENSION = 16


def unit(seed: int, count: int, *, spread: float = 0.4) -> NDArray[np.float32]:
    """Vectors around a few centres, as texts of one environment are."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(8, DIMENSION))
    vectors = centres[generator.integers(0, 8, count)] + spread * generator.normal(size=(count, DIMENSION))
    result: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return result


def filled(vectors: NDArray[np.float32], tasks: list[int]) -> Partition:
    partition = Partition(DIMENSION)
    for number, task in enumerate(tasks):
        assert partition.note(number * 31, number + 1, task, number)
        partition.add(vectors[number : number + 1])
    return partition


@settings(max_examples=50)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(0, 60),
    tasks=st.integers(1, 5),
    k=st.integers(1, 8),
    excluded=st.lists(st.integers(-1, 5), min_size=1, max_size=5),
)
def test_an_exact_search_finds_what_brute_force_finds(
    seed: int, count: int, tasks: int, k: int, excluded: list[int]
) -> None:
    vectors = unit(seed, count)
    partition = filled(vectors, [number % tasks for number in range(count)])
    queries = rounded(unit(seed + 1, len(excluded)))
    found = partition.search(queries, k, [Excluded(task) for task in excluded])
    for query, task, hits in zip(queries, excluded, found, strict=True):
        similar = rounded(vectors).astype(np.float64) @ query
        allowed = [number for number in range(count) if task == NONE or number % tasks != task]
        best = sorted(allowed, key=lambda number: (-similar[number], number))[:k]
        assert [hit.step - 1 for hit in hits] == best
        assert [hit.similarity for hit in hits] == [similar[number] for number in best]


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_the_answer_does_not_depend_on_who_else_asks(seed: int) -> None:
    partition = filled(unit(seed, 200), [number % 7 for number in range(200)])
    queries = rounded(unit(seed + 1, 9))
    excluded = [Excluded()] * 9
    together = partition.search(queries, 5, excluded)
    alone = [partition.search(queries[row : row + 1], 5, excluded[:1])[0] for row in range(9)]
    assert together == alone


@pytest.fixture
def approximate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXACT_SLOTS", 100)


@pytest.mark.usefixtures("approximate")
def test_an_approximate_search_recalls_nearly_all_that_brute_force_finds() -> None:
    vectors = unit(3, 3000)
    partition = Partition(DIMENSION)
    for number in range(3000):
        partition.note(number, number + 1, number % 100, number)
    partition.add(vectors)
    queries = rounded(unit(4, 100))
    found = partition.search(queries, 4, [Excluded(7)] * 100)
    recalled = 0
    for query, hits in zip(queries, found, strict=True):
        similar = rounded(vectors) @ query
        similar[7::100] = -2
        best = set(np.argsort(-similar)[:4] + 1)
        recalled += len(best & {hit.step for hit in hits})
        assert all(left.similarity >= right.similarity for left, right in pairwise(hits))
        assert all((hit.step - 1) % 100 != 7 for hit in hits)
    assert recalled / 400 >= 0.98


@pytest.mark.usefixtures("approximate")
def test_a_task_with_very_many_steps_can_be_excluded_from_an_approximate_search() -> None:
    vectors = unit(5, 1500)
    partition = Partition(DIMENSION)
    for number in range(1500):
        partition.note(number, number + 1, 0 if number < 1490 else 1, number)
    partition.add(vectors)
    (hits,) = partition.search(rounded(vectors[:1]), 20, [Excluded(0)])
    assert {hit.step for hit in hits} == set(range(1491, 1501))


def test_a_text_seen_in_two_tasks_is_found_whichever_of_them_is_excluded() -> None:
    vectors = unit(6, 1)
    partition = Partition(DIMENSION)
    assert partition.note(5, 1, 0, 1)
    partition.add(vectors)
    assert not partition.note(5, 2, 0, 2)
    assert not partition.note(5, 3, 1, 3)
    assert not partition.note(5, 4, 2, 4)
    excluded = [Excluded(task) for task in (NONE, 0, 1, 2)]
    found = partition.search(rounded(np.repeat(vectors, 4, axis=0)), 3, excluded)
    assert [[hit.step for hit in hits] for hits in found] == [[1], [3], [1], [1]]


@settings(max_examples=50)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(0, 60),
    k=st.integers(1, 8),
    task=st.integers(-1, 5),
    others=st.frozensets(st.integers(0, 5), max_size=4),
    episode=st.integers(-1, 20),
)
def test_several_tasks_and_an_episode_can_be_excluded(
    seed: int, count: int, k: int, task: int, others: frozenset[int], episode: int
) -> None:
    vectors = unit(seed, count)
    partition = Partition(DIMENSION)
    for number in range(count):
        partition.note(number, number + 1, number % 5, number // 3)
        partition.add(vectors[number : number + 1])
    query = rounded(unit(seed + 1, 1))
    (hits,) = partition.search(query, k, [Excluded(task, others, episode)])
    similar = rounded(vectors).astype(np.float64) @ query[0]
    allowed = [
        number
        for number in range(count)
        if number % 5 != task and number % 5 not in others and (episode == NONE or number // 3 != episode)
    ]
    assert [hit.step - 1 for hit in hits] == sorted(allowed, key=lambda number: (-similar[number], number))[:k]


def test_a_text_of_an_excluded_episode_is_found_as_a_step_of_another_task() -> None:
    vectors = unit(6, 1)
    partition = Partition(DIMENSION)
    partition.note(5, 1, 0, 10)
    partition.add(vectors)
    partition.note(5, 2, 1, 11)
    excluded = [Excluded(episode=10), Excluded(episode=11), Excluded(1, episode=10), Excluded(0, frozenset([1]))]
    found = partition.search(rounded(np.repeat(vectors, 4, axis=0)), 3, excluded)
    assert [[(hit.step, hit.episode) for hit in hits] for hits in found] == [[(2, 11)], [(1, 10)], [], []]
