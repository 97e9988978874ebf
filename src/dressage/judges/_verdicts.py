"""How a judge's answer is read: the last nonce line or the label probabilities, and never a guess."""

import math
import re
from collections.abc import Sequence

from dressage.protocols import Answer, Completion, Distribution, JudgeTools, Score, Unreadable, Vector
from dressage.tokens import without_thinking

REFUSAL = re.compile(
    r"\s*(?:i['’]?m sorry|sorry,|i (?:can(?:no|['’])t|won['’]t|am (?:unable|not able))|as an ai\b)",
    re.IGNORECASE,
)


def tail(text: str) -> str:
    """The last 80 characters of a text, control characters made blank: what an error shows."""
    return repr("".join(c if c.isprintable() else " " for c in text[-80:]).strip())


def reads_by_labels(how: str, model: str, tools: JudgeTools) -> bool:
    """Whether to read label probabilities: as `how` says, and where it says `auto`, if the model gives them.

    Raises:
        ValueError: `how` is `logprobs` and the model gives none.
    """
    if how == "logprobs" and not tools.reads_labels(model):
        raise ValueError(f"model {model!r} gives no label probabilities: use `how: text` or `how: auto`")
    return how != "text" and tools.reads_labels(model)


def words_of(answer: Answer) -> Completion:
    """The answer to a `Chat` question."""
    if not isinstance(answer, Completion):
        raise TypeError(f"a question for words was answered by a {type(answer).__name__}")
    return answer


def vector_of(answer: Answer) -> Vector:
    """The answer to an `Embed` question."""
    if not isinstance(answer, Vector):
        raise TypeError(f"a question for an embedding was answered by a {type(answer).__name__}")
    return answer


def score_of(answer: Answer) -> Score:
    """The answer to a `Scalar` question.

    Raises:
        Unreadable: the score is not finite.
    """
    if not isinstance(answer, Score):
        raise TypeError(f"a question for a score was answered by a {type(answer).__name__}")
    if not math.isfinite(answer.raw):
        raise Unreadable(f"the reward model's score is {answer.raw}")
    return answer


def verdict_line(answer: Answer, tag: str, nonce: str, offered: Sequence[str]) -> str:
    """The offered value on the last line `TAG-nonce: value` of what a judge wrote.

    The line must hold nothing else but markdown ornament. Thinking does not count, even where a template opened
    the tag so that only its end is seen; nor does a cut reply.

    Raises:
        Unreadable: anything else; the reason is `refused` where the judge says it will not judge.
    """
    reply = words_of(answer)
    if reply.finish == "length":
        raise Unreadable(f"the judge ran out of tokens: {tail(reply.text)}")
    spoken = without_thinking(reply.text).rpartition("</think>")[2]
    lines = re.findall(rf"^[ \t>#*_`\"']*{tag}-{nonce}[ \t*_`]*:([^\n]*)$", spoken, re.IGNORECASE | re.MULTILINE)
    if not lines:
        reason = "refused" if REFUSAL.match(spoken) else "unreadable"
        raise Unreadable(f"no line {tag}-{nonce}: {tail(spoken)}", reason=reason)
    value = lines[-1].strip(" \t\r*_`\"'.").casefold()
    named = {option.casefold(): option for option in offered}
    if value not in named:
        raise Unreadable(f"{tail(value)} is none of {', '.join(offered)}")
    return named[value]


def label_shares(answer: Answer, labels: Sequence[str], min_mass: float) -> tuple[list[float], str]:
    """Each label's share of the mass that the labels hold together, and the evidence in words.

    Raises:
        Unreadable: where the labels hold less than `min_mass`, or one of them is unknown.
    """
    if not isinstance(answer, Distribution):
        raise TypeError(f"a question for label probabilities was answered by a {type(answer).__name__}")
    given = answer.probabilities
    missing = [label for label in labels if label not in given]
    if missing:
        raise Unreadable(f"no probability for {', '.join(missing)}: unknown is not 0")
    known = [given[label] for label in labels]
    if not all(math.isfinite(p) and p >= 0 for p in known):
        raise Unreadable(f"the label probabilities are no probabilities: {given}")
    mass = math.fsum(known)
    if mass <= 0 or mass < min_mass:
        raise Unreadable(f"the labels {', '.join(labels)} hold {mass:.3g}, less than min_mass {min_mass:g}")
    shown = " ".join(f"{label}={p:.4f}" for label, p in zip(labels, known, strict=True))
    return [p / mass for p in known], f"{shown} mass={mass:.4f}"


def expected(shares: Sequence[float], values: Sequence[float]) -> float:
    """Σ p v, kept within the values against rounding."""
    mean = math.fsum(p * v for p, v in zip(shares, values, strict=True))
    return min(max(mean, min(values)), max(values))
