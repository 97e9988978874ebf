"""Rows of any source read into labelled pairs: chosen and rejected, or two replies and who won; ties allowed."""

from collections.abc import Iterator
from typing import Any

from dressage.engines.auditing.pairs import LabelledPair
from dressage.plugins import open_kind
from dressage.protocols import Row, SourceSettings
from dressage.sources._columns import pair_of
from dressage.sources._rows import Columns, RowError, SplitOf, near, read

REPLIES = (
    ("response_a", "response_b"),
    ("answer_a", "answer_b"),
    ("conversation_a", "conversation_b"),
    ("response_1", "response_2"),
    ("output_1", "output_2"),
)
"""Usual names of the columns with the two replies, where no column says which was chosen."""
WINNERS = ("winner", "label", "preference")
WORDS = {
    **dict.fromkeys(("a", "1", "first", "model_a", "response_a", "response_1", "output_1"), "first"),
    **dict.fromkeys(("b", "2", "second", "model_b", "response_b", "response_2", "output_2"), "second"),
    **dict.fromkeys(("tie", "0", "both", "both_bad", "tie (bothbad)"), "tie"),
}
"""How files say who won."""
WRITERS = (("model_chosen", "model_rejected"), ("chosen_model", "rejected_model"), ("model_a", "model_b"))


def labelled_pairs(source: SourceSettings) -> list[LabelledPair]:
    """Every pair of a source, in its order.

    Raises:
        SourceError: no rows, or rows that hold no labelled pair, as the source's `max_bad_rows` allows.
    """
    return read(source, open_kind(source), convert=labelled_of).made


def labelled_of(row: Row, columns: Columns, split_of: SplitOf) -> LabelledPair:
    """The pair in a row. Chosen and rejected with equal scores are a tie; so is a winner called tie.

    Raises:
        RowError: there is no pair, no label, or a word for the winner that nobody knows.
    """
    sided = _sided(row, columns)
    names = next((names for names in WRITERS if any(name in row.fields for name in names)), WRITERS[0])
    fields = {name: value for name, value in sided.fields.items() if name not in names}
    prompt, won, lost, margin = pair_of(Row(row.place, fields), columns, split_of)
    writers = [row.fields.get(name) for name in names]
    if sided is not row and _winner(row) == "second":
        writers.reverse()
    first, second = (writer if isinstance(writer, str) else None for writer in writers)
    return LabelledPair(prompt, won, lost, tied=margin == 0, margin=margin, writers=(first, second))


def _sided(row: Row, columns: Columns) -> Row:
    """A row with two replies and a winner as one with chosen and rejected; any other as it is."""
    if columns.chosen is not None or {"chosen", "rejected"} <= row.fields.keys():
        return row
    sides = next((sides for sides in REPLIES if all(row.fields.get(side) is not None for side in sides)), None)
    if sides is None:
        return row
    winner = _winner(row)
    better, worse = sides if winner != "second" else sides[::-1]
    kept = {name: value for name, value in row.fields.items() if name not in (*sides, *WINNERS)}
    made = {"chosen": row.fields[better], "rejected": row.fields[worse]}
    return Row(row.place, {**dict(_prompt(kept, columns)), **made, **_scores(winner, columns)})


def _winner(row: Row) -> str:
    """`first`, `second` or `tie`."""
    column = next((name for name in WINNERS if row.fields.get(name) is not None), None)
    if column is None:
        raise RowError(
            row.place, f"two replies, but no column says who won, {', '.join(WINNERS)}{near('winner', row.fields)}"
        )
    word = str(row.fields[column]).strip().casefold()
    if word not in WORDS:
        raise RowError(row.place, f"{column!r} is {row.fields[column]!r}{near(word, WORDS)}")
    return WORDS[word]


def _prompt(fields: dict[str, Any], columns: Columns) -> Iterator[tuple[str, Any]]:
    """The columns, with the prompt under a usual name where it has that of LLMBar."""
    usual = ("prompt", "messages", "conversations", "turns", "question", "instruction", "text")
    renamed = columns.prompt is None and "input" in fields and not any(name in fields for name in usual)
    for name, value in fields.items():
        yield ("prompt" if renamed and name == "input" else name), value


def _scores(winner: str, columns: Columns) -> dict[str, float]:
    """What makes pair_of see a tie; a label that names a winner says nothing of how far they are apart."""
    if winner != "tie":
        return {}
    return {columns.score_chosen or "score_chosen": 0.0, columns.score_rejected or "score_rejected": 0.0}
