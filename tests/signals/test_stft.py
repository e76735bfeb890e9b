"""STFT and inverse: NumPy against a direct Fourier sum, SciPy and the golden features; keras.ops against NumPy."""

import numpy as np
import pytest
import scipy.signal
from conftest import speech_like

from se_keras.errors import UserError
from se_keras.signals import stft as module
from se_keras.signals.stft import Stft, istft, istft_ops, magnitude, stft, stft_ops

CONFIGS = [Stft(), Stft(512, 128, "hann"), Stft(64, 32, "hamming")]


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


def test_energy_of_white_noise():
    """E|X|^2 = sigma^2 sum w^2 for white noise: the window's energy and no other scale."""
    noise = np.random.default_rng(0).standard_normal(160_000).astype(np.float32)
    power = np.mean(magnitude(stft(noise))[2:-2, 1:-1] ** 2)
    assert power == pytest.approx(np.sum(scipy.signal.get_window("hamming", 512) ** 2), rel=0.02)


def test_magnitude_is_safe_where_squares_overflow():
    np.testing.assert_allclose(magnitude(np.array([[3, 4], [0, 0], [3e30, 4e30]], np.float32)), [5, 0, 5e30], rtol=1e-6)


def test_metricgan_features(shared, monkeypatch):
    """The golden feature of real15: one window's length of zeros behind the wave, centred by reflection.

    Frames that lie inside the wave do not see the padding and must agree: exactly with the symmetric window that was used there,
    and by as much as the golden file measured between the two windows with this project's periodic one.
    """
    golden = np.load(shared / "golden" / "metricgan_features.npz")
    noisy = np.load(shared / "golden" / "signals.npz")["real15_noisy"]
    inner = slice(1, 48_000 // 256 - 1)
    expected = golden["noisy_mag"][0, inner]
    measured = magnitude(stft(np.pad(noisy, (0, 256))))[inner]
    assert np.abs(measured - expected).max() <= golden["mag_maxdiff_if_periodic_window"] + 1e-4
    monkeypatch.setattr(module, "_window", lambda config: golden["window"].astype(np.float32))
    spectrum = stft(np.pad(noisy, (0, 256)))
    np.testing.assert_allclose(magnitude(spectrum)[inner], expected, atol=1e-4)
    phase = np.arctan2(spectrum[..., 1], spectrum[..., 0])[inner]
    turn = np.angle(np.exp(1j * (phase - golden["noisy_phase_TxF"][0, inner])))
    assert np.abs(turn * expected).max() < 1e-3  # a phase means nothing where there is no magnitude


@pytest.mark.parametrize("config", CONFIGS)
def test_keras_ops_agree_with_numpy(wave, config):
    signal = np.stack([wave, wave[::-1]])
    spectrum = stft(signal, config)
    np.testing.assert_allclose(np.asarray(stft_ops(signal, config)), spectrum, atol=2e-4)
    np.testing.assert_allclose(np.asarray(istft_ops(spectrum, len(wave), config)), signal, atol=2e-6)
    changed = spectrum * np.random.default_rng(1).random(spectrum.shape[:-1])[..., None].astype(np.float32)  # no wave's spectrum
    np.testing.assert_allclose(np.asarray(istft_ops(changed, len(wave), config)), istft(changed, len(wave), config), atol=2e-5)


def test_keras_ops_take_any_length_in_a_graph(wave):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, None))])
    def there_and_back(signal):
        return istft_ops(stft_ops(signal), tf.shape(signal)[1])

    for samples in (700, 1024):
        np.testing.assert_allclose(there_and_back(wave[None, :samples]).numpy()[0], wave[:samples], atol=2e-6)


def test_there_and_back_has_the_gradient_of_the_identity(wave):
    """d/dx sum (istft(stft(x)) c) = c."""
    import tensorflow as tf

    c = np.random.default_rng(3).standard_normal((1, 2000)).astype(np.float32)
    with tf.GradientTape() as tape:
        signal = tf.Variable(wave[None, :2000])
        loss = tf.reduce_sum(istft_ops(stft_ops(signal), 2000) * c)
    np.testing.assert_allclose(tape.gradient(loss, signal).numpy(), c, atol=1e-5)


SIZES = [(512, 512, 256), (400, 512, 100), (512, 512, 128), (320, 320, 160), (400, 512, 160)]  # win_length, n_fft, hop_length
MANY = [Stft(n_fft, hop, window, win if win < n_fft else None, center, pad_mode) for win, n_fft, hop in SIZES
        for window in ("hamming", "hann", "sqrt_hann") for center, pad_mode in ((True, "constant"), (True, "reflect"), (False, "constant"))]


