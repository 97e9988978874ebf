"""Pairs as tokens, and laid out as a batch."""

from collections.abc import Sequence
from typing import Any

from dressage.protocols import Pair
from dressage.records import Candidate
from dressage.tokens import prompt_ids, reply_ids
from dressage.trainers._forks import Batch, Layout, laid_out
from dressage.trainers._pairs import PairTokens, pair_tokens


def tokenised(pair: Pair, tokenizer: Any) -> PairTokens:
    """The pair's tokens: those that were drawn where our sampler drew them, else the rendered text."""
    prompt = tuple(prompt_ids(tokenizer, pair.prompt.messages))
    return pair_tokens(pair, prompt, _reply(pair, pair.chosen, tokenizer), _reply(pair, pair.rejected, tokenizer))


def _reply(pair: Pair, reply: Candidate, tokenizer: Any) -> tuple[int, ...]:
    if not reply.token_ids:
        return tuple(reply_ids(tokenizer, pair.prompt.messages, reply.text))
    if not all(reply.mask):
        raise ValueError(f"candidate {reply.id} has tokens the policy did not write; dpo learns from whole replies")
    return reply.token_ids


def collate(pairs: Sequence[PairTokens], indices: Sequence[int], *, layout: Layout) -> Batch:
    """Lays the pairs out; replies are numbered 2·pair for the chosen one, 2·pair + 1 for the rejected."""
    return laid_out([pairs[i].fork for i in indices], layout=layout)
