"""Learning from verdicts: it steers, within limits; forgets nothing, mutates nothing, and does not depend on order."""

from dataclasses import replace

import numpy as np
import pytest

from generators.base import Labelled
from generators.symmetric import guard
from generators.symmetric.choice import Wishes, probabilities, weights
from generators.symmetric.generator import _arena
from generators.symmetric.guard import MAX_DIVERGENCE_NATS, divergence, spread_of
from generators.symmetric.memory import WORST_EV_PER_ATOM, Lesson, Memory, lesson_of

WISHES = Wishes()


@pytest.fixture(scope="module")
def samples(small, condition):
    return list(small.sample(32, condition, seed=11))


def verdicts(samples, energy_of, **more):
    return [
        Labelled(
            f"c-{s.index:04d}",
            s.structure,
            s.generator,
            s.info,
            energy_above_hull_ev_per_atom=energy_of(s),
            stable=energy_of(s) <= 0.1,
            novel=True,
            **more,
        )
        for s in samples
    ]


def oxygen_share(sample):
    return sample.structure.composition.fractional_composition["O"]


def rich_is_good(sample):
    return 0.0 if oxygen_share(sample) >= 0.6 else 0.5


def better_than_forecast_if_rich(sample):
    """What a model that underrates oxygen-rich crystals would be told."""
    return sample.info["forecast"]["above_hull_ev_per_atom"] + (-0.3 if oxygen_share(sample) >= 0.6 else 0.3)


def test_it_moves_towards_what_was_better_than_it_thought(small, condition, samples):
    new = small.update(verdicts(samples, better_than_forecast_if_rich))
    assert new.last_update["taken"], new.last_update
    arena = _arena(small.model, condition)
    share = np.array([row.amounts.get("O", 0) / sum(row.amounts.values()) for row in arena.rows])
    tried = replace(new._memory, steps=(0.0,))  # what was proposed is left out in both
    before = probabilities(weights(small.model, arena, tried, condition, WISHES))
    after = probabilities(weights(small.model, arena, new._memory, condition, WISHES))
    assert after[share >= 0.6].sum() > before[share >= 0.6].sum() + 0.02


def test_nothing_is_mutated_and_any_round_can_be_replayed(small, condition, samples):
    version, first = small.version, [s.info["row"] for s in samples]
    new = small.update(verdicts(samples, rich_is_good))
    assert small.version == version
    assert small.lessons == ()
    assert [s.info["row"] for s in small.sample(32, condition, seed=11)] == first
    assert new.version != version


def test_the_order_of_verdicts_does_not_matter(small, samples):
    given = verdicts(samples, rich_is_good)
    one, two = small.update(given), small.update(given[::-1])
    assert one._memory == two._memory
    assert one.last_update == two.last_update


def test_what_was_proposed_is_not_proposed_again(small, condition, samples):
    new = small.update(verdicts(samples, rich_is_good))
    tried = {s.info["row"] for s in samples}
    assert not tried & {s.info["row"] for s in new.sample(64, condition, seed=12)}


def test_faults_of_the_machine_say_nothing(small, samples):
    lost = [Labelled(f"c-{s.index}", s.structure, s.generator, s.info, cause=103) for s in samples]
    assert small.update(lost).lessons == ()


def test_failures_and_screening_teach_less_than_verdicts(samples):
    s = samples[0]
    plain = Labelled("a", s.structure, s.generator, s.info)
    assert lesson_of(plain).above_hull_ev_per_atom is None
    screened = replace(plain, screened_above_hull_ev_per_atom=0.21)
    assert (lesson_of(screened).above_hull_ev_per_atom, lesson_of(screened).verified) == (0.21, False)
    failed = lesson_of(replace(plain, cause=501))
    assert 0 < failed.above_hull_ev_per_atom < WORST_EV_PER_ATOM
    absurd = lesson_of(replace(plain, energy_above_hull_ev_per_atom=9.0, stable=False))
    assert absurd.above_hull_ev_per_atom == WORST_EV_PER_ATOM
    assert failed.at_least
    assert absurd.at_least  # neither may make a forecast better that was worse already


def test_a_verdict_outweighs_screening_and_not_the_other_way_round():
    screened = Lesson("r", 1, ("a",), ("O",), 0.3)
    judged = replace(screened, above_hull_ev_per_atom=0.01, verified=True)
    assert Memory().learn([screened]).learn([judged]).lessons == (judged,)
    assert Memory().learn([judged]).learn([screened]).lessons == (judged,)


