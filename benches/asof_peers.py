#!/usr/bin/env python3
"""An ASOF join of a year's flights with hourly weather, here and in DuckDB, in one run, two threads each.

    cargo run --release --example command_center -- --store target/kota
    cargo build --release --example sql
    python3 -m venv peers && peers/bin/pip install duckdb
    peers/bin/python benches/asof_peers.py target/kota target/release/examples/sql

DuckDB reads the same two files into its own tables, in memory; denyut's rows are in the store on disk. Both answers are
compared first. Then the two take turns, each with so many joins in a row. Prints medians and their ratio.
"""

import os
import re
import statistics
import subprocess
import sys
import time

import duckdb

ROUNDS, JOINS = 5, 11
DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "examples", "data")

OURS = """SELECT count(*) AS flights, count(w.time) AS joined, round(sum(w.wind_mph), 3) AS wind
FROM flights AS f ASOF JOIN weather AS w MATCH_CONDITION (f.time >= w.time) ON f.origin = w.airport"""

THEIRS = """SELECT count(*) AS flights, count(w.time) AS joined, round(sum(w.wind_mph), 3) AS wind
FROM flights AS f ASOF LEFT JOIN weather AS w ON f.time >= w.time AND f.origin = w.airport"""

FLIGHTS = """CREATE TABLE flights AS SELECT time_hour + to_minutes(CAST(minute AS BIGINT)) AS time, origin
FROM read_csv('{0}/flights.csv.gz') ORDER BY time"""

WEATHER = """CREATE TABLE weather AS SELECT time_hour AS time, origin AS airport, wind_speed AS wind_mph
FROM read_csv('{0}/weather.csv.gz') ORDER BY time"""


def ours(program, store, times):
    """The answer, and how long each join took, in milliseconds."""
    script = (OURS + ";\n") * times
    done = subprocess.run(
        [program, store, "--format", "csv", "-c", script], capture_output=True, text=True, check=True
    )
    took = [float(ms) for ms in re.findall(r" in ([0-9.]+) ms", done.stderr)]
    if len(took) != times:
        sys.exit(f"{times} joins were asked for, and {len(took)} timed:\n{done.stderr}")
    return done.stdout.splitlines()[1], took


def theirs(connection, times):
    took, answer = [], None
    for _ in range(times):
        began = time.perf_counter()
        answer = connection.execute(THEIRS).fetchone()
        took.append((time.perf_counter() - began) * 1e3)
    return answer, took


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    store, program = sys.argv[1:]
    connection = duckdb.connect(config={"threads": 2})
    connection.execute(FLIGHTS.format(DATA))
    connection.execute(WEATHER.format(DATA))
    (mine, _), (other, _) = ours(program, store, 1), theirs(connection, 1)
    mine = [float(value) for value in mine.split(",")]
    if any(abs(a - float(b)) > 1e-6 * abs(a) for a, b in zip(mine, other, strict=True)):
        sys.exit(f"the answers differ: {mine} here, {other} in DuckDB")
    print(f"{mine[0]:.0f} flights, {mine[1]:.0f} of them with weather")
    here, there = [], []
    for _ in range(ROUNDS):
        # The first of a row warms up.
        here += ours(program, store, JOINS)[1][1:]
        there += theirs(connection, JOINS)[1][1:]
    here, there = statistics.median(here), statistics.median(there)
    print(f"denyut {here:.1f} ms, DuckDB {duckdb.__version__} {there:.1f} ms: {there / here:.2f} times as fast")


if __name__ == "__main__":
    main()
