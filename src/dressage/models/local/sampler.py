"""Draws replies: rows refilled as they finish, each prompt computed once for all its replies.

Shapes: B active rows, V vocabulary. Every row draws from its own named seed, so its text depends neither on
the number of rows nor on its neighbours, but for floating-point rounding.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from dressage.models.local.cache import KeyValues, RowCache, extend
from dressage.models.local.prefix import Limits, batches, compute, loaded, tree
from dressage.protocols import Sampling
from dressage.records import Finish

_TOP_P_TRIED = 1024
"""Sorting a whole vocabulary costs as much as a forward pass; the nucleus is nearly always among so many."""


@dataclass
class Draw:
    """One reply being written."""

    index: int
    prompt: tuple[int, ...]
    seed: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    logprobs_at_1: list[float] = field(default_factory=list)
    finish: Finish = "length"
    uniform: np.ndarray[Any, np.dtype[np.float32]] | None = None


class Picked(NamedTuple):
    """One token a row, with its log-probability (nats) as drawn, and at temperature 1."""

    token_B: torch.Tensor
    logprob_B: torch.Tensor
    logprob_at_1_B: torch.Tensor


def pick(logits_BV: torch.Tensor, uniform_B: torch.Tensor, *, temperature: float, top_p: float) -> Picked:
    """Inverse-CDF sampling: the first token whose cumulative probability exceeds the row's uniform number.

    Args:
        uniform_B: float32 in [0, 1).
        temperature: 0 takes the most probable token, whose log-probability as drawn is then 0.
    """
    logits_BV = logits_BV.float()
    if temperature == 0:
        token_B = logits_BV.argmax(-1)
        return Picked(token_B, torch.zeros_like(uniform_B), _at_1(logits_BV, token_B))
    probability_BV = torch.softmax(logits_BV if temperature == 1 else logits_BV / temperature, dim=-1)
    if top_p < 1:
        probability_BV = _nucleus(probability_BV, top_p)
    cumulative_BV = probability_BV.cumsum(-1)
    # The total is 1 but for rounding. u < 1 keeps the target under it, so the token found has p > 0.
    target_B1 = uniform_B[:, None] * cumulative_BV[:, -1:]
    token_B = torch.searchsorted(cumulative_BV, target_B1, right=True)[:, 0]
    logprob_B = probability_BV.gather(-1, token_B[:, None])[:, 0].log()
    return Picked(token_B, logprob_B, _at_1(logits_BV, token_B))


def _at_1(logits_BV: torch.Tensor, token_B: torch.Tensor) -> torch.Tensor:
    return logits_BV.gather(-1, token_B[:, None])[:, 0] - logits_BV.logsumexp(-1)


def _nucleus(probability_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """The smallest set of most probable tokens that holds `top_p`, renormalised; ties with its last stay."""
    tried = min(_TOP_P_TRIED, probability_BV.shape[-1])
    top_BK = probability_BV.topk(tried, dim=-1).values
    if float(top_BK.sum(-1).min()) < top_p:
        top_BK = probability_BV.sort(dim=-1, descending=True).values
    before_BK = top_BK.cumsum(-1) - top_BK
    kept_BK = before_BK < top_p
    least_B1 = top_BK.masked_fill(~kept_BK, 2.0).amin(-1, keepdim=True)
    inside_BV = torch.where(probability_BV >= least_B1, probability_BV, 0.0)
    return inside_BV / inside_BV.sum(-1, keepdim=True)


class _Waiting:
    """Draws grouped by prompt, and the prompts already computed that still have draws to place."""

    def __init__(self, module: Any, draws: Sequence[Draw], limits: Limits) -> None:
        self.module, self.limits = module, limits
        self.groups: deque[list[Draw]] = deque()
        for draw in draws:
            if self.groups and self.groups[-1][0].prompt == draw.prompt:
                self.groups[-1].append(draw)
            else:
                self.groups.append([draw])
        self.ready: deque[tuple[list[KeyValues], list[Draw]]] = deque()

    def place(self, *, free: int) -> Iterator[tuple[list[KeyValues], Draw]]:
        """Up to `free` draws with their prompt's keys and values."""
        for _ in range(free):
            if not self.ready and self.groups:
                self._compute_some(free)
            if not self.ready:
                return
            path, draws = self.ready[0]
            yield path, draws.pop(0)
            if not draws:
                self.ready.popleft()

    def _compute_some(self, wanted: int) -> None:
        """Computes prompts for at least `wanted` draws if they fit, all but each one's last token."""
        some: list[list[Draw]] = []
        drawn = columns = 0
        while self.groups and (not some or (drawn < max(wanted, 16) and columns < self.limits.columns)):
            some.append(self.groups.popleft())
            drawn += len(some[-1])
            columns += len(some[-1][0].prompt)
        paths: list[list[KeyValues]] = [[] for _ in some]
        # The last token is fed with the first step, where its logits are needed.
        longer = [i for i, group in enumerate(some) if len(group[0].prompt) > 1]
        stretches, rests = tree([some[i][0].prompt[:-1] for i in longer], [1] * len(longer))
        compute(self.module, stretches, self.limits)
        for batch in batches([(r.start, len(r.tokens)) for r in rests], self.limits):
            members = [rests[i] for i in batch]
            cache = loaded(self.module, [m.after for m in members])
            extend(self.module, cache, [m.tokens for m in members], keep=1)
            for row, member in enumerate(members):
                own = cache.read(row, member.start)
                paths[longer[member.index]] = [*(member.after.path() if member.after else []), own]
        self.ready.extend(zip(paths, some, strict=True))


