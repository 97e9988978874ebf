"""Rows read into records: prompts, candidates, preference pairs, examples to imitate."""

from pydantic import ValidationError

from dressage.protocols import Row
from dressage.records import Candidate, Message, Prompt
from dressage.sources import _fields as fields
from dressage.sources._messages import FILL, blank, prompt_messages, reply_messages, require_prompt
from dressage.sources._rows import Columns, RowError, SplitOf, kind_of, named, near

NAMED_ANEW = frozenset({"version", "id", "prompt_id", "messages"})
"""Fields of an exported candidate that are made again from the row; the others say how it was drawn."""

Messages = tuple[Message, ...]


def prompt_of(row: Row, columns: Columns, split_of: SplitOf) -> Prompt:
    """The prompt in a row, plain or conversational; columns that mean nothing here survive in `extra`.

    Raises:
        RowError: no prompt column, an empty prompt, a conversation that ends in a reply (see `final_reply`).
    """
    if row.fields.keys() == Prompt.model_fields.keys():
        return _exported_prompt(row)
    messages, used = _asked(row, columns)
    reference = None
    if messages[-1].role == "assistant":
        if columns.final_reply == "refuse":
            raise RowError(
                row.place,
                "the conversation ends in the assistant's reply, a prompt ends with the user; say "
                "`columns: {final_reply: reference}` to keep the reply as the reference answer, or `drop`",
            )
        reference = messages[-1].content if columns.final_reply == "reference" else None
        messages = messages[:-1]
    return _prompt(row, messages, columns=columns, split_of=split_of, used=used, reference=reference)


def candidate_of(row: Row, columns: Columns, split_of: SplitOf) -> tuple[Prompt, Candidate]:
    """A prompt with somebody's response: a reply column, a conversation ending in a reply, or our own export.

    A response may be empty: that is the candidate's failure, and for the judge stage to record.

    Raises:
        RowError: prompt or response missing or not text.
    """
    if {"prompt", "prompt_id", "messages"} <= row.fields.keys():
        return _exported_candidate(row, columns, split_of=split_of)
    messages, reply, used = _asked_and_answered(row, columns, usual=fields.RESPONSES)
    model = fields.scalar(row.fields.get(columns.model))
    prompt = _prompt(row, messages, columns=columns, split_of=split_of, used={*used, columns.model})
    return prompt, _given(prompt, reply, model=model or "given")


def example_of(row: Row, columns: Columns, split_of: SplitOf) -> tuple[Prompt, Candidate]:
    """A prompt with the reply to imitate; of a conversation the last turn is the reply.

    Raises:
        RowError: prompt or reply missing, empty or not text.
    """
    messages, reply, used = _asked_and_answered(row, columns, usual=fields.ANSWERS)
    if blank(reply.content):
        raise RowError(row.place, f"the reply to imitate is empty or only blanks; {FILL}")
    prompt = _prompt(row, messages, columns=columns, split_of=split_of, used=used)
    return prompt, _given(prompt, reply)


def pair_of(row: Row, columns: Columns, split_of: SplitOf) -> tuple[Prompt, Candidate, Candidate, float]:
    """A prompt with a chosen and a rejected reply, and a margin in [0, 1] (1 where the row has no scores).

    Raises:
        RowError: a part is missing or empty, both replies are the same, or they differ before the last turn.
    """
    better = fields.column(row, columns.chosen, usual=fields.CHOSEN, what="chosen")
    worse = fields.column(row, columns.rejected, usual=fields.REJECTED, what="rejected")
    chosen = reply_messages(row.fields[better], row.place)
    rejected = reply_messages(row.fields[worse], row.place)
    if chosen == rejected:
        raise RowError(row.place, f"{better!r} and {worse!r} are the same; such a pair teaches nothing")
    shared = _shared_turns(chosen, rejected)
    messages, asked = _pair_prompt(row, columns, shared=chosen[:shared])
    won, lost = _reply(row, better, turns=chosen[shared:]), _reply(row, worse, turns=rejected[shared:])
    for name, reply in ((better, won), (worse, lost)):
        if blank(reply.content):
            raise RowError(row.place, f"the reply in {name!r} is empty or only blanks; {FILL}")
    margin, scores = fields.margin(row, columns)
    used = {better, worse, *asked, *scores}
    prompt = _prompt(row, messages, columns=columns, split_of=split_of, used=used)
    return prompt, _given(prompt, won), _given(prompt, lost), margin


# ---------------------------------------------------------------- what was asked, what was answered


def _asked(row: Row, columns: Columns) -> tuple[Messages, set[str]]:
    name = fields.column(row, columns.prompt, usual=fields.PROMPTS, what="prompt")
    value, used = row.fields[name], {name}
    if isinstance(value, list) and len(value) > 1 and isinstance(value[0], str):
        used = set()  # only the first turn is asked, so all of them survive in `extra`
    if name == "instruction" and isinstance(value, str) and "input" in row.fields:
        more, used = row.fields["input"], {name, "input"}
        value = f"{value}\n\n{more}" if isinstance(more, str) and not blank(more) else value
    messages = prompt_messages(value, row.place)
    if columns.system is not None:
        system, used = named(row.fields, columns.system, row.place), {*used, columns.system}
        if not isinstance(system, str | None):
            raise RowError(row.place, f"the system message in {columns.system!r} is {kind_of(system)}; it must be text")
        if system and not blank(system):
            messages = (Message(role="system", content=system), *messages)
    return messages, used


