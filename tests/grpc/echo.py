"""A gRPC server and client whose messages are plain bytes: no protoc, no generated code.

serve ADDRESS [CERTIFICATE KEY]   says "ready" once it listens
call TARGET METHOD [options] [MESSAGE ...]   prints what came of it as JSON

Methods of /test.Echo/: Unary and Bidi give messages back, ServerStream as many as its message says, ClientStream
their concatenation, Status ends with the code and words of its message, Slow answers after so many milliseconds.
All give request fields that begin with `x-` back, in the head and, as `trailing-x-...`, in the trailers; `authority`
and `te` are not ours to see in Python.
"""

import argparse
import json
import sys
import time
from concurrent import futures

import grpc


def metadata(context):
    own = [(k, v) for k, v in context.invocation_metadata() if k.startswith("x-")]
    left = context.time_remaining()
    seen = [] if left is None or left > 1e6 else [("time-remaining-ms", str(int(left * 1000)))]
    context.send_initial_metadata(own + seen)
    context.set_trailing_metadata([("trailing-" + k, v) for k, v in own])


def unary(request, context):
    metadata(context)
    return request


def server_stream(request, context):
    metadata(context)
    for number in range(int(request)):
        yield str(number).encode()


def client_stream(requests, context):
    metadata(context)
    return b"".join(requests)


def bidi(requests, context):
    metadata(context)
    yield from requests


def status(request, context):
    metadata(context)
    number, _, words = request.decode().partition(" ")
    code = next(code for code in grpc.StatusCode if code.value[0] == int(number))
    context.abort(code, words)


def slow(request, context):
    metadata(context)
    time.sleep(int(request) / 1000)
    return request


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "Status": grpc.unary_unary_rpc_method_handler(status),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
}


def serve(address, pair):
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", HANDLERS)])
    if pair:
        certificate, key = (open(path, "rb").read() for path in pair)
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
    else:
        server.add_insecure_port(address)
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


def call(options):
    if options.root:
        credentials = grpc.ssl_channel_credentials(open(options.root, "rb").read())
        channel = grpc.secure_channel(options.target, credentials)
    else:
        channel = grpc.insecure_channel(options.target)
    kind = {"ServerStream": channel.unary_stream, "ClientStream": channel.stream_unary, "Bidi": channel.stream_stream}
    method = kind.get(options.method, channel.unary_unary)("/test.Echo/" + options.method)
    messages = [message.encode() for message in options.messages]
    argument = iter(messages) if options.method in ("ClientStream", "Bidi") else b"".join(messages)
    fields = [field.split("=", 1) for field in options.field]
    fields = [(name, value.encode() if name.endswith("-bin") else value) for name, value in fields]
    answers, started = [], time.monotonic()
    if options.method in ("ServerStream", "Bidi"):
        ended = method(argument, metadata=fields, timeout=options.deadline)
        try:
            answers.extend(answer.decode() for answer in ended)
        except grpc.RpcError:
            pass
    else:
        try:
            answer, ended = method.with_call(argument, metadata=fields, timeout=options.deadline)
            answers.append(answer.decode())
        except grpc.RpcError as error:
            ended = error
    words = lambda fields: [[k, v if isinstance(v, str) else v.decode()] for k, v in fields or ()]
    print(json.dumps({
        "code": ended.code().name,
        "details": ended.details(),
        "messages": answers,
        "initial": words(ended.initial_metadata()),
        "trailing": words(ended.trailing_metadata()),
        "ms": int((time.monotonic() - started) * 1000),
    }))


def main():
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("call")
    parser.add_argument("target")
    parser.add_argument("method", choices=[*HANDLERS, "Absent"])
    parser.add_argument("messages", nargs="*")
    parser.add_argument("--field", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--deadline", type=float, default=10, metavar="SECONDS")
    parser.add_argument("--root", metavar="CERTIFICATE", help="trusted root; without one in clear text")
    call(parser.parse_intermixed_args())


main()
