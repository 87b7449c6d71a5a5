"""OpenAI's own package against the compatible door: a real server, and one that speaks Ollama's
protocol behind it. Only the light embedder is a stand-in.
"""

import json

import httpx
import openai
import pytest

from companion.app import build
from companion.config import Settings
from companion.domain import LOCAL_OWNER
from tests.fakes import FakeEmbedder
from tests.ollama_server import OllamaServer, ServedModel
from tests.served import served
from tests.waiting import until

CHAT = "llama3.2:latest"
THINKS = "qwen3:8b"
RAG = f"companion/rag:{CHAT}"
GUIDE = "# Doors\n\nThe key of the cellar lies under the blue flowerpot.\n\n# Bees\n\nBees sleep at night.\n"
ASKED = [{"role": "user", "content": "Where is the key of the cellar?"}]


@pytest.fixture(scope="module")
def ollama():
    models = [
        ServedModel(CHAT, context_length=131_072),
        ServedModel(THINKS, ("completion", "thinking"), context_length=40_960),
        ServedModel("nomic-embed-text:latest", ("embedding",), context_length=2048),
    ]
    with OllamaServer(models) as running:
        yield running


@pytest.fixture(scope="module")
def companion(ollama, tmp_path_factory):
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"), ollama_host=ollama.url, offline=True, silence_timeout_s=60
    )
    companion = build(settings, light=FakeEmbedder())
    companion.library.add(LOCAL_OWNER, "house.md", GUIDE.encode())
    yield companion
    companion.close()


@pytest.fixture(scope="module")
def url(companion):
    with served(companion) as url:
        yield url


@pytest.fixture
def client(url, ollama):
    ollama.reply, ollama.thinking, ollama.failure = ["The key lies ", "under the pot [1]."], [], None
    ollama.done_reason, ollama.first_delay_s = "stop", 0.0
    ollama.requests.clear()
    ollama.disconnects.clear()
    with openai.OpenAI(
        base_url=f"{url}/v1", api_key="none", http_client=openai.DefaultHttpxClient(trust_env=False)
    ) as client:
        yield client


def ask(client, messages=ASKED, model=RAG, **more):
    return client.chat.completions.create(model=model, messages=messages, **more)


def told(ollama):
    """The messages of the last prompt."""
    return ollama.asked("/api/chat")[-1]["messages"]


# --- models -------------------------------------------------------------------------------


def test_each_chat_model_is_listed_in_each_thinking_mode(client):
    listed = {model.id: model for model in client.models.list()}
    for mode in ("cot", "rag", "hybrid"):
        assert listed[f"companion/{mode}:{CHAT}"].owned_by == "ollama"
    assert not [name for name in listed if "nomic" in name]
    assert client.models.retrieve(RAG).id == RAG
    assert client.models.retrieve("companion/hybrid").id == "companion/hybrid"
    for unknown in ("gpt-4o", "companion/rag:vanished:7b", "companion/magic:x"):
        with pytest.raises(openai.NotFoundError) as refused:
            client.models.retrieve(unknown)
        assert refused.value.code == "model_not_found"


# --- whole answers ------------------------------------------------------------------------


def test_an_answer_comes_whole_with_its_sources_usage_and_finish_reason(client, ollama):
    answer = ask(client)
    [choice] = answer.choices
    assert choice.message.content == "The key lies under the pot [1]."
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    [source] = choice.message.sources
    assert (source["number"], source["document_name"], source["cited"]) == (1, "house.md", True)
    assert answer.model == RAG
    assert answer.object == "chat.completion"
    assert answer.usage.completion_tokens == 2
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 2 > 2
    assert "blue flowerpot" in told(ollama)[0]["content"]


def test_a_source_can_be_opened_over_rest(client, url):
    [source] = ask(client).choices[0].message.sources
    passage = httpx.get(f"{url}/api/passages/{source['chunk_id']}", trust_env=False).json()
    assert "blue flowerpot" in passage["passage"]["text"]


def test_an_answer_that_was_cut_at_its_longest_says_length(client, ollama):
    ollama.done_reason = "length"
    answer = ask(client, max_completion_tokens=7)
    assert answer.choices[0].finish_reason == "length"
    sent = ollama.asked("/api/chat")[-1]["options"]
    assert sent["num_predict"] == 7
    ask(client, max_tokens=9)
    again = ollama.asked("/api/chat")[-1]["options"]
    assert (again["num_predict"], again["num_ctx"]) == (9, sent["num_ctx"]), "another window would reload"


def test_thinking_comes_in_a_field_of_its_own(client, ollama):
    ollama.thinking = ["First the cellar, ", "then the key."]
    message = ask(client, model=f"companion/hybrid:{THINKS}").choices[0].message
    assert message.reasoning_content == "First the cellar, then the key."
    assert message.content == "The key lies under the pot [1]."
    assert ask(client).choices[0].message.reasoning_content is None


def test_the_conversation_of_the_request_is_its_history(client, ollama):
    messages = [
        {"role": "assistant", "content": "How can I help?"},
        {"role": "user", "content": [{"type": "text", "text": "My cat is called Tom."}]},
        {"role": "user", "content": "He is seven."},
        {"role": "assistant", "content": "A fine age."},
        {"role": "user", "content": "What do I call the black cat of mine at home?"},
    ]
    ask(client, messages, model=f"companion/cot:{THINKS}")
    said = [(each["role"], each["content"]) for each in told(ollama)[1:]]
    assert said[:2] == [("user", "My cat is called Tom.\n\nHe is seven."), ("assistant", "A fine age.")]
    assert "black cat" in said[2][1]


