"""Constraints: each check by a text that keeps to it and one that does not, counted by hand; bombs; what is refused."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dressage.maths import counting
from dressage.plugins import open_kind, settings_of
from dressage.toolbox import Result, Tool

CONSTRAINTS: Tool = open_kind(settings_of("tools", "constraints")(kind="constraints"), name="constraints")


def asked(text: str, check: str, **arguments: Any) -> Result:
    return CONSTRAINTS.call({"text": text, "checks": [{"check": check, **arguments}]})


def row(text: str, check: str, **arguments: Any) -> dict[str, Any]:
    found = asked(text, check, **arguments)
    assert found.failed is None, found.text
    (only,) = found.data["checks"]  # type: ignore[misc, union-attr]
    return only  # type: ignore[return-value]


THREE = "One two three. Four five!\n\nIs it six-seven?"
LIST = "Here you go:\n- pear\n- Apple pie\n- quince, 12 of them\n\nDone."
NUMBERED = "1. ten 10\n2) two 2\n3. seven 7"


@pytest.mark.parametrize(
    ("text", "check", "arguments", "passed", "found"),
    [
        (THREE, "length", {"unit": "words", "least": 8, "most": 8}, True, 8),
        (THREE, "length", {"unit": "words", "most": 7}, False, 8),
        (THREE, "length", {"unit": "sentences", "least": 3, "most": 3}, True, 3),
        (THREE, "length", {"unit": "paragraphs", "least": 2, "most": 2}, True, 2),
        (THREE, "length", {"unit": "lines", "least": 3}, False, 2),
        ("abc de", "length", {"unit": "characters", "least": 6, "most": 6}, True, 6),
        ("", "length", {"unit": "words", "most": 0}, True, 0),
        ("one\n\n***\n\ntwo", "length", {"unit": "paragraphs", "least": 2, "most": 2}, True, 2),
        ("a, b, c", "count", {"what": "commas", "most": 0}, False, 2),
        ("a; b", "count", {"what": "commas", "most": 0}, True, 0),
        ("What?! Why?? So.", "count", {"what": "questions", "least": 2, "most": 2}, True, 2),
        ("Wow! Yes!!", "count", {"what": "exclamation_marks", "most": 2}, False, 3),
        ("NASA and ESA say I am OK", "count", {"what": "capital_words", "least": 3, "most": 3}, True, 3),
        (LIST, "count", {"what": "list_items", "least": 3, "most": 3}, True, 3),
        (NUMBERED, "count", {"what": "list_items", "least": 3, "most": 3}, True, 3),
        ("# A\ntext\n## B", "count", {"what": "headers", "least": 2, "most": 2}, True, 2),
        ("**a** and **b**", "count", {"what": "bold", "least": 3}, False, 2),
        ("1,200 men, -3.5 and 7", "count", {"what": "numbers", "least": 3, "most": 3}, True, 3),
        ("|a|b|\n|---|---|\n|1|2|", "count", {"what": "tables", "least": 1, "most": 1}, True, 1),
        ("```py\nx\n```\n\n```\ny\n```", "count", {"what": "code_blocks", "least": 2, "most": 2}, True, 2),
        ("fine 🎉🎉", "count", {"what": "emoji", "least": 2, "most": 2}, True, 2),
        ("Dear [Your Name], see http://x.org", "count", {"what": "placeholders", "least": 1, "most": 1}, True, 1),
        (LIST, "each", {"of": "list_items", "most": 4}, True, [1, 2, 4]),
        (LIST, "each", {"of": "list_items", "most": 3}, False, [1, 2, 4]),
        ("no list", "each", {"of": "list_items", "most": 9}, False, []),
        (LIST, "sorted", {}, False, None),
        ("- apple\n- Pear\n- quince", "sorted", {}, True, None),
        (NUMBERED, "sorted", {"by": "number"}, False, None),
        ("a 10\nb 7\nc 7\nd -2", "sorted", {"of": "lines", "by": "number", "descending": True}, True, None),
        ("- one", "sorted", {}, None, None),
        ("- a 1\n- none", "sorted", {"by": "number"}, None, None),
        ("- a\n- B\n- A", "distinct", {}, False, ["a"]),
        ("the cat saw a dog", "distinct", {"of": "words"}, True, []),
        ("all small 1", "case", {"style": "lower"}, True, 0),
        ("ALL Caps", "case", {"style": "upper"}, False, 3),
        ("123", "case", {"style": "upper"}, False, 0),
        ("plain words.", "plain", {}, True, []),
        ("**so** and\n- so", "plain", {}, False, ["lists", "emphasis"]),
        ("a [link](http://x)", "plain", {"without": ["links"]}, False, ["links"]),
        ("We Ship on Tuesdays.", "phrases", {"phrases": ["ship", "tuesdays"]}, True, None),
        ("shipping", "phrases", {"phrases": ["ship"], "need": "any"}, False, None),
        ("We ship.", "phrases", {"phrases": ["sorry", "ship"], "need": "none"}, False, None),
        ("The cat, the dog, there", "occurs", {"phrase": "the", "least": 2, "most": 2}, True, 2),
        ("Mississippi", "occurs", {"phrase": "s", "inside_words": True, "least": 4, "most": 4}, True, 4),
        ("strawberry", "occurs", {"phrase": "R", "inside_words": True, "most": 2}, False, 3),
        ('"Dear Ann, hello', "starts", {"phrase": "dear ann"}, True, None),
        ("Dearest", "starts", {"phrase": "dear"}, False, None),
        ("dear Ann", "starts", {"phrase": "Dear", "exact": True}, False, None),
        ("One.\n\nTwo here.", "starts", {"phrase": "two", "paragraph": 2}, True, None),
        ("One.", "starts", {"phrase": "two", "paragraph": 2}, False, None),
        ("Yours, Ben.", "ends", {"phrase": "Ben."}, True, None),
        ("Is there more?**", "ends", {"phrase": "is there more?"}, True, None),
        ("bye", "ends", {"phrase": "Bye", "exact": True}, False, None),
        ("first a, then b, then c", "in_order", {"phrases": ["a", "b", "c"]}, True, None),
        ("b then a", "in_order", {"phrases": ["a", "b"]}, False, None),
        ("on 2024-02-29.", "matches", {"pattern": r"\d{4}-\d{2}-\d{2}"}, True, 1),
        ("on 2024-02-29.", "matches", {"pattern": r"\d{4}-\d{2}-\d{2}", "whole": True}, False, 0),
        ("<<A>> and <<B>>", "matches", {"pattern": "<<[^<>]+>>", "times": 1}, False, 2),
        ("none", "matches", {"pattern": "x", "times": 0}, True, 0),
        ('{"a": 1}', "json", {}, True, None),
        ('```json\n{"a": 1}\n```', "json", {}, True, None),
        ('```json\n{"a": 1}\n```', "json", {"fence": False}, False, None),
        ('Here: {"a": 1}', "json", {}, False, None),
        ("{'a': 1}", "json", {}, False, None),
        ('{"a": NaN}', "json", {}, False, None),
        ("[" * 9000 + "]" * 9000, "json", {}, False, None),
        ("Привет, мир", "script", {"script": "cyrillic"}, True, 0),
        ("Привет, world", "script", {"script": "cyrillic"}, False, 5),
        ("1 2 3", "script", {"script": "latin"}, None, None),
    ],
)
def test_each_check_by_hand(text: str, check: str, arguments: dict[str, Any], passed: object, found: object) -> None:
    looked = row(text, check, **arguments)
    assert looked["passed"] is passed, looked["said"]
    if found is not None:
        assert looked["found"] == found


def test_where_the_way_of_counting_decides_it_is_said() -> None:
    text = "A well-known state-of-the-art idea"  # 4 words; 8 with the parts apart; 4 between blanks
    looked = row(text, "length", most=5)
    assert looked["passed"] is True
    assert looked["said"] == ("4 words, wanted at most 5 (8 with each part of a hyphenated word, which would not hold)")
    assert "would" not in row(text, "length", most=9)["said"]
    assert "5 without blanks, which would hold" in row("abc de", "length", unit="characters", most=5)["said"]


SCHEMA = {
    "type": "object",
    "required": ["name", "age"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "uniqueItems": True, "items": {"$ref": "#/$defs/tag"}},
    },
    "$defs": {"tag": {"enum": ["a", "b", 1]}},
}


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ('{"name": "Ann", "age": 3, "tags": ["a", "b"]}', 0),
        ('{"name": "ann", "age": 3}', 1),
        ('{"name": "Ann", "age": -1, "more": 1}', 2),
        ('{"name": "Ann"}', 1),
        ('{"name": "Ann", "age": 1.5}', 1),
        ('{"name": "Ann", "age": 1, "tags": ["a", "a"]}', 1),
        ('{"name": "Ann", "age": 1, "tags": [1, 1.0]}', 1),
        ('{"name": "Ann", "age": 1, "tags": ["z"]}', 1),
        ("[]", 1),
    ],
)
def test_json_and_its_schema(text: str, faults: int) -> None:
    looked = row(text, "json", json_schema=SCHEMA)
    assert looked["passed"] is (faults == 0)
    assert len(looked["found"] or []) == faults


def test_a_schema_reaches_nothing_outside_itself() -> None:
    for ref in ("http://192.0.2.1/x.json", "file:///etc/passwd", "#/$defs/none"):
        found = asked("{}", "json", json_schema={"$ref": ref})
        assert found.failed == "arguments"
        assert f"refers to {ref.removeprefix('#')!r}" in found.text
    assert "refers to itself" in asked("{}", "json", json_schema={"$ref": "#"}).text
    assert "the schema is none" in asked("{}", "json", json_schema={"type": "objekt"}).text


@pytest.mark.parametrize(
    ("text", "language", "passed"),
    [
        ("Das Haus ist rot, und der Hund schläft im Garten unter dem Baum.", "de", True),
        ("The house is red and the dog is asleep in the garden under the tree.", "de", False),
        ("La maison est rouge et le chien dort dans le jardin sous l'arbre.", "fr", True),
        ("ok", "en", None),
        ("12345", "en", None),
    ],
)
def test_the_language_is_told_or_it_is_said_that_it_cannot_be(text: str, language: str, passed: object) -> None:
    assert row(text, "language", language=language)["passed"] is passed


def test_a_check_that_cannot_be_made_is_neither_passed_nor_failed_and_the_others_are_made() -> None:
    checks = [{"check": "language", "language": "qqq"}, {"check": "length", "most": 3}]
    found = CONSTRAINTS.call({"text": "one two", "checks": checks})
    assert found.failed is None
    assert [r["passed"] for r in found.data["checks"]] == [None, True]  # type: ignore[union-attr, index, call-overload]
    head, first, second = found.text.splitlines()
    assert (head, second) == ("1 of 2 hold, 1 cannot be decided", "2. length holds: 2 words, wanted at most 3")
    assert first.startswith("1. language cannot be decided: 'qqq' is no language")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"text": "x"}, "checks: Field required"),
        ({"text": "x", "checks": []}, "checks: "),
        ({"text": "x", "checks": [{"check": "lenght"}]}, "checks.0: "),
        ({"text": "x", "checks": [{"check": "length"}]}, "give `least`, `most` or both"),
        ({"text": "x", "checks": [{"check": "length", "least": 3, "most": 2}]}, "at least 3 and at most 2"),
        ({"text": "x", "checks": [{"check": "count", "what": "comas", "most": 0}]}, "checks.0.count.what"),
        ({"text": "x", "checks": [{"check": "phrases", "phrases": ["  "]}]}, "an empty phrase"),
        ({"text": "x", "checks": [{"check": "matches", "pattern": "("}]}, "'(' is no regular expression"),
        ({"text": "x", "checks": [{"check": "matches", "pattern": "(" * 400 + ")" * 99}]}, "no regular expression"),
        ({"text": "x" * 100_001, "checks": [{"check": "length", "most": 2}]}, "text: "),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], named: str) -> None:
    found = CONSTRAINTS.call(arguments)
    assert found.failed == "arguments"
    assert named in found.text


NESTED: dict[str, Any] = {"$defs": {"d0": {"type": "object"}}, "$ref": "#/$defs/d24"}
for _n in range(1, 25):
    NESTED["$defs"][f"d{_n}"] = {"allOf": [{"$ref": f"#/$defs/d{_n - 1}"}] * 2}


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("x" * 5000, {"check": "matches", "pattern": "(x+x+)+y"}),
        ("=a" * 300, {"check": "matches", "pattern": "(.*)*=(.*)*=(.*)*x"}),
        ("{}", {"check": "json", "json_schema": NESTED}),
        (f'"{"x" * 5000}"', {"check": "json", "json_schema": {"pattern": "(x+x+)+y"}}),
        (f'{{"{"x" * 5000}": 1}}', {"check": "json", "json_schema": {"patternProperties": {"(x+x+)+y": {}}}}),
    ],
)
def test_bombs_end_at_the_deadline(text: str, check: dict[str, Any]) -> None:
    hurried = open_kind(settings_of("tools", "constraints")(kind="constraints", seconds=0.3), name="constraints")
    start = time.process_time()
    found = hurried.call({"text": text, "checks": [check]})
    assert found.failed == "deadline"
    assert time.process_time() - start < 8


LONG = ["a" * 100_000, "- " * 50_000, "#\n" * 50_000, "[" * 100_000, "\n \n" * 33_000, "*_" * 50_000]


@pytest.mark.parametrize("text", LONG)
def test_long_texts_take_no_time(text: str) -> None:
    marks = ("headers", "tables", "links", "list_items", "placeholders", "bold", "emoji")
    checks: list[dict[str, Any]] = [{"check": "count", "what": what, "most": 3} for what in marks]
    checks += [{"check": "length", "unit": unit, "most": 3} for unit in ("words", "sentences", "paragraphs", "lines")]
    checks += [{"check": "json"}, {"check": "plain"}, {"check": "distinct", "of": "lines"}]
    start = time.process_time()
    assert CONSTRAINTS.call({"text": text, "checks": checks}).failed is None
    assert time.process_time() - start < 4


def test_many_equal_items_are_compared_in_linear_time() -> None:
    items = ", ".join(f'[{n}, "x"]' for n in range(6000))
    start = time.process_time()
    assert row(f"[{items}]", "json", json_schema={"uniqueItems": True})["passed"] is True
    assert time.process_time() - start < 3


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_sentences_are_as_many_as_their_texts_and_lose_no_word(text: str) -> None:
    pieces = counting.sentence_texts(text)
    assert counting.sentences(text) == len(pieces)
    assert [w for p in pieces for w in counting.words(p)] == counting.words(text)


def test_the_same_text_is_looked_at_the_same_way_each_time() -> None:
    one, two = (asked(LIST, "distinct", of="words").model_dump(exclude={"seconds"}) for _ in range(2))
    assert one == two
