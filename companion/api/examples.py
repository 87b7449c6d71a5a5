"""One example of each request and each answer, by the name of its shape in the specification.

Only values. It does not know which route they belong to.
"""

from __future__ import annotations

from typing import Any

SESSION_ID = "2f9c1c7be0d94b5f8a3c6f1d7e5b4a90"
DOC_ID = "7d44ab1f0c3e4d6d9f52a1c8e6b7d303"
CHUNK_ID = f"{DOC_ID}:b3a9c2d4e5f60718:0"
MODEL = "llama3.2:latest"
_HASH = "b3a9c2d4e5f607182930a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6"
_AT = "2026-11-22T09:30:00Z"

PARAMETERS: dict[str, Any] = {
    "session_id": SESSION_ID,
    "doc_id": DOC_ID,
    "chunk_id": CHUNK_ID,
    "message_id": 12,
    "q": "notice period",
    "last-event-id": "8f14e45f-17",
}

_PLACE = {"page": 3, "heading": "Termination", "start_s": None, "end_s": None}
_SOURCE = {
    "number": 1,
    "chunk_id": CHUNK_ID,
    "doc_id": DOC_ID,
    "document_name": "lease.pdf",
    "text_hash": _HASH,
    "place": _PLACE,
    "score": 0.91,
    "layers": ["lexical", "light"],
    "cited": True,
    "matched": False,
}
_USAGE = {
    "prompt_tokens": 1240,
    "answer_tokens": 18,
    "load_ms": None,
    "prompt_ms": 310.5,
    "answer_ms": 420.0,
    "search_ms": 9.4,
    "thinking_ms": None,
    "first_token_ms": 350.2,
    "ended": "stop",
    "cached_tokens": None,
    "window": 8192,
    "passages_left_out": 0,
    "turns_left_out": 0,
}
_QUESTION = {
    "message_id": 12,
    "session_id": SESSION_ID,
    "role": "user",
    "content": "What is the notice period?",
    "created_at": _AT,
    "state": "complete",
    "mode": "rag",
    "model": None,
    "thinking": "",
    "sources": [],
    "notices": [],
    "usage": {**dict.fromkeys(_USAGE), "passages_left_out": 0, "turns_left_out": 0},
    "searched_for": None,
}
_ANSWER = {
    **_QUESTION,
    "message_id": 13,
    "role": "assistant",
    "content": "Three months to the end of a month [1].",
    "model": MODEL,
    "sources": [_SOURCE],
    "usage": _USAGE,
}
_SESSION = {"session_id": SESSION_ID, "title": "Rental contract", "created_at": _AT, "updated_at": _AT}
_WISHES = {
    "model_name": MODEL,
    "thinking_mode": "hybrid",
    "top_k": 5,
    "embed_light": "all-MiniLM-L6-v2",
    "embed_deep": "all-mpnet-base-v2",
    "idle_threshold_s": 600,
    "temperature": 0.2,
    "system_prompt": "",
}
_CONFIG = {"session_id": SESSION_ID, **_WISHES, "scope": None}
_DOCUMENT = {
    "doc_id": DOC_ID,
    "name": "lease.pdf",
    "source_type": "pdf",
    "size": 183_204,
    "content_hash": _HASH,
    "state": "searchable",
    "created_at": _AT,
    "updated_at": _AT,
    "error": None,
    "error_code": None,
    "notes": [],
    "passages": 42,
    "sample": False,
    "progress": None,
}
_PASSAGE = {
    "chunk_id": CHUNK_ID,
    "doc_id": DOC_ID,
    "chunk_index": 7,
    "text": "The notice period is three months to the end of a month.",
    "text_hash": _HASH,
    "place": _PLACE,
    "tokens": 14,
}
_UNREADABLE = {"code": "unknown_format", "message": "Files of this kind cannot be read."}
_MODEL = {
    "name": MODEL,
    "engine": "ollama",
    "size": 2_019_393_189,
    "context_length": 131_072,
    "capabilities": ["completion"],
    "loaded": True,
    "remote": False,
    "parameter_size": "3.2B",
    "quantization": "Q4_K_M",
    "memory": 3_100_000_000,
    "vram": 3_100_000_000,
    "expires_at": _AT,
}
_PULL = {
    "name": "qwen3:4b",
    "state": "done",
    "status": "It is here.",
    "completed": 2_500_000_000,
    "total": 2_500_000_000,
    "percent": 100.0,
    "rate": None,
    "seconds_left": None,
    "error": None,
}
_FIGURES = {
    "hybrid": {"recall_5": 0.81, "mrr": 0.72, "ndcg_10": 0.75},
    "deep": {"recall_5": 0.86, "mrr": 0.77, "ndcg_10": 0.8},
}
_MEASUREMENT = {
    "measured_at": _AT,
    "questions": 100,
    "by_model": 100,
    "documents": 12,
    "passages": 480,
    "light": "all-MiniLM-L6-v2",
    "deep": "all-mpnet-base-v2",
    "deep_passages": 480,
    "figures": _FIGURES,
}
_SAID = {
    "role": "assistant",
    "content": _ANSWER["content"],
    "refusal": None,
    "reasoning_content": None,
    "sources": [_SOURCE],
    "notices": [],
}
_CARD = {"id": f"companion/hybrid:{MODEL}", "object": "model", "created": 1795340000, "owned_by": "ollama"}

