"""A headless Chromium, driven through a pipe: what a page does in a real browser, without a network.

The messages are those of the Chrome DevTools Protocol, JSON that ends with a NUL, on the file descriptors 3 and 4 of
the browser (`--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--force-color-profile=srgb",
)
# Becomes the browser, with the ends of the two pipes where it looks for them.
START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE = 30.0
"""Seconds for one answer."""
KEYS = {"Enter": ("Enter", 13, "\r"), " ": ("Space", 32, " "), "Tab": ("Tab", 9, "")}
"""Key -> its code, its number and the text that it types."""


def program() -> str | None:
    """Where a Chromium is, or None."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """One browser; `close` ends it.

    Args:
        program: to start.
        profile: an empty folder that it may fill.
    """

    def __init__(self, program: str, profile: Path) -> None:
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        root = ["--no-sandbox"] if os.getuid() == 0 else []
        command = [program, *FLAGS, *root, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-Sc", START, str(theirs_in), str(theirs_out), *command],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._pending, self._number = b"", 0
        self._pages: dict[str, Page] = {}

    def open(self, path: Path, *, width: int = 1440, dark: bool = False, scripts: bool = True) -> Page:
        """A page in a new tab, loaded."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.show(width, dark)
        page.call("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        page.call("Page.navigate", {"url": path.resolve().as_uri()})
        while not page.loaded:
            self._take(self._next(time.monotonic() + PATIENCE))
        return page

    def call(self, method: str, values: dict[str, Any] | None = None, session: str = "") -> dict[str, Any]:
        """Send a command and wait for its result; events that come in between reach their pages."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": values or {}}
        message |= {"sessionId": session} if session else {}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        deadline = time.monotonic() + PATIENCE
        while (answer := self._next(deadline)).get("id") != self._number:
            self._take(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def forget(self, page: Page) -> None:
        self._pages.pop(page.session, None)
        self.call("Target.closeTarget", {"targetId": page.target})

    def close(self) -> None:
        """End the browser that was started here, and no other."""
        os.close(self._write)  # which it takes for the wish to end
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._read, 1 << 20) if ready else b""
            if not data:
                raise TimeoutError("the browser does not answer" if not ready else "the browser has ended")
            self._pending += data
        message, _, self._pending = self._pending.partition(b"\0")
        return dict(json.loads(message))

    def _take(self, event: dict[str, Any]) -> None:
        if page := self._pages.get(event.get("sessionId", "")):
            page.take(event.get("method", ""), event.get("params", {}))


class Page:
    """A tab. `errors` are what its console and its scripts complained of, `requests` every address it asked for."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self.session, self.target = browser, session, target
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.loaded = False

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.forget(self)

    def call(self, method: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._browser.call(method, values, self.session)

    def take(self, event: str, values: dict[str, Any]) -> None:
        """What happened to the page."""
        if event == "Page.loadEventFired":
            self.loaded = True
        elif event == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            details = values["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and values["type"] in {"error", "warning", "assert"}:
            self.errors.append(str(values["args"]))
        elif event == "Log.entryAdded" and values["entry"]["level"] in {"error", "warning"}:
            self.errors.append(values["entry"]["text"])

    def show(self, width: int, dark: bool, height: int = 900) -> None:
        """At this width, in light or dark."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", {"features": [scheme]})

    def evaluate(self, script: str) -> Any:
        """The value of an expression, as JSON carries it."""
        answer = self.call("Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True})
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def click(self, element: str) -> None:
        """Press and release the mouse in the middle of an element, given as an expression."""
        where = self.evaluate(
            f"(() => {{ const it = {element}; it.scrollIntoView({{block: 'center', inline: 'center'}});"
            " const box = it.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            event = {"type": kind, "x": where[0], "y": where[1], "clickCount": 1}
            self.call("Input.dispatchMouseEvent", event | {"button": "none" if kind == "mouseMoved" else "left"})

    def press(self, key: str) -> None:
        """A key of `KEYS`, for whatever has the focus."""
        code, number, text = KEYS[key]
        event = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", "text": text, **event})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", **event})

    def screenshot(self, file: Path) -> None:
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        part = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        taken = self.call("Page.captureScreenshot", {"clip": part, "captureBeyondViewport": True})
        file.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def started(profile: Path) -> Iterator[Browser]:
    """The browser that is there, closed at the end."""
    found = program()
    assert found is not None
    browser = Browser(found, profile)
    try:
        yield browser
    finally:
        browser.close()
