"""The pages about other people's tools: their files and scripts run as they stand, beside the real packages."""

import re

import pytest

from tests.integrations.programs import ENVIRONMENTS, ROOT, run

PAGES = sorted((ROOT / "docs" / "integrations").glob("*.md"))
BLOCK = re.compile(r"^```(?:python|yaml)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\S+\.(?:py|yaml))\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page, tmp_path):
    """Blocks that begin with a file's name are that file; the others are one script."""
    script = []
    for block in BLOCK.findall(page.read_text("utf-8")):
        named = FILE.match(block)
        if named:
            (tmp_path / named[1]).write_text(block)
        else:
            script.append(block)
    assert script
    (tmp_path / "script.py").write_text("\n".join(script))
    run(page.stem, "script.py", folder=tmp_path)


def test_every_page_has_its_environment_and_stands_in_the_overview():
    overview = (ROOT / "docs" / "integrations.md").read_text("utf-8")
    for page in PAGES:
        pins = (ROOT / "tests" / "integrations" / "environments" / f"{page.stem}.txt").read_text("utf-8")
        assert f"integrations/{page.name}" in overview
        release = re.search(rf"^{page.stem}==(\S+)", pins, re.MULTILINE)[1]
        assert release in overview, f"{page.stem} is pinned at {release}"
    assert ENVIRONMENTS.parent.name == ".peers"
