"""From manifest rows to batches of spectrograms: bucketed by length, padded and masked, mixed on the fly.

`Feed` is a plain NumPy source that any Keras backend can read; batch k is a pure function of (seed, k), so training can start
again at any batch. `Feed.tf_dataset` puts tf.data around it: mixing in parallel, prefetched.

Rows are a list or `manifest.ParquetRows`. Of a list the order of an epoch is drawn and held. Of a Parquet manifest, which may have
millions, it is computed place by place (`permutation`): another order, shuffled and bucketed alike, of which only lengths are held.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from se_keras import backend
from se_keras.mixtures import manifest
from se_keras.mixtures.augment import Augmentation, noise_files
from se_keras.mixtures.manifest import ParquetRows
from se_keras.mixtures.permutation import permuted
from se_keras.signals import mixing
from se_keras.signals.audio import SAMPLE_RATE
from se_keras.signals.stft import Stft, stft

BUCKET_BATCHES = 32  # how many batches are sorted by length together: near-equal lengths, still well shuffled


def spectrogram_batch(pairs, config=Stft(), padded=lambda frames: frames):
    """Stack `(noisy, clean)` wave pairs of any lengths into one padded batch.

    Args:
        pairs: list of (noisy, clean), float32 `(samples,)`.
        config: STFT parameters.
        padded: number of frames of the longest -> that of the batch.

    Returns:
        dict of `noisy`, `clean` float32 `(batch, frames, bins, 2)` and `frame_mask` bool `(batch, frames)`.
    """
    frames = [config.frames(len(clean)) for _, clean in pairs]
    longest = padded(max(frames))
    noisy = np.zeros((len(pairs), longest, config.bins, 2), np.float32)
    clean = np.zeros_like(noisy)
    for i, (noisy_wave, clean_wave) in enumerate(pairs):
        noisy[i, :frames[i]] = stft(noisy_wave, config)
        clean[i, :frames[i]] = stft(clean_wave, config)
    return {"noisy": noisy, "clean": clean, "frame_mask": np.arange(longest) < np.array(frames)[:, None]}


@dataclass(frozen=True)
class Feed:
    """Training batches of `rows`.

    Attributes:
        rows: manifest rows, a list or `manifest.ParquetRows`.
        batch_size: utterances a batch; the last of an epoch may hold fewer.
        config: STFT parameters.
        seed: of the order and the cuts.
        crop_s: utterances are cut to a random piece of at most this many seconds, another one each epoch; None for whole ones.
        extra: {name: array over rows}, passed on with each batch (labels, say).
        augment: `augment.Augmentation`: each use of a row is drawn anew, by (seed, epoch, row); None for the rows as they are.
        multiple: frames are padded to a multiple of this, so that few shapes occur; None: `backend.frame_multiple`.
        workers: batches that are made at a time, on threads (TensorFlow).
    """

    rows: Sequence
    batch_size: int
    config: Stft = Stft()
    seed: int = 0
    crop_s: float | None = None
    extra: dict = field(default_factory=dict)
    augment: Augmentation | None = None
    multiple: int | None = None
    workers: int = 2

    @property
    def batches_per_epoch(self):
        return -(-len(self.rows) // self.batch_size)

    def order(self, epoch):
        """The batches of an epoch: a list of arrays of row numbers."""
        if isinstance(self.rows, ParquetRows):
            return [self._computed(epoch, within) for within in range(self.batches_per_epoch)]
        rng = np.random.default_rng([self.seed, epoch])
        shuffled = rng.permutation(len(self.rows))
        batches, window = [], self.batch_size * BUCKET_BATCHES
        lengths = self._padded_lengths()  # utterances that are padded to one length stay shuffled: each epoch other company
        for start in range(0, len(shuffled), window):
            chunk = shuffled[start:start + window]
            chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
            batches += [chunk[i:i + self.batch_size] for i in range(0, len(chunk), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def _computed(self, epoch, within):
        """One batch of an epoch of a Parquet manifest, as `order` has it: rows are shuffled, windows of them sorted by length and cut
        into batches, and the batches shuffled."""
        window, within = divmod(int(permuted(self.batches_per_epoch, within, self.seed, epoch, 1)), BUCKET_BATCHES)
        first = window * BUCKET_BATCHES * self.batch_size
        places = np.arange(first, min(first + BUCKET_BATCHES * self.batch_size, len(self.rows)))
        chunk = permuted(len(self.rows), places, self.seed, epoch, 0)
        different, which = np.unique(self.rows.used_samples()[chunk], return_inverse=True)
        chunk = chunk[np.argsort(self._padded(different.tolist())[which], kind="stable")]
        return chunk[within * self.batch_size:(within + 1) * self.batch_size]

    def _padded_lengths(self):
        """Frames that each row is padded to, after its cut."""
        return self._padded(row.used_samples for row in self.rows)

    def _padded(self, lengths):
        longest = np.inf if self.crop_s is None else round(self.crop_s * SAMPLE_RATE)
        return np.array([self.padded(self.config.frames(min(length, longest))) for length in lengths])

    def padded(self, frames):
        """Number of frames of a batch whose longest utterance has so many: never more than a whole cut in multiples of 16."""
        multiple = self.multiple or backend.frame_multiple()
        rounded = -(-frames // multiple) * multiple
        if self.crop_s is None:
            return rounded
        most = -(-self.config.frames(round(self.crop_s * SAMPLE_RATE)) // 16) * 16
        return max(frames, min(rounded, most))

    def indices(self, k):
        """Row numbers of batch k, counted over epochs from 0."""
        epoch, within = divmod(int(k), self.batches_per_epoch)
        return self._computed(epoch, within) if isinstance(self.rows, ParquetRows) else self._order_of(epoch)[within]

    def _order_of(self, epoch):
        cached = self.__dict__.get("_order")  # the batches of one epoch at a time: memory does not grow with epochs
        if cached is None or cached[0] != epoch:
            cached = (epoch, self.order(epoch))
            object.__setattr__(self, "_order", cached)
        return cached[1]

    def cut_rows(self, k):
        """The manifest rows of batch k, each cut to the piece that is used, redrawn where rows are augmented."""
        return [row for row, _ in self._draws(k)]

    def _draws(self, k):
        """(row, its random generator) of each row of batch k."""
        epoch = int(k) // self.batches_per_epoch
        for index in self.indices(k):
            row, rng = self.rows[index], np.random.default_rng([self.seed, epoch, int(index)])
            if self.crop_s is not None:
                row = manifest.crop(row, round(self.crop_s * SAMPLE_RATE), rng)
            yield (row if self.augment is None else self.augment.redraw(row, self._noises, rng)), rng

    @functools.cached_property
    def _noises(self):
        return noise_files(self.rows)

    def _pairs(self, k):
        if self.augment is None:
            return [mixing.pair(row) for row in self.cut_rows(k)]
        return [self.augment.pair(row, self._noises, rng) for row, rng in self._draws(k)]

    def batch(self, k):
        """Batch k as the dict of `spectrogram_batch`, with the rows' `extra` values."""
        arrays = spectrogram_batch(self._pairs(k), self.config, self.padded)
        return {**arrays, **{name: values[self.indices(k)] for name, values in self.extra.items()}}

    def numpy_batches(self, start, stop):
        """Batches start .. stop - 1, made as they are asked for: for backends other than TensorFlow."""
        for k in range(start, stop):
            yield self.batch(k)

    def tf_dataset(self, start, stop):
        """Batches start .. stop - 1 as a tf.data.Dataset of dicts; `workers` of them are made at a time, in order."""
        import tensorflow as tf

        example = self.batch(start)
        names = list(example)
        types = [tf.as_dtype(example[name].dtype) for name in names]

        def values(k):
            batch = self.batch(k)
            return [batch[name] for name in names]

        def make(k):
            arrays = tf.numpy_function(values, [k], types, stateful=False)
            for name, array in zip(names, arrays, strict=True):
                array.set_shape([None, None, *example[name].shape[2:]] if example[name].ndim > 1 else [None])
            return dict(zip(names, arrays, strict=True))

        return tf.data.Dataset.range(start, stop).map(make, num_parallel_calls=self.workers, deterministic=True).prefetch(4)

    def batches(self, start, stop):
        """Batches start .. stop - 1 as NumPy dicts, through tf.data under TensorFlow.

        Raises:
            UserError: a row whose files cannot be read or mixed (`mixing.pair`).
        """
        import keras

        if keras.backend.backend() != "tensorflow":
            yield from self.numpy_batches(start, stop)
            return
        import tensorflow as tf

        iterator = self.tf_dataset(start, stop).as_numpy_iterator()
        for k in range(start, stop):
            try:
                batch = next(iterator)
            except tf.errors.OpError:
                self.batch(k)  # says in its own words what tf.data wraps in a trace
                raise
            yield batch
