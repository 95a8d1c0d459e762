"""The endpoint as a client's transport meets it: authentication, long polls, faults, quotas, lost connections."""

from __future__ import annotations

import base64
import http.client
import re
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import requests
from pypsrp.exceptions import AuthenticationError, WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import NAMESPACES

from labenv.faults import Fault

from .conftest import PASSWORD, USER, Server, command, eventually

TIMED_OUT = 2150858793
INVALID_SELECTORS = 2150858843
TOO_MANY_SHELLS = 2150859173


@contextmanager
def keeping(pool: RunspacePool) -> Iterator[RunspacePool]:
    """An open pool whose connection is closed, whether or not the pool still is."""
    pool.open()
    try:
        yield pool
    finally:
        pool.connection.close()


def release(server: Server) -> None:
    """Let a waiting command go on."""

    async def go() -> None:
        with server.clock.request():
            server.host.release.set()

    server.call(go)


def receive_text(pool: RunspacePool, shell: PowerShell, *, timeout: int = 20, message: str = "1") -> bytes:
    """The envelope of a Receive for a command."""
    return (
        f'<s:Envelope xmlns:s="{NAMESPACES["s"]}" xmlns:a="{NAMESPACES["wsa"]}" xmlns:w="{NAMESPACES["wsman"]}" '
        f'xmlns:rsp="{NAMESPACES["rsp"]}"><s:Header><a:Action>{NAMESPACES["rsp"]}/Receive</a:Action>'
        f"<a:MessageID>uuid:{message}</a:MessageID><w:OperationTimeout>PT{timeout}S</w:OperationTimeout>"
        f'<w:SelectorSet><w:Selector Name="ShellId">{pool.id}</w:Selector></w:SelectorSet></s:Header><s:Body>'
        f'<rsp:Receive><rsp:DesiredStream CommandId="{shell.id}">stdout</rsp:DesiredStream></rsp:Receive></s:Body>'
        "</s:Envelope>"
    ).encode()


def receive(pool: RunspacePool, shell: PowerShell, *, timeout: int = 20, message: str | None = None) -> tuple[int, str]:
    """A Receive sent by hand; returns status and text."""
    data = receive_text(pool, shell, timeout=timeout, message=message or str(uuid.uuid4()))
    transport = pool.connection.transport
    assert transport.session is not None
    answer = transport.session.post(
        transport.endpoint, data=data, timeout=20, verify=pool.connection.transport.cert_validation
    )
    return answer.status_code, answer.text


@pytest.mark.parametrize("auth", ["basic", "ntlm", "negotiate"])
def test_each_kind_of_authentication(server: Server, auth: str) -> None:
    """Basic, NTLM and Negotiate work over HTTPS, on one connection for many requests."""
    with keeping(server.pool(auth=auth)) as pool:
        for _ in range(3):
            assert command(pool, "Get-Service", {"Name": "x"}).invoke() == ["x"]
        pool.close()


@pytest.mark.parametrize("auth", ["basic", "ntlm", "negotiate"])
@pytest.mark.parametrize(("user", "password"), [(USER, "wrong"), ("LAB\\Nobody", PASSWORD)])
def test_wrong_credentials(server: Server, auth: str, user: str, password: str) -> None:
    """A wrong password and an unknown user are refused alike."""
    pool = server.pool(auth=auth, user=user, password=password)
    with pytest.raises(AuthenticationError):
        pool.open()
    pool.connection.close()


def test_a_refusal_names_what_is_accepted(server: Server) -> None:
    """A 401 carries WWW-Authenticate for Negotiate and Basic."""
    answer = requests.post(f"https://127.0.0.1:{server.port}/wsman", data=b"", verify=server.ca_file, timeout=20)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Negotiate, Basic realm="WSMAN"'


def test_ntlm_belongs_to_its_connection(server: Server) -> None:
    """Another connection is not authenticated by the first one's handshake."""
    with keeping(server.pool(auth="ntlm")) as pool:
        context = ssl.create_default_context(cafile=server.ca_file)
        other = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20)
        other.request("POST", "/wsman", body=b"<x/>")
        assert other.getresponse().status == 401
        other.close()
        assert pool.is_alive()
        pool.close()


