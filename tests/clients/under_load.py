"""Many questions at once through the official OpenAI SDK for Python, while an upstream comes and goes.

Each must be answered once and whole. The one exception is a stream that had begun when its upstream
was ended: that says so. tests/fallback_clients.rs ends and starts the upstream, and looks at what it
was asked.
"""

import asyncio
import json
import os

from openai import APIError, AsyncOpenAI

QUESTIONS = int(os.environ["QUESTIONS"])
AT_ONCE = 12
client = AsyncOpenAI(api_key=os.environ["PROXY_API_KEY"], base_url=os.environ["PROXY_BASE_URL"],
                     max_retries=0, timeout=60)


async def ask(number: int) -> str:
    """Asks question `number`; how it went."""
    messages = [{"role": "user", "content": f"<question {number}>"}]
    stream = await client.chat.completions.create(model="qwen3-max", messages=messages, stream=True)
    text, ends = "", 0
    whole = f"answer {number}: " + " ".join(f"{number}.{word}" for word in range(20))
    try:
        async for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                ends += choice.finish_reason is not None
    except APIError as error:
        assert text and whole.startswith(text) and not ends, (number, text, error)
        return "cut"
    assert (text, ends) == (whole, 1), (number, text, ends)
    return "whole"


async def main() -> None:
    numbers = iter(range(QUESTIONS))
    counts = {"whole": 0, "cut": 0}

    async def worker() -> None:
        for number in numbers:
            counts[await ask(number)] += 1

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    print(json.dumps(counts))
    assert sum(counts.values()) == QUESTIONS, counts
    # No more than were under way when the upstream was ended.
    assert counts["cut"] <= AT_ONCE * int(os.environ["OUTAGES"]), counts


asyncio.run(main())
