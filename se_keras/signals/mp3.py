"""How much an MP3 file holds by its frames: a decoder that has lost the count in its first frame guesses, and may stop half-way."""

from se_keras.signals import shards

# ISO/IEC 11172-3 and 13818-3, layer III: kbit/s by index, of MPEG 1 and of 2 and 2.5; Hz of MPEG 1, of which the others have parts
_KBIT_S = {3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
           2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)}
_HZ = (44_100, 48_000, 32_000)
_PARTS = {3: 1, 2: 2, 0: 4}  # of the rate, by the version's two bits
_SAMPLES = {3: 1152, 2: 576, 0: 576}  # of a frame


def samples(path):
    """Samples of all frames that are there, whatever lies between them; the one that may hold a count among them. 0 where none is found.

    Args:
        path: of a file, or of a member of a tar.
    """
    with shards.open_bytes(path) as raw:
        data = raw.read()
    at, count, kind = _after_tags(data), 0, None
    while (at := data.find(b"\xff", at)) >= 0:
        length, found = _frame(data[at:at + 4])
        following = at + length
        whole = length and following <= len(data)
        if whole and found == (kind or found) and (following == len(data) or _frame(data[following:following + 4])[1] == found or kind):
            kind = kind or found  # version and rate, which a file does not change
            count += 1
            at = following
        else:
            at += 1
    return count * _SAMPLES[kind[0]] if kind else 0


def _after_tags(data):
    """Where the first frame may begin: after an ID3v2 tag, whose length is four bytes of seven bits each (ID3v2.4, section 3.1)."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(data[6:10])))


def _frame(header):
    """(bytes of a frame, (version, Hz)) by its header; (0, None) where it is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:  # eleven bits of sync; layer III
        return 0, None
    version, rate, index = header[1] >> 3 & 3, header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or rate == 3 or index in (0, 15):
        return 0, None
    hz = _HZ[rate] // _PARTS[version]
    bit_s = 1000 * _KBIT_S[3 if version == 3 else 2][index]
    return _SAMPLES[version] // 8 * bit_s // hz + (header[2] >> 1 & 1), (version, hz)
