"""The record of a program's own process: switched on and saved from within; and what is not imported without being asked."""

import asyncio
import os
import subprocess
import sys

import ferrio
from ferrio import observe
from ferrio.flight import log, steps


def test_the_record_can_be_switched_on_and_saved(tmp_path):
    async def main():
        before = observe.level("flight")
        await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        kept = observe.dump(tmp_path / "it.xlog")
        assert observe.level("pulse") == "flight"
        return before, kept

    before, kept = ferrio.run(main())
    assert before == "pulse" and kept > 3
    saved = log.load(tmp_path / "it.xlog")
    assert len(saved.records) == kept and saved.process["pid"] == os.getpid()
    assert steps.understand(saved).steps


def test_without_a_page_nothing_can_be_saved(tmp_path):
    program = "from ferrio import observe\nobserve.dump('it.xlog')"
    environment = os.environ | {"FERRIO_PAGE": "off"}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30
    )
    assert "OSError: this process has no page" in ran.stderr


def test_nothing_is_imported_that_nobody_asked_for():
    program = """
import asyncio, sys, ferrio, threading
ferrio.run(asyncio.sleep(0.01))
wanted = [name for name in sys.modules if name.startswith(("ferrio.observe", "ferrio.flight"))]
print(wanted, threading.active_count(), [name for name in sys.modules if "opentelemetry" in name or "prometheus" in name])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert ran.stdout == "[] 1 []\n", ran.stderr
