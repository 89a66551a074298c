"""Evaluations by lm-eval of a local task, with a model that answers from a table."""

import json
import sys
from pathlib import Path

import lm_eval
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from tests.integrations.inside import tell

QUESTIONS = [("1+1=?", "2"), ("2+2=?", "4"), ("3+3=?", "6"), ("4+4=?", "8")]
ANSWERS = {"1+1=?": "It is 2.", "2+2=?": "The answer is 4", "3+3=?": "7", "4+4=?": "I am not sure about that"}

FUNCTIONS = """
from plaudit import as_reward, load_reward
from plaudit.integrations.lm_eval import lm_eval_reward

short = as_reward(lambda response: 1.0 / len(response), name="short", settings={})
judged = lm_eval_reward(load_reward("math") + short)
judge_all, process_results, keep_best = judged.judge_all, judged.process_results, judged.keep_best
"""

TASK = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/questions.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: answer
generation_kwargs: {until: ["\\n"], max_gen_toks: 16}
process_results: !function functions.process_results
metric_list:
  - {metric: reward, aggregation: mean, higher_is_better: true}
  - {metric: math, aggregation: mean, higher_is_better: true}
  - {metric: judged, aggregation: mean, higher_is_better: true}
"""

JUDGED = """
filter_list:
  - name: plaudit
    filter: [{function: custom, filter_fn: !function functions.judge_all}]
"""

BEST = """
repeats: 3
filter_list:
  - name: best
    filter: [{function: custom, filter_fn: !function functions.keep_best}]
"""


class Table(LM):
    """Answers from the table; asked several times, it says more at first."""

    def __init__(self, longer):
        super().__init__()
        self.longer = longer

    def generate_until(self, requests, disable_tqdm=False):
        seen = {}
        answers = []
        for request in requests:
            text = request.args[0]
            seen[text] = seen.get(text, 0) + 1
            answers.append(ANSWERS[text] + " and so on" * (3 - seen[text]) * self.longer)
        return answers

    def loglikelihood(self, requests, disable_tqdm=False):
        raise NotImplementedError

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError


def evaluate(kind):
    folder = Path.cwd()
    with open("questions.jsonl", "w") as file:
        for question, target in QUESTIONS:
            file.write(json.dumps({"question": question, "answer": target}) + "\n")
    Path("functions.py").write_text(FUNCTIONS)
    extra = {"alone": "", "filter": JUDGED, "best": BEST}[kind]
    Path("sums.yaml").write_text(TASK.replace("FOLDER", str(folder)) + extra)
    done = lm_eval.simple_evaluate(
        Table(kind == "best"),
        tasks=["sums"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=10,
    )
    return {
        "results": {name: value for name, value in done["results"]["sums"].items() if isinstance(value, (int, float))},
        "samples": [{name: one.get(name) for name in ("reward", "math", "short", "judged")} for one in done["samples"]["sums"]],
        "kept": [sample["filtered_resps"] for sample in done["samples"]["sums"]],
    }


if __name__ == "__main__":
    tell({kind: evaluate(kind) for kind in sys.argv[1:]})
