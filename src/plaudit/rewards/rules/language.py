"""`AnswerLanguage`: is the response in the right language? Offline, by py3langid's naive Bayes model of 117 languages."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from plaudit.rewards.rules.base import Judged, RuleReward, scores_of
from plaudit.types import Batch, Context, Prompt, Scores, SpecError, Status, Verdict, prompt_text

# Written forms that the model tells apart but a reader's "in Chinese" or "in Norwegian" does not.
_SAME = {"yue": "zh", "wuu": "zh", "nn": "no"}
_lock = threading.Lock()


class AnswerLanguage(RuleReward):
    """1 if the response is in the language, 0 if it is in another; the part "probability" is the model's own.

    language: an ISO 639 code ("en", "de", "zh" ...), or "prompt": the language of the prompt (of a chat, its last user turn).
    minimum_bytes: texts with fewer bytes of letters (UTF-8) abstain, and so does a most likely language below `confidence`;
    the same holds for the prompt. Code and mixed texts are what the model makes of them.
    Raises SpecError if the model does not know the language.
    """

    name = "language"

    def __init__(self, language: str = "prompt", *, minimum_bytes: int = 12, confidence: float = 0.5) -> None:
        self.language = _SAME.get(language, language)
        self.minimum_bytes, self.confidence = minimum_bytes, confidence
        self.settings = {"language": language, "minimum_bytes": minimum_bytes, "confidence": confidence}

    def check(self) -> None:
        """Raise SpecError if the model does not know the language."""
        with _lock:
            known = _identifier().labels
        if self.language != "prompt" and self.language not in known:
            raise SpecError(f"unknown language '{self.language}'; expected 'prompt' or an ISO 639 code, such as en, de, zh")

    def judge_one(self, prompt: Prompt, response: str, reference: Any) -> Judged:  # noqa: ARG002
        """1, 0 or an abstention."""
        return self._look(prompt, response)[0]

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:  # noqa: ARG002
        """[B] 1 or 0, with the part "probability" of the wanted language."""
        self.check()
        looked = [
            (row[1], float("nan")) if isinstance(row[1], Status) else self._look(row[0], row[1]) for row in self.text_rows(batch)
        ]
        return scores_of([judged for judged, _ in looked], {"probability": [probability for _, probability in looked]})

    def _look(self, prompt: Prompt, response: str) -> tuple[Judged, float]:
        wanted = self.language
        if wanted == "prompt":
            found = self._identify(_question(prompt))
            if found is None:
                return Verdict(status=Status.ABSTAINED, detail="the prompt's language is not clear"), float("nan")
            wanted = max(found, key=lambda code: found[code])
        said = self._identify(response)
        if said is None:
            return Verdict(status=Status.ABSTAINED, detail="the response's language is not clear"), float("nan")
        most_likely = max(said, key=lambda code: said[code])
        return float(most_likely == wanted), said.get(wanted, 0.0)

    def _identify(self, text: str) -> dict[str, float] | None:
        """Probability of each language, or None where the text is too short or the model unsure."""
        sample = text[:4000]
        if len("".join(filter(str.isalpha, sample)).encode("utf-8", "ignore")) < self.minimum_bytes:
            return None
        found: dict[str, float] = {}
        with _lock:
            ranked: Sequence[tuple[str, float]] = _identifier().rank(sample)
        for code, probability in ranked:
            code = _SAME.get(code, code)
            found[code] = found.get(code, 0.0) + probability
        return found if max(found.values()) >= self.confidence else None


def _question(prompt: Prompt) -> str:
    if isinstance(prompt, (str, Mapping)):
        return prompt_text(prompt)
    turns = [message["content"] for message in prompt if message["role"] == "user"]
    return turns[-1] if turns else prompt_text(prompt)


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
