"""The cost estimate: where its prices are from, what it counts, and that the docs show it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from infra.aws import cost
from infra.aws.cost import BUSY, IDLE, SCENARIOS, PriceError, estimate, read_prices, report, table
from tests.aws.transformed import ROOT, of_type, parts, source

BEGIN, END = "<!-- cost: begin -->\n", "<!-- cost: end -->"


def quantities(usage: cost.Usage) -> dict[str, float]:
    return {line.what: line.quantity for line in estimate(usage)}


def test_each_price_has_its_source_and_date(tmp_path: Path) -> None:
    prices = read_prices()
    assert all(one.source and one.date for one in prices.values() if one.price is not None)
    assert all(one.source is None for one in prices.values() if one.price is None)
    priced = {line.price for usage in SCENARIOS.values() for line in estimate(usage)}
    assert priced <= set(prices)
    unsaid = {"sqs": {"unit": "million requests", "price": 1, "source": None, "date": None}}
    (tmp_path / "own.json").write_text(json.dumps({"prices": unsaid}))
    with pytest.raises(PriceError, match="sqs"):
        read_prices(tmp_path / "own.json")


def test_what_is_counted_is_what_is_deployed() -> None:
    monitoring, network = parts()["monitoring.yaml"], parts()["network.yaml"]
    assert len(of_type(monitoring, "AWS::CloudWatch::Alarm")) == cost.ALARMS
    endpoints = of_type(network, "AWS::EC2::VPCEndpoint").values()
    assert sum(one["VpcEndpointType"] == "Interface" for one in endpoints) == cost.ENDPOINTS
    queues = [name for name in of_type(source(), "AWS::SQS::Queue") if name.endswith("Queue")]
    assert len(queues) == cost.QUEUES


def test_idle_is_next_to_nothing() -> None:
    idle = quantities(IDLE)
    assert "machines of training jobs" not in idle
    assert idle["database, capacity"] < 10
    assert "network, NAT gateway" not in idle
    assert quantities(replace(IDLE, nat=True))["network, NAT gateway"] == cost.HOURS


def test_use_is_counted() -> None:
    idle, busy = quantities(IDLE), quantities(BUSY)
    assert busy["machines of training jobs"] == pytest.approx(100 * cost.DAYS)
    # A job calls all the time, so the database never sleeps, and never more than all the time.
    assert busy["database, capacity"] == cost.HOURS
    assert busy["queues"] > idle["queues"]
    protected = replace(BUSY, standby=True, min_acu=0.5)
    assert quantities(protected)["database, capacity"] == 2 * cost.HOURS


def test_an_unknown_price_is_said() -> None:
    text = table(estimate(replace(BUSY, instance_type="ml.g5.xlarge")), read_prices())
    assert "| machines of training jobs (ml.g5.xlarge) | 3,041.67 | hour | unknown | |" in text
    assert "**together** (without ml.g5.xlarge)" in text


def test_the_docs_show_it() -> None:
    """If this fails: put what `python infra/aws/cost.py` prints between the marks."""
    docs = (ROOT / "docs" / "deploy.md").read_text()
    shown = docs[docs.index(BEGIN) + len(BEGIN) : docs.index(END)]
    assert shown == report(SCENARIOS, read_prices())


def test_the_command_takes_another_use_and_table(tmp_path: Path) -> None:
    own = json.loads(cost.PRICES.read_text())
    own["prices"]["my.machine"] = {
        "unit": "hour",
        "price": 10,
        "source": "contract",
        "date": "2026",
    }
    (tmp_path / "own.json").write_text(json.dumps(own))
    command = [sys.executable, str(ROOT / "infra" / "aws" / "cost.py")]
    command += ["--prices", str(tmp_path / "own.json"), "--instance-type", "my.machine"]
    command += ["--runs-per-day", "24", "--job-hours", "0.5", "--nat"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| machines of training jobs | 365.00 | hour | 10 | 3,650.00 |" in said
    assert "NAT gateway" in said
