"""
Take the time stamps out of HDF5 files, so that equal content is equal bytes.

ITK writes composite transforms as HDF5 1.8 object headers, which hold four times each and end in a
checksum. Format: HDF5 File Format Specification 3.0, section IV.A.1.b; checksum: lookup3 of
Jenkins, 2006 (public domain).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bids_app._typing import PathLike

SIGNATURE = b'OHDR'

HAS_TIMES = 0x20
"""Flag of an object header."""

HAS_LIMITS = 0x10
"""Flag of an object header: four more bytes."""

MIX = ((0, 2, 4, 1), (1, 0, 6, 2), (2, 1, 8, 0), (0, 2, 16, 1), (1, 0, 19, 2), (2, 1, 4, 0))
"""Steps of a round: target, source, bits, the third."""

FINISH = ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24))
"""Steps at the end: target, source, bits."""


def copy_without_times(source: PathLike, target: PathLike) -> str:
    """Copy an HDF5 file with all its time stamps set to 0."""
    content = bytearray(Path(source).read_bytes())
    for start, end in _headers(content):
        content[start + 6 : start + 22] = bytes(16)
        struct.pack_into('<I', content, end, checksum(content[start:end]))
    Path(target).write_bytes(content)
    return str(target)


def _headers(content: bytearray) -> Iterator[tuple[int, int]]:
    """Find the object headers with times: where they start and where their checksum lies."""
    start = content.find(SIGNATURE)
    while start >= 0:
        flags = content[start + 5] if start + 5 < len(content) else 0
        if flags & HAS_TIMES:
            width = 1 << (flags & 3)
            place = start + 22 + (4 if flags & HAS_LIMITS else 0)
            end = place + width + int.from_bytes(content[place : place + width], 'little')
            stored = bytes(content[end : end + 4])
            if stored == struct.pack('<I', checksum(content[start:end])):
                yield start, end
        start = content.find(SIGNATURE, start + 1)


def checksum(content: bytes | bytearray) -> int:
    """
    Sum of the bytes of a header, as HDF5 stores it (lookup3).

    Examples
    --------
    >>> hex(checksum(b'Four score and seven years ago'))
    '0x17770551'
    """
    state = [(0xDEADBEEF + len(content)) & 0xFFFFFFFF] * 3
    if not content:
        return state[2]
    blocks = max(0, (len(content) - 1) // 12)
    padded = bytes(content).ljust(12 * (blocks + 1), b'\0')
    for block in range(blocks + 1):
        words = struct.unpack_from('<3I', padded, 12 * block)
        state = [(one + word) & 0xFFFFFFFF for one, word in zip(state, words, strict=True)]
        if block < blocks:
            for target, other, bits, third in MIX:
                state[target] = (state[target] - state[other]) & 0xFFFFFFFF
                state[target] ^= _rotate(state[other], bits)
                state[other] = (state[other] + state[third]) & 0xFFFFFFFF
    for target, other, bits in FINISH:
        state[target] ^= state[other]
        state[target] = (state[target] - _rotate(state[other], bits)) & 0xFFFFFFFF
    return state[2]


def _rotate(word: int, bits: int) -> int:
    """Rotate 32 bits to the left."""
    return ((word << bits) | (word >> (32 - bits))) & 0xFFFFFFFF
