"""What can be set, with defaults and ranges; read from the environment.

Knows names, units and limits of settings. It does not know what they do.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from companion.domain import DeepQuery, ThinkingMode

Mode = Literal["local", "shared", "demo"]
"""Who can come in: whoever sits here, users who sign in, or anybody as a visitor of their own."""

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLE_FOLDER = REPOSITORY / "data" / "sample"
PACKAGED_WEIGHTS = REPOSITORY / "requirements-models.txt"

# Read by libraries at import, so set before any of them is imported.
QUIET_ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "ANONYMIZED_TELEMETRY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    # Since 1.29 ONNX Runtime's packages for Linux report every session to its maker.
    "ORT_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Else llama.cpp's threads spin while they wait, which is ruinous beside any other work.
    "OMP_WAIT_POLICY": "passive",
}


def _default_data_dir() -> Path:
    return Path(platformdirs.user_data_dir("llm-companion", appauthor=False))


class Settings(BaseSettings):
    """Settings of one start. Each is `COMPANION_<NAME>` in the environment, too."""

    model_config = SettingsConfigDict(env_prefix="COMPANION_", extra="ignore", frozen=True)

    data_dir: Annotated[Path, Field(description="Folder of everything the app remembers")] = Field(
        default_factory=_default_data_dir
    )
    host: Annotated[str, Field(description="Address to listen on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="Port to listen on")] = 7860
    host_names: Annotated[
        str | None, Field(description="More names under which others reach the app, with commas between them")
    ] = None
    share: Annotated[bool, Field(description="Public Gradio link; users sign in")] = False
    demo: Annotated[bool, Field(description="Public demo: visitors without a login, each for themselves")] = (
        False
    )
    demo_documents: Annotated[int, Field(ge=1, le=1000, description="Documents of a visitor of a demo")] = 10
    demo_mb: Annotated[int, Field(ge=1, le=4096, description="All files of a visitor of a demo, in MB")] = 20
    demo_questions: Annotated[
        int, Field(ge=1, le=10_000, description="Questions of a visitor of a demo within an hour")
    ] = 30
    demo_hours: Annotated[
        int, Field(ge=1, le=720, description="A visitor of a demo not seen for so many hours is forgotten")
    ] = 24
    user_mb: Annotated[
        int, Field(ge=1, le=1_000_000, description="All files of a user who signs in, in MB")
    ] = 2000
    answers_at_once: Annotated[
        int, Field(ge=1, le=1000, description="Answers that are written for one person at the same time")
    ] = 8
    language: Annotated[
        str, Field(pattern="^[a-z]{2,3}(-[A-Z]{2})?$", description="Language of the page, as in de or pt-BR")
    ] = "en"
    log_level: Annotated[
        str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Detail of the log")
    ] = "INFO"

    ollama_host: Annotated[
        str | None, Field(description="Where Ollama listens; else OLLAMA_HOST, else 127.0.0.1:11434")
    ] = None
    show_cloud_models: Annotated[
        bool, Field(description="List Ollama's cloud models; questions and passages then leave the machine")
    ] = False
    builtin_model: Annotated[Path | None, Field(description="Another GGUF file for the built-in engine")] = (
        None
    )
    silence_timeout_s: Annotated[
        float, Field(ge=1, le=3600, description="Longest silence of a model while it answers, in seconds")
    ] = 120.0
    load_timeout_s: Annotated[
        float, Field(ge=1, le=3600, description="Longest wait for a model to load, in seconds")
    ] = 300.0
    max_ctx: Annotated[
        int, Field(ge=2048, le=1_048_576, description="Largest context window asked of a model, in tokens")
    ] = 16384
    answer_tokens: Annotated[int, Field(ge=64, le=32768, description="Longest answer, in tokens")] = 1024
    temperature: Annotated[float, Field(ge=0, le=2, description="Sampling temperature of new sessions")] = 0.2
    system_prompt: Annotated[
        str,
        Field(max_length=4000, description="What new sessions tell the model beside our rules"),
    ] = ""

    model_name: Annotated[
        str | None,
        Field(
            description="Chat model of new sessions; default: first local one of Ollama, else the built-in"
        ),
    ] = None
    thinking_mode: Annotated[
        ThinkingMode, Field(description="Thinking mode of new sessions: cot, rag or hybrid")
    ] = ThinkingMode.HYBRID
    top_k: Annotated[int, Field(ge=1, le=50, description="Passages given to the model")] = 5
    cot_iterations: Annotated[int, Field(ge=1, le=3, description="Passes of thinking in cot and hybrid")] = 2
    least_similarity: Annotated[
        int,
        Field(ge=0, le=100, description="Below this likeness to the question nothing is found, in percent"),
    ] = 35
    embed_light: Annotated[str, Field(description="Light embedder: name or folder")] = "all-MiniLM-L6-v2"
    embed_deep: Annotated[str, Field(description="Deep embedder: name or folder")] = "all-mpnet-base-v2"
    deep_query: Annotated[
        DeepQuery, Field(description="What is looked up in the deep layer: feedback, or direct questions too")
    ] = DeepQuery.FEEDBACK
    idle_threshold_s: Annotated[
        int, Field(ge=10, le=86400, description="Quiet time before deepening starts, in seconds")
    ] = 600
    gpu_idle_percent: Annotated[
        int, Field(ge=1, le=100, description="Below this use by others the GPU counts as idle, in percent")
    ] = 10

    quality_questions: Annotated[
        int,
        Field(ge=0, le=300, description="Questions made from your documents to measure the search; 0: none"),
    ] = 100

    weights_dir: Annotated[
        Path | None, Field(description="Folder of unpacked model weights; default: the user's cache folder")
    ] = None
    offline: Annotated[bool, Field(description="Never fetch weights or models; use only what is there")] = (
        False
    )
    max_upload_mb: Annotated[int, Field(ge=1, le=4096, description="Largest file, in megabytes")] = 50
    min_free_mb: Annotated[
        int, Field(ge=1, le=1_000_000, description="No documents are added below this free disk, in MB")
    ] = 500
    embed_threads: Annotated[
        int | None, Field(ge=1, le=256, description="CPU threads of an embedder; default: all cores")
    ] = None

    @property
    def mode(self) -> Mode:
        if self.demo:
            return "demo"
        return "shared" if self.share or not is_loopback(self.host) else "local"

    @property
    def database_path(self) -> Path:
        return self.data_dir / "companion.db"

    @property
    def index_dir(self) -> Path:
        return self.data_dir / "index"

    @property
    def originals_dir(self) -> Path:
        return self.data_dir / "originals"

    @property
    def uploads_dir(self) -> Path:
        return self.data_dir / "uploads"

    @property
    def log_path(self) -> Path:
        return self.data_dir / "companion.log"

    @property
    def weights_folder(self) -> Path:
        return (
            self.weights_dir
            or Path(platformdirs.user_cache_dir("llm-companion", appauthor=False)) / "weights"
        )

    @property
    def ollama_url(self) -> str:
        """Where Ollama is, with scheme and port, from our setting or `OLLAMA_HOST`."""
        return complete_ollama_host(self.ollama_host or os.environ.get("OLLAMA_HOST") or "")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def complete_ollama_host(host: str) -> str:
    """`OLLAMA_HOST` may lack scheme or port, or be the address a server listens on.

    >>> complete_ollama_host("0.0.0.0")
    'http://127.0.0.1:11434'
    """
    scheme, found, rest = host.strip().rstrip("/").partition("://")
    if not found:
        scheme, rest = "http", scheme
    name, colon, port = rest.rpartition(":")
    if not colon or not port.isdigit():
        name, port = rest, {"https": "443"}.get(scheme, "11434")
    if name in ("", "0.0.0.0", "[::]", "::"):
        name = "127.0.0.1"
    return f"{scheme}://{name}:{port}"


def quiet_libraries() -> None:
    """Switch off analytics and telemetry of libraries; call before importing them."""
    os.environ.update(QUIET_ENVIRONMENT)


def place_uploads(settings: Settings) -> None:
    """Where Gradio keeps uploads until they are taken over; call before importing it.

    Its other variables would open what our own settings keep closed (a share link, paths,
    another address), so they do not reach it.
    """
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ["GRADIO_TEMP_DIR"] = str(settings.uploads_dir)
    quiet_libraries()


def of_a_space() -> dict[str, Any]:
    """On a Hugging Face Space the app is a demo, reached through the Space's own name; what the
    person set there themselves stays."""
    if "SPACE_ID" not in os.environ:
        return {}
    space = {"demo": True, "host": "0.0.0.0", "host_names": os.environ.get("SPACE_HOST", "")}
    return {name: value for name, value in space.items() if f"COMPANION_{name.upper()}" not in os.environ}


def child_environment() -> dict[str, str]:
    """Environment for child processes: ours, and quiet."""
    return {**os.environ, **QUIET_ENVIRONMENT}
