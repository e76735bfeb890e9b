"""Quality-Net and the enhancer in turns: what is shown, what is kept, and that an interrupted run ends like a whole one."""

import dataclasses
import functools
import logging

import numpy as np
import pytest

from se_keras import losses, models
from se_keras.enhancers.magnitude_mask import MaskEnhancer
from se_keras.errors import UserError
from se_keras.judges import diet, rounds, surrogate
from se_keras.losses.quality import score_loss
from se_keras.mixtures.feed import Feed
from se_keras.scoring.scores import Scorer
from se_keras.signals import mixing
from se_keras.signals.stft import magnitude, stft
from se_keras.training import loop
from se_keras.training.objective import objective_batch, objective_model, weighted_mean

LOGGER = logging.getLogger("test_rounds")


@pytest.fixture(scope="module")
def labeller(tmp_path_factory):
    with Scorer(["pesq_raw"], cache=tmp_path_factory.mktemp("scores"), workers=1) as scorer:
        yield scorer


@pytest.fixture(scope="module", autouse=True)
def eagerly():
    """A few updates of tiny networks take less time than tracing them does; the scripts' own tests resume traced runs."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def joint(rows, labeller, run, base=None, **turns):
    """A tiny fine-tuning with Quality-Net's turns: (rounds.QualityRounds, go), where go() trains and gives the history."""
    loop.seed_everything(3)
    network, frozen, learner = models.build("dnn", units=8), *(models.build("quality_net", filters=((2, 5), (3, 9))) for _ in range(2))
    learner.set_weights(frozen.get_weights())
    predictor = surrogate.QualityPredictor(frozen)
    enhancer, objective = MaskEnhancer(network), losses.parse("quality")
    model = objective_model(enhancer, objective, predictor)
    loop.compile_model(model, loop.optimizer("rmsprop", 1e-3), weighted_mean(objective))
    loop.compile_model(learner, loop.optimizer("adam", 1e-3), lambda y_true, y_pred: score_loss(y_pred, y_true, 2, 1.0))
    feed = Feed(rows, 2, seed=1, crop_s=0.5)
    turns = rounds.Turns(**{"every": 2, "sample": 3, "stages": ("historical", "current"), "history_share": 0.5, "step_size": 0.5,
                            "siblings": 2, "contrast": 3.0, "diet": {"perturbed": 1}, **turns})
    partner = rounds.QualityRounds(enhancer, learner, predictor, feed, labeller, turns, run, LOGGER, base)
    plan = loop.Plan(updates=6, validate_every=3, learning_rate=1e-3, monitor="value", higher_is_better=True, checkpoint_s=1e9)

    def go():
        return loop.train(model, feed, objective_batch, plan, run, LOGGER,
                          lambda: {"value": float(np.sum(network.get_weights()[-1]))}, network, partner=partner)

    return partner, go


def test_families_show_every_pair_and_keep_siblings_together(rows):
    pairs = diet.diet(rows[:5], 1, perturbed=1, clean_share=0.5)  # three or four pairs a mixture
    for siblings in (1, 2, 3):
        batches = rounds.families(pairs, siblings, 2 * siblings, np.random.default_rng(0))
        assert set(np.concatenate(batches)) == set(range(len(pairs)))
        assert all(len(batch) == 2 * siblings for batch in batches[:-1])
        for family in np.concatenate(batches).reshape(-1, siblings):
            assert len({pairs[i].row for i in family}) == 1 and len(set(family)) == siblings


