"""What a run holds, in the terminal: the right records, side by side, and none of them can steer it."""

import io

import pytest
from rich.console import Console

from dressage.reading import last_round
from dressage.records import (
    Battle,
    Candidate,
    Failure,
    Grade,
    Message,
    Preference,
    Prompt,
    Verdict,
    Vote,
)
from dressage.showing import show
from dressage.store import Manifest, StoreError, commit_shard, finish_stage


def asked(text):
    return Prompt.of((Message(role="user", content=text),), source="test", split="train", reference="the answer")


def replied(prompt, text, index=0):
    messages = (Message(role="assistant", content=text),)
    return Candidate.of(prompt_id=prompt.id, messages=messages, model="m", index=index, token_ids=(1, 2, 3))


PROMPTS = [asked(f"question {word}") for word in ("one", "two", "three")]
REPLIES = {p.id: [replied(p, f"reply {i} to {p.messages[0].content}", i) for i in range(3)] for p in PROMPTS}
EVIL = replied(PROMPTS[0], "\x1b[2J[bold]ev\u202eil[/nope] :smile:", 9)


def finished(folder, tables, *, done=True):
    shard = commit_shard(folder, "00000", key="k", tables=tables)
    if done:
        finish_stage(
            folder,
            Manifest(stage=folder.name, fingerprint="f", parts={}, shards=(shard,), rows_hash="h", facts={}, times={}),
        )


@pytest.fixture
def run(tmp_path):
    """A run with a data and a judge stage, the latter not finished."""
    of = tmp_path / "run" / "round-0"
    first, second, third = PROMPTS
    candidates = [EVIL, *(c for p in PROMPTS for c in REPLIES[p.id])]
    finished(of / "data", {Prompt: PROMPTS, Candidate: candidates})
    a, b, c = REPLIES[second.id]
    vote = Vote(margin=0.6, shown="as given")
    verdict = Verdict(
        prompt_id=second.id, first=a.id, second=b.id, judge="panel", winner="first", margin=0.5, votes=(vote,)
    )
    tables = {
        Grade: [
            Grade(prompt_id=second.id, candidate_id=a.id, judge="rules", score=0.25, criteria={"warmth": 0.5}),
            Grade(prompt_id=second.id, candidate_id=a.id, judge="other", score=0.75, evidence=("because",)),
            Grade(prompt_id=second.id, candidate_id=b.id, judge="rules", score=1.0),
        ],
        Verdict: [verdict, verdict.model_copy(update={"second": c.id, "consistent": False, "winner": "tie"})],
        Failure: [
            Failure(prompt_id=third.id, candidate_ids=(), judge="rules", side="infrastructure", reason="budget"),
            Failure(prompt_id=first.id, candidate_ids=(EVIL.id,), judge="rules", side="response", reason="garbled"),
        ],
        Preference: [Preference(prompt_id=second.id, chosen=a.id, rejected=b.id, margin=0.5, votes=2, agreed=2)],
    }
    finished(of / "judge", tables, done=False)
    return tmp_path / "run"


def shown(run, what, **options):
    console = Console(file=io.StringIO(), width=120, highlight=False, emoji=False, markup=False)
    count = show(run, what, console=console, **options)
    return count, console.file.getvalue()


def test_candidates_stand_side_by_side_under_their_prompt(run):
    count, text = shown(run, "candidates", matching="question two")
    assert count == 1
    assert "user: question two" in text
    assert "reference: the answer" in text
    together = [line for line in text.splitlines() if "reply 0 to question two" in line]
    assert together
    assert "reply 1 to question two" in together[0]
    assert "question one" not in text
    assert "not finished" not in text


def test_the_limit_counts_prompts(run):
    assert shown(run, "candidates", limit=2)[0] == 2
    assert shown(run, "candidates", limit=99)[0] == 3


def test_a_prompt_is_found_by_the_beginning_of_its_id(run):
    text = shown(run, "candidates", matching=PROMPTS[2].id[:8])[1]
    assert "question three" in text
    assert "question two" not in text


