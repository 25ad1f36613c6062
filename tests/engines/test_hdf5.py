import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bids_app.engines.hdf5 import HAS_TIMES, checksum, copy_without_times


def header(messages, time, flags=HAS_TIMES):
    """One object header as HDF5 1.8 writes it."""
    times = struct.pack('<4I', *[time] * 4) if flags & HAS_TIMES else b''
    content = b'OHDR' + bytes([2, flags]) + times + bytes([len(messages)]) + messages
    return content + struct.pack('<I', checksum(content))


def test_checksum_is_that_of_the_published_examples():
    assert checksum(b'') == 0xDEADBEEF
    assert checksum(b'Four score and seven years ago') == 0x17770551


@given(st.lists(st.binary(max_size=60), max_size=4), st.integers(1, 2**32 - 1))
def test_files_that_differ_in_time_only_become_equal(tmp_path_factory, bodies, time):
    folder = tmp_path_factory.mktemp('h5')
    copies = []
    for number, stamp in enumerate((time, 7)):
        source, target = folder / f'{number}.h5', folder / f'{number}_copy.h5'
        source.write_bytes(b'\x89HDF' + b''.join(header(body, stamp) for body in bodies))
        copies.append(Path(copy_without_times(source, target)).read_bytes())
    assert copies[0] == copies[1]
    assert copies[0] == b'\x89HDF' + b''.join(header(body, 0) for body in bodies)


def test_bytes_that_only_look_like_a_header_stay(tmp_path):
    content = b'OHDR' + bytes([2, HAS_TIMES]) + bytes(range(1, 60)) + header(b'x', 5, flags=0)
    (tmp_path / 'a').write_bytes(content + b'OHDR')
    copy_without_times(tmp_path / 'a', tmp_path / 'b')
    assert (tmp_path / 'b').read_bytes() == content + b'OHDR'
