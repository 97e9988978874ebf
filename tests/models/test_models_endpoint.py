"""models/endpoint against a real server on loopback that breaks in every way a server can."""

import asyncio
import itertools
import json
import logging
import math
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from fault_server import MODEL, FaultServer, drips, garbage, hangs_up, reply, says, serving, status
from pydantic import ValidationError

from dressage.accounts import Account
from dressage.models.endpoint import Price, Settings
from dressage.models.endpoint.model import Endpoint
from dressage.models.endpoint.model import open as open_endpoint
from dressage.models.endpoint.reply import completion, distribution, parse
from dressage.models.endpoint.stops import (
    EndpointDown,
    EndpointRefused,
    EndpointStopped,
    MissingKey,
    OverBudget,
    WrongModel,
)
from dressage.plugins import open_kind, settings_of
from dressage.protocols import Completion, Distribution, Sampling, Trouble
from dressage.records import Message, Usage
from dressage.store import StoreError

CANARY = "sk-canary-0123456789"
GREEDY = Sampling(temperature=0, max_new_tokens=8)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_KEY", CANARY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def opened() -> Iterator[Callable[..., Endpoint]]:
    """Opens endpoints with quick retries, and closes them at the end."""
    models: list[Endpoint] = []

    def open_one(server: FaultServer | str, **settings: Any) -> Endpoint:
        url = server if isinstance(server, str) else server.base_url
        quick = {"key_env": "CANARY_KEY", "backoff_s": 0.01, "timeout_s": 5}
        account = settings.pop("account", None)
        models.append(open_endpoint(Settings(base_url=url, model=MODEL, **{**quick, **settings}), account=account))
        return models[-1]

    yield open_one
    for model in models:
        model.close()


def user(*texts: str) -> list[list[Message]]:
    return [[Message(role="user", content=text)] for text in texts]


def ask(model: Endpoint, *texts: str, sampling: Sampling = GREEDY) -> list[Completion | Trouble]:
    return model.complete(user(*texts), sampling=sampling, seeds=range(len(texts)), done=lambda i, a: None)


# ---------------------------------------------------------------- asking and reading


def test_answers_come_in_the_order_asked_and_done_hears_them_as_they_come(opened: Any) -> None:
    def script(nth: int, body: dict[str, Any]) -> Any:
        text = body["messages"][-1]["content"]
        return says(text.upper(), after_s=0.3 if text == "slow" else 0.0)

    heard: list[int] = []
    threads: set[str] = set()

    def done(index: int, answer: Any) -> None:
        heard.append(index)
        threads.add(threading.current_thread().name)

    with serving(script) as server:
        answers = opened(server).complete(user("slow", "a", "b"), sampling=GREEDY, seeds=[1, 2, 3], done=done)
    assert [a.text for a in answers] == ["SLOW", "A", "B"]
    assert heard[-1] == 0
    assert sorted(heard) == [0, 1, 2]
    assert threads == {threading.current_thread().name}


def test_sends_what_was_asked_and_nothing_that_a_null_takes_out(opened: Any) -> None:
    with serving(lambda nth, body: says("ok")) as server:
        settings = {"extra_body": {"top_p": None, "top_k": 5}, "token_limit": "max_completion_tokens"}
        model = opened(server, **settings)
        sampling = Sampling(temperature=0.5, top_p=0.9, max_new_tokens=7)
        model.complete(user("hi"), sampling=sampling, seeds=[2**62 + 5], done=lambda i, a: None)
        ask(opened(server, send_seed=False), "hi")
    assert server.bodies[0] == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 7,
        "temperature": 0.5,
        "seed": 5,
        "top_k": 5,
    }
    assert server.headers[0]["Authorization"] == f"Bearer {CANARY}"
    assert "seed" not in server.bodies[1]