def test_anothers_shell_is_out_of_reach(server: Server) -> None:
    """A shell belongs to its user."""
    with keeping(server.pool()) as pool, keeping(server.pool(user="LAB\\Other", password="other")) as other:
        own, other.id = other.id, pool.id
        other.shell._selector_set, kept = pool.shell._selector_set, other.shell._selector_set
        with pytest.raises(WSManFaultError) as caught:
            command(other, "Get-Service", {"Name": "x"}).invoke()
        assert caught.value.code == INVALID_SELECTORS
        other.id, other.shell._selector_set = own, kept
        other.close()
        pool.close()


def test_timeout_of_a_poll_is_a_fault_and_the_command_goes_on(server: Server) -> None:
    """OperationTimeout runs in real time; its fault is swallowed by the client, which asks again."""
    with keeping(server.pool(operation_timeout=1)) as pool:
        shell = command(pool, "Get-Process")
        shell.begin_invoke()
        status, text = receive(pool, shell, timeout=1)
        assert status == 500
        assert f'Code="{TIMED_OUT}"' in text
        assert "w:TimedOut" in text
        shell.poll_invoke(timeout=1)
        assert shell.output == []
        release(server)
        assert shell.end_invoke() == ["released"]
        pool.close()


def test_a_lost_answer_is_given_again(server: Server, pool: RunspacePool) -> None:
    """The same Receive sent again gets the same answer; a new one after the end is a fault."""
    shell = command(pool, "Get-Service", {"Name": "x"})
    shell.begin_invoke()
    identity = str(uuid.uuid4()).upper()
    first = receive(pool, shell, message=identity)
    assert first[0] == 200
    assert "CommandState/Done" in first[1]
    assert f"<a:RelatesTo>uuid:{identity}</a:RelatesTo>" in first[1]
    assert receive(pool, shell, message=identity) == first
    status, text = receive(pool, shell)
    assert status == 500
    assert f'Code="{INVALID_SELECTORS}"' in text
    assert "command identifier that does not exist" in text


def test_output_is_kept_for_a_client_that_gave_up(server: Server, pool: RunspacePool) -> None:
    """A client that closes its connection while it waits loses nothing."""
    shell = command(pool, "Get-Process")
    shell.begin_invoke()
    transport = pool.connection.transport
    assert transport.session is not None
    with pytest.raises(requests.exceptions.ReadTimeout):
        transport.session.post(
            transport.endpoint, data=receive_text(pool, shell), timeout=0.3, verify=transport.cert_validation
        )
    eventually(lambda: server.clock._parked == 0)
    release(server)
    assert shell.end_invoke() == ["released"]


def test_stop(server: Server, pool: RunspacePool) -> None:
    """A stopped command ends at once and the pool goes on."""
    shell = command(pool, "Get-Process")
    shell.begin_invoke()
    shell.stop()
    assert server.host.log == ["waiting", "cancelled"]
    assert command(pool, "Get-Service", {"Name": "x"}).invoke() == ["x"]


def test_stop_of_a_queued_command(server: Server, pool: RunspacePool) -> None:
    """A command that waits for a runspace can be stopped without ever running."""
    first, second = command(pool, "Get-Process"), command(pool, "Get-Process")
    first.begin_invoke()
    second.begin_invoke()
    second.stop()
    release(server)
    assert first.end_invoke() == ["released"]
    assert server.host.log == ["waiting"]


def test_stop_while_another_thread_receives(server: Server) -> None:
    """A poll that waits while the command is stopped over another connection gets the end."""
    with keeping(server.pool()) as pool:
        shell = command(pool, "Get-Process")
        shell.begin_invoke()
        waiter = threading.Thread(target=shell.end_invoke)
        waiter.start()
        eventually(lambda: server.clock._parked == 1)
        other = server.connection()
        pool.shell.wsman, mine = other, pool.shell.wsman
        pool.shell.signal("powershell/signal/ctrl_c", shell.id)
        pool.shell.wsman = mine
        waiter.join(20)
        assert not waiter.is_alive()
        assert shell.streams.error[0].fq_error == "PipelineStopped"
        other.close()
        pool.close()


def test_delete_ends_running_commands(server: Server) -> None:
    """Closing the pool stops what still runs in it."""
    with keeping(server.pool()) as pool:
        command(pool, "Get-Process").begin_invoke()
        pool.close()
        assert server.host.log == ["waiting", "cancelled"]


