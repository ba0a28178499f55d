"""A page in a real browser, for tests: headless Chromium over the DevTools protocol.

``Chromium`` starts one process with an empty profile and ends it by its own process group.
``Page.load`` remembers what a page must not do: say something on the console, or ask the network.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import aiohttp

from results.clock import Clock, SystemClock

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
START_S, COMMAND_S, POLL_S = 60.0, 60.0, 0.02

# Texts whose contrast with what lies behind them is below 4.5 (3.0 where large or bold-large).
POOR_CONTRAST = """
(() => {
  const parse = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const luminance = c => {
    const f = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(c.r) + 0.7152 * f(c.g) + 0.0722 * f(c.b);
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.a === 1) return c;
      if (c.a > 0) throw new Error('a half transparent background');
    }
    return { r: 255, g: 255, b: 255, a: 1 };
  };
  const poor = [];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const e = node.parentElement;
    if (!node.data.trim() || e.closest('script, style, noscript, .unseen')) continue;
    if (e.closest('[aria-hidden]') && !e.closest('.chart')) continue;
    if (!e.getClientRects().length || e.closest('details:not([open])')) continue;
    const style = getComputedStyle(e);
    const svg = e.ownerSVGElement;
    const ink = parse(svg ? style.fill : style.color);
    const a = luminance(ink), b = luminance(behind(svg ? svg.parentElement : e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 ||
      (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    seen += 1;
    const said = node.data.trim().slice(0, 40);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${said}: ${ratio.toFixed(2)}`);
  }
  return { seen, poor };
})()
"""


class BrowserError(Exception):
    """Chromium did not start, did not answer, or a script on the page threw."""


class Chromium:
    """A context manager; ``binary`` is Chromium, ``profile`` a new, empty folder."""

    def __init__(self, binary: Path, profile: Path, clock: Clock | None = None) -> None:
        self._binary = binary
        self._profile = profile
        self._clock = clock or SystemClock()
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        # Its log goes to a file: a pipe nobody reads would stop it when full.
        with (self._profile / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(self._binary), *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own, so that its many processes end together and nobody else's.
                start_new_session=True,
            )
        try:
            self._endpoint = self._wait_for_port()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def page(self) -> Page:
        """A new tab; close it with ``close``."""
        page = Page(self._runner, self._endpoint)
        page.open()
        return page

    def _wait_for_port(self) -> str:
        # Chromium writes this file once it listens: port, then the browser's path.
        path = self._profile / "DevToolsActivePort"
        deadline = self._clock.monotonic_s() + START_S
        while self._clock.monotonic_s() < deadline:
            if self._process.poll() is not None:
                raise BrowserError(f"Chromium ended with {self._process.returncode}: {self._log()}")
            lines = path.read_text().splitlines() if path.exists() else []
            if len(lines) >= 2:
                return f"http://127.0.0.1:{lines[0]}"
            self._clock.sleep(POLL_S)
        raise BrowserError(f"Chromium did not listen within {START_S:g} s: {self._log()}")

    def _log(self) -> str:
        return (self._profile / "chromium.log").read_text(errors="replace")[-2000:]

    def _end(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            self._process.wait()
            self._runner.close()


class Page:
    """One tab. ``problems`` and ``requests`` grow while a page lives; ``load`` empties them."""

    def __init__(self, runner: asyncio.Runner, endpoint: str) -> None:
        self._runner = runner
        self._endpoint = endpoint
        self._next_id = 0
        self.problems: list[str] = []
        self.requests: list[str] = []

    def open(self) -> None:
        self._runner.run(self._open())
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")

    def close(self) -> None:
        self._runner.run(self._close())

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """One DevTools command and its result."""
        return self._runner.run(self._command(method, params))

    def load(
        self, path: Path | str, width: int = 1280, height: int = 900, dark: bool = False
    ) -> None:
        """Open a file or a URL at that viewport and colour scheme; returns when the page has
        loaded."""
        self.problems.clear()
        self.requests.clear()
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.scheme(dark)
        url = path if isinstance(path, str) else path.absolute().as_uri()
        self._runner.run(self._load(url))

    def scheme(self, dark: bool) -> None:
        value = "dark" if dark else "light"
        feature = {"name": "prefers-color-scheme", "value": value}
        self.command("Emulation.setEmulatedMedia", features=[feature])

    def run(self, script: str) -> Any:
        """The JSON-like value of an expression; a promise is awaited. Raises BrowserError."""
        reply = self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in reply:
            raise BrowserError(str(reply["exceptionDetails"]))
        return reply["result"].get("value")

    def screenshot(self, path: Path, full: bool = True) -> None:
        """A PNG of the whole page, or of what the viewport shows."""
        shot = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        path.write_bytes(base64.b64decode(shot["data"]))

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=COMMAND_S))
        async with self._session.put(f"{self._endpoint}/json/new?about:blank") as reply:
            target = await reply.json(content_type=None)
        self._target = target["id"]
        # Screenshots of long pages are large messages.
        self._socket = await self._session.ws_connect(
            target["webSocketDebuggerUrl"], max_msg_size=256 * 2**20
        )

    async def _close(self) -> None:
        async with self._session.get(f"{self._endpoint}/json/close/{self._target}"):
            pass
        await self._socket.close()
        await self._session.close()

    async def _command(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._next_id += 1
        number = self._next_id
        await self._socket.send_json({"id": number, "method": method, "params": params})
        reply = await self._until(lambda message: message.get("id") == number)
        if "error" in reply:
            raise BrowserError(f"{method}: {reply['error']}")
        result: dict[str, Any] = reply["result"]
        return result

    async def _load(self, url: str) -> None:
        self._next_id += 1
        message = {"id": self._next_id, "method": "Page.navigate", "params": {"url": url}}
        await self._socket.send_json(message)
        await self._until(lambda m: m.get("method") == "Page.loadEventFired")

    async def _until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(COMMAND_S):
            while True:
                message: dict[str, Any] = await self._socket.receive_json()
                self._note(message)
                if wanted(message):
                    return message

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                said = [str(arg.get("value", arg.get("description"))) for arg in params["args"]]
                self.problems.append(f"console.{params['type']}: {' '.join(said)}")
            case "Runtime.exceptionThrown":
                self.problems.append(f"exception: {params['exceptionDetails']}")
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(f"log: {params['entry']['text']}")
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
