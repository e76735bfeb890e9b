"""The speech of the demo corpus: espeak-ng's voices through praat-parselmouth (GPLv3; imported here alone).

espeak-ng draws breath and flutter from the C library's `rand` and keeps state between sentences, so a voice speaks all its
sentences in order in a process of its own: one version of praat-parselmouth makes the same files each time.
"""

from concurrent.futures import ProcessPoolExecutor

import numpy as np
from tqdm import tqdm

from se_keras.backend import available_cores
from se_keras.corpora.protocol import rng_for
from se_keras.processes import WorkerContext, end
from se_keras.signals import audio

PEAK = 0.7

# (voice, language, variant, pitch factor, words per minute), by split and, for the talkers behind babble and crowd, by noise type.
VOICES = {
    "train": (("alba", "English (Scotland)", "Female1", 1.0, 165), ("bryn", "English (Great Britain)", "Male1", 1.0, 170),
              ("cleo", "English (America)", "Female2", 1.0, 180), ("dale", "English (America)", "Male2", 0.9, 160),
              ("edna", "English (Lancaster)", "Female3", 0.9, 170), ("fred", "English (West Midlands)", "Male3", 1.1, 175),
              ("gwen", "English (Received Pronunciation)", "Female5", 1.0, 160), ("hank", "English (Caribbean)", "Male5", 1.0, 170),
              ("iris", "English (Great Britain)", "Annie", 0.9, 175), ("jack", "English (Scotland)", "Andy", 1.2, 180)),
    "valid": (("kate", "English (America)", "Female4", 1.0, 170), ("liam", "English (Lancaster)", "Male4", 1.0, 170),
              ("mona", "English (Received Pronunciation)", "Steph", 1.1, 165)),
    "test": (("nell", "English (Great Britain)", "Linda", 0.9, 170), ("omar", "English (America)", "Male6", 1.0, 175),
             ("paul", "English (West Midlands)", "Michael", 1.0, 165)),
    "babble": (("babble0", "English (America)", "Lee", 1.0, 180), ("babble1", "English (Scotland)", "Auntie", 1.0, 165),
               ("babble2", "English (Great Britain)", "Max", 1.2, 175), ("babble3", "English (America)", "Travis", 1.0, 160),
               ("babble4", "English (Caribbean)", "Gene", 1.7, 170), ("babble5", "English (Lancaster)", "Norbert", 0.9, 185)),
    "crowd": (("crowd0", "English (America)", "Rob", 1.0, 175), ("crowd1", "English (Great Britain)", "Quincy", 1.0, 165),
              ("crowd2", "English (Scotland)", "Mario", 1.8, 180), ("crowd3", "English (America)", "Denis", 1.6, 170),
              ("crowd4", "English (West Midlands)", "John", 1.0, 160), ("crowd5", "English (Lancaster)", "Boris", 1.9, 185),
              ("crowd6", "English (Caribbean)", "Robert", 1.1, 170), ("crowd7", "English (America)", "Male7", 1.8, 190)),
}
UTTERANCES = {"train": 6, "valid": 5, "test": 4, "babble": 6, "crowd": 6}  # a voice: 60, 15 and 12 utterances in all

