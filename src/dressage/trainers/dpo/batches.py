"""Which pairs share a batch, and how a microbatch of pairs is laid out as one input of the model.

B pairs · R rows · T tokens of a row · N counted tokens (those of the replies).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from dressage.protocols import Pair
from dressage.records import Candidate
from dressage.seeds import seed_for
from dressage.tokens import prompt_ids, reply_ids

Layout = Literal["shared", "apart"]
"""One row a pair, in which both replies follow the same prompt and do not see each other; or one row a reply."""


@dataclass(frozen=True)
class PairTokens:
    """A pair as token ids; replies end with the token that ended them."""

    prompt_id: str
    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    margin: float

    @property
    def length(self) -> int:
        """Tokens of the longer of the two conversations: what must fit the context."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


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


class Batch(NamedTuple):
    """A microbatch: what the model reads, and which of its outputs count towards which reply."""

    inputs: dict[str, Tensor]
    """input_ids_RT, position_ids_RT, and attention_mask: bool (R, 1, T, T) when shared, int (R, T) when apart."""
    where_N: Tensor
    """Position, in the rows laid end to end, whose output predicts the counted token."""
    target_N: Tensor
    reply_N: Tensor
    """2·pair for a token of the chosen reply, 2·pair + 1 for one of the rejected."""
    index_B: Tensor
    """Which pairs of the data these are."""


def collate(pairs: Sequence[PairTokens], indices: Sequence[int], *, layout: Layout) -> Batch:
    """Lays the pairs out."""
    rows = [row for i in indices for row in _LAYOUTS[layout](pairs[i])]
    width = max(len(row.ids) for row in rows)
    ids_RT = torch.zeros(len(rows), width, dtype=torch.long)
    position_RT = torch.zeros(len(rows), width, dtype=torch.long)
    real_RT = torch.zeros(len(rows), width, dtype=torch.long)
    for r, row in enumerate(rows):
        ids_RT[r, : len(row.ids)] = torch.tensor(row.ids)
        position_RT[r, : len(row.ids)] = torch.tensor(row.positions)
        real_RT[r, : len(row.ids)] = 1
    mask = real_RT if layout == "apart" else _forked(rows, width)
    replies = [(r, reply) for r, row in enumerate(rows) for reply in row.replies]
    where = [r * width + before for r, reply in replies for before in reply.predicted_at()]
    target = [token for _, reply in replies for token in reply.ids]
    owner = [n for n, (_, reply) in enumerate(replies) for _ in reply.ids]
    return Batch(
        {"input_ids": ids_RT, "position_ids": position_RT, "attention_mask": mask},
        torch.tensor(where),
        torch.tensor(target),
        torch.tensor(owner),
        torch.tensor(list(indices)),
    )


class _Reply(NamedTuple):
    ids: tuple[int, ...]
    start: int
    """Where its first token stands in the row."""
    prompt_end: int
    """Where the prompt's last token stands: it predicts the first of the reply."""

    def predicted_at(self) -> list[int]:
        return [self.prompt_end, *range(self.start, self.start + len(self.ids) - 1)]


class _Row(NamedTuple):
    ids: tuple[int, ...]
    positions: tuple[int, ...]
    replies: tuple[_Reply, ...]


def _shared(pair: PairTokens) -> list[_Row]:
    p, c, r = len(pair.prompt), len(pair.chosen), len(pair.rejected)
    positions = (*range(p + c), *range(p, p + r))
    replies = (_Reply(pair.chosen, p, p - 1), _Reply(pair.rejected, p + c, p - 1))
    return [_Row(pair.prompt + pair.chosen + pair.rejected, positions, replies)]


def _apart(pair: PairTokens) -> list[_Row]:
    p = len(pair.prompt)
    return [
        _Row(pair.prompt + reply, tuple(range(p + len(reply))), (_Reply(reply, p, p - 1),))
        for reply in (pair.chosen, pair.rejected)
    ]


_LAYOUTS = {"shared": _shared, "apart": _apart}


def _forked(rows: Sequence[_Row], width: int) -> Tensor:
    """Who may look at whom: the past, except that the second reply does not see the first. Padding is never seen."""
    mask_RTT = torch.ones(len(rows), width, width, dtype=torch.bool).tril()
    for r, row in enumerate(rows):
        first, second = row.replies
        mask_RTT[r, second.start : len(row.ids), first.start : second.start] = False
    return mask_RTT[:, None]
