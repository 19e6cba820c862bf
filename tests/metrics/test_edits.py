"""Edit distances of a batch are those of each pair, by the recurrence."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lossbench.metrics import edit_distances

ROWS = st.lists(st.tuples(*(st.lists(st.integers(1, 4), max_size=7) for _ in range(2))), min_size=1, max_size=5)


def levenshtein(a, b):
    """By the recurrence, from the end."""
    if not a or not b:
        return len(a) + len(b)
    return min(levenshtein(a[1:], b) + 1, levenshtein(a, b[1:]) + 1, levenshtein(a[1:], b[1:]) + (a[0] != b[0]))


def filled(rows, width):
    return np.array([row + [0] * (width - len(row)) for row in rows], np.int64).reshape(len(rows), width)


@given(ROWS, st.integers(7, 9), st.integers(7, 9))
def test_they_are_those_of_the_recurrence(rows, width, other):
    a, b = ([pair[k] for pair in rows] for k in (0, 1))
    found = edit_distances(filled(a, width), filled(b, other))
    assert found.tolist() == [levenshtein(x, y) for x, y in rows]


def test_known_words():
    words = [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("", "", 0), ("same", "same", 0)]
    a, b = (filled([[ord(c) for c in word[k]] for word in words], 8) for k in (0, 1))
    assert edit_distances(a, b).tolist() == [distance for *_, distance in words]
    assert edit_distances(a[:0], b[:0]).tolist() == []
