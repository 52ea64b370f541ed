"""One unattended session in a folder, in a process of its own, and the pages that a monitor would read after it."""

import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx2

from agentloop import operation
from agentloop.cli.options import here
from agentloop.operation.observing import logging_to
from agentloop.types.jobs import Job
from agentloop.unattended import run_job
from agentloop.workspace import redactor


def main(folder: Path, session_id: str, prompt: str) -> None:
    """Run it, and print what came of it."""
    import os

    settings = here(folder).settings
    logging_to(folder, settings)
    job = Job(session_id=session_id, agent="leaky", prompt=prompt, name="leaky", max_budget_usd=Decimal(1))
    result = run_job(job, folder, settings)
    print(result)
    standing = operation.Standing(heartbeat_at=datetime.now(UTC))
    with operation.serve(lambda: standing, "127.0.0.1:0", folder=folder, redact=redactor(os.environ)) as url:
        for page in ("healthz", "metrics"):
            print(httpx2.get(f"{url}/{page}").text)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
