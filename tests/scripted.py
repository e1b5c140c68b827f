"""A server of the chat-completions API on this machine, which answers, or misbehaves, by script."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-scripted-0123456789abcdef"


def capitals(asked: dict) -> str:
    """Return an answer that gives every capitalised word of the last sentence asked about the first option."""
    if "give an explanation of why" in asked["messages"][-1]["content"]:
        return f"It is labelled so , for the text tells of it . {asked['messages'][-1]['content'][:60]}"
    [sentence] = re.findall(r"^Sentence: (.*)$", said(asked), re.MULTILINE)
    [options] = re.findall(r"^Options: (.*)$", said(asked), re.MULTILINE)
    typed = "type : entity" in said(asked)
    shape, joint = ("{} : {}", " ; ") if typed else ("({}, {})", " ")
    found = [shape.format(options.split(", ")[0], word) for word in sentence.split() if word[:1].isupper()]
    return joint.join(found) or "none"


def said(asked: dict) -> str:
    """Return the last question about a sentence; a complaint is none."""
    return next(m["content"] for m in reversed(asked["messages"]) if "\nSentence: " in m["content"])


class Scripted:
    """A server: `with Scripted(fault, fault) as server`. Each fault spoils one request; then it answers.

    requests   what was asked, as JSON, in the order of arrival
    keys       the keys that were sent
    """

    def __init__(self, *faults, answer=capitals):
        self.faults, self.answer = list(faults), answer
        self.requests, self.keys, self.times = [], [], []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                server.serve(self)

            def log_message(self, *_):
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def serve(self, handler) -> None:
        asked = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.requests.append(asked)
            self.keys.append(handler.headers.get("Authorization"))
            self.times.append(time.monotonic())
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            fault = self.faults.pop(0) if self.faults else None
        try:
            if fault is not None:
                fault(handler, asked)
            else:
                send(handler, 200, completion(self.answer(asked)))
        finally:
            with self.lock:
                self.at_once -= 1


def completion(text: str | None, *, finish: str = "stop", refusal: str | None = None) -> dict:
    """Return a chat completion."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }  # fmt: skip


def send(handler, code: int, body, headers=()) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(code)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **dict(headers)}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


# ---------------------------------------------------------------------------------------------- faults


def status(code: int, message: str = "no", *, reason: str | None = None, **headers: str):
    """Return a fault: a status with the API's error body. A header's name is written with underscores."""
    body = {"error": {"message": message, "type": "x", "param": None, "code": reason}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, _: send(handler, code, body, named)


def says(text: str | None, **more):
    """Return a "fault" that answers this text."""
    return lambda handler, _: send(handler, 200, completion(text, **more))


def sends(body: bytes, **headers: str):
    """Return a fault: these bytes, with status 200."""
    return lambda handler, _: send(handler, 200, body, {n.replace("_", "-"): v for n, v in headers.items()})


def cut(handler, _) -> None:
    """Close the connection in the midst of the body."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def hang_up(handler, _) -> None:
    """Close the connection without a word."""
    handler.close_connection = True


def drip(seconds: float):
    """Return a fault: a body that comes byte by byte, and never ends within so many seconds."""

    def fault(handler, _):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.close_connection = True
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                handler.wfile.write(b" ")
                handler.wfile.flush()
            except OSError:
                return  # whoever asked has gone
            time.sleep(0.02)

    return fault
