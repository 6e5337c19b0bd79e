"""What a deployment costs in a month: quantities from how it is used, prices from a table.

``python infra/aws/cost.py`` prints the estimate of an idle deployment and of one with 100 runs a
day, as docs/deploy.md shows it; options change what is assumed. The table of unit prices
(prices.json) names source and date of each; give your own with ``--prices``. A price that is null
is unknown: its line says so, and the sum is without it.

Quantities are worked out below from what the template makes and what the code does; those that
cannot be known are fields of :class:`Usage`, with what they are taken to be.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

PRICES = Path(__file__).with_name("prices.json")
HOURS = 730.0
DAYS = HOURS / 24
_MILLION = 1e6
# infra/aws/network.yaml: Secrets Manager, SQS, EventBridge.
ENDPOINTS = 3
# template.yaml: queues that functions poll, and infra/aws/monitoring.yaml: alarms.
QUEUES = 6
ALARMS = 16
# Lambda polls a queue with five connections, each of which waits up to 20 seconds for a message.
_POLLS = QUEUES * 5 * HOURS * 3600 / 20
# training/reporter.py sends a heartbeat every 10 seconds; metrics and log come to about as many.
_REQUESTS_PER_JOB_HOUR = 2 * 360
# Reads and writes of the functions, and of somebody who watches.
_REQUESTS_PER_RUN = 100
# accepted, running, ended, model created; each through a rule to a queue, and to the archive.
_EVENTS_PER_RUN = 6
# Sent, received and deleted, for each event and each nudge.
_MESSAGES_PER_RUN = 3 * 2 * _EVENTS_PER_RUN
_FUNCTION_SECONDS_PER_RUN = 20.0
_FUNCTION_GB = 0.5
_LOG_KB_PER_REQUEST = 2.0


class PriceError(Exception):
    """A table of prices is not as it should be; the message says what to mend."""


@dataclass(frozen=True)
class Usage:
    """How a deployment is set up and used; times are in the unit of the name."""

    runs_per_day: float = 0.0
    job_hours: float = 1.0
    """Length of a run."""
    instance_type: str = "g5.xlarge"
    requests_per_day: float = 0.0
    """Of people and programs, beside those of runs."""
    request_seconds: float = 0.05
    api_gb: float = 1.0
    """Memory of the API's function."""
    architecture: str = "arm64"
    zones: int = 1
    nat: bool = False
    min_acu: float = 0.0
    busy_acu: float = 1.0
    """Capacity of the database while it is used."""
    standby: bool = False
    pause_seconds: float = 600.0
    database_gb: float = 5.0
    store_gb: float = 100.0


@dataclass(frozen=True)
class Price:
    """A unit price, and where it is from; ``price`` is None while it is unknown."""

    unit: str
    price: float | None
    source: str | None
    date: str | None


@dataclass(frozen=True)
class Line:
    """A line of the estimate."""

    what: str
    price: str
    quantity: float


def read_prices(path: Path = PRICES) -> dict[str, Price]:
    """The unit prices of a table.

    Raises:
        PriceError: a price has no source or no date.
    """
    table = json.loads(path.read_text())["prices"]
    prices = {name: Price(**entry) for name, entry in table.items()}
    for name, one in prices.items():
        if one.price is not None and not (one.source and one.date):
            raise PriceError(f"{path}: {name} has a price; say its source and date")
    return prices


