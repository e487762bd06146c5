"""Whatever an episode raises becomes a kind and a message."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.errors import EngineError, EnvironmentFailure, EpisodeError, ExperienceError, ParseError
from dreamsim.runtime.boundary import MESSAGE_LIMIT, Boundary, failure_of, leaves
from dreamsim.testing.strategies import texts

CANCELLED = asyncio.CancelledError
KINDS = {
    "parse",
    "experience",
    "policy",
    "environment",
    "context",
    "engine",
    "timeout",
    "cancelled",
    "unexpected",
    "episode",
}


class Mute(Exception):  # noqa: N818 - what it is called is beside the point
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def errors() -> st.SearchStrategy[BaseException]:
    """Errors of all kinds, groups of groups included."""
    single = st.one_of(
        st.builds(ParseError, texts()),
        st.builds(EnvironmentFailure, texts()),
        st.builds(EngineError, texts(), recoverable=st.booleans()),
        st.builds(ValueError, texts()),
        st.builds(ValueError, st.just("\ud800 a lone surrogate")),
        st.builds(Mute),
        st.builds(asyncio.CancelledError),
    )
    return st.recursive(
        single,
        lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda found: BaseExceptionGroup("group", found)),
        max_leaves=6,
    )


@given(errors())
def test_any_error_gives_a_known_kind_and_a_message_that_can_be_stored(error: BaseException) -> None:
    failure = failure_of(error, cancelled_type=CANCELLED)
    assert failure.kind in KINDS
    assert len(failure.message.encode()) <= MESSAGE_LIMIT * 4
    assert failure.message


@given(errors())
def test_the_first_typed_error_of_a_group_gives_the_kind(error: BaseException) -> None:
    typed = [leaf for leaf in leaves(error) if isinstance(leaf, EpisodeError)]
    if typed:
        assert failure_of(error, cancelled_type=CANCELLED).kind == typed[0].kind


@given(errors())
def test_no_error_passes_the_boundary(error: BaseException) -> None:
    async def main() -> Boundary:
        with Boundary() as caught:
            raise error
        return caught

    assert anyio.run(main).failure is not None


def test_a_group_is_not_reduced_to_its_first_error() -> None:
    group = ExceptionGroup("two", [ParseError("no <state>"), ValueError("and a bug")])
    message = failure_of(group, cancelled_type=CANCELLED).message
    assert "no <state>" in message
    assert "and a bug" in message


def test_a_cancelled_sibling_is_not_the_cause() -> None:
    group = BaseExceptionGroup("two", [asyncio.CancelledError(), ExperienceError("none of 3 samples parsed")])
    assert failure_of(group, cancelled_type=CANCELLED).kind == "experience"


def test_only_an_engine_that_cannot_recover_is_dead() -> None:
    alive, dead = EngineError("busy"), EngineError("gone", recoverable=False)
    assert failure_of(alive, cancelled_type=CANCELLED).dead_engine is None
    assert failure_of(ExceptionGroup("g", [alive, dead]), cancelled_type=CANCELLED).dead_engine is dead


async def test_nothing_raised_is_no_failure() -> None:
    with Boundary() as caught:
        pass
    assert (caught.failure, caught.error, caught.cancelled) == (None, None, False)


async def test_our_own_cancellation_is_told_from_a_foreign_one() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        with Boundary() as ours:
            await anyio.sleep_forever()
    with Boundary() as foreign:
        raise anyio.get_cancelled_exc_class()
    assert (ours.cancelled, foreign.cancelled) == (True, False)
    assert ours.failure is not None
    assert foreign.failure is not None
    assert ours.failure.kind == foreign.failure.kind == "cancelled"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_what_does_not_belong_to_an_episode_passes(error: BaseException) -> None:
    with pytest.raises(type(error)), Boundary():
        raise error


def test_a_keyboard_interrupt_inside_a_group_passes() -> None:
    with pytest.raises(BaseExceptionGroup), Boundary():
        raise BaseExceptionGroup("g", [KeyboardInterrupt(), ValueError("x")])
