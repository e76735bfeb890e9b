"""Waves and spectra: audio files, STFT, mixing, files of any length. NumPy, and `keras.ops` inside a model."""
