import gzip
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeprep.fits.gunzip import BUFFER_BYTES, GunzipStream

CONTENT = np.random.default_rng(0).integers(0, 8, 3 * BUFFER_BYTES + 77, dtype=np.uint8).tobytes()
HALF = len(CONTENT) // 2
ZIPPED = gzip.compress(CONTENT[:HALF], 1) + gzip.compress(CONTENT[HALF:], 1)  # two members, as pigz and cat make them


@settings(deadline=None, max_examples=50)
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, BUFFER_BYTES + 9)), max_size=12))
def test_reads_and_skips_give_the_bytes_of_the_file(steps: list[tuple[bool, int]]) -> None:
    stream, position = GunzipStream(io.BytesIO(ZIPPED)), 0
    for skips, count in steps:
        there = min(count, len(CONTENT) - position)
        target = bytearray(count)
        assert (stream.skip(count) if skips else stream.readinto(memoryview(target))) == there
        if not skips:
            assert target[:there] == CONTENT[position : position + there]
        position += there


def test_a_file_that_is_cut_is_an_error_and_not_an_end() -> None:
    stream = GunzipStream(io.BytesIO(ZIPPED[: len(ZIPPED) // 3]))
    with pytest.raises(EOFError):
        stream.skip(len(CONTENT))
