"""A headless Chromium that tests can drive, through chromedriver and the standard library only."""

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")

#: Why there is no browser here, or None.
MISSING = None if CHROMIUM and DRIVER else "needs chromium and chromedriver in PATH (Debian: chromium, chromium-driver)"

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --disable-default-apps --hide-scrollbars"
).split()

KEYS = {
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
    "Home": "\ue011",
    "End": "\ue010",
    "Escape": "\ue00c",
    "Tab": "\ue004",
}


class Browser:
    """One browser window. Errors of the page and requests it makes are collected until they are asked for."""

    def __init__(self, address, session):
        self._session = f"{address}/session/{session}"

    def open(self, url, width=1440, height=900, scale=1, dark=False, mobile=False):
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])
        self.log("browser")
        self.log("performance")
        # Another page first: an address that differs by its fragment only would not be loaded anew.
        _call("POST", f"{self._session}/url", {"url": "about:blank"})
        _call("POST", f"{self._session}/url", {"url": url})
        # Keys that are pressed before the new page has the focus are lost.
        deadline = time.monotonic() + 30
        while not self.run("return document.hasFocus()") and time.monotonic() < deadline:
            time.sleep(0.01)
        self.settle()

    def settle(self):
        """Wait for two frames: what happens on scrolling and resizing has then been drawn."""
        script = "requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]()))"
        _call("POST", f"{self._session}/execute/async", {"script": script, "args": []})

    def run(self, script, *arguments):
        """Run `script` as the body of a function in the page, and return what it returns."""
        return _call("POST", f"{self._session}/execute/sync", {"script": script, "args": arguments})

    def press(self, *keys):
        actions = []
        for key in keys:
            value = KEYS.get(key, key)
            actions += {"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}
        _call("POST", f"{self._session}/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})
        self.settle()

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).innerText", selector)

    def devtools(self, method, **parameters):
        return _call("POST", f"{self._session}/goog/cdp/execute", {"cmd": method, "params": parameters})

    def screenshot(self, path, whole=False):
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def log(self, kind):
        """What has come since the last call: "browser" is the console and errors, "performance" DevTools' events."""
        return _call("POST", f"{self._session}/se/log", {"type": kind})

    def errors(self):
        return [entry["message"] for entry in self.log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def requested(self):
        """The addresses that were asked for since the page was opened, without the page itself."""
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith(("file:", "about:", "data:"))]


@contextmanager
def browser():
    with tempfile.TemporaryDirectory() as profile, _driver() as address:
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        made = _call("POST", f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})
        try:
            yield Browser(address, made["sessionId"])
        finally:
            _call("DELETE", f"{address}/session/{made['sessionId']}")


@contextmanager
def _driver():
    process = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in process.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                yield f"http://127.0.0.1:{found[1]}"
                return
        raise RuntimeError(f"chromedriver ended with status {process.wait()}")
    finally:
        process.terminate()
        process.stdout.close()
        process.wait()


def _call(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    # Never through a proxy: the driver is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        with error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None
