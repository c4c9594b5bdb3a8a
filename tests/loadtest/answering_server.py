"""A real HTTP server with chosen faults, run as a script: it prints its port when it is ready.

python answering_server.py --freeze-ms 100     stops the whole process for 100 ms at the start of each second
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

import httptools
import uvloop


class Answering(asyncio.Protocol):
    """Answers every request of one connection in the way the command line asked for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._n_answered = 0
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._options.silent:
            return
        if self._options.delay_ms:
            asyncio.get_running_loop().call_later(self._options.delay_ms / 1000, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        self._n_answered += 1
        options = self._options
        if options.hang_up:
            self._transport.close()
            return
        if options.garbage:
            self._transport.write(b"this is not HTTP\r\n\r\n")
            return
        body = json.dumps({"results": [], "degraded": options.degraded}).encode()
        last = options.answers_per_connection and self._n_answered >= options.answers_per_connection
        farewell = b"Connection: close\r\n" if last and not options.close_unannounced else b""
        head = b"HTTP/1.1 %d Chosen\r\nX-Model-Version: v7\r\nContent-Length: %d\r\n" % (options.status, len(body))
        self._transport.write(head + farewell + b"\r\n" + body)
        if last:
            self._transport.close()


async def serve(options: argparse.Namespace) -> None:
    """Listen on a free port until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(options), "127.0.0.1", 0, backlog=1024)

    def freeze() -> None:
        loop.call_at(loop.time() + 1.0, freeze)  # from the freeze's start, so that one begins each second
        time.sleep(options.freeze_ms / 1000)

    if options.freeze_ms:
        loop.call_soon(freeze)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--freeze-ms", type=float, default=0)
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--status", type=int, default=200)
    parser.add_argument("--degraded", action="append", default=[])
    parser.add_argument("--answers-per-connection", type=int, default=0)
    parser.add_argument("--close-unannounced", action="store_true", help="close without saying so in the answer")
    parser.add_argument("--silent", action="store_true", help="read requests, never answer")
    parser.add_argument("--hang-up", action="store_true", help="close instead of answering")
    parser.add_argument("--garbage", action="store_true", help="answer with something that is not HTTP")
    uvloop.run(serve(parser.parse_args()))
