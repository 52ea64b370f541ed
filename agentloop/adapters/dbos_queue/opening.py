"""DBOS as we use it: where its tables are, what it may store, what it may say."""

import logging
from types import ModuleType
from typing import TYPE_CHECKING, Any

import structlog

from agentloop import database
from agentloop.errors import ConfigError
from agentloop.types.events import SCHEMA_VERSION

if TYPE_CHECKING:
    from dbos import DBOSClient, DBOSConfig

APPLICATION = "agentloop"
WORKFLOW = "session"
VERSION = f"log-{SCHEMA_VERSION}"
"""Of what is queued: the log's schema, not the code's. A worker takes only its own version, and brings older ones forward."""
CONNECTIONS = 4
"""To the database, of one worker: no session holds one while it runs."""


def older(version: str | None) -> bool:
    """Whether an agentloop that wrote an older log queued this."""
    number = (version or "").removeprefix("log-")
    return number.isdigit() and int(number) < SCHEMA_VERSION


def library() -> ModuleType:
    """DBOS. Raises ConfigError where it is not installed."""
    try:
        import dbos
    except ImportError as e:
        raise ConfigError("the queue needs its engine: pip install 'agentloop[durable]'") from e
    _quiet()
    return dbos


def prepared(url: str) -> str:
    """Make the tables where there are none; the URL as DBOS wants it. Raises ConfigError where there is no database."""
    from sqlalchemy.exc import DBAPIError

    dbos = library()
    engine = database.engine(url)  # a SQLite file is made private and with a write-ahead log, which stays with the file
    try:
        engine.connect().close()
        address = f"postgresql://{url.partition('://')[2]}" if database.is_postgres(url) else url
        dbos.DBOS.migrate(address)
    except DBAPIError as e:
        raise database.unusable("queue", url, e) from e
    finally:
        engine.dispose()
    return address


def client(address: str) -> "DBOSClient":
    """Something that queues and looks, and runs nothing."""
    dbos = library()
    made: DBOSClient = dbos.DBOSClient(
        system_database_url=address,
        application_name=APPLICATION,
        serializer=dbos.DBOSPortableJSONSerializer(),
        system_database_pool_size=2,
    )
    return made


def config(address: str, worker: str) -> "DBOSConfig":
    """A worker's. Without a key there is no Conductor, without `enable_otlp` no telemetry; no server is started."""
    dbos = library()
    # DBOS's own SQLite connections count what runs before they take the write lock: two workers would both find room. Ours
    # take it first.
    own = None if database.is_postgres(address) else database.engine(address)
    return {
        "name": APPLICATION,
        "system_database_url": address,
        "system_database_engine": own,
        "application_version": VERSION,
        "executor_id": worker,
        "serializer": dbos.DBOSPortableJSONSerializer(),
        "sys_db_pool_size": CONNECTIONS,
        "log_level": "WARNING",
        "run_migrations": False,
        "scheduler_polling_interval_sec": 3600.0,
    }


class _Ours(logging.Handler):
    """What DBOS has to say goes where ours goes, without its decoration."""

    def emit(self, record: logging.LogRecord) -> None:
        said: dict[str, Any] = {"said": record.getMessage()}
        expected = said["said"].endswith("recorded outcome")  # a run that was cancelled or put back: we did that
        if record.exc_info and record.exc_info[1] is not None:
            said["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        structlog.get_logger("agentloop").log(logging.DEBUG if expected else logging.WARNING, "queue_engine", **said)


def _quiet() -> None:
    logger = logging.getLogger("dbos")
    if not any(isinstance(h, _Ours) for h in logger.handlers):
        logger.handlers[:] = [_Ours()]  # before DBOS is made: with a handler there it adds none of its own
        logger.propagate = False
        logger.setLevel(logging.WARNING)
