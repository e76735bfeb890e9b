"""The plan of a listening test: what is balanced, what is random, what is refused."""

import itertools
from collections import Counter

import pytest

from se_keras.errors import UserError
from se_keras.listening import design
from se_keras.listening.design import Design


def of(phase, plan):
    return [trial for trial in plan if trial.phase == phase]


@pytest.mark.parametrize("systems, items, trials", [("ab", 12, 10), ("ab", 9, 5), ("abc", 7, 13), ("ab", 3, 3)])
def test_every_question_is_asked_equally_often_and_every_side_within_a_listener(systems, items, trials):
    """Over any number of listeners a question's count differs by one at most; a listener has a pair's sides equally often, to one."""
    made, asked, left = Design("ab", tuple(systems), items, trials), Counter(), Counter()
    pairs = list(itertools.combinations(systems, 2))
    for number in range(17):
        test = of("test", made.plan(number))
        assert len(test) == trials == len({(trial.item, frozenset(trial.slots)) for trial in test})
        for pair in pairs:
            sides = Counter(trial.slots for trial in test if set(trial.slots) == set(pair))
            assert abs(sides[pair] - sides[pair[::-1]]) <= 1
        asked.update((trial.item, tuple(sorted(trial.slots))) for trial in test)
        left.update((trial.item, trial.slots) for trial in test)
        everything = (items - 2 if made.set_aside else items) * len(pairs)
        counts = [*asked.values(), *[0] * (everything - len(asked))]
        assert max(counts) - min(counts) <= 1 and len(asked) <= everything
    for item, pair in itertools.product(range(items), pairs):  # and over listeners an utterance has its sides about equally often
        assert abs(left[item, pair] - left[item, pair[::-1]]) <= 2


def test_order_and_sides_are_random_and_the_seeds_own():
    made = Design("ab", ("a", "b"), 12, 10)
    assert made.plan(3) == made.plan(3) != made.plan(4)
    assert made.plan(3) != Design("ab", ("a", "b"), 12, 10, seed=1).plan(3)
    first = Counter(of("test", made.plan(number))[0].item for number in range(60))
    assert len(first) >= 9 and max(first.values()) < 20  # each of ten about 6 times
    sides = [trial.slots[0] for number in range(60) for trial in of("test", made.plan(number))]
    assert sides.count("a") == len(sides) / 2
    runs = [sides[place] == sides[place + 1] for place in range(len(sides) - 1)]
    assert 0.35 < sum(runs) / len(runs) < 0.55  # no alternation that somebody could learn


def test_training_comes_first_and_has_utterances_of_its_own_where_there_are_enough():
    made = Design("ab", ("a", "b"), 12, 10)
    assert made.set_aside
    plans = [made.plan(number) for number in range(6)]
    assert all([trial.phase for trial in plan[:3]][:2] == ["training", "training"] and plan[2].phase == "test" for plan in plans)
    practised = {trial.item for plan in plans for trial in of("training", plan)}
    assert len(practised) == 2 and not practised & {trial.item for plan in plans for trial in plan[2:]}
    few = Design("ab", ("a", "b"), 1, 1)
    assert not few.set_aside and [trial.item for trial in few.plan(0)] == [0, 0, 0]


def test_repeats_exchange_sides_and_come_later():
    made = Design("ab", ("a", "b"), 22, 20)
    for number in range(8):
        plan = made.plan(number)
        again = of("repeat", plan)
        assert len(again) == made.repeats == 5 and len(plan) == 27
        for trial in again:
            first = next(place for place, other in enumerate(plan) if other.phase == "test" and other.item == trial.item)
            assert plan[first].slots == trial.slots[::-1] and first < plan.index(trial)
    assert [Design("ab", ("a", "b"), 40, trials).repeats for trials in (4, 5, 10, 25, 30)] == [0, 5, 5, 5, 6]
    assert Design("abx", ("a", "b"), 22, 20).repeats == Design("mushra", ("a",), 22, 20).repeats == 0


def test_x_is_either_one_equally_often():
    made = Design("abx", ("a", "b"), 12, 10)
    for number in range(8):
        left = [trial.slots[2] == trial.slots[0] for trial in of("test", made.plan(number))]
        assert sum(left) == 5 and all(set(trial.slots) == {"a", "b"} and len(trial.slots) == 3 for trial in made.plan(number))
    first = Counter(of("test", made.plan(number))[0].slots[2] == of("test", made.plan(number))[0].slots[0] for number in range(60))
    assert 15 < first[True] < 45


def test_mushra_shuffles_reference_anchor_and_systems():
    made = Design("mushra", ("a", "b"), 12, 10)
    trials = [trial for number in range(30) for trial in of("test", made.plan(number))]
    assert all(sorted(trial.slots) == ["a", "anchor", "b", "reference"] for trial in trials)
    places = Counter(trial.slots.index("reference") for trial in trials)
    assert sorted(places) == [0, 1, 2, 3] and min(places.values()) > 50  # of 300, a quarter each


@pytest.mark.parametrize("arguments, message", [
    (("abc", ("a", "b"), 5, 5), "unknown --kind 'abc'; known: ab, abx, mushra"),
    (("ab", ("a", "a"), 5, 5), "--systems: a is listed twice"), (("ab", ("a",), 5, 5), "1 system; ab compares pairs: name 2 to 8"),
    (("mushra", ("a", "anchor"), 5, 5), "mushra has its own anchor"),
    (("mushra", tuple("abcdefghi"), 5, 5), "9 systems; mushra takes 1 to 8"),
    (("ab", ("a", "b"), 5, 6), "--trials 6: there are 5 to ask about, 5 utterances of 1 pair of systems; ask for 1 to 5"),
    (("ab", ("a", "b", "c"), 1, 4), "--trials 4: there are 3 to ask about, 1 utterance of 3 pairs of systems")])
def test_what_is_no_test(arguments, message):
    with pytest.raises(UserError) as refused:
        Design(*arguments)
    assert message in str(refused.value)


def test_usual_trials():
    assert design.usual_trials("ab", ("a", "b"), 40) == 20 and design.usual_trials("ab", ("a", "b"), 12) == 10
    assert design.usual_trials("ab", ("a", "b"), 4) == 4 and design.usual_trials("ab", "abc", 4) == 12
    assert design.usual_trials("mushra", "abc", 12) == 10


def test_answers():
    pair, three = design.Trial(0, ("a", "b")), design.Trial(0, ("a", "reference", "anchor"))
    for kind, trial, forced, good, bad in (
            ("ab", pair, False, ["A", "B", "none"], ["C", "", 1, None, True, {}, ["A"], "a"]), ("ab", pair, True, ["A"], ["none"]),
            ("abx", pair, False, ["A", "B"], ["X", "none"]),
            ("mushra", three, False, [{"A": 0, "B": 100, "C": 50}], [
                {"A": 0, "B": 100}, {"A": 0, "B": 100, "C": 50, "D": 1}, {"A": 0, "B": 101, "C": 1}, {"A": -1, "B": 1, "C": 1},
                {"A": True, "B": 1, "C": 1}, {"A": 1.5, "B": 1, "C": 1}, {"A": "1", "B": 1, "C": 1}, "A", []])):
        for answer in good:
            design.check_answer(kind, trial, answer, forced)
        for answer in bad:
            with pytest.raises(ValueError, match="expected"):
                design.check_answer(kind, trial, answer, forced)
