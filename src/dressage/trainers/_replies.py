"""The tokens of a reply as the model in training would have written them."""

from typing import Any

from dressage.records import Candidate, Prompt
from dressage.tokens import reply_ids, reply_text, wellformed


def reply_tokens(prompt: Prompt, reply: Candidate, tokenizer: Any) -> tuple[int, ...]:
    """Those that were drawn, where they are this tokenizer's spelling of the text; else the text, rendered.

    Another model's ids say something else here, so ids are taken only where they decode to the reply. A reply that
    was cut at its token limit has no end, and is not taught one.

    Raises:
        ValueError: some of the tokens are not its author's.
    """
    if not all(reply.mask):
        raise ValueError(f"candidate {reply.id} has tokens its author did not write; whole replies are learnt from")
    ids = reply.token_ids
    if ids and max(ids) < len(tokenizer) and wellformed(reply_text(tokenizer, ids)) == reply.text:
        return ids
    rendered = tuple(reply_ids(tokenizer, prompt.messages, reply.text))
    return rendered[:-1] if reply.finish == "length" else rendered
