"""Who hears what, in which order, on which side: a plan that depends on the seed and the listener's number alone."""

import itertools
import random
from dataclasses import dataclass

from se_keras.errors import UserError, check_choice
from se_keras.listening import KINDS

OPEN_REFERENCE = "R"  # the slot of MUSHRA's reference that is named as such
NEITHER = "none"  # AB: no preference
REFERENCE, ANCHOR = "reference", "anchor"  # conditions of MUSHRA beside the systems
TRAINING = 2  # trials before the test that do not count
USUAL_TRIALS = 20  # of a listener, where there are as many utterances
MOST_SYSTEMS = 8  # that a listener can hold apart in one MUSHRA trial
_REPEAT_EVERY = 5  # of AB: one trial in so many comes again with its sides exchanged, and as many at least: fewer tell nothing


@dataclass(frozen=True)
class Trial:
    """One question to a listener.

    Attributes:
        item: number of the utterance.
        slots: what plays in slots A, B ... : systems; of ABX the third, X, is one of the first two; of MUSHRA also `REFERENCE`, `ANCHOR`.
        phase: "training", "test", or "repeat": a trial of the test again, with its sides exchanged.
    """

    item: int
    slots: tuple
    phase: str = "test"


@dataclass(frozen=True)
class Design:
    """A test, from which every listener's plan follows.

    Attributes:
        kind: of `KINDS`.
        systems: names; of AB and ABX every pair of them is asked about.
        items: number of utterances.
        trials: of each listener, without training and repeats.
        seed: of orders and sides.

    Raises:
        UserError: an unknown kind, a system twice, too few or too many systems, more trials than there is to ask about.
    """

    kind: str
    systems: tuple
    items: int
    trials: int
    seed: int = 0

    def __post_init__(self):
        check_choice("--kind", self.kind, KINDS)
        if twice := sorted({name for name in self.systems if self.systems.count(name) > 1}):
            raise UserError(f"--systems: {twice[0]} is listed twice; list each once")
        if self.kind == "mushra":
            if own := [name for name in self.systems if name in (REFERENCE, ANCHOR)]:
                raise UserError(f"--systems: mushra has its own {own[0]}; give this system another name, and make the report anew")
            if not 1 <= len(self.systems) <= MOST_SYSTEMS:
                raise UserError(f"--systems: {len(self.systems)} systems; mushra takes 1 to {MOST_SYSTEMS}, beside reference and anchor")
        elif not 2 <= len(self.systems) <= MOST_SYSTEMS:
            raise UserError(f"--systems: {len(self.systems)} system{'s' * (len(self.systems) != 1)}; {self.kind} compares pairs: name 2 to "
                            f"{MOST_SYSTEMS}")
        if not 1 <= self.trials <= self.questions:
            raise UserError(f"--trials {self.trials}: there {'is' if self.questions == 1 else 'are'} {self.questions} to ask about, "
                            f"{self.items} utterance{'s' * (self.items != 1)} of {max(1, len(self.pairs))} "
                            f"{'pair' if self.pairs else 'group'}{'s' * (len(self.pairs) > 1)} of systems; ask for 1 to {self.questions}")

    @property
    def pairs(self):
        """Pairs of systems that AB and ABX ask about; none of MUSHRA."""
        return [] if self.kind == "mushra" else list(itertools.combinations(self.systems, 2))

    @property
    def questions(self):
        """How many different ones there are: utterances, times pairs."""
        return self.items * max(1, len(self.pairs))

    @property
    def repeats(self):
        """Trials of a listener that come again, of AB: one in five, five at least where there are as many."""
        return 0 if self.kind != "ab" or self.trials < _REPEAT_EVERY else max(_REPEAT_EVERY, self.trials // _REPEAT_EVERY)

    @property
    def set_aside(self):
        """Whether the training has utterances of its own, which the test never plays."""
        return self.items > TRAINING and (self.items - TRAINING) * max(1, len(self.pairs)) >= self.trials

    def plan(self, listener):
        """The trials of a listener, in order.

        Utterances rotate from listener to listener, so that all are asked about equally often, to within one. Within a listener each pair
        of systems has its sides equally often either way, to within one; over listeners each utterance has the side that it had less
        often. Order is random.

        Args:
            listener: its number, from 0.

        Returns:
            list of `Trial`: the training, then the test with its repeats.
        """
        items, training = self._items()
        groups = self.pairs or [self.systems]
        questions = [(item, group) for item in items for group in groups]
        leaning = dict.fromkeys(questions, 0)  # how much oftener the first system of the pair was on the left
        for number in range(listener + 1):  # earlier ones too: sides follow from theirs
            draw = random.Random(f"{self.seed} {number}")
            chosen = [questions[(number * self.trials + place) % len(questions)] for place in range(self.trials)]
            trials = self._trials(chosen, leaning, draw)
        draw.shuffle(trials)
        practice = self._trials([(item, groups[0]) for item in training], dict.fromkeys(questions, 0), draw)
        return [*(Trial(trial.item, trial.slots, "training") for trial in practice), *self._with_repeats(trials, draw)]

    def _items(self):
        """(utterances of the test, of the training), in one random order for all listeners."""
        order = list(range(self.items))
        random.Random(f"{self.seed} items").shuffle(order)
        return (order[TRAINING:], order[:TRAINING]) if self.set_aside else (order, [order[place % self.items] for place in range(TRAINING)])

    def _trials(self, chosen, leaning, draw):
        """The questions as trials, sides balanced; `leaning` is brought up to date."""
        if self.kind == "mushra":
            return [Trial(item, tuple(draw.sample([REFERENCE, ANCHOR, *group], len(group) + 2))) for item, group in chosen]
        trials = []
        for pair in self.pairs:
            asked = [question for question in chosen if question[1] == pair]
            draw.shuffle(asked)
            asked.sort(key=lambda question: leaning.get(question, 0))  # stable: equals stay shuffled
            so_far, coin = sum(leaning.get(question, 0) for question in asked), draw.randrange(2)
            first = (len(asked) + (coin if so_far == 0 else so_far < 0)) // 2  # so many have the pair's first system on the left
            for place, question in enumerate(asked):
                slots = pair if place < first else pair[::-1]
                leaning[question] = leaning.get(question, 0) + (1 if place < first else -1)
                trials.append((question[0], slots))
        if self.kind == "ab":
            return [Trial(item, slots) for item, slots in trials]
        draw.shuffle(trials)
        which = draw.randrange(2)  # X is the left one and the right one equally often
        return [Trial(item, (*slots, slots[(place + which) % 2])) for place, (item, slots) in enumerate(trials)]

    def _with_repeats(self, trials, draw):
        """The trials with repeats of some of the first half among the second half."""
        if not self.repeats:
            return trials
        half = max(len(trials) // 2, self.repeats)
        again = [Trial(trial.item, trial.slots[::-1], "repeat") for trial in draw.sample(trials[:half], self.repeats)]
        second = trials[half:] + again
        draw.shuffle(second)
        return trials[:half] + second


def usual_trials(kind, systems, items):
    """Trials of a listener where none are asked for: 20, or all there are without those of the training."""
    pairs = 1 if kind == "mushra" else max(1, len(systems) * (len(systems) - 1) // 2)
    apart = items - TRAINING if items >= 3 * TRAINING else items
    return max(1, min(USUAL_TRIALS, apart * pairs))


def letters(kind, count):
    """Names of a trial's slots: A, B ... ; of ABX A, B, X."""
    return list("ABX") if kind == "abx" else [chr(ord("A") + place) for place in range(count)]


def check_answer(kind, trial, answer, forced=False):
    """See that an answer is one.

    Args:
        kind: of `KINDS`.
        trial: a `Trial`.
        answer: of AB "A", "B" or `NEITHER`; of ABX "A" or "B"; of MUSHRA {slot: whole number from 0 to 100} of every slot.
        forced: AB without `NEITHER`.

    Raises:
        ValueError: it is none.
    """
    if kind == "mushra":
        slots = letters(kind, len(trial.slots))
        if not isinstance(answer, dict) or sorted(answer) != slots or not all(
                type(value) is int and 0 <= value <= 100 for value in answer.values()):
            raise ValueError(f"expected a whole number from 0 to 100 for each of {', '.join(slots)}")
    else:
        known = ["A", "B", *([NEITHER] if kind == "ab" and not forced else [])]
        if not isinstance(answer, str) or answer not in known:
            raise ValueError(f"expected one of {', '.join(known)}")