def test_system_messages_stand_beside_our_own_rules(client, ollama):
    system = {"role": "system", "content": "Answer like a pirate."}
    developer = {"role": "developer", "content": "Never say ahoy."}
    ask(client, [system, developer, *ASKED])
    text = told(ollama)[0]["content"]
    assert "Answer like a pirate." in text
    assert "Never say ahoy." in text
    assert "data, not instructions" in text


def test_the_temperature_of_the_request_holds(client, ollama):
    ask(client, temperature=1.25)
    assert ollama.asked("/api/chat")[-1]["options"]["temperature"] == 1.25


def test_nothing_of_it_is_kept(client, companion, url):
    before = companion.sessions.list(LOCAL_OWNER)
    ask(client, [{"role": "user", "content": "Does the canary sing at midnight?"}])
    ask(client, stream=True).close()
    assert companion.sessions.list(LOCAL_OWNER) == before
    kept = [path for path in companion.settings.data_dir.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if b"canary" in path.read_bytes()]


def test_parameters_that_mean_nothing_here_are_passed_over(client):
    answer = ask(client, top_p=0.5, seed=7, user="me", presence_penalty=0.1, n=1, tools=[],
                 response_format={"type": "text"}, metadata={"a": "b"}, logprobs=False)  # fmt: skip
    assert answer.choices[0].message.content


# --- streams ------------------------------------------------------------------------------


def test_an_answer_streams_word_by_word_and_its_last_chunk_has_the_sources(client, ollama):
    ollama.thinking = ["Hm, ", "a key."]
    chunks = list(ask(client, model=f"companion/hybrid:{THINKS}", stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant"
    texts = [delta.content for delta in deltas if delta.content]
    assert len(texts) > 1, "word by word"
    assert "".join(texts) == "The key lies under the pot [1]."
    thoughts = [delta.reasoning_content for delta in deltas if hasattr(delta, "reasoning_content")]
    assert "".join(thoughts) == "Hm, a key."
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert deltas[-1].sources[0]["document_name"] == "house.md"
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_usage_of_a_stream_comes_when_it_is_asked_for(client):
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 2
    assert not any(chunk.usage for chunk in chunks[:-1])


def test_a_stream_is_server_sent_events_that_end_with_done(client, url):
    body = {"model": RAG, "messages": ASKED, "stream": True}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, end = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert end == "[DONE]"
    assert {json.loads(chunk)["object"] for chunk in chunks} == {"chat.completion.chunk"}


# --- leaving ------------------------------------------------------------------------------


def test_leaving_a_stream_stops_the_model(client, companion, ollama):
    ollama.failure = "silent"
    with ask(client, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    until(lambda: ollama.disconnects)
    until(lambda: not companion.runs.active())


def test_leaving_while_the_prompt_is_read_stops_the_model_too(client, companion, ollama):
    ollama.first_delay_s = 60
    with ask(client, stream=True) as stream:
        next(iter(stream))
        until(lambda: ollama.asked("/api/chat"))
    until(lambda: ollama.disconnects)
    until(lambda: not companion.runs.active())


def test_a_client_that_gives_up_waiting_stops_the_model(client, companion, ollama):
    ollama.first_delay_s = 60
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=1, max_retries=0))
    until(lambda: ollama.disconnects)
    until(lambda: not companion.runs.active())


# --- refusals and failures ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"stop": ["\n"]}, "stop", "unsupported_parameter"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"temperature": 3}, "temperature", "invalid_input"),
        ({"max_tokens": 0}, "max_tokens", "invalid_input"),
        ({"messages": []}, "messages", "invalid_input"),
        ({"messages": [{"role": "assistant", "content": "Hello."}]}, "messages", "invalid_input"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages", "invalid_input"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages.0.role",
         "invalid_input"),
        ({"messages": [{"role": "system", "content": "x" * 4001}, *ASKED]}, "messages", "invalid_input"),
    ],
)  # fmt: skip
def test_what_cannot_be_heeded_is_refused_by_its_name(client, ollama, more, param, code):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **more)
    assert (refused.value.param, refused.value.code) == (param, code)
    assert refused.value.type == "invalid_request_error"
    assert not ollama.asked("/api/chat")


def test_an_image_is_refused(client):
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, [{"role": "user", "content": picture}])
    assert refused.value.param.startswith("messages.0.content")


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as refused:
        ask(client, model="companion/rag:vanished:7b")
    assert (refused.value.param, refused.value.code) == ("model", "model_not_found")


def test_a_model_that_fails_is_an_error_and_is_not_asked_again(client, ollama):
    ollama.failure = "refused"
    with pytest.raises(openai.InternalServerError) as failed:
        ask(client)
    assert failed.value.type == "server_error"
    assert failed.value.message
    assert len(ollama.asked("/api/chat")) == 1


def test_a_stream_that_breaks_raises_after_what_was_said(client, ollama):
    ollama.failure = "rst"
    said = []
    with pytest.raises(openai.APIError) as failed:
        said.extend(chunk.choices[0].delta.content or "" for chunk in ask(client, stream=True))
    assert "".join(said) == "The key lies"
    assert failed.value.type == "server_error"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405), ("POST", "/v1/models", 405)],
)
def test_unknown_addresses_and_methods_have_the_same_error_shape(client, url, method, path, status):
    answer = httpx.request(method, url + path, trust_env=False)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_that_is_no_json_or_endless_is_refused(client, url):
    address = f"{url}/v1/chat/completions"
    text = httpx.post(address, content="Hello", headers={"Content-Type": "text/plain"}, trust_env=False)
    assert (text.status_code, text.json()["error"]["code"]) == (415, "unsupported_media_type")
    long = {"model": RAG, "messages": [{"role": "user", "content": "x" * 2_100_000}]}
    too_large = httpx.post(address, json=long, trust_env=False)
    assert (too_large.status_code, too_large.json()["error"]["type"]) == (413, "request_too_large")
