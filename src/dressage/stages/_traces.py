"""What the frozen base thinks of both sides' replies, and the policy of its own: the stuff of NLL and KL."""

from collections.abc import Mapping, Sequence
from typing import Any

from dressage.clock import spending
from dressage.protocols import Conversation
from dressage.records import Candidate, Prompt, Trace

Sums = Sequence[float | None]


@spending("scoring")
def traces(
    prompts: Sequence[Prompt], replies: Mapping[str, list[Candidate]], *, policy: Any, base: Any, heat: float
) -> list[Trace]:
    """Log-probabilities of both sides' replies under the frozen base; none where no model can give them.

    `base` is null where there is no one base for all sides; `heat` is the temperature the replies were drawn at.
    """
    if base is None:
        return []
    by_id = {p.id: p for p in prompts}
    found = []
    for name in ("policy", "predecessor"):
        drawn = [c for c in replies[name] if c.token_ids]
        asked = [by_id[c.prompt_id].messages for c in drawn]
        own: Sums = [None] * len(drawn)
        hot = own
        if name == "policy" and heat:
            own, hot = _own_and_base(policy, base, asked, drawn, heat=heat)
        found += [
            Trace(candidate_id=c.id, side=name, tokens=len(c.token_ids), own=o, base=b, base_at_1=at_1)
            for c, o, b, at_1 in zip(drawn, own, hot, _scored(base, asked, drawn, of="base", heat=1.0), strict=True)
        ]
    return found


def _own_and_base(
    policy: Any, base: Any, asked: Sequence[Conversation], drawn: Sequence[Candidate], *, heat: float
) -> tuple[Sums, Sums]:
    """The policy's replies under the policy and under the base, by the same call, over the whole vocabulary at the
    temperature they were drawn at. The log-probabilities of the draw will not do: they are those after top-p, which
    the base's are not, so that a policy that is the base itself would seem to have moved."""
    own = _scored(policy, asked, drawn, of="policy", heat=heat)
    return own, _scored(base, asked, drawn, of="base", heat=heat)


def _scored(
    model: Any, asked: Sequence[Conversation], drawn: Sequence[Candidate], *, of: str, heat: float
) -> list[float]:
    scored = model.logprobs(asked, [c.token_ids for c in drawn], of=of, temperature=heat)
    return [sum(reply) for reply in scored]
