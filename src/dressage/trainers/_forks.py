"""A prompt and the replies that follow it, laid out as one input of the model.

R rows · T tokens of a row · N counted tokens (those of the replies).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Layout = Literal["shared", "apart"]
"""One row a prompt, in which all its replies follow it and do not see each other; or one row a reply."""


@dataclass(frozen=True)
class Fork:
    """The tokens of a prompt and of each reply to it; replies end with the token that ended them."""

    prompt: tuple[int, ...]
    replies: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """Tokens of the longest of the conversations: what must fit the context."""
        return len(self.prompt) + max(len(reply) for reply in self.replies)


class Batch(NamedTuple):
    """What the model reads, and which of its outputs count towards which reply."""

    inputs: dict[str, Tensor]
    """input_ids_RT, position_ids_RT, and attention_mask: bool (R, 1, T, T) when shared, int (R, T) when apart."""
    where_N: Tensor
    """Position, in the rows laid end to end, whose output predicts the counted token."""
    target_N: Tensor
    reply_N: Tensor
    """Which reply a counted token is of, numbered through all forks; within a reply tokens keep their order."""

    def on(self, device: torch.device) -> "Batch":
        """The same on the model's device."""
        moved = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return Batch(moved, *(tensor.to(device) for tensor in self[1:]))


def laid_out(forks: Sequence[Fork], *, layout: Layout) -> Batch:
    """Lays the forks out."""
    rows = [row for fork in forks for row in _LAYOUTS[layout](fork)]
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
    return Batch(
        {"input_ids": ids_RT, "position_ids": position_RT, "attention_mask": mask},
        torch.tensor([r * width + before for r, reply in replies for before in reply.predicted_at()]),
        torch.tensor([token for _, reply in replies for token in reply.ids]),
        torch.tensor([n for n, (_, reply) in enumerate(replies) for _ in reply.ids]),
    )


def ends(forks: Sequence[Fork], *, layout: Layout) -> Tensor:
    """Where the last token of each reply stands, in the rows laid end to end (K,), in the order of the replies."""
    rows = [row for fork in forks for row in _LAYOUTS[layout](fork)]
    width = max(len(row.ids) for row in rows)
    return torch.tensor(
        [r * width + reply.start + len(reply.ids) - 1 for r, row in enumerate(rows) for reply in row.replies]
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


def _shared(fork: Fork) -> list[_Row]:
    p = len(fork.prompt)
    ids, positions, replies = list(fork.prompt), list(range(p)), []
    for reply in fork.replies:
        replies.append(_Reply(reply, len(ids), p - 1))
        ids += reply
        positions += range(p, p + len(reply))
    return [_Row(tuple(ids), tuple(positions), tuple(replies))]


def _apart(fork: Fork) -> list[_Row]:
    p = len(fork.prompt)
    return [
        _Row(fork.prompt + reply, tuple(range(p + len(reply))), (_Reply(reply, p, p - 1),)) for reply in fork.replies
    ]


_LAYOUTS = {"shared": _shared, "apart": _apart}


def _forked(rows: Sequence[_Row], width: int) -> Tensor:
    """Who may look at whom: the past, except that no reply sees one before it. Padding is never seen."""
    mask_RTT = torch.ones(len(rows), width, width, dtype=torch.bool).tril()
    for r, row in enumerate(rows):
        first = row.replies[0].start
        for reply in row.replies[1:]:
            mask_RTT[r, reply.start : reply.start + len(reply.ids), first : reply.start] = False
    return mask_RTT[:, None]
