#!/usr/bin/env python3
"""Builds the library with the lowest versions of its direct dependencies that Cargo.toml allows.

    python3 .ci/minimal_versions.py

A program may hold any of them back, so a lower bound is a promise like any other. Dependencies of
tests are left out: they would raise what the library says for itself.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys


def manifest(text):
    """Cargo.toml without what only the workspace, tests and benches need."""
    sections = re.split(r"(?m)^(?=\[)", text)
    dropped = re.compile(r"\[(target\..*\.)?dev-dependencies\]|\[\[(bench|test|example)\]\]")
    kept = "".join(section for section in sections if not dropped.match(section))
    return re.sub(r"(?m)^members = .*\n", "", kept)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")).resolve()
    scratch = target / "ci" / "minimal"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    (scratch / "Cargo.toml").write_text(manifest((root / "Cargo.toml").read_text(encoding="utf-8")))
    for name in ("src", "README.md"):
        (scratch / name).symlink_to(root / name)

    env = {**os.environ, "CARGO_TARGET_DIR": str(target)}

    def cargo(*arguments, **more):
        code = subprocess.run(
            ["cargo", *arguments], cwd=scratch, env={**env, **more}, stdin=subprocess.DEVNULL
        ).returncode
        if code != 0:
            sys.exit(code)

    # The option is not stable; what is built is built without it.
    cargo("-Zdirect-minimal-versions", "generate-lockfile", "--quiet", RUSTC_BOOTSTRAP="1")
    cargo("check", "--locked", "--all-features")


if __name__ == "__main__":
    main()
