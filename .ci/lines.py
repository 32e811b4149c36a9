#!/usr/bin/env python3
"""No file of `src` has more than 600 lines of code.

    python3 .ci/lines.py     says which has, and fails

Comments, blank lines and tests do not count. A file that is longer holds more than one idea: it is split
by idea, and not by length.
"""

import sys

from rust import ROOT, SRC, code, is_test

MOST = 600

# Files that may be longer until they are split. One that is not longer any more is an error.
ALLOWED = []


def main():
    lines = {}
    for path in sorted(SRC.rglob("*.rs")):
        if not is_test(path):
            left = code(path.read_text())
            lines[str(path.relative_to(ROOT))] = sum(1 for line in left.splitlines() if line.strip())
    wrong = False
    for file, count in lines.items():
        if count > MOST and file not in ALLOWED:
            wrong = True
            print(f"{file} has {count} lines of code, and {MOST} is the most: split it by idea")
    for file in ALLOWED:
        if lines.get(file, 0) <= MOST:
            wrong = True
            print(f"{file} has no more than {MOST} lines of code: take it off the list in .ci/lines.py")
    longest = max(lines, key=lines.get)
    print(f"{len(lines)} files, {sum(lines.values())} lines of code; the longest has {lines[longest]}: {longest}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
