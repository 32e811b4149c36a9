#!/usr/bin/env python3
"""The instructions of the hot paths are those that stand in benches/instructions.txt.

    python3 .ci/instructions.py            compares, and fails where a case takes 5 % more
    python3 .ci/instructions.py --write    renews the text, on purpose and with the reason in the commit
    python3 .ci/instructions.py WORD       shows the cases with this word in their names

The numbers are those of one compiler. With another, or without valgrind, nothing is compared, and a
line says so. The same source in another folder has other symbols, which lie and are inlined otherwise: two
builds differed by up to 4 % (`scan, argument`: 627 and 603), so 2 % of room would fail without a change. The
text has the larger of two builds.
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = ROOT / "benches/instructions.txt"
ROOM = 1.05
# Of what takes next to nothing a percent is less than one instruction.
LEAST = 2.0


def built():
    """The program of the bench, and the compiler that has made it."""
    rustc = subprocess.run(["rustc", "-vV"], stdout=subprocess.PIPE, text=True, check=True).stdout
    words = dict(line.split(": ", 1) for line in rustc.splitlines() if ": " in line)
    command = ["cargo", "build", "--locked", "--release", "--bench", "instructions", "--message-format=json"]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
    program = re.findall(r'"executable":"([^"]*/instructions-[^"]*)"', out)[-1]
    return program, f"{words['release']} {words['host']}"


def count(program, name, units):
    """The instructions of a unit of a case."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        command = ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counted*"]
        command += [f"--callgrind-out-file={out}", program, name]
        run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if run.returncode:
            sys.exit(f"{name}: {run.stderr}")
        summary = re.search(r"^(?:summary|totals): (\d+)", pathlib.Path(out).read_text(), re.M)
    return int(summary.group(1)) / units


def recorded():
    compiler, *lines = TEXT.read_text().splitlines()
    return compiler, {name: float(number) for number, name in (line.split(None, 1) for line in lines)}


def main():
    arguments = sys.argv[1:]
    write = "--write" in arguments
    words = [word for word in arguments if not word.startswith("--")]
    if not shutil.which("valgrind"):
        print("skipped: valgrind is not installed")
        return
    program, compiler = built()
    known_compiler, known = recorded() if TEXT.exists() else (None, {})
    if not write and compiler != known_compiler:
        print(f"skipped: the numbers are those of {known_compiler}, and this is {compiler}")
        return
    listed = subprocess.run([program, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout
    cases = [line.split("\t") for line in listed.splitlines()]
    cases = [(name, int(units)) for units, name in cases if all(word in name for word in words)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        numbers = list(pool.map(lambda case: count(program, *case), cases))
    counted = {name: number for (name, _), number in zip(cases, numbers)}
    wrong = 0
    for name, number in counted.items():
        was = known.get(name)
        more = was is not None and number > max(was * ROOM, was + LEAST)
        wrong += not write and (more or was is None)
        verdict = "" if was is None else f" ({100 * number / was - 100:+.1f} % of {was:.0f})"
        print(f"{number:10.1f}  {name}{verdict}{': MORE' if more and not write else ''}")
    if write:
        known.update(counted)
        lines = [f"{known[name]:.1f} {name}" for name, _ in cases] if not words else None
        lines = lines or [f"{number:.1f} {name}" for name, number in known.items()]
        TEXT.write_text("\n".join([compiler, *lines]) + "\n")
    elif gone := [name for name in known if not words and name not in counted]:
        sys.exit(f"benches/instructions.txt has cases that are no more: {', '.join(gone)}")
    if wrong:
        sys.exit(f"{wrong} cases take more than they did, or are new: make them cheaper, or run it with --write")


if __name__ == "__main__":
    main()
