"""What the answers come to: known numbers, who is left out and why, what is said of programs that listened."""

import csv
import itertools

import numpy as np
import pytest
import scipy.stats

from se_keras.listening import mixed, results
from se_keras.listening.design import Design

A, B = "mse", "qnet"


def simulated(kind, listeners, answer, systems=(A, B), items=12, trials=10, scripted=()):
    """(settings, listeners, answers) as of a store: `answer(listener's number, trial)` is asked about every trial of everybody's plan."""
    made, rows, who = Design(kind, systems, items, trials), [], []
    for number in range(listeners):
        plan = made.plan(number)
        for place, trial in enumerate(plan):
            rows.append({"listener": number, "trial": place, "phase": trial.phase, "item": f"u{trial.item}", "slots": list(trial.slots),
                         "answer": answer(number, trial), "seconds": 2.0, "stored": "2026-01-01"})
        who.append({"number": number, "scripted": int(number in scripted), "agreed": "2026-01-01", "answered": len(plan),
                    "trials": len(plan)})
    return {"kind": kind, "systems": list(systems), "title": "a report", "fingerprint": "0", "made": "2026-01-01"}, who, rows


def likes(system):
    return lambda number, trial: "AB"[trial.slots.index(system)]


def rates(**values):
    """A MUSHRA listener with a rating for each condition."""
    return lambda number, trial: {chr(ord("A") + place): values[name] for place, name in enumerate(trial.slots)}


def test_wilson_and_binomial_are_the_books():
    assert results.wilson(8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)  # by hand, z = 1.95996
    assert results.wilson(0, 10)[0] == 0 and results.wilson(10, 10)[1] == 1 and np.isnan(results.wilson(0, 0)).all()
    row, = simulated_share(8, 10)
    assert row["p_binomial"] == pytest.approx(0.109375)  # 112 / 1024, two-sided
    assert row["mean"] == 0.8 and row["wilson"] == pytest.approx((0.490, 0.943), abs=5e-4)


def simulated_share(first, count):
    """One listener's answers, `first` of `count` for A."""
    rows = [{"listener": 0, "item": f"u{number}", "slots": [A, B], "answer": "A" if number < first else "B"} for number in range(count)]
    return results._ab(rows, {"systems": [A, B]}, 0)


def test_one_listener_alone_has_no_interval_over_listeners():
    row, = simulated_share(8, 10)
    assert np.isnan(row["by_listener"]).all() and np.isnan(row["p_mixed"]) and 0.5 <= row["by_item"][0] < 0.8 < row["by_item"][1] <= 1
    assert results._share_cells(row) == ["80.0%", "49% to 94%", "n/e", "50% to 100%", "0.1094", "n/e"]


def test_answers_that_are_all_equal():
    summary = results.evaluate(*simulated("ab", 8, likes(B)))
    row, = summary["numbers"]
    assert (row["first"], row["second"], row["neither"], row["mean"], row["count"]) == (0, 80, 0, 0, 80)  # training, repeats: not counted
    assert row["by_listener"] == row["by_item"] == (0, 0) and np.isnan(row["p_mixed"]) and row["p_binomial"] == pytest.approx(2 * 0.5 ** 80)
    assert summary["rows"] == [[A, B, "0 : 0 : 80", "0.0%", "0% to 5%", "0% to 0%", "0% to 0%", "<0.0001", "n/e"]]


def test_no_preference_is_counted_beside():
    draw = np.random.default_rng(0)
    summary = results.evaluate(*simulated("ab", 8, lambda number, trial: draw.choice(["A", "B", "none"])), keep_all=True)
    row, = summary["numbers"]
    assert row["first"] + row["second"] == row["count"] and row["count"] + row["neither"] == 80 and row["neither"] > 10
    assert row["mean"] == pytest.approx(row["first"] / row["count"])
    nobody = results.evaluate(*simulated("ab", 2, lambda number, trial: "none"))
    assert nobody["numbers"][0]["count"] == 0 and nobody["rows"] == [[A, B, "0 : 20 : 0", *[""] * 6]]


def test_listeners_who_disagree_are_not_eighty_independent_answers():
    """Six of eight like A, nine times of ten: the binomial test is sure that people do, of eight listeners nothing is sure."""
    def answer(number, trial):
        return likes(A if (number < 6) != (trial.phase == "test" and trial.item == tested[number]) else B)(number, trial)

    tested = [trial.item for trial in Design("ab", (A, B), 12, 10).plan(0) if trial.phase == "test"]
    row, = results.evaluate(*simulated("ab", 8, answer), keep_all=True)["numbers"]
    assert row["mean"] == 0.7 and row["p_binomial"] == pytest.approx(0.00045, abs=5e-5)  # 6 x 9 + 2 x 1 of 80
    assert row["wilson"] == pytest.approx((0.592, 0.789), abs=1e-3)
    assert row["by_listener"][0] <= 0.4 and row["by_listener"][1] == 0.9 and row["by_item"][0] > 0.6
    assert 0.1 < row["p_mixed"] < 0.3  # the t-test of six means of 0.9 and two of 0.1 has 0.17


