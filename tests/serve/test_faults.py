"""What clients and networks do wrong, against a real service: it answers everybody else, and loses nothing."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest

from tests.engines.processes import until
from tests.serve.running import running

FILE = "tests/serve/served.py"
LIMITS = ("--max-body", "200000", "--read-seconds", "2")
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def service():
    with running(f"slow={FILE}:slow", *LIMITS) as started:
        yield started


def item(text="0", **more):
    return {"prompt": "p", "response": text, **more}


def body(*texts):
    return {"items": [item(text) for text in texts]}


def connect(service):
    parts = urlsplit(service.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def request(content, length=None, path="/v1/score"):
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length or len(content)}\r\n\r\n"
    )
    return head.encode() + content


def metric(service, name):
    lines = service.get("/metrics").text.splitlines()
    return float(next((line.split()[-1] for line in lines if line.startswith(name)), 0.0))


def works(service):
    answer = service.post("/v1/score", body("0"))
    return answer.status_code == 200 and answer.json()["items"][0]["value"] == 1.0


def closed(connection, seconds=20.0):
    """Whether the server ends the connection, after whatever it still says."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


# -- clients that leave or dawdle ------------------------------------------------------------------------------------------


def test_work_of_clients_that_hang_up_is_dropped(service):
    before = metric(service, "plaudit_judged_units_total")
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(service.post, "/v1/score", body("1.5"))
        assert until(lambda: metric(service, "plaudit_waiting_units") == 0 and not busy.done())
        time.sleep(0.2)  # the batch is cut: whatever comes now waits
        gone = [connect(service) for _ in range(20)]
        for connection in gone:
            connection.sendall(request(json.dumps(body("0.4")).encode()))
        assert until(lambda: metric(service, "plaudit_waiting_units") == 20)
        for connection in gone:
            connection.close()
        assert until(lambda: metric(service, "plaudit_waiting_units") == 0)
        assert busy.result().status_code == 200
    assert works(service)
    assert metric(service, "plaudit_judged_units_total") == before + 1 + 1
    assert len([line for line in service.accesses if line.get("gone")]) == 20


