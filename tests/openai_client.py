"""The official openai package against the gateway at argv[1]."""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="not-needed", max_retries=0)
messages = [{"role": "user", "content": "to be or not to be"}]

models = [model.id for model in client.models.list()]
assert models == ["tiny"], models

chat = client.chat.completions.create(model="tiny", messages=messages)
assert chat.choices[0].message.content == "to be or not to be", chat

stream = client.chat.completions.create(model="tiny", messages=messages, stream=True)
words = [chunk.choices[0].delta.content or "" for chunk in stream]
assert "".join(words) == "to be or not to be" and len(words) > 5, words

text = client.completions.create(model="tiny", prompt="hello")
assert text.choices[0].text == "hello", text

vector = client.embeddings.create(model="tiny", input="hello")
assert len(vector.data[0].embedding) > 0, vector

raw = client.chat.completions.with_raw_response.create(model="tiny", messages=messages)
assert raw.headers["x-rbee-worker"].startswith("test-hive/echo/"), raw.headers

try:
    client.chat.completions.create(model="nobody", messages=messages)
except openai.NotFoundError as error:
    assert error.code == "model_not_found", error
else:
    raise AssertionError("a model that nobody serves was answered")

print("all is well")
