#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A small HTTP proxy in front of one server that breaks what it is told to break.

fault_proxy.py UPSTREAM_PORT [CERTIFICATE KEY] [-- COMMAND...] prints the ports of the proxy, of its control line, of a
second server that stands for another host, and with a certificate that of the proxy over TLS. It ends with its standard
input, or by SIGTERM. COMMAND is the server itself; its output goes to stderr and it ends with the proxy.

Control, one command a line, answered line by line, the last one being ".":
  clear                                     forgets faults and log
  fault NAME COUNT METHOD WORD [ARGUMENT]   the next COUNT requests of METHOD ("*": any) whose target has WORD ("*": any);
                                            COUNT/N: of every N of them the last
  server start|kill|stop|pause|continue     COMMAND: starts it where it does not run and waits until it answers, SIGKILL,
                                            SIGTERM, SIGSTOP, SIGCONT for all of its processes; answers how it went
  log                                       what came: WHERE METHOD TARGET auth=0|1 date=... range=... match=... host=...,
                                            what was broken of it: fault NAME METHOD TARGET, and what the real server
                                            said to it: answer STATUS METHOD TARGET
"""
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from email.utils import formatdate

COMMAND = sys.argv[sys.argv.index("--") + 1:] if "--" in sys.argv else []
ARGUMENTS = sys.argv[1:sys.argv.index("--")] if COMMAND else sys.argv[1:]
UPSTREAM = int(ARGUMENTS[0])
PATIENCE_S = 90  # for a server that starts
lock = threading.Lock()
faults = []  # [name, count, method, word, argument, every, seen]
log = []
whole = {}  # the last 200 of a target


class Broken(Exception):
    """The other side closed."""


class Stream:
    def __init__(self, sock):
        self.sock = sock
        self.data = b""

    def line(self):
        while b"\n" not in self.data:
            self.more()
        line, self.data = self.data.split(b"\n", 1)
        return line.rstrip(b"\r")

    def more(self):
        got = self.sock.recv(262144)
        if not got:
            raise Broken
        self.data += got

    def take(self, count):
        while len(self.data) < count:
            self.more()
        out, self.data = self.data[:count], self.data[count:]
        return out


def read_head(stream):
    first = stream.line().decode("latin-1")
    headers = []
    while True:
        line = stream.line().decode("latin-1")
        if not line:
            return first, headers
        name, value = line.split(":", 1)
        headers.append((name, value.strip()))


def get(headers, name, default=""):
    return next((v for n, v in headers if n.lower() == name), default)


def without(headers, *names):
    return [(n, v) for n, v in headers if n.lower() not in names]


def read_body(stream, headers):
    if get(headers, "transfer-encoding").lower() == "chunked":
        body = b""
        while True:
            size = int(stream.line().split(b";")[0], 16)
            body += stream.take(size)
            stream.line()
            if size == 0:
                return body
    return stream.take(int(get(headers, "content-length", "0")))


def join(first, headers):
    return (first + "\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers) + "\r\n").encode("latin-1")


def ask_upstream(method, target, headers, body):
    """First line, headers and body of the real server's answer."""
    with socket.create_connection(("127.0.0.1", UPSTREAM)) as sock:
        sock.sendall(join(f"{method} {target} HTTP/1.1", without(headers, "connection") + [("Connection", "close")]) + body)
        stream = Stream(sock)
        first, answer = read_head(stream)
        while first.split()[1] == "100":
            first, answer = read_head(stream)
        empty = method == "HEAD" or first.split()[1] in ("204", "304")
        payload = b"" if empty else read_body(stream, answer)
        answer = without(answer, "connection", "transfer-encoding")
        if not empty:
            answer = without(answer, "content-length") + [("Content-Length", str(len(payload)))]
        return first, answer, payload


def error(status, code, message, extra=(), region=""):
    region = f"<Region>{region}</Region>" if region else ""
    body = (f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{region}'
            "</Error>").encode()
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))] + list(extra)
    if not any(n == "Date" for n, v in headers):
        headers.append(("Date", formatdate(usegmt=True)))
    return f"HTTP/1.1 {status} Fault", headers, body


def reset(sock):
    raw = sock
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()
    raise Broken


def next_fault(method, target):
    with lock:
        for fault in faults:
            if fault[1] > 0 and fault[2] in ("*", method) and (fault[3] == "*" or fault[3] in target):
                fault[6] += 1
                if fault[6] % fault[5]:
                    continue
                fault[1] -= 1
                log.append(f"fault {fault[0]} {method} {target}")
                return fault[0], fault[4]
    return None, ""


def made_up(name, argument, target, headers):
    """An answer that the real server is not asked for; None for other faults."""
    if name == "status":
        return error(int(argument), "", "")
    if name == "slowdown":
        return error(503, "SlowDown", "Please reduce your request rate.", [("Retry-After", argument or "0")])
    if name == "code":
        status, code = argument.split(",")
        return error(int(status), code, "made up")
    if name == "json":  # MLflow's errors
        status, code = argument.split(",")
        body = ('{"error_code": "%s", "message": "made up"}' % code).encode()
        return f"HTTP/1.1 {status} Fault", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))], body
    if name == "redirect":
        return error(307, "TemporaryRedirect", "elsewhere", [("Location", argument.replace("{target}", target))])
    if name == "error200":
        return error(200, argument or "InternalError", "It went wrong after all.")
    if name == "page":
        body = b"<html><body>Please log in to this network.</body></html>"
        return "HTTP/1.1 200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(body)))], body
    if name == "skew":
        return error(403, "RequestTimeTooSkewed", "The difference between the request time and the server's time is too"
                     " large.", [("Date", formatdate(time.time() + float(argument), usegmt=True))])
    if name == "region":
        return error(400, "AuthorizationHeaderMalformed", "the region is wrong", region=argument)
    if name == "echo":  # what some servers do: keys in their message
        return error(403, "AccessDenied", get(headers, "authorization"))
    return None