def test_no_key_is_sent_where_none_is_needed(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with serving(lambda nth, body: says("ok")) as server:
        ask(opened(server, key_env=None), "hi")
    assert "Authorization" not in server.headers[0]
    assert CANARY not in str(server.headers)


def test_no_server_is_told_of_an_organization_but_by_the_yaml(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-canary")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-canary")
    with serving(lambda nth, body: says("ok")) as server:
        ask(opened(server), "hi")
        ask(opened(server, organization="org-ours", project="proj-ours"), "hi")
    assert "canary" not in str(server.headers).replace(CANARY, "")
    assert not {"openai-organization", "openai-project"} & {name.lower() for name in server.headers[0]}
    named = {name.lower(): value for name, value in server.headers[1].items()}
    assert (named["openai-organization"], named["openai-project"]) == ("org-ours", "proj-ours")


def test_really_asks_at_once_and_never_more_than_it_may(opened: Any) -> None:
    with serving(lambda nth, body: says("ok", after_s=0.1)) as server:
        model = opened(server, concurrency=3)
        both = [threading.Thread(target=ask, args=(model, *"abcdef")) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    assert server.most_in_flight == 3
    assert len(server.bodies) == 12


def test_usage_and_cost_are_counted(opened: Any) -> None:
    with serving(lambda nth, body: says("ok")) as server:
        model = opened(server, price=Price(read=3.0, written=15.0))
        answers = ask(model, "a", "b")
    assert answers[0].usage.cost == pytest.approx(60e-6)  # 10 × 3 + 2 × 15 millionths
    assert (model.spent.read, model.spent.written) == (20, 4)
    assert model.spent.cost == pytest.approx(120e-6)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<think>first? no</think>\n\nsecond", "second"),
        ("<think>a</think> <think>b</think> second", "second"),
        ("an insult\n</think>\n\nsecond", "an insult\n</think>\n\nsecond"),
        ("the tag </think> closes thinking", "the tag </think> closes thinking"),
        ("say <think> and\n</think>\n", "say <think> and\n</think>\n"),
        ("", ""),
    ],
)
def test_thinking_is_kept_out_of_the_words(content: str, text: str) -> None:
    answer = completion(parse(json.dumps(reply(content))), Usage())
    assert isinstance(answer, Completion)
    assert answer.text == text


def test_reasoning_content_is_not_the_answer(opened: Any) -> None:
    message = {"role": "assistant", "content": "second", "reasoning_content": "VERDICT-00000000: first"}
    with serving(lambda nth, body: says(None, message=message)) as server:
        assert ask(opened(server), "a")[0].text == "second"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"choices": []}, "no choices"),
        ({"finish_reason": "content_filter"}, "content filter"),
        ({"finish_reason": "tool_calls"}, "unknown finish"),
        ({"finish_reason": None}, "unknown finish"),
        ({"finish_reason": "length", "message": {"content": ""}}, "cut before an answer"),
        ({"finish_reason": "length", "message": {"content": "<think>VERDICT: first"}}, "cut before an answer"),
        ({"message": {"content": None, "refusal": "I will not"}}, "refusal"),
    ],
)
def test_a_reply_without_an_answer_is_trouble_with_its_own_reason(
    opened: Any, fields: dict[str, Any], reason: str
) -> None:
    with serving(lambda nth, body: says("first", **fields)) as server:
        answer = ask(opened(server), "a")[0]
    assert isinstance(answer, Trouble)
    assert answer.reason == reason
    assert len(server.bodies) == 1  # the server did answer: asking again is not the wire's business


# ---------------------------------------------------------------- label probabilities


def listed(**tokens: float) -> dict[str, Any]:
    entries = [{"token": token.replace("_", " "), "logprob": math.log(p)} for token, p in tokens.items()]
    return {"content": [{"token": "A", "logprob": 0.0, "top_logprobs": entries}]}


def read_labels(tokens: dict[str, float], labels: tuple[str, ...]) -> Distribution | Trouble:
    parsed = parse(json.dumps(reply("A", logprobs=listed(**tokens))))
    return distribution(parsed, labels, Usage())


def test_label_probabilities_sum_over_spellings() -> None:
    answer = read_labels({"A": 0.5, "_A": 0.25, "B": 0.125, "a": 0.125}, ("A", "B"))
    assert isinstance(answer, Distribution)
    assert answer.probabilities == pytest.approx({"A": 0.75, "B": 0.125})


