"""Drawing candidates: seeds from names, failures that are no replies, paid replies from the journal."""

import json
from pathlib import Path
from typing import Any

from engine_parts import Bar, prompt, scripted

from dressage.engines.sampling import Drawn, Role, draw
from dressage.protocols import Sampling
from dressage.records import Prompt
from dressage.seeds import seed_for
from dressage.store import Journal

PROMPTS = [prompt(f"question {i}") for i in range(4)]
HOT = Sampling(temperature=1.0)


def drawn(
    tmp_path: Path,
    prompts: list[Prompt],
    *,
    names: tuple[object, ...] = (0, "data", 0),
    bar: Bar | None = None,
    **model: Any,
) -> Drawn:
    role = Role("policy", scripted(**{"says": "{seed}", **model}), names)
    journal = Journal(tmp_path / "journal.jsonl")
    return draw(role, prompts, per_prompt=2, sampling=HOT, journal=journal, advance=bar or Bar())


def test_every_draw_has_the_seed_of_its_names(tmp_path: Path) -> None:
    candidates = drawn(tmp_path, PROMPTS).candidates
    assert [(c.prompt_id, c.index) for c in candidates] == [(p.id, i) for p in PROMPTS for i in range(2)]
    for c in candidates:
        assert c.seed == seed_for(0, "data", 0, "policy", c.prompt_id, c.index)
        assert c.text == str(c.seed)


def test_order_and_company_change_nothing(tmp_path: Path) -> None:
    whole = {c.id: c for c in drawn(tmp_path, PROMPTS).candidates}
    parts = [*drawn(tmp_path, PROMPTS[2:][::-1]).candidates, *drawn(tmp_path, PROMPTS[:2]).candidates]
    assert {c.id: c for c in parts} == whole


def test_another_stage_round_or_role_draws_other_noise(tmp_path: Path) -> None:
    texts = [
        {c.text for c in drawn(tmp_path, PROMPTS, names=names).candidates}
        for names in ((0, "data", 0), (1, "data", 0), (0, "evaluate", 0), (0, "data", 1))
    ]
    assert len(set().union(*texts)) == 4 * 8


def test_a_failed_draw_is_a_failure_and_no_empty_reply(tmp_path: Path) -> None:
    bar = Bar()
    found = drawn(tmp_path, PROMPTS, bar=bar, fails=1.0)
    assert found.candidates == []
    assert {(f.side, f.reason, f.judge) for f in found.failures} == {
        ("infrastructure", "scripted failure", "sampling: policy")
    }
    assert len(found.failures) == bar.total == 8


def test_paid_replies_are_drawn_once_even_after_a_crash(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    before = drawn(tmp_path, PROMPTS[:3], paid=True, log=str(log))
    bar = Bar()
    after = drawn(tmp_path, PROMPTS, bar=bar, paid=True, log=str(log))
    assert after.candidates[:6] == before.candidates
    assert len([json.loads(line) for line in log.read_text().splitlines()]) == 8
    assert bar.total == 8


def test_how_it_was_drawn_is_written_down(tmp_path: Path) -> None:
    (one, _) = drawn(tmp_path, PROMPTS[:1]).candidates
    writer = scripted(says="{seed}").fingerprint
    assert (one.temperature, one.top_p, one.finish, one.model) == (1.0, 1.0, "stop", writer)


def test_half_a_surrogate_pair_becomes_a_replacement_character(tmp_path: Path) -> None:
    assert {c.text for c in drawn(tmp_path, PROMPTS[:1], says="a\ud800b").candidates} == {"a\ufffdb"}
