"""What a terminal shows after it was sent the output of `elastic ... --follow`: enough of one for that, and no more.

Rich's live picture moves the cursor up, erases lines and writes them anew; everything else is text with colours. A
sequence that is not known here is an error, so that a picture made from the lines cannot be wrong in silence.
"""

import re

_TOKEN = re.compile(r"\x1b\[(?P<arguments>[?0-9;]*)(?P<command>[A-Za-z])|(?P<control>[\r\n])|(?P<text>[^\x1b\r\n]+)")
_COLOUR = "m"
_CURSOR_UP = "A"
_ERASE_LINE = "K"
_MODES = "hl"
"""Showing and hiding the cursor: not seen in a picture."""


class Screen:
    """Lines of text with their colour sequences, as far back as the first."""

    def __init__(self) -> None:
        self._lines: list[str] = [""]
        self._row = 0

    @property
    def lines(self) -> list[str]:
        """All lines, without empty ones at the end."""
        last = max((i for i, line in enumerate(self._lines) if line.strip()), default=-1)
        return self._lines[: last + 1]

    def feed(self, output: str) -> None:
        """Take in output; raises ValueError at a sequence that is not known here."""
        position = 0
        for token in _TOKEN.finditer(output):
            if token.start() != position:
                break
            position = token.end()
            self._take(token)
        if position != len(output):
            raise ValueError(f"not known to this screen: {output[position : position + 20]!r}")

    def _take(self, token: "re.Match[str]") -> None:
        if token["text"]:
            self._lines[self._row] += token["text"]
        elif token["control"] == "\n":
            self._row += 1
            if self._row == len(self._lines):
                self._lines.append("")
        elif token["control"] == "\r":
            return  # what follows is an erased line or the next one; nothing here writes over half a line
        elif token["command"] == _COLOUR:
            self._lines[self._row] += token[0]
        elif token["command"] == _CURSOR_UP:
            self._row = max(0, self._row - int(token["arguments"] or "1"))
        elif token["command"] == _ERASE_LINE:
            self._lines[self._row] = ""
        elif token["command"] not in _MODES:
            raise ValueError(f"not known to this screen: {token[0]!r}")
