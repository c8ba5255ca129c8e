"""What ferrio's versions of asyncio's classes have in common."""

from abc import ABCMeta

from ._ferrio import adopt_methods


class Native(ABCMeta):
    """The class of a class that stands for one of asyncio's: asyncio's own instances count as its instances.

    Programs and libraries that have taken ``asyncio.Queue`` from ferrio (see ``install()``) meet queues that somebody made
    before. An ABCMeta, so that a user's class may combine such a class with an abstract one.

    Native methods call each other directly. A subclass with its own version of one that asyncio's code would call by name
    (``_virtual`` lists those) is marked, and its instances go asyncio's way.
    """

    _virtual = ()

    def __init__(cls, name, bases, namespace, **keywords):
        super().__init__(name, bases, namespace, **keywords)
        cls._follows_methods = False
        for base in cls.__mro__:
            if "_virtual" in vars(base):
                break
            if "_stands_for" not in vars(base) and not vars(base).keys().isdisjoint(cls._virtual):
                cls._follows_methods = True

    def __instancecheck__(cls, instance):
        return cls.__subclasscheck__(type(instance)) or super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass):
        original = cls.__dict__.get("_stands_for")
        return type.__subclasscheck__(cls, subclass) or (original is not None and issubclass(subclass, original))


def stands_for(original):
    """A decorator: the class takes the place of ``original``, one of asyncio's and among its bases."""

    def decorate(cls):
        cls._stands_for = original
        cls.__doc__ = original.__doc__
        adopt_methods(cls)
        return cls

    return decorate


class Stateful:
    """Copies and pickles as asyncio's own classes do: everything is in attributes. ``_kept`` names the native ones."""

    __slots__ = ()

    def __getstate__(self):
        return {**self.__dict__, **{name: getattr(self, name) for name in self._kept}}

    def __setstate__(self, state):
        for name, value in state.items():
            setattr(self, name, value)
