"""Pairs as tokens, and which of them share a batch."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dressage.protocols import Pair
from dressage.records import Candidate
from dressage.seeds import seed_for
from dressage.tokens import prompt_ids, reply_ids
from dressage.trainers._forks import Batch, Fork, Layout, laid_out


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
    """The pair's tokens: those that were drawn where our sampler drew them, else the rendered text."""
    prompt = tuple(prompt_ids(tokenizer, pair.prompt.messages))
    chosen, rejected = (_reply(pair, reply, tokenizer) for reply in (pair.chosen, pair.rejected))
    if not prompt or not chosen or not rejected:
        raise ValueError(f"the pair of prompt {pair.prompt.id} has an empty prompt or reply; leave it out")
    if chosen == rejected:
        raise ValueError(
            f"chosen and rejected of prompt {pair.prompt.id} are the same {len(chosen)} tokens, so nothing can be "
            "learnt from the pair; leave it out (candidates {} and {})".format(pair.chosen.id, pair.rejected.id)
        )
    return PairTokens(pair.prompt.id, prompt, chosen, rejected, pair.margin)


def _reply(pair: Pair, reply: Candidate, tokenizer: Any) -> tuple[int, ...]:
    if not reply.token_ids:
        return tuple(reply_ids(tokenizer, pair.prompt.messages, reply.text))
    if not all(reply.mask):
        raise ValueError(f"candidate {reply.id} has tokens the policy did not write; dpo learns from whole replies")
    return reply.token_ids


def plan(pairs: Sequence[PairTokens], *, seed: int, epoch: int, batch: int, micro: int) -> list[list[int]]:
    """Microbatches of an epoch, as indices, batch after batch.

    A batch is drawn by seed and epoch alone, so cutting it otherwise changes no batch; within one, pairs go by
    length, so that a microbatch is padded little.
    """
    order = list(range(len(pairs)))
    random.Random(seed_for(seed, "order", epoch)).shuffle(order)
    micros = []
    for start in range(0, len(order), batch):
        members = sorted(order[start : start + batch], key=lambda i: (pairs[i].length, i))
        micros += [members[i : i + micro] for i in range(0, len(members), micro)]
    return micros


class Plan:
    """The batch sampler that torch's DataLoader asks: the microbatches of the epoch it was last told."""

    def __init__(self, pairs: Sequence[PairTokens], *, seed: int, batch: int, micro: int) -> None:
        self._pairs, self._seed, self._batch, self._micro = pairs, seed, batch, micro
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def of(self, epoch: int) -> list[list[int]]:
        return plan(self._pairs, seed=self._seed, epoch=epoch, batch=self._batch, micro=self._micro)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.of(self._epoch))

    def __len__(self) -> int:
        return len(self.of(0))


def collate(pairs: Sequence[PairTokens], indices: Sequence[int], *, layout: Layout) -> Batch:
    """Lays the pairs out; replies are numbered 2·pair for the chosen one, 2·pair + 1 for the rejected."""
    return laid_out([pairs[i].fork for i in indices], layout=layout)
