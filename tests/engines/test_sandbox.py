"""What the sandbox gives back for code that means no harm, and how it treats limits, sessions and its own end."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from plaudit.engines import sandbox as module
from plaudit.engines.sandbox import Execution, Limits, Sandbox, SandboxUnavailable
from plaudit.engines.sandboxing import seccomp
from plaudit.types import UserError
from tests.engines.processes import descendants, until

SHORT = Limits(cpu_seconds=0.5, wall_seconds=1.5)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(SHORT, strict=False) as opened:
        yield opened


@pytest.mark.parametrize(
    ("code", "status", "stdout", "detail"),
    [
        ("print(6 * 7)", "ok", "42\n", ""),
        ("", "ok", "", ""),
        ("1 / 0", "error", "", "ZeroDivisionError: division by zero"),
        ("print(", "error", "", "SyntaxError"),
        ("print('so far'); raise ValueError('x' * 9000)", "error", "so far\n", "ValueError: xxx"),
        ("import sys; print('a'); sys.exit(0)", "ok", "a\n", ""),
        ("import sys; sys.exit(3)", "error", "", "SystemExit: 3"),
        ("import os; print('a', flush=True); os._exit(0)", "ok", "a\n", ""),
        ("import os; os._exit(9)", "error", "", "exit code 9"),
        ("import os; os.kill(os.getpid(), 11)\nprint('pid 1 survives its own signals')", None, None, ""),
        ("import ctypes; ctypes.string_at(0)", "error", "", "SIGSEGV"),
        ("class E(Exception):\n def __str__(self): raise self\nraise E", "error", "", "E"),
        ("while True: pass", "timeout", "", ""),
        ("import time; time.sleep(60)", "timeout", "", "longer than 1.5 s"),
        (
            "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()",
            "ok",
            "late\n",
            "",
        ),
        ("import decimal, json, hashlib, fractions; print(fractions.Fraction(1, 3))", "ok", "1/3\n", ""),
        ("print('\\ud800')", "ok", "?\n", ""),
        ("x = '\ud800'", "error", "", "UnicodeEncodeError"),
    ],
)
def test_outcomes(sandbox, code, status, stdout, detail):
    done = sandbox.run(code)
    if status is not None:
        assert (done.status, done.stdout) == (status, stdout), done
    assert detail in done.detail
    assert len(done.detail) <= 600


def test_errors_are_shown_without_the_house(sandbox):
    done = sandbox.run("def f():\n    return 1 / 0\nf()")
    assert "ZeroDivisionError" in done.stderr
    assert 'File "<code>", line 3' in done.stderr
    assert "child.py" not in done.stderr


def test_standard_input_and_expected_output(sandbox):
    code = "print(sum(map(int, open(0).read().split())))"
    assert sandbox.run(code, stdin="1 2\n3", expected="6").status == "ok"
    wrong = sandbox.run(code, stdin="1 2\n3", expected="7")
    assert (wrong.status, wrong.stdout) == ("wrong", "6\n")
    assert sandbox.run("1/0", expected="7").status == "error"
    assert sandbox.run("import sys; print(len(sys.stdin.read()))", stdin="x" * 500_000).stdout == "500000\n"


def test_too_much_code_is_not_run(sandbox):
    assert sandbox.run("#" * (module.MOST_CODE + 1)).status == "refused"
    assert sandbox.run("1", stdin="#" * (module.MOST_CODE + 1)).status == "refused"


def test_the_same_code_gives_the_same_numbers():
    code = "import random; print(random.random(), hash('a'), list({'a', 'b', 'c', 'd'}))"
    found = []
    for _ in range(2):
        with Sandbox(SHORT, strict=False) as opened:
            found += [opened.run(code), opened.run(code)]
    assert len(set(found)) == 1
    assert found[0].ok


def test_every_execution_begins_afresh(sandbox):
    assert sandbox.run("x = 1; import builtins; builtins.y = 2; open('/tmp/a', 'w').write('b')").ok
    after = sandbox.run("import os\nprint('x' in globals(), 'y' in dir(__builtins__), os.listdir('/tmp'))")
    assert after.stdout == "False False []\n", after


def test_many_at_once(sandbox):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: sandbox.run(f"print({n} ** 2)").stdout, range(40)))
    assert found == [f"{n**2}\n" for n in range(40)]


def test_a_thread_that_ends_does_not_take_the_sandbox_along():
    with Sandbox(SHORT, strict=False) as opened:
        with ThreadPoolExecutor(1) as pool:
            session = pool.submit(opened.session).result()
            assert pool.submit(session.run, "x = 1").result().ok
        assert session.run("print(x)").stdout == "1\n"


def test_a_session_keeps_its_names_and_nobody_elses(sandbox):
    with sandbox.session() as first, sandbox.session() as second:
        assert first.run("x = 3\ndef f(): return x + 1").ok
        assert first.run("print(f())").stdout == "4\n"
        assert "NameError" in second.run("x").detail
        assert first.run("1 / 0").status == "error"
        assert first.run("print(input(), x)", stdin="in").stdout == "in 3\n"


def test_a_session_that_loses_its_names_says_so(sandbox):
    with sandbox.session() as session:
        session.run("x = 3")
        assert session.run("while True: pass").status == "timeout"
        after = session.run("print(x)")
        assert after.status == "error"
        assert "NameError" in after.detail
        assert "gone" in after.detail
        assert session.run("x = 4").detail == ""
        assert session.run("import sys; sys.exit(0)").detail == "SystemExit: 0"
        assert session.run("x").ok
        assert session.run("import os; os._exit(0)").status == "error"
        assert "gone" in session.run("print(1)").detail


def test_limits_must_be_positive():
    with pytest.raises(UserError, match="wall_seconds"):
        Limits(wall_seconds=0)
    with pytest.raises(UserError, match="isolation"):
        Sandbox(isolation="some")


def test_what_cannot_be_guaranteed_is_said_and_refused():
    with Sandbox(SHORT, strict=False, isolation="none") as opened:
        given = opened.guarantees()
        assert given["limits"].given
        assert not given["no network"].given
        assert "isolation='none'" in given["no files"].how
        assert opened.run("print(1)").stdout == "1\n"
    with Sandbox(SHORT, isolation="none") as strict, pytest.raises(SandboxUnavailable, match="no network, no files"):
        strict.run("print(1)")


def test_limits_hold_without_namespaces():
    with Sandbox(SHORT, strict=False, isolation="limits") as opened:
        assert opened.run("while True: pass").status == "timeout"
        assert "MemoryError" in opened.run("x = [0] * 10**9").detail
        assert opened.run("print('x' * 10**6)").status == "refused"
        assert opened.run("import socket; socket.socket()").status == "error"
        code = "import os, time\nfor _ in range(3):\n  if os.fork() == 0: os.setsid(); time.sleep(60)\nprint('done')"
        assert opened.run(code).stdout == "done\n"
        assert opened.run("print('still here')").ok


def test_check_proves_itself(sandbox):
    sandbox.check()


def test_a_copy_is_a_new_sandbox(sandbox):
    with pickle.loads(pickle.dumps(sandbox)) as copied:
        assert copied.settings == sandbox.settings
        assert copied.run("print(1)").ok


def test_a_template_that_died_is_replaced(sandbox):
    assert sandbox.run("print(1)").ok
    os.kill(sandbox._template.pid, signal.SIGKILL)
    time.sleep(0.05)
    assert sandbox.run("print(2)").stdout == "2\n"


def test_a_template_that_cannot_start_says_why():
    with pytest.raises(SandboxUnavailable, match="no_such_module"):
        Sandbox(preload=("no_such_module",), strict=False).run("1")


def test_packages_only_where_asked_for(sandbox):
    assert "ModuleNotFoundError" in sandbox.run("import yaml").detail
    with Sandbox(SHORT, strict=False, packages=True) as opened:
        assert opened.run("import yaml; print(yaml.safe_load('[1]'))").stdout == "[1]\n"


def test_nothing_is_left_when_the_caller_is_killed():
    script = textwrap.dedent("""
        import threading, time
        from plaudit.engines.sandbox import Limits, Sandbox
        sandbox = Sandbox(Limits(wall_seconds=60, cpu_seconds=60), strict=False)
        sandbox.run("1")
        threading.Thread(target=sandbox.run, args=("import time; time.sleep(50)",), daemon=True).start()
        print("ready", flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout.readline() == "ready\n"
        until(lambda: len(descendants(caller.pid)) >= 4)  # launcher, template, runner, child
        made = descendants(caller.pid)
        caller.kill()
    assert until(lambda: not [pid for pid in made if os.path.exists(f"/proc/{pid}")])


def test_the_filter_is_a_program_that_ends():
    for machine in seccomp.DENIED:
        code = seccomp.program(machine)
        assert len(code) % 8 == 0
        assert 0 < len(code) // 8 < 256  # jumps are one byte
    with pytest.raises(KeyError):
        seccomp.program("vax")


def test_executions_compare_by_what_they_say():
    assert Execution("ok", "1") == Execution("ok", "1")
    assert not Execution("wrong").ok


def test_packages_below_the_temporary_folder_stay_in_sight(monkeypatch):
    """An environment that was made below /tmp: each execution has a new empty /tmp, but for these folders."""
    folder, hidden = (Path(tempfile.mkdtemp(dir="/tmp")) for _ in range(2))
    try:
        folder.chmod(0o755)
        (folder / "a_module.py").write_text("value = 7\n")
        monkeypatch.setattr(module, "_visible", with_folder(module._visible, str(folder)))
        with Sandbox(SHORT, strict=False, packages=True) as opened:
            assert opened.run("import a_module; print(a_module.value)").stdout == "7\n"
            if all(one.given for one in opened.guarantees().values()):
                assert opened.run(f"open({str(folder / 'new')!r}, 'w')").status == "error"
                seen = opened.run("import os; open('/tmp/own', 'w'); print(*os.listdir('/tmp'))").stdout.split()
                assert {"own", folder.name} <= set(seen)
                assert hidden.name not in seen
        assert [path.name for path in folder.iterdir() if path.suffix == ".py"] == ["a_module.py"]
    finally:
        shutil.rmtree(folder)
        hidden.rmdir()


def with_folder(visible, folder):
    def more(packages):
        found = visible(packages)
        return {**found, "sources": [*found["sources"], folder], "packages": [*found["packages"], folder]}

    return more