def test_vanished_shell(server: Server, pool: RunspacePool) -> None:
    """After the server has lost the shell, the next command faults and is_alive says no."""
    server.call(server.remoting.close)
    with pytest.raises(WSManFaultError) as caught:
        command(pool, "Get-Service", {"Name": "x"}).invoke()
    assert caught.value.code == INVALID_SELECTORS
    assert not pool.is_alive()


def test_power_cut(server: Server) -> None:
    """When the lab cancels every task, running and waiting commands end, and polls get the end of the shell."""
    with keeping(server.pool()) as pool:
        first, second = command(pool, "Get-Process"), command(pool, "Get-Process")
        first.begin_invoke()
        second.begin_invoke()

        async def cut() -> None:
            await server.clock.cancel_tasks()
            await server.remoting.close()

        server.call(cut)
        assert server.host.log == ["waiting", "cancelled"]
        with pytest.raises(WSManFaultError) as caught:
            second.end_invoke()
        assert caught.value.code == INVALID_SELECTORS


def test_alive(pool: RunspacePool) -> None:
    """An open pool is alive."""
    assert pool.is_alive()


def test_shell_quota(server: Server) -> None:
    """One user can hold only so many shells; closing one makes room."""
    with keeping(server.pool()) as first:
        pools = [server.pool() for _ in range(5)]
        for pool in pools:
            pool.open()
        extra = server.pool()
        with pytest.raises(WSManFaultError) as caught:
            extra.open()
        assert caught.value.code == TOO_MANY_SHELLS
        extra.connection.close()
        pools[0].close()
        with keeping(server.pool()) as another:
            another.close()
        for pool in pools:
            pool.close()
            pool.connection.close()
        first.close()


def test_configuration_can_be_read(server: Server) -> None:
    """The service tells its largest envelope."""
    connection = server.connection()
    config = connection.get_server_config()
    assert config.findtext("cfg:Config/cfg:MaxEnvelopeSizekb", namespaces=NAMESPACES) == "500"
    connection.close()


def test_jea_configuration_can_delegate(server: Server) -> None:
    """A cmdlet that needs delegation works in the JEA session and is refused in an ordinary one."""
    for configuration, works in (("SmhvLab", True), ("Microsoft.PowerShell", False)):
        with keeping(server.pool(configuration=configuration)) as pool:
            shell = command(pool, "Add-ClusterVirtualMachineRole", {"VMId": uuid.uuid4()})
            assert shell.invoke() == (["added"] if works else [])
            assert shell.had_errors is not works
            pool.close()


def test_an_unknown_configuration_is_refused(server: Server) -> None:
    """A session configuration that nobody has registered on the host is a fault that names it."""
    pool = server.pool(configuration="Smhv")
    with pytest.raises(WSManFaultError, match="Cannot find the Smhv session configuration"):
        pool.open()
    pool.connection.close()


def test_injected_error_and_delay(server: Server, pool: RunspacePool) -> None:
    """A fault rule turns a cmdlet into an error, or delays it in lab time."""
    server.faults.set(Fault("windows.cmdlet", "error", {"cmdlet": "Get-Service"}, code="Busy", message="try later"))
    shell = command(pool, "Get-Service", {"Name": "x"})
    shell.invoke()
    assert shell.streams.error[0].fq_error.startswith("Busy,")
    server.faults.set(Fault("windows.cmdlet", "delay", {"host": "hv1"}, seconds=30))
    before = server.clock.now
    assert command(pool, "Get-Service", {"Name": "x"}).invoke() == ["x"]
    assert server.clock.now - before == 30_000_000


@pytest.mark.parametrize(("effect", "happened"), [("drop", 0), ("lose-reply", 1)])
def test_dropped_connection(server: Server, effect: str, happened: int) -> None:
    """A fault rule closes the connection without an answer, before or after the effect."""
    server.faults.set(Fault("windows.cmdlet", effect, {"cmdlet": "Set-Content"}))
    with keeping(server.pool()) as pool:
        shell = command(pool, "Set-Content", {"LiteralPath": "C:\\x", "Value": "1"})
        with pytest.raises(requests.exceptions.ConnectionError):
            shell.invoke()
        assert len(server.host.log) == happened
        assert command(pool, "Get-Service", {"Name": "x"}).invoke() == ["x"]
        pool.close()