def estimate(usage: Usage) -> list[Line]:
    """What a month takes of each that is paid for."""
    runs = usage.runs_per_day * DAYS
    job_hours = runs * usage.job_hours
    requests = usage.requests_per_day * DAYS
    requests += runs * _REQUESTS_PER_RUN + job_hours * _REQUESTS_PER_JOB_HOUR
    # The schedule runs two functions each minute while any run is open.
    open_hours = min(HOURS, job_hours)
    calls = runs * _EVENTS_PER_RUN * 2 + open_hours * 60 * 2 + DAYS * 2
    function_seconds = runs * _FUNCTION_SECONDS_PER_RUN + open_hours * 60 * 2
    lines = [
        Line("machines of training jobs", usage.instance_type, job_hours),
        Line("database, capacity", "aurora-acu", _acu_hours(usage, open_hours)),
        Line("database, storage", "aurora-storage", usage.database_gb),
        Line("network, endpoints", "interface-endpoint", ENDPOINTS * usage.zones * HOURS),
        Line("network, NAT gateway", "nat-gateway", HOURS if usage.nat else 0.0),
        Line("object store", "s3-storage", usage.store_gb),
        Line("object store, writes", "s3-put", runs * 60 / 1000),
        Line("object store, reads", "s3-get", runs * 600 / 1000),
        Line("HTTP API", "http-api", requests / _MILLION),
        Line("functions, calls", "lambda-requests", (requests + calls) / _MILLION),
        Line(
            "functions, time",
            f"lambda-{usage.architecture}",
            requests * usage.request_seconds * usage.api_gb + function_seconds * _FUNCTION_GB,
        ),
        Line("queues", "sqs", (_POLLS + runs * _MESSAGES_PER_RUN) / _MILLION),
        Line("bus", "eventbridge", runs * _EVENTS_PER_RUN / _MILLION),
        Line("logs", "log-ingestion", (requests + calls) * _LOG_KB_PER_REQUEST / _MILLION),
        Line("alarms", "alarm", ALARMS),
        Line("dashboard", "dashboard", 1.0),
        Line("metrics", "metric", 1.0),
        Line("secrets", "secret", 2.0),
    ]
    return [line for line in lines if line.quantity]


def _acu_hours(usage: Usage, open_hours: float) -> float:
    # A job calls every few seconds, so the database is awake while any run is open. Otherwise the
    # daily sweep wakes it once, and people do: taken as one more hour for each 100 requests, until
    # it is awake all day.
    machines = 2 if usage.standby else 1
    if usage.min_acu > 0:
        used = open_hours * max(usage.busy_acu, usage.min_acu)
        return machines * (used + (HOURS - open_hours) * usage.min_acu)
    woken = DAYS * (usage.pause_seconds + 180) / 3600
    people = DAYS * min(usage.requests_per_day / 100, 24.0)
    awake = min(HOURS, open_hours + woken + people)
    return machines * awake * usage.busy_acu


def table(lines: Iterable[Line], prices: dict[str, Price]) -> str:
    """The estimate as a table in Markdown, with its sum."""
    rows = ["| | quantity | unit | price | a month |", "| --- | ---: | --- | ---: | ---: |"]
    total, unknown = 0.0, []
    for line in lines:
        price = prices.get(line.price)
        if price is None or price.price is None:
            unit = price.unit if price is not None else "hour"
            rows.append(
                f"| {line.what} ({line.price}) | {line.quantity:,.2f} | {unit} | unknown | |"
            )
            unknown.append(line.price)
            continue
        cost = line.quantity * price.price
        total += cost
        rows.append(
            f"| {line.what} | {line.quantity:,.2f} | {price.unit} | {price.price:.10g} "
            f"| {cost:,.2f} |"
        )
    without = f" (without {', '.join(unknown)})" if unknown else ""
    rows.append(f"| **together**{without} | | | | **{total:,.2f}** |")
    return "\n".join(rows)


IDLE = Usage()
BUSY = Usage(runs_per_day=100, requests_per_day=5000)
PROD = {"zones": 2, "min_acu": 0.5, "standby": True}
SCENARIOS = {
    "Idle, dev": IDLE,
    "Idle, prod (database never pauses)": replace(IDLE, **PROD),  # type: ignore[arg-type]
    "100 runs a day of one hour, dev": BUSY,
    "100 runs a day of one hour, prod": replace(BUSY, **PROD),  # type: ignore[arg-type]
}


def report(scenarios: dict[str, Usage], prices: dict[str, Price]) -> str:
    """Each scenario under its name."""
    parts = [f"#### {name}\n\n{table(estimate(one), prices)}\n" for name, one in scenarios.items()]
    return "\n".join(parts)


def main() -> int:
    """Print the estimates."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prices", type=Path, default=PRICES, help="your own table")
    for field in fields(Usage):
        name = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            parser.add_argument(name, action="store_true", default=None)
        else:
            parser.add_argument(name, type=type(field.default), default=None)
    arguments = vars(parser.parse_args())
    prices = read_prices(arguments.pop("prices"))
    chosen = {name: value for name, value in arguments.items() if value is not None}
    scenarios = {"As described": replace(Usage(), **chosen)} if chosen else SCENARIOS
    sys.stdout.write(report(scenarios, prices))
    return 0


if __name__ == "__main__":
    sys.exit(main())
