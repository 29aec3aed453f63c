#!/usr/bin/env python3
"""CSV into DuckDB by Polars' reader, and by DuckDB's own, one thread each, beside `cargo bench --bench import`.

    python3 -m venv peers && peers/bin/pip install duckdb polars pyarrow
    DENYUT_TEXTS=texts cargo bench --bench import            # writes narrow.csv
    peers/bin/python benches/import_peers.py texts

Both end when the rows are in a DuckDB file, after a checkpoint. Prints the best of five, in rows a second.
"""

import os
import sys
import tempfile
import time

os.environ["POLARS_MAX_THREADS"] = "1"

import duckdb  # noqa: E402
import polars  # noqa: E402

TABLE = "CREATE TABLE water (time TIMESTAMP_NS, gate VARCHAR, level_cm DOUBLE, flow DOUBLE, alarms BIGINT)"


def by_polars(connection, path):
    frame = polars.read_csv(path, try_parse_dates=True)
    connection.register("frame", frame.to_arrow())
    connection.execute("INSERT INTO water SELECT * FROM frame")


def by_duckdb(connection, path):
    connection.execute(f"INSERT INTO water SELECT * FROM read_csv('{path}')")


def main():
    path = os.path.join(sys.argv[1], "narrow.csv")
    for name, load in (("polars and insert", by_polars), ("duckdb's reader", by_duckdb)):
        best = None
        for _ in range(5):
            with tempfile.TemporaryDirectory() as folder:
                connection = duckdb.connect(os.path.join(folder, "water.db"), config={"threads": 1})
                connection.execute(TABLE)
                began = time.perf_counter()
                load(connection, path)
                connection.execute("CHECKPOINT")
                spent = time.perf_counter() - began
                rows = connection.execute("SELECT count(*) FROM water").fetchone()[0]
                connection.close()
            best = min(best or spent, spent)
        print(f"{name}: {rows / best / 1e6:.2f} M rows/s, {best:.2f} s for {rows} rows")


main()
