"""The command line with the embedded model, as after `make setup`."""

import html
import json
import re

import pytest

from tests.cli.test_judge import plaudit

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]


def test_the_second_run_answers_without_torch_or_the_weights(tmp_path):
    rows = [{"prompt": f"What is {number} + 1?", "chosen": str(number + 1), "rejected": "Blue."} for number in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outputs = []
    for reward in ("yes-token", "verdict"):
        command = ("judge", "rows.jsonl", "--reward", reward, "--json", "--out", f"{reward}.jsonl")
        first = plaudit(*command, cwd=tmp_path).stdout
        rows_written = (tmp_path / f"{reward}.jsonl").read_bytes()
        blocked = tmp_path / "blocked"
        blocked.mkdir(exist_ok=True)
        (blocked / "torch.py").write_text("raise ImportError('torch was imported')")
        assert plaudit(*command, cwd=tmp_path, PYTHONPATH=str(blocked)).stdout == first
        assert (tmp_path / f"{reward}.jsonl").read_bytes() == rows_written
        outputs.append(json.loads(first)["summary"])
    assert outputs[0]["status"] == {"ok": 6}
    assert outputs[1]["order_consistency"]["n"] == 3


def test_the_demo_writes_one_report_that_needs_nothing_else(tmp_path):
    shown = plaudit("demo", "--limit", "4", "--report", "r.html", cwd=tmp_path).stdout
    assert "yes-token" in shown
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Worst disagreements" in page
    loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]*)"', page.split("<body", 1)[0])
    assert [address for address in loaded if not address.startswith("data:")] == []
    assert "default-src 'none'" in html.unescape(page)  # the page's own policy forbids whatever a script in it might ask for