def test_what_quality_net_knew_before_is_shown_again(rows, labeller, enhancer, tmp_path, monkeypatch):
    """The base's masks are the starting enhancer's, whatever has become of it."""
    pairs = diet.diet(rows[:4], 1, clean_share=0, crop_s=0.5)
    base = rounds.Base(enhancer, pairs, np.linspace(0, 1, len(pairs), dtype=np.float32))
    partner, _ = joint(rows, labeller, tmp_path, base, sample=2)
    seen = []
    monkeypatch.setattr(partner, "_learn", lambda *learned: seen.append(learned) or [])
    partner(0)
    shown, score, batches = seen[0]  # the historical stage: two mixtures of the base, noisy and enhanced; there is no history yet
    assert len(shown) == 4 and set(np.concatenate(batches)) == {0, 1, 2, 3}
    known = {float(base.scores[i]): pair for i, pair in enumerate(pairs)}
    assert len({known[float(score(i))].row for i in range(4)}) == 2
    for i, (degraded, _) in enumerate(shown):
        pair = known[float(score(i))]
        noisy = magnitude(stft(mixing.pair(pair.row)[0]))
        expected = noisy * enhancer.masks([noisy])[0] if pair.kind == "enhanced" else noisy
        np.testing.assert_allclose(degraded, expected, atol=1e-5)


def test_anchored_turns_show_what_has_changed_since_the_start(rows, labeller, enhancer, tmp_path, monkeypatch):
    """Each mixture comes enhanced by the enhancer of now and by that of the start, and scored as what it is."""
    partner, _ = joint(rows, labeller, tmp_path, rounds.Base(enhancer), stages=("current",), sample=2, anchored=True,
                       diet={"noisy_share": 0, "clean_share": 0})
    seen = []
    monkeypatch.setattr(partner, "_learn", lambda *learned: seen.append(learned) or [])
    partner(0)
    (shown, score, batches), = seen
    assert len(shown) == 4 and all(len(batch) % 2 == 0 for batch in batches)
    for now, then in np.concatenate(batches).reshape(-1, 2):
        np.testing.assert_array_equal(shown[now][1], shown[then][1])  # one mixture
        assert np.abs(shown[now][0] - shown[then][0]).max() > 1e-3 and score(now) != score(then)
    rows_scored = partner.feed.cut_rows(0)
    noisy = [magnitude(stft(mixing.pair(row)[0])) for row in rows_scored]
    of_start = [spectrum * mask for spectrum, mask in zip(noisy, enhancer.masks(noisy), strict=True)]
    assert sum(any(np.allclose(degraded, start, atol=1e-5) for start in of_start) for degraded, _ in shown) == 2


@pytest.mark.parametrize(("sample_of", "batches"), [("next", {0: [0, 1], 2: [2, 3], 4: [4, 5]}),
                                                    ("last", {0: [0, 1], 2: [0, 1], 4: [2, 3]})])
