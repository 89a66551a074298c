"""`plaudit rewards`: what there is, one line each."""

from __future__ import annotations

import json
from dataclasses import dataclass

from rich.table import Table

from plaudit.cli.common import out
from plaudit.rewards.catalogue import catalogue


@dataclass
class Rewards:
    """List the rewards that `--reward` knows by name."""

    json: bool = False
    """Print as JSON."""

    def run(self) -> int:
        """Always 0."""
        entries = catalogue()
        if self.json:
            records = [{"name": entry.name, "family": entry.family, "description": entry.description} for entry in entries]
            out.file.write(json.dumps(records, indent=1) + "\n")
            return 0
        table = Table(box=None, pad_edge=False)
        for column in ("name", "family", "what it says"):
            table.add_column(column)
        for entry in entries:
            table.add_row(entry.name, entry.family, entry.description)
        out.print(table)
        out.print(
            "\nAlso: a model folder or OWNER/NAME (scalar reward model), FILE.yaml (composition or contract), "
            "FILE.py:OBJECT, or an inline {composition}.",
            highlight=False,
        )
        return 0
