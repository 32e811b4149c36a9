#!/usr/bin/env python3
"""The public API of the packages as text, which a change changes on purpose.

    python3 .ci/public_api.py            compares it with the texts in api/
    python3 .ci/public_api.py --write    renews them

The text comes from rustdoc's JSON with all features, one line an item; what is `#[doc(hidden)]` is
not part of it. Three things are errors whatever the texts say: a crate in a public signature, field,
bound or implementation that is not on the list below; a type in one that nobody outside can name;
and an item with two public paths.
"""

import difflib
import json
import os
import pathlib
import re
import subprocess
import sys

# The packages, and whose types may stand in their API beside those of FOREIGN.
PACKAGES = {
    "tower-qwen": set(),
    # Somebody who binds it to a socket has one of tokio's.
    "tower-qwen-emulator": {"tokio"},
}

# rustdoc's JSON is not stable. This is the version that is read here; another is skipped.
FORMAT = 57

# Whose types and traits may stand in the API: a major release of any of them is one of ours.
STANDARD = {"alloc", "core", "std"}
FOREIGN = STANDARD | {
    "bytes",
    "futures_core",
    "http",
    "http_body",
    "serde_json",
    # Its retry layer takes a policy, and ours takes one of its budgets.
    "tower",
    "tower_layer",
    "tower_service",
}
# Whose traits may be implemented besides.
IMPLEMENTED = {"serde", "serde_core"}

# What every program has in scope, and what is therefore written without its module.
PRELUDE = set(
    "AsMut AsRef Box Clone Copy Debug Default DoubleEndedIterator Drop Eq ExactSizeIterator Extend Fn "
    "FnMut FnOnce From Into IntoIterator Iterator Option Ord PartialEq PartialOrd Result Send Sized "
    "String Sync ToOwned ToString TryFrom TryInto Unpin Vec Hash Future Duration Arc Pin Display".split()
)

# Of the traits that the compiler implements, those that callers ask for.
AUTO = {"Send", "Sync", "Unpin"}
# What the compiler adds to a derive, and nobody calls.
UNSAID = {"StructuralPartialEq"}


