"""Supervised pairs from docstrings: an interactive session, and what its last statement prints."""

import doctest
import re
from collections.abc import Iterator

from windtunnel.data.pairs import Pair

# Together, with the separator, within the 128 tokens that small models of bytes are trained on.
PROMPT_BYTES = 80
COMPLETION_BYTES = 46

# Nothing to learn: what was elided, blank lines, errors, and addresses, which no two runs share.
_UNTOLD = re.compile(r"\s*(?:\.\.\.|<BLANKLINE>|\s)*\Z|Traceback|.*\b0x[0-9a-fA-F]{6,}", re.DOTALL)


class Doctests:
    """Remembers statements with their outputs, and gives each of them once."""

    def __init__(self) -> None:
        self._parser = doctest.DocTestParser()
        self._seen: set[tuple[str, str]] = set()

    def of(self, docstring: str) -> Iterator[Pair]:
        """The pairs of a docstring that were not given before.

        A prompt is the docstring's session up to a statement, cut at a line's beginning to
        PROMPT_BYTES; its completion is what the statement prints, without the last newline.
        """
        if ">>>" not in docstring:
            return
        try:
            examples = self._parser.get_examples(docstring)
        except ValueError:
            return  # prompts that are not indented alike
        session = ""
        for example in examples:
            statement = _as_typed(example.source)
            session += statement
            output = example.want.removesuffix("\n")
            prompt = _last_lines(session, PROMPT_BYTES)
            key = (example.source, output)
            whole = len(prompt) >= len(statement)
            if whole and _is_told(output) and key not in self._seen:
                self._seen.add(key)
                yield Pair(prompt.encode(), output.encode())
            session += example.want


def _as_typed(source: str) -> str:
    first, *others = source.splitlines()
    lines = [f">>> {first}", *(f"... {line}" if line else "..." for line in others)]
    return "".join(line + "\n" for line in lines)


def _last_lines(text: str, most: int) -> str:
    """The last whole lines of a text that fit in `most` bytes."""
    tail = text.encode()
    if len(tail) <= most:
        return text
    # One byte more, so that a line that begins just where the cut falls is kept.
    return tail[-most - 1 :].partition(b"\n")[2].decode()


def _is_told(output: str) -> bool:
    printable = all(char.isprintable() for char in output if char != "\n")
    fits = 0 < len(output.encode()) <= COMPLETION_BYTES
    return fits and printable and not _UNTOLD.match(output)
