"""Whether a server draws from the local model's distribution: what both make of a reply drawn before all others."""

from collections.abc import Sequence

from dressage import tokens
from dressage.models.local import scoring
from dressage.models.local.backbone import Backbone, Worn
from dressage.models.local.sampler import Draw
from dressage.models.local.vllm import Settings, reading
from dressage.models.local.vllm.stops import OtherSampler
from dressage.records import Message
from dressage.seeds import seed_for

ASKED_FIRST = "Tell me in a few sentences how a letter gets from my street to a village in the mountains."
DRAWN_FIRST = 24
"""Tokens of that reply; it goes on over its end."""


def first_draw(backbone: Backbone) -> Draw:
    """The reply to ask for."""
    with backbone.tokenizer_lock:
        prompt = tokens.prompt_ids(backbone.tokenizer, (Message(role="user", content=ASKED_FIRST),))
    return Draw(0, tuple(prompt), seed_for("vllm", "drawn first"))


def gap(
    settings: Settings, backbone: Backbone, worn: Worn, *, prompt: Sequence[int], found: reading.Drawn, heat: float
) -> float:
    """Mean distance of the server's log-probabilities from the local model's under what the role wears, nats a token.

    Raises:
        OtherSampler: it is over `agrees_within`; says what is likely the matter.
    """
    as_drawn = _distance(backbone, worn, prompt, found, heat=heat)
    if as_drawn <= settings.agrees_within:
        return as_drawn
    begun = f"{settings.base_url} and the local model differ by {as_drawn:.2g} nats a token on a reply that it drew"
    limit = f"over sampler.agrees_within ({settings.agrees_within:g})"
    at_1 = _distance(backbone, worn, prompt, found, heat=1.0)
    if at_1 <= settings.agrees_within:
        raise OtherSampler(
            f"{begun}, and by {at_1:.2g} at temperature 1: the server tells log-probabilities from before the "
            "temperature; start it with --logprobs-mode processed_logprobs"
        )
    if worn is None:
        raise OtherSampler(
            f"{begun}, {limit}: it serves another base, or the same one in another precision (--dtype there; dtype "
            "and quantize here). Serve this model's own weights, or raise the limit"
        )
    raise OtherSampler(
        f"{begun} under the same adapter, {limit}, though on the plain base they agree: the server applies the "
        "adapter otherwise (a layer it has no LoRA for, another precision); its log says more"
    )


def _distance(backbone: Backbone, worn: Worn, prompt: Sequence[int], found: reading.Drawn, *, heat: float) -> float:
    with backbone.role(worn) as module:
        limits = backbone.limits()
        (ours,) = scoring.reply_logprobs(module, [prompt], [found.token_ids], temperature=heat, limits=limits)
    return sum(abs(a - b) for a, b in zip(ours, found.logprobs, strict=True)) / len(ours)
