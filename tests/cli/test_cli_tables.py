from __future__ import annotations

import pytest

from edgeprune.cli.tables import state_table
from edgeprune.quantity import bytes_text, count_text, share_text, time_text


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (bytes_text(812), "812 B"),
        (bytes_text(65536), "64.0 kB"),
        (bytes_text(1.5 * 2**20), "1.50 MB"),
        (count_text(640), "640"),
        (count_text(40_800_000), "40.8 M"),
        (time_text(0.0042), "4.20 us"),
        (time_text(0.1), "0.100 ms"),
        (time_text(12.34), "12.3 ms"),
        (share_text(1, 4), "25.0 %"),
        (share_text(0, 0), ""),
        (share_text(None, 4), ""),
    ],
)
def test_figures_as_people_read_them(shown, expected):
    assert shown == expected


def test_states_are_shown_with_what_could_be_one():
    state = {"name": "h", "result": "hn", "shape": [1, 6], "dtype": "float32"}
    possible = {"name": "c", "results": ["cn", "dn"], "shape": [2], "dtype": "int8"}
    (table,) = state_table({"states": [state], "possible_states": [possible]})
    assert [list(column.cells) for column in table.columns] == [
        ["h=hn", "c=cn", "c=dn"],
        ["1 x 6", "2", "2"],
        ["float32", "int8", "int8"],
        ["kept", "--state would keep it", "--state would keep it"],
    ]
    assert state_table({"states": []}) == []
