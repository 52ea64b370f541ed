"""Answers to mails, kept as drafts until a person sends them."""

import re
from hashlib import sha256

from agentloop import current_call, tool
from agentloop.rooted import write_text

_ADDRESS = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+")
_SUBJECT_CHARS = 200


@tool(effect="idempotent")
def save_draft(to: str, subject: str, body: str) -> str:
    """Save the draft of a mail under drafts/. Nothing is sent: a person reads it and sends it.

    Args:
        to: The one address it goes to, without a name, such as "name@example.com".
        subject: The subject, in one line.
        body: The mail's text, with greeting and signature.
    """
    if not _ADDRESS.fullmatch(to):
        raise ValueError(f"to is '{to}'; give one address such as name@example.com, without a name")
    if len(subject.splitlines()) != 1 or not 0 < len(subject.strip()) <= _SUBJECT_CHARS:
        raise ValueError(f"subject must be one line of at most {_SUBJECT_CHARS} characters")
    if not body.strip():
        raise ValueError("body is empty; write the mail's text")
    # The same call writes the same file, however often it is repeated after a crash.
    mark = sha256(current_call().idempotency_key.encode()).hexdigest()[:8]
    path = f"drafts/{_slug(subject)}-{mark}.md"
    write_text(current_call().root, path, f"To: {to}\nSubject: {subject.strip()}\n\n{body.strip()}\n")
    return f"Saved {path} for {to}. Not sent: a person sends it."


def _slug(subject: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", subject.casefold())[:40].strip("-") or "draft"
