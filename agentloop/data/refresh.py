"""Makes `models.json` from the looked-up API reference: `python -m agentloop.data.refresh API_MODELS_JSON`.

What is not needed to price, check or emulate a request is left out. Prices that held earlier are kept with the day they
ended, so that an old session is priced as it was billed.
"""

import json
import re
import sys
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "models.json"
LEFT_OUT = {"notes", "sources", "confidence", "price_history", "long_context_surcharge", "cache_read_multiplier"}
HISTORY = re.compile(r"(?:[\d-]+ to )([\d-]+): (input|cache_write_5m|cache_write_1h|cache_read|output) ([\d.]+)")
"""Such as `2026-09-28 to 2026-10-06: cache_read 0.20`: a price, and the last day on which it held."""


def table(source: dict[str, Any]) -> dict[str, Any]:
    """The table that ships, from the reference's data."""
    models = {
        name: {k: v for k, v in entry.items() if k not in LEFT_OUT} | {"earlier_prices": earlier(entry["price_history"])}
        for name, entry in source["models"].items()
    }
    return {k: source[k] for k in ("as_of", "currency", "unit", "multipliers", "server_tools")} | {"models": models}


def earlier(history: list[str]) -> list[dict[str, Any]]:
    """The prices of earlier days, each with the first day on which it no longer held. What else a history tells is left out."""
    found = [match.groups() for line in history if (match := HISTORY.match(line))]
    return [
        {"until": str(date.fromisoformat(last) + timedelta(days=1)), "changes": {kind: price}} for last, kind, price in found
    ]


def main(path: str) -> None:
    """Read the reference, write the table."""
    source = json.loads(Path(path).read_text(encoding="utf-8"), parse_float=Decimal)
    TARGET.write_text(json.dumps(table(source), indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
