"""A language model behind an OpenAI-compatible server on this machine: asked with patience, believed with care.

In: the base URL (`http://127.0.0.1:8080/v1`: llama.cpp, vLLM, Ollama, LM Studio, …) and a model's name. Out: checked answers.

1. Only loopback addresses are spoken to unless a remote one is allowed; the address that was checked is the one that is connected to. No
   redirect is followed and no proxy is used.
2. One answer has one deadline, from connect to the last byte, and a largest size; a server that drips bytes is cut off like one that hangs.
3. What can pass (timeouts, 429, 5xx, a connection that breaks, an answer that is not what was asked for) is tried again with growing
   pauses; then it is a `JudgeFailure` of one feature. What cannot pass (nobody listens, no such model) is a `ModelError` that stops.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from atlas.errors import ModelError, UsageError
from ingest.labels.judges import JudgeFailure, Label, Shown, Verdict

T = TypeVar("T")
Message = dict[str, str]
KEY_VARIABLE = "ATLAS_ENDPOINT_KEY"
"""Environment variable with the server's key, where it wants one."""
MAX_BYTES = 1 << 20
"""Largest answer that is read."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
"""Seconds before the second try, and at most."""
BATCH = 10
"""Texts that are judged in one question."""


class _Passing(Exception):
    """Something that may be gone at the next try; `pause` is what the server asks for."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


