"""What the checks of this folder read of the sources."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

# Comments, strings and letters in quotes; one pattern, so that a quote in a comment opens no string and
# `//` in a string no comment.
ASIDE = re.compile(
    r'//[^\n]*|/\*.*?\*/|\bb?r(#*)".*?"\1|\bb?"(?:\\.|[^"\\])*"|"(?:\\.|[^"\\])*"|\'(?:\\.[^\']*|[^\'\\\n])\'', re.S
)
TESTS = re.compile(
    r"#\[cfg\((?:test|all\(test,[^\]]*)\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?mod\s+\w+\s*\{"
)


def code(text):
    """`text` without comments, strings and modules of tests; what is left stays in its line."""
    text = ASIDE.sub(lambda match: "\n" * match.group().count("\n"), text)
    out, at = [], 0
    for match in TESTS.finditer(text):
        if match.start() < at:
            continue
        depth, end = 1, match.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        out += [text[at : match.start()], "\n" * text.count("\n", match.start(), end)]
        at = end
    return "".join(out) + text[at:]


def is_test(path):
    """Whether a file of `src` holds nothing but tests."""
    return path.name == "tests.rs" or path.name.endswith("_tests.rs") or "tests" in path.relative_to(SRC).parts
