"""Server-sent events out of the bytes of one response. Pure; used after the load has ended."""

from __future__ import annotations

from collections.abc import Iterator

_BOM = b"\xef\xbb\xbf"
_DATA = b"data: "


def events(raw: bytes) -> Iterator[tuple[bytes, int]]:
    """(data, end) of each event; ``end`` counts the bytes up to and with the last one of its data.

    As the standard has it: lines end in LF, CRLF or CR; ``data`` lines of one event are joined by
    LF; comments and other fields are left out. Unlike the standard, an event that the end of the
    response cuts off is still given: some servers leave the last blank line away.
    """
    start = len(_BOM) if raw.startswith(_BOM) else 0
    if b"\r" in raw:
        yield from _from_lines(_any_lines(raw, start))
        return
    # Nearly every server sends one line of data and one empty line; a block that is not so, and a
    # newline more than that, go the long way.
    at = start
    for block in raw[start:].split(b"\n\n"):
        if block.startswith(_DATA) and b"\n" not in block:
            yield block[6:], at + len(block)
        elif block:
            yield from _from_lines(_lf_lines(raw, at, at + len(block)))
        at += len(block) + 2


def _lf_lines(raw: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int]]:
    while start < stop:
        end = raw.find(b"\n", start, stop)
        end = stop if end < 0 else end
        yield raw[start:end], end
        start = end + 1


def _any_lines(raw: bytes, start: int) -> Iterator[tuple[bytes, int]]:
    for line in raw[start:].splitlines(keepends=True):  # bytes split at LF, CR and CRLF only
        text = line.rstrip(b"\r\n")
        yield text, start + len(text)
        start += len(line)


def _from_lines(lines: Iterator[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    data: list[bytes] = []
    data_end = 0
    for line, end in lines:
        if not line:
            if data:
                yield b"\n".join(data), data_end
                data = []
        elif line.startswith(b"data:"):
            data.append(line[6:] if line.startswith(_DATA) else line[5:])
            data_end = end
    if data:
        yield b"\n".join(data), data_end
