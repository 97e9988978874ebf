"""Conversations as data sets spell them, read into messages: text, role/content, ShareGPT, transcripts."""

import re
from typing import Any, get_args

from dressage.records import Message, Role
from dressage.sources._rows import RowError, kind_of, near

ROLE_WORDS: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
TRANSCRIPT = re.compile(r"\n\n(Human|Assistant):")
"""A line that opens a turn in the raw transcripts of the helpful-and-harmless kind."""

FILL = "fill it, delete the row, or allow a few such rows with `max_bad_rows`"


def prompt_messages(value: object, place: str) -> tuple[Message, ...]:
    """The conversation in a prompt column; plain text is one user message, of a list of texts the first.

    An open assistant turn at the end of a transcript is where the reply goes, so it is no message.

    Raises:
        RowError: the value is no conversation.
    """
    if isinstance(value, str) and _is_transcript(value):
        turns = _transcript(value)
        return tuple(turns[:-1] if turns[-1].role == "assistant" and not turns[-1].content else turns)
    if isinstance(value, str):
        return (Message(role="user", content=value),)
    if isinstance(value, list) and value and all(isinstance(turn, str) for turn in value):
        return (Message(role="user", content=value[0]),)
    return _listed(value, place)


def reply_messages(value: object, place: str) -> tuple[Message, ...]:
    """The conversation in a reply column, which may hold its prompt too; plain text is the assistant's turn.

    Raises:
        RowError: the value is no conversation.
    """
    if isinstance(value, str) and _is_transcript(value):
        return _transcript(value)
    if isinstance(value, str):
        return (Message(role="assistant", content=value),)
    return _listed(value, place)


def require_prompt(messages: tuple[Message, ...], place: str) -> None:
    """A prompt ends with something a user said, and says something in every turn.

    Raises:
        RowError: it does not.
    """
    if not messages or messages[-1].role != "user":
        last = f"ends with the {messages[-1].role}'s turn" if messages else "holds no message"
        raise RowError(place, f"the prompt {last}; a prompt ends with a user's")
    for number, message in enumerate(messages, 1):
        if blank(message.content):
            which = "the prompt" if len(messages) == 1 else f"turn {number} ({message.role}) of the prompt"
            raise RowError(place, f"{which} is empty or only blanks; {FILL}")


def blank(text: str) -> bool:
    """True where nothing would be seen: blanks, control and zero-width characters."""
    return not any(sign.isprintable() and not sign.isspace() for sign in text)


def _is_transcript(text: str) -> bool:
    return text.startswith("\n\nHuman:")


def _transcript(text: str) -> tuple[Message, ...]:
    _, *parts = TRANSCRIPT.split(text)
    return tuple(
        Message(role=ROLE_WORDS[word.lower()], content=said.strip())
        for word, said in zip(parts[::2], parts[1::2], strict=True)
    )


def _listed(value: object, place: str) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        empty = "an empty list" if value == [] else kind_of(value)
        raise RowError(place, f"expected text or a list of messages, found {empty}")
    return tuple(_message(turn, number, place=place) for number, turn in enumerate(value, 1))


def _message(turn: Any, number: int, *, place: str) -> Message:
    if not isinstance(turn, dict):
        raise RowError(place, f"turn {number} is {kind_of(turn)}, not an object with role and content")
    for role_key, content_key in (("role", "content"), ("from", "value")):
        if role_key in turn and content_key in turn:
            content = _text(turn[content_key], number, place=place)
            return Message(role=_role(turn[role_key], number, place=place), content=content)
    raise RowError(
        place,
        f"turn {number} has {', '.join(turn) or 'nothing'}; a turn needs role and content, or from and value",
    )


def _role(word: object, number: int, *, place: str) -> Role:
    if isinstance(word, str) and word.lower() in ROLE_WORDS:
        return ROLE_WORDS[word.lower()]
    raise RowError(
        place,
        f"turn {number} has the role {word!r}{near(str(word), ROLE_WORDS)}; "
        f"a conversation here has only {', '.join(get_args(Role))}",
    )


def _text(content: Any, number: int, *, place: str) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    if parts and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
        return "".join(part["text"] for part in parts)
    raise RowError(place, f"the content of turn {number} is {kind_of(content)}; only text is understood")
