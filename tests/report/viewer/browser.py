"""A headless Chromium for tests, driven over a pipe (the DevTools protocol); no package is needed."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


_START = "import os, sys; a = sys.argv; os.dup2(int(a[1]), 3); os.dup2(int(a[2]), 4); os.execvp(a[3], a[3:])"


class Browser:
    """One page of a browser. Commands and events are JSON texts that end with a zero byte."""

    def __init__(self, seconds: float = 120) -> None:
        self.seconds = seconds
        self._numbers = itertools.count(1)
        self._rest = b""
        self._events: list[dict[str, Any]] = []
        self._profile = tempfile.mkdtemp(prefix="chromium-test-")
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()
        # The browser reads from file 3 and writes to file 4.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_child, from_child)]
        command = [
            str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
            "--remote-debugging-pipe", f"--user-data-dir={self._profile}", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *map(str, ends), *command],
            pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (to_child, from_child, *ends):
            os.close(end)
        target = self._command("Target.createTarget", {"url": "about:blank"}, None)["targetId"]
        attached = self._command("Target.attachToTarget", {"targetId": target, "flatten": True}, None)
        self._session = attached["sessionId"]
        self.command("Page.enable")
        self.command("Runtime.enable")

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(self.seconds)
        for end in (self._write, self._read):
            os.close(end)
        shutil.rmtree(self._profile, ignore_errors=True)

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to the page; its result."""
        return self._command(method, parameters, self._session)

    def open(self, path: Path, fragment: str = "", size: tuple[int, int] = (1200, 900), phone: bool = False) -> None:
        """Load a file and wait until it is there."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=size[0], height=size[1], deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        for url in ("about:blank", f"file://{path}{fragment}"):  # a new fragment alone would not load the file again
            self._events.clear()
            self.command("Page.navigate", url=url)
            self._until_loaded(url)

    def _until_loaded(self, url: str) -> None:
        there = f"document.readyState === 'complete' && location.href === {json.dumps(url)}"
        end = time.monotonic() + self.seconds
        while self.command("Runtime.evaluate", expression=there)["result"].get("value") is not True:
            if time.monotonic() > end:
                raise TimeoutError(f"{url} was not loaded within {self.seconds} s")
            time.sleep(0.02)

    def run(self, script: str) -> Any:
        """The value of the body of an async function in the page; its error is raised."""
        result = self.command(
            "Runtime.evaluate", expression=f"(async () => {{ {script}\n }})()", awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise AssertionError(details.get("exception", {}).get("description") or details["text"])
        return result["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write what is seen as PNG."""
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))

    def problems(self) -> list[str]:
        """What the page wrote to its console as an error, refused scripts included, since it was loaded last."""
        events = [event for event in self._events if event.get("method") == "Runtime.exceptionThrown"]
        return [event["params"]["exceptionDetails"].get("text", "") for event in events]

    def _command(self, method: str, parameters: dict[str, Any], session: str | None) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode("utf-8") + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._events.append(answer)

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + self.seconds
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(end - time.monotonic(), 0))
            if not ready:
                raise TimeoutError(f"the browser did not answer within {self.seconds} s")
            piece = os.read(self._read, 1 << 20)
            if not piece:
                raise RuntimeError("the browser has ended")
            self._rest += piece
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)
