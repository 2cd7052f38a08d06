"""What a program does that was written for OpenAI, against OPENAI_BASE_URL.

The test that runs it has echo workers of the models echo-small and echo-large behind the gateway.
"""

import openai

MODEL = "echo-small"
SAID = "to be or not to be"
MESSAGES = [{"role": "user", "content": SAID}]

client = openai.OpenAI(max_retries=0, timeout=30)

models = sorted(model.id for model in client.models.list())
assert models == ["echo-large", "echo-small"], models

chat = client.chat.completions.create(model=MODEL, messages=MESSAGES)
assert chat.choices[0].message.content == SAID, chat
assert chat.choices[0].finish_reason == "stop", chat
assert chat.usage.total_tokens > 0, chat

stream = client.chat.completions.create(
    model="echo-large",
    messages=MESSAGES,
    stream=True,
    stream_options={"include_usage": True},
)
chunks = list(stream)
words = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
assert "".join(words) == SAID, words
assert len([word for word in words if word]) == 6, words
assert chunks[-1].usage.total_tokens > 0, chunks[-1]

completion = client.completions.create(model=MODEL, prompt=SAID)
assert completion.choices[0].text == SAID, completion

pieces = client.completions.create(model=MODEL, prompt=SAID, stream=True)
text = "".join(piece.choices[0].text for piece in pieces)
assert text == SAID, text

embeddings = client.embeddings.create(
    model=MODEL, input=["one", "another"], encoding_format="float"
)
assert len(embeddings.data) == 2, embeddings
assert embeddings.data[0].embedding != embeddings.data[1].embedding, embeddings

try:
    client.chat.completions.create(model="no-such-model", messages=MESSAGES)
except openai.NotFoundError as error:
    assert error.status_code == 404, error
    assert "no-such-model" in str(error), error
else:
    raise AssertionError("a model that is not there was answered")

raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
assert raw.headers["x-rbee-worker"].startswith("test-hive/echo/"), raw.headers
