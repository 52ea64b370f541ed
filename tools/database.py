"""Ask questions of SQLite databases in the working folder; nothing in them can be changed."""

from agentloop import current_call, querying, tool

MOST_ROWS = 1_000


@tool(effect="read", timeout_s=20)
def query_database(path: str, sql: str, limit: int = 100) -> str:
    """Put one SELECT to an SQLite database. Let the database count, sum and sort: it is cheaper than reading rows.

    Args:
        path: The database file, such as "shop.db". database_schema shows what is in it.
        sql: One SELECT statement, such as "SELECT country, sum(total) FROM orders GROUP BY country".
        limit: The most rows to show, up to 1000.
    """
    found = querying.query(current_call().root, path, sql, max(1, min(limit, MOST_ROWS)))
    lines = [" | ".join(found.columns), *(" | ".join(row) for row in found.rows)]
    told = f"the first {len(found.rows)} rows; there are more" if found.more else f"{len(found.rows)} rows"
    return "\n".join([*lines, f"[{told}]"])


@tool(effect="read", timeout_s=20)
def database_schema(path: str) -> str:
    """Show the tables, views and indexes of an SQLite database, each by the statement that made it.

    Args:
        path: The database file, such as "shop.db".
    """
    return "\n\n".join(querying.schema(current_call().root, path)) or f"'{path}' holds no tables."
