"""The peers that are Python packages, each in a process of its own that obeys lines of JSON on standard input.

    worker.py ENGINE DIR      ENGINE: duckdb, duckdb-parquet, chdb, polars, datafusion

It answers each line with one line. Only the engine's own work is timed, never JSON or the writing of answers.
"""
import json
import os
import resource
import sys
import time
import traceback

THREADS = 2
BUDGET_BYTES = 4 << 30
# Before the libraries read it.
os.environ["POLARS_MAX_THREADS"] = str(THREADS)

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def kind(column_type):
    """How a column is written: t time, s text, f number."""
    if pa.types.is_timestamp(column_type):
        return "t"
    if pa.types.is_dictionary(column_type):
        return kind(column_type.value_type)
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary)
    return "s" if any(is_text(column_type) for is_text in text) else "f"


def plain(column):
    """Times as nanoseconds, text as text, numbers as doubles."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if kind(column.type) == "t":
        return column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64())
    return column.cast(pa.string() if kind(column.type) == "s" else pa.float64())


def write_answer(table, path):
    """One line a row, fields between tabs, below a line that says what each column is."""
    if isinstance(table, pa.RecordBatchReader):
        table = table.read_all()
    columns = []
    with open(path, "w", encoding="utf-8") as out:
        out.write("\t".join(kind(field.type) for field in table.schema) + "\n")
        for column in table.columns:
            values = plain(column).to_pylist()
            columns.append(["" if value is None else str(value) for value in values])
        for row in zip(*columns):
            out.write("\t".join(row) + "\n")


def bytes_below(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(path) for name in names)


def chunks(table):
    """The rows of a table in memory, as Arrow, a row group at a time."""
    file = pq.ParquetFile(table["path"], read_dictionary=table["tags"])
    for group in range(file.num_row_groups):
        yield file.read_row_group(group)


class DuckDb:
    def __init__(self, dir, parquet):
        import duckdb

        self.version, self.parquet = duckdb.__version__, parquet
        self.path = os.path.join(dir, "duckdb.db")
        config = {"threads": THREADS, "memory_limit": f"{BUDGET_BYTES}B", "temp_directory": os.path.join(dir, "duckdb.tmp")}
        self.connection = duckdb.connect(":memory:" if parquet else self.path, config=config)
        self.connection.execute("SET TimeZone = 'UTC'")

    def load(self, tables):
        if self.parquet:
            for table in tables:
                files = ", ".join(f"'{file}'" for file in table["files"])
                self.connection.execute(f"CREATE OR REPLACE VIEW {table['name']} AS FROM read_parquet([{files}])")
            return {"seconds": 0.0, "rows": 0, "bytes": 0}
        seconds, rows = 0.0, 0
        for table in tables:
            columns = ["time TIMESTAMP"] + [f"{tag} VARCHAR" for tag in table["tags"]]
            columns += [f"{name} {'DOUBLE' if type == 'f64' else 'BIGINT'}" for name, type in table["fields"]]
            self.connection.execute(f"CREATE TABLE {table['name']} ({', '.join(columns)})")
            for chunk in chunks(table):
                # DuckDB's own kind of time is of microseconds, without a zone.
                utc = chunk["time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).cast(pa.timestamp("us"))
                chunk = chunk.set_column(chunk.schema.get_field_index("time"), "time", utc)
                names = ", ".join(chunk.schema.names)
                began = time.perf_counter()
                self.connection.execute(f"INSERT INTO {table['name']} ({names}) SELECT {names} FROM chunk")
                seconds += time.perf_counter() - began
                rows += chunk.num_rows
        began = time.perf_counter()
        self.connection.execute("CHECKPOINT")
        seconds += time.perf_counter() - began
        return {"seconds": seconds, "rows": rows, "bytes": bytes_below(self.path)}

    def run(self, question):
        return self.connection.sql(question["sql"]).to_arrow_table()


class ChDb:
    def __init__(self, dir):
        import chdb
        from chdb.session import Session

        self.version = chdb.__version__
        self.dir = os.path.join(dir, "chdb")
        self.session = Session(self.dir)
        self.settings = f" SETTINGS max_threads = {THREADS}, output_format_arrow_string_as_string = 1"
        self.query("CREATE DATABASE IF NOT EXISTS peers ENGINE = Atomic")
        self.query("USE peers")

    def query(self, text, format="Arrow"):
        return self.session.query(text, format)

    def load(self, tables):
        seconds, rows = 0.0, 0
        for table in tables:
            columns = ["time DateTime64(3, 'UTC')"] + [f"{tag} LowCardinality(String)" for tag in table["tags"]]
            columns += [
                f"{name} {'Nullable(' if table['nullable'] else ''}{'Float64' if type == 'f64' else 'Int64'}"
                f"{')' if table['nullable'] else ''}"
                for name, type in table["fields"]
            ]
            order = ", ".join(table["order"] + ["time"])
            self.query(
                f"CREATE TABLE {table['name']} ({', '.join(columns)}) ENGINE = MergeTree ORDER BY ({order})"
                " SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
            )
            began = time.perf_counter()
            names = ", ".join(["time"] + table["tags"] + [name for name, _ in table["fields"]])
            self.query(
                f"INSERT INTO {table['name']} ({names}) SELECT {names} FROM file('{table['path']}', Parquet)"
                f" SETTINGS max_threads = {THREADS}, max_insert_threads = {THREADS}"
            )
            seconds += time.perf_counter() - began
            rows += table["rows"]
            self.query(f"OPTIMIZE TABLE {table['name']} FINAL")
        size = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'peers'"
        return {"seconds": seconds, "rows": rows, "bytes": int(self.query(size, "TSV").bytes())}

    def run(self, question):
        result = self.query(question["sql"] + self.settings)
        if not len(result.bytes()):
            return pa.table({})
        table = pa.ipc.open_file(pa.py_buffer(result.bytes())).read_all()
        # Times in whole seconds come as plain numbers.
        for at, field in enumerate(table.schema):
            if pa.types.is_uint32(field.type):
                seconds = table.column(at).cast(pa.int64()).cast(pa.timestamp("s", "UTC"))
                table = table.set_column(at, field.name, seconds)
        return table


class DataFusion:
    def __init__(self, dir):
        import datafusion

        self.version = datafusion.__version__
        config = datafusion.SessionConfig().with_target_partitions(THREADS)
        config = config.set("datafusion.execution.parquet.pushdown_filters", "true")
        os.environ["TOKIO_WORKER_THREADS"] = str(THREADS)
        self.context = datafusion.SessionContext(config)

    def load(self, tables):
        for table in tables:
            self.context.register_parquet(table["name"], table["sorted"])
        return {"seconds": 0.0, "rows": 0, "bytes": sum(bytes_below(table["sorted"]) for table in tables)}

    def run(self, question):
        return self.context.sql(question["sql"]).to_arrow_table()


class Polars:
    """Lazy frames over sorted Parquet files, with the streaming engine."""

    def __init__(self, dir):
        import frames
        import polars

        self.polars, self.version, self.tables = polars, polars.__version__, {}
        self.questions = frames.QUESTIONS

    def load(self, tables):
        for table in tables:
            self.tables[table["name"]] = self.polars.scan_parquet(table["sorted"])
        return {"seconds": 0.0, "rows": 0, "bytes": sum(bytes_below(table["sorted"]) for table in tables)}

    def plan(self, question):
        pl, ask = self.polars, question["polars"]
        if ask["shape"] in self.questions:
            return self.questions[ask["shape"]](self.tables, ask["moments"], ask["texts"])
        moment = lambda ns: pl.lit(ns).cast(pl.Datetime("ns", "UTC"))
        rows, fields = self.tables["cpu"], ask["fields"]
        if ask["shape"] == "lastpoint":
            newest = [pl.col(field).sort_by("time").last() for field in fields]
            return rows.group_by("hostname").agg(pl.col("time").max(), *newest).sort("hostname")
        rows = rows.filter(pl.col("time") < moment(ask["end"]))
        if ask["shape"] == "groupby-orderby-limit":
            rows = rows.group_by(pl.col("time").dt.truncate("1m").alias("bin")).agg(pl.col("usage_user").max())
            return rows.sort("bin", descending=True).limit(5)
        rows = rows.filter(pl.col("time") >= moment(ask["start"]))
        if ask["hosts"]:
            rows = rows.filter(pl.col("hostname").is_in(ask["hosts"]))
        if ask["shape"] == "high-cpu":
            return rows.filter(pl.col("usage_user") > 90).select(ask["columns"])
        bin = pl.col("time").dt.truncate("1m" if ask["shape"] == "single-groupby" else "1h").alias("bin")
        if ask["shape"] == "double-groupby":
            rows = rows.group_by(bin, "hostname").agg(pl.col(field).mean() for field in fields)
            return rows.sort("bin", "hostname")
        return rows.group_by(bin).agg(pl.col(field).max() for field in fields).sort("bin")

    def run(self, question):
        return self.plan(question).collect(engine="streaming").to_arrow()


def open_engine(name, dir):
    engines = {
        "duckdb": lambda: DuckDb(dir, False),
        "duckdb-parquet": lambda: DuckDb(dir, True),
        "chdb": lambda: ChDb(dir),
        "datafusion": lambda: DataFusion(dir),
        "polars": lambda: Polars(dir),
    }
    return engines[name]()


def time_questions(engine, questions, budget_s, least):
    """Milliseconds of each question in turn, over and over, until the budget is spent or each was asked three times."""
    times, began = [], time.perf_counter()
    for turn in range(3):
        for question in questions:
            started = time.perf_counter()
            engine.run(question)
            times.append((time.perf_counter() - started) * 1e3)
            if len(times) >= least and time.perf_counter() - began > budget_s:
                return times
    return times


def obey(engine, command):
    do = command["do"]
    if do == "load":
        return engine.load(command["tables"])
    if do == "answer":
        write_answer(engine.run(command["question"]), command["path"])
        return {}
    if do == "time":
        return {"ms": time_questions(engine, command["questions"], command["budget_s"], command["least"])}
    raise ValueError(f"unknown command {do}")


def main():
    # The engines' own words go to standard error: standard output is for answers.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine = open_engine(sys.argv[1], sys.argv[2])
    print(json.dumps({"version": engine.version}), file=out, flush=True)
    for line in sys.stdin:
        try:
            answer = obey(engine, json.loads(line))
        except BaseException as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        answer["peak_kib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