def test_an_unlisted_label_is_unknown_rather_than_impossible() -> None:
    # C may hide up to 2 × 0.1 beside a mass of 0.6: more than a hundredth of it
    hidden = read_labels({"A": 0.4, "B": 0.2, "x": 0.1}, ("A", "B", "C"))
    assert isinstance(hidden, Trouble)
    assert hidden.reason == "labels not listed"
    # up to 2 × 0.001 beside 0.998: harmless
    small = read_labels({"A": 0.9, "B": 0.098, "x": 0.001}, ("A", "B", "C"))
    assert isinstance(small, Distribution)
    assert small.probabilities == pytest.approx({"A": 0.9, "B": 0.098, "C": 0.0})
    # what is listed sums to 1, so nothing can hide although the smallest listed is large
    full = read_labels({"A": 0.75, "B": 0.25}, ("A", "B", "C"))
    assert isinstance(full, Distribution)


def test_labels_are_asked_for_in_one_token_at_temperature_1(opened: Any) -> None:
    with serving(lambda nth, body: says("A", logprobs=listed(A=0.75, B=0.25))) as server:
        model = opened(server, labels=True)
        answers = model.label_probabilities(user("q"), [("A", "B")], done=lambda i, a: None)
    body = server.bodies[0]
    assert answers[0].probabilities == pytest.approx({"A": 0.75, "B": 0.25})
    assert (body["max_tokens"], body["top_logprobs"], body["temperature"]) == (1, 20, 1.0)


def begun() -> list[Message]:
    return [Message(role="user", content="q"), Message(role="assistant", content="Score:")]


def test_a_begun_answer_ends_the_question_or_opens_the_reply(opened: Any) -> None:
    with serving(lambda nth, body: says("A", logprobs=listed(A=0.75, B=0.25))) as server:
        for settings in ({}, {"label_cue": "continued"}):
            model = opened(server, labels=True, **settings)
            answers = model.label_probabilities([begun()], [("A", "B")], done=lambda i, a: None)
            assert isinstance(answers[0], Distribution)
    asked, continued = server.bodies
    assert asked["messages"] == [{"role": "user", "content": "q\n\nScore:"}]
    assert not {"continue_final_message", "add_generation_prompt"} & asked.keys()
    assert continued["messages"] == [m.model_dump() for m in begun()]
    assert (continued["continue_final_message"], continued["add_generation_prompt"]) == (True, False)


def test_a_server_without_logprobs_is_told_from_one_with_them(opened: Any) -> None:
    with serving(lambda nth, body: says("A")) as server:
        labelled = opened(server, labels=True).label_probabilities(user("q"), [("A",)], done=lambda i, a: None)
        assert labelled[0].reason == "no log-probabilities"
        with pytest.raises(ValueError, match="labels: true"):
            opened(server).label_probabilities(user("q"), [("A",)], done=lambda i, a: None)


# ---------------------------------------------------------------- what breaks and heals


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_obeyed(opened: Any, code: int) -> None:
    with serving(lambda nth, body: status(code, Retry_After="0.4") if nth == 0 else says("ok")) as server:
        started = time.monotonic()
        answers = ask(opened(server), "a")
    assert answers[0].text == "ok"
    assert 0.4 <= time.monotonic() - started < 4


def test_a_rate_limit_holds_all_requests_back(opened: Any) -> None:
    arrived: list[float] = []

    def script(nth: int, body: dict[str, Any]) -> Any:
        arrived.append(time.monotonic())
        return status(429, Retry_After="0.5") if nth == 0 else says("ok")

    with serving(script) as server:
        model = opened(server, concurrency=2)
        first = threading.Thread(target=ask, args=(model, "a"))
        first.start()
        while not arrived:
            time.sleep(0.01)
        time.sleep(0.2)  # by now the refusal has been read
        ask(model, "b")
        first.join()
    assert len(arrived) == 3
    assert min(arrived[1:]) - arrived[0] >= 0.5


def test_a_later_rate_limit_does_not_end_a_longer_one(opened: Any) -> None:
    arrived: list[float] = []

    def script(nth: int, body: dict[str, Any]) -> Any:
        arrived.append(time.monotonic())
        return [status(429, Retry_After="0.8"), late(429, Retry_After="0.1")][nth] if nth < 2 else says("ok")

    def late(code: int, **headers: str) -> Any:
        async def act(request: Any) -> Any:
            await asyncio.sleep(0.2)
            return await status(code, **headers)(request)

        return act

    with serving(script) as server:
        assert [a.text for a in ask(opened(server, concurrency=2), "a", "b")] == ["ok", "ok"]
    assert len(arrived) == 4
    assert min(arrived[2:]) - arrived[0] >= 0.8


