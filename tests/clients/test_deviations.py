"""The official OpenAI SDK for Python, asking servers that deviate: straight, and through the layers.

What it reads correctly when it asks a server, it reads through the layers as well.
PROXY_BASE_URL, PROXY_API_KEY and SERVERS say where, and which; tests/compatible_clients.rs sets
them. A server deviates as the `seed` of a request says.
"""

import json
import os
import unittest

from openai import OpenAI

ORIGIN = os.environ["PROXY_BASE_URL"]
API_KEY = os.environ["PROXY_API_KEY"]
SERVERS = json.loads(os.environ["SERVERS"])
SEEDS = 60
SAID = "千问 says: 1 < 2 & 🌍 🌌."
ARGUMENTS = {"city": "Zürich 🏔", "days": 3}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]
ASKED = [
    ({}, f"emulate:say={SAID}", (SAID, [])),
    ({"tools": TOOLS}, f"get_weather {json.dumps(ARGUMENTS)}", ("", [("get_weather", ARGUMENTS)])),
]

CLIENT = OpenAI(api_key=API_KEY, base_url=ORIGIN, max_retries=0, timeout=60)
unittest.addModuleCleanup(CLIENT.close)


def read(base, model, text, seed, options):
    """What a client makes of a stream: its text, and its calls by their numbers."""
    said, calls = "", {}
    stream = CLIENT.with_options(base_url=base).chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], stream=True, seed=seed, **options
    )
    for chunk in stream:
        for choice in chunk.choices or []:
            if choice.delta.content:
                said += choice.delta.content
            for piece in choice.delta.tool_calls or []:
                call = calls.setdefault(piece.index, ["", ""])
                if piece.function and piece.function.name:
                    call[0] += piece.function.name
                if piece.function and piece.function.arguments:
                    call[1] += piece.function.arguments
    return said, [(name, json.loads(arguments)) for name, arguments in calls.values()]


class Deviations(unittest.TestCase):
    maxDiff = 2_000

    def test_the_layers_read_what_the_sdk_reads(self):
        straight = 0
        for server in SERVERS:
            base = f"{ORIGIN}/{server['name']}"
            for seed in range(SEEDS):
                for options, text, expected in ASKED:
                    try:
                        direct = read(f"{base}/straight/v1", server["model"], text, seed, options)
                    except Exception as error:  # Whatever the SDK makes of it.
                        direct = error
                    straight += direct == expected
                    with self.subTest(server=server["name"], seed=seed, straight=direct == expected):
                        through = read(f"{base}/deviating/v1", server["model"], text, seed, options)
                        self.assertEqual(through, expected)
        # Otherwise nothing was compared.
        asked = len(SERVERS) * SEEDS * len(ASKED)
        self.assertGreater(straight, asked // 10)
        print(f"{straight} of {asked} were read by asking straight, all through the layers")
