"""Alarms of an on-policy training: what it says of itself that means going on is a waste, or worse."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dressage.trainers._on_policy import AlarmSettings


class TrainingStopped(RuntimeError):
    """An alarm stopped the training; says which, and the way out. Checkpoints and draws are kept."""


@dataclass
class Alarms:
    """Counts how long each alarm has been ringing; part of a checkpoint."""

    settings: AlarmSettings
    holds: str = "kl.coefficient"
    """What the trainer calls the setting that holds the policy near its reference, and what it calls its length."""
    length: str = "updates"
    ringing: dict[str, int] = field(default_factory=dict)
    watched: list[tuple[float, float]] = field(default_factory=list)
    """(how often the watch judge prefers the policy, the mean grade since the last look), oldest first."""
    scores: list[float] = field(default_factory=list)
    """Mean grades of the updates since the watch judge last looked."""

    def look(self, told: Mapping[str, float], *, update: int) -> None:
        """After an update.

        Raises:
            TrainingStopped: an alarm has rung `patience` times in a row.
        """
        if "objective/scores" in told:
            self.scores.append(told["objective/scores"])
        self._count(dict(self._now(told)), known=_EVERY_UPDATE, update=update)

    def judged(self, failed: float, *, update: int) -> None:
        """Once an update's replies were put before the judge, and before they are kept: `failed` is the share it did
        not grade. So an update that stops the training is graded anew by the next run.

        Raises:
            TrainingStopped: too many failed, `patience` updates in a row.
        """
        said = {
            "failures": f"the judge failed on {failed:.0%} of the replies, over alarms.failures_at_most "
            f"({self.settings.failures_at_most:.0%}); mend the judge, then run again: this update is graded anew"
        }
        rings = failed > self.settings.failures_at_most
        self._count(said if rings else {}, known=("failures",), update=update)

    def watch(self, prefers: float, *, update: int) -> None:
        """After the watch judge looked.

        Raises:
            TrainingStopped: it falls while the grades rise, `patience` looks in a row.
        """
        if not self.scores:
            return  # nothing was graded since the last look, so nothing says whether the grades rose
        mean = sum(self.scores) / len(self.scores)
        self.scores = []
        self.watched.append((prefers, mean))
        best, then = max(self.watched)
        limit = self.settings.watch_falls_by
        rings = limit is not None and prefers < best - limit and mean > then
        said = {
            "over-optimisation": f"the watch judge prefers the policy in {prefers:.0%}, {best - prefers:.0%} less than "
            f"at its best, while the mean grade rose from {then:.3f} to {mean:.3f}: the policy learns what the "
            f"training judge can be fooled by. Stop earlier (`{self.length}`), hold it nearer (`{self.holds}`), or "
            "mend the judge"
        }
        self._count(said if rings else {}, known=("over-optimisation",), update=update)

    def _now(self, told: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        """The alarms that ring after this update."""
        s = self.settings
        if s.kl_at_most is not None and told.get("objective/kl", 0.0) > s.kl_at_most:
            yield (
                "kl",
                f"the KL to the reference is {told['objective/kl']:.3g} nats a reply, over alarms.kl_at_most "
                f"({s.kl_at_most:g}); raise {self.holds} or lower learning_rate",
            )
        if s.entropy_at_least is not None and told.get("policy/entropy", 1e9) < s.entropy_at_least:
            yield (
                "entropy",
                f"the entropy is {told['policy/entropy']:.3g} nats a token, under alarms.entropy_at_least "
                f"({s.entropy_at_least:g}): the policy says one thing only; raise `entropy` or {self.holds}, or "
                "lower learning_rate",
            )
        if s.sampler_gap_at_most is not None and told.get("ratio/first_gap_mean", 0.0) > s.sampler_gap_at_most:
            yield (
                "sampler",
                "the log-probabilities that replies were drawn with differ from the trainer's by "
                f"{told['ratio/first_gap_mean']:.2g} nats a token, over alarms.sampler_gap_at_most "
                f"({s.sampler_gap_at_most:g}): the ratio teaches what the two disagree about. Draw with the trainer's "
                "own model, or give both the same dtype (float32 is the surest)",
            )
        if s.reward_saturates_at is not None and told.get("objective/scores", 0.0) >= s.reward_saturates_at:
            yield (
                "saturation",
                f"the mean grade is {told['objective/scores']:.3f}, at alarms.reward_saturates_at "
                f"({s.reward_saturates_at:g}): nothing is left to learn, or the judge is fooled; read the replies",
            )

    def _count(self, rings: Mapping[str, str], *, known: tuple[str, ...], update: int) -> None:
        for name in known:
            self.ringing[name] = self.ringing.get(name, 0) + 1 if name in rings else 0
            if self.ringing[name] >= self.settings.patience:
                raise TrainingStopped(f"stopped after update {update}: {rings[name]}")


_EVERY_UPDATE = ("kl", "entropy", "sampler", "saturation")
