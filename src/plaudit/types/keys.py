"""Content keys: equal content, equal key, on every machine."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str)


def content_key(*parts: Any) -> str:
    """32 hex digits over JSON-able parts; dictionaries count by content, not by order."""
    return hashlib.sha256(_ENCODER.encode(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
