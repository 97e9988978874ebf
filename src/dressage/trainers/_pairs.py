"""Pairs as token ids: what every trainer that learns from pairs holds in memory."""

from dataclasses import dataclass
from typing import Any

from dressage.protocols import Pair
from dressage.tokens import prompt_ids
from dressage.trainers._forks import Fork
from dressage.trainers._replies import reply_tokens


@dataclass(frozen=True)
class PairTokens:
    """A pair as token ids; replies end with the token that ended them."""

    prompt_id: str
    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    margin: float

    @property
    def fork(self) -> Fork:
        return Fork(self.prompt, (self.chosen, self.rejected))

    @property
    def length(self) -> int:
        """Tokens of the longer of the two conversations: what must fit the context."""
        return self.fork.length


def tokenised(pair: Pair, tokenizer: Any) -> PairTokens:
    """The pair as the model in training would have written it (see reply_tokens)."""
    prompt = tuple(prompt_ids(tokenizer, pair.prompt.messages))
    chosen, rejected = (reply_tokens(pair.prompt, reply, tokenizer) for reply in (pair.chosen, pair.rejected))
    return pair_tokens(pair, prompt, chosen, rejected)


def pair_tokens(pair: Pair, prompt: tuple[int, ...], chosen: tuple[int, ...], rejected: tuple[int, ...]) -> PairTokens:
    """The pair under these tokens.

    Raises:
        ValueError: a part of it is empty, or both replies are the same.
    """
    if not prompt or not chosen or not rejected:
        raise ValueError(f"the pair of prompt {pair.prompt.id} has an empty prompt or reply; leave it out")
    if chosen == rejected:
        raise ValueError(
            f"chosen and rejected of prompt {pair.prompt.id} are the same {len(chosen)} tokens, so nothing can be "
            f"learnt from the pair; leave it out (candidates {pair.chosen.id} and {pair.rejected.id})"
        )
    return PairTokens(pair.prompt.id, prompt, chosen, rejected, pair.margin)
