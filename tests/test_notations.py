"""Every notation in tests/cases/notations.json is read as it says, or refused in a sentence that says what it says."""

import base64
import json

import pytest
from conftest import ROOT

from config.text import decode
from solving.reading import read

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
