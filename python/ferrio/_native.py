"""What ferrio's versions of asyncio's classes have in common."""

from abc import ABCMeta


class Native(ABCMeta):
    """The class of a class that stands for one of asyncio's: asyncio's own instances count as its instances.

    Programs and libraries that have taken ``asyncio.Queue`` from ferrio (see ``install()``) meet queues that somebody made
    before. An ABCMeta, so that a user's class may combine such a class with an abstract one.
    """

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
        return cls

    return decorate