SHAPES: dict[str, Any] = {
    "NewSession": {"title": "Rental contract", "thinking_mode": "rag"},
    "Renaming": {"title": "Lease of the flat"},
    "Sessions": {"sessions": [_SESSION], "total": 1, "next": None},
    "SessionDetail": {**_SESSION, "config": _CONFIG, "running": False, "stopping": False},
    "SessionConfig": _CONFIG,
    "ConfigChange": {"thinking_mode": "rag", "scope": [DOC_ID]},
    "Settings": {
        **_WISHES,
        "gpu_idle_percent": 10,
        "cot_iterations": 2,
        "show_cloud_models": False,
        "least_similarity": 15,
        "deep_query": "feedback",
        "quality_questions": 100,
    },
    "SettingsChange": {"top_k": 8},
    "Suggestions": {"suggestions": ["What does “Deposit” say?"]},
    "Draft": {"content": "What is the notice period?", "session_id": SESSION_ID},
    "Estimate": {
        "tokens": 3612, "window": 8192, "question": 8, "history": 204, "passages": 3000, "instructions": 400,
    },
    "Question": {"content": "What is the notice period?", "thinking_mode": "rag"},
    "Retry": {"thinking_mode": "hybrid"},
    "Message": _ANSWER,
    "Messages": {"messages": [_QUESTION, _ANSWER], "total": 2, "next": None},
    "Stopped": {"stopped": True},
    "Documents": {
        "documents": [_DOCUMENT],
        "totals": {"documents": 1, "searchable": 1, "passages": 42, "size": 183_204},
        "total": 1,
        "next": None,
    },
    "Document": _DOCUMENT,
    "DocumentDetail": {"document": _DOCUMENT, "passages": [_PASSAGE], "total": 42, "next": 1},
    "UploadResults": {
        "results": [
            {"name": "lease.pdf", "ok": True, "already_there": False, "document": _DOCUMENT, "error": None},
        ],
        "samples_left": True,
    },
    "FailedUpload": {
        "results": [
            {"name": "a.exe", "ok": False, "already_there": False, "document": None, "error": _UNREADABLE},
        ],
        "samples_left": False,
        "error": _UNREADABLE,
    },
    "PassageDetail": {"passage": _PASSAGE, "document": _DOCUMENT, "before": [], "after": []},
    "SearchAnswer": {
        "hits": [
            {
                "passage": _PASSAGE,
                "document_name": "lease.pdf",
                "score": 0.91,
                "layers": ["lexical", "light"],
                "similarity": 0.62,
            }
        ],
        "layers": ["lexical", "light", "feedback"],
        "took_ms": 9.4,
        "notices": [],
    },
    "Model": _MODEL,
    "Models": {
        "models": [_MODEL],
        "default": MODEL,
        "away": {},
        "situation": {"state": "ok", "answers": MODEL, "sentence": "", "action": ""},
        "recommended": [
            {"name": "qwen3:4b", "size": 2_500_000_000, "about": "Thinks before it answers."},
        ],
    },
    "Pull": _PULL,
    "Pulls": {"pulls": [_PULL], "forbidden": None},
    "EmbeddingsStatus": {
        "is_indexing": False,
        "gpu_util": 3.0,
        "current_model": MODEL,
        "current_embedder": "all-MiniLM-L6-v2",
        "state": "watching",
        "why": "quiet",
        "reason": "Waiting: nothing is in the way; it starts in 9 minutes.",
        "done": 120,
        "total": 480,
        "progress": 0.25,
        "eta_s": None,
        "layers": [
            {
                "layer": "light",
                "embedder": "all-MiniLM-L6-v2",
                "ready": True,
                "index": "ready",
                "passages": 480,
                "embedded": 480,
                "coverage": 1.0,
                "error": None,
            }
        ],
        "runs": [
            {
                "run_id": 4,
                "embedder": "all-mpnet-base-v2",
                "started_at": _AT,
                "ended_at": _AT,
                "outcome": "stopped",
                "passages": 120,
                "reason": "active",
            }
        ],
    },
    "EmbedderCost": {
        "name": "all-mpnet-base-v2",
        "layer": "deep",
        "refusal": None,
        "download": 0,
        "memory": 900_000_000,
        "passages": 480,
        "seconds": 65.0,
    },
    "EmbeddingsWish": {"wish": "start"},
    "Health": {
        "state": "ready",
        "reasons": [],
        "conditions": [
            {
                "code": "gpu_absent",
                "severity": "info",
                "sentence": "There is no graphics card, so the processor is watched.",
                "action": {"code": "none", "label": "", "link": None},
            }
        ],
        "started_id": SESSION_ID,
        "open_pages": 1,
        "version": "0.1.0",
    },
    "Examination": {
        "healthy": True,
        "findings": [{"code": "disk", "state": "ok", "sentence": "84 GB are free.", "advice": ""}],
    },
    "Quality": {
        "activity": "idle",
        "done": 0,
        "total": 0,
        "trouble": None,
        "samples": False,
        "questions": 100,
        "without_model": 0,
        "models": [MODEL],
        "latest": _MEASUREMENT,
        "judgement": None,
        "changes": {"hybrid": {"questions": 96, "before": 0.79, "now": 0.81}},
        "misses": [
            {
                "question_id": 7,
                "question": "Who pays for the chimney sweep?",
                "made_by": MODEL,
                "chunk_id": CHUNK_ID,
                "doc_id": DOC_ID,
                "document_name": "lease.pdf",
                "ranks": {"hybrid": 9, "deep": None},
            }
        ],
        "history": [_MEASUREMENT],
    },
    "QualityWish": {"wish": "measure"},
    "ChatCompletionRequest": {
        "model": f"companion/rag:{MODEL}",
        "messages": [{"role": "user", "content": "What is the notice period?"}],
        "stream": False,
    },
    "ChatCompletion": {
        "id": f"chatcmpl-{SESSION_ID}",
        "object": "chat.completion",
        "created": 1795340000,
        "model": f"companion/rag:{MODEL}",
        "choices": [{"index": 0, "message": _SAID, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1240, "completion_tokens": 18, "total_tokens": 1258},
    },
    "ModelCard": _CARD,
    "ModelCards": {"object": "list", "data": [_CARD]},
}  # fmt: skip

STREAM = {"id": "8f14e45f-18", "event": "token", "data": '{"text": " months"}'}
EXPORT = "# Rental contract\n\n## Question\n\n> What is the notice period?\n"