def test_whose_turn_it_is_and_what_is_scored(rows, labeller, tmp_path, sample_of, batches):
    """MetricGAN+ scores what the enhancer is about to train on, MetricGAN what it has just trained on; Quality-Net has the first turn."""
    partner, _ = joint(rows, labeller, tmp_path, sample_of=sample_of, sample=4)
    assert [step for step in range(6) if partner.due(step)] == list(batches)
    for step, expected in batches.items():
        order = partner._score_current(step, step // 2, np.random.default_rng(0))
        current = partner._scored(step // 2)
        assert {pair.row for pair in current.pairs} == {row for k in expected for row in partner.feed.cut_rows(k)}
        assert set(np.concatenate(order)) == set(range(len(current.pairs)))


def test_a_round_teaches_quality_net_alone_and_hands_it_over(rows, labeller, tmp_path):
    """The mixtures are those that the enhancer is about to train on; the enhancer itself is not touched."""
    partner, _ = joint(rows, labeller, tmp_path, stages=("current", "historical", "current"))
    enhancer, before = partner.enhancer.network.get_weights(), partner.quality_net.get_weights()
    partner(0)
    after = partner.quality_net.get_weights()
    assert any(not np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    for handed, old, new in zip(partner.predictor.network.get_weights(), before, after, strict=True):
        np.testing.assert_allclose(handed, (old + new) / 2, atol=1e-7)
    for old, new in zip(enhancer, partner.enhancer.network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    kept = partner.history.before(1)
    coming = [row for k in (0, 1) for row in partner.feed.cut_rows(k)][:3]
    assert {entry.pair.row.id for entry in kept} == {row.id for row in coming} and len(kept) == 6  # enhanced and perturbed
    assert all(entry.pair.row.length == 8000 for entry in kept)


@pytest.mark.parametrize("stages", [("historical", "current"), ("current",), ("current", "historical", "current")])
def test_quality_net_learns_while_the_present_is_scored(rows, labeller, tmp_path, monkeypatch, stages):
    """From the past where that comes first; else each update waits for the scores of its own batch, which are asked for first."""
    partner, _ = joint(rows, labeller, tmp_path, stages=stages)
    partner(0)
    said, train = [], partner.quality_net.train_on_batch

    class Watched:
        def __init__(self, job):
            self.number = len(said)
            said.append("begun")

        def result(self):
            said.append(self.number)
            return {"pesq_raw": 2.0}

    monkeypatch.setattr(labeller, "submit", Watched)
    monkeypatch.setattr(partner.quality_net, "train_on_batch", lambda *batch, **how: said.append("learned") or train(*batch, **how))
    partner(2)
    begun, after = said.count("begun"), said[said.count("begun"):]
    assert said[:begun] == begun * ["begun"]
    before = after[:after.index("learned")]
    if stages[0] == "historical":
        assert before == []  # four past pairs, half of the history, are learned before any score is waited for
    else:
        assert set(before) <= set(range(4)) and begun > 4  # batches of four


def test_with_a_lag_nothing_waits_for_what_has_just_been_begun(rows, labeller, tmp_path, monkeypatch):
    """From the second round on: learned is how the enhancer of a round ago scored, by the masks that it made then."""
    partner, _ = joint(rows, labeller, tmp_path, lag=1)
    begun, asked = {}, []

    class Watched:
        def __init__(self, job):
            self.round = begun.setdefault(job.recipe, now)

        def result(self):
            asked.append(self.round)
            return {"pesq_raw": 2.0}

    monkeypatch.setattr(labeller, "submit", Watched)
    expected, of_then = {0: {0}, 1: {0}, 2: {1}, 3: {2}}, {}
    for now in range(4):
        partner.enhancer.network.set_weights([weight + 0.01 for weight in partner.enhancer.network.get_weights()])
        asked.clear()
        partner(2 * now)
        assert set(asked) == expected[now] and now in begun.values()
        coming = partner.feed.cut_rows(2 * now)  # two of the three that are scored
        noisy = [magnitude(stft(mixing.pair(row)[0])) for row in coming]
        of_then[now] = dict(zip(coming, partner.enhancer.masks(noisy), strict=True))
        assert set(partner._begun) == {0: set(), 1: {1}, 2: {2}, 3: {3}}[now]  # waves and spectra of what is to be learned yet
    kept = {(entry.round, entry.pair.row): entry.estimate().values for entry in partner.history.before(3) if entry.pair.kind == "enhanced"}
    assert {number for number, _ in kept} == {0, 1, 2}
    for number in range(3):
        for row, mask in of_then[number].items():
            np.testing.assert_allclose(kept[number, row], mask, atol=5e-4)


@pytest.fixture(scope="module")
def uninterrupted(rows, labeller, tmp_path_factory):
    """lag -> a whole run: (rounds.QualityRounds, history)."""
    @functools.cache
    def whole(lag=0):
        partner, go = joint(rows, labeller, tmp_path_factory.mktemp("whole"), lag=lag)
        return partner, go()

    return whole


def same_end(whole, resumed, expected, found):
    """Whether two runs of `joint` have ended alike: validations, enhancer and Quality-Net."""
    assert [row["update"] for row in found] == [row["update"] for row in expected] == [3, 6]
    for of in (lambda partner: partner.enhancer.network, lambda partner: partner.quality_net):
        for one, other in zip(of(whole).get_weights(), of(resumed).get_weights(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("when", "lag"), [("in a round", 0), ("between", 0), ("between", 1)])
def test_an_interrupted_run_ends_like_a_whole_one(rows, labeller, uninterrupted, tmp_path, monkeypatch, when, lag):
    whole, expected = uninterrupted(lag)
    interrupted, go = joint(rows, labeller, tmp_path / "interrupted", lag=lag)
    if when == "in a round":
        learn, passes = interrupted._learn, []

        def stop(*arguments):
            passes.append(learn(*arguments))
            if len(passes) == 4:  # the last pass of the round before update 2: weights are half-way
                raise KeyboardInterrupt
            return passes[-1]

        monkeypatch.setattr(interrupted, "_learn", stop)
    else:
        monkeypatch.setattr(interrupted, "due", lambda step: (_ for _ in ()).throw(KeyboardInterrupt) if step == 3 else step in (0, 2))
    with pytest.raises(KeyboardInterrupt):
        go()
    resumed, go = joint(rows, labeller, tmp_path / "interrupted", lag=lag)
    same_end(whole, resumed, expected, go())


class Killed(BaseException):
    """What a SIGKILL leaves behind: nothing that waits for Ctrl-C or for an error sees it."""


@pytest.mark.parametrize(("place", "after", "call", "lag"), [
    ("_learn", False, 2, 0), ("history.add", False, 2, 0), ("history.add", True, 2, 0), ("_hand_over", False, 2, 0),
    ("_hand_over", True, 2, 0), ("keep", True, 2, 0), ("awaited.add", False, 2, 1), ("awaited.add", True, 3, 1),
    ("history.add", True, 3, 1)])
def test_a_killed_run_ends_like_a_whole_one(rows, labeller, uninterrupted, tmp_path, monkeypatch, place, after, call, lag):
    """Killed just before or after each thing that a turn writes or changes, the second or third time: nothing can be saved."""
    whole, expected = uninterrupted(lag)
    killed, go = joint(rows, labeller, tmp_path / "killed", lag=lag)
    owner, _, name = place.rpartition(".")
    owner = getattr(killed, owner) if owner else killed
    original, calls = getattr(owner, name), []

    def kill(*arguments):
        calls.append(arguments)
        if len(calls) == call and not after:
            raise Killed
        result = original(*arguments)
        if len(calls) == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, kill)
    with pytest.raises(Killed):
        go()
    resumed, go = joint(rows, labeller, tmp_path / "killed", lag=lag)
    same_end(whole, resumed, expected, go())
    assert sorted(path.name for path in (tmp_path / "killed" / "history").iterdir()) == [f"round_0000{of}.npz" for of in range(3 - lag)]


def test_pairs_without_a_score_are_not_learned(rows, labeller, tmp_path, caplog):
    """A piece under a quarter second has no PESQ; a round that holds nothing else changes nothing and says so."""
    short = [dataclasses.replace(row, length=3000) for row in rows[:2]]
    partner, _ = joint(short, labeller, tmp_path)
    before = partner.quality_net.get_weights()
    with caplog.at_level(logging.INFO, LOGGER.name):
        partner(0)
    assert all(np.array_equal(old, new) for old, new in zip(before, partner.quality_net.get_weights(), strict=True))
    assert "0 current pairs" in caplog.text and partner.history.before(1) == []


def test_the_best_enhancer_has_its_quality_net_beside_it(rows, labeller, tmp_path, monkeypatch):
    partner, go = joint(rows, labeller, tmp_path)
    keep, expected = partner.keep, []
    monkeypatch.setattr(partner, "keep", lambda: expected.append(partner.predictor.network.get_weights()) or keep())
    history = go()
    assert len(expected) == sum(row["best"] for row in history) > 0 and (tmp_path / "best.weights.h5").is_file()
    kept = models.build("quality_net", filters=((2, 5), (3, 9)))
    kept.load_weights(tmp_path / "quality-net" / "best.weights.h5")
    for one, other in zip(kept.get_weights(), expected[-1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_quality_net_that_diverges_is_named(rows, labeller, tmp_path):
    partner, go = joint(rows, labeller, tmp_path)
    partner.quality_net.optimizer.learning_rate = 1e30
    with pytest.raises(UserError, match="Quality-Net's loss is (nan|inf); lower --quality-rate"):
        go()
