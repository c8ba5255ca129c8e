"""``ferrio explain``: runs a program and tells the story of that run, one event per line.

    observer.py     hears from a loop what happens, as it happens
    steps.py        what a task does in a step
    recorder.py     turns that into events: plain dicts, with numbers for tasks and timers, and lines for places
    places.py       which line of whose code a frame or a coroutine is at
    waits.py        what a paused task waits for
    mistakes.py     what a program does against itself
    bill.py         the sums at the end
    sentences.py    from an event to its sentence
    reckoning.py    the wording of mistakes and of the bill
    story.py        the sentences on a terminal: layout, colours, folding
    output.py       the program's own output, in its place
    command.py      the command line

Nothing here may change what the program does: nothing of the user's is called, nothing is kept alive, no order changes.
"""
