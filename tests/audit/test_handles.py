"""Handles used in ways that no program should use them: nothing may crash."""

from .programs import run_program

PRELUDE = "import ferrio\nloop = ferrio.new_event_loop()\n"


def test_running_a_handle_again_after_it_has_run_does_nothing():
    program = """
    handle = loop.call_soon(print, "once")
    loop.call_soon(loop.stop)
    loop.run_forever()
    handle._run()
    loop.close()
    """
    assert run_program(program, prelude=PRELUDE) == "once\n"


def test_a_callback_that_runs_its_own_handle_keeps_its_arguments():
    program = """
    class Argument:
        runs = 0

        def __str__(self):
            Argument.runs += 1
            if Argument.runs == 1:
                handle._run()
                garbage = [bytes(size) for size in range(64, 2000)]
            return f"{Argument.runs}"

    loop.set_exception_handler(lambda loop, context: None)
    handle = loop.call_soon(print, Argument(), Argument())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    """
    assert run_program(program, prelude=PRELUDE) == "1 2\n"


def test_a_long_chain_of_handles_is_freed():
    program = """
    soon = later = None
    for _ in range(300_000):
        soon = loop.call_soon(print, soon)
        later = loop.call_later(1000, print, later)
    loop.close()
    del soon, later
    print("freed")
    """
    assert run_program(program, prelude=PRELUDE) == "freed\n"


def test_a_chain_through_other_objects_is_freed_with_its_weak_references():
    program = """
    import weakref

    gone = []
    handle = None
    references = []
    for number in range(100_000):
        handle = loop.call_soon(print, [(handle,)])
        references.append(weakref.ref(handle, lambda reference: gone.append(1)))
    loop.close()
    del handle
    print(len(gone), {reference() for reference in references})
    """
    assert run_program(program, prelude=PRELUDE) == "100000 {None}\n"
