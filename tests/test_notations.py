"""Every notation in tests/cases/notations.json is read as it says, or refused in a sentence that says what it says."""

import base64
import gzip
import json

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from config import text as text_of
from config.text import decode
from solving.reading import puzzles, read

CASES = json.loads((ROOT / "tests/cases/notations.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_notation(case):
    content = base64.b64decode(case["base64"]) if "base64" in case else case["text"].encode()
    if "refused" in case:
        with pytest.raises(ValueError) as error:
            read(decode(content))
        sentence = str(error.value)
        assert "\n" not in sentence and all(words in sentence for words in case["refused"]), sentence
        return
    found = [
        {"board": kind.name, "line": line, "cells": kind.text(tokens_S).replace("\n", "")}
        for kind, tokens_S, line in read(decode(content))
    ]
    assert found == case["puzzles"]


TEXTS = [case["text"] for case in CASES if case.get("text")]
CHARACTERS = st.sampled_from('0123456789._-*x?|+#@SGE \n\t,;"[]abq')


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A text of the cases with a character or a line left out, put in or changed, up to three times."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 3))):
        lines = text.split("\n")
        number, place = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(text)))
        kind = draw(st.sampled_from(["drop", "insert", "change", "drop line", "repeat line"]))
        if kind.endswith("line"):
            text = "\n".join(lines[:number] + lines[number : number + 1] * (2 * (kind[0] == "r")) + lines[number + 1 :])
        else:
            text = text[:place] + draw(CHARACTERS) * (kind != "drop") + text[place + (kind != "insert") :]
    return text


def cells(found) -> list[tuple[str, int, bytes]]:
    return [(kind.name, line, tokens_S.tobytes()) for kind, tokens_S, line in found]


@settings(max_examples=100, deadline=None)
@given(mutated())
def test_damaged_texts_are_read_or_refused_and_line_by_line_as_in_one_go(text):
    try:
        whole = cells(read(text))
    except ValueError as error:
        assert "\n" not in str(error)
        with pytest.raises(ValueError):
            list(puzzles(text_of.split(text), at_once=True))
        return
    assert cells(puzzles(text_of.split(text), at_once=True)) == whole


def test_what_unpacks_to_too_much_is_refused(monkeypatch):
    packed = gzip.compress(b"." * 16 + b"\n" * 10**5)
    assert len(read(decode(packed))) == 1
    assert len(read(decode(packed + gzip.compress(b"." * 16)))) == 2, "files that cat joined"
    monkeypatch.setattr(text_of, "LIMIT", 10**4)
    with pytest.raises(ValueError, match="unpacks to 10000 bytes or more: unpack it first"):
        decode(packed)
