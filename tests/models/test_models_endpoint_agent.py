"""An agentic judge over HTTP: rounds of calls, a server that hangs or writes rubbish in the middle, and going on."""

import re
from pathlib import Path
from typing import Any

import pytest
from fault_server import MODEL, Act, FaultServer, drips, garbage, hangs_up, says, serving

from dressage.engines import judging
from dressage.engines.asking import Asker
from dressage.engines.hearing import Bench
from dressage.plugins import open_kind, settings_of
from dressage.protocols import JudgeTools
from dressage.records import Candidate, Message, Prompt
from dressage.store import Journal
from dressage.toolbox import Toolbox

CALL = 'CALL-{n}: {{"tool": "calculator", "arguments": {{"expression": "17 * 23"}}, "claim": "the product"}}'
PROMPT = Prompt.of((Message(role="user", content="What is 17 times 23?"),), source="test", split="test")
RIGHT, WRONG = (
    Candidate.of(prompt_id=PROMPT.id, messages=(Message(role="assistant", content=text),), model="given")
    for text in ("It is 391.", "It is 381.")
)


def judged(server: FaultServer, folder: Path, **settings: Any) -> judging.Labels:
    given = {"base_url": server.base_url, "model": MODEL, "key_env": None, "timeout_s": 2, "attempts": 1}
    model = open_kind(settings_of("models", "endpoint").model_validate({"kind": "endpoint", **given}))
    calculator = settings_of("tools", "calculator").model_validate({"kind": "calculator"})
    tools = Toolbox({"calculator": open_kind(calculator, name="calculator")})
    kind = {"kind": "agentic", "model": "m", "tools": ["calculator"], **settings}
    handed = JudgeTools(secret="s", members={}, reads_labels=lambda name: False, toolbox=tools.tools)
    judge = open_kind(settings_of("judges", "agentic").model_validate(kind), tools=handed)
    asker = Asker({"m": model}, journal=Journal(folder / "journal.jsonl"), seed=0, toolbox=tools)
    try:
        return judging.duel(Bench("agent", judge, asker, 1000, lambda units: None), [(PROMPT, WRONG, RIGHT)])
    finally:
        model.close()


def planner(nth: int, body: dict[str, Any]) -> Act:
    """Calls first; then takes the reply that has the number which came back."""
    turns = [message["content"] for message in body["messages"]]
    nonce = re.findall(r"VERDICT-([0-9a-f]{8})", turns[0])[-1]
    if len(turns) == 1:
        return says(f"The product decides.\n{CALL.format(n=nonce)}")
    value = re.findall(r"= (\d+)", turns[-1])[0]
    first = turns[0].partition("=== FIRST REPLY")[2].partition("=== END")[0]
    return says(f"CITES-{nonce}: e1\nVERDICT-{nonce}: {'first' if value in first else 'second'}")


def test_calls_and_results_go_over_the_wire_as_turns_of_a_conversation(tmp_path: Path) -> None:
    with serving(planner) as server:
        labels = judged(server, tmp_path)
        (verdict,) = labels.verdicts
        assert (verdict.winner, verdict.consistent) == ("second", True)
        assert [(e.result, e.cited) for e in labels.evidence] == [("17 * 23 = 391", True)] * 2
        assert [len(body["messages"]) for body in server.bodies] == [1, 1, 3, 3]
        assert [m["role"] for m in server.bodies[-1]["messages"]] == ["user", "assistant", "user"]
        assert (verdict.usage.read, verdict.usage.written) == (40, 8)
        judged(server, tmp_path)
        assert len(server.bodies) == 4  # all of it comes back from the journal


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (drips("VERDICT"), "timeout"),
        (says("late", after_s=5.0), "timeout"),
        (garbage("not JSON"), "garbled"),
        (hangs_up, "connection lost"),
        (says(None), "unreadable"),
        (says("VERDICT-00000000: first"), "unreadable"),
        (says("cut", finish_reason="length"), "unreadable"),
    ],
)
def test_a_fault_in_the_second_round_is_a_failure_and_can_be_mended(tmp_path: Path, fault: Act, reason: str) -> None:
    faulty = True

    def broken(nth: int, body: dict[str, Any]) -> Act:
        return fault if faulty and len(body["messages"]) > 1 else planner(nth, body)

    with serving(broken) as server:
        labels = judged(server, tmp_path)
        assert not labels.verdicts
        assert [(f.side, f.reason) for f in labels.failures] == [("infrastructure", reason)]
        faulty, before = False, len(server.bodies)
        mended = judged(server, tmp_path)
        turns = [len(body["messages"]) for body in server.bodies[before:]]
    assert [v.winner for v in mended.verdicts] == ["second"]
    # What was answered is not paid again; a judgement that could not be read is made anew from its beginning.
    assert turns == ([1, 1, 3, 3] if reason == "unreadable" else [3, 3])


def test_a_slow_model_uses_up_the_seconds_of_a_judgement(tmp_path: Path) -> None:
    def slow(nth: int, body: dict[str, Any]) -> Act:
        nonce = re.findall(r"VERDICT-([0-9a-f]{8})", body["messages"][0]["content"])[-1]
        return says(CALL.format(n=nonce), after_s=0.4)

    with serving(slow) as server:
        labels = judged(server, tmp_path, seconds=0.6)
        assert [len(body["messages"]) for body in server.bodies] == [1, 1, 3, 3]
    assert [(f.side, f.reason) for f in labels.failures] == [("infrastructure", "over budget")]
    assert "`seconds` allows 0.6" in labels.failures[0].detail
