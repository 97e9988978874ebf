"""Ask models and tools: each distinct question once, what was paid or called journalled, in batches by model."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from dressage.protocols import (
    Answer,
    Chat,
    Completion,
    Distribution,
    Embed,
    Labels,
    Model,
    Question,
    Sampling,
    Scalar,
    Score,
    Scores,
    Trouble,
    Vector,
)
from dressage.questions import Call, Result
from dressage.records import content_hash
from dressage.seeds import seed_for
from dressage.store import Journal
from dressage.toolbox import Toolbox

ANSWERS: Mapping[type[Question], type[Answer]] = {
    Chat: Completion,
    Labels: Distribution,
    Embed: Vector,
    Scalar: Score,
    Call: Result,
}


ToModel = Chat | Labels | Embed | Scalar
NO_TOOLS = Toolbox({})


class Asker:
    """Holds the opened models and tools, what they have answered in this process, and the journal of paid answers.

    What a tool gave is journalled too: a judgement that goes on after a crash goes on from the same evidence, so that
    none of its later questions is another one, and paid again.
    """

    def __init__(
        self, models: Mapping[str, Model], *, journal: Journal, seed: int, toolbox: Toolbox = NO_TOOLS
    ) -> None:
        self._models, self._toolbox = models, toolbox
        self._journal = journal
        self._seed = seed
        self._known: dict[str, Answer | Trouble] = {}

    def key(self, question: Question) -> str:
        """Names a question by its content and by what is asked, whatever the YAML calls the model."""
        if isinstance(question, Call):
            return content_hash(["Call", self._toolbox.tools[question.tool].fingerprint, question.arguments])
        model = self._models[question.model].fingerprint
        return content_hash([type(question).__name__, model, question.model_dump(mode="json", exclude={"model"})])

    def answers(self, questions: Sequence[Question], *, advance: Callable[[int], None]) -> list[Answer | Trouble]:
        """One answer a question, in order; `advance` is told of every question as it is answered."""
        keys = [self.key(q) for q in questions]
        waiting: dict[str, Question] = {}
        for key, question in zip(keys, questions, strict=True):
            if key not in self._known and not self._recall(key, question):
                waiting.setdefault(key, question)
        repeats = Counter(key for key in keys if key in waiting)
        advance(len(keys) - repeats.total())
        for group in _alike(waiting):
            self._ask(group, lambda key: advance(repeats[key]))
        return [self._known[key] for key in keys]

    def forget_trouble(self) -> None:
        """Failures are never cached: what failed is asked again next time."""
        self._known = {k: a for k, a in self._known.items() if not isinstance(a, Trouble)}

    def bury(self, questions: Iterable[Question]) -> None:
        """Takes back answers that hold no verdict: a paid one stays in the journal, but is not given again, so that the
        next run asks anew. What they cost stays booked (dressage.accounts)."""
        for key in {self.key(q) for q in questions}:
            self._known.pop(key, None)
            self._journal.bury(key)

    def _recall(self, key: str, question: Question) -> bool:
        if (paid := self._journal.get(key)) is None:
            return False
        self._known[key] = ANSWERS[type(question)].model_validate(paid)
        return True

    def _ask(self, group: dict[str, Question], told: Callable[[str], None]) -> None:
        calls = {key: q for key, q in group.items() if isinstance(q, Call)}
        for key, call in calls.items():
            self._known[key] = result = self._toolbox.call(call.tool, call.arguments)
            self._journal.put(key, result.model_dump(mode="json"))
            told(key)
        asked = {key: q for key, q in group.items() if not isinstance(q, Call)}
        if asked:
            self._ask_model(asked, told)

    def _ask_model(self, group: Mapping[str, ToModel], told: Callable[[str], None]) -> None:
        keys, questions = list(group), list(group.values())
        model = self._models[questions[0].model]

        def done(index: int, answer: Answer | Trouble) -> None:
            self._known[keys[index]] = answer
            if model.paid and not isinstance(answer, Trouble):
                self._journal.put(keys[index], answer.model_dump(mode="json"))
            told(keys[index])

        for key, answer in zip(keys, _asked(model, questions, self._seeds(keys, questions), done), strict=True):
            self._known[key] = answer

    def _seeds(self, keys: Sequence[str], questions: Sequence[ToModel]) -> list[int]:
        return [
            seed_for(self._seed, "ask", key, q.sample if isinstance(q, Chat) else 0)
            for key, q in zip(keys, questions, strict=True)
        ]


def _alike(questions: Mapping[str, Question]) -> list[dict[str, Question]]:
    """Groups that can be asked in one call: same model, same sort, same sampling or reward model."""
    groups: dict[object, dict[str, Question]] = {}
    for key, q in questions.items():
        sort = (
            q.tool if isinstance(q, Call) else q.model,
            type(q).__name__,
            *((q.temperature, q.max_new_tokens) if isinstance(q, Chat) else ()),
            *((q.adapter,) if isinstance(q, Scalar) else ()),
        )
        groups.setdefault(sort, {})[key] = q
    return list(groups.values())


def _asked(
    model: Model,
    questions: Sequence[ToModel],
    seeds: Sequence[int],
    done: Callable[[int, Answer | Trouble], None],
) -> Sequence[Answer | Trouble]:
    """Asks questions of one sort.

    Raises:
        ValueError: for a score, where the model cannot wear a reward model.
    """
    chats = [q for q in questions if isinstance(q, Chat)]
    labels = [q for q in questions if isinstance(q, Labels)]
    if chats:
        sampling = Sampling(temperature=chats[0].temperature, max_new_tokens=chats[0].max_new_tokens)
        return model.complete([q.messages for q in chats], sampling=sampling, seeds=seeds, done=done)
    if labels:
        return model.label_probabilities([q.messages for q in labels], [q.labels for q in labels], done=done)
    scalars = [q for q in questions if isinstance(q, Scalar)]
    if scalars:
        if not isinstance(model, Scores):
            raise ValueError(f"model {scalars[0].model!r} cannot wear a reward model; name one of kind: local")
        return model.scalars([q.messages for q in scalars], scalars[0].adapter, done=done)
    return model.embed([q.text for q in questions if isinstance(q, Embed)], done=done)
