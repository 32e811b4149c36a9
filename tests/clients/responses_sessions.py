"""A conversation with tools through the Responses API of the official OpenAI SDK for Python, each
turn by the id of the answer before.

TURN_URLS is a list of base URLs, one a turn, and OTHER_API_KEY the key of somebody else;
tests/session_clients.rs sets them and looks at what upstream saw.
"""

import json
import os

import openai
from openai import OpenAI

TOOLS = [{"type": "function", "name": "get_time", "parameters": {"type": "object", "properties": {}}, "strict": False}]
URLS = json.loads(os.environ["TURN_URLS"])


def client(url, key=os.environ["PROXY_API_KEY"]):
    return OpenAI(api_key=key, base_url=url, max_retries=0, timeout=60)


CLIENTS = {url: client(url) for url in URLS}


def ask(url, previous, items, stream=False):
    responses = CLIENTS[url].responses
    options = {"model": "qwen3-coder-plus", "instructions": "Be brief.", "tools": TOOLS,
               "previous_response_id": previous, "input": items}
    if not stream:
        return responses.create(**options)
    with responses.stream(**options) as events:
        for _ in events:
            pass
        return events.get_final_response()


def turn(number, url, previous):
    items = f"<turn {number}>"
    while True:
        response = ask(url, previous, items, stream=number % 3 == 1)
        assert response.store is True and response.previous_response_id == previous, response
        previous = response.id
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            assert response.output_text == f"answer {number}", response
            return previous
        items = [{"type": "function_call_output", "call_id": call.call_id, "output": f"<result {number}>"}
                 for call in calls]


def refused(client, previous):
    try:
        client.responses.create(model="qwen3-coder-plus", previous_response_id=previous, input="What was said?")
    except openai.BadRequestError as error:
        assert error.code == "previous_response_not_found", error
        assert error.param == "previous_response_id", error
        return error.response.status_code, error.response.text.replace(previous, "ID")
    raise AssertionError("it was answered")


ids = [None]
for number, url in enumerate(URLS):
    ids.append(turn(number, url, ids[-1]))

# Two branches from one answer, the last ones of their turns being even.
for number in (len(URLS), len(URLS) + 2):
    turn(number, URLS[0], ids[4])

# To somebody else it is as if it had never been.
last, own = ids[-1], CLIENTS[URLS[0]]
other = client(URLS[0], os.environ["OTHER_API_KEY"])
assert len({refused(other, last), refused(other, "resp_" + "0" * 32), refused(own, "resp_" + "0" * 32)}) == 1

# What is not to be stored is not, and what was forgotten is.
unstored = own.responses.create(model="qwen3-coder-plus", store=False, previous_response_id=last, input=f"<turn {len(URLS) + 4}>")
assert unstored.store is False
refused(own, unstored.id)
own.responses.delete(last)
refused(own, last)
try:
    own.responses.delete(last)
    raise AssertionError("it was deleted twice")
except openai.NotFoundError:
    pass
