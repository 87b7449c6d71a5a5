"""Code that is set in by four blanks, as Markdown has it.

Knows lines, one after the other. It does not know fences: whoever asks leaves out what stands in them.
"""

from __future__ import annotations

DEEP = 4


class IndentedCode:
    """Tells whether the next line is code. Within a list it never is: there the blanks belong to an item.

    When in doubt it is none: what is taken for code by mistake loses its references.
    """

    def __init__(self) -> None:
        self._may_begin = False
        self._in_list = False

    def blank(self) -> None:
        """An empty line: code may begin behind it."""
        self._may_begin = True

    def is_code(self, margin: str, first: str) -> bool:
        """Of a line with this white space before its first letter."""
        deep = len(margin.expandtabs(DEEP)) >= DEEP
        code = deep and self._may_begin and not self._in_list and first not in "`~"
        if not code:
            self._in_list = first in "-*+" or first.isdigit() or (self._in_list and bool(margin))
        self._may_begin = code
        return code

    def takes(self, line: str) -> bool:
        """The same of a whole line."""
        text = line.lstrip()
        if not text:
            self.blank()
            return False
        return self.is_code(line[: len(line) - len(text)], text[0])
