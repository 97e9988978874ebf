"""What every kind of source shares: its settings, its errors, and how rows become records in splits."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, get_args

from pydantic import Field, field_validator

from dressage.protocols import Row, Source, SourceSettings
from dressage.records import Frozen, Prompt, Split
from dressage.seeds import seed_for

T = TypeVar("T")
Share = Annotated[float, Field(ge=0, le=1)]
Column = Annotated[str, Field(min_length=1)]
SplitOf = Callable[[str, Row], Split]
"""From a prompt's id and its row to the split it belongs to."""

SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}


class SourceError(ValueError):
    """A source cannot be read: names it, says what is wrong and the way out."""


class RowError(SourceError):
    """One row cannot become what was asked for; `place` is where a person finds it."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")
        self.place = place


class Columns(Frozen):
    """Which of your columns hold what; where one is null the usual names are tried."""

    prompt: Column | None = None
    """Text or a conversation; null: prompt, messages, conversations, turns, question, instruction or text."""
    system: Column | None = None
    """A system message to put before a plain prompt; null: none."""
    reference: Column | None = None
    """The right answer; null: `reference`, if there is such a column."""
    response: Column | None = None
    """The reply of a candidate or an example; null: response, completion, output or (example) answer."""
    model: Column = "model"
    """Who wrote a candidate; without such a column it is `given`."""
    chosen: Column | None = None
    """The better reply; null: chosen, response_chosen or chosen_response."""
    rejected: Column | None = None
    """The worse reply; null: rejected, response_rejected or rejected_response."""
    score_chosen: Column | None = None
    """The score of the better reply; null: score_chosen or chosen_score."""
    score_rejected: Column | None = None
    """The score of the worse reply; null: score_rejected or rejected_score."""
    tags: tuple[Column, ...] | None = None
    """Columns whose values become tags; null: category, topic and tags."""
    split: Column | None = "split"
    """A column that says train, dev or test; it outranks the source's `split:`. Null: ignore it."""
    final_reply: Literal["refuse", "reference", "drop"] = "refuse"
    """What to do where a conversation meant as a prompt ends in the assistant's reply: stop, keep the reply
    as the reference answer, or drop it."""
    score_span: float = Field(1.0, gt=0)
    """The difference between two scores that makes a margin of 1; larger ones are clipped."""


class RowSettings(SourceSettings):
    """The base of every kind of source."""

    columns: Columns = Columns()
    """Names of your columns, where they are not the usual ones."""
    split: Split | dict[Split, Share] = Field(default={"train": 0.7, "dev": 0.1, "test": 0.2})
    """One word for all rows, or shares that sum to 1; which prompt goes where is decided by its content."""
    max_bad_rows: Share = 0.0
    """A larger share of rows that lack what is needed stops the stage; fewer are counted and left out."""
    limit: int | None = Field(None, ge=1)
    """Read at most so many rows, from the top; null: all."""

    @field_validator("split")
    @classmethod
    def _shares_sum_to_one(cls, split: str | dict[str, float]) -> str | dict[str, float]:
        if isinstance(split, dict) and abs(sum(split.values()) - 1) > 1e-9:
            raise ValueError(f"split shares must sum to 1, these sum to {sum(split.values()):g}")
        return split


# ---------------------------------------------------------------- rows