def test_retry_after_as_a_date_is_capped_by_the_deadline(opened: Any) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=3), usegmt=True)
    with serving(lambda nth, body: status(429, Retry_After=date) if nth == 0 else says("ok")) as server:
        started = time.monotonic()
        answers = ask(opened(server, timeout_s=0.5), "a")
    assert answers[0].text == "ok"
    assert 0.5 <= time.monotonic() - started < 5  # and not three hours


@pytest.mark.parametrize("trouble", [status(500), status(503), garbage("<html>502</html>"), garbage("{"), hangs_up])
def test_what_passes_is_tried_again(opened: Any, trouble: Any) -> None:
    with serving(lambda nth, body: trouble if nth < 2 else says("ok")) as server:
        assert ask(opened(server), "a")[0].text == "ok"
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("act", "reason"),
    [(status(500, "down"), "server error"), (garbage("[]"), "garbled"), (hangs_up, "connection lost")],
)
def test_attempts_are_bounded(opened: Any, act: Any, reason: str) -> None:
    with serving(lambda nth, body: act) as server:
        answer = ask(opened(server, attempts=3), "a")[0]
    assert isinstance(answer, Trouble)
    assert (answer.reason, len(server.bodies)) == (reason, 3)
    assert "after 3 attempts" in answer.detail


def test_a_dripping_body_is_cut_at_the_deadline(opened: Any) -> None:
    with serving(lambda nth, body: drips("never")) as server:
        started = time.monotonic()
        answer = ask(opened(server, timeout_s=1.5, attempts=1), "a")[0]
    assert isinstance(answer, Trouble)
    assert answer.reason == "timeout"
    assert 1.5 <= time.monotonic() - started < 5  # the whole reply would take minutes


def test_a_refused_question_is_its_own_trouble_and_not_asked_again(opened: Any) -> None:
    def script(nth: int, body: dict[str, Any]) -> Any:
        return status(400, "prompt too long") if body["messages"][0]["content"] == "long" else says("ok")

    with serving(script) as server:
        answers = ask(opened(server), "long", "short")
    assert answers[0] == Trouble(reason="refused request", detail='HTTP 400: {"error": {"message": "prompt too long"}}')
    assert answers[1].text == "ok"
    assert len(server.bodies) == 2


def test_text_that_is_not_text_is_not_sent(opened: Any) -> None:
    with serving(lambda nth, body: says("ok")) as server:
        answers = ask(opened(server), "half \ud800", "whole \U0001f600")
    assert answers[0].reason == "not text"
    assert answers[1].text == "ok"


# ---------------------------------------------------------------- what stops


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def test_nobody_there_is_one_error_that_names_the_place(opened: Any) -> None:
    url = closed_port()
    with pytest.raises(EndpointDown, match="start the server or correct base_url") as error:
        ask(opened(url, attempts=2), *"abcdefghij")
    assert url in str(error.value)


def test_a_server_that_leaves_is_missed_before_every_question_was_tried(opened: Any) -> None:
    model = opened(closed_port(), attempts=1, concurrency=2)
    answers: list[Any] = []
    with serving(lambda nth, body: says("ok")) as server:
        model = opened(server, attempts=1, concurrency=2)
        ask(model, "a")
    with pytest.raises(EndpointDown):
        model.complete(user(*"abcdefghij"), sampling=GREEDY, seeds=range(10), done=lambda i, a: answers.append(a))
    assert [a.reason for a in answers] == ["unreachable"] * 3  # the fourth in a row (2 × concurrency) stops


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_wrong_key_or_address_stops_and_names_both(opened: Any, code: int) -> None:
    act = status(code, f"bad key {CANARY}")
    with serving(lambda nth, body: act) as server, pytest.raises(EndpointRefused) as error:
        ask(opened(server), "a", "b")
    assert server.base_url in str(error.value)
    assert ("base_url" if code == 404 else "CANARY_KEY") in str(error.value)
    assert len(server.bodies) <= 2


