"""A conversation with tools through the official OpenAI SDK for Python.

TURN_URLS is a list of base URLs, one a turn; tests/session_clients.rs sets it and looks at what
upstream saw.
"""

import json
import os

from openai import OpenAI

TOOLS = [{"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}]
clients = {url: OpenAI(api_key=os.environ["PROXY_API_KEY"], base_url=url, max_retries=0, timeout=60)
           for url in json.loads(os.environ["TURN_URLS"])}
messages = [{"role": "system", "content": "Be brief."}]
for turn, url in enumerate(json.loads(os.environ["TURN_URLS"])):
    messages.append({"role": "user", "content": f"<turn {turn}>"})
    while True:
        answer = clients[url].chat.completions.create(model="qwen3-coder-plus", messages=messages, tools=TOOLS)
        message = answer.choices[0].message
        messages.append(message.to_dict())
        if not message.tool_calls:
            break
        for call in message.tool_calls:
            messages.append({"role": "tool", "tool_call_id": call.id, "content": f"<result {turn}>"})
    assert message.content == f"answer {turn}", message
