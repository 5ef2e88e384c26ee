"""A headless Chromium, driven over a pipe by the DevTools protocol; no package is needed."""

import contextlib
import json
import os
import shutil
import subprocess
from itertools import count

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def chromium():
    """Path of the browser, perhaps named by `CHROMIUM`; None where there is none."""
    found = (shutil.which(name) for name in (os.environ.get("CHROMIUM", ""), *NAMES) if name)
    return next(filter(None, found), None)


class Browser:
    """One browser; `page` opens a file in it."""

    def __init__(self, profile):
        out, self._commands = os.pipe()
        self._answers, back = os.pipe()
        self._ids, self._rest, self._events = count(1), b"", []

        def pipes():  # the protocol's: commands come on 3, answers go to 4
            kept = os.dup(back)
            os.dup2(out, 3)
            os.dup2(kept, 4)

        self._process = subprocess.Popen(
            [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            preexec_fn=pipes,  # noqa: PLW1509
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(out)
        os.close(back)

    def close(self):
        """End the browser."""
        with contextlib.suppress(OSError):
            self.call("Browser.close")
        self._process.wait(20)
        os.close(self._commands)
        os.close(self._answers)

    def call(self, method, session=None, **params):
        """The result of one command."""
        message = {"id": next(self._ids), "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == message["id"]:
                assert "error" not in answer, answer
                return answer["result"]
            self._events.append(answer)

    def wait_for(self, event, **params):
        """Return once an event with these parameters has come."""

        def is_it(message):
            return message.get("method") == event and params.items() <= message["params"].items()

        while not any(is_it(message) for message in self._events):
            self._events = [self._read()]
        self._events = []

    def page(self, path, **options):
        """A `Tab` that shows a file; options are those of `Tab`."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Tab(self, session, path, **options)

    def _read(self):
        while b"\0" not in self._rest:
            more = os.read(self._answers, 1 << 20)
            if not more:
                raise OSError("the browser has ended")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


class Tab:
    """A loaded page of so many CSS pixels; with `scripts=False` its own script does not run."""

    def __init__(self, browser, session, path, *, width=1280, height=900, scripts=True, dark=False):
        self._browser, self._session = browser, session
        self.call("Page.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        self._scripts = scripts
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call("Page.navigate", url=path.resolve().as_uri())
        browser.wait_for("Page.loadEventFired")

    def call(self, method, **params):
        """The result of one command to this page."""
        return self._browser.call(method, self._session, **params)

    def value(self, expression):
        """What a JavaScript expression is."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                          awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def middle(self, element):
        """Scroll to an element, given by an expression, and return its middle in CSS pixels."""
        self.value(f"{element}.scrollIntoView({{block: 'center', inline: 'nearest'}})")
        if self._scripts:  # an event of the scrolling may come a frame later
            twice = "done => requestAnimationFrame(() => requestAnimationFrame(done))"
            self.value(f"new Promise({twice}).then(() => true)")
        return self.value(
            f"(b => [b.x + b.width / 2, b.y + b.height / 2])({element}.getBoundingClientRect())"
        )

    def move_to(self, element):
        """Put the mouse on an element."""
        x, y = self.middle(element)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        return x, y

    def click(self, element):
        """Click on an element."""
        x, y = self.move_to(element)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text):
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)