def test_crystals_of_another_generator_teach_too(small, samples):
    foreign = [
        replace(v, generator="ion_exchange", info={"condition": v.info["condition"]})
        for v in verdicts(samples, rich_is_good)
    ]
    new = small.update(foreign)
    assert len(new.lessons) > len(samples) / 2


def test_an_update_moves_no_further_than_the_limit(small, condition, samples):
    new = small.update(verdicts(samples, lambda s: 0.0 if s.index == 0 else 0.6))
    assert new.last_update["divergence_nats"] <= MAX_DIVERGENCE_NATS
    arena = _arena(small.model, condition)
    before = probabilities(weights(small.model, arena, Memory(), condition, WISHES))
    after = probabilities(weights(small.model, arena, new._memory, condition, WISHES))
    assert divergence(after, before) <= MAX_DIVERGENCE_NATS + 1e-6


@pytest.mark.parametrize(
    ("limit", "value", "word"),
    [("MAX_DIVERGENCE_NATS", 1e-9, "move by"), ("ENOUGH_UNIQUE", 1.5, "uniqueness")],
)
def test_an_update_beyond_a_limit_is_refused_and_says_why(small, condition, samples, monkeypatch, limit, value, word):
    monkeypatch.setattr(guard, limit, value)
    if limit == "ENOUGH_UNIQUE":
        monkeypatch.setattr(guard, "KEPT_SHARE", value)
    arena = _arena(small.model, condition)
    lessons = [lesson_of(v) for v in verdicts(samples, rich_is_good)]
    grown = Memory().learn(lessons)
    memory, what = guard.settle(small.model, arena, Memory(), grown, condition, WISHES)
    assert not what["taken"]
    assert what["why"].startswith("refused: ")
    assert word in what["why"]
    assert {lesson.row for lesson in memory.lessons} == {lesson.row for lesson in grown.lessons}
    kept = probabilities(weights(small.model, arena, memory, condition, WISHES))
    old = probabilities(weights(small.model, arena, Memory(), condition, WISHES))
    assert divergence(kept, old) < 1e-6  # but for what was tried, the choice is the one before


def test_spread_counts_what_a_choice_really_chooses_from(small, condition):
    arena = _arena(small.model, condition)
    n = len(arena.rows)
    one = np.zeros(n)
    one[int(np.flatnonzero(~arena.known)[0])] = 1.0
    assert spread_of(one, arena).rows == pytest.approx(1.0)
    assert spread_of(one, arena).compositions == pytest.approx(1.0)
    assert spread_of(one, arena).uniqueness == pytest.approx(1 / 64)
    even = np.full(n, 1 / n)
    assert spread_of(even, arena).rows == pytest.approx(n)
    assert spread_of(even, arena).uniqueness > 0.9


def test_a_state_with_lessons_is_saved_whole(small, condition, samples, tmp_path):
    new = small.update(verdicts(samples, rich_is_good))
    new.save(tmp_path)
    again = type(small).load(tmp_path)
    assert again._memory == new._memory
    assert again.last_update == new.last_update
    assert [s.info["row"] for s in again.sample(8, condition, seed=2)] == [
        s.info["row"] for s in new.sample(8, condition, seed=2)
    ]


def test_verdicts_without_a_condition_only_say_what_was_tried(small, samples):
    bare = [replace(v, info={}) for v in verdicts(samples[:3], rich_is_good)]
    new = small.update(bare)
    assert new.last_update["taken"] is False
    assert new._memory.steps == (0.0,)


def test_a_second_update_starts_from_the_choice_that_the_first_left(small, condition, samples):
    arena = _arena(small.model, condition)
    first = small.update(verdicts(samples[:16], better_than_forecast_if_rich))
    second = first.update(verdicts(samples[16:], better_than_forecast_if_rich))
    assert len(second._memory.steps) == 2
    kept = replace(second._memory, steps=(*first._memory.steps, 0.0))
    was = probabilities(weights(small.model, arena, kept, condition, WISHES))
    now = probabilities(weights(small.model, arena, second._memory, condition, WISHES))
    assert divergence(now, was) == pytest.approx(second.last_update["divergence_nats"], abs=1e-3)
    # what the first taught is still there when the second is refused
    old = probabilities(weights(small.model, arena, first._memory, condition, WISHES))
    assert divergence(was, old) < 1e-6
    untaught = probabilities(weights(small.model, arena, replace(kept, steps=(0.0, 0.0)), condition, WISHES))
    assert divergence(was, untaught) > 1e-4
