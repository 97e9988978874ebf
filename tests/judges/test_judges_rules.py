"""Rules: every kind by examples counted by hand, and the weighted mean over them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from dressage.judges import rules
from dressage.judges._checks import Rule, substance_of
from dressage.judges._numbers import logistic, spread, weighted_mean, weighted_median, window
from dressage.maths import counting
from dressage.records import Message

ADAPTER = TypeAdapter(Rule)


def score(reply: str, prompt: str = "", **rule: object) -> float:
    return ADAPTER.validate_python(rule).score(reply, prompt)


# ---------------------------------------------------------------- sums


@pytest.mark.parametrize(("x", "expected"), [(5, 1.0), (10, 1.0), (12, 0.5), (14, 0.0), (20, 0.0), (4, 0.75), (1, 0.0)])
def test_a_window_falls_linearly_outside(x, expected):
    assert window(x, 5, 10, 4) == expected


def test_a_window_without_slack_has_hard_edges_and_null_opens_a_side():
    assert [window(x, 5, 10) for x in (4, 5, 10, 11)] == [0.0, 1.0, 1.0, 0.0]
    assert window(1e9, 5, None) == window(-1e9, None, 5) == 1.0


def test_weighted_sums_by_hand():
    assert weighted_mean([1.0, 0.0], [3, 1]) == 0.75
    assert weighted_median([0.1, 0.9, 0.5], [1, 1, 1]) == 0.5
    assert weighted_median([0.1, 0.9], [1, 1]) == 0.5
    assert weighted_median([0.1, 0.9], [1, 2]) == 0.9
    assert spread([0.0, 1.0], [1, 1]) == 0.5
    assert spread([0.4], [2]) == 0.0
    assert (logistic(0), logistic(800), logistic(-800)) == (0.5, 1.0, 0.0)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0.1, 5)), min_size=1, max_size=6))
def test_means_and_medians_lie_within_and_change_sign_with_their_values(pairs):
    values, weights = [v for v, _ in pairs], [w for _, w in pairs]
    for combine in (weighted_mean, weighted_median):
        found = combine(values, weights)
        assert min(values) <= found <= max(values)
        assert combine([-v for v in values], weights) == pytest.approx(-found, abs=1e-12)


# ---------------------------------------------------------------- counting


def test_words_and_sentences():
    assert counting.words("Don’t re-open it: 2 days!") == ["don't", "re-open", "it", "2", "days"]
    assert counting.sentences("Hi. How are you? Fine... I think") == 4
    assert counting.sentences("Mr. Smith, e.g. the one at 3.5 km, came.") == 1
    assert counting.sentences("Dear Ann\n\nIt is here.") == 2
    assert counting.sentences("") == counting.sentences("?!") == 0


SYLLABLES = {
    1: ["cat", "cake", "makes", "baked", "the", "bees", "42"],
    2: ["table", "boxes", "wanted", "refund", "sorry", "agree", "people"],
    3: ["understand", "remember"],
    4: ["delivery", "information"],
}


@pytest.mark.parametrize(("word", "count"), [(word, n) for n, listed in SYLLABLES.items() for word in listed])
def test_syllables(word, count):
    assert counting.syllables(word) == count


def test_reading_ease_by_hand():
    assert counting.reading_ease("The cat sat.") == pytest.approx(206.835 - 1.015 * 3 - 84.6)
    by_hand = 206.835 - 1.015 * 2.5 - 84.6 * 8 / 5
    assert counting.reading_ease("I am sorry. Refund agreed.") == pytest.approx(by_hand)
    assert counting.reading_ease(" … ") is None


def test_repeated_n_grams():
    items = ["a", "b", "c", "a", "b", "d"]
    assert counting.distinct(items, 2) == pytest.approx(4 / 5)
    assert counting.repeats(items, 2)
    assert not counting.repeats(items, 3)
    assert counting.repeats(["a", "a", "a"], 2)
    assert counting.distinct(["a"], 2) == 1.0


# ---------------------------------------------------------------- rules on form


def test_length_window_in_each_unit():
    reply = "One two three. Four five."
    assert score(reply, rule="length_window", least=5, most=5) == 1.0
    assert score(reply, rule="length_window", least=7, slack=4) == 0.5
    assert score(reply, rule="length_window", unit="sentences", least=2, most=3) == 1.0
    assert score(reply, rule="length_window", unit="sentences", least=3, most=3) == 0.0
    assert score(reply, rule="length_window", unit="characters", most=20, slack=10) == 0.5


WHOLE = ["Done.", "Done!  ", 'He said "yes."', "**Bye!**", "Thanks! 😊", "好。"]
BROKEN_OFF = ["and then we", "Steps:", "a,", "", "😊"]


@pytest.mark.parametrize(("reply", "clean"), [(r, 1) for r in WHOLE] + [(r, 0) for r in BROKEN_OFF])
def test_ends_cleanly(reply, clean):
    assert score(reply, rule="ends_cleanly") == clean


@pytest.mark.parametrize(
    ("reply", "layout"),
    [
        ("# Title\nx", "headers"),
        ("Title\n-----\nx", "headers"),
        ("- one\n- two", "lists"),
        ("1. one", "lists"),
        ("a **bold** word", "emphasis"),
        ("| a | b |", "tables"),
        ("run `ls`", "code"),
        ("see https://a.example", "links"),
        ("see [this](page)", "links"),
        ("Dear [Your Name],", "placeholders"),
        ("order {{order_id}}", "placeholders"),
        ("call <insert number>", "placeholders"),
        ("call XXX-XXX", "placeholders"),
        ("nice 🙂", "emoji"),
    ],
)
def test_format_finds_each_layout(reply, layout):
    assert score(reply, rule="format", without=[layout]) == 0.0
    others = ["headers", "lists", "emphasis", "tables", "code", "links", "placeholders", "emoji"]
    assert score(reply, rule="format", without=[o for o in others if o != layout]) == 1.0


def test_plain_prose_passes_the_format():
    prose = "It costs 3 - 4 pounds [see below], i.e. 2 * 2. It's #1; call me.\nYours - Ann"
    assert score(prose, rule="format") == 1.0


def test_readability_uses_the_window():
    assert score("The cat sat.", rule="readability", least=60) == 1.0
    ease = 206.835 - 1.015 * 3 - 84.6
    assert score("The cat sat.", rule="readability", least=60, most=ease - 5, slack=20) == pytest.approx(0.75)
    assert score("", rule="readability") == 0.0


def test_repetition():
    assert score("one two three four five", rule="repetition") == 1.0
    four_of_five = "a b c a b d"
    assert score(four_of_five, rule="repetition", distinct_2=0.9, slack=0.2) == pytest.approx(0.5)
    assert score(four_of_five, rule="repetition", distinct_2=0.5, longest=1) == 0.0
    assert score(four_of_five, rule="repetition", distinct_2=0.5, longest=2) == 1.0


def test_language_counts_letters_only():
    assert score("Hello, 123 😊!", rule="language") == 1.0
    assert score("abcд", rule="language", share=0.75) == 1.0
    assert score("abcд", rule="language", share=0.95, slack=0.4) == pytest.approx(0.5)
    assert score("привет", rule="language", script="cyrillic") == 1.0
    assert score("café", rule="language", script="ascii", share=1) == 0.0
    assert score("café", rule="language", script="latin", share=1) == 1.0
    assert score("12", rule="language") == 0.0


# ---------------------------------------------------------------- rules on words


def test_must_contain():
    reply = "I’m SORRY\nabout the delay; it took 3 days."
    assert score(reply, rule="must_contain", phrases=["i'm sorry about"]) == 1.0
    assert score(reply, rule="must_contain", phrases=["sorr", "lay"]) == 0.0
    assert score(reply, rule="must_contain", phrases=["sorry", "refund"], need="all") == 0.0
    found = score(reply, rule="must_contain", phrases=["sorry", "refund"], patterns=[r"\d+ days?", "^it"], need="share")
    assert found == 0.5


def test_must_not_contain():
    reply = "As an AI, I cannot say."
    assert score(reply, rule="must_not_contain", phrases=["as an ai"]) == 0.0
    assert score(reply, rule="must_not_contain", phrases=["a"]) == 1.0
    listed = {"phrases": ["as an ai", "please"], "patterns": ["cannot|can't", "zzz"]}
    assert score(reply, rule="must_not_contain", forgives="share", **listed) == 0.5


def test_opening():
    assert score("Hi there, Ann", rule="opening", wanted=["hello", "hi"]) == 1.0
    assert score("His name", rule="opening", wanted=["hello", "hi"]) == 0.0
    assert score("**Certainly!** Yes", rule="opening", unwanted=["certainly"]) == 0.0
    assert score("Hi. Certainly!", rule="opening", wanted=["hi"], unwanted=["certainly"]) == 1.0


def test_question():
    assert score("Which one? Why?!", rule="question", most=1) == 0.0
    assert score("Which one? Why??", rule="question", most=2) == 1.0
    assert score("Which one", rule="question", least=1) == 0.0


def test_second_person():
    assert score("you and your dog", rule="second_person", least=0.1, most=0.5) == 1.0
    assert score("you and your dog", rule="second_person", least=0, most=0.4, slack=0.2) == pytest.approx(0.5)
    assert score("nobody here", rule="second_person", least=0.02, slack=0.02) == 0.0


def test_prompt_overlap():
    prompt = "Where is my blue parcel from London?"
    assert score("The blue parcel left.", prompt, rule="prompt_overlap", least=0.6) == 1.0
    assert score(prompt, prompt, rule="prompt_overlap", most=0.8, slack=0.4) == pytest.approx(0.5)
    assert score("Hello", prompt, rule="prompt_overlap", least=0.2, slack=0.1) == 0.0
    assert score("Hello", "Why me?", rule="prompt_overlap", least=0.2) == 1.0


def test_concreteness():
    assert score("Call us in 2 days please ok", rule="concreteness", least=3 / 7) == 1.0
    assert score("Call us in 2 days please ok", rule="concreteness", least=6 / 7) == pytest.approx(0.5)
    assert score("soon", rule="concreteness") == 0.0
    assert score("soon", rule="concreteness", words=["Soon"]) == 1.0


# ---------------------------------------------------------------- the judge


def test_the_score_is_the_weighted_mean_with_every_rule_recorded(ballot, tools):
    settings = rules.Settings.model_validate(
        {
            "rules": [
                {"check": {"rule": "ends_cleanly"}, "weight": 3},
                {"check": {"rule": "question", "least": 1}},
                {"check": {"rule": "must_contain", "phrases": ["parcel"]}, "weight": 0, "name": "topic"},
            ]
        }
    )
    judge = rules.open(settings, tools=tools())
    assert judge.ask(ballot("x")) == ()
    rating = judge.read(ballot("Your parcel is late."), [])
    assert rating.score == 0.75
    assert rating.criteria == {"ends_cleanly": 1.0, "question": 0.0, "topic": 1.0}


def test_rules_see_what_a_user_sees(ballot, tools):
    forbids = {"check": {"rule": "must_not_contain", "phrases": ["refund"]}}
    judge = rules.open(rules.Settings.model_validate({"rules": [forbids]}), tools=tools())
    assert judge.read(ballot("No re\u200bfund."), []).score == 0.0
    assert judge.read(ballot("<think>refund?</think>No."), []).score == 1.0


def test_the_prompt_of_a_rule_is_the_last_user_message(ballot, tools):
    settings = rules.Settings.model_validate({"rules": [{"check": {"rule": "prompt_overlap", "least": 1, "most": 1}}]})
    judge = rules.open(settings, tools=tools())
    earlier = (Message(role="user", content="My bike broke"), Message(role="assistant", content="Which bike?"))
    shown = ballot("parcel")
    assert judge.read(shown.model_copy(update={"messages": (*earlier, *shown.messages)}), []).score == 1.0


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"rule": "must_contain", "patterns": ["("]}, "no regular expression"),
        ({"rule": "must_contain"}, "empty list"),
        ({"rule": "must_contain", "phrases": [" "]}, "empty phrase"),
        ({"rule": "length_window", "least": 5, "most": 4}, "window from 5 to 4 is empty"),
        ({"rule": "question"}, "every reply passes"),
        ({"rule": "lenght"}, "length_window"),
        ({"rule": "ends_cleanly", "weight": 2}, "weight"),
    ],
)
def test_a_bad_rule_is_a_settings_error(given, problem):
    with pytest.raises(ValidationError, match=problem):
        rules.Settings.model_validate({"rules": [{"check": given}]})


def test_weights_of_zero_and_doubled_names_are_settings_errors():
    check = {"rule": "ends_cleanly"}
    with pytest.raises(ValidationError, match="sum to 0"):
        rules.Settings.model_validate({"rules": [{"check": check, "weight": 0}]})
    with pytest.raises(ValidationError, match="two criteria are called ends_cleanly"):
        rules.Settings.model_validate({"rules": [{"check": check}, {"check": check}]})


def test_substance_names_kinds_and_word_lists():
    def of(**rule: object) -> str:
        return substance_of(ADAPTER.validate_python(rule))

    assert of(rule="ends_cleanly") == "rule:ends_cleanly"
    assert of(rule="length_window", least=3) == of(rule="length_window", least=9) == "rule:length_window"
    one = of(rule="must_contain", phrases=["sorry", "Thanks"])
    assert one.startswith("rule:must_contain:")
    assert one == of(rule="must_contain", phrases=["thanks", "sorry"], need="all")
    assert one != of(rule="must_contain", phrases=["thanks"])
    counted = {"check": {"rule": "ends_cleanly"}}
    shown = {"check": {"rule": "language"}, "weight": 0}
    settings = rules.Settings.model_validate({"rules": [counted, shown]})
    assert settings.substance() == {"rule:ends_cleanly"}


ALL = [
    {"rule": "length_window", "least": 3, "most": 9, "slack": 2},
    {"rule": "ends_cleanly"},
    {"rule": "format", "without": ["headers", "lists", "emphasis", "tables", "code", "links", "placeholders", "emoji"]},
    {"rule": "readability"},
    {"rule": "repetition"},
    {"rule": "language"},
    {"rule": "must_contain", "phrases": ["a"], "patterns": ["b+"]},
    {"rule": "must_not_contain", "phrases": ["a"], "forgives": "share"},
    {"rule": "opening", "wanted": ["a"], "unwanted": ["b"]},
    {"rule": "question", "most": 1},
    {"rule": "second_person"},
    {"rule": "prompt_overlap"},
    {"rule": "concreteness"},
]


@given(st.text(max_size=200), st.text(max_size=60))
def test_every_rule_scores_every_text_within_0_and_1(reply, prompt):
    for rule in ALL:
        assert 0 <= score(reply, prompt, **rule) <= 1


@pytest.mark.parametrize("filler", ["[", "{", "*", "=", ".", "\n", "| ", "- ", "`", "_", "a ", "ab", "?", "<your "])
def test_no_reply_slows_the_rules_down(filler):
    reply = filler * (20_000 // len(filler)) + "x"
    start = time.perf_counter()
    for rule in ALL:
        score(reply, "prompt", **rule)
    assert time.perf_counter() - start < 2