def test_a_redirect_is_not_followed(opened: Any) -> None:
    with serving(lambda nth, body: says("stolen")) as elsewhere:
        act = status(307, Location=f"{elsewhere.base_url}/chat/completions")
        with serving(lambda nth, body: act) as server, pytest.raises(EndpointRefused, match="not followed"):
            ask(opened(server), "a")
        assert elsewhere.bodies == []


@pytest.mark.parametrize("name", ["another-model", None])
def test_another_model_stops_the_run(opened: Any, name: str | None) -> None:
    with serving(lambda nth, body: says("ok", model=name)) as server:
        with pytest.raises(WrongModel, match="'a-model'"):
            ask(opened(server), "a")
        assert ask(opened(server, expects="any"), "a")[0].text == "ok"


def test_a_dated_name_can_be_expected(opened: Any) -> None:
    with serving(lambda nth, body: says("ok", model="a-model-2026-01-01")) as server:
        with pytest.raises(WrongModel, match="set expects: 'a-model-2026-01-01'"):
            ask(opened(server), "a")
        assert ask(opened(server, expects="a-model-2026-01-01"), "a")[0].text == "ok"


def test_the_budget_is_never_passed_and_what_was_had_is_handed_over(opened: Any) -> None:
    # one message of one letter: worst case 16 + 16 + 1 read and 8 written = 41 tokens; each takes 12 in truth
    answers: list[Any] = []
    with serving(lambda nth, body: says("ok")) as server:
        model = opened(server, max_tokens_total=100, concurrency=4)
        with pytest.raises(OverBudget, match="raise the limit and run the same command again") as error:
            model.complete(user(*"abcdefghij"), sampling=GREEDY, seeds=range(10), done=lambda i, a: answers.append(a))
    # after n answers the next may start while 12 n + 41 ≤ 100, so n = 4 is the last that lets one start
    assert len(server.bodies) == len(answers) == 5
    assert model.spent == Usage(read=50, written=10)
    assert "50 + 10 tokens" in str(error.value)
    assert "max_tokens_total 100" in str(error.value)


def test_what_earlier_stages_spent_counts(opened: Any) -> None:
    with serving(lambda nth, body: says("ok")) as server:
        price = Price(read=1e6, written=1e6)  # a token costs 1
        before = Account()
        before.book(Usage(read=30, written=30, cost=60))
        with pytest.raises(OverBudget, match=r"this run has spent 30 \+ 30 tokens .*max_cost 100"):
            ask(opened(server, price=price, max_cost=100, account=before), "a")
        assert server.bodies == []
        assert ask(opened(server, price=price, max_cost=101, account=before), "a")[0].text == "ok"


def test_two_models_at_one_endpoint_share_its_account(opened: Any) -> None:
    with serving(lambda nth, body: says("ok")) as server:
        account = Account()
        one, other = (opened(server, max_tokens_total=52, account=account) for _ in range(2))
        ask(one, "a")  # 12 tokens, and 41 at worst for the next
        with pytest.raises(OverBudget, match=r"10 \+ 2 tokens"):
            ask(other, "a")


def test_an_account_that_cannot_be_kept_stops_with_one_error(opened: Any) -> None:
    def full(used: Usage, seen: bool) -> None:
        raise StoreError("spending.jsonl cannot be written: no space left")

    with serving(lambda nth, body: says("ok")) as server, pytest.raises(StoreError, match="no space left"):
        ask(opened(server, account=Account(full)), *"abc")


def test_a_request_that_was_cut_off_counts_as_its_worst_case(opened: Any) -> None:
    said = "up to 66 \\+ 16 tokens on requests without an answer"
    with serving(lambda nth, body: garbage("{")) as server, pytest.raises(OverBudget, match=said):
        ask(opened(server, max_tokens_total=100), "a")
    assert len(server.bodies) == 2  # 41 + 41 of 100; a third does not fit


def test_an_error_in_done_ends_the_asking(opened: Any) -> None:
    def done(index: int, answer: Any) -> None:
        raise RuntimeError("the disk is full")

    with serving(lambda nth, body: says("ok", after_s=0.05)) as server:
        model = opened(server, concurrency=1)
        with pytest.raises(RuntimeError, match="disk is full"):
            model.complete(user(*"abcdefghij"), sampling=GREEDY, seeds=range(10), done=done)
        time.sleep(0.2)
        assert len(server.bodies) <= 2


