"""As much of the Protocol Buffers wire format as writing needs: https://protobuf.dev/programming-guides/encoding/"""

import struct


def varint(value):
    """An unsigned number, seven bits a byte."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(*fields):
    """The fields one after the other."""
    return b"".join(fields)


def number(field, value):
    """A uint, an enum or a bool; an int64 that may be negative, in 64 bits."""
    return varint(field << 3) + varint(value & 0xFFFFFFFFFFFFFFFF)


def fixed64(field, value):
    return varint(field << 3 | 1) + struct.pack("<Q", value)


def block(field, content):
    """A message, or bytes."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def text(field, content):
    return block(field, content.encode("utf-8", "replace"))