@dataclass
class Endpoint:
    """A chat-completions server.

    Raises UsageError for a URL that is none or an address that is not this machine's.
    """

    url: str
    model: str
    timeout: float = 120.0
    """Seconds for one answer."""
    retries: int = 3
    """Tries after the first."""
    allow_remote: bool = False
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"endpoint is {self.url!r}.", hint="Write a URL such as http://127.0.0.1:8080/v1.")
        if parts.username or parts.password:
            raise UsageError("the endpoint's URL holds a password", hint=f"Put the server's key into ${KEY_VARIABLE}.")
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        try:
            self._port = parts.port or (443 if self._secure else 80)
        except ValueError as error:
            raise UsageError(f"endpoint is {self.url!r}: {error}.", hint="A port is a number up to 65535.") from error
        self._path = parts.path.rstrip("/") + "/chat/completions"
        self._address = checked_address(self._host, self._port, allow_remote=self.allow_remote)

    def ask(self, messages: Sequence[Message], check: Callable[[str], T], *, max_tokens: int = 300) -> T:
        """Return what `check` makes of the model's answer (it raises ValueError for one that will not do).

        Raises:
            JudgeFailure: no usable answer after all tries.
            ModelError: nobody listens, or the server refuses key, path or model.
        """
        body = {"model": self.model, "messages": list(messages), "temperature": 0, "max_tokens": max_tokens, "stream": False}
        payload = json.dumps(body, ensure_ascii=False).encode()
        reason = ""
        for attempt in range(self.retries + 1):
            try:
                return check(self._content(payload))
            except ValueError as error:
                reason, pause = f"the answer was not what was asked for: {error}", 0.0
            except _Passing as error:
                reason, pause = str(error), error.pause
            if attempt < self.retries:
                self.sleep(min(max(pause, FIRST_PAUSE * 2**attempt), LONGEST_PAUSE))
        raise JudgeFailure(reason, attempts=self.retries + 1)

    def _content(self, payload: bytes) -> str:
        """Return the text of one completion; raises _Passing, ValueError, JudgeFailure, ModelError."""
        status, header, raw = self._exchange(payload)
        if status in (401, 403, 404):
            hint = f"Check URL and model name ({self.model!r}), or the key in ${KEY_VARIABLE}."
            raise ModelError(f"the endpoint answers {status}: {_excerpt(raw)}", hint=hint)
        if status == 429 or status >= 500:
            raise _Passing(f"the endpoint answers {status}: {_excerpt(raw)}", _retry_after(header))
        if status != 200:
            raise JudgeFailure(f"the endpoint answers {status}: {_excerpt(raw)}")
        try:
            answer = json.loads(raw)
            content = answer["choices"][0]["message"]["content"]
        except (ValueError, RecursionError) as error:
            raise ValueError(f"no JSON but {_excerpt(raw)}") from error
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"no choices[0].message.content in {_excerpt(raw)}") from error
        if not isinstance(content, str) or not content.strip():
            raise ValueError("an empty message")
        return content

    def _exchange(self, payload: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Post once; the whole exchange ends at the deadline, whatever the server does."""
        connection = self._connection()
        late = threading.Event()

        held: list[socket.socket] = []  # the connection lets go of its socket while an answer is still being read

        def cut() -> None:
            late.set()
            for each in held:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self.timeout, cut)
        timer.daemon = True
        timer.start()
        try:
            headers = {"Content-Type": "application/json", "Accept": "application/json", "Host": self._host}
            if key := os.environ.get(KEY_VARIABLE):
                headers["Authorization"] = f"Bearer {key}"
            connection.connect()
            held.append(connection.sock)
            connection.request("POST", self._path, payload, headers)
            response = connection.getresponse()
            raw = response.read(MAX_BYTES + 1)
        except ConnectionRefusedError as error:
            hint = "Start the server, or give its address with --endpoint."
            raise ModelError(f"nobody listens at {self.url}", hint=hint) from error
        except (OSError, http.client.HTTPException) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise _Passing(f"no answer within {self.timeout:g} s") from error
            raise _Passing(f"the connection broke: {type(error).__name__}: {str(error)[:80]}") from error
        finally:
            timer.cancel()
            connection.close()
        if late.is_set():
            raise _Passing(f"no answer within {self.timeout:g} s")
        if len(raw) > MAX_BYTES:
            raise _Passing(f"the answer is larger than {MAX_BYTES:,} bytes")
        length = response.getheader("Content-Length")
        if length is not None and length.isdigit() and len(raw) < int(length):
            raise _Passing(f"the connection broke after {len(raw)} of {length} bytes")
        return response.status, response.headers, raw

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            connection: http.client.HTTPConnection = _Verified(self._address, self._port, self._host, self.timeout)
        else:
            connection = http.client.HTTPConnection(self._address, self._port, timeout=self.timeout)
        return connection


class _Verified(http.client.HTTPSConnection):
    """HTTPS to an address that was checked, with the certificate of the name that was given."""

    def __init__(self, address: str, port: int, name: str, timeout: float) -> None:
        super().__init__(address, port, timeout=timeout)
        self._name = name

    def connect(self) -> None:
        """Connect, then wrap with the name."""
        http.client.HTTPConnection.connect(self)
        self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self._name)


def checked_address(host: str, port: int, *, allow_remote: bool) -> str:
    """Return the address to connect to.

    Raises:
        UsageError: the host is unknown, or an address of it is not this machine's and that is not allowed.
    """
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise UsageError(f"endpoint's host {host!r} is not known: {error}", hint="Write 127.0.0.1 or localhost.") from error
    remote = [address for address in found if not ipaddress.ip_address(address.partition("%")[0]).is_loopback]
    if remote and not allow_remote:
        hint = "Prompts and texts would leave it. --allow-remote if that is what you want."
        raise UsageError(f"endpoint {host!r} is not this machine ({remote[0]}).", hint=hint)
    return found[0]


def _retry_after(headers: http.client.HTTPMessage) -> float:
    text = headers.get("Retry-After", "")
    return float(text) if re.fullmatch(r"\d{1,4}(\.\d+)?", text.strip()) else 0.0


def _excerpt(raw: bytes) -> str:
    """Return the start of an answer as one printable line."""
    text = raw[:200].decode("utf-8", "replace")
    return repr("".join(letter if letter.isprintable() else " " for letter in text)[:120])


def json_object(content: str) -> dict[str, Any]:
    """Return the JSON object of an answer, in a code fence or after a <think> part too.

    Raises:
        ValueError: there is none.
    """
    text = re.sub(r"<think>.*?</think>", "", content, flags=re.DOTALL).strip()
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ValueError(f"no JSON object in {_excerpt(content.encode())}")
    try:
        value = json.loads(text[start : end + 1])
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


JUDGE_SYSTEM = (
    "You judge descriptions of features of a language model. A feature fires on some words. Answer with one JSON object and nothing else."
)
DETECTION = (
    "Description of a feature: {label}\n\nFor each text: does the feature fire somewhere in it?\n\n{texts}\n\n"
    'Answer {{"answers": [...]}} with {n} numbers, 1 for yes and 0 for no, in the order of the texts.'
)
FUZZING = (
    "Description of a feature: {label}\n\nIn each text some words stand in « ». Does the feature fire on these words?\n\n{texts}\n\n"
    'Answer {{"answers": [...]}} with {n} numbers, 1 for yes and 0 for no, in the order of the texts.'
)
INTRUDER = (
    "A feature fires on the words in « » in all of these texts but one. In that one other words were marked.\n\n{texts}\n\n"
    'Which text does not belong? Answer {{"intruder": number}}.'
)


class EndpointJudge:
    """A language model behind an endpoint as a judge, asked for zeros and ones."""

    kind = "chat"

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.name: str | None = endpoint.model

    def recognise(self, label: Label, shown: Sequence[Shown], method: str) -> list[Verdict]:
        """Ask about ten texts at a time."""
        question = DETECTION if method == "detection" else FUZZING
        verdicts: list[Verdict] = []
        for start in range(0, len(shown), BATCH):
            part = shown[start : start + BATCH]
            text = question.format(label=label.text, texts=_listed(part), n=len(part))
            verdicts += [Verdict(answer) for answer in self.endpoint.ask(_messages(text), partial(_answers, n=len(part)))]
        return verdicts

    def intruders(self, trials: Sequence[Sequence[Shown]]) -> list[int]:
        """Ask about one trial at a time."""
        said = []
        for trial in trials:
            text = INTRUDER.format(texts=_listed(trial))
            said.append(self.endpoint.ask(_messages(text), partial(_number, n=len(trial))) - 1)
        return said


def _messages(text: str) -> list[Message]:
    return [{"role": "system", "content": JUDGE_SYSTEM}, {"role": "user", "content": text}]


def _listed(shown: Sequence[Shown]) -> str:
    return "\n".join(f"{number}. {each.text}" for number, each in enumerate(shown, 1))


def _answers(content: str, n: int) -> list[bool]:
    found = json_object(content).get("answers")
    if not isinstance(found, list) or len(found) != n or any(value not in (0, 1) for value in found):
        raise ValueError(f"expected {n} zeros and ones in answers, got {str(found)[:80]}")
    return [bool(value) for value in found]


def _number(content: str, n: int) -> int:
    found = json_object(content).get("intruder")
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= n:
        raise ValueError(f"expected a number from 1 to {n} in intruder, got {str(found)[:80]}")
    return found