def test_a_body_that_ends_before_its_end(service):
    content = json.dumps(body("0")).encode()
    for part in (0, 1, len(content) // 2, len(content) - 1):
        with connect(service) as connection:
            connection.sendall(request(content)[: len(request(content)) - len(content) + part])
    assert works(service)


def test_many_half_open_connections_do_not_stop_the_others(service):
    """Slow-loris: headers that never end, bodies that never come, silence."""
    beginnings = (b"POST /v1/score HTTP/1.1\r\nX-A: ", request(b"{", 100), b"", b"GET /hea")
    stop = threading.Event()
    with ExitStack() as stack:
        half_open = [stack.enter_context(connect(service)) for _ in range(300)]
        for number, connection in enumerate(half_open):
            connection.sendall(beginnings[number % len(beginnings)])

        def drip():
            while not stop.wait(0.3):
                for connection in half_open[:150]:
                    try:
                        connection.sendall(b"a")
                    except OSError:
                        continue

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert all(works(service) for _ in range(20))
            assert all(closed(connection) for connection in half_open), "a connection that says nothing stays open"
        finally:
            stop.set()
            thread.join()
    assert works(service)


def test_a_client_that_reads_no_answer_is_in_nobodys_way(service):
    with ExitStack() as stack:
        for _ in range(50):
            connection = stack.enter_context(connect(service))
            connection.sendall(request(json.dumps(body("0")).encode()))
        assert works(service)


# -- bodies ----------------------------------------------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(service):
    with connect(service) as connection:
        connection.sendall(request(b"{", 10**12))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
        assert closed(connection)


def test_a_body_that_does_not_say_how_large_it_is(service):
    def endless():
        while True:
            yield b" " * 10_000

    try:
        code = httpx.post(service.url + "/v1/score", content=endless(), headers=JSON, timeout=30).status_code
    except httpx.WriteError:  # the server closed while the client was still sending: as good an answer
        code = 413
    assert code == 413
    assert works(service)


def test_a_body_that_comes_too_slowly(service):
    with connect(service) as connection:
        connection.sendall(request(b"{", 100))
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")


DEEP = 50_000
BODIES = {
    "empty": b"",
    "cut": b'{"items": [',
    "no utf-8": b'{"items": [{"prompt": "\xff\xfe", "response": "0"}]}',
    "utf-16": '{"items": []}'.encode("utf-16"),
    "NaN": b'{"items": [{"prompt": "p", "response": "0", "reference": NaN}]}',
    "Infinity": b'{"items": [{"prompt": "p", "response": "0", "extras": {"a": [-Infinity]}}]}',
    "number without end": b'{"items": [{"prompt": "p", "response": "0", "reference": 1e999}]}',
    "NaN as seed": b'{"seed": NaN, "items": [{"prompt": "p", "response": "0"}]}',
    "long number": b'{"seed": ' + b"9" * 10_000 + b', "items": [{"prompt": "p", "response": "0"}]}',
    "deep list": b"[" * DEEP + b"]" * DEEP,
    "deep object": b'{"a":' * (DEEP // 2) + b"0" + b"}" * (DEEP // 2),
    "deep reference": b'{"items": [{"prompt": "p", "response": "0", "reference": ' + b"[" * DEEP + b"]" * DEEP + b"}]}",
    "list": b"[1, 2]",
    "null": b"null",
    "words": b"items=1&seed=2",
    "zip": b"\x1f\x8b\x08\x00" + b"\x00" * 100,
}
PATHS = ("/v1/score", "/v1/compare", "/v1/rank", "/get_reward", "/compute_score", "/classify", "/rerank")


@pytest.mark.parametrize("path", PATHS)
def test_what_is_no_request_is_refused_in_a_sentence(service, path):
    for name, content in BODIES.items():
        answer = httpx.post(service.url + path, content=content, headers=JSON, timeout=30)
        assert answer.status_code in (400, 422), (name, answer.status_code, answer.text[:300])
        assert answer.json()["detail"], name


@pytest.mark.parametrize("text", ["\x00", "\ud800", "\U0010ffff", "﻿", "a" * 50_000])
def test_strange_texts_are_judged_or_refused_and_nothing_breaks(service, text):
    content = json.dumps({"items": [{"prompt": text, "response": "0", "user": text[:100], "extras": {text[:50]: text}}]})
    answer = httpx.post(service.url + "/v1/score", content=content, headers=JSON, timeout=30)
    assert answer.status_code in (200, 422), answer.text[:300]
    assert works(service)


def test_a_deep_reference_within_reason_is_judged(service):
    reference = 0
    for _ in range(100):
        reference = [reference]
    assert service.post("/v1/score", {"items": [item(reference=reference)]}).status_code == 200


# -- tokens ----------------------------------------------------------------------------------------------------------------


def test_wrong_tokens():
    with running(f"slow={FILE}:slow", "--token", "sesame-1", "--token", "sesame-2") as guarded, httpx.Client() as client:
        right = {"Authorization": "Bearer sesame-2"}
        assert guarded.post("/v1/score", body("0"), headers=right).status_code == 200
        wrong = ["Bearer", "Bearer sesame", "Bearer sesame-1 sesame-2", "sesame-1", "Token sesame-1", "bearer SESAME-1",
                 "Basic sesame-1", "Basic !!", "Basic c2VzYW1lLTE=", "Basic c2VzYW1lLTE6"]  # fmt: skip
        for path in (*PATHS, "/v1/rewards", "/docs", "/openapi.json", "/nothing"):
            for header in [None, b"Bearer \xff\xfe", *wrong]:
                headers = {} if header is None else {"Authorization": header}
                answer = client.post(guarded.url + path, json=body("0"), headers=headers)
                assert answer.status_code == 401, (path, header)
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                assert "sesame" not in answer.text
        assert "sesame" not in guarded.log
        assert guarded.get("/health").status_code == guarded.get("/ready").status_code == 200


# -- the end of the service ------------------------------------------------------------------------------------------------


def test_sigterm_under_load_answers_everything_that_was_accepted():
    with running(f"slow={FILE}:slow") as loaded:
        codes, lock = [], threading.Lock()

        def client():
            while True:
                try:
                    answer = httpx.post(loaded.url + "/v1/score", json=body("0.05"), timeout=30)
                except httpx.TransportError:  # the socket is closed, or was, before the service took the connection
                    return
                with lock:
                    codes.append(answer.status_code)
                if answer.status_code == 503:
                    time.sleep(0.02)

        threads = [threading.Thread(target=client) for _ in range(16)]
        for thread in threads:
            thread.start()
        assert until(lambda: codes.count(200) >= 32)
        assert loaded.stop() == 0
        for thread in threads:
            thread.join()
        assert set(codes) <= {200, 503}
        assert codes.count(503) > 0, "the end came before anybody was refused: nothing was tested"
        judged = [line["code"] for line in loaded.accesses if line["path"] == "/v1/score"]
        assert judged.count(200) == codes.count(200), "something was judged, and its client does not know"
