"""Seeds and nonces are functions of names alone."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dressage.seeds import nonce_for, seed_for

names = st.lists(st.one_of(st.integers(), st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]))), max_size=5)


@given(names)
def test_a_seed_has_63_bits(these: list[object]) -> None:
    assert 0 <= seed_for(*these) < 2**63


@given(names, names)
def test_other_names_other_seed(these: list[object], those: list[object]) -> None:
    spelt = ["\x1f".join(map(str, some)) for some in (these, those)]
    assert (seed_for(*these) == seed_for(*those)) == (spelt[0] == spelt[1])


def test_the_order_and_the_borders_of_names_count() -> None:
    assert seed_for("ab", "c") != seed_for("a", "bc")
    assert seed_for("a", "b") != seed_for("b", "a")
    assert seed_for(0, "data", "policy", 0, "p", 1) != seed_for(0, "evaluate", "policy", 0, "p", 1)


def test_seeds_and_nonces_are_the_same_in_every_process(tmp_path: Path) -> None:
    code = "from dressage.seeds import *; print(seed_for(1, 'data', 'ü'), nonce_for('s', 'p'))"
    source = str(Path(__file__).parents[1] / "src")
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": source, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert said == {f"{seed_for(1, 'data', 'ü')} {nonce_for('s', 'p')}\n"}


def test_known_values_do_not_move() -> None:
    """Changing these changes every run ever made; sha256 of `0␟data␟policy`, first 8 bytes, halved."""
    digest = hashlib.sha256(b"0\x1fdata\x1fpolicy").digest()
    assert seed_for(0, "data", "policy") == int.from_bytes(digest[:8], "big") // 2


def test_a_nonce_needs_the_secret() -> None:
    assert len(nonce_for("secret", "p")) == 8
    assert nonce_for("secret", "p") != nonce_for("other", "p")
    assert nonce_for("secret", "p") != nonce_for("secret", "q")
    assert nonce_for("secret", "p") == nonce_for("secret", "p")