def test_untrusted_certificate(server: Server) -> None:
    """A client that does not know the authority gets no further."""
    pool = server.pool()
    pool.connection.transport.cert_validation = True
    with pytest.raises(requests.exceptions.SSLError):
        pool.open()
    pool.connection.close()


def post(server: Server, data: bytes, path: str = "/wsman") -> tuple[int, str]:
    """Bytes posted with the right password; returns status and text."""
    secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    answer = requests.post(
        f"https://127.0.0.1:{server.port}{path}",
        data=data,
        verify=server.ca_file,
        timeout=20,
        headers={"Authorization": f"Basic {secret}", "Content-Type": "application/soap+xml"},
    )
    return answer.status_code, answer.text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not xml",
        b"<a/>",
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e "x">]><x>&e;</x>',
        b"<" * 1000,
        b"\xff\xfe<\x00a\x00",
    ],
)
def test_what_is_no_envelope_is_a_fault(server: Server, data: bytes) -> None:
    """Broken bodies are answered with a SOAP fault."""
    status, text = post(server, data)
    assert status == 500
    assert re.search(r'<s:Fault>.*Code="\d+"', text)


def spoken(server: Server, *parts: bytes) -> bytes:
    """Everything that the server says to these bytes until it ends; "Host" stands for a line of a host."""
    context = ssl.create_default_context(cafile=server.ca_file)
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tunnel,
    ):
        with suppress(OSError):  # the server closes the connection as soon as it has refused
            for part in parts:
                tunnel.sendall(part.replace(b"Host", b"host: x\r\n"))
        return b"".join(iter(lambda: tunnel.recv(1 << 16), b""))


@pytest.mark.parametrize(
    "parts",
    [
        (b"GET / HTTP/1.1\r\n\r\n",),
        (b"GET / HTTP/1.1\r\nHostHost\r\n",),
        (b"nonsense\r\n\r\n",),
        (b"GET / HTTP/1.1\r\nHostx y: 1\r\n\r\n",),
        (b"POST / HTTP/1.1\r\nHostcontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",),
        (b"POST / HTTP/1.1\r\nHostcontent-length: -1\r\n\r\n",),
        (b"POST / HTTP/1.1\r\nHosttransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",),
        (b"POST / HTTP/1.1\r\nHosttransfer-encoding: chunked\r\n\r\nzz\r\n",),
        (b"GET / HTTP/1.1\r\nHostx: ", *[b"y" * 30_000] * 9),
        (b"GET /", *[b"y" * 30_000] * 9),
        (b"GET /caf\xe9 HTTP/1.1\r\nHost\r\n",),
    ],
)
def test_what_is_no_request_is_refused(server: Server, parts: tuple[bytes, ...]) -> None:
    """Bytes that are no request of HTTP, or one whose meaning is in doubt, are answered with 400 and the end."""
    answer = spoken(server, *parts)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_requests_may_come_in_pieces_or_together(server: Server) -> None:
    """Byte by byte, or several at once, requests are answered in their order on one connection."""
    first, last = (b"GET /%s HTTP/1.1\r\nHost%s\r\n" % (b"x", extra) for extra in (b"", b"connection: close\r\n"))
    together = spoken(server, first + first + last)
    assert together.count(b"HTTP/1.1 404") == 3
    whole = (first + last).replace(b"Host", b"host: x\r\n")
    assert spoken(server, *(bytes([byte]) for byte in whole)).count(b"HTTP/1.1 404") == 2


def test_other_addresses_and_too_large_bodies(server: Server) -> None:
    """Only /wsman answers, and only to bodies of the size that it tells."""
    assert post(server, b"<a/>", "/other")[0] == 404
    assert post(server, b"x" * 600_000)[0] == 413


def test_invalid_timeout(server: Server, pool: RunspacePool) -> None:
    """A negative OperationTimeout is an invalid header, as on a real host."""
    with pytest.raises(WSManFaultError) as caught:
        pool.shell._get_shell(timeout=-1)
    assert caught.value.code == 2150858767


def test_unknown_resource(server: Server) -> None:
    """A shell of another kind cannot be created."""
    pool: Any = server.pool()
    pool.shell.resource_uri = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd"
    with pytest.raises(WSManFaultError) as caught:
        pool.open()
    assert caught.value.code == 2150858811
    pool.connection.close()
