"""Files that are damaged at random: a few of each kind. docs/reliability.md counts a campaign of thousands."""

from collections import Counter

from fuzz import SUBJECTS, campaign


def test_a_damaged_file_is_one_sentence_or_is_read(tmp_path):
    done: Counter[str] = Counter()
    campaign(tmp_path, 2 * len(SUBJECTS), done)
    assert done.total() == 2 * len(SUBJECTS)
    assert {what.split(": ")[0] for what in done} == SUBJECTS.keys()
