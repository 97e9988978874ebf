"""The items of the package: enough, independent, well formed, and none that gives itself away."""

import hashlib
import json
import math
import re
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from dressage.probes._banks import FOLDER, ItemError, bank, digest, distinct, read
from dressage.probes._items import (
    Check,
    Deception,
    Empathy,
    Fact,
    Feedback,
    Opinion,
    Persona,
    Premise,
    Request,
    Unanswerable,
    within,
)
from dressage.sources.builtin import FOLDER as BUILTIN

ROOT = Path(__file__).parents[2]
KINDS = [Fact, Premise, Opinion, Feedback, Unanswerable, Deception, Request, Empathy, Persona]
ASKED = {
    Fact: ("question",),
    Premise: ("question",),
    Opinion: ("question", "believer", "doubter"),
    Feedback: ("text",),
    Unanswerable: ("question",),
    Deception: ("question", "ask", "role"),
    Request: ("prompt",),
    Empathy: ("message",),
    Persona: ("style", "prompt"),
}
"""The fields that a model is shown, besides the options."""
HAVE_A_RIGHT_ONE = [Fact, Premise, Deception]
"""Kinds in which one option is true: which one must not be told by looks."""


def named(kind):
    return kind.__name__


def bag(text):
    return frozenset(re.findall(r"\w+(?:['’]\w+)*", text.lower()))


def likeness(one, two):
    return len(one & two) / len(one | two)


def fact(**other):
    fields = {"id": "fact-moon", "cluster": "moon", "category": "astronomy", "letter": "B", "level": "easy"}
    return {**fields, "question": "What circles us?", "right": "the Moon", "wrong": "the Sun", **other}


# ---------------------------------------------------------------- how many


def test_there_are_enough_of_each():
    requests = bank(Request)
    assert len(bank(Fact)) >= 220
    assert min(len(bank(kind)) for kind in (Premise, Opinion, Feedback, Empathy, Persona)) >= 60
    assert len(bank(Deception)) >= 200
    assert len(bank(Unanswerable)) >= 40
    assert sum(r.safe for r in requests) >= 120
    assert sum(not r.safe for r in requests) >= 100


@pytest.mark.parametrize(
    "kinds", [(Fact, Premise, Opinion, Feedback), (Deception,), (Fact, Unanswerable), (Request,)], ids=len
)
def test_each_probe_that_gates_has_two_hundred_clusters(kinds):
    assert len({item.cluster for kind in kinds for item in bank(kind)}) >= 200


def test_facts_are_of_many_fields_and_of_every_level():
    assert min(Counter(f.level for f in bank(Fact)).values()) >= 40
    assert len({f.category for f in bank(Fact)}) >= 20


def test_some_lies_are_about_common_knowledge_and_some_about_what_is_given():
    given = sum(item.given is not None for item in bank(Deception))
    assert min(given, len(bank(Deception)) - given) >= 60


# ---------------------------------------------------------------- independent


def test_ids_are_unique_over_all_banks_and_carry_their_cluster():
    items = [item for kind in KINDS for item in bank(kind)]
    assert len({item.id for item in items}) == len(items)
    assert all(item.id.endswith(f"-{item.cluster}") for item in items)


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_no_two_items_of_a_bank_share_a_cluster(kind):
    assert max(Counter(item.cluster for item in bank(kind)).values()) == 1


def test_a_fact_that_several_banks_use_is_one_cluster():
    shared = {item.cluster for item in bank(Fact)} & {item.cluster for item in bank(Premise)}
    assert {"titanic-year", "sistine-ceiling"} <= shared


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_no_two_items_ask_nearly_the_same(kind):
    for field in ASKED[kind]:
        bags = [(bag(getattr(item, field)), item.id) for item in bank(kind)]
        for (one, first), (two, second) in combinations(bags, 2):
            assert likeness(one, two) <= 0.65, (first, second, field)


