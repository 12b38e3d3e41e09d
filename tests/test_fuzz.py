"""Files that are damaged at random: a few of each kind. docs/reliability.md counts a campaign of thousands."""

import sys
from collections import Counter

import pytest
from fuzz import SUBJECTS, campaign


@pytest.mark.skipif(sys.platform != "linux", reason="the memory that a mutation takes is in Linux's /proc")
def test_a_damaged_file_is_one_sentence_or_is_read(tmp_path):
    done: Counter[str] = Counter()
    campaign(tmp_path, 2 * len(SUBJECTS), done)
    assert done.total() == 2 * len(SUBJECTS)
    assert {what.split(": ")[0] for what in done} == SUBJECTS.keys()
