"""Mail to a real SMTP server and AutoSupport through the array's log, by the level of a policy (TR 5.2, 5.4)."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from netapp_ontap.resources.ems_event import EmsEvent

from smhvlab.protection.notify import News, message, send, wanted
from smhvlab.protection.policy import Level, Notification
from smhvlab.protection.settings import Settings, Smtp
from smhvlab.site import Site

POLICY = """
name = "hourly"
dataset = "Apps"
consistency = "crash"
[schedule]
repeat = "hourly"
[retention]
keep = 2
[notification]
level = "{level}"
autosupport = true
"""


class Inbox:
    """Keeps every mail that arrives."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Called by the server for each mail."""
        self.mails.append(envelope)
        return "250 kept"


class Mailer(Controller):
    """The server on a port that the system chooses."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def mail() -> Iterator[tuple[Inbox, Smtp]]:
    """An inbox, and the settings of the server that fills it."""
    inbox = Inbox()
    server = Mailer(inbox, hostname="127.0.0.1", port=0)
    server.start()
    yield inbox, Smtp(server="127.0.0.1", port=server.port, sender="smhvlab@example.org", timeout=5)
    server.stop()


def nowhere() -> Smtp:
    """A server that does not answer: a port that was free a moment ago."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return Smtp(server="127.0.0.1", port=taken.getsockname()[1], timeout=2)


@pytest.fixture
def apps(site: Site) -> Site:
    """The site with a dataset that can be backed up."""
    site.create_dataset("Apps", ["app01"])
    return site


def break_it(site: Site) -> None:
    """Give the dataset's VM a disk outside the array: its backups fail."""
    host = site.tools().host
    host.run("New-VHD", {"Path": "C:\\local.vhd", "SizeBytes": 1 << 30, "Fixed": True})
    host.run("Add-VMHardDiskDrive", {"VMName": "app01", "ControllerType": "SCSI", "Path": "C:\\local.vhd"})


@pytest.mark.tr("R-5.4-16", "R-5.2-07")
def test_a_failed_backup_is_mailed_and_logged(apps: Site, mail: tuple[Inbox, Smtp]) -> None:
    """At the level error a good run is silent; a failed one reaches the inbox and the array's log, once each."""
    inbox, smtp = mail
    apps.set_settings(Settings(reports="C:\\Reports", smtp=smtp, to=("storage@example.org",)))
    apps.set_policy(POLICY.format(level="error"))
    assert apps.run_until_sync(timedelta(hours=1)).runs[0].outcome == "done"
    assert inbox.mails == []
    break_it(apps)
    (run,) = apps.run_until_sync(timedelta(hours=1)).runs
    assert (run.outcome, run.notes) == ("failed", "")
    (envelope,) = inbox.mails
    assert envelope.rcpt_tos == ["storage@example.org"]
    text = envelope.content.decode()
    assert "Subject: [standalone] Backup of Apps FAILED (hourly)" in text
    assert "local.vhd" in text
    logged = apps.tools().rest.collect(EmsEvent, fields="message.name,log_message", **{"message.name": "app.log.error"})
    assert len(logged) == 1
    assert "Backup of Apps FAILED" in logged[0]["log_message"]


def test_a_mail_server_that_does_not_answer_fails_no_backup(apps: Site) -> None:
    """The backup is done; that nobody could be told is a note of the run."""
    apps.set_settings(Settings(reports="C:\\Reports", smtp=nowhere(), to=("storage@example.org",)))
    apps.set_policy(POLICY.format(level="always"))
    (run,) = apps.run_until_sync(timedelta(hours=1)).runs
    assert run.outcome == "done"
    assert run.notes.startswith("no mail was sent: 127.0.0.1:")
    assert len(apps.backups()) == 1


def test_a_password_is_looked_up_and_never_sent_in_clear(mail: tuple[Inbox, Smtp]) -> None:
    """A login without TLS is refused before the password leaves."""
    _, smtp = mail
    told = Smtp(server=smtp.server, port=smtp.port, user="smhvlab", timeout=5)
    with pytest.raises(smtplib.SMTPException, match="starttls"):
        send(told, EmailMessage())


@pytest.mark.parametrize(
    ("level", "outcomes"),
    [
        (Level.NEVER, []),
        (Level.ERROR, ["failed"]),
        (Level.WARNING, ["warnings", "failed"]),
        (Level.ALWAYS, ["done", "warnings", "failed"]),
    ],
)
def test_levels_are_the_tr_s(level: Level, outcomes: list[str]) -> None:
    """Each level asks for the outcomes at which it says something."""
    found = [o for o in ("done", "warnings", "failed") if wanted(Notification(level=level), o)]
    assert found == outcomes
    for outcome in outcomes:
        news = News("site", "Apps", "hourly", outcome, detail="why")
        assert "Backup of Apps" in message(Smtp(server="mail"), ("a@example.org",), news)["Subject"]