def _asked_and_answered(row: Row, columns: Columns, *, usual: tuple[str, ...]) -> tuple[Messages, Message, set[str]]:
    answer = fields.find(row, columns.response, usual=usual)
    if answer is not None:
        messages, used = _asked(row, columns)
        turns = reply_messages(row.fields[answer], row.place)
        added = turns[len(messages) :] if turns[: len(messages)] == messages else turns
        return messages, _reply(row, answer, turns=added), {*used, answer}
    whole = fields.find(row, columns.prompt, usual=fields.CONVERSATIONS)
    turns = prompt_messages(row.fields[whole], row.place) if whole else ()
    if not whole or turns[-1].role != "assistant":
        ending = f", and {whole!r} ends with the user's turn" if whole else ", nor a conversation in `messages`"
        raise RowError(
            row.place,
            f"no response: there is no column {', '.join(usual)}{ending}{near(usual, row.fields)}; "
            "name yours with `columns: {response: …}`",
        )
    return turns[:-1], turns[-1], {whole}


def _reply(row: Row, name: str, *, turns: Messages) -> Message:
    if len(turns) != 1 or turns[0].role != "assistant":
        found = ", ".join(turn.role for turn in turns) or "none"
        raise RowError(
            row.place,
            f"{name!r} must add exactly one assistant turn to the prompt, it adds {len(turns)} ({found})",
        )
    return turns[0]


def _shared_turns(chosen: Messages, rejected: Messages) -> int:
    """Turns both conversations begin with, the last of either left out: that one is the reply."""
    shorter = min(len(chosen), len(rejected)) - 1
    return next((at for at in range(shorter) if chosen[at] != rejected[at]), shorter)


def _pair_prompt(row: Row, columns: Columns, *, shared: Messages) -> tuple[Messages, set[str]]:
    """The prompt column, or the turns both replies begin with, or the first continued by the second."""
    has_own = fields.find(row, columns.prompt, usual=fields.PROMPTS) is not None
    if not shared or not has_own:
        return (shared, set()) if shared else _asked(row, columns)
    own, used = _asked(row, columns)
    if shared[0].role == "assistant":
        return (*own, *shared), used
    asked = [turn.content.strip() for turn in own if turn.role == "user"]
    if not asked or asked[-1] not in [turn.content.strip() for turn in shared]:
        raise RowError(
            row.place,
            f"the prompt column and the conversation in both replies disagree; name the one that counts "
            f"or delete the other (there is: {', '.join(row.fields)})",
        )
    return shared, used


# ---------------------------------------------------------------- records


def _prompt(
    row: Row,
    messages: Messages,
    *,
    columns: Columns,
    split_of: SplitOf,
    used: set[str],
    reference: str | None = None,
) -> Prompt:
    require_prompt(messages, row.place)
    answer, answer_column = fields.reference(row, columns)
    tags, tag_columns = fields.tags(row, columns)
    used = used | answer_column | tag_columns | ({columns.split} if columns.split else set())
    prompt = Prompt.of(
        messages,
        source=row.place.rpartition(":")[0] or row.place,
        split="train",
        tags=tags,
        reference=answer if reference is None else reference,
        extra={name: fields.json_value(value) for name, value in row.fields.items() if name not in used},
    )
    return prompt.model_copy(update={"split": split_of(prompt.id, row)})


def _given(prompt: Prompt, reply: Message, *, model: str = "given") -> Candidate:
    return Candidate.of(prompt_id=prompt.id, messages=(reply,), model=model)


def _exported_prompt(row: Row) -> Prompt:
    try:
        return Prompt.model_validate(row.fields)
    except ValidationError as error:
        raise RowError(row.place, f"looks like an exported prompt, but {_first(error)}") from None


def _exported_candidate(row: Row, columns: Columns, *, split_of: SplitOf) -> tuple[Prompt, Candidate]:
    drawn = {name: row.fields[name] for name in Candidate.model_fields if name in row.fields and name not in NAMED_ANEW}
    asked = prompt_messages(row.fields["prompt"], row.place)
    reply = _reply(row, "messages", turns=reply_messages(row.fields["messages"], row.place))
    used = {"prompt", *Candidate.model_fields}
    prompt = _prompt(row, asked, columns=columns, split_of=split_of, used=used)
    try:
        return prompt, Candidate.of(prompt_id=prompt.id, messages=(reply,), **{"model": "given", **drawn})
    except ValidationError as error:
        raise RowError(row.place, f"looks like an exported candidate, but {_first(error)}") from None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