# ---------------------------------------------------------------- the key


@pytest.mark.parametrize(
    "act",
    [
        status(401, f"Incorrect key {CANARY}"),
        status(400, f"Bearer {CANARY}"),
        status(500, CANARY),
        status(302, Location=f"http://127.0.0.1:1/{CANARY}"),
        garbage(CANARY),
        says("x", model=CANARY),
        says(None, message={"content": "", "refusal": CANARY}),
        hangs_up,
    ],
)
def test_the_key_is_in_no_error_and_no_log(opened: Any, act: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seen = ""
    with serving(lambda nth, body: act) as server:
        try:
            seen += repr(ask(opened(server, attempts=2), "a"))
        except EndpointStopped as error:
            seen += "".join(traceback.format_exception(error)) + repr(error.__context__) + repr(error.__cause__)
    assert server.headers[0]["Authorization"] == f"Bearer {CANARY}"
    assert seen
    assert CANARY not in seen
    assert CANARY not in "".join(
        r.getMessage() for r in caplog.records if not r.name.startswith(("aiohttp", "httpcore"))
    )


def test_the_key_is_in_no_dump_and_no_fingerprint(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("http://127.0.0.1:9/v1")
    settings = Settings(base_url="http://127.0.0.1:9/v1", model=MODEL, key_env="CANARY_KEY")
    assert CANARY not in settings.model_dump_json() + repr(settings) + str(settings.content()) + repr(model)
    monkeypatch.setenv("OTHER_KEY", "another")
    assert opened("http://127.0.0.1:9/v1", key_env="OTHER_KEY").fingerprint == model.fingerprint


@pytest.mark.parametrize("value", ["", "two words", "line\n", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_at_opening(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_KEY", value)
    with pytest.raises(MissingKey, match="CANARY_KEY") as error:
        open_endpoint(Settings(base_url="http://localhost/v1", model=MODEL, key_env="CANARY_KEY"))
    assert not value or value not in str(error.value)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "file:///etc/passwd"},
        {"base_url": "localhost:8000"},
        {"base_url": "https://user:secret@host/v1"},
        {"base_url": "https://host/v1?key=secret"},
        {"max_cost": 1.0},
        {"extra_body": {"model": "other"}},
        {"extra_body": {"max_tokens": 100000}},
        {"key": "sk-secret"},
    ],
)
def test_settings_refuse_what_could_do_harm(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**{"base_url": "http://localhost:8000/v1", "model": MODEL, **wrong})


def test_the_fingerprint_changes_with_what_matters_only(opened: Any) -> None:
    base = opened("http://127.0.0.1:9/v1").fingerprint
    for same in ({"concurrency": 2}, {"timeout_s": 9}, {"attempts": 9}, {"max_tokens_total": 9}, {"backoff_s": 1}):
        assert opened("http://127.0.0.1:9/v1", **same).fingerprint == base
    others = ({"extra_body": {"top_k": 1}}, {"send_seed": False}, {"labels": True}, {"expects": "any"})
    prints = [opened("http://127.0.0.1:9/v1", **other).fingerprint for other in others]
    assert all(a != b for a, b in itertools.combinations([base, *prints], 2))


def test_is_found_on_its_shelf_and_answers_for_what_it_cannot_do() -> None:
    settings = settings_of("models", "endpoint")(base_url="http://localhost:8000/v1/", model=MODEL, key_env=None)
    model = open_kind(settings)
    assert settings.identity() == "http://localhost:8000/v1#a-model"
    assert (settings.chats, settings.gives_labels(), settings.embeds, model.paid) == (True, False, False, True)
    assert model.context() is None
    assert model.prompt_tokens(user("a")[0]) is None
    with pytest.raises(ValueError, match="kind: embedder"):
        model.embed(["a"], done=lambda i, a: None)
    model.close()
    model.close()


def test_settings_are_read_without_the_client() -> None:
    code = (
        "import sys; import dressage.models.endpoint, dressage.models.embedder, dressage.models.scripted;"
        "print({'openai', 'torch', 'transformers', 'numpy', 'huggingface_hub'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
