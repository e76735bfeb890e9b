"""Addresses of processes on other machines, HOST:PORT, as flags have them."""

import re


def split(text):
    """(host, port) of "HOST:PORT", the host of an IPv6 address in its brackets; None where it is none, by its form or its port."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})", text)
    if match is None or not 0 < int(match[2]) < 1 << 16:
        return None
    return match[1], int(match[2])
