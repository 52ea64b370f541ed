"""What every test may ask for."""

from tests.postgres import _server, new_postgres_url, postgres_server, postgres_url

__all__ = ["_server", "new_postgres_url", "postgres_server", "postgres_url"]
