"""What a run has spent outlives stages and crashes, and is kept per endpoint."""

import pytest

from dressage.accounts import Accounts
from dressage.records import Usage
from dressage.store import StoreError


def test_who_opens_the_accounts_again_finds_what_was_booked(tmp_path):
    path = tmp_path / "run" / "spending.jsonl"
    one = Accounts(path).of("here#m")
    one.book(Usage(read=10, written=2, cost=0.5))
    one.book(Usage(read=1, written=1))
    one.suspect(Usage(read=33, written=8))
    Accounts(path).of("there#m").book(Usage(read=7))
    again = Accounts(path).of("here#m")
    assert again.spent == Usage(read=11, written=3, cost=0.5)
    assert again.unseen == Usage(read=33, written=8)
    assert Accounts(path).of("there#m").spent == Usage(read=7)


def test_two_names_of_one_endpoint_have_one_account(tmp_path):
    accounts = Accounts(tmp_path / "spending.jsonl")
    assert accounts.of("here#m") is accounts.of("here#m")
    assert not (tmp_path / "spending.jsonl").exists()  # nothing was spent, nothing is written


def test_a_line_torn_by_a_crash_is_dropped_and_nothing_is_written_behind_it(tmp_path):
    path = tmp_path / "spending.jsonl"
    Accounts(path).of("here#m").book(Usage(read=10))
    with path.open("a") as file:
        file.write('{"endpoint": "here#m", "re')
    Accounts(path).of("here#m").book(Usage(read=5))
    assert Accounts(path).of("here#m").spent == Usage(read=15)


def test_a_damaged_file_is_named_with_the_way_out(tmp_path):
    path = tmp_path / "spending.jsonl"
    path.write_text("not json\n")
    with pytest.raises(StoreError, match=r"spending\.jsonl is damaged .*lower max_cost"):
        Accounts(path).of("here#m")