# What they say: written for this project, no sentence in two groups.
SENTENCES = {
    "train": (
        "The baker left a warm loaf on the window sill.",
        "My sister plants tomatoes behind the garage every May.",
        "Could you move the ladder before somebody trips over it?",
        "Seven grey geese crossed the frozen field at noon.",
        "We missed the last ferry and slept in the car.",
        "A thin layer of dust covered the piano.",
        "He folded the map twice and put it in his coat.",
        "Why does the kettle whistle before the water boils?",
        "The judge asked both neighbours to lower their voices.",
        "Fresh paint and old books make this room smell strange.",
        "They measured the depth of the well with a rope.",
        "Our train arrives on platform four at half past six.",
        "She keeps her grandfather's watch in a velvet box.",
        "The orchestra tuned up while the lights went down.",
        "Please check the oil and fill both front tyres.",
        "Nobody noticed the small fox under the bridge.",
        "The recipe needs two cups of flour and a pinch of salt.",
        "Large waves threw pebbles against the harbour wall.",
        "I would rather walk than wait for another bus.",
        "The children built a castle from empty boxes.",
        "Turn left at the church and follow the narrow lane.",
        "Her new job begins in the first week of August.",
        "An old radio played jazz in the corner of the shop.",
        "The doctor wrote a short note and closed the file.",
        "Bright yellow leaves were stuck to the wet pavement.",
        "You can borrow my umbrella if it rains again.",
    ),
    "valid": (
        "The librarian stamped the card and smiled at the boy.",
        "A broken fence let the sheep into the orchard.",
        "Did they ever find out who sent the flowers?",
        "Strong coffee is the only thing that wakes him up.",
        "The museum opens late on the third Friday of the month.",
        "Quick repairs seldom last through a hard winter.",
        "Both brothers studied chemistry in the same town.",
        "Put the spare key under the third flower pot.",
    ),
    "test": (
        "The pilot announced a short delay because of fog.",
        "Every spring the river washes mud over the lower path.",
        "How much would it cost to frame this picture?",
        "Grandmother knits thick socks for the whole family.",
        "The shop on the corner sells bread, cheese and string.",
        "He lost his glasses somewhere between home and the beach.",
        "Six wooden chairs stood around the kitchen table.",
        "We should leave before the roads begin to freeze.",
    ),
    "babble": (
        "So I told her the meeting was on Tuesday, but she had already gone home.",
        "No, really, the second half was much better than the first one.",
        "You would never believe what they charge for parking these days.",
        "And then the dog ran straight through the middle of the picnic.",
        "Let me know when you are free, and we can have lunch together.",
        "It was raining so hard that we could not see the other side.",
    ),
    "crowd": (
        "Excuse me, is this the queue for tickets or for the cloakroom?",
        "They are playing again in October, somewhere near the station.",
        "I think we parked on the third level, next to the lift.",
        "Hold on, I can see him waving over there by the door.",
        "That was the best soup I have had in a very long time.",
        "Give me a call tomorrow and tell me how it went.",
    ),
}


def synthesize(spoken, seed):
    """Write the utterances of every voice that is not complete.

    Args:
        spoken: {(group, voice): paths}, a group being a key of `VOICES`.
        seed: decides which voice says which sentences.
    """
    todo = {key: paths for key, paths in spoken.items() if not all(path.is_file() for path in paths)}
    if not todo:
        return
    jobs = []
    for (group, name), paths in todo.items():
        _, *voice = next(one for one in VOICES[group] if one[0] == name)
        texts = SENTENCES[group]
        order = rng_for(seed, "demo", group, name).permutation(len(texts))
        jobs.append((voice, [texts[i] for i in order[:len(paths)]], paths))
    with ProcessPoolExecutor(available_cores(), mp_context=WorkerContext(), max_tasks_per_child=1) as pool:
        voices = [pool.submit(_speak, job) for job in jobs]
        try:
            for voice in tqdm(voices, desc="text to speech", unit="voice", disable=None):
                voice.result()
        except KeyboardInterrupt:
            end(pool)
            raise


def _speak(job):
    """Synthesise `(voice, texts, paths)` and write 16 kHz files, peak 0.7, with a tenth of a second of silence at either end."""
    from parselmouth.praat import call

    (language, variant, pitch, pace), texts, paths = job
    synthesizer = call("Create SpeechSynthesizer", language, variant)
    # Sampling frequency, word gap in s, pitch factor, pitch range factor, words per minute, phoneme code.
    call(synthesizer, "Speech output settings...", 22050, 0.01, pitch, 1.0, pace, "IPA")
    for text, path in zip(texts, paths, strict=True):
        made = call(synthesizer, "To Sound", text, "no")
        sound = made[0] if isinstance(made, list) else made  # a new voice's first answer is a list, with an empty TextGrid
        wave = audio.resample(sound.values[0].astype(np.float32), int(sound.sampling_frequency), audio.SAMPLE_RATE)
        loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
        audio.write(path, np.pad(normalized(wave[loud[0]:loud[-1] + 1]), audio.SAMPLE_RATE // 10))


def normalized(wave):
    """float32 `wave` without DC, peak 0.7."""
    wave = wave - np.mean(wave)
    return (PEAK * wave / np.abs(wave).max()).astype(np.float32)