def written(value):
    """Every text in what a YAML file holds."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from written(inner)
    elif isinstance(value, str):
        yield value


def test_nothing_that_is_trained_on_is_asked():
    rows = [*BUILTIN.glob("*.jsonl"), *(ROOT / "configs").rglob("*.jsonl")]
    texts = [
        text for file in rows for line in file.read_text("utf-8").splitlines() for text in written(json.loads(line))
    ]
    texts += [text for file in (ROOT / "configs").rglob("*.yaml") for text in written(yaml.safe_load(file.read_text()))]
    trained = [(bag(text), text) for text in set(texts) if len(text.split()) > 3]
    assert len(trained) > 1000
    holding = defaultdict(list)
    for known in trained:
        for word in known[0]:
            holding[word].append(known)
    for kind in KINDS:
        for item in bank(kind):
            mine = bag(getattr(item, ASKED[kind][0]))
            # What shares over 0.6 of its words holds one of any 0.4 and one more of them: the rarest find it fast.
            rarest = sorted(mine, key=lambda word: len(holding[word]))[: len(mine) * 4 // 10 + 1]
            for other, text in (known for word in rarest for known in holding[word]):
                assert likeness(mine, other) <= 0.6, (item.id, text)


def test_the_search_for_what_is_trained_on_can_find_it():
    asked = next(iter(bank(Premise)))
    assert likeness(bag(asked.question), bag(asked.question.upper() + " Why?")) > 0.6


# ---------------------------------------------------------------- no giveaways

BANKS = [(kind, None) for kind in KINDS if kind is not Request] + [(Request, True), (Request, False)]


def chosen(kind, safe):
    return [item for item in bank(kind) if safe is None or item.safe == safe]


@pytest.mark.parametrize(("kind", "safe"), BANKS, ids=str)
def test_letters_are_balanced_in_every_category(kind, safe):
    tally = Counter((item.category, item.letter) for item in chosen(kind, safe))
    assert all(abs(tally[category, "A"] - tally[category, "B"]) <= 1 for category, _ in tally)
    assert abs(sum(n if letter == "A" else -n for (_, letter), n in tally.items())) <= 2


@pytest.mark.parametrize(("kind", "safe"), BANKS, ids=str)
def test_the_key_is_neither_the_longer_nor_the_shorter(kind, safe):
    items = [item for item in chosen(kind, safe) if (kind, item.category) != (Persona, "length")]
    over = [len(item.key) - len(item.foil) for item in items]
    for item, difference in zip(items, over, strict=True):
        assert abs(difference) <= max(5, 0.25 * len(item.key)), item.id
    assert abs(sum(over) / len(over)) < 1
    longer, shorter = sum(d > 0 for d in over), sum(d < 0 for d in over)
    assert abs(longer - shorter) <= 2.5 * math.sqrt(longer + shorter)


def told_apart(pairs):
    """How often naive Bayes over the words that differ finds the key, trained on all pairs but the one it guesses."""
    split = [(bag(key) - bag(foil), bag(foil) - bag(key)) for key, foil in pairs]
    in_keys = Counter(word for key, _ in split for word in key)
    in_foils = Counter(word for _, foil in split for word in foil)
    found = 0.0
    for key, foil in split:
        leaning = sum(math.log((in_keys[w] - 0.5) / (in_foils[w] + 0.5)) for w in key)
        leaning -= sum(math.log((in_keys[w] + 0.5) / (in_foils[w] - 0.5)) for w in foil)
        found += 0.5 if leaning == 0 else float(leaning > 0)
    return found / len(split)


@pytest.mark.parametrize("kind", HAVE_A_RIGHT_ONE, ids=named)
def test_which_option_is_true_cannot_be_told_by_its_words(kind):
    assert told_apart([(item.key, item.foil) for item in bank(kind)]) < 0.6


def test_the_giveaway_test_can_fail():
    assert told_apart([(item.abstains, item.invents) for item in bank(Unanswerable)]) > 0.9


@pytest.mark.parametrize("kind", [Fact, Unanswerable], ids=named)
def test_no_question_holds_one_of_its_options(kind):
    for item in bank(kind):
        assert not within(item.key, item.question), item.id
        assert not within(item.foil, item.question), item.id


def test_safe_and_unsafe_requests_are_answered_in_the_same_words():
    openings = [Counter(_opening(item) for item in chosen(Request, safe)) for safe in (True, False)]
    assert set(openings[0]) == set(openings[1])
    assert all(max(tally.values()) < 0.2 * sum(tally.values()) for tally in openings)


def _opening(item):
    return item.comply.partition(" help you ")[0], item.refuse.partition(" help you ")[0]


def test_an_evasive_statement_gives_neither_option():
    for item in bank(Deception):
        assert likeness(bag(item.evasive), bag(item.honest)) < 0.4, item.id
        assert likeness(bag(item.evasive), bag(item.lie)) < 0.4, item.id


# ---------------------------------------------------------------- persona


def test_every_check_holds_for_the_reply_in_style_and_not_for_the_other():
    for item in bank(Persona):
        assert item.check.holds(item.kept), item.id
        assert not item.check.holds(item.broken), item.id


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        ({"words": (2, 3)}, "two words", "these are four words"),
        ({"sentences": (2, 2)}, "One. Two.", "One, two."),
        ({"lines": (2, 2)}, "a\n\nb", "a b"),
        ({"case": "lower"}, "it is 5 pm", "It is 5 pm"),
        ({"case": "upper"}, "STOP", "Stop"),
        ({"has": ("^well",)}, " Well, no", "Oh well"),
        ({"hasnt": (",",)}, "a b", "a, b"),
        ({"words": (1, 9), "hasnt": ("!",)}, "yes", "yes!"),
    ],
)
def test_a_check_looks_at_what_it_names(check, good, bad):
    assert Check(**check).holds(good)
    assert not Check(**check).holds(bad)


def test_a_check_that_looks_at_nothing_or_cannot_be_read_is_refused():
    with pytest.raises(ValidationError, match="must name something"):
        Check()
    with pytest.raises(ValidationError, match=r"'\(' is no regular expression"):
        Check(has=("(",))


# ---------------------------------------------------------------- reading


def test_options_stand_under_their_letters():
    item = Fact(**fact())
    assert (item.key, item.foil) == ("the Moon", "the Sun")
    assert item.lettered() == {"A": "the Sun", "B": "the Moon"}
    assert Fact(**fact(letter="A")).lettered() == {"A": "the Moon", "B": "the Sun"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"wrong": "The  moon"}, "say the same"),
        ({"accepted": ["Sun"]}, "hold one another"),
        ({"right": "the Sun and the Moon"}, "hold one another"),
        ({"question": " What?"}, "without blanks"),
        ({"letter": "C"}, "letter"),
        ({"colour": "red"}, "colour"),
        ({"id": "Fact 1"}, "id"),
    ],
)
def test_an_item_that_is_none_is_refused_with_its_line_and_field(tmp_path, changes, told):
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps(fact()) + "\n\n" + json.dumps(fact(**changes)) + "\n", "utf-8")
    with pytest.raises(ItemError, match=rf"mine\.jsonl:3: .*{told}"):
        list(read(Fact, file))


def test_a_file_of_ones_own_is_read_and_broken_json_is_named(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps(fact()), "utf-8")
    assert [item.id for item in read(Fact, file)] == ["fact-moon"]
    file.write_text('{"id": ', "utf-8")
    with pytest.raises(ItemError, match=r"mine\.jsonl:1: broken JSON at column 8"):
        list(read(Fact, file))


def test_an_id_that_comes_twice_is_refused():
    with pytest.raises(ItemError, match="'fact-moon' comes twice"):
        distinct([Fact(**fact()), Fact(**fact(letter="A"))])


def test_the_digest_is_over_all_files_of_a_kind():
    by_hand = hashlib.sha256()
    for stem in ("safe", "unsafe"):
        by_hand.update(f"{stem}\n".encode() + (FOLDER / f"{stem}.jsonl").read_bytes())
    assert digest(Request) == by_hand.hexdigest() != digest(Fact)


def test_every_packaged_file_is_some_bank_s():
    assert {file.stem for file in FOLDER.iterdir()} == {stem for kind in KINDS for stem in kind.files}


def test_reading_the_items_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from dressage.probes._banks import bank\n"
        "from dressage.probes._items import Fact\n"
        "bank(Fact)\n"
        "print(*({'torch', 'transformers', 'numpy', 'scipy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
