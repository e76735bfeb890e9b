"""STFT and inverse: NumPy against a direct Fourier sum, SciPy, librosa and the golden values; keras.ops against NumPy."""

import dataclasses
import itertools

import librosa
import numpy as np
import pytest
import scipy.signal
from conftest import speech_like

from se_keras.errors import UserError
from se_keras.signals import stft as module
from se_keras.signals.stft import Stft, istft, istft_ops, magnitude, stft, stft_ops

CONFIGS = [Stft(), Stft(512, 128, "hann"), Stft(64, 32, "hamming")]
DCCRN = Stft(512, 100, "hann", 400, center=False)
EVERY = [Stft(n_fft, hop, window, win, center, pad_mode)
         for (n_fft, win, hop), window, center, pad_mode in itertools.product(
             [(512, 512, 256), (512, 400, 100), (512, 512, 128), (320, 320, 160)], ["hamming", "hann", "sqrt_hann"], [True, False],
             ["constant", "reflect"])] + [Stft(64, 20, "hann", 50), Stft(64, 20, "hann", 50, False),  # hop_length divides neither
                               *(Stft(512, 100, "hann", 400, center, inverse="least_squares") for center in (True, False))]
CUT = Stft(512, 256, "sqrt_hann", pad_mode="reflect", tail="cut")


@pytest.fixture(scope="module")
def wave():
    return speech_like(0.7, seed=2)[:10_001]  # no whole number of hops


def to_complex(spectrum):
    return spectrum[..., 0] + 1j * spectrum[..., 1]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_frame_is_the_windowed_fourier_sum_around_its_centre(wave, config):
    """X[t, k] = sum_n w[n] x[t hop + n - n_fft / 2] exp(-2 pi i k n / n_fft), x zero outside, in float64."""
    spectrum = to_complex(stft(wave, config))
    n = np.arange(config.n_fft)
    window = scipy.signal.get_window(config.window, config.n_fft)
    basis = np.exp(-2j * np.pi * np.outer(np.arange(config.bins), n) / config.n_fft)
    assert spectrum.shape == (config.frames(len(wave)), config.bins)
    for t in (0, 1, 17, len(spectrum) - 1):
        at = t * config.hop_length + n - config.n_fft // 2
        inside = (at >= 0) & (at < len(wave))
        piece = np.where(inside, wave[np.where(inside, at, 0)], 0.0).astype(np.float64)
        np.testing.assert_allclose(spectrum[t], basis @ (window * piece), atol=2e-4)


@pytest.mark.parametrize("config", CONFIGS)
def test_agrees_with_scipy(wave, config):
    """scipy.signal.stft divides by the window's sum, and is centred on zeros too."""
    _, _, expected = scipy.signal.stft(wave, window=config.window, nperseg=config.n_fft, noverlap=config.n_fft - config.hop_length)
    expected = expected.T * scipy.signal.get_window(config.window, config.n_fft).sum()
    np.testing.assert_allclose(to_complex(stft(wave, config)), expected[:config.frames(len(wave))], atol=2e-4)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("samples", [1, 255, 256, 257, 10_001])
