"""A WebSocket server that gives messages back, and a client that says what it saw.

serve PORT   on 127.0.0.1; says "ready" once it listens
call URL [options] [MESSAGE ...]   prints what came of it as JSON

The message `head` is answered with the request's path and fields, `close CODE WORDS` with such an end.
"""

import argparse
import json
import sys
import time

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve as listen


def echo(connection):
    for message in connection:
        if message == "head":
            request = connection.request
            message = json.dumps({"path": request.path, "fields": list(request.headers.raw_items())})
        elif isinstance(message, str) and message.startswith("close "):
            _, code, words = message.split(" ", 2)
            connection.close(int(code), words)
            return
        connection.send(message)


def choose(_connection, offered):
    return "echo.test" if "echo.test" in offered else None


def serve(port):
    with listen(echo, "127.0.0.1", port, select_subprotocol=choose, max_size=None) as server:
        print("ready", flush=True)
        server.serve_forever()


def call(options):
    seen = {"status": 101, "replies": [], "code": None, "reason": None, "subprotocol": None}
    started = time.monotonic()
    try:
        with connect(
            options.url,
            additional_headers=[tuple(field.split("=", 1)) for field in options.field],
            subprotocols=options.subprotocol or None,
            proxy=None,
            max_size=None,
        ) as connection:
            seen["subprotocol"] = connection.subprotocol
            try:
                for message in options.messages:
                    connection.send(message)
                    seen["replies"].append(connection.recv(timeout=10))
                if options.linger:
                    connection.recv(timeout=options.linger)
            except TimeoutError:
                pass
            except ConnectionClosed as closed:
                if closed.rcvd:
                    seen["code"], seen["reason"] = closed.rcvd.code, closed.rcvd.reason
                else:
                    # As RFC 6455, 7.1.5, names an end without a closing frame.
                    seen["code"] = 1006
    except InvalidStatus as refused:
        seen["status"] = refused.response.status_code
    seen["ms"] = int((time.monotonic() - started) * 1000)
    print(json.dumps(seen))


def main():
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("call")
    parser.add_argument("url")
    parser.add_argument("messages", nargs="*")
    parser.add_argument("--field", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--subprotocol", action="append", default=[])
    parser.add_argument("--linger", type=float, metavar="SECONDS", help="wait so long for the server's end")
    call(parser.parse_intermixed_args())


main()
