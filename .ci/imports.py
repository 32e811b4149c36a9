#!/usr/bin/env python3
"""No two files of `src` import each other, directly or around: files import downwards.

    python3 .ci/imports.py           says which files stand in a circle, and fails where one does
    python3 .ci/imports.py FILE      the files that FILE imports, each with the path that it names

What counts is the file that a path in code ends in: `use crate::chat::Usage` is an import of
`src/chat/event.rs`, where the type stands, and not of `src/chat/mod.rs`, which only gives it out. So a
`mod.rs` that declares and re-exports its files is no circle. Tests do not count.
"""

import re
import sys

from rust import ROOT, SRC, code, is_test

# Files that may stand in a circle until they are cut. One that stands in none any more is an error.
ALLOWED = [
    "src/session/layer.rs",
    "src/session/stream.rs",
]

PATH = re.compile(r"(?<![\w:$])(?:crate|super|self)(?:\s*::\s*\w+)+")


def module(path):
    """The path of the module that the file is."""
    parts = list(path.relative_to(SRC).with_suffix("").parts)
    return tuple(parts[:-1] if parts[-1] in ("mod", "lib") else parts)


def leaves(tree):
    """The paths of a use tree: `a::{b, c as d}` is (a, b) as b and (a, c) as d."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        path, _, name = tree.partition(" as ")
        parts = tuple(part.strip() for part in path.split("::") if part.strip())
        if parts and parts[-1] == "self":
            parts = parts[:-1]
        if parts:
            yield parts, name.strip() or parts[-1]
        return
    before = tuple(part.strip() for part in tree[:brace].split("::") if part.strip())
    depth, start = 0, brace + 1
    inner = tree[brace + 1 : tree.rindex("}")]
    start = 0
    for at, letter in enumerate(inner + ","):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            for parts, name in leaves(inner[start:at]):
                yield before + parts, name
            # `a::{self}` names `a`.
            if inner[start:at].strip() == "self" and before:
                yield before, before[-1]
            start = at + 1


class Crate:
    def __init__(self):
        self.files = {module(path): path for path in sorted(SRC.rglob("*.rs")) if not is_test(path)}
        self.code = {name: code(path.read_text()) for name, path in self.files.items()}
        self.uses = {name: self.use_lines(name) for name in self.files}

    def use_lines(self, name):
        """(whether it is given out, the path from the crate, the name it gets) of each `use`."""
        found = []
        for match in re.finditer(r"(pub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);", self.code[name]):
            for parts, as_name in leaves(match.group(2)):
                path = self.absolute(name, parts)
                if path is not None:
                    found.append((bool(match.group(1)), path, as_name))
        return found

    def absolute(self, name, parts):
        if parts[0] == "crate":
            return parts[1:]
        if parts[0] not in ("self", "super"):
            # Of an edition since 2018 it may be a module beside: `use decoder::Decoder` in a mod.rs.
            return name + parts if name + parts[:1] in self.files else None
        base = name
        while parts and parts[0] in ("self", "super"):
            base = base[:-1] if parts[0] == "super" else base
            parts = parts[1:]
        return base + parts

    def home(self, path, depth=0):
        """The module whose file `path` ends in, behind re-exports."""
        at = ()
        for length in range(len(path), -1, -1):
            if path[:length] in self.files:
                at = path[:length]
                break
        rest = path[len(at) :]
        if rest and depth < 16:
            for given_out, target, as_name in self.uses[at]:
                if given_out and as_name == rest[0] and target[: len(at) + 1] != path[: len(at) + 1]:
                    return self.home(target + rest[1:], depth + 1)
            for given_out, target, as_name in self.uses[at]:
                if given_out and as_name == "*":
                    # What a glob gives out is looked up by the word where it is defined.
                    inner = self.home(target[:-1], depth + 1)
                    if re.search(rf"\b(?:struct|enum|trait|fn|type|const|static)\s+{rest[0]}\b", self.code[inner]):
                        return inner
        return at

    def imports(self, name):
        """The modules that the file of `name` names in code, each with one path."""
        found = {}
        paths = [path for given_out, path, _ in self.uses[name] if not given_out]
        body = re.sub(r"\b(?:pub(?:\([^)]*\))?\s+)?use\s+[^;]+;", "", self.code[name])
        for match in PATH.finditer(re.sub(r"pub\s*\(in [^)]*\)|#\[[^\]]*\]", "", body)):
            path = self.absolute(name, tuple(re.split(r"\s*::\s*", match.group())))
            paths.append(path)
        for path in paths:
            if path and path[-1] == "*":
                path = path[:-1]
            target = self.home(path)
            if target != name and target != ():
                found.setdefault(target, "crate::" + "::".join(path))
        return found


def circles(graph, without=()):
    """The groups of files that import each other, directly or around."""
    index, low, stack, groups = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target in without:
                continue
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = []
            while not group or group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                groups.append(sorted(group))

    for node in graph:
        if node not in index and node not in without:
            visit(node)
    return groups


def main():
    crate = Crate()
    show = lambda name: str(crate.files[name].relative_to(ROOT))
    by_file = {show(name): name for name in crate.files}
    if len(sys.argv) > 1:
        for target, path in sorted(crate.imports(by_file[sys.argv[1]]).items()):
            print(f"{show(target)}: {path}")
        return
    graph = {name: crate.imports(name) for name in crate.files}
    wrong, allowed = False, set()
    for file in ALLOWED:
        if file in by_file:
            allowed.add(by_file[file])
        else:
            wrong = True
            print(f"{file} is allowed to stand in a circle and is not there: take it off the list in .ci/imports.py")
    for group in circles(graph, allowed):
        wrong = True
        print(f"{len(group)} files import each other, directly or around:")
        for name in group:
            for target, path in sorted(graph[name].items()):
                if target in group:
                    print(f"    {show(name)} imports {show(target)}: {path}")
    for name in sorted(allowed):
        if not any(name in group for group in circles(graph, allowed - {name})):
            wrong = True
            print(f"{show(name)} stands in no circle any more: take it off the list in .ci/imports.py")
    edges = sum(map(len, graph.values()))
    print(f"{len(graph)} files, {edges} imports" + (f", {len(allowed)} files still allowed in circles" if allowed else ""))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
