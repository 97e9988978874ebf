"""Each usual form of a row becomes the record it should, by hand; each broken one says where and what."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dressage.protocols import Row
from dressage.records import Candidate, Message, Prompt
from dressage.sources._columns import candidate_of, example_of, pair_of, prompt_of
from dressage.sources._fields import json_value
from dressage.sources._rows import Columns, Opened, RowError, RowSettings, read, splits

TRAIN = splits(RowSettings(kind="test", split="train"))
ASK = {"role": "user", "content": "Why is the sea salty?"}
BRIEF = {"role": "system", "content": "Be brief."}
SALT = {"role": "assistant", "content": "Rivers carry salt."}
FISH = {"role": "assistant", "content": "Because of fish."}
SHAREGPT = [{"from": "human", "value": "Why is the sea salty?"}, {"from": "gpt", "value": "Rivers carry salt."}]
TALK = "\n\nHuman: Why is the sea salty?\n\nAssistant: Is it?\n\nHuman: Yes."


def row(**fields):
    return Row("mine.jsonl:17", fields)


def said(messages):
    return [(message.role, message.content) for message in messages]


def prompt(fields, **columns):
    return prompt_of(row(**fields), Columns(**columns), TRAIN)


# ---------------------------------------------------------------- prompts

ONE_TURN = [("user", "Why is the sea salty?")]
PROMPTS = [
    ({"prompt": "Why is the sea salty?"}, {}, ONE_TURN),
    ({"question": "Why is the sea salty?"}, {}, ONE_TURN),
    ({"text": "Why is the sea salty?"}, {}, ONE_TURN),
    ({"frage": "Why is the sea salty?"}, {"prompt": "frage"}, ONE_TURN),
    ({"instruction": "Translate.", "input": "Meer"}, {}, [("user", "Translate.\n\nMeer")]),
    ({"instruction": "Translate.", "input": ""}, {}, [("user", "Translate.")]),
    ({"instruction": "Translate."}, {}, [("user", "Translate.")]),
    ({"prompt": [ASK]}, {}, ONE_TURN),
    ({"messages": [BRIEF, ASK]}, {}, [("system", "Be brief."), *ONE_TURN]),
    ({"messages": [ASK, SALT, ASK]}, {}, [*ONE_TURN, ("assistant", "Rivers carry salt."), *ONE_TURN]),
    ({"conversations": SHAREGPT[:1]}, {}, ONE_TURN),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}, {}, [("user", "Hi")]),
    ({"turns": ["Why is the sea salty?", "And lakes?"]}, {}, ONE_TURN),
    ({"prompt": "Hm?", "brief": "Be brief."}, {"system": "brief"}, [("system", "Be brief."), ("user", "Hm?")]),
    ({"prompt": TALK}, {}, [*ONE_TURN, ("assistant", "Is it?"), ("user", "Yes.")]),
    ({"prompt": TALK + "\n\nAssistant:"}, {}, [*ONE_TURN, ("assistant", "Is it?"), ("user", "Yes.")]),
    ({"prompt": None, "question": "Why is the sea salty?"}, {}, ONE_TURN),
]


@pytest.mark.parametrize(("fields", "columns", "expected"), PROMPTS)
def test_each_form_of_a_prompt_becomes_the_same_messages(fields, columns, expected):
    assert said(prompt(fields, **columns).messages) == expected


def test_other_columns_survive_as_json_and_the_place_gives_the_source():
    when = datetime.datetime(2024, 5, 1, 12, 30)
    made = prompt({"prompt": "Hi", "when": when, "n": 3, "deep": {"a": [1, None]}, "gone": float("nan")})
    assert made.extra == {"when": "2024-05-01 12:30:00", "n": 3, "deep": {"a": [1, None]}, "gone": None}
    assert made.source == "mine.jsonl"
    assert Prompt.model_validate_json(made.model_dump_json()) == made


def test_bytes_arrays_and_infinities_become_json():
    import numpy as np

    assert json_value({1: b"abc", "x": np.array([1, 2]), "y": (float("inf"),)}) == {
        "1": "<3 bytes>",
        "x": [1, 2],
        "y": ["inf"],
    }


def test_later_turns_of_a_list_of_questions_are_kept():
    made = prompt({"turns": ["First?", "Second?"], "reference": ["one", "two"]})
    assert made.extra == {"turns": ["First?", "Second?"]}
    assert made.reference == "one"


def test_tags_come_once_each_from_category_topic_and_tags():
    made = prompt({"prompt": "Hi", "category": "sea", "topic": "salt", "tags": ["salt", "easy"], "label": 3})
    assert made.tags == ("sea", "salt", "easy")
    assert made.extra == {"label": 3}
    assert prompt({"prompt": "Hi", "category": "sea", "label": 3}, tags=["label"]).tags == ("3",)


def test_the_reference_is_its_column_or_the_one_that_is_named():
    assert prompt({"prompt": "2+2?", "reference": "4", "answer": "5"}).reference == "4"
    assert prompt({"prompt": "2+2?", "answer": 4.0}, reference="answer").reference == "4"
    assert prompt({"prompt": "2+2?", "answer": True}, reference="answer").reference == "true"
    unnamed = prompt({"prompt": "2+2?", "answer": "4"})
    assert (unnamed.reference, unnamed.extra) == (None, {"answer": "4"})


def test_a_final_reply_is_refused_kept_or_dropped_as_said():
    with pytest.raises(RowError, match=r"^mine\.jsonl:17: .*final_reply: reference"):
        prompt({"messages": [ASK, SALT]})
    kept = prompt({"conversations": SHAREGPT}, final_reply="reference")
    assert (said(kept.messages), kept.reference) == (ONE_TURN, "Rivers carry salt.")
    dropped = prompt({"messages": [ASK, SALT]}, final_reply="drop")
    assert (said(dropped.messages), dropped.reference) == (ONE_TURN, None)


def test_a_prompt_of_a_hundred_thousand_characters_is_accepted():
    assert len(prompt({"prompt": "x" * 100_000}).messages[0].content) == 100_000


@given(st.text(st.characters(exclude_categories=["Cs"])), st.dictionaries(st.text(), st.integers()))
def test_a_prompt_record_comes_back_from_its_own_columns(text, extra):
    made = Prompt.of(
        (Message(role="user", content="Q" + text),), source="s", split="dev", tags=("t",), reference=text, extra=extra
    )
    assert prompt_of(Row("x:1", made.model_dump(mode="json")), Columns(), TRAIN) == made


# ---------------------------------------------------------------- candidates and examples


def test_a_candidate_is_given_unless_a_column_names_its_model():
    asked, one = candidate_of(row(prompt="Hi", response="Hello."), Columns(), TRAIN)
    assert (one.text, one.model, one.prompt_id) == ("Hello.", "given", asked.id)
    other, two = candidate_of(row(prompt="Hi", output="Hello.", model="m7", score=2), Columns(), TRAIN)
    assert (two.model, other.id, other.extra) == ("m7", asked.id, {"score": 2})
    assert one.id != two.id
    _, three = candidate_of(row(prompt="Hi", completion="", writer=7), Columns(model="writer"), TRAIN)
    assert (three.text, three.model) == ("", "7")


def test_an_exported_candidate_keeps_how_it_was_drawn():
    asked = prompt({"prompt": [ASK]})
    drawn = Candidate.of(
        prompt_id=asked.id,
        messages=(Message(**SALT),),
        model="abc",
        token_ids=(5, 6),
        mask=(True, True),
        logprobs=(-0.5, -0.25),
        index=3,
        seed=11,
        temperature=0.7,
        top_p=1.0,
        finish="stop",
    )
    exported = {**drawn.model_dump(mode="json"), "prompt": [ASK]}
    assert candidate_of(row(**exported), Columns(), TRAIN) == (asked, drawn)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "Why is the sea salty?", "completion": "Rivers carry salt."},
        {"prompt": [ASK], "completion": [SALT]},
        {"prompt": [ASK], "response": [ASK, SALT]},
        {"question": "Why is the sea salty?", "answer": "Rivers carry salt."},
        {"messages": [ASK, SALT]},
        {"conversations": SHAREGPT},
        {"prompt": "Why is the sea salty?", "messages": [ASK, SALT]},
    ],
)
def test_each_form_of_an_example_becomes_the_same_records(fields):
    asked, reply = example_of(row(**fields), Columns(), TRAIN)
    assert (said(asked.messages), reply.text) == (ONE_TURN, "Rivers carry salt.")
    assert reply.prompt_id == asked.id


def test_of_a_longer_conversation_the_last_turn_is_learned():
    asked, reply = example_of(row(messages=[ASK, FISH, ASK, SALT]), Columns(), TRAIN)
    assert (len(asked.messages), reply.text) == (3, "Rivers carry salt.")


# ---------------------------------------------------------------- pairs

GOOD, BAD = "Rivers carry salt.", "Because of fish."
PAIRS = [
    ({"prompt": "Why is the sea salty?", "chosen": GOOD, "rejected": BAD}, 1),
    ({"question": "Why is the sea salty?", "response_chosen": GOOD, "response_rejected": BAD}, 1),
    ({"instruction": "Why is the sea salty?", "chosen_response": GOOD, "rejected_response": BAD}, 1),
    ({"prompt": [ASK], "chosen": [SALT], "rejected": [FISH]}, 1),
    ({"chosen": [ASK, SALT], "rejected": [ASK, FISH]}, 1),
    ({"prompt": "Why is the sea salty?", "chosen": [ASK, SALT], "rejected": [ASK, FISH]}, 1),
    ({"prompt": [ASK], "chosen": [ASK, SALT], "rejected": [ASK, FISH]}, 1),
    ({"prompt": [ASK], "chosen": [FISH, ASK, SALT], "rejected": [FISH, ASK, FISH]}, 3),
    ({"messages": [ASK, SALT], "chosen": [ASK, SALT], "rejected": [ASK, FISH]}, 1),
    ({"chosen": f"{TALK}\n\nAssistant: {GOOD}", "rejected": f"{TALK}\n\nAssistant: {BAD}"}, 3),
    ({"prompt": f"{TALK}\n\nAssistant:", "chosen": f" {GOOD}"[1:], "rejected": BAD}, 3),
]


@pytest.mark.parametrize(("fields", "turns"), PAIRS)
def test_each_form_of_a_pair_gives_prompt_and_two_replies(fields, turns):
    asked, chosen, rejected, margin = pair_of(row(**fields), Columns(), TRAIN)
    assert (chosen.text, rejected.text, margin) == (GOOD, BAD, 1.0)
    assert asked.messages[0].content == "Why is the sea salty?"
    assert len(asked.messages) == turns
    assert chosen.prompt_id == rejected.prompt_id == asked.id


@pytest.mark.parametrize(
    ("better", "worse", "span", "margin"), [(9, 7, 10, 0.2), (9, 7, 1, 1.0), (5, 5, 10, 0.0), (0.75, 0.5, 1, 0.25)]
)
def test_scores_become_a_margin_within_zero_and_one(better, worse, span, margin):
    fields = {"prompt": "Hi", "chosen": "a", "rejected": "b", "score_chosen": better, "score_rejected": worse}
    asked, _, _, got = pair_of(row(**fields), Columns(score_span=span), TRAIN)
    assert got == pytest.approx(margin)
    assert asked.extra == {}


def test_a_chosen_reply_that_scored_lower_is_a_bad_row_and_counted():
    fields = {"prompt": "Hi", "chosen": "a", "rejected": "b", "score_rejected": 8}
    with pytest.raises(RowError, match=r"^mine.jsonl:17: the chosen reply scored lower \('score_chosen' 2\) than"):
        pair_of(row(**fields, score_chosen=2), Columns(), TRAIN)
    source = Opened(lambda: iter([("p:1", {**fields, "score_chosen": 9}), ("p:2", {**fields, "score_chosen": 2})]))
    found = read(RowSettings(kind="test", max_bad_rows=0.5), source, convert=pair_of)
    assert (len(found.made), [error.place for error in found.bad]) == (1, ["p:2"])


@given(
    st.lists(st.sampled_from([ASK, SALT, FISH, BRIEF]), max_size=5),
    st.lists(st.text("ab", min_size=1), min_size=2, max_size=2, unique=True),
)
def test_what_both_conversations_share_is_the_prompt(shared, texts):
    shared = [*shared, ASK]
    good, bad = ({"role": "assistant", "content": text} for text in texts)
    asked, chosen, rejected, _ = pair_of(row(chosen=[*shared, good], rejected=[*shared, bad]), Columns(), TRAIN)
    assert [message.model_dump() for message in asked.messages] == shared
    assert [chosen.text, rejected.text] == texts


# ---------------------------------------------------------------- what is refused

REFUSED = [
    (prompt_of, {"promt": "Hi", "n": 1}, {}, "no prompt column", "did you mean 'promt'? (there is: promt, n)"),
    (prompt_of, {"Question": "Hi"}, {}, "no prompt column", "did you mean 'Question'?"),
    (prompt_of, {"prompt": "Hi"}, {"prompt": "Prompts"}, "names 'Prompts'", "did you mean 'prompt'?"),
    (prompt_of, {"prompt": ""}, {}, "the prompt is empty", "max_bad_rows"),
    (prompt_of, {"prompt": " \t\n\u200b"}, {}, "the prompt is empty or only blanks", ""),
    (prompt_of, {"messages": [ASK, {**SALT, "content": " "}, ASK]}, {}, "turn 2 (assistant) of the prompt", ""),
    (prompt_of, {"prompt": 42}, {}, "expected text or a list of messages, found a number", ""),
    (prompt_of, {"messages": []}, {}, "found an empty list", ""),
    (prompt_of, {"messages": [BRIEF]}, {}, "ends with the system's turn", "a prompt ends with a user's"),
    (prompt_of, {"messages": [{"role": "usr", "content": "Hi"}]}, {}, "role 'usr'", "did you mean 'user'?"),
    (prompt_of, {"messages": [{"role": "tool", "content": "Hi"}]}, {}, "turn 1 has the role 'tool'", ""),
    (prompt_of, {"messages": [{"role": "user", "content": None}]}, {}, "content of turn 1 is null", "only text"),
    (prompt_of, {"messages": [{"role": "user", "text": "Hi"}]}, {}, "turn 1 has role, text", "from and value"),
    (prompt_of, {"messages": ["Hi", 3]}, {}, "turn 1 is text, not an object", ""),
    (prompt_of, {"prompt": "Hi", "ref": {"a": 1}}, {"reference": "ref"}, "'ref' is an object", "text or a number"),
    (prompt_of, {"prompt": "Hi", "split": "tst"}, {}, "its split is 'tst'", "did you mean 'test'?"),
    (prompt_of, {"prompt": "Hi", "kind": {}}, {"tags": ["kind"]}, "'kind' is an object", "a tag is a word"),
    (prompt_of, {"prompt": "Hi", "sys": 3}, {"system": "sys"}, "'sys' is a number", "must be text"),
    (candidate_of, {"prompt": "Hi", "respons": "Hello"}, {}, "no response", "did you mean 'respons'?"),
    (candidate_of, {"messages": [ASK]}, {}, "no response", "'messages' ends with the user's turn"),
    (example_of, {"prompt": "Hi", "completion": " "}, {}, "reply to imitate is empty", ""),
    (example_of, {"prompt": "Hi", "completion": [SALT, ASK]}, {}, "exactly one assistant turn", "(assistant, user)"),
    (pair_of, {"prompt": "Hi", "chosen": "a"}, {}, "no rejected column", "columns: {rejected: …}"),
    (pair_of, {"prompt": "Hi", "chosen": "a", "rejected": "a"}, {}, "'chosen' and 'rejected' are the same", ""),
    (pair_of, {"prompt": "Hi", "chosen": "", "rejected": "a"}, {}, "the reply in 'chosen' is empty", "max_bad_rows"),
    (pair_of, {"chosen": "a", "rejected": "b"}, {}, "no prompt column", ""),
    (pair_of, {"chosen": [ASK, SALT, ASK, SALT], "rejected": [ASK, FISH]}, {}, "it adds 3", ""),
    (pair_of, {"prompt": "Moo", "chosen": [ASK, SALT], "rejected": [ASK, FISH]}, {}, "disagree", ""),
    (
        pair_of,
        {"prompt": "Hi", "chosen": "a", "rejected": "b", "score_chosen": 1},
        {},
        "only 'score_chosen' is there",
        "both scores or none",
    ),
    (
        pair_of,
        {"prompt": "Hi", "chosen": "a", "rejected": "b", "score_chosen": "9", "score_rejected": 1},
        {},
        "the score in 'score_chosen' is '9'",
        "",
    ),
]


@pytest.mark.parametrize(("convert", "fields", "columns", "problem", "way_out"), REFUSED)
def test_a_bad_row_names_its_place_what_is_wrong_and_the_way_out(convert, fields, columns, problem, way_out):
    with pytest.raises(RowError) as caught:
        convert(row(**fields), Columns(**columns), TRAIN)
    assert str(caught.value).startswith("mine.jsonl:17: ")
    assert caught.value.place == "mine.jsonl:17"
    assert problem in str(caught.value)
    assert way_out in str(caught.value)
