"""Measures of a text: counted by hand."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dressage.maths.text import commonest_opener, distinct_n, style_features, words


def test_words_keep_their_apostrophes():
    assert words("Don't panic — it’s 42, snake_case… 'quoted'") == [
        "don't",
        "panic",
        "it’s",
        "42",
        "snake_case",
        "quoted",
    ]
    assert words("…!? 🎉") == []


def test_distinct_bigrams_by_hand():
    # a b | a b a → bigrams ab, ab, ba: two of three; none runs from one text into the next
    assert distinct_n(["A b", "a B. a"], 2) == pytest.approx(2 / 3)
    assert distinct_n(["a b", "a b a"], 1) == pytest.approx(2 / 5)
    assert distinct_n(["a b c"], 3) == 1
    assert distinct_n(["a", ""], 2) == 0
    with pytest.raises(ValueError, match="at least one"):
        distinct_n(["a"], 0)


@given(st.lists(st.text("ab c", max_size=12), max_size=6), st.integers(1, 3))
def test_saying_it_twice_halves_what_is_distinct(texts, n):
    assert distinct_n(texts * 2, n) == pytest.approx(distinct_n(texts, n) / 2)


def test_the_commonest_opener_by_hand():
    texts = ["I'm so sorry to hear that!", "i'm so sorry to HEAR it", "", "Well then", "I am here for you, friend"]
    assert commonest_opener(texts) == ("i'm so sorry to hear", pytest.approx(2 / 5))
    assert commonest_opener(texts, words=1)[0] == "i'm"
    assert commonest_opener(["Short.", "short", "b"]) == ("short", pytest.approx(2 / 3))
    assert commonest_opener([]) == commonest_opener(["", "…"]) == ("", 0)


@given(st.lists(st.sampled_from(["a b", "b a", "", "c"])), st.randoms(use_true_random=False))
def test_the_order_of_texts_does_not_matter(texts, random):
    assert commonest_opener(random.sample(texts, len(texts))) == commonest_opener(texts)


MARKDOWN = """# Title
Hello **there**! It is 3.5 now… right?

- one __bold__
* two
  3) three
* * *
---
#hashtag

```python
# not a header
- not a list **nor bold**!
```
Bye 👋🏽 👨‍👩‍👧 🇫🇷 ❤️"""


def test_style_counted_by_hand():
    found = style_features(MARKDOWN)
    # sentences: "# Title Hello **there**!", "It is 3.5 now…", "right?", and what follows without an end
    expected = {"sentences": 4, "list_items": 3, "headers": 1, "bold": 2, "exclamation_marks": 1, "emoji": 4}
    assert {name: found[name] for name in expected} == expected
    assert found["characters"] == len(MARKDOWN)
    assert style_features("Hi there, you. ")["words"] == 3


def test_an_empty_text_has_no_style():
    assert set(style_features("").values()) == {0.0}


def test_sentences():
    counts = {"One. Two! Three?": 3, "No end": 1, "Wait... what?!": 2, 'He said "no." Then left.': 2, "好。是！": 2}
    assert {text: style_features(text)["sentences"] for text in counts} == counts


@pytest.mark.parametrize("unit", [".", "(", "**a ", "- ", "```\n", "# ", "_", "\t", "!)", "👨‍"])
def test_a_hostile_text_costs_no_time(unit):
    began = time.perf_counter()
    style_features(unit * (20_000 // len(unit)))
    style_features("-" + unit * (20_000 // len(unit)) + "x")
    assert time.perf_counter() - began < 1
