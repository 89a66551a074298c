"""`plaudit serve`: what is refused before anything listens. The service itself: tests/serve."""

import socket

import pytest

from plaudit.cli.main import main
from plaudit.cli.serve import names_of
from plaudit.types import UserError


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "there is no reward to serve"),
        (["length", "length"], "two rewards would be called 'length'"),
        (["a=length", "a=brevity"], "two rewards would be called 'a'"),
        (["=length"], "expected REWARD or NAME=REWARD"),
        (["length", "--host", "0.0.0.0"], "give --token"),
        (["length", "--host", "localhost.example.org"], "give --token"),
        (["length", "--token", "a b"], "without spaces"),
        (["length", "--token", "secret", "--no-token"], "contradicts"),
        (["length", "--token-file", "nowhere"], "nowhere cannot be read"),
        (["length", "--queue", "0"], "--queue must be positive"),
        (["length", "--max-wait-ms", "-1"], "--max-wait-ms"),
        (["length", "--unscored", "nan"], "--unscored must be a finite number"),
        (["length", "--port", "70000"], "cannot listen on 127.0.0.1:70000"),
        (["length", "--store", "nobody://here"], "nobody"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(arguments, says, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLAUDIT_TOKEN", raising=False)
    assert main(["serve", *arguments, *([] if "--store" in arguments else ["--store", "none"])]) == 2
    said = capfd.readouterr().err
    assert says in " ".join(said.split())
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken(capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", "length", "--store", "none", "--port", str(taken.getsockname()[1])]) == 2
    assert "Address already in use" in capfd.readouterr().err


def test_an_unknown_reward_is_found_before_anything_listens(capfd, tmp_path):
    """While another one is still being loaded."""
    slow = tmp_path / "slow.py"
    slow.write_text("import time\n\ntime.sleep(3)\n\n\ndef reward(response):\n    return 1.0\n")
    assert main(["serve", f"{slow}:reward", "no-such-reward", "--store", "none", "--port", "0"]) == 2
    said = capfd.readouterr()
    assert "unknown reward 'no-such-reward'" in said.err
    assert "http://" not in said.out


def test_names():
    assert names_of(["length", "q=OWNER/NAME", "{sum: [a, b]}"]) == {
        "length": "length",
        "q": "OWNER/NAME",
        "{sum: [a, b]}": "{sum: [a, b]}",
    }
    with pytest.raises(UserError, match="NAME=length"):
        names_of(["length", "length"])


def test_tokens_come_from_everywhere(monkeypatch, tmp_path):
    from plaudit.cli.serve import Serve

    (tmp_path / "tokens").write_text("from-file\n\nsecond\n")
    monkeypatch.setenv("PLAUDIT_TOKEN", "from-environment")
    found = Serve(["length"], token=("given",), token_file=tmp_path / "tokens", host="0.0.0.0").tokens()
    assert found == ["given", "from-environment", "from-file", "second"]
