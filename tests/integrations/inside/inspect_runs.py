"""Evaluations by inspect, with its mock model, on a small local set of questions."""

import json
import sys

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample, json_dataset
from inspect_ai.log import read_eval_log
from inspect_ai.model import ModelOutput, ModelUsage, get_model

from plaudit import as_reward, load_reward
from plaudit.integrations.inspect_ai import plaudit_graded_qa, plaudit_scorer
from plaudit.types import Status
from tests.integrations.inside import tell

QUESTIONS = [("1+1=?", "2"), ("2+2=?", "4"), ("3+3=?", "6"), ("4+4=?", "8")]
ANSWERS = {"1+1=?": "It is 2.", "2+2=?": "The answer is 4", "3+3=?": "7", "4+4=?": "I am not sure about that"}


def answer(messages, tools, choice, config):
    output = ModelOutput.from_content("mockllm/model", ANSWERS[messages[-1].text])
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else it counts tokens with a fetched vocabulary
    return output


def evaluate(scorer):
    with open("questions.jsonl", "w") as file:
        for question, target in QUESTIONS:
            file.write(json.dumps({"input": question, "target": target, "level": len(question)}) + "\n")
    data = json_dataset("questions.jsonl", lambda row: Sample(input=row["input"], target=row["target"], metadata={"level": 1}))
    model = get_model("mockllm/model", custom_outputs=answer)
    (log,) = eval(Task(dataset=data, scorer=scorer), model=model, display="none", log_dir="logs")
    log = read_eval_log(log.location)  # what was written, not what is in memory
    assert log.status == "success", log.error.message
    return log


def told(log):
    samples = [(sample.input, next(iter(sample.scores.values()))) for sample in log.samples]
    return {
        "samples": {
            question: {
                "value": score.value,
                "reason": score.reason,
                "status": score.metadata["status"],
                "plaudit": score.metadata.get("plaudit"),
            }
            for question, score in samples
        },
        "metrics": {score.name: {name: one.value for name, one in score.metrics.items()} for score in log.results.scores},
        "unscored": {score.name: score.unscored_samples for score in log.results.scores},
        "scorer": log.eval.scorers[0].name,
        "params": log.results.scores[0].params,
    }


def unsure(response):
    """P(right) by the look of it; no verdict where the answer is unsure."""
    return Status.UNPARSABLE if "not sure" in response else 0.9 if "4" in response else 0.2


if __name__ == "__main__":
    short = as_reward(lambda response: 1.0 / len(response), name="short", settings={})
    scorers = {
        "parts": lambda: plaudit_scorer(load_reward("math") + short),
        "name": lambda: plaudit_scorer("math"),
        "graded": lambda: plaudit_graded_qa(as_reward(unsure)),
        "embedded": lambda: plaudit_graded_qa(),
        "lower": lambda: plaudit_scorer("repetition"),
    }
    tell({kind: told(evaluate(scorers[kind]())) for kind in sys.argv[1:]})
