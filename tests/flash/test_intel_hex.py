from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import EdgepruneError
from edgeprune.flash.image import image_of
from edgeprune.flash.intel_hex import decode, encode


def refused(text):
    with pytest.raises(EdgepruneError) as caught:
        decode(text)
    assert (caught.value.code, bool(caught.value.hint)) == ("image-invalid", True)
    return caught.value.what


def test_records_are_as_others_write_them():
    """The example of Wikipedia's article on Intel HEX, and one beyond 64 KB."""
    image = image_of([(0x0100, bytes.fromhex("214601360121470136007EFE09D21901"))])
    assert encode(image) == ":10010000214601360121470136007EFE09D2190140\n:00000001FF\n"
    assert encode(image_of([(0x0800FFFE, b"\1\2\3\4")])).split() == [
        ":020000040800F2",
        ":02FFFE000102FE",
        ":020000040801F1",
        ":020000000304F7",
        ":00000001FF",
    ]


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(min_size=1, max_size=50)), min_size=1, max_size=4))
def test_what_was_written_is_read(parts):
    place, segments = 0xFFF0, []
    for gap, data in parts:
        place += 7 * gap
        segments.append((place, data))
        place += len(data)
    image = image_of(segments)
    assert decode(encode(image)) == image


def test_damaged_text_is_refused():
    good = encode(image_of([(0x100, b"abc")]))
    assert refused(good.replace("6162", "6163")) == "the HEX file cannot be read: line 1 is damaged"
    assert refused("\n" + good[1:]) == "the HEX file cannot be read: line 1 is damaged"
    assert refused(good.split()[0]) == "the HEX file cannot be read: its end is missing"
    assert refused("") == "the HEX file cannot be read: its end is missing"
