"""`RecordWorld`: passages about small records, atomic facts to be checked against them, and labels that are right by construction
(card 04).

A record is (name, deed, thing, time). A fact states all four. A passage states a fact, leaves its time out, hedges it, says
another thing of the same name, or does not speak of it: support, partial_support twice, not_support twice. Texts begin with
a space, so that a word is the same token wherever it stands.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, ClassVar

from plaudit.fitting import derive_seed
from plaudit.rewards.generative import Contract, NuggetReward, TextReadout
from plaudit.rewards.generative.formats.nuggets import LABELS, write_labels
from plaudit.rewards.generative.questions import question_of
from plaudit.types import Batch, Sampling, UserError
from plaudit.worlds.base import Decoder, Level, TextWorld

if TYPE_CHECKING:
    from plaudit.generators.language import LanguageGenerator


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FORMATS = ("csv", "numbered", "markdown", "pipe_separated")
"""Four of the ten formats: those that words and single marks can write."""
NAMES = _words("ada ben cleo dan eva finn gus hana ira jon kai lea")
ALIASES = _words("owl fox elk bee cat dog hen jay kite lark mole newt")
"""By place, what each name is also called; short answers use it."""
RARE = _words("abel bora cira dov enzo fern")
"""Names that no training call shows: the long tail of short answers."""
DEEDS = ("built", "sold", "found")
THINGS = _words("mill boat lamp harp coin map ring bell drum kiln")
TIMES = ("early", "late", "twice", "once", "today", "again")
TEMPLATES = (
    "{name} {deed} the {thing} {time}",
    "{time} {name} {deed} the {thing}",
    "the {thing} was {deed} by {name} {time}",
    "it was {name} who {deed} the {thing} {time}",
    "{time} the {thing} was {deed} by {name}",
    "what {name} {deed} {time} was the {thing}",
)
SEEN = 4
"""How many of the templates, the first ones, are in training data."""
KINDS = {"stated": LABELS[0], "untimed": LABELS[1], "hedged": LABELS[1], "contradicted": LABELS[2], "omitted": LABELS[2]}
WEIGHTS = (4, 1.5, 1.5, 1.5, 1.5)
_MARKS = (
    "\n",
    " ",
    ",",
    "*",
    "|",
    ".",
    ":",
    "<r>",
    "</r>",
    "<reasoning>",
    "</reasoning>",
    *(f"{space}{number}." for number in range(1, 10) for space in ("", " ")),
)
_WORDS = (
    "perhaps",
    "none",
    "the",
    "was",
    "by",
    "it",
    "who",
    "what",
    *FORMATS,
    *LABELS,
    *NAMES,
    *ALIASES,
    *RARE,
    *DEEDS,
    *THINGS,
    *TIMES,
)


class RecordWorld(TextWorld):
    """Calls of a nugget judge: a passage and 1 to `most` facts as a text, and the labels in one of four formats.

    short: share of training calls that check a short answer (a name, or what it is also called) against the right name.
    Passages of the split "test" use all templates, those of "train" the first four. `contract` is what judges are asked by;
    `truth` pays for reasoning and labels, as demonstrations are written.
    """

    name = "nugget-records"
    levels: ClassVar[Mapping[str, Level]] = {"start": Level(demonstrations=3000, epochs=8, batch_rows=16, learning_rate=3e-3)}
    decoder = Decoder(layers=2, width=64, heads=4, context=192)
    sampling = Sampling(max_tokens=64, temperature=1.0)

    def __init__(self, *, most: int = 4, short: float = 0.2) -> None:
        if not (1 <= most <= 5 and 0 <= short <= 1):
            raise UserError(f"a call has 1 to 5 facts and a share of short answers from 0 to 1, not {most} and {short:g}")
        self.most, self.short = most, short
        self.settings = {"most": most, "short": short}
        self.truth = NuggetReward()
        self.contract = Contract(
            "record-facts",
            "{{ response }}\n{% for item in items %}{{ loop.index }}. {{ item.text }}\n{% endfor %}{{ format_name }}:",
            TextReadout(function="plaudit.rewards.generative.formats.nuggets:nugget_labels", max_tokens=64),
            kind="itemised",
            layout="text",
            delimiters={"response": ("<r>", "</r>")},
        )

    def untrained(self, seed: int) -> LanguageGenerator:
        """A decoder over words with random weights."""
        from plaudit.engines.tiny import tiny_causal_model, word_tokenizer
        from plaudit.generators.language import LanguageGenerator

        tokenizer = word_tokenizer(_WORDS, _MARKS)
        model = tiny_causal_model(tokenizer, **asdict(self.decoder), seed=derive_seed(seed, "weights"), deviation=0.06)
        return LanguageGenerator(model, tokenizer=tokenizer, seed=seed)

    def calls(self, split: str, n: int, seed: int) -> Batch:
        """n passages to be judged. extras: `nuggets` (facts), `gold` (labels), `format`, `templates` (numbers, None: omitted),
        `evidence`: what the passage says of each fact's name, which is what the demonstrations reason by."""
        if split not in ("train", "test"):
            raise UserError(f"records have the splits train and test, not '{split}'")
        draw = random.Random(derive_seed(seed, "records", split))
        made = [self._call(draw, SEEN if split == "train" else len(TEMPLATES)) for _ in range(n)]
        columns: dict[str, Sequence[Any]] = {
            name: [row[name] for row in made] for name in ("nuggets", "gold", "format", "templates", "evidence")
        }
        return Batch(["records"] * n, [row["passage"] for row in made], extras=columns)

    def _call(self, draw: random.Random, templates: int) -> dict[str, Any]:
        count = draw.randint(1, self.most)
        names, things = draw.sample(NAMES, count), draw.sample(THINGS, 2 * count)
        sentences, nuggets, gold, used, evidence = [], [], [], [], []
        for place, name in enumerate(names):
            kind = draw.choices(list(KINDS), WEIGHTS)[0]
            record = {"name": name, "deed": draw.choice(DEEDS), "thing": things[place], "time": draw.choice(TIMES)}
            nuggets.append(TEMPLATES[0].format(**record))
            gold.append(KINDS[kind])
            number = None if kind == "omitted" else draw.randrange(templates)
            used.append(number)
            said = {**record, "thing": things[count + place]} if kind == "contradicted" else record
            said["time"] = "" if kind == "untimed" else said["time"]
            hedge = ["perhaps"] * (kind == "hedged")
            evidence.append(["none"] if number is None else [*hedge, said["thing"], said["time"]])
            if number is not None:
                sentences.append(" ".join(["", *hedge, *TEMPLATES[number].format(**said).split()]) + ".")
        draw.shuffle(sentences)
        return {
            "passage": "".join(sentences),
            "nuggets": nuggets,
            "gold": gold,
            "format": draw.choice(FORMATS),
            "templates": used,
            "evidence": [" ".join([name, *words]).strip() for name, words in zip(names, evidence, strict=True)],
        }

    def short_answers(self, split: str, n: int, seed: int) -> Batch:
        """n short answers with the right name as reference; `extras["right"]` says which are right.

        Half are right, one in two of them by the other name. A third of the test's questions is about names that no training
        call shows; those have no other name.
        """
        draw = random.Random(derive_seed(seed, "short answers", split))
        responses, references, right = [], [], []
        for _ in range(n):
            rare = split == "test" and draw.random() < 1 / 3
            name, other = draw.sample(RARE if rare else NAMES, 2)
            correct = draw.random() < 0.5
            said = name if correct else other
            responses.append(" " + (ALIASES[NAMES.index(said)] if not rare and draw.random() < 0.5 else said))
            references.append(name)
            right.append(correct)
        formats = [draw.choice(FORMATS) for _ in range(n)]
        evidence = [[f"{name}{said}"] for name, said in zip(references, responses, strict=True)]
        columns: dict[str, Sequence[Any]] = {"right": right, "format": formats, "evidence": evidence}
        return Batch(["who"] * n, responses, references=references, extras=columns)

    def asked(self, calls: Batch) -> Batch:
        """Calls as what a judge is sent, with the gold labels as references: what it is trained on."""
        short = "nuggets" not in calls.extras
        facts = [[name] for name in calls.references or ()] if short else calls.extras["nuggets"]
        gold = [[LABELS[0 if right else 2]] for right in calls.extras["right"]] if short else calls.extras["gold"]
        formats = calls.extras["format"]
        prompts = []
        for row, items in enumerate(facts):
            request = question_of(self.contract, calls, (row,), items=items, settings={"format_name": formats[row]}).request
            assert request is not None
            prompts.append(str(request.messages))
        return Batch(prompts, references=gold, extras={"format": formats, "evidence": calls.extras["evidence"]})

    def prompts(self, split: str, n: int, seed: int) -> Batch:
        """n calls, a share of them short answers, as texts with gold labels; the short ones come last."""
        short = round(n * self.short)
        parts = [self.asked(self.calls(split, n - short, seed)), self.asked(self.short_answers(split, short, seed))]
        return Batch(
            [prompt for part in parts for prompt in part.prompts],
            references=[gold for part in parts for gold in part.references or ()],
            extras={name: [row for part in parts for row in part.extras[name]] for name in ("format", "evidence")},
        )

    def demonstrations(self, n: int, seed: int) -> Batch:
        """n training calls with the evidence and the right labels as responses."""
        batch = self.prompts("train", n, seed)
        reasons = [" ".join(f"{number}. {said}" for number, said in enumerate(words, 1)) for words in batch.extras["evidence"]]
        made = zip(batch.references or (), batch.extras["format"], reasons, strict=True)
        return replace(batch, responses=[write_labels(gold, name, reasoning=why) for gold, name, why in made])
