"""Splits by content are stable, disjoint and near their shares; bad rows are counted, never silent."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dressage.protocols import Row
from dressage.sources._columns import prompt_of
from dressage.sources._rows import (
    Columns,
    Opened,
    RowError,
    RowSettings,
    SourceError,
    checked_row,
    deduplicated,
    read,
    split_by_hash,
    splits,
)

SHARES = {"train": 0.6, "dev": 0.1, "test": 0.3}


def source(*texts):
    return Opened(lambda: (Row(f"p:{at}", {"prompt": text}) for at, text in enumerate(texts, 1)))


def settings(**fields):
    return RowSettings(kind="test", **fields)


def test_shares_are_met_within_four_standard_errors():
    counts = Counter(split_by_hash(f"{at:016x}", SHARES) for at in range(10_000))
    for name, share in SHARES.items():
        assert abs(counts[name] / 10_000 - share) < 4 * (share * (1 - share) / 10_000) ** 0.5


@given(st.text("0123456789abcdef", min_size=16, max_size=16))
def test_a_larger_train_share_only_moves_prompts_into_train(name):
    order = ["train", "dev", "test"]
    small = split_by_hash(name, {"train": 0.5, "dev": 0.2, "test": 0.3})
    large = split_by_hash(name, {"train": 0.7, "dev": 0.1, "test": 0.2})
    assert order.index(large) <= order.index(small)


@given(st.text(), st.sampled_from(["train", "dev", "test"]))
def test_a_share_of_one_takes_all_and_a_share_of_zero_nothing(name, split):
    assert split_by_hash(name, {split: 1.0}) == split
    assert split_by_hash(name, {split: 0.0, "dev" if split == "test" else "test": 1.0}) != split


def test_the_same_prompt_lands_in_the_same_split_in_any_file():
    one, two = (prompt_of(Row(place, {"prompt": "Hi"}), Columns(), splits(settings())) for place in ("a:1", "b:9"))
    assert (one.id, one.split) == (two.id, two.split)


def test_a_split_column_outranks_the_settings_unless_ignored():
    row = Row("p:1", {"prompt": "Hi", "split": "validation"})
    assert prompt_of(row, Columns(), splits(settings(split="train"))).split == "dev"
    columns = Columns(split=None)
    kept = prompt_of(row, columns, splits(settings(split="train", columns=columns)))
    assert (kept.split, kept.extra) == ("train", {"split": "validation"})


@pytest.mark.parametrize("split", [{"train": 0.5}, {"train": 0.9, "test": 0.2}, {"trian": 1.0}, "all", {"train": -1}])
def test_shares_that_make_no_sense_are_refused(split):
    with pytest.raises(ValidationError):
        settings(split=split)


def test_reading_keeps_order_and_stops_at_the_first_bad_row():
    good = read(settings(), source("a", "b"), convert=prompt_of)
    assert [prompt.messages[0].content for prompt in good.made] == ["a", "b"]
    assert good.bad == []
    with pytest.raises(RowError, match=r"^p:2: the prompt is empty"):
        read(settings(), source("a", " ", "b"), convert=prompt_of)


def test_bad_rows_are_left_out_up_to_the_share_allowed():
    texts = ["a", " ", "b", "c"]
    kept = read(settings(max_bad_rows=0.25), source(*texts), convert=prompt_of)
    assert (len(kept.made), [error.place for error in kept.bad]) == (3, ["p:2"])
    with pytest.raises(SourceError, match=r"(?s)1 of 4 rows .* a share of 0\.24; the first are:\n  p:2: "):
        read(settings(max_bad_rows=0.24), source(*texts), convert=prompt_of)
    with pytest.raises(SourceError, match="2 of 2 rows"):
        read(settings(max_bad_rows=1.0), source("", ""), convert=prompt_of)
    with pytest.raises(SourceError, match="has no rows"):
        read(settings(), source(), convert=prompt_of)


def test_duplicates_are_dropped_and_counted_and_the_first_stays():
    made = read(settings(), source("a", "b", "a", "a"), convert=prompt_of).made
    kept, dropped = deduplicated(made)
    assert [prompt.messages[0].content for prompt in kept] == ["a", "b"]
    assert dropped == 2


@pytest.mark.parametrize("fields", [["a"], "text", None, {1: "a"}])
def test_a_row_must_be_a_mapping_with_named_columns(fields):
    with pytest.raises(RowError, match=r"^p:3: a row must be an object with named columns"):
        checked_row("p:3", fields)


def test_half_a_surrogate_pair_is_refused_wherever_it_hides():
    with pytest.raises(RowError, match=r"^p:3: column 'messages' holds half a surrogate pair"):
        checked_row("p:3", {"n": 1, "messages": [{"role": "user", "content": "a\ud800"}]})
