"""Failures: what a response broke itself and how that is graded, and when a judge's own are too many."""

from collections import Counter
from collections.abc import Iterable, Sequence

from dressage.records import Candidate, Failure, Grade
from dressage.tokens import without_thinking


class TooManyFailures(RuntimeError):
    """More judgements failed than the YAML allows."""


def broken(candidate: Candidate, max_chars: int) -> str | None:
    """Why a response cannot be judged through its own fault, or null."""
    text = without_thinking(candidate.text)
    if not text.strip():
        return "empty"
    if not any(character.isprintable() and not character.isspace() for character in text):
        return "nothing but control characters"
    if len(text) > max_chars:
        return f"over {max_chars} characters"
    return None


def grades_of_broken(failures: Sequence[Failure], grades: Sequence[Grade], *, rule: str) -> list[Grade]:
    """The grade of the named rule for every response that failed by itself; no judge was asked.

    `lowest` is 0; `worst_of_prompt` the lowest grade of the prompt's others (none → left out).
    """
    found = []
    for failure in failures:
        if failure.side != "response":
            continue
        others = [g.score for g in grades if g.prompt_id == failure.prompt_id and g.judge == failure.judge]
        if rule == "lowest" or others:
            score = 0.0 if rule == "lowest" else min(others)
            found.append(
                Grade(
                    prompt_id=failure.prompt_id,
                    candidate_id=failure.candidate_ids[0],
                    judge=failure.judge,
                    score=score,
                    normalised=f"broken_response: {rule}",
                )
            )
    return found


class Tally:
    """Counts a judge's failures over a whole stage and stops it once too many are certain.

    What the responses broke themselves does not count. The limit holds for all judgements of the stage, those
    of earlier, committed shards included: a share of a small shard would say little. `limit` is the key of the YAML
    that sets `at_most`.
    """

    def __init__(self, judge: str, *, total: int, at_most: float, limit: str) -> None:
        self._judge, self._total, self._at_most, self._limit = judge, total, at_most, limit
        self._failed: list[Failure] = []

    def add(self, failures: Iterable[Failure]) -> None:
        """Counts the failures of one shard.

        Raises:
            TooManyFailures: with the share, the reasons and an example.
        """
        self._failed += [f for f in failures if f.side == "infrastructure" and f.judge == self._judge]
        if not self._total or len(self._failed) / self._total <= self._at_most:
            return
        reasons = Counter(f.reason for f in self._failed)
        told = ", ".join(f"{n} × {reason}" for reason, n in reasons.most_common())
        raise TooManyFailures(
            f"{self._judge!r} failed on {len(self._failed)} of the {self._total} questions of this stage ({told}), "
            f"more than {self._limit} {self._at_most:g} allows; for example: {self._failed[-1].detail[:200]!r}. "
            f"Mend what fails or raise {self._limit}; run again to go on"
        )