def sample(
    module: Any,
    draws: Sequence[Draw],
    *,
    sampling: Sampling,
    ends: frozenset[int],
    within: tuple[int, Limits],
    finished: Callable[[Draw], None],
) -> None:
    """Writes every draw to its end (a token of `ends`, or `max_new_tokens`), calling `finished` for each.

    `within`: rows sampled at the same time, and what may be computed at once.
    """
    rows, limits = within
    waiting = _Waiting(module, draws, limits)
    cache = RowCache(module.config.get_text_config().num_hidden_layers, min(rows, max(len(draws), 1)))
    active: list[Draw] = []
    while True:
        for path, draw in waiting.place(free=len(cache.lengths) - len(active)):
            cache.load(len(active), path)
            # Counter-based, so a row's numbers are a function of its seed and the step alone.
            noise = np.random.Generator(np.random.Philox(draw.seed))
            draw.uniform = noise.random(sampling.max_new_tokens, dtype=np.float32)
            active.append(draw)
        if not active:
            return
        _step(module, cache, active, sampling)
        for row in reversed(range(len(active))):
            draw = active[row]
            if draw.token_ids[-1] in ends:
                draw.finish = "stop"
            elif len(draw.token_ids) < sampling.max_new_tokens:
                continue
            # The last active row takes its place: active ones stay side by side, none is computed idle.
            if row < len(active) - 1:
                cache.move(len(active) - 1, row)
                active[row] = active[-1]
            active.pop()
            finished(draw)


def _step(module: Any, cache: RowCache, active: Sequence[Draw], sampling: Sampling) -> None:
    """Gives every active row one more token."""
    last = [[draw.token_ids[-1] if draw.token_ids else draw.prompt[-1]] for draw in active]
    logits_BV = extend(module, cache, last, keep=1)[:, -1]
    uniform = [0.0 if draw.uniform is None else float(draw.uniform[len(draw.token_ids)]) for draw in active]
    picked = pick(
        logits_BV,
        torch.tensor(uniform, dtype=torch.float32, device=logits_BV.device),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
    )
    # One transfer from the device for all three; 2^24 ids are exact in float64 and float32 values survive it.
    columns = torch.stack([column.double() for column in picked]).tolist()
    for draw, token, logprob, logprob_at_1 in zip(active, *columns, strict=True):
        draw.token_ids.append(int(token))
        draw.logprobs.append(logprob)
        draw.logprobs_at_1.append(logprob_at_1)
