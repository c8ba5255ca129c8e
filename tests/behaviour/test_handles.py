"""Handles of callbacks: `cancel` works on every one, and lets go of what it held."""

import weakref

import pytest


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2), (1, 2, 3, 4, 5)], ids=len)
@pytest.mark.parametrize("how", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_cancel_works_on_every_handle(loop, how, arguments):
    ran = []
    schedule = {
        "call_soon": loop.call_soon,
        "call_soon_threadsafe": loop.call_soon_threadsafe,
        "call_later": lambda *a: loop.call_later(0.001, *a),
        "call_at": lambda *a: loop.call_at(loop.time() + 0.001, *a),
    }[how]
    handle = schedule(lambda *a: ran.append(a), *arguments)
    assert handle.cancelled() is False
    handle.cancel()
    handle.cancel()
    assert handle.cancelled() is True
    kept = schedule(lambda *a: ran.append(("kept", *a)), *arguments)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert ran == [("kept", *arguments)]
    assert kept.cancelled() is False


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("how", ["call_soon", "call_soon_threadsafe", "call_later", "call_later inf"])
def test_cancel_drops_callback_and_arguments(loop, how, count):
    class Thing:
        def __call__(self, *args):
            pass

    things = [Thing() for _ in range(count + 1)]
    dead = [weakref.ref(thing) for thing in things]
    if how.startswith("call_later"):
        handle = loop.call_later(float("inf") if "inf" in how else 60, *things)
    else:
        handle = getattr(loop, how)(*things)
    things.clear()
    assert all(ref() is not None for ref in dead)
    handle.cancel()
    assert [ref() for ref in dead] == [None] * (count + 1)
