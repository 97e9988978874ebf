"""The prompts of the package: enough, all different, with references where there is a right answer."""

import re
import subprocess
import sys
from collections import Counter
from itertools import combinations

import pytest
from pydantic import ValidationError

from dressage.plugins import open_kind
from dressage.sources._columns import prompt_of
from dressage.sources._rows import deduplicated, read
from dressage.sources.builtin import Settings, all_categories

CATEGORIES = {
    "customer_service",
    "hard_feelings",
    "advice",
    "explanation",
    "factual",
    "creative",
    "planning",
    "rewriting",
    "reasoning",
    "false_premises",
}


def prompts(**fields):
    settings = Settings(**fields)
    return read(settings, open_kind(settings), convert=prompt_of).made


def words(prompt):
    return frozenset(re.findall(r"\w+", prompt.messages[-1].content.lower()))


@pytest.fixture(scope="module")
def everything():
    return prompts()


def test_all_ten_categories_parse_and_hold_at_least_five_hundred(everything):
    assert set(all_categories()) == CATEGORIES
    assert {prompt.tags[0] for prompt in everything} == CATEGORIES
    assert len(everything) >= 500


def test_no_prompt_comes_twice(everything):
    assert deduplicated(everything)[1] == 0


def test_no_two_prompts_of_a_category_are_nearly_the_same(everything):
    for category in CATEGORIES:
        bags = [(words(prompt), prompt) for prompt in everything if prompt.tags[0] == category]
        for (one, first), (two, second) in combinations(bags, 2):
            assert len(one & two) <= 0.8 * len(one | two), (first.messages, second.messages)


def test_splits_by_content_are_disjoint_and_near_their_shares(everything):
    shares = {"train": 0.7, "dev": 0.1, "test": 0.2}
    counts = Counter(prompt.split for prompt in everything)
    for split, share in shares.items():
        spread = (share * (1 - share) / len(everything)) ** 0.5
        assert abs(counts[split] / len(everything) - share) < 4 * spread
    ids = {split: {prompt.id for prompt in everything if prompt.split == split} for split in shares}
    assert all(not ids[one] & ids[two] for one, two in combinations(shares, 2))


def test_every_prompt_has_topic_and_tone_and_what_has_an_answer_has_it(everything):
    for prompt in everything:
        assert len(prompt.tags) == 2
        assert set(prompt.extra) == {"tone"}
        if prompt.tags[0] in ("factual", "reasoning", "false_premises"):
            assert prompt.reference, prompt.messages


def test_categories_can_be_chosen_and_the_limit_spreads_over_each_file():
    made = prompts(categories=["customer_service", "advice"], limit=4)
    assert Counter(prompt.tags[0] for prompt in made) == {"advice": 4, "customer_service": 4}
    whole = [prompt.id for prompt in prompts(categories=["advice"])]
    size = len(whole)
    assert [prompt.id for prompt in made[:4]] == [whole[at * size // 4] for at in range(4)]
    assert len(prompts(categories=["advice"], limit=10_000)) == size


def test_an_unknown_category_is_refused_with_a_guess():
    with pytest.raises(ValidationError, match=r"no category 'advise'; did you mean 'advice'\?"):
        Settings(categories=["advise"])
    with pytest.raises(ValidationError):
        Settings(categories=[])


def test_content_names_only_the_chosen_files():
    one, all_of_them = Settings(categories=["advice"]).content(), Settings().content()
    assert [name for name, _ in one["files"]] == ["builtin/advice.jsonl"]
    assert len(all_of_them["files"]) == 10


def test_settings_of_every_source_load_without_heavy_libraries():
    code = (
        "import sys\n"
        "from dressage.plugins import kinds, settings_of\n"
        "[settings_of('sources', kind) for kind in kinds('sources')]\n"
        "heavy = {'torch', 'datasets', 'transformers', 'numpy', 'pandas', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(*kinds('sources'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["builtin", "hub", "jsonl", "python"]), done.stderr