def altered(name, argument, first, answer, body):
    """The real server's answer with something else in it."""
    if name == "etag":
        answer = [(n, '"%s"' % argument if n.lower() == "etag" else v) for n, v in answer]
    elif name == "noetag":
        answer = without(answer, "etag")
    elif name == "shifted":
        answer = [(n, v.replace("bytes ", "bytes 1") if n.lower() == "content-range" else v) for n, v in answer]
    return first, answer, body


def respond(sock, name, argument, first, answer, body):
    head = join(first, answer)
    if name in ("short", "reset", "stall"):
        words = argument.split(",")
        sock.sendall(head + body[:int(words[0])])
        if name == "reset":
            time.sleep(0.05)
            reset(sock)
        if name == "stall":
            time.sleep(float(words[1]))
        raise Broken
    sock.sendall(head + body)


def serve(sock, where):
    stream = Stream(sock)
    while True:
        first, headers = read_head(stream)
        method, target, _ = first.split(" ")
        entry = (f"{where} {method} {target} auth={int('authorization' in [n.lower() for n, v in headers])} "
                 f"date={get(headers, 'x-amz-date')} range={get(headers, 'range')} match={get(headers, 'if-match')} "
                 f"host={get(headers, 'host')}")
        with lock:
            log.append(entry)
        if where == "other":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            raise Broken
        name, argument = next_fault(method, target)
        if name == "early":
            reset(sock)
        body = read_body(stream, headers)
        if name == "silence":
            time.sleep(float(argument))
            raise Broken
        if name == "slow":
            time.sleep(float(argument))
        if name == "garbage":
            sock.sendall(b"220 mail.example ESMTP\r\n")
            raise Broken
        made = made_up(name, argument, target, headers)
        if made:
            respond(sock, None, "", made[0], made[1], b"" if method == "HEAD" else made[2])
            continue
        if name == "norange":  # headers are signed, so that the real server cannot be asked without Range
            respond(sock, None, "", *whole[target])
            continue
        answer = ask_upstream(method, target, headers, body)
        with lock:
            log.append(f"answer {answer[0].split()[1]} {method} {target}")
        if method == "GET" and answer[0].split()[1] == "200":
            whole[target] = answer
        if name == "lost":
            reset(sock)
        respond(sock, name, argument, *altered(name, argument, *answer))


def guarded(sock, where, context):
    try:
        if context:
            sock = context.wrap_socket(sock, server_side=True)
        serve(sock, where)
    except (Broken, OSError, ValueError):
        pass
    finally:
        sock.close()


child = None  # the server itself, which leads a group of processes
child_lock = threading.Lock()


def answers():
    try:
        return ask_upstream("GET", "/health", [("Host", f"127.0.0.1:{UPSTREAM}")], b"")[0].split()[1] == "200"
    except (Broken, OSError, IndexError, ValueError):
        return False


def start_server():
    global child
    begun = time.monotonic()
    if child is None:
        child = subprocess.Popen(COMMAND, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
    while time.monotonic() - begun < PATIENCE_S:
        if answers():
            return f"runs after {time.monotonic() - begun:.1f} s"
        if child.poll() is not None:
            end_server(signal.SIGKILL)
            return "failed: it ended"
        time.sleep(0.1)
    return f"failed: no answer after {PATIENCE_S} s"


def end_server(number):
    global child
    if child is not None:
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            pass
        child.wait()
        child = None
    return "ended"


def server(word):
    signals = {"pause": signal.SIGSTOP, "continue": signal.SIGCONT}
    with child_lock:
        if not COMMAND:
            return "what?"
        if word == "start":
            return start_server()
        if word in ("kill", "stop"):
            return end_server(signal.SIGKILL if word == "kill" else signal.SIGTERM)
        if word in signals and child is not None:
            os.killpg(child.pid, signals[word])
            return "done"
        return "what?"


def end(*_):
    end_server(signal.SIGKILL)
    os._exit(0)


def control(sock):
    stream = Stream(sock)
    try:
        while True:
            words = stream.line().decode().split(" ", 5)
            answer = ""
            if words[0] == "server":
                sock.sendall((server(words[1]) + "\n.\n").encode())
                continue
            with lock:
                if words[0] == "clear":
                    faults.clear()
                    log.clear()
                elif words[0] == "fault":
                    count, _, every = words[2].partition("/")
                    faults.append([words[1], int(count), words[3], words[4], words[5] if len(words) > 5 else "",
                                   int(every or 1), 0])
                elif words[0] == "log":
                    answer = "".join(entry + "\n" for entry in log)
                else:
                    answer = "what?\n"
            sock.sendall((answer + ".\n").encode())
    except (Broken, OSError):
        pass
    finally:
        sock.close()


def listen(handler, *arguments):
    server = socket.create_server(("127.0.0.1", 0), backlog=64)

    def accept():
        while True:
            sock, _ = server.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=handler, args=(sock, *arguments), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server.getsockname()[1]


def main():
    signal.signal(signal.SIGTERM, end)
    ports = [listen(guarded, "proxy", None), listen(control), listen(guarded, "other", None)]
    if len(ARGUMENTS) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(ARGUMENTS[1], ARGUMENTS[2])
        ports.append(listen(guarded, "proxy", context))
    print(*ports, flush=True)
    sys.stdin.read()
    end()


main()
