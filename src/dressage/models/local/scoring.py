"""Log-probabilities of given replies, probabilities of labels, last hidden states, in one forward pass each.

Shapes: B rows, T columns kept, V vocabulary, D hidden width. Common beginnings are computed once (see prefix).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from dressage.models.local.cache import RowCache, extend, extend_hidden
from dressage.models.local.prefix import Limits, Rest, batches, compute, loaded, runs, tree


def next_token(
    module: Any,
    prompts: Sequence[Sequence[int]],
    *,
    limits: Limits,
    read: Callable[[int, torch.Tensor], None],
) -> None:
    """Calls `read(i, probability_V)` with the distribution after each prompt."""
    most = max(1, limits.logits // module.config.get_text_config().vocab_size)
    for batch in _leaves(module, prompts, [1] * len(prompts), limits, most=most):
        logits_BV = extend(module, *_opened(module, batch), keep=1)[:, -1]
        for member, probability_V in zip(batch, logits_BV.float().softmax(-1), strict=True):
            read(member.index, probability_V)


def last_hidden(
    module: Any,
    sequences: Sequence[Sequence[int]],
    *,
    limits: Limits,
    read: Callable[[int, torch.Tensor], None],
) -> None:
    """Calls `read(i, hidden_D)` with what the output head would read at the last token of each sequence."""
    for batch in _leaves(module, sequences, [1] * len(sequences), limits, most=max(1, len(sequences))):
        hidden_BD = extend_hidden(module, *_opened(module, batch))
        for member, hidden_D in zip(batch, hidden_BD.float(), strict=True):
            read(member.index, hidden_D)


def reply_logprobs(
    module: Any,
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Sequence[int]],
    *,
    temperature: float,
    limits: Limits,
) -> list[list[float]]:
    """log p(reply token | prompt, reply so far) in nats, for every token of every reply."""
    found: list[list[float]] = [[] for _ in replies]
    asked = [i for i, reply in enumerate(replies) if reply]
    # The prompt's last token predicts the reply's first; the reply's last predicts nothing we need.
    fed = [[*prompts[i], *replies[i][:-1]] for i in asked]
    tails = [len(replies[i]) for i in asked]
    piece = max(1, limits.logits // module.config.get_text_config().vocab_size)
    most = max(1, piece // max(tails, default=1))
    for batch in _leaves(module, fed, tails, limits, most=most):
        members = [asked[rest.index] for rest in batch]
        logprobs = _tail_logprobs(module, batch, [replies[i] for i in members], temperature=temperature, piece=piece)
        for i, logprob in zip(members, logprobs, strict=True):
            found[i] = logprob
    return found


def _tail_logprobs(
    module: Any,
    batch: Sequence[Rest],
    replies: Sequence[Sequence[int]],
    *,
    temperature: float,
    piece: int,
) -> list[list[float]]:
    """One batch of `reply_logprobs`; a reply (then alone) of more than `piece` tokens goes in pieces."""
    cache, tokens = _opened(module, batch)
    keep = max(len(reply) for reply in replies)
    if keep <= piece:
        logits_BTV = extend(module, cache, tokens, keep=keep)
        return [
            _gathered(logits_TV[keep - len(reply) :], reply, temperature)
            for logits_TV, reply in zip(logits_BTV, replies, strict=True)
        ]
    (reply,), (fed,), found = replies, tokens, []
    before = len(fed) - len(reply)
    if before:
        extend(module, cache, [fed[:before]], keep=1)
    for at in range(0, len(reply), piece):
        part = reply[at : at + piece]
        logits_BTV = extend(module, cache, [fed[before + at : before + at + len(part)]], keep=len(part))
        found += _gathered(logits_BTV[0], part, temperature)
    return [found]


def _gathered(logits_TV: torch.Tensor, reply: Sequence[int], temperature: float) -> list[float]:
    logits_TV = logits_TV.float() if temperature == 1 else logits_TV.float() / temperature
    token_T1 = torch.tensor(reply, device=logits_TV.device)[:, None]
    logprob_T = logits_TV.gather(-1, token_T1)[:, 0] - logits_TV.logsumexp(-1)
    return [float(x) for x in logprob_T.tolist()]


def _leaves(
    module: Any, sequences: Sequence[Sequence[int]], tails: Sequence[int], limits: Limits, *, most: int
) -> Iterator[list[Rest]]:
    """Batches of what each sequence has of its own, with its shared beginning computed."""
    for run in runs(sequences, limits):
        stretches, rests = tree([sequences[i] for i in run], [tails[i] for i in run])
        compute(module, stretches, limits)
        for rest in rests:
            rest.index = run[rest.index]
        for batch in batches([(r.start, len(r.tokens)) for r in rests], limits, most=most):
            yield [rests[i] for i in batch]


def _opened(module: Any, batch: Sequence[Rest]) -> tuple[RowCache, list[list[int]]]:
    return loaded(module, [rest.after for rest in batch]), [rest.tokens for rest in batch]