class Api:
    def __init__(self, document, foreign):
        self.index = {int(key): value for key, value in document["index"].items()}
        self.paths = {int(key): value for key, value in document["paths"].items()}
        self.crate = "crate"
        self.public = {}
        self.order = []
        self.lines = []
        self.errors = set()
        self.where = ""
        # Which crates are allowed where the text is being written.
        self.foreign = self.allowed = FOREIGN | foreign
        self.name_all(document["root"], (self.crate,))
        for id, path in self.order:
            self.item(id, path)
        for item in self.index.values():
            if "impl" in item["inner"] and item["crate_id"] == 0:
                self.implementation(item["inner"]["impl"])
        self.lines = [line for _, line in sorted(set(self.lines))]

    # Names

    def name_all(self, id, path):
        """Gives every item that can be reached from here its public path."""
        item = self.index.get(id)
        if item is None:
            return
        kind, inner = next(iter(item["inner"].items()))
        if kind == "use":
            target = self.index.get(inner["id"])
            if target is None or target["crate_id"] != 0:
                self.foreign_use(inner, path)
            elif inner["is_glob"]:
                for child in self.children(target):
                    self.name_child(child, path)
            else:
                self.name_all(inner["id"], (*path, inner["name"]))
            return
        if id in self.public:
            self.errors.add(f"{'::'.join(path)} is also {'::'.join(self.public[id])}")
            return
        self.public[id] = path
        self.order.append((id, path))
        if kind == "module":
            for child in inner["items"]:
                self.name_child(child, path)

    def name_child(self, id, path):
        item = self.index.get(id)
        if item is None:
            return
        if "use" in item["inner"]:
            self.name_all(id, path)
        elif item["name"] is not None:
            self.name_all(id, (*path, item["name"]))

    @staticmethod
    def children(item):
        inner = item["inner"]
        return inner["module"]["items"] if "module" in inner else inner["enum"]["variants"]

    def foreign_use(self, use, path):
        summary = self.paths.get(use["id"])
        source = "::".join(summary["path"]) if summary else use["source"]
        self.where = f"pub use {use['source']}"
        self.judge(source.split("::")[0], source)
        self.add((*path, use["name"]), 0, f"pub use {source} as {'::'.join((*path, use['name']))}")

    def judge(self, crate, name):
        if crate not in self.allowed:
            self.errors.add(f"{self.where}: {name} is of another crate")

    def name(self, id, written):
        """How the item is called in the text; `written` is how it is called in the source."""
        if id in self.public:
            return "::".join(self.public[id])
        summary = self.paths.get(id)
        if summary is None or summary["crate_id"] == 0:
            self.errors.add(f"{self.where}: nobody outside can name {written}")
            return written
        path = summary["path"]
        self.judge(path[0], "::".join(path))
        if path[0] in STANDARD:
            if path[-1] in PRELUDE and path[-2:] not in (["error", "Result"], ["fmt", "Result"]):
                return path[-1]
            return f"std::{path[1]}::{path[-1]}"
        # In which of its modules a crate keeps an item is its own affair.
        return f"{path[0]}::{path[-1]}"

    # Types

    def type(self, type):
        if type is None:
            return "()"
        if isinstance(type, str):
            return "_"
        kind, inner = next(iter(type.items()))
        return getattr(self, f"type_{kind}")(inner)

    def type_resolved_path(self, inner):
        return self.name(inner["id"], inner["path"]) + self.arguments(inner["args"])

    def type_dyn_trait(self, inner):
        bounds = [self.poly(bound) for bound in inner["traits"]]
        if inner["lifetime"]:
            bounds.append(inner["lifetime"])
        return "dyn " + " + ".join(bounds)

    def type_generic(self, inner):
        return inner

    def type_primitive(self, inner):
        return "!" if inner == "never" else inner

    def type_function_pointer(self, inner):
        inputs = ", ".join(self.type(type) for _, type in inner["sig"]["inputs"])
        return f"{self.binder(inner['generic_params'])}fn({inputs}){self.output(inner['sig'])}"

    def type_tuple(self, inner):
        if len(inner) == 1:
            return f"({self.type(inner[0])},)"
        return f"({', '.join(map(self.type, inner))})"

    def type_slice(self, inner):
        return f"[{self.type(inner)}]"

    def type_array(self, inner):
        return f"[{self.type(inner['type'])}; {inner['len']}]"

    def type_impl_trait(self, inner):
        return "impl " + self.bounds(inner)

    def type_raw_pointer(self, inner):
        return f"*{'mut' if inner['is_mutable'] else 'const'} {self.type(inner['type'])}"

    def type_borrowed_ref(self, inner):
        lifetime = f"{inner['lifetime']} " if inner["lifetime"] else ""
        text = self.type(inner["type"])
        if " + " in text and text.startswith(("dyn ", "impl ")):
            text = f"({text})"
        return f"&{lifetime}{'mut ' if inner['is_mutable'] else ''}{text}"

    def type_qualified_path(self, inner):
        self_type = self.type(inner["self_type"])
        arguments = self.arguments(inner["args"])
        if inner["trait"] is None or not inner["trait"]["path"]:
            return f"{self_type}::{inner['name']}{arguments}"
        return f"<{self_type} as {self.trait(inner['trait'])}>::{inner['name']}{arguments}"

    def trait(self, trait):
        return self.name(trait["id"], trait["path"]) + self.arguments(trait["args"])

    def poly(self, bound):
        return self.binder(bound["generic_params"]) + self.trait(bound["trait"])

    def binder(self, params):
        return f"for<{', '.join(param['name'] for param in params)}> " if params else ""

    def bounds(self, bounds):
        texts = []
        for bound in bounds:
            kind, inner = next(iter(bound.items()))
            if kind == "trait_bound":
                maybe = "?" if inner["modifier"] == "maybe" else ""
                texts.append(maybe + self.poly(inner))
            elif kind == "outlives":
                texts.append(inner)
            else:
                captured = (next(iter(one.values())) if isinstance(one, dict) else one for one in inner)
                texts.append(f"use<{', '.join(captured)}>")
        return " + ".join(texts)

    def arguments(self, arguments):
        if not arguments or isinstance(arguments, str):
            return ""
        kind, inner = next(iter(arguments.items()))
        if kind == "parenthesized":
            output = f" -> {self.type(inner['output'])}" if inner["output"] else ""
            return f"({', '.join(map(self.type, inner['inputs']))}){output}"
        texts = [self.argument(argument) for argument in inner["args"]]
        for constraint in inner["constraints"]:
            name = constraint["name"] + self.arguments(constraint["args"])
            how, what = next(iter(constraint["binding"].items()))
            if how == "equality":
                texts.append(f"{name} = {self.argument(what)}")
            else:
                texts.append(f"{name}: {self.bounds(what)}")
        return f"<{', '.join(texts)}>" if texts else ""

    def argument(self, argument):
        if isinstance(argument, str):
            return "_"
        kind, inner = next(iter(argument.items()))
        if kind == "type":
            return self.type(inner)
        return inner if kind == "lifetime" else inner["expr"]

    # Generics and functions

    def generics(self, generics):
        texts = []
        for param in generics["params"]:
            kind, inner = next(iter(param["kind"].items()))
            text = param["name"]
            if kind == "lifetime":
                if inner["outlives"]:
                    text += ": " + " + ".join(inner["outlives"])
            elif kind == "const":
                text = f"const {text}: {self.type(inner['type'])}"
            elif inner["is_synthetic"]:
                # It stands among the arguments, as `impl Trait`.
                continue
            else:
                if inner["bounds"]:
                    text += ": " + self.bounds(inner["bounds"])
                if inner["default"]:
                    text += f" = {self.type(inner['default'])}"
            texts.append(text)
        return f"<{', '.join(texts)}>" if texts else ""

    def where_clause(self, generics):
        texts = []
        for predicate in generics["where_predicates"]:
            kind, inner = next(iter(predicate.items()))
            if kind == "bound_predicate":
                binder = self.binder(inner["generic_params"])
                texts.append(f"{binder}{self.type(inner['type'])}: {self.bounds(inner['bounds'])}")
            elif kind == "lifetime_predicate":
                texts.append(f"{inner['lifetime']}: {' + '.join(inner['outlives'])}")
            else:
                texts.append(f"{self.type(inner['lhs'])} = {self.argument(inner['rhs'])}")
        return " where " + ", ".join(texts) if texts else ""

    def output(self, signature):
        return f" -> {self.type(signature['output'])}" if signature["output"] else ""

    def function(self, name, inner):
        header = inner["header"]
        words = [word for word in ("const", "async", "unsafe") if header[f"is_{word}"]]
        if header["abi"] != "Rust":
            words.append("extern")
        inputs = []
        for argument, type in inner["sig"]["inputs"]:
            text = self.type(type)
            if argument == "self" and re.fullmatch(r"(&('\w+ )?(mut )?)?Self", text):
                inputs.append(text.replace("Self", "self"))
            else:
                inputs.append(f"{argument}: {text}")
        text = f"fn {name}{self.generics(inner['generics'])}({', '.join(inputs)})"
        text += self.output(inner["sig"]) + self.where_clause(inner["generics"])
        return " ".join([*words, text])

    # Items

    def add(self, path, rank, line, member=""):
        self.lines.append(((path, rank, member, line), line))

    def marks(self, item):
        marks = "#[non_exhaustive] " if "non_exhaustive" in item["attrs"] else ""
        return marks + ("#[deprecated] " if item["deprecation"] else "")

    def item(self, id, path):
        item = self.index[id]
        kind, inner = next(iter(item["inner"].items()))
        name = "::".join(path)
        self.where = name
        marks = self.marks(item)
        if kind == "module":
            self.add(path, 0, f"{marks}pub mod {name}")
        elif kind == "function":
            self.add(path, 0, f"{marks}pub {self.function(name, inner)}")
        elif kind == "struct":
            self.struct(path, name, marks, inner)
        elif kind == "enum":
            head = f"{name}{self.generics(inner['generics'])}{self.where_clause(inner['generics'])}"
            self.add(path, 0, f"{marks}pub enum {head}")
            for variant in inner["variants"]:
                self.variant(path, variant)
        elif kind == "variant":
            self.variant(path[:-1], id)
        elif kind == "trait":
            self.trait_items(path, name, marks, inner)
        elif kind == "type_alias":
            generics, where = self.generics(inner["generics"]), self.where_clause(inner["generics"])
            self.add(path, 0, f"{marks}pub type {name}{generics} = {self.type(inner['type'])}{where}")
        elif kind == "constant":
            self.add(path, 0, f"{marks}pub const {name}: {self.type(inner['type'])}")
        elif kind == "static":
            self.add(path, 0, f"{marks}pub static {name}: {self.type(inner['type'])}")
        else:
            self.add(path, 0, f"{marks}pub {kind} {name}")

    def fields(self, ids):
        texts = []
        for id in ids:
            field = self.index.get(id) if id is not None else None
            texts.append(f"pub {self.type(field['inner']['struct_field'])}" if field else "_")
        return f"({', '.join(texts)})"

    def struct(self, path, name, marks, inner):
        head = name + self.generics(inner["generics"])
        where = self.where_clause(inner["generics"])
        kind = inner["kind"]
        if kind == "unit":
            self.add(path, 0, f"{marks}pub struct {head}{where}")
        elif "tuple" in kind:
            self.add(path, 0, f"{marks}pub struct {head}{self.fields(kind['tuple'])}{where}")
        else:
            kind = kind["plain"]
            hidden = " { .. }" if kind["has_stripped_fields"] else ""
            self.add(path, 0, f"{marks}pub struct {head}{where}{hidden}")
            self.struct_fields(path, name, kind["fields"], 1)

    def struct_fields(self, path, name, ids, rank):
        for id in ids:
            field = self.index[id]
            self.where = f"{name}::{field['name']}"
            text = f"{name}::{field['name']}: {self.type(field['inner']['struct_field'])}"
            self.add(path, rank, f"{self.marks(field)}pub {text}")

    def variant(self, path, id):
        variant = self.index[id]
        kind = variant["inner"]["variant"]["kind"]
        name = f"{'::'.join(path)}::{variant['name']}"
        self.where = name
        fields = ""
        if kind != "plain" and "tuple" in kind:
            fields = self.fields(kind["tuple"]).replace("pub ", "")
        elif kind != "plain":
            fields = " { .. }" if kind["struct"]["has_stripped_fields"] else ""
            self.struct_fields(path, name, kind["struct"]["fields"], 1)
        self.add(path, 1, f"{self.marks(variant)}pub {name}{fields}")

    def trait_items(self, path, name, marks, inner):
        head = name + self.generics(inner["generics"])
        if inner["bounds"]:
            head += ": " + self.bounds(inner["bounds"])
        self.add(path, 0, f"{marks}pub trait {head}{self.where_clause(inner['generics'])}")
        for id in inner["items"]:
            item = self.index.get(id)
            if item is None:
                continue
            kind, one = next(iter(item["inner"].items()))
            self.where = f"{name}::{item['name']}"
            if kind == "function":
                text = self.function(self.where, one) + (" { .. }" if one["has_body"] else "")
            else:
                text = self.associated(self.where, kind, one)
            self.add(path, 1, f"{self.marks(item)}{text}", item["name"])

    def associated(self, name, kind, inner):
        if kind == "assoc_const":
            return f"const {name}: {self.type(inner['type'])}"
        bounds = f": {self.bounds(inner['bounds'])}" if inner["bounds"] else ""
        value = f" = {self.type(inner['type'])}" if inner["type"] else ""
        generics, where = self.generics(inner["generics"]), self.where_clause(inner["generics"])
        return f"type {name}{generics}{bounds}{value}{where}"

    # Implementations

    def implementation(self, inner):
        if inner["blanket_impl"]:
            return
        owner = self.owner(inner)
        if owner is None:
            return
        if inner["trait"] is None:
            self.where = "::".join(owner)
            self.inherent(owner, inner)
        else:
            self.where = f"impl {inner['trait']['path']} for {'::'.join(owner)}"
            self.of_trait(owner, inner)

    def owner(self, inner):
        """The public path where the implementation is listed: its type's, else its trait's."""
        target = inner["for"]
        while isinstance(target, dict) and "borrowed_ref" in target:
            target = target["borrowed_ref"]["type"]
        if isinstance(target, dict) and "resolved_path" in target:
            id = target["resolved_path"]["id"]
            if id in self.public:
                trait = inner["trait"]
                hidden = trait and trait["id"] not in self.public and self.is_ours(trait["id"])
                # A trait that nobody outside sees is no promise.
                return None if hidden else self.public[id]
            if self.is_ours(id):
                return None
        if inner["trait"] and inner["trait"]["id"] in self.public:
            return self.public[inner["trait"]["id"]]
        # One of a foreign trait for a foreign type has a type of ours among its arguments.
        if inner["trait"] and not inner["is_synthetic"]:
            ours = [id for id in ids(inner["trait"]) if id in self.public]
            return self.public[ours[0]] if ours else None
        return None

    def is_ours(self, id):
        return id not in self.paths or self.paths[id]["crate_id"] == 0

    def inherent(self, owner, inner):
        of = f"{self.type(inner['for'])}::"
        # The bounds of the whole block stand on each of its items.
        bounds = self.generics(inner["generics"])
        block = f"impl{bounds} " if ":" in bounds else ""
        where = self.where_clause(inner["generics"])
        for id in inner["items"]:
            item = self.index.get(id)
            if item is None or item["visibility"] != "public":
                continue
            kind, one = next(iter(item["inner"].items()))
            self.where = f"{'::'.join(owner)}::{item['name']}"
            if kind == "function":
                text = self.function(of + item["name"], one)
            else:
                text = self.associated(of + item["name"], kind, one)
            if where:
                text += f"{',' if ' where ' in text else ' where'}{where.removeprefix(' where')}"
            self.add(owner, 2, f"{block}{self.marks(item)}pub {text}", item["name"])

    def of_trait(self, owner, inner):
        last = self.paths[inner["trait"]["id"]]["path"][-1] if inner["trait"]["id"] in self.paths else ""
        if last in UNSAID or (inner["is_synthetic"] and last not in AUTO):
            return
        if any(param["name"] == "'__pin" for param in inner["generics"]["params"]):
            # pin-project-lite's `Unpin`, which speaks of fields.
            return
        self.allowed = self.foreign | IMPLEMENTED
        trait = self.trait(inner["trait"])
        self.allowed = self.foreign
        types = []
        for id in inner["items"]:
            item = self.index.get(id)
            kind, one = next(iter(item["inner"].items())) if item else ("function", None)
            if kind in ("assoc_type", "assoc_const"):
                # What serde wants of an implementation is the trait's affair.
                types.append(self.associated(item["name"], kind, one))
        head = f"impl{self.generics(inner['generics'])} {'!' if inner['is_negative'] else ''}{trait}"
        text = f"{head} for {self.type(inner['for'])}{self.where_clause(inner['generics'])}"
        if types:
            text += f" {{ {'; '.join(types)} }}"
        self.add(owner, 3, text)


