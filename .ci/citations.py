#!/usr/bin/env python3
"""What cites the documents in `docs/` names a section there by a link that resolves.

    python3 .ci/citations.py     says what does not resolve, and what is a bare citation, and fails

Two things are wrong:

- a link to a file of this repository, or to a heading or an anchor in one, that is not there: in
  Markdown, in comments (`docs/reference/qwen-wire.md#a5`), and as an address on GitHub;
- a bare citation, such as "(A2.7)", "rule 14" or "tool-calls.md a.1": a reader does not have the
  document at hand. Say in half a sentence what it says, or name the section by a link.
"""

import re
import sys
from pathlib import Path

from rust import ROOT

SOURCES = ["src", "examples", "emulator", "tests", "benches", "fuzz"]
ENDS = {".rs", ".py", ".mjs", ".js", ".toml", ".md"}
LEFT_OUT = {"node_modules", ".venv", "target", "corpus"}

# Files that may hold bare citations until they are swept. One that holds none any more is an error.
ALLOWED = []

GITHUB = re.compile(r"https://github\.com/tower-qwen/tower-qwen/(?:blob|tree)/main/([^\s)\]>\"'`]+)")
NAMED = re.compile(r"(?<![\w/.-])(docs/[\w./-]*\w(?:#[\w.-]*\w)?)")
MARKDOWN = re.compile(r"(?<!!)\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)|^\[[^\]]+\]:\s*(\S+)", re.M)
BARE = [
    # A1, C1.5, E19: no word of ours looks like that.
    re.compile(r"(?<![\w#/.+%-])[A-H][1-9][0-9]?(?:\.[0-9]{1,2})*(?![\w-])"),
    re.compile(r"\b[Rr]ules? [0-9]+"),
    re.compile(r"(?<![\w/])(?:qwen-wire|tool-calls|edges)(?:\.md\b|(?= [a-hA-H][. ]))"),
    # A text of the design that is no page of docs/.
    re.compile(r"\bDESIGN\b"),
    # "(a.2)", "a.1 to a.4", "e.2, rule 14": the sections of the document about tool calls.
    re.compile(r"(?<![\w#/.`-])[a-f]\.[1-9](?![\w.])"),
]
# `fn c1_calls()`: a test is named by what it shows.
NAME = re.compile(r"\bfn [a-h][0-9]{1,2}_\w+")
ASIDE = re.compile(r'//[^\n]*|/\*.*?\*/|\bb?r(#*)".*?"\1|\bb?"(?:\\.|[^"\\])*"|"(?:\\.|[^"\\])*"', re.S)
HASHED = re.compile(r"#[^\n]*|\"\"\".*?\"\"\"", re.S)


def files():
    for top in SOURCES:
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in ENDS and path.is_file() and not LEFT_OUT & set(path.relative_to(ROOT).parts):
                yield path
    yield from sorted((ROOT / "docs").rglob("*.md"))
    yield from sorted(ROOT.glob("*.md"))


def anchors(path):
    """The anchors of a Markdown file: of its headings, as GitHub makes them, and its own."""
    text = path.read_text()
    found = set(re.findall(r'<a (?:id|name)="([^"]+)"></a>', text))
    counts, fenced = {}, False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        heading = re.match(r"#{1,6} +(.*?)\s*#*$", line)
        if heading and not fenced:
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.group(1))
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            seen = counts[slug] = counts.get(slug, -1) + 1
            found.add(slug if seen == 0 else f"{slug}-{seen}")
    return found


class Links:
    def __init__(self):
        self.anchors = {}
        self.looked_at = 0

    def why_not(self, base, target):
        """Why `target`, seen from the folder `base`, is nowhere; `None` where it is there."""
        self.looked_at += 1
        name, _, anchor = target.partition("#")
        path = (base / name).resolve()
        if not path.exists():
            return "there is no such file"
        if anchor and path.suffix == ".md":
            if path not in self.anchors:
                self.anchors[path] = anchors(path)
            if anchor not in self.anchors[path]:
                return "there is no such heading or anchor in it"
        return None


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def prose(path, text):
    """(where, what) of comments and strings in code."""
    if path.suffix in (".py", ".toml"):
        pattern = HASHED
    elif path.suffix == ".md":
        return
    else:
        pattern = ASIDE
    for match in pattern.finditer(text):
        said = match.group()
        # A raw string is data, and so is one with quotes in it: JSON, markup.
        if not said.startswith(("//", "/*", "#", '"""')) and (said.startswith(("r", "b")) or '\\"' in said):
            continue
        yield match.start(), said


def main():
    links, wrong, bare = Links(), [], {}
    for path in files():
        text = path.read_text()
        name = str(path.relative_to(ROOT))
        targets = [(match.start(), ROOT, match.group(1)) for match in GITHUB.finditer(text)]
        if path.suffix == ".md":
            plain = re.sub(r"^```.*?^```|`[^`\n]*`", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.M | re.S)
            for match in MARKDOWN.finditer(plain):
                target = match.group(1) or match.group(2)
                if target.startswith("#"):
                    target = path.name + target
                if not re.match(r"[a-z]+:", target):
                    targets.append((match.start(), path.parent, target))
        else:
            without = GITHUB.sub(lambda match: " " * len(match.group()), text)
            targets += [(match.start(), ROOT, match.group(1)) for match in NAMED.finditer(without)]
        for at, base, target in targets:
            why = links.why_not(base, target)
            if why:
                wrong.append(f"{name}:{line_of(text, at)}: {target}: {why}")
        for match in NAME.finditer(text) if path.suffix == ".rs" else ():
            where = line_of(text, match.start())
            bare.setdefault(name, []).append(f"{name}:{where}: a bare citation: {match.group()}")
        for at, said in prose(path, text):
            said = NAMED.sub(lambda m: " " * len(m.group()), GITHUB.sub(lambda m: " " * len(m.group()), said))
            for pattern in BARE:
                for match in pattern.finditer(said):
                    where = line_of(text, at + match.start())
                    bare.setdefault(name, []).append(f"{name}:{where}: a bare citation: {match.group()}")
    for name, found in bare.items():
        if name not in ALLOWED:
            wrong += found
    wrong += [
        f"{name} holds no bare citation any more: take it off the list in .ci/citations.py"
        for name in ALLOWED
        if name not in bare
    ]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{links.looked_at} links were looked at")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
