#!/usr/bin/env python3
"""Keeps many streams open through the proxy for a long time, with faults and clients that hang up.

    cargo build --release --example proxy
    python3 tests/soak/soak.py target/release/examples/proxy --streams 1000 --minutes 30
    python3 tests/soak/soak.py target/release/examples/proxy --idle 9500

The first has half of its streams pass byte by byte and half go through the layers of a compatible
upstream. It ends with an error unless every stream that ended normally is what the upstream sent (its
bytes, or its text), unless every other one ended as it should, and unless the resident memory of the
second half of the time is no more than that of the first, give or take a tenth.

The second opens streams that say one word and then nothing, and tells what each costs in resident memory.

Upstream, proxy and clients are processes of their own, on loopback. Python has all that is needed. Linux
only, for `/proc`.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

# How a stream of a seed ends.
NORMAL, CUT, ERROR, LEAVE = "normal", "cut", "error", "leave"


def plan(seed):
    """What the upstream does for this seed, and when the client leaves: the same wherever it is asked."""
    dice = random.Random(seed)
    end = dice.choices([NORMAL, CUT, ERROR, LEAVE], [80, 5, 5, 10])[0]
    words = dice.randint(5, 60)
    pieces = ["".join(dice.choices("abcdefgh é🦀\\\"\n", k=dice.randint(1, 30))) for _ in range(words)]
    stop = dice.randrange(1, words) if end != NORMAL else words
    return end, pieces, stop, dice.uniform(0.2, 1.5), dice


def chunk(text, reason=None):
    delta = {"content": text} if text is not None else {}
    data = {
        "id": "chatcmpl-soak", "object": "chat.completion.chunk", "created": 1, "model": "soak",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def events(seed):
    end, pieces, stop, _, _ = plan(seed)
    sent = [chunk(piece) for piece in pieces[:stop]]
    if end == NORMAL:
        sent += [chunk(None, "stop"), b"data: [DONE]\n\n"]
    if end == ERROR:
        sent.append(b'data: {"error":{"message":"broken on purpose","code":500}}\n\n')
    return sent


async def read_head(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return head, length


async def answer(reader, writer):
    """One connection of the upstream."""
    try:
        while True:
            _, length = await read_head(reader)
            body = json.loads(await reader.readexactly(length))
            asked = body["messages"][-1]["content"]
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            if asked == "idle":
                piece = chunk("here")
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
                await reader.read(1)
                return
            seed = int(asked)
            end, _, _, pause, dice = plan(seed)
            for event in events(seed):
                # Some events come in two pieces.
                at = dice.randrange(1, len(event)) if dice.random() < 0.3 else len(event)
                for piece in filter(None, (event[:at], event[at:])):
                    writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    await writer.drain()
                await asyncio.sleep(pause)
            if end == CUT:
                return
            writer.write(b"0\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def upstream(port):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_limit()

    async def serve():
        server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=4096)
        async with server:
            await server.serve_forever()

    asyncio.run(serve())


def raise_limit():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


async def open_stream(port, model, text):
    """The response's head is read; the body follows in chunks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(
        {"model": model, "stream": True, "messages": [{"role": "user", "content": text}]}
    ).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body)
    )
    await writer.drain()
    head, _ = await read_head(reader)
    return reader, writer, int(head.split(b" ", 2)[1])


async def body_of(reader):
    """The pieces of a chunked body; ends with an exception where that is cut."""
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        piece = await reader.readexactly(size + 2)
        if size == 0:
            return
        yield piece[:-2]


def text_of(stream):
    """The text of a stream, its last finish reason, and whether there is an error in it."""
    text, reason, failed = "", None, False
    for line in stream.decode().split("\n"):
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        data = json.loads(line[6:])
        failed |= "error" in data
        for choice in data.get("choices", []):
            text += choice["delta"].get("content") or ""
            reason = choice["finish_reason"] or reason
    return text, reason, failed


def is_right(end, model, seed, stream, status):
    sent = events(seed)
    _, pieces, stop, _, _ = plan(seed)
    if end == NORMAL:
        if model == "bytes":
            return status == 200 and stream == b"".join(sent)
        return status == 200 and text_of(stream) == ("".join(pieces), "stop", False)
    # What there was of it came, and then an error or the cut, never a normal end.
    text, reason, failed = text_of(stream) if status == 200 else ("", None, True)
    return "".join(pieces[:stop]).startswith(text) and reason is None and (failed or model == "bytes")


