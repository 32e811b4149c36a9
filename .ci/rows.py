#!/usr/bin/env python3
"""Each row of `docs/older-servers.md` names a test, and each test that it names is there.

    python3 .ci/rows.py     says what is not there, and fails
"""

import re
import sys

from rust import ROOT

PAGE = ROOT / "docs" / "older-servers.md"
TEST = re.compile(r"`([\w./-]+\.rs)::(\w+)`")


def main():
    wrong, rows = [], 0
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if not line.startswith("| ") or line.startswith(("| it offers", "|---")):
            continue
        rows += 1
        cells = line.strip("|").split("|")
        tests = TEST.findall(cells[-1])
        if len(cells) != 3 or not tests:
            wrong.append(f"{PAGE.name}:{number}: the row names no test, or is not of three columns")
        for path, name in tests:
            file = ROOT / path
            is_test = rf"#\[(?:tokio::)?test\b[^\n]*\](?:\s*#\[[^\n]*\])*\s*(?:async )?fn {name}\("
            is_in_macro = rf"#\[test\]\s*fn {name}\("
            text = file.read_text() if file.exists() else ""
            if not re.search(is_test, text) and not re.search(is_in_macro, text):
                wrong.append(f"{PAGE.name}:{number}: there is no test {name} in {path}")
    print("\n".join(wrong) if wrong else f"{rows} rows, each with a test")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
