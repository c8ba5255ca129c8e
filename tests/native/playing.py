"""Random programs on a lock or a queue, played with asyncio's own classes and with ferrio's: the records must be the same.

A program is a list of moves, each a tuple: ``("start", method, *arguments)`` makes a task that awaits the method, ``("call", method,
*arguments)`` calls it, ``("cancel", number)`` cancels one of the tasks, ``("turn",)`` lets the loop turn once. The record says what every
move came to, in what order the tasks ended and how, what the object said of itself in between, and what the loop reported.
"""

import asyncio
import contextlib

import ferrio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

#: Where a program is played beside asyncio on asyncio's loop.
STAGES = [(ferrio, asyncio.SelectorEventLoop), (ferrio, ferrio.new_event_loop), (asyncio, ferrio.new_event_loop)]

#: Moves that any program has.
COMMON = [
    st.tuples(st.just("turn")),
    st.tuples(st.just("turn")),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
]


def programs(*moves):
    """Programs of these moves and of the common ones."""
    return st.lists(st.one_of(*moves, *COMMON), max_size=40)


def start(method, *arguments):
    return st.tuples(st.just("start"), st.just(method), *arguments)


def call(method, *arguments):
    return st.tuples(st.just("call"), st.just(method), *arguments)


def compare(make, look, program, setting=st.none()):  # noqa: B008
    """A test: every program does the same everywhere.

    :param make: makes the object to play on, from the namespace and a value of the strategy ``setting``.
    :param look: what the object says of itself.
    """

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(program, setting)
    def test(program, setting):
        records = [record(make, look, *stage, program, setting) for stage in [(asyncio, STAGES[0][1]), *STAGES]]
        assert records[1:] == [records[0]] * len(STAGES)

    return test


def record(make, look, namespace, new_loop, program, setting):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(play(make(namespace, setting), look, program))


async def play(subject, look, program):
    lines, tasks = [], []

    def report(loop, context):
        # When a future is collected whose exception nobody has asked for, is the collector's affair.
        if not context["message"].endswith("exception was never retrieved"):
            lines.append(context["message"])

    asyncio.get_running_loop().set_exception_handler(report)

    async def follow(number, method, arguments):
        try:
            lines.append((number, "returns", await getattr(subject, method)(*arguments)))
        except BaseException as error:
            lines.append((number, "raises", type(error).__name__, error.args, type(error.__context__).__name__))

    for what, *details in program:
        if what == "turn":
            await asyncio.sleep(0)
        elif what == "cancel" and tasks:
            lines.append(tasks[details[0] % len(tasks)].cancel(f"number {details[0]}"))
        elif what == "start":
            tasks.append(asyncio.ensure_future(follow(len(tasks), details[0], details[1:])))
        elif what == "call":
            try:
                lines.append(getattr(subject, details[0])(*details[1:]))
            except Exception as error:
                lines.append((type(error).__name__, error.args))
        lines.append(look(subject))
    # Whoever still waits is told to go, and what is left then is seen.
    for again in range(3):
        for task in tasks:
            task.cancel(f"at last {again}")
        for _ in range(6):
            await asyncio.sleep(0)
        lines.append(look(subject))
    # (Whoever has to take a lock again cannot be cancelled.)
    for _ in range(100):
        if all(task.done() for task in tasks):
            break
        with contextlib.suppress(RuntimeError):
            subject.release()
        await asyncio.sleep(0)
    lines.append([task.done() for task in tasks])
    return lines