def test_the_mixed_model_is_the_t_test_over_listeners_where_utterances_do_not_differ():
    """A balanced design with no variance between utterances: REML's error of the mean is that of the listeners' means."""
    draw = np.random.default_rng(1)
    listeners, items = np.repeat(np.arange(8), 20), np.tile(np.arange(20), 8)
    values = 0.3 + 0.5 * draw.standard_normal(8)[listeners] + draw.standard_normal(160)
    table = values.reshape(8, 20)
    table -= table.mean(axis=0) - table.mean()  # no utterance differs from another, on average
    expected = scipy.stats.ttest_1samp(table.mean(axis=1), 0).pvalue
    assert mixed.p_value(table.ravel(), listeners, items) == pytest.approx(expected, rel=0.02)


def test_the_mixed_model_keeps_its_level_and_sees_what_is_there():
    """No preference on average, but every listener has one of its own: of 24 tests about one is wrong, not the half of them."""
    draw = np.random.default_rng(2)
    listeners, items = np.repeat(np.arange(8), 20), np.tile(np.arange(20), 8)
    p_mixed, p_binomial = [], []
    for _ in range(24):
        values = (draw.random(160) < scipy.stats.norm.cdf(0.8 * draw.standard_normal(8))[listeners]) - 0.5
        p_mixed.append(mixed.p_value(values, listeners, items))
        p_binomial.append(scipy.stats.binomtest(int((values > 0).sum()), 160).pvalue)
    assert np.mean(np.array(p_mixed) < 0.05) <= 0.125 and np.mean(np.array(p_binomial) < 0.05) >= 0.25
    assert mixed.p_value((draw.random(160) < 0.85) - 0.5, listeners, items) < 0.001


@pytest.mark.parametrize("values, listeners, items", [([1, 0, 1], [0, 0, 0], [0, 1, 2]), ([1, 0, 1], [0, 1, 2], [0, 0, 0]),
                                                      ([1, 1, 1], [0, 1, 2], [0, 1, 2]), ([], [], [])])
def test_what_a_mixed_model_cannot_say(values, listeners, items):
    assert np.isnan(mixed.p_value(values, listeners, items))


def test_abx_counts_what_is_right():
    right = lambda number, trial: "A" if trial.slots[2] == trial.slots[0] else "B"  # noqa: E731
    row, = results.evaluate(*simulated("abx", 4, right))["numbers"]
    assert row["mean"] == 1 and row["count"] == 40 and row["p_binomial"] == pytest.approx(2 * 0.5 ** 40)
    row, = results.evaluate(*simulated("abx", 4, lambda number, trial: "A"))["numbers"]
    assert row["mean"] == 0.5 and row["p_binomial"] == 1  # X is either equally often


def test_mushra_means_and_differences():
    draw = np.random.default_rng(3)

    def rated(number, trial):
        values = {"reference": 100, "anchor": 20, A: 50 + number + draw.integers(5), B: 60 + number + draw.integers(5)}
        return rates(**values)(number, trial)

    summary = results.evaluate(*simulated("mushra", 6, rated))
    found = {row["name"]: row for row in summary["numbers"]}
    assert list(found) == ["reference", A, B, "anchor", f"{B} - {A}"]
    assert found["reference"]["mean"] == 100 and found["anchor"]["mean"] == 20 and found[A]["mean"] == pytest.approx(54.5, abs=0.5)
    gain = found[f"{B} - {A}"]
    assert gain["mean"] == pytest.approx(10, abs=0.6) and gain["by_listener"][0] > 8 and gain["by_item"][1] < 12 and gain["p_mixed"] < 0.001
    assert summary["rows"][0] == ["reference", "100.0", "100.0 to 100.0", "100.0 to 100.0", ""] and summary["rows"][4][1].startswith("+")


def test_every_pair_of_three_systems_has_its_row():
    summary = results.evaluate(*simulated("ab", 6, lambda number, trial: "A", ("a", "b", "c"), trials=12), keep_all=True)
    assert [row["pair"] for row in summary["numbers"]] == list(itertools.combinations("abc", 2))
    assert sum(row["count"] for row in summary["numbers"]) == 6 * 12