@pytest.mark.parametrize("config", MANY, ids=repr)
def test_every_kind_is_one_in_numpy_and_keras_ops_and_comes_back(wave, config):
    """To 1e-6 of the spectrum's peak, and to 1e-5."""
    assert Stft.checked(config.to_config()) == config
    for samples in (10_001, 300, 1):  # the mirror of one sample is empty
        signal = np.stack([wave[:samples], wave[:samples][::-1]])
        spectrum = stft(signal, config)
        assert spectrum.shape == (2, config.frames(samples), config.bins, 2)
        assert config.samples(config.frames(samples)) - samples in range(config.hop_length)
        peak = max(np.abs(spectrum).max(), 1e-3)
        np.testing.assert_allclose(np.asarray(stft_ops(signal, config)) / peak, spectrum / peak, atol=1e-6)
        np.testing.assert_allclose(istft(spectrum, samples, config), signal, atol=1e-5)
        np.testing.assert_allclose(np.asarray(istft_ops(spectrum, samples, config)), signal, atol=1e-5)


@pytest.mark.parametrize("config", [config for config in MANY if config.center], ids=repr)
def test_centred_kinds_agree_with_librosa(wave, config):
    import librosa

    name = config.window.removeprefix("sqrt_")
    window = scipy.signal.get_window(name, config.win_length or config.n_fft)
    expected = librosa.stft(wave[:9600], n_fft=config.n_fft, hop_length=config.hop_length, win_length=config.win_length, center=True,
                            window=np.sqrt(window) if name != config.window else window, pad_mode=config.pad_mode)
    found = to_complex(stft(wave[:9600], config))
    frames = 9600 // config.hop_length  # librosa drops a last part of a hop
    np.testing.assert_allclose(found[:frames], expected.T[:frames], atol=2e-4)


def test_frames_that_are_not_centred_are_dccrns():
    """3 s in windows of 400 every 100 samples, 300 zeros on either side: 483 frames (../shared/spec/dccrn_losses.md)."""
    config = Stft(512, 100, "hann", win_length=400, center=False)
    assert config.frames(48_000) == 483 and config.samples(483) == 48_000
    wave = np.random.default_rng(0).standard_normal(4_000).astype(np.float32)
    piece = np.pad(wave, (300, 300))[5 * 100:5 * 100 + 400] * scipy.signal.get_window("hann", 400)
    np.testing.assert_allclose(to_complex(stft(wave, config))[5], np.fft.rfft(piece, 512), atol=1e-4)


def test_what_is_at_its_default_is_not_said():
    """Cards and kept scores from before the STFT had six arguments stay what they are."""
    assert repr(Stft()) == "Stft(n_fft=512, hop_length=256, window='hamming')"
    assert Stft(512, 128, "hann").to_config() == {"n_fft": 512, "hop_length": 128, "window": "hann"}
    assert Stft(512, 100, "hann", 400, False).to_config() == {"n_fft": 512, "hop_length": 100, "window": "hann", "win_length": 400,
                                                              "center": False}
    assert repr(Stft(center=False)) == "Stft(n_fft=512, hop_length=256, window='hamming', center=False)"


@pytest.mark.parametrize("config", [Stft(512, 100, "hann", 400, False), Stft(512, 256, "sqrt_hann", pad_mode="reflect")], ids=repr)
def test_every_kind_has_finite_gradients_in_a_graph(wave, config):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, None))])
    def gradient(signal):
        with tf.GradientTape() as tape:
            tape.watch(signal)
            loss = tf.reduce_sum(istft_ops(stft_ops(signal, config), tf.shape(signal)[1], config))
        return tape.gradient(loss, signal)

    np.testing.assert_allclose(gradient(wave[None, :3000]).numpy(), np.ones((1, 3000)), atol=1e-4)


def test_arguments_of_a_user():
    assert Stft.checked({}) == Stft() and Stft.checked({"hop_length": 128, "window": "hann"}) == Stft(512, 128, "hann")


@pytest.mark.parametrize(("arguments", "message"), [
    ({"hop": 128}, "the STFT has no hop; it takes n_fft, hop_length, window, win_length, center, pad_mode"),
    ({"hop_length": 384}, "hop_length 384 with a window of 512 samples .hamming. cannot be inverted: .* a hop of at most half the window"),
    ({"hop_length": 512}, "hop_length 512 with a window of 512 samples"),
    ({"hop_length": 256, "win_length": 300}, "hop_length 256 with a window of 300 samples"),
    ({"hop_length": 0}, "hop_length 0: a whole number of samples is expected, from 1 to"),
    ({"n_fft": 512.0}, "n_fft 512.0: a whole number of samples is expected"),
    ({"n_fft": True}, "n_fft True: a whole number"),
    ({"n_fft": 511, "hop_length": 100}, "n_fft 511 and win_length None: n_fft is to be even"),
    ({"win_length": 600}, "n_fft 512 and win_length 600: n_fft is to be even, the window no longer"),
    ({"win_length": "long"}, "win_length 'long': a whole number"),
    ({"window": "hanning-ish"}, "window 'hanning-ish': not known to scipy.signal.get_window"),
    ({"window": "sqrt_"}, "window 'sqrt_': not known"),
    ({"window": 3}, "window 3: not known"),
    ({"center": "yes"}, "center 'yes': true or false is expected"),
    ({"pad_mode": "mirror"}, "unknown pad_mode 'mirror'; known: constant, reflect"),
])
def test_arguments_that_make_no_transform(arguments, message):
    with pytest.raises(UserError, match=message):
        Stft.checked(arguments)
