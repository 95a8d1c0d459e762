"""Limits of the service, and shells that their clients have left behind."""

from __future__ import annotations

from pathlib import Path

from labenv.windows.remoting.endpoint import Quotas

from .asgi import Direct, direct, requests_of_a_client


def test_operations_per_user(tmp_path: Path) -> None:
    """One user can have only so many commands open."""
    create, run = requests_of_a_client("Get-Process")

    async def body(lab: Direct) -> None:
        assert (await lab.post(create))[0] == 200
        assert (await lab.post(run))[0] == 200
        status, answer = await lab.post(run)
        assert status == 500
        assert b'Code="2150859174"' in answer

    direct(tmp_path, body, quotas=Quotas(operations_per_user=1))


def test_a_command_cannot_be_created_twice(tmp_path: Path) -> None:
    """The id of a command is taken while the command exists."""
    create, run = requests_of_a_client()

    async def body(lab: Direct) -> None:
        await lab.post(create)
        assert (await lab.post(run))[0] == 200
        assert (await lab.post(run))[0] == 500
        assert (await lab.post(create))[0] == 500

    direct(tmp_path, body)


def test_idle_shells_make_room(tmp_path: Path) -> None:
    """A shell that nobody has used for the idle time is gone when the next one is made."""

    async def body(lab: Direct) -> None:
        for _ in range(3):
            create, run = requests_of_a_client()
            assert (await lab.post(create))[0] == 200
        assert (await lab.post(run))[0] == 200

    direct(tmp_path, body, quotas=Quotas(shells_per_user=1, idle_timeout=0.0))
