"""Who is told of a backup: mail by the level of its policy, AutoSupport through the array's log (TR 5.2, 5.4).

Telling never fails a backup: what goes wrong is returned as sentences, and shown with the run.
"""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from netapp_ontap.resources.ems_application_log import EmsApplicationLog

from smhvlab.errors import Cancelled, SmhvLabError
from smhvlab.protection.policy import Level, Notification
from smhvlab.protection.settings import Smtp, load
from smhvlab.secrets import Secret

if TYPE_CHECKING:
    from smhvlab.site import Site

_LEVELS: Final = {
    "done": frozenset({Level.ALWAYS}),
    "warnings": frozenset({Level.ALWAYS, Level.WARNING}),
    "failed": frozenset({Level.ALWAYS, Level.WARNING, Level.ERROR}),
}
_SEVERITY: Final = {"done": "notice", "warnings": "notice", "failed": "error"}
_EVENT: Final = {"done": 100, "warnings": 101, "failed": 102}


@dataclass(frozen=True)
class News:
    """What there is to tell.

    Attributes:
        outcome: ``done``, ``warnings`` or ``failed``.
        detail: the error or the warnings, "" if there are none.
    """

    site: str
    dataset: str
    policy: str
    outcome: str
    backup: str = ""
    detail: str = ""

    @property
    def subject(self) -> str:
        """One line."""
        told = {"done": "succeeded", "warnings": "succeeded with warnings", "failed": "FAILED"}[self.outcome]
        return f"[{self.site}] Backup of {self.dataset} {told} ({self.policy})"

    @property
    def text(self) -> str:
        """All of it."""
        rows = {
            "Site": self.site,
            "Dataset": self.dataset,
            "Policy": self.policy,
            "Outcome": self.outcome,
            "Backup": self.backup,
            "Detail": self.detail,
        }
        return "\n".join(f"{name + ':':<9}{text}" for name, text in rows.items() if text) + "\n"


def wanted(notification: Notification, outcome: str) -> bool:
    """Whether a policy's level asks for news of an outcome."""
    return notification.level in _LEVELS[outcome]


def tell(site: Site, notification: Notification, news: News) -> list[str]:
    """Send mail and AutoSupport as policy and settings want it; returns what went wrong, in sentences."""
    if not wanted(notification, news.outcome):
        return []
    try:
        settings = load(site.tools().snapinfo)
    except Cancelled:
        raise
    except SmhvLabError as error:
        return [f"nobody was told, the settings cannot be read: {error.message}"]
    problems = []
    to = notification.to or settings.to
    if to and settings.smtp is None:
        problems.append("no mail was sent: the site has no mail server in its settings")
    elif to and settings.smtp is not None:
        problems += _mailed(site, settings.smtp, to, news)
    if notification.autosupport or settings.autosupport:
        problems += _logged(site, news)
    return problems


def _mailed(site: Site, smtp: Smtp, to: tuple[str, ...], news: News) -> list[str]:
    try:
        send(smtp, message(smtp, to, news), secret=site.secret(smtp) if smtp.user else None)
    except SmhvLabError as error:
        return [f"no mail was sent: {error.message}"]
    except (OSError, smtplib.SMTPException) as error:
        return [f"no mail was sent: {smtp.server}:{smtp.port} {error or type(error).__name__}"]
    return []


def message(smtp: Smtp, to: tuple[str, ...], news: News) -> EmailMessage:
    """The mail."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = smtp.sender, ", ".join(to), news.subject
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(news.text)
    return mail


def send(smtp: Smtp, mail: EmailMessage, *, secret: Secret | None = None) -> None:
    """Send one mail. A certificate is always verified; a password only goes over TLS.

    Raises:
        OSError, smtplib.SMTPException: the server cannot be reached, or refuses.
    """
    context = ssl.create_default_context(cafile=smtp.ca_file or None)
    if smtp.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(smtp.server, smtp.port, timeout=smtp.timeout, context=context)
    else:
        server = smtplib.SMTP(smtp.server, smtp.port, timeout=smtp.timeout)
    with server:
        if smtp.security == "starttls":
            server.starttls(context=context)
        if smtp.user:
            if smtp.security == "none":
                raise smtplib.SMTPException("a login needs security = starttls or tls")
            server.login(smtp.user, secret.reveal() if secret is not None else "")
        server.send_message(mail)


def _logged(site: Site, news: News) -> list[str]:
    entry = {
        "computer_name": site.tools().nodes.own().name,
        "event_source": "smhvlab",
        "app_version": _version(),
        "event_id": _EVENT[news.outcome],
        "category": "backup",
        "event_description": news.subject + (f": {news.detail}" if news.detail else ""),
        "severity": _SEVERITY[news.outcome],
        "autosupport_required": news.outcome == "failed",
    }
    try:
        rest = site.tools().rest
        rest.wait([rest.create(EmsApplicationLog.from_dict(entry))])
    except Cancelled:
        raise
    except SmhvLabError as error:
        return [f"no AutoSupport was sent: {error.message}"]
    return []


def _version() -> str:
    """The toolkit's version; "0" where it runs from a folder and is not installed."""
    try:
        return version("smhvlab")
    except PackageNotFoundError:
        return "0"
