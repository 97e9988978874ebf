"""Judges by checking: the judge says what decides, calls tools in rounds, then gives the verdict, with the evidence.

Every round is a question, and so is every call of a tool; the state of a judgement is replayed from the answers so far.
So whoever asks can batch the rounds of many ballots, answer equal calls once, and go on after a crash from its journal.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dressage.judges import _fences as fences
from dressage.judges._verdicts import verdict_line
from dressage.judges.agentic import Settings, protocol, telling
from dressage.judges.agentic.protocol import Wanted
from dressage.marks import OverBudget
from dressage.protocols import (
    Answer,
    Chat,
    Choice,
    Completion,
    JudgeTools,
    Question,
    Rating,
    Unreadable,
)
from dressage.questions import Call, Result
from dressage.records import Ballot, Checked, Message
from dressage.tokens import wellformed
from dressage.toolbox import Tool

MARGINS = {"first": 1.0, "second": -1.0, "tie": 0.0}
RATINGS = tuple(str(number) for number in range(1, 11))
TASKS = {
    "pairwise": "You compare two replies to the same conversation and decide which of them is better.",
    "pointwise": "You rate a reply to a conversation.",
}
SHOWN = {"pairwise": ("FIRST REPLY", "SECOND REPLY"), "pointwise": ("REPLY",)}
NAMED = {"pairwise": ("first", "second"), "pointwise": ("reply",)}
KEPT_CHARS = 4000
"""Characters of a result that the judge is shown and that are stored."""


@dataclass
class State:
    """How far a judgement is."""

    messages: list[Message]
    checked: list[Checked] = field(default_factory=list)
    calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    ask: tuple[Question, ...] = ()
    """What must be asked next; nothing once the last answer is to be the verdict."""
    last: Completion | None = None


@dataclass
class Agentic:
    """See protocols.Judge and protocols.Investigates."""

    settings: Settings
    secret: str
    toolbox: Mapping[str, Tool]
    compares: bool = field(init=False)
    rounds: int = field(init=False)

    def __post_init__(self) -> None:
        self.rounds = self.settings.principles + (2 * self.settings.calls if self.toolbox else 0) + 1
        self.compares = self.settings.mode == "pairwise"
        self._told = telling.told(self.toolbox)

    def ask(self, ballot: Ballot) -> tuple[Question, ...]:
        return self._state(ballot, ()).ask

    def more(self, ballot: Ballot, answers: Sequence[Answer]) -> tuple[Question, ...]:
        try:
            return self._state(ballot, answers).ask
        except Unreadable:  # `read` says so
            return ()

    def read(self, ballot: Ballot, answers: Sequence[Answer]) -> Rating | Choice:
        state, nonce = self._state(ballot, answers), fences.nonce_of(ballot, self.secret)
        if state.ask or state.last is None:
            raise Unreadable("the judgement ended before a verdict")
        said = protocol.spoken(state.last)
        if self.settings.mode == "pairwise":
            choice = MARGINS[self._verdict(state.last, said, "VERDICT", nonce, self._options())]
            return Choice(margin=choice, checked=_cited(state.checked, said, nonce))
        raw = RATINGS.index(self._verdict(state.last, said, "SCORE", nonce, RATINGS)) + 1
        return Rating(
            score=(raw - 1) / 9, raw=raw, normalised="(raw - 1) / 9", checked=_cited(state.checked, said, nonce)
        )

    def _verdict(self, last: Completion, said: str, tag: str, nonce: str, offered: Sequence[str]) -> str:
        try:
            return verdict_line(last, tag, nonce, offered)
        except Unreadable:
            if self.toolbox and protocol.calls_in(said, nonce, tuple(self.toolbox)):
                raise OverBudget(f"it calls on after its {self.settings.calls} calls, without a verdict") from None
            raise

    # ------------------------------------------------------------ the rounds, replayed

    def _state(self, ballot: Ballot, answers: Sequence[Answer]) -> State:
        """Where the answers so far have led.

        Raises:
            Unreadable: one of them cannot be read.
            OverBudget: they took more than a judgement may.
        """
        nonce = fences.nonce_of(ballot, self.secret)
        left, criteria, state = list(answers), list[str](), State([])
        if self.settings.principles:
            if not left:
                return State([], ask=(self._chat([self._principles(ballot, nonce)]),))
            criteria = protocol.criteria_in(self._heard(state, left.pop(0)), nonce)
        state.messages = [self._opening(ballot, nonce, criteria)]
        while left:
            said = self._heard(state, left.pop(0))
            wanted = protocol.calls_in(said, nonce, tuple(self.toolbox)) if self.toolbox else []
            if not wanted or state.calls >= self.settings.calls:
                return state
            wanted = wanted[: self.settings.calls - state.calls]
            calls = [self._call(ballot, one) for one in wanted if not one.wrong]
            if len(left) < len(calls):
                state.ask = tuple(calls)
                return state
            results = [left.pop(0) for _ in calls]
            self._check(state, wanted, results)
            state.messages += [
                Message(role="assistant", content=said),
                self._results(state, nonce, since=len(state.checked) - len(wanted)),
            ]
        self._within(state)
        state.ask = (self._chat(state.messages),)
        return state

    def _heard(self, state: State, answer: Answer) -> str:
        """Books what an answer of the model took, and says what it said."""
        said = protocol.spoken(answer)
        assert isinstance(answer, Completion)
        state.last = answer
        state.tokens += answer.usage.read + answer.usage.written
        state.seconds += answer.seconds
        return said

    def _check(self, state: State, wanted: Sequence[Wanted], results: Sequence[Answer]) -> None:
        """Notes calls with what came of them."""
        given = iter(results)
        for one in wanted:
            found = Result(text=one.wrong, failed="arguments") if one.wrong else next(given)
            if not isinstance(found, Result):
                raise TypeError(f"a call of a tool was answered by a {type(found).__name__}")
            state.seconds += found.seconds
            state.checked.append(
                Checked(
                    claim=fences.clean(one.claim)[:500],
                    tool=one.tool,
                    arguments=one.written()[:KEPT_CHARS],
                    result=found.text[:KEPT_CHARS],
                    failed=found.failed,
                    seconds=found.seconds,
                )
            )
        state.calls += len(wanted)

    def _within(self, state: State) -> None:
        s = self.settings
        if state.tokens >= s.tokens:
            raise OverBudget(f"{state.tokens} tokens and no verdict; `tokens` allows {s.tokens}")
        if state.seconds >= s.seconds:
            raise OverBudget(f"{state.seconds:.1f} s and no verdict; `seconds` allows {s.seconds:g}")

    # ------------------------------------------------------------ what is asked

    def _chat(self, messages: Sequence[Message]) -> Chat:
        s = self.settings
        return Chat(model=s.model, messages=tuple(messages), max_new_tokens=s.max_new_tokens, temperature=s.temperature)

    def _call(self, ballot: Ballot, one: Wanted) -> Call:
        texts = protocol.texts_of(ballot, NAMED[self.settings.mode])
        arguments = protocol.filled(dict(one.arguments or {}), texts)
        return Call(tool=one.tool, arguments=wellformed(json.dumps(arguments, ensure_ascii=False, sort_keys=True)))

    def _principles(self, ballot: Ballot, nonce: str) -> Message:
        """The same for all replies to a prompt, so that it is asked once."""
        shown = fences.conversation(ballot.messages, nonce, self.settings.shown_chars)
        return Message(
            role="user",
            content=fences.fill(
                fences.template("agentic_principles"),
                criterion=self.settings.criterion,
                no_instructions=fences.NO_INSTRUCTIONS,
                conversation=protocol.harmless(shown),
                nonce=nonce,
            ),
        )

    def _opening(self, ballot: Ballot, nonce: str, criteria: Sequence[str]) -> Message:
        s = self.settings
        material = fences.material(ballot, SHOWN[s.mode], nonce, limit=s.shown_chars)
        own = protocol.foreign("\n".join(f"- {one}" for one in criteria), nonce, s.shown_chars)
        return Message(
            role="user",
            content=fences.fill(
                fences.template("agentic"),
                task=TASKS[s.mode],
                criterion=s.criterion,
                no_instructions=material["no_instructions"],
                tools=self._tools(),
                nonce=nonce,
                principles="These criteria were written for this conversation before a reply was seen:\n"
                f"{fences.fenced('CRITERIA', own, nonce)}\n\n"
                if criteria
                else "",
                conversation=protocol.harmless(material["conversation"]),
                replies=protocol.harmless(material["replies"]),
                how=self._how(nonce, s.calls),
            ),
        )

    def _tools(self) -> str:
        if not self.toolbox:
            return ""
        texts = " or ".join(f'"{protocol.HOLDER}{name}"' for name in NAMED[self.settings.mode])
        return fences.fill(fences.template("agentic_tools"), list=self._told, texts=texts) + "\n\n"

    def _how(self, nonce: str, left: int) -> str:
        calls = ""
        if self.toolbox and left:
            calls = (
                f"You may call tools {left} more time{'s' if left > 1 else ''}: write each call on one line in exactly "
                f"this form, then stop and wait for what it gives:\nCALL-{nonce}: {protocol.FORM}\n"
                f"Together with the verdict, name what it rests on in a line before it: CITES-{nonce}: e1, e2\n\n"
            )
        elif self.toolbox:
            calls = f"No call is left: decide on what you have. CITES-{nonce}: e1, e2 names what it rests on.\n\n"
        options = {"options": " or ".join(self._options())} if self.settings.mode == "pairwise" else {}
        return fences.fill(fences.template(f"agentic_{self.settings.mode}"), calls=calls, nonce=nonce, **options)

    def _results(self, state: State, nonce: str, *, since: int) -> Message:
        told = [
            protocol.result_of(number, one.result, one.failed, nonce)
            for number, one in enumerate(state.checked[since:], since + 1)
        ]
        return Message(role="user", content="\n\n".join([*told, self._how(nonce, self.settings.calls - state.calls)]))

    def _options(self) -> tuple[str, ...]:
        return tuple(MARGINS) if self.settings.ties else tuple(MARGINS)[:2]


def _cited(checked: Sequence[Checked], said: str, nonce: str) -> tuple[Checked, ...]:
    cited = protocol.cited_in(said, nonce)
    return tuple(one.model_copy(update={"cited": n in cited}) for n, one in enumerate(checked, 1))


def open(settings: Settings, *, tools: JudgeTools) -> Agentic:
    missing = [name for name in settings.tools if name not in tools.toolbox]
    if missing:
        there = ", ".join(tools.toolbox) or "none"
        raise LookupError(f"tool {missing[0]!r} of an agentic judge is not in `tools:` (there is: {there})")
    return Agentic(settings, tools.secret, {name: tools.toolbox[name] for name in settings.tools})