class Soak:
    def __init__(self):
        self.counts = {}
        self.wrong = []

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    async def one(self, port, seed):
        model = "bytes" if seed % 2 else "typed"
        end, _, stop, _, _ = plan(seed)
        stream, status, is_cut = b"", 0, False
        writer = None
        try:
            reader, writer, status = await open_stream(port, model, str(seed))
            async for piece in body_of(reader):
                stream += piece
                if end == LEAVE and stream.count(b"\n\n") > stop // 2:
                    self.count(f"{model}: left")
                    return
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            is_cut = True
        finally:
            if writer:
                writer.close()
        if end == LEAVE:
            return self.count(f"{model}: left")
        if is_right(end, model, seed, stream, status) and (end != NORMAL or not is_cut):
            return self.count(f"{model}: {end}")
        self.wrong.append((seed, model, end, status, is_cut, stream[-300:]))

    async def keep_open(self, port, streams, until):
        seeds = iter(range(1, 1 << 60))

        async def one_after_the_other(delay):
            await asyncio.sleep(delay)
            while time.monotonic() < until:
                await self.one(port, next(seeds))

        await asyncio.gather(*(one_after_the_other(n * 10 / streams) for n in range(streams)))


def resident(pid):
    """In KiB."""
    with open(f"/proc/{pid}/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def plot(samples, height=10, width=72):
    step = max(1, len(samples) // width)
    shown = [max(samples[at:at + step]) for at in range(0, len(samples), step)]
    top = max(shown)
    for row in range(height, 0, -1):
        line = "".join("#" if value >= top * (row - 0.5) / height else " " for value in shown)
        print(f"{top * row / height / 1024:7.1f} MiB |{line}")
    print(" " * 12 + "+" + "-" * len(shown))


async def sample(pid, until, every, into):
    while time.monotonic() < until:
        into.append(resident(pid))
        await asyncio.sleep(every)


def start_proxy(binary, port, upstream_port):
    folder = tempfile.mkdtemp(prefix="soak-")
    config = os.path.join(folder, "proxy.toml")
    with open(config, "w") as out:
        for name, tools in (("bytes", "off"), ("typed", "openai")):
            out.write(
                f'[[upstream]]\nname = "{name}"\nmodels = ["{name}"]\nkind = "compatible"\n'
                f'server = "generic"\nbase-url = "http://127.0.0.1:{upstream_port}/v1"\ntools = "{tools}"\n'
            )
    proxy = subprocess.Popen(
        [binary, "--config", config, "--listen", f"127.0.0.1:{port}", "--log", "error"],
        stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "HOME": folder},
    )
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return proxy
        except OSError:
            if time.monotonic() > deadline or proxy.poll() is not None:
                sys.exit("the proxy does not listen")
            time.sleep(0.1)


async def idle(port, streams, pid):
    before = resident(pid)
    kept = []
    for at in range(0, streams, 100):
        opened = (open_stream(port, ("bytes", "typed")[(at // 100) % 2], "idle") for _ in range(100))
        for reader, writer, status in await asyncio.gather(*opened):
            assert status == 200, status
            await reader.readuntil(b"here")
            kept.append(writer)
    await asyncio.sleep(5)
    after = resident(pid)
    print(f"{len(kept)} idle streams: {before / 1024:.1f} MiB -> {after / 1024:.1f} MiB resident,", end=" ")
    print(f"{(after - before) / len(kept):.1f} KiB a stream")
    for writer in kept:
        writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("proxy")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--idle", type=int, default=0, help="so many idle streams, and nothing else")
    asked = parser.parse_args()
    raise_limit()
    port, upstream_port = free_port(), free_port()
    server = multiprocessing.Process(target=upstream, args=(upstream_port,), daemon=True)
    server.start()
    time.sleep(1)
    proxy = start_proxy(asked.proxy, port, upstream_port)
    try:
        if asked.idle:
            return asyncio.run(idle(port, asked.idle, proxy.pid))
        soak, samples = Soak(), []
        until = time.monotonic() + asked.minutes * 60

        async def all_of_it():
            every = max(1, asked.minutes * 60 / 360)
            watching = asyncio.create_task(sample(proxy.pid, until, every, samples))
            await soak.keep_open(port, asked.streams, until)
            await watching

        asyncio.run(all_of_it())
        print(f"{asked.streams} streams for {asked.minutes:g} minutes")
        for what, count in sorted(soak.counts.items()):
            print(f"  {what}: {count}")
        plot(samples)
        # The first tenth is the beginning.
        settled = samples[len(samples) // 10:]
        first, second = settled[:len(settled) // 2], settled[len(settled) // 2:]
        means = [sum(half) / len(half) / 1024 for half in (first, second)]
        print(f"resident, mean: {means[0]:.1f} MiB, then {means[1]:.1f} MiB; most {max(samples) / 1024:.1f} MiB")
        for wrong in soak.wrong[:10]:
            print("WRONG", wrong)
        if soak.wrong or means[1] > means[0] * 1.1:
            sys.exit(f"{len(soak.wrong)} streams ended otherwise than they should, or memory has grown")
    finally:
        proxy.send_signal(signal.SIGTERM)
        proxy.wait(60)
        server.terminate()


if __name__ == "__main__":
    main()