def checked_row(place: str, fields: object) -> Row:
    """A row whose columns have names and whose texts are text.

    Raises:
        RowError: not a mapping, a column without a name, or half a surrogate pair (no UTF-8 can hold it).
    """
    if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields):
        raise RowError(place, f"a row must be an object with named columns, this is {kind_of(fields)}")
    for name, value in fields.items():
        try:
            json.dumps({name: value}, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            raise RowError(
                place,
                f"column {name!r} holds half a surrogate pair (\\ud800 to \\udfff); write the file as UTF-8",
            ) from None
    return Row(place, fields)


@dataclass(frozen=True)
class Opened:
    """An opened source: what lies at each place, from the top at each call, and how that becomes a row.

    The two are apart so that `read` can go on behind a row that cannot be made (a line of broken JSON).
    """

    found: Callable[[], Iterator[tuple[str, Any]]]
    made: Callable[[str, Any], Row] = checked_row

    def rows(self) -> Iterator[Row]:
        return (self.made(place, raw) for place, raw in self.found())


def kind_of(value: object) -> str:
    """A value's type in words a person who wrote JSON knows."""
    words = {
        dict: "an object",
        list: "a list",
        str: "text",
        int: "a number",
        float: "a number",
        bool: "a boolean",
    }
    return "null" if value is None else words.get(type(value), f"a {type(value).__name__}")


def near(wanted: str | tuple[str, ...], known: Iterable[str]) -> str:
    """The end of an error: the name nearest to any that is wanted, whatever its case, and all there are."""
    names = list(known)
    lowered = {name.lower(): name for name in names}
    words = (wanted,) if isinstance(wanted, str) else wanted
    close = [found for word in words for found in get_close_matches(word.lower(), lowered, n=1, cutoff=0.75)]
    guess = f"; did you mean {lowered[close[0]]!r}?" if close else ""
    return f"{guess} (there is: {', '.join(names) or 'nothing'})"


# ---------------------------------------------------------------- splits


def split_by_hash(prompt_id: str, shares: dict[Split, float]) -> Split:
    """The split a prompt falls into by its content, so it is the same in every run and every file."""
    where = seed_for("split", prompt_id) / 2**63
    used: list[Split] = [name for name in get_args(Split) if shares.get(name, 0.0) > 0]
    above = 0.0
    for name in used[:-1]:
        above += shares[name]
        if where < above:
            return name
    return used[-1]


def splits(settings: RowSettings) -> SplitOf:
    """How rows of this source are put into splits: by their own column, else as the settings say."""

    def split_of(prompt_id: str, row: Row) -> Split:
        own = row.fields.get(settings.columns.split) if settings.columns.split else None
        if own is not None:
            return _own_split(own, row)
        if isinstance(settings.split, dict):
            return split_by_hash(prompt_id, settings.split)
        return settings.split

    return split_of


def _own_split(own: object, row: Row) -> Split:
    if isinstance(own, str) and own.lower() in SPLIT_WORDS:
        return SPLIT_WORDS[own.lower()]
    raise RowError(
        row.place,
        f"its split is {own!r}{near(str(own), SPLIT_WORDS)}; `columns: {{split: null}}` ignores the column",
    )


# ---------------------------------------------------------------- all rows at once


class Read(NamedTuple, Generic[T]):
    """What a source gave: its records, and the rows that could not be read."""

    made: list[T]
    bad: list[RowError]


def read(settings: SourceSettings, source: Source, *, convert: Callable[[Row, Columns, SplitOf], T]) -> Read[T]:
    """Every row through `convert` (one of `_columns`: `prompt_of`, `candidate_of`, `pair_of`, `example_of`).

    Raises:
        SourceError: no rows, none readable, or more unreadable ones than `max_bad_rows` allows.
    """
    if not isinstance(settings, RowSettings):
        raise TypeError(f"the settings of source kind {settings.kind!r} must inherit from RowSettings")
    made: list[T] = []
    bad: list[RowError] = []
    split_of = splits(settings)
    opened = source if isinstance(source, Opened) else Opened(source.rows)
    for place, raw in opened.found():
        try:
            made.append(convert(opened.made(place, raw), settings.columns, split_of))
        except RowError as error:
            if settings.max_bad_rows == 0:
                raise
            bad.append(error)
    _check(len(made), bad, settings)
    return Read(made, bad)


def _check(made: int, bad: list[RowError], settings: RowSettings) -> None:
    seen = made + len(bad)
    if seen == 0:
        raise SourceError(f"the {settings.kind} source has no rows")
    if made == 0 or len(bad) / seen > settings.max_bad_rows:
        raise SourceError(
            f"{len(bad)} of {seen} rows cannot be read, `max_bad_rows` allows a share of "
            f"{settings.max_bad_rows:g}; the first are:\n" + "\n".join(f"  {error}" for error in bad[:3])
        )


def deduplicated(prompts: Iterable[Prompt]) -> tuple[list[Prompt], int]:
    """The first prompt of each id, and how many later ones were dropped."""
    kept: dict[str, Prompt] = {}
    seen = 0
    for prompt in prompts:
        seen += 1
        kept.setdefault(prompt.id, prompt)
    return list(kept.values()), seen - len(kept)


def named(fields: dict[str, Any], column: str, place: str) -> Any:
    """The value of a column the settings name.

    Raises:
        RowError: there is no such column.
    """
    if column not in fields:
        raise RowError(place, f"`columns:` names {column!r}, which the row lacks{near(column, fields)}")
    return fields[column]