def ids(value):
    """The ids of the paths in a piece of JSON."""
    if isinstance(value, dict):
        if isinstance(value.get("id"), int):
            yield value["id"]
        for one in value.values():
            yield from ids(one)
    elif isinstance(value, list):
        for one in value:
            yield from ids(one)


def grouped(lines):
    """`impl Clone for X` and `impl Debug for X` as the one line `X: Clone + Debug`."""
    out, traits, of = [], [], None

    def flush():
        if traits:
            out.append(f"{of}: {' + '.join(traits)}")
            traits.clear()

    for line in lines:
        words = line.split(" ")
        if len(words) == 4 and words[0] == "impl" and words[2] == "for":
            if words[3] != of:
                flush()
                of = words[3]
            traits.append(words[1])
        else:
            flush()
            out.append(line)
    flush()
    return out


def document(package, target):
    """rustdoc's JSON of the package, or nothing where this rustdoc writes another version."""
    # Only rustdoc is told to allow what is not stable: dependencies ask for the variable when they
    # are built, and would be built again.
    wrapper = target / "ci" / "rustdoc"
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    wrapper.write_text('#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc "$@"\n')
    wrapper.chmod(0o755)
    subprocess.run(
        ["cargo", "rustdoc", "--locked", "--quiet", "--package", package, "--lib", "--all-features"]
        + ["--", "-Zunstable-options", "--output-format=json", "--cap-lints=allow"],
        env={**os.environ, "RUSTDOC": str(wrapper), "CARGO_TARGET_DIR": str(target)},
        stdin=subprocess.DEVNULL,
        check=True,
    )
    with open(target / "doc" / f"{package.replace('-', '_')}.json", encoding="utf-8") as file:
        read = json.load(file)
    if read["format_version"] == FORMAT:
        return read
    print(f"skipped: this rustdoc writes version {read['format_version']} of its JSON, not {FORMAT}")
    return None


def main(arguments):
    root = pathlib.Path(__file__).resolve().parent.parent
    os.chdir(root)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")).resolve()
    if any(argument != "--write" for argument in arguments):
        sys.exit(__doc__)
    failed = False
    for package, foreign in PACKAGES.items():
        read = document(package, target)
        if read is None:
            continue
        api = Api(read, foreign)
        for error in sorted(api.errors):
            print(f"{package}: {error}")
            failed = True
        committed = root / "api" / f"{package}.txt"
        new = grouped(api.lines)
        if arguments:
            committed.parent.mkdir(exist_ok=True)
            committed.write_text("".join(f"{line}\n" for line in new), encoding="utf-8")
            print(f"{package}: {len(new)} lines")
            continue
        old = committed.read_text(encoding="utf-8").splitlines() if committed.exists() else []
        changed = list(difflib.unified_diff(old, new, f"api/{package}.txt", "now", n=0, lineterm=""))
        print(f"{package}: {len(new)} lines, {'changed' if changed else 'as committed'}")
        if changed:
            print(*changed, sep="\n")
            print("if this is meant: python3 .ci/public_api.py --write")
            failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
