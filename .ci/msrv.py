#!/usr/bin/env python3
"""The `rust-version` of the workspace is the highest that one of its dependencies asks for.

    python3 .ci/msrv.py    says whose it is, and fails where Cargo.toml says another

Counted is what somebody builds who depends on a package of the workspace with all features, on any
platform: what only tests need asks nothing of them.
"""

import json
import subprocess
import sys

# The edition of 2024.
FLOOR = "1.85"


def version(text):
    parts = [int(part) for part in text.split(".")]
    return tuple(parts + [0] * (3 - len(parts)))


def metadata():
    command = ["cargo", "metadata", "--locked", "--all-features", "--format-version", "1"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def built(read):
    """The ids of the packages that a dependent of the workspace builds."""
    nodes = {node["id"]: node["deps"] for node in read["resolve"]["nodes"]}
    seen, left = set(), list(read["workspace_members"])
    while left:
        id = left.pop()
        if id in seen:
            continue
        seen.add(id)
        for dep in nodes[id]:
            if any(kind["kind"] != "dev" for kind in dep["dep_kinds"]):
                left.append(dep["pkg"])
    return seen - set(read["workspace_members"])


def main():
    read = metadata()
    packages = {package["id"]: package for package in read["packages"]}
    asked = [packages[id] for id in built(read) if packages[id]["rust_version"]]
    highest = max([FLOOR, *(package["rust_version"] for package in asked)], key=version)
    whose = sorted(package["name"] for package in asked if version(package["rust_version"]) == version(highest))
    print(f"{highest}: {', '.join(whose) or 'the edition'}")
    wrong = False
    for id in read["workspace_members"]:
        said = packages[id]["rust_version"]
        if said is None or version(said) != version(highest):
            print(f"{packages[id]['name']} says rust-version = {said}")
            wrong = True
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
