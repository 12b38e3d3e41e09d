"""Files that are damaged at random: one of each kind. docs/reliability.md counts a campaign of thousands."""

import sys
from collections import Counter

import pytest
from fuzz import SUBJECTS, campaign


@pytest.mark.skipif(sys.platform != "linux", reason="the memory that a mutation takes is in Linux's /proc")
def test_a_damaged_file_is_one_sentence_or_is_read(tmp_path):
    done: Counter[str] = Counter()
    campaign(tmp_path, len(SUBJECTS), done)
    assert done.total() == len(SUBJECTS)
    assert {what.split(": ")[0] for what in done} == SUBJECTS.keys()