def test_model_text_is_shown_to_the_letter_and_cannot_steer(run):
    text = shown(run, "candidates", matching="question one")[1]
    assert "[bold]evil[/nope] :smile:" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_grades_stand_below_their_text(run):
    text = shown(run, "grades")[1]
    assert "rules: 0.250 (warmth 0.50)" in text
    assert "other: 0.750 (because)" in text
    assert "rules: 1.000" in text
    assert "judge is not finished" in text


def test_verdicts_say_who_won_and_whether_the_orders_agreed(run):
    text = shown(run, "verdicts")[1]
    assert "panel: first, p(first) 0.750 (+0.60 as given)" in text
    assert "panel: tie, p(first) 0.750, the two orders disagree" in text


def test_failures_of_no_and_of_one_text(run):
    text = shown(run, "failures")[1]
    assert "failure of infrastructure: budget" in text
    assert "failure of response: garbled" in text


def test_preferences(run):
    text = shown(run, "preferences")[1]
    assert "chosen" in text
    assert "rejected" in text
    assert "margin 0.500, 2 of 2 votes agreed" in text


def test_a_battle_is_shown_once_with_every_judges_decision(run):
    p, (a, b, _) = PROMPTS[0], REPLIES[PROMPTS[0].id]
    fields = {"prompt_id": p.id, "a": "policy", "b": "predecessor", "candidate_a": a.id, "candidate_b": b.id}
    battles = [
        Battle(**fields, judge="j2", outcome="a", margin=0.4),
        Battle(**fields, judge="j3", outcome=None, broken=("b",)),
    ]
    finished(run / "round-0" / "evaluate", {Battle: battles})
    text = shown(run, "battles")[1]
    assert text.count("reply 0 to question one") == 1
    assert "j2: policy, margin +0.400" in text
    assert "j3: undecided, broken: predecessor" in text


def test_what_is_not_there_is_an_error_that_says_what_is(run):
    with pytest.raises(StoreError, match=r"no battles; it can show candidates \(--stage data\), verdicts \("):
        shown(run, "battles")
    with pytest.raises(StoreError, match=r"no candidates for a prompt like 'unasked'; .* candidates in --stage data$"):
        shown(run, "candidates", matching="unasked")
    with pytest.raises(StoreError, match=r"judge has no candidates; there are candidates in --stage data$"):
        shown(run, "candidates", stage="judge")
    with pytest.raises(StoreError, match="no round"):
        shown(run / "nothing", "grades")


def test_a_damaged_table_is_not_shown(run):
    table = next((run / "round-0" / "data").glob("candidates-*.parquet"))
    table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(StoreError, match="damaged"):
        shown(run, "candidates")


def test_the_last_round_counts_as_numbers_not_as_words(tmp_path):
    for name in ("round-2", "round-10", "round-10-try-2", "round-9-try-11", "round-10-try-10"):
        (tmp_path / name).mkdir()
    assert last_round(tmp_path).name == "round-10-try-10"
    assert last_round(tmp_path / "round-2").name == "round-2"


def test_what_a_trainer_drew_for_itself_is_found_where_it_lies(tmp_path):
    """On policy, data only prepares prompts, judge labels nothing, and train keeps its draws with their grades."""
    of, first = tmp_path / "run" / "round-0", PROMPTS[0]
    a, b, _ = REPLIES[first.id]
    finished(of / "data", {Prompt: PROMPTS})
    finished(of / "judge", {})
    grade = Grade(prompt_id=first.id, candidate_id=a.id, judge="rules", score=0.25)
    finished(of / "train", {Candidate: [a, b], Grade: [grade]})
    verdict = Verdict(prompt_id=first.id, first=a.id, second=b.id, judge="near", winner="first", margin=0.5)
    finished(of / "evaluate", {Candidate: [a, b], Verdict: [verdict]})
    assert "(data has none: these candidates are of train)" in shown(tmp_path / "run", "candidates")[1]
    assert "rules: 0.250" in shown(tmp_path / "run", "grades")[1]
    assert "these verdicts are of evaluate" in shown(tmp_path / "run", "verdicts")[1]
    text = shown(tmp_path / "run", "candidates", stage="evaluate")[1]
    assert "reply 0 to question one" in text
    assert "has none" not in text
    with pytest.raises(StoreError, match=r"no preferences; it can show candidates \(--stage train, evaluate\)"):
        shown(tmp_path / "run", "preferences")