def test_inverse_is_exact(wave, config, samples):
    """Every sample lies in two frames and more, so that even a part of a hop at the end comes back."""
    signal = np.stack([wave[:samples], -2 * wave[:samples]])
    spectrum = stft(signal, config)
    assert spectrum.dtype == np.float32 and spectrum.shape == (2, 1 + -(-samples // config.hop_length), config.n_fft // 2 + 1, 2)
    back = istft(spectrum, samples, config)
    assert back.dtype == np.float32 and back.shape == signal.shape
    np.testing.assert_allclose(back, signal, atol=2e-6)


@pytest.mark.parametrize("config", CONFIGS)
def test_zeros_that_pad_a_batch_leave_the_frames_as_they_are(wave, config):
    padded = np.concatenate([wave, np.zeros(3001, np.float32)])
    alone, in_batch = stft(wave, config), stft(padded, config)
    np.testing.assert_array_equal(in_batch[:len(alone)], alone)
    # and what the inverse makes of the padded one's frames is the wave, then silence
    np.testing.assert_allclose(istft(in_batch, len(padded), config), padded, atol=2e-6)


def window_of(config):
    """The window in its frame, float64, independent of the module."""
    length = config.win_length or config.n_fft
    window = scipy.signal.get_window(config.window.removeprefix("sqrt_"), length)
    window = np.sqrt(window) if config.window.startswith("sqrt_") else window
    return librosa.util.pad_center(window, size=config.n_fft) if config.center else np.pad(window, (0, config.n_fft - length))


@pytest.mark.parametrize("config", EVERY, ids=repr)
def test_every_transform_has_its_inverse_and_keras_ops_agree(wave, config):
    """Both to 1e-6 of the peak, back to 1e-5 of it; lengths around a hop and around the padding, and a batch of two."""
    for samples in (1, 3, config.hop_length, config.padding + 1, 2 * config.n_fft + 1):
        signal = np.stack([wave[4000:4000 + samples], -2 * wave[6000:6000 + samples]])
        spectrum = stft(signal, config)
        assert spectrum.dtype == np.float32 and spectrum.shape == (2, config.frames(samples), config.bins, 2)
        np.testing.assert_allclose(stft_ops(signal, config), spectrum, atol=1e-6 * np.abs(spectrum).max())
        peak = np.abs(signal).max()
        back = istft(spectrum, samples, config)
        assert back.dtype == np.float32
        np.testing.assert_allclose(back, signal, atol=1e-5 * peak)
        np.testing.assert_allclose(istft_ops(spectrum, samples, config), signal, atol=1e-5 * peak)
    changed = spectrum * np.random.default_rng(1).random(spectrum.shape[:-1])[..., None].astype(np.float32)  # no wave's spectrum
    back = istft(changed, samples, config)
    np.testing.assert_allclose(istft_ops(changed, samples, config), back, atol=1e-6 * np.abs(back).max())


@pytest.mark.parametrize("config", EVERY, ids=repr)
def test_frames_and_samples_belong_together(config):
    """So many frames have signals of one hop of lengths, the longest of which `samples` names."""
    for frames in range(config.frames(1), config.frames(1) + 5):
        longest = config.samples(frames)
        assert config.frames(longest) == frames and config.frames(longest + 1) == frames + 1
    assert stft(np.ones(longest, np.float32), config).shape == (frames, config.bins, 2)
    assert config.frames(longest - config.hop_length + 1) == frames


@pytest.mark.parametrize("config", [config for config in EVERY if config.center], ids=repr)
def test_centred_frames_agree_with_librosa(wave, config):
    """librosa leaves out the last frame, where the end is no whole number of hops, and takes float64 here."""
    expected = librosa.stft(wave.astype(np.float64), n_fft=config.n_fft, hop_length=config.hop_length, win_length=config.win_length,
                            window=window_of(Stft(config.win_length or config.n_fft, 1, config.window)), pad_mode=config.pad_mode).T
    assert len(expected) == config.frames(len(wave)) - 1
    np.testing.assert_allclose(to_complex(stft(wave, config))[:-1], expected, atol=1e-6 * np.abs(expected).max())
    short = wave[4000:4050]  # the padding reflects it more than once
    expected = librosa.stft(np.pad(short, config.n_fft // 2, config.pad_mode), n_fft=config.n_fft, hop_length=config.hop_length,
                            window=window_of(config), center=False).T
    np.testing.assert_allclose(to_complex(stft(short, config))[:1], expected[:1], atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("config", [config for config in EVERY if not config.center], ids=repr)
def test_frames_that_are_not_centred_agree_with_librosa(wave, config):
    """librosa pads nothing then: win_length - hop_length samples are put at both ends by hand."""
    reach = (config.win_length or config.n_fft) - config.hop_length
    padded = np.pad(wave.astype(np.float64), reach, config.pad_mode)
    expected = librosa.stft(np.pad(padded, (0, config.n_fft)), n_fft=config.n_fft, hop_length=config.hop_length, window=window_of(config),
                            center=False).T
    spectrum = to_complex(stft(wave, config))
    np.testing.assert_allclose(spectrum, expected[:len(spectrum)], atol=1e-6 * np.abs(expected).max())


def test_dccrn_has_its_frames():
    assert DCCRN.frames(48_000) == 483 and DCCRN.samples(483) == 48_000


def test_dccrn_has_its_spectrum(golden):
    tiny = np.load(golden / "dccrn_tiny_E.npz")
    expected = np.stack(np.split(tiny["stft"][0], 2), axis=-1).transpose(1, 0, 2)
    np.testing.assert_allclose(stft(tiny["x"][0], DCCRN), expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("config", [Stft(pad_mode="reflect"), DCCRN, Stft(512, 100, "sqrt_hann", 400, pad_mode="reflect")], ids=repr)
def test_an_empty_signal_and_one_sample(config):
    """Nothing to reflect, and one sample that stands for all."""
    assert not stft(np.zeros((1, 0), np.float32), config).any() and not np.any(stft_ops(np.zeros((1, 0), np.float32), config))
    one = np.full((1, 1), 0.5, np.float32)
    if config.pad_mode == "reflect":
        assert stft(one, config)[0, 0, 0, 0] == pytest.approx(0.5 * window_of(config)[:2 * config.padding + 1].sum(), rel=1e-6)
    assert istft(stft(one, config), 1, config) == pytest.approx(0.5, rel=1e-5)


def test_dccrn_has_its_inverse(golden):
    """Of a masked spectrum, which is no wave's: the pseudo-inverse's wave, from which the plain one differs by a hundredth of the peak."""
    tiny = np.load(golden / "dccrn_tiny_E.npz")
    spectrum = np.stack([tiny["real"][0].T, tiny["imag"][0].T], axis=-1)
    config = dataclasses.replace(DCCRN, inverse="least_squares")
    np.testing.assert_allclose(istft(spectrum, 4800, config), tiny["y"][0], atol=1e-6)
    np.testing.assert_allclose(istft_ops(spectrum[None], 4800, config)[0], tiny["y"][0], atol=1e-6)
    assert np.abs(istft(spectrum, 4800, DCCRN) - tiny["y"][0]).max() > 1e-3


@pytest.mark.parametrize("config", [CUT, dataclasses.replace(CUT, pad_mode="constant"), Stft(512, 128, "hann", 400, tail="cut")], ids=repr)
def test_a_tail_that_is_cut(wave, config):
    """librosa's frames, one for each whole hop; what lies behind the last one's centre comes back as zeros."""
    expected = librosa.stft(wave.astype(np.float64), n_fft=config.n_fft, hop_length=config.hop_length, win_length=config.win_length,
                            window=window_of(Stft(config.win_length or config.n_fft, 1, config.window)), pad_mode=config.pad_mode).T
    spectrum = stft(wave, config)
    assert len(spectrum) == config.frames(len(wave)) == 1 + len(wave) // config.hop_length
    np.testing.assert_allclose(to_complex(spectrum), expected, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(stft_ops(wave[None], config)[0], spectrum, atol=1e-6 * np.abs(expected).max())
    known = config.samples(len(spectrum))
    for back in (istft(spectrum, len(wave), config), np.asarray(istft_ops(spectrum[None], len(wave), config))[0]):
        np.testing.assert_allclose(back[:known], wave[:known], atol=2e-6)
        assert back.shape == wave.shape and not back[known:].any() and known < len(wave)


def test_energy_of_white_noise():
    """E|X|^2 = sigma^2 sum w^2 for white noise: the window's energy and no other scale."""
    noise = np.random.default_rng(0).standard_normal(160_000).astype(np.float32)
    power = np.mean(magnitude(stft(noise))[2:-2, 1:-1] ** 2)
    assert power == pytest.approx(np.sum(scipy.signal.get_window("hamming", 512) ** 2), rel=0.02)


def test_magnitude_is_safe_where_squares_overflow():
    np.testing.assert_allclose(magnitude(np.array([[3, 4], [0, 0], [3e30, 4e30]], np.float32)), [5, 0, 5e30], rtol=1e-6)


@pytest.mark.parametrize(("config", "inner"), [(Stft(), slice(1, 48_000 // 256 - 1)), (Stft(pad_mode="reflect"), slice(None))], ids=repr)
def test_metricgan_features(golden, config, inner, monkeypatch):
    """Its feature has half a window of zeros behind the wave, and is centred by reflection.

    With zeros, frames that lie inside the wave do not see the padding and must agree, with reflection all: exactly with the symmetric
    window that is used there, and by as much as the golden file measured between the two windows with this project's periodic one.
    """
    features = np.load(golden / "metricgan_features.npz")
    noisy = np.pad(np.load(golden / "signals.npz")["synth1_noisy"], (0, 256))
    expected = features["noisy_mag"][0, inner]
    measured = magnitude(stft(noisy, config))[:189][inner]  # the last one is there for half a hop
    assert np.abs(measured - expected).max() <= features["mag_maxdiff_if_periodic_window"] + 1e-4
    monkeypatch.setattr(module, "framed_window", lambda config: features["window"].astype(np.float32))
    spectrum = stft(noisy, config)[:189][inner]
    np.testing.assert_allclose(magnitude(spectrum), expected, atol=1e-4)
    phase = np.arctan2(spectrum[..., 1], spectrum[..., 0])
    turn = np.angle(np.exp(1j * (phase - features["noisy_phase_TxF"][0, inner])))
    assert np.abs(turn * expected).max() < 1e-3  # a phase means nothing where there is no magnitude


@pytest.mark.parametrize("config", CONFIGS)
def test_keras_ops_agree_with_numpy(wave, config):
    signal = np.stack([wave, wave[::-1]])
    spectrum = stft(signal, config)
    np.testing.assert_allclose(np.asarray(stft_ops(signal, config)), spectrum, atol=2e-4)
    np.testing.assert_allclose(np.asarray(istft_ops(spectrum, len(wave), config)), signal, atol=2e-6)
    changed = spectrum * np.random.default_rng(1).random(spectrum.shape[:-1])[..., None].astype(np.float32)  # no wave's spectrum
    np.testing.assert_allclose(np.asarray(istft_ops(changed, len(wave), config)), istft(changed, len(wave), config), atol=2e-5)


@pytest.mark.parametrize("config", [Stft(), DCCRN, Stft(512, 100, "sqrt_hann", 400, pad_mode="reflect"),
                                    Stft(center=False, pad_mode="reflect")], ids=repr)
def test_keras_ops_take_any_length_in_a_graph(wave, config):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, None))])
    def there_and_back(signal):
        return istft_ops(stft_ops(signal, config), tf.shape(signal)[1], config)

    for samples in (100, 700, 1024):
        np.testing.assert_allclose(there_and_back(wave[None, :samples]).numpy()[0], wave[:samples], atol=2e-6)


@pytest.mark.parametrize("config", [Stft(), *(config for config in EVERY if config.window != "hamming")], ids=repr)
def test_there_and_back_has_the_gradient_of_the_identity(wave, config):
    """d/dx sum (istft(stft(x)) c) = c, also where a Hann window is zero on padding that is cut off."""
    import tensorflow as tf

    c = np.random.default_rng(3).standard_normal((1, 2000)).astype(np.float32)
    with tf.GradientTape() as tape:
        signal = tf.Variable(wave[None, :2000])
        spectrum = stft_ops(signal, config)
        loss = tf.reduce_sum(istft_ops(spectrum, 2000, config) * c)
    gradient, of_spectrum = tape.gradient(loss, [signal, spectrum])
    np.testing.assert_allclose(gradient.numpy(), c, atol=2e-5)
    assert np.isfinite(of_spectrum).all()


def test_arguments_of_a_user():
    assert Stft.checked({}) == Stft() and Stft.checked({"hop_length": 128, "window": "hann"}) == Stft(512, 128, "hann")
    dccrn = {"n_fft": 512, "hop_length": 100, "window": "hann", "win_length": 400, "center": False}
    assert Stft.checked(dccrn) == DCCRN and Stft.checked({"pad_mode": "reflect"}) == Stft(pad_mode="reflect")
    assert Stft.checked({"win_length": 512}) == Stft() and Stft.checked({"win_length": None}) == Stft()
    for config in EVERY:
        assert Stft.checked(config.to_config()) == config


def test_the_description_of_an_old_transform_is_what_it_was():
    """Keys of caches and cards hold it: what is new appears only where it is not the default."""
    assert repr(Stft()) == "Stft(n_fft=512, hop_length=256, window='hamming')"
    assert Stft(win_length=512, center=True, pad_mode="constant").to_config() == {"n_fft": 512, "hop_length": 256, "window": "hamming"}
    assert repr(DCCRN) == "Stft(n_fft=512, hop_length=100, window='hann', win_length=400, center=False)"
    assert DCCRN.to_config() == {"n_fft": 512, "hop_length": 100, "window": "hann", "win_length": 400, "center": False}
    assert list(Stft(pad_mode="reflect").to_config()) == ["n_fft", "hop_length", "window", "pad_mode"]
    for config in EVERY:
        assert Stft(**config.to_config()) == config and eval(repr(config)) == config


@pytest.mark.parametrize(("arguments", "message"), [
    ({"hop": 128}, "the STFT has no hop; it takes n_fft, hop_length, window, win_length, center, pad_mode, tail and inverse"),
    ({"hop_length": 384}, "n_fft 512 and hop_length 384: .* hop_length at most half of the window, which has 512"),
    ({"hop_length": 512}, "n_fft 512 and hop_length 512: "),
    ({"hop_length": 201, "win_length": 400}, "n_fft 512 and hop_length 201: .* half of the window, which has 400"),
    ({"hop_length": 0}, "n_fft 512 and hop_length 0: whole numbers of samples are expected"),
    ({"n_fft": 512.0}, "n_fft 512.0 and hop_length 256: "),
    ({"n_fft": 511}, "n_fft 511 and hop_length 256: .* n_fft even"),
    ({"n_fft": True, "hop_length": True}, "n_fft True and hop_length True: "),
    ({"win_length": 513}, "win_length 513: a whole number of samples is expected, at most n_fft, which is 512"),
    ({"win_length": 0}, "win_length 0: "),
    ({"win_length": 400.0}, "win_length 400.0: "),
    ({"window": "hanning-ish"}, "window 'hanning-ish': not known to scipy.signal.get_window"),
    ({"window": "sqrt_"}, "window 'sqrt_': not known"),
    ({"window": "kaiser"}, "window 'kaiser': not known"),  # SciPy's takes a parameter
    ({"window": 8.6}, "window 8.6: not known"),
    ({"window": ["hann"]}, r"window \['hann'\]: not known"),
    ({"window": "sqrt_flattop"}, "window 'sqrt_flattop': the window has negative values and no square root"),
    ({"window": "exponential"}, "window 'exponential' of 512 samples and hop_length 256: .* cannot be inverted"),
    ({"center": 1}, "center 1: true or false is expected"),
    ({"center": "no"}, "center 'no': "),
    ({"pad_mode": "zeros"}, "pad_mode 'zeros': constant or reflect is expected"),
    ({"tail": "drop"}, "tail 'drop': pad or cut is expected"),
    ({"tail": "cut", "center": False}, "tail 'cut' is of centred frames, and center is false"),
    ({"inverse": "exact"}, "inverse 'exact': dft or least_squares is expected"),
    ({"pad_mode": ["reflect"]}, r"pad_mode \['reflect'\]: "),
])
def test_arguments_that_make_no_transform(arguments, message):
    with pytest.raises(UserError, match=message):
        Stft.checked(arguments)
