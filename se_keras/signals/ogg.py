"""Whether an Ogg file (Vorbis, Opus) is whole: decoders pass over a damaged page, and its samples are missing without a word."""

import collections
import zlib

from se_keras.signals import shards

_HEADER = 27  # bytes of a page before its table of segments (RFC 3533, section 6)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _pages(path):
    """(header, the rest, whether all of it is there) of each page, one after the other as their headers say."""
    with shards.open_bytes(path) as raw:
        while header := raw.read(_HEADER):
            table = raw.read(header[26]) if len(header) == _HEADER else b""
            rest = table + raw.read(sum(table))
            yield header, rest, len(header) == _HEADER and len(rest) == header[26] + sum(table)


def fault(path):
    """What is wrong with a page of an Ogg file, in words; "" where each has its number and its checksum.

    Args:
        path: of a file, or of a member of a tar.
    """
    following = collections.defaultdict(int)  # {stream: number of its next page}
    for number, (header, rest, whole) in enumerate(_pages(path), 1):
        if not header.startswith(b"OggS\0"):
            return f"its page {number} is damaged"
        if not whole:
            return ""  # cut: `open_end`
        stream, sequence, checksum = (int.from_bytes(header[at:at + 4], "little") for at in (14, 18, 22))
        if checksum != _crc(header[:22] + bytes(4) + header[26:] + rest):
            return f"its page {number} is damaged"
        if header[5] & 2:  # the first of its stream
            following[stream] = sequence
        if sequence != following[stream]:
            return f"pages are missing before its page {number}"
        following[stream] = sequence + 1
    return ""


def open_end(path):
    """That the end of an Ogg file is missing, in words; "" where the last page is whole and marked as the last.

    Whoever streams one and is interrupted leaves it unmarked too.
    """
    ends = False
    for header, _, whole in _pages(path):
        ends = whole and bool(header[5] & 4)
    return "" if ends else "the end is missing, or was never marked"


def _crc(page):
    """The CRC of RFC 3533: 0x04C11DB7, highest bit first, from 0. zlib has it lowest bit first, from and to its complement."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)
