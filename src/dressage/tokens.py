"""From conversations to token ids and back: chat templates, the ids of a reply, where a reply ends."""

import re
from collections.abc import Sequence
from typing import Any

from dressage.records import Message

_SURROGATE = re.compile("[\ud800-\udfff]")
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")
"""What chat templates write at the end of a turn, whatever the tokenizer calls its end."""
_THOUGHT = re.compile(r"\A(?:\s*<think>.*?(?:</think>|\Z))+\s*", re.DOTALL)


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The ids a model reads before it writes: the template, up to where the assistant's words go.

    A conversation that ends with an assistant message is left open there, so the model continues it. Control
    tokens inside a message are encoded as ordinary text: whoever writes `<|im_end|>` in a reply ends no turn.

    Raises:
        ValueError: where the tokenizer has no chat template, or there is no message.
    """
    if not messages:
        raise ValueError("a conversation without messages cannot be rendered; give it at least one user message")
    if not tokenizer.chat_template:
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template; use an instruct"
            " model, or put a chat_template.jinja beside its tokenizer"
        )
    open_ended = messages[-1].role == "assistant"
    return _rendered(tokenizer, messages, add_generation_prompt=not open_ended, continue_final_message=open_ended)


def reply_ids(tokenizer: Any, messages: Sequence[Message], text: str) -> list[int]:
    """The ids of `text` as the assistant's turn after `messages`, ending with the token that ends a turn.

    Args:
        messages: The prompt; its last message is not the assistant's.

    Raises:
        ValueError: where the rendered prompt is no exact prefix of prompt and reply, or the turn has no end.
    """
    before = prompt_ids(tokenizer, messages)
    whole = _rendered(tokenizer, [*messages, Message(role="assistant", content=text)])
    if whole[: len(before)] != before:
        raise ValueError(
            f"the chat template of {tokenizer.name_or_path or 'this model'} writes the prompt differently"
            " once a reply follows, so a reply has no ids of its own; use a template whose generation prompt"
            " opens the assistant's turn exactly as a finished turn does"
        )
    ends = end_ids(tokenizer)
    last = next((i for i in range(len(whole) - 1, len(before) - 1, -1) if whole[i] in ends), None)
    if last is None:
        raise ValueError(
            f"the chat template of {tokenizer.name_or_path or 'this model'} ends the assistant's turn with"
            f" none of the end tokens {sorted(ends)}; set eos_token to the one it writes"
        )
    return whole[len(before) : last + 1]


def end_ids(tokenizer: Any, generation_config: Any = None) -> frozenset[int]:
    """The ids that end a reply: the generation config's, the tokenizer's, the template's end of a turn."""
    ids = {tokenizer.eos_token_id}
    named = getattr(generation_config, "eos_token_id", None)
    ids.update(named if isinstance(named, list | tuple) else [named])
    for token in TURN_ENDS:
        if token in (tokenizer.chat_template or "") and token in tokenizer.get_added_vocab():
            ids.add(tokenizer.convert_tokens_to_ids(token))
    return frozenset(int(i) for i in ids if i is not None)


def reply_text(tokenizer: Any, token_ids: Sequence[int]) -> str:
    """The words of a reply, without control tokens."""
    text: str = tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def label_lead(tokenizer: Any, labels: Sequence[str]) -> list[int]:
    """The blank a tokenizer puts before these labels as a token of its own, or nothing.

    After `Score:` most tokenizers write ` 7` as one token; those that take digits apart write a blank, then
    `7`. There the blank must be read first, or the digits hold no probability.
    """
    spaced = [tokenizer.encode(f" {label}", add_special_tokens=False) for label in labels]
    leads = {ids[0] for ids in spaced}
    if any(len(ids) != 2 for ids in spaced) or len(leads) != 1:
        return []
    (lead,) = leads
    return [lead] if str(tokenizer.decode([lead])).isspace() else []


def label_ids(tokenizer: Any, label: str) -> tuple[int, ...]:
    """The ids that spell `label` as one token, with or without a blank before it.

    Raises:
        ValueError: where no single token spells it.
    """
    found = set()
    for spelling in (label, f" {label}"):
        ids = tokenizer.encode(spelling, add_special_tokens=False)
        if len(ids) == 1:
            found.add(ids[0])
    bare = tokenizer.get_vocab().get(label)
    if bare is not None:
        found.add(bare)
    if not found:
        raise ValueError(
            f"label {label!r} is no single token for {tokenizer.name_or_path or 'this model'}, so its"
            " probability cannot be read in one pass; use labels such as A, B, yes, no or one digit"
        )
    return tuple(sorted(found))


def spoken(text: str) -> str:
    """What a reply says after the `<think>` blocks it begins with; one left open hides the rest: no answer came.

    A tag further on is text like any other, or a policy could hide from its judges whatever it likes. So is a
    bare `</think>`: where a template opens the tag itself, let the server take the thinking out.
    """
    return _THOUGHT.sub("", text, count=1)


def without_thinking(text: str) -> str:
    """`spoken` without outer blanks; doing it again changes nothing."""
    return spoken(text).strip()


def wellformed(text: str) -> str:
    """`text` with half surrogate pairs, which JSON can bring and no UTF-8 file can hold, replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


def _rendered(tokenizer: Any, messages: Sequence[Message], **how: bool) -> list[int]:
    chat = [{"role": m.role, "content": m.content} for m in messages]
    ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False, sanitize_control_tokens=True, **how)
    return [int(i) for i in ids]
