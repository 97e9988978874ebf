"""What stages left and left out, in words that agree in number."""

from dressage.leftovers import left_out, rows_left
from dressage.store import Shard


def test_what_was_left_out_is_named_as_one_of_it() -> None:
    facts = {
        "prompts": 40,
        "prompts_doubled": 3,
        "failures of checks: empty (response)": 1,
        "failed draws: timeout": 2,
        "left_out: margin too small": 1200,
        "left_out: ties": 0,
        "undecided by near": 1,
    }
    assert left_out(facts) == (
        "3 × doubled prompt, 1 × failure of checks: empty (response), 2 × failed draw: timeout, "
        "1,200 × margin too small, 1 × undecided by near"
    )
    assert left_out({"prompts": 40, "prompts_doubled": 0}) is None


def test_rows_are_counted_in_the_singular_and_the_plural() -> None:
    shards = [
        Shard(name=str(i), key="k", rows=rows, rows_hash="h", files={})
        for i, rows in enumerate(({"checkpoints": 1, "candidates": 1}, {"candidates": 1199}))
    ]
    assert rows_left(shards) == "1 checkpoint, 1,200 candidates"
    assert rows_left([]) == ""
