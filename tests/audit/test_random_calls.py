"""`random_calls.py` for a moment: no crash, no panic, nothing left behind."""

import pytest

from .programs import run_program

SEEDS = range(1, 5)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_calls_leave_everything_as_it_was(seed):
    run_program(f"from tests.audit import random_calls; raise SystemExit(random_calls.main({seed}, 1, 80))")


def test_the_soak_of_the_leak_check_runs():
    assert run_program("from tests.audit import soak; soak.main(2)") == "2 rounds\n"
