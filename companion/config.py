"""What can be set, with defaults and ranges; the only reader of the environment.

Knows names, units and limits of settings. It does not know what they do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from companion.domain import ThinkingMode

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLE_FOLDER = REPOSITORY / "data" / "sample"
PACKAGED_WEIGHTS = REPOSITORY / "requirements-models.txt"

# Read by libraries at import, so set before any of them is imported.
QUIET_ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "ANONYMIZED_TELEMETRY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
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
    share: Annotated[bool, Field(description="Public Gradio link; refused until logins exist")] = False
    demo: Annotated[bool, Field(description="Public demo; refused until logins exist")] = False
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
    temperature: Annotated[float, Field(ge=0, le=2, description="Sampling temperature of the chat model")] = (
        0.2
    )

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
    embed_light: Annotated[str, Field(description="Light embedder: name or folder")] = "all-MiniLM-L6-v2"
    embed_deep: Annotated[str, Field(description="Deep embedder: name or folder")] = "all-mpnet-base-v2"
    idle_threshold_s: Annotated[
        int, Field(ge=10, le=86400, description="Quiet time before deepening starts, in seconds")
    ] = 600
    gpu_idle_percent: Annotated[
        int, Field(ge=1, le=100, description="Below this use by others the GPU counts as idle, in percent")
    ] = 10

    weights_dir: Annotated[
        Path | None, Field(description="Folder of unpacked model weights; default: the user's cache folder")
    ] = None
    offline: Annotated[bool, Field(description="Never fetch weights; use only what is there")] = False
    max_upload_mb: Annotated[int, Field(ge=1, le=4096, description="Largest file, in megabytes")] = 50
    embed_threads: Annotated[
        int | None, Field(ge=1, le=256, description="CPU threads of an embedder; default: all cores")
    ] = None

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


def child_environment() -> dict[str, str]:
    """Environment for child processes: ours, and quiet."""
    return {**os.environ, **QUIET_ENVIRONMENT}
