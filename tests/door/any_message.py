"""A ModelInferRequest that no library would write: fields in any order and number, some of them corrupted."""

from __future__ import annotations

import struct
from random import Random

# Message → field → its content: text, bytes, numbers (varint, or 4 or 8 bytes each), or another message.
FIELDS = {
    "request": {3: "text", 4: "parameters", 5: "input", 6: "output", 7: "bytes"},
    "input": {1: "text", 2: "text", 3: "varint", 4: "parameters", 5: "contents"},
    "output": {1: "text", 2: "parameters"},
    "parameters": {1: "text", 2: "parameter"},
    "parameter": {1: "varint", 2: "varint", 3: "text", 4: "eight", 5: "varint"},
    "contents": {1: "varint", 2: "varint", 3: "varint", 4: "varint", 5: "varint", 6: "four", 7: "eight", 8: "bytes"},
}
KINDS = [*FIELDS, "text", "bytes", "varint", "four", "eight"]
NUMBERS = [0, 1, 2, 9, 15, 16, 2**28, 2**29 - 1, 2**29]
VALUES = [2, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
TEXTS = [b"", b"a", b"top_k", "ä".encode(), b'"\\\0\n', b"\xff"]
ODD = 0.01  # the share of all fields


def any_message(random: Random) -> bytes:
    """For the model `alexnet`."""
    message = field(1, b"alexnet") + of("request", random, 0)
    for _ in range(random.choice([0, 0, 0, 1, 2])):
        at = random.randrange(len(message))
        after = at + random.randrange(4)
        message = random.choice(
            [
                message[:at] + bytes([message[at] ^ 1 << random.randrange(8)]) + message[at + 1 :],
                message[:at] + message[after:],
                message[:after] + message[at:],
                message[:at] + random.randbytes(2) + message[at:],
            ]
        )
        if not message:
            break
    return message


def of(kind: str, random: Random, depth: int) -> bytes:
    known = FIELDS[kind]
    numbers = [
        number for number in known for _ in range(random.choice([0, 1, 1, 2] if kind == "request" else [0, 1, 1]))
    ]
    if kind == "parameters" and random.random() > 10 * ODD:
        numbers = [1, 2]
    random.shuffle(numbers)
    return b"".join(
        one(
            random.choice(NUMBERS) if random.random() < ODD else number,
            random.choice(KINDS) if random.random() < ODD else known[number],
            random,
            depth,
        )
        for number in numbers
    )


def one(number: int, kind: str, random: Random, depth: int) -> bytes:
    """A field. Numbers are packed or not."""
    if kind in FIELDS:
        return field(number, of(kind, random, depth + 1) if depth < 8 else b"")
    if kind in ("text", "bytes"):
        return field(number, TEXTS[-1] if random.random() < ODD else random.choice(TEXTS[:-1]))
    code, size = {"varint": (0, 0), "eight": (1, 8), "four": (5, 4)}[kind]
    values = [
        random.choice(VALUES) if random.random() < ODD else random.randrange(2) for _ in range(random.randrange(3))
    ]
    written = [(value % 2 ** (8 * size)).to_bytes(size, "little") if size else varint(value) for value in values]
    if random.random() < 0.5:
        return field(number, b"".join(written))
    return b"".join(varint(number << 3 | code) + value for value in written)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """https://protobuf.dev/programming-guides/encoding/"""
    written = b""
    while value > 127:
        written, value = written + struct.pack("B", value & 127 | 128), value >> 7
    return written + struct.pack("B", value)