# --- Who is left out -----------------------------------------------------------------------------------------------------------------


def test_who_always_presses_the_same_side_is_excluded():
    def answer(number, trial):
        return "A" if number == 1 else "none" if number == 2 else likes(A)(number, trial)

    summary = results.evaluate(*simulated("ab", 4, answer))
    assert summary["excluded"] == {1: "inconsistent: the other system in 5 of 5 repeats"}
    assert "3 of 4 listeners are counted\nexcluded: listener 1, inconsistent" in summary["about"]
    assert summary["numbers"][0]["first"] == 20 and summary["numbers"][0]["second"] == 0
    kept = results.evaluate(*simulated("ab", 4, answer), keep_all=True)
    assert kept["excluded"] == {} and kept["numbers"][0]["second"] == 5 and "nobody is excluded by rule (--keep-all)" in kept["about"]


def test_who_guesses_mostly_stays():
    """4 of 5 contradictions are no rarer than 19% by a coin; 5 of 5 come in 3%."""
    draw = np.random.default_rng(4)
    summary = results.evaluate(*simulated("ab", 40, lambda number, trial: draw.choice(["A", "B"])))
    assert len(summary["excluded"]) <= 4


def test_who_does_not_know_the_reference_is_excluded():
    """BS.1534-3: below 90 in more than 15% of the trials: 1 of 10 is allowed, 2 are not."""
    def answer(number, trial):
        low = trial.phase == "test" and trial.item in sorted(tested)[:number]
        return rates(**{"reference": 89 if low else 90, "anchor": 20, A: 50, B: 60})(number, trial)

    tested = {trial.item for trial in Design("mushra", (A, B), 12, 10).plan(0) if trial.phase == "test"}
    summary = results.evaluate(*simulated("mushra", 3, answer))
    assert summary["excluded"] == {2: "hidden reference rated below 90 in 2 of 10 trials"}


@pytest.mark.parametrize("kind", ["ab", "abx", "mushra"])
def test_who_has_not_finished_is_excluded(kind):
    answer = rates(reference=100, anchor=0, **{A: 1, B: 2}) if kind == "mushra" else likes(A) if kind == "ab" else lambda *_: "A"
    settings, who, rows = simulated(kind, 3, answer)
    every = who[1]["trials"]
    who[1]["answered"] = 5
    rows = [row for row in rows if row["listener"] != 1 or row["trial"] < 5]
    assert results.evaluate(settings, who, rows)["excluded"] == {1: f"unfinished: 5 of {every} trials"}


def test_programs_give_no_listening_result():
    everyone = simulated("ab", 8, likes(A), scripted=range(8))
    summary = results.evaluate(*everyone)
    assert summary["about"] == "8 of 8 listeners are scripted: no listening result" and summary["rows"] == summary["numbers"] == []
    assert "Prefer A" not in results.terminal(summary)
    checked = results.evaluate(*everyone, scripted=True)
    said = "8 of 8 listeners are scripted: this table is a check of the test, no listening result"
    assert checked["about"].startswith(f"{said}\n8 of 8 scripted listeners are counted") and len(checked["rows"]) == 1
    assert said in results.terminal(checked) and said in results.markdown(checked)
    some = results.evaluate(*simulated("ab", 8, lambda number, trial: likes(A if number < 6 else B)(number, trial), scripted=(6, 7)))
    assert "2 of 8 listeners are scripted: they are left out\n6 of 6 listeners are counted" in some["about"]
    assert some["numbers"][0]["mean"] == 1
    assert results.evaluate(*simulated("ab", 2, likes(A)), scripted=True)["rows"] == []
    assert results.evaluate(*simulated("ab", 0, likes(A)))["about"] == "nobody has listened yet: no listening result"


def test_every_answer_is_a_row_of_the_csv(tmp_path):
    summary = results.evaluate(*simulated("mushra", 2, rates(reference=10, anchor=0, **{A: 1, B: 2}), scripted=(1,)))
    results.write_answers(tmp_path / "answers.csv", summary)
    rows = list(csv.DictReader((tmp_path / "answers.csv").open()))
    assert len(rows) == 24 and {row["scripted"] for row in rows} == {"0", "1"}
    row = next(row for row in rows if row["listener"] == "0")
    assert row["excluded"].startswith("hidden reference") and sorted(row["slots"].split())[0].startswith("A=") and "=10" in row["answer"]
    assert set(row["slots"].replace("=", " ").split()) == {"A", "B", "C", "D", "reference", "anchor", A, B}
