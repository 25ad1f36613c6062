"""Drive a headless Chromium over its debugging pipe, with the standard library alone."""

import fcntl
import json
import os
import shutil
import subprocess

import pytest

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason='chromium is not installed')

OPTIONS = (
    '--headless', '--no-sandbox', '--no-first-run', '--disable-sync', '--use-gl=angle',
    '--disable-background-networking', '--disable-component-update', '--use-angle=swiftshader',
    '--enable-unsafe-swiftshader', '--remote-debugging-pipe',
)  # fmt: skip


class Browser:
    """One page; `requests`, `errors` hold what it asked for and what went wrong in it."""

    def __init__(self, folder):
        self.requests, self.errors, self._session = [], [], {}
        self._number, self._rest = 0, b''
        theirs, ours = os.pipe(), os.pipe()  # to it, from it
        far = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (theirs[0], ours[1])]
        self._to, self._from = theirs[1], ours[0]

        def connect():  # it reads commands from 3 and writes answers to 4
            os.dup2(far[0], 3)
            os.dup2(far[1], 4)

        self._process = subprocess.Popen(
            [CHROMIUM, *OPTIONS, f'--user-data-dir={folder}'],
            preexec_fn=connect,  # noqa: PLW1509
            close_fds=False,
            stderr=subprocess.DEVNULL,
        )
        for fd in (theirs[0], ours[1], *far):
            os.close(fd)
        target = self._call('Target.createTarget', url='about:blank')['targetId']
        attached = self._call('Target.attachToTarget', targetId=target, flatten=True)
        self._session = {'sessionId': attached['sessionId']}
        for domain in ('Page', 'Network', 'Runtime', 'Log'):
            self._call(f'{domain}.enable')

    def _call(self, method, **parameters):
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': parameters} | self._session
        os.write(self._to, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._receive()
            if answer.get('id') == self._number:
                assert 'error' not in answer, answer
                return answer['result']

    def _receive(self):
        while b'\0' not in self._rest:
            part = os.read(self._from, 1 << 16)
            assert part, 'the browser has ended'
            self._rest += part
        one, _, self._rest = self._rest.partition(b'\0')
        message = json.loads(one)
        about = message.get('params', {})
        if message.get('method') == 'Network.requestWillBeSent':
            self.requests.append(about['request']['url'])
        if message.get('method') in ('Runtime.exceptionThrown', 'Log.entryAdded'):
            self.errors.append(about)
        return message

    def open(self, path, width=1280, height=900):
        """Open a page and wait until it is loaded."""
        self._call('Emulation.setDeviceMetricsOverride', width=width, height=height,
                   deviceScaleFactor=1, mobile=False)  # fmt: skip
        self._call('Page.navigate', url=path.as_uri())
        self.run("document.readyState === 'complete' || new Promise(r => onload = () => r(1))")

    def run(self, script):
        """Evaluate JavaScript, wait for its promise, give its value."""
        found = self._call('Runtime.evaluate', expression=script, awaitPromise=True,
                           returnByValue=True)  # fmt: skip
        assert 'exceptionDetails' not in found, found
        return found['result'].get('value')

    def click(self, x, y):
        """Press and release the left button."""
        for kind in ('mousePressed', 'mouseReleased'):
            self._call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left',
                       clickCount=1)  # fmt: skip

    def close(self):
        """End the browser."""
        self._process.terminate()
        self._process.wait(20)
        os.close(self._to)
        os.close(self._from)


@pytest.fixture
def browser(tmp_path):
    """A browser of its own for a test."""
    one = Browser(tmp_path / 'profile')
    yield one
    one.close()
