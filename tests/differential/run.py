#!/usr/bin/env python3
"""Asks denyut and DuckDB the same random questions, and compares the answers.

    python3 tests/differential/run.py [--queries 1000] [--seed 7] [--kinds asof,ends,quantile,sketch,window] [--sql PROGRAM]

Every query brings its own rows, so that both see the same ones. DuckDB is installed into a virtual environment below
`target/`; denyut answers through the example `sql`, over a store that the example `quickstart` makes; both are built
unless --sql names the first, which the other lies beside. The seed is printed, and the
same seed asks the same. The exit code is 1 if an answer differs.
"""

import argparse
import csv
import io
import math
import os
import random
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DUCKDB = "duckdb==2.0.0"
# Decimal digits that floats are compared by: sums may be added up in another order.
DIGITS = 9


def cell(value):
    """As SQL text."""
    if value is None:
        return "NULL"
    return "'" + value + "'" if isinstance(value, str) else str(value)


def values(rows, name, columns):
    """Rows as a table expression that both engines read, also if there are none."""
    types = {"k": "VARCHAR", "t": "BIGINT", "v": "BIGINT", "x": "DOUBLE", "id": "BIGINT"}
    typed = ", ".join(f"CAST({column} AS {types[column]}) AS {column}" for column in columns)
    lines = ["(" + ", ".join(cell(value) for value in row) + ")" for row in rows] or [
        "(" + ", ".join("NULL" for _ in columns) + ")"
    ]
    where = "" if rows else " WHERE false"
    return f"(SELECT {typed} FROM (VALUES {', '.join(lines)}) AS raw({', '.join(columns)}){where}) AS {name}"


class Maker:
    """Random questions. Each gives the two texts, and how the answers are compared."""

    def __init__(self, chance):
        self.chance = chance

    def maybe(self, value, nulls=0.1):
        return None if self.chance.random() < nulls else value

    def key(self):
        return self.maybe(self.chance.choice(["a", "b", "a key that is longer", "d"]))

    def unique(self, most, pairs):
        """Rows of key, time, value; no key has a time twice, where the engines may choose differently."""
        span = self.chance.choice([5, 30, 1000])
        rows = {}
        for number in range(self.chance.randint(0, most)):
            key, time = self.key(), self.maybe(self.chance.randint(-span, span))
            if key is None and not pairs:
                continue
            rows[(key if pairs else None, time)] = (key, time, self.maybe(number * 7 % 23))
        shuffled = list(rows.values())
        self.chance.shuffle(shuffled)
        return shuffled

    def asof(self):
        keyed = self.chance.random() < 0.8
        left = [(n, self.key(), self.maybe(self.chance.randint(-40, 40))) for n in range(self.chance.randint(0, 40))]
        right = self.unique(60, keyed)
        operator = self.chance.choice([">=", ">", "<=", "<"])
        l = values(left, "l", ["id", "k", "t"])
        r = values(right, "r", ["k", "t", "v"])
        limit = self.chance.choice([None, None, 0, 3, 25])
        difference = "l.t - r.t" if operator[0] == ">" else "r.t - l.t"
        on = (["l.k = r.k"] if keyed else []) + ([f"{difference} <= {limit}"] if limit is not None else [])
        filtered = self.chance.choice(["", " WHERE l.t > 0", " WHERE l.k = 'a'", " WHERE r.v > 5"])
        ours = (
            f"SELECT l.id, r.t AS rt, r.v AS rv FROM {l} ASOF JOIN {r} MATCH_CONDITION (l.t {operator} r.t)"
            + (f" ON {' AND '.join(on)}" if on else "")
        )
        theirs = f"SELECT l.id, l.k, l.t, r.t AS rt, r.v AS rv FROM {l} ASOF LEFT JOIN {r} ON l.t {operator} r.t" + (
            " AND l.k = r.k" if keyed else ""
        )
        if limit is not None:
            near = f"{difference.replace('l.', '').replace('r.t', 'rt')} <= {limit}"
            theirs = (
                f"SELECT id, k, t, CASE WHEN {near} THEN rt END AS rt, CASE WHEN {near} THEN rv END AS rv"
                f" FROM ({theirs}) AS j"
            )
        theirs = f"SELECT id, rt, rv FROM ({theirs}) AS w{filtered.replace('l.', '').replace('r.v', 'rv')}"
        return ours + filtered, theirs, exact

    def ends(self):
        group = self.chance.choice(["", " GROUP BY k"])
        # Without ties, which DuckDB decides as it comes.
        rows = values(self.unique(50, bool(group)), "s", ["k", "t", "v"])
        end, other = self.chance.choice([("first", "arg_min"), ("last", "arg_max")])
        head = "k, " if group else ""
        return (
            f"SELECT {head}{end}(v, to_timestamp(t)) AS e FROM {rows}{group}",
            f"SELECT {head}{other}(v, t) AS e FROM {rows}{group}",
            exact,
        )

    def numbers(self, most):
        draw = self.chance.choice(
            [
                lambda: self.chance.randint(-9, 9),
                lambda: round(self.chance.gauss(0, 100), 3),
                lambda: round(self.chance.lognormvariate(0, 2), 6),
            ]
        )
        return [(self.key(), self.maybe(draw())) for _ in range(self.chance.randint(0, most))]

    def quantile(self):
        numbers = self.numbers(60)
        rows = values(numbers, "s", ["k", "x"])
        part = self.chance.choice([0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.99, 1])
        group = self.chance.choice(["", " GROUP BY k"])
        head = "k, " if group else ""
        return (
            f"SELECT {head}percentile_cont({part}) WITHIN GROUP (ORDER BY x) AS q, median(x) AS m FROM {rows}{group}",
            f"SELECT {head}quantile_cont(x, {part}) AS q, median(x) AS m FROM {rows}{group}",
            # DataFusion's interpolates in millionths of the way from one number to the next.
            apart(2e-6 * max((abs(x) for _, x in numbers if x is not None), default=0)),
        )

    def sketch(self):
        numbers = self.numbers(400)
        rows = values(numbers, "s", ["k", "x"])
        if self.chance.random() < 0.5:
            ours = f"SELECT sketch_count(distinct_sketch(x)) AS n FROM {rows}"
            return ours, f"SELECT nullif(count(DISTINCT x), 0) AS n FROM {rows}", within(0.05)
        part = self.chance.choice([0, 0.05, 0.5, 0.9, 1])
        merged = f"(SELECT percentile_sketch(x) AS p FROM {rows} GROUP BY k) AS g"
        ours = f"SELECT sketch_quantile(sketch_merge(p), {part}) AS q FROM {merged}"
        return ours, f"SELECT x FROM {rows} WHERE x IS NOT NULL", ranked(part)

    def window(self):
        rows = self.unique(50, True)
        rows = [(number, *row) for number, row in enumerate(rows)]
        table = values(rows, "s", ["id", "k", "t", "v"])
        back, ahead = self.chance.randint(0, 4), self.chance.randint(0, 4)
        frame = self.chance.choice(
            [
                f"ROWS BETWEEN {back} PRECEDING AND {ahead} FOLLOWING",
                "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
                f"RANGE BETWEEN {back * 5} PRECEDING AND {ahead * 5} FOLLOWING",
                f"RANGE BETWEEN {back * 5} PRECEDING AND CURRENT ROW",
            ]
        )
        framed = self.chance.choice(["sum(v)", "min(v)", "max(v)", "count(v)", "avg(v)", "first_value(v)", "last_value(v)"])
        whole = self.chance.choice(
            ["row_number()", "rank()", "dense_rank()", f"lag(v, {back})", f"lead(v, {ahead})", f"ntile({back + 1})", "cume_dist()"]
        )
        # An order without ties, which both give the same numbers.
        text = (
            f"SELECT id, {framed} OVER (PARTITION BY k ORDER BY t {frame}) AS f,"
            f" {whole} OVER (PARTITION BY k ORDER BY t, id) AS w FROM {table} WHERE t IS NOT NULL"
        )
        return text, text, exact


def number(text):
    """A cell of CSV as what it is compared by."""
    if text is None or text == "":
        return None
    try:
        value = float(text)
    except ValueError:
        return text
    if math.isnan(value):
        return "NaN"
    return float(f"{value:.{DIGITS}g}")


def order(row):
    return [(value is not None, isinstance(value, str), value if value is not None else 0) for value in row]


def exact(ours, theirs):
    return sorted(ours, key=order) == sorted(theirs, key=order)


def apart(limit):
    """Rows as they are, but for numbers that are so far off."""

    def same(one, other):
        numbers = isinstance(one, float) and isinstance(other, float)
        return abs(one - other) <= limit if numbers else one == other

    def compare(ours, theirs):
        pairs = zip(sorted(ours, key=order), sorted(theirs, key=order))
        return len(ours) == len(theirs) and all(all(map(same, one, other)) for one, other in pairs)

    return compare


def within(part):
    def compare(ours, theirs):
        (mine,), (other,) = ours[0], theirs[0]
        if mine is None or other is None:
            return mine is None and other is None
        return abs(mine - other) <= max(part * other, 1e-9)

    return compare


def ranked(part):
    """Whether the rank of our answer is within two percent, and a number, of the one asked for: what is promised."""

    def compare(ours, theirs):
        (mine,), numbers = ours[0], sorted(row[0] for row in theirs)
        if not numbers or mine is None:
            return not numbers and mine is None
        slack = 0.02 + 1.0 / len(numbers)
        # Both of them are rounded for comparing.
        off = abs(mine) * 10.0 ** (1 - DIGITS)
        below = sum(value < mine - off for value in numbers) / len(numbers)
        upto = sum(value <= mine + off for value in numbers) / len(numbers)
        return below - slack <= part <= upto + slack

    return compare


def install():
    """A Python that has DuckDB."""
    home = ROOT / "target" / "differential"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    has = subprocess.run([python, "-c", "import duckdb; print(duckdb.__version__)"], capture_output=True, text=True)
    if has.stdout.strip() != DUCKDB.split("==")[1]:
        subprocess.run([python, "-m", "pip", "install", "--quiet", DUCKDB], check=True)
    return python


def program():
    subprocess.run(["cargo", "build", "--quiet", "--example", "sql", "--example", "quickstart"], cwd=ROOT, check=True)
    folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return folder / "debug" / "examples" / "sql"


def ask_denyut(sql, texts):
    """The rows of each text's answer. A line that no answer has stands between them."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "questions.sql"
        script.write_text("".join(f"{text};\nSELECT 'end of {place}' AS mark;\n" for place, text in enumerate(texts)))
        subprocess.run([sql.parent / "quickstart", Path(folder) / "store"], capture_output=True, check=True)
        command = [sql, str(Path(folder) / "store"), "-f", str(script), "--format", "csv"]
        run = subprocess.run(command, capture_output=True, text=True)
        answers, lines = [], []
        for line in run.stdout.splitlines():
            if line == f"end of {len(answers)}":
                # Without the two headers.
                rows = csv.reader(io.StringIO("\n".join(lines[1:-1])))
                answers.append([[number(value) for value in row] or [None] for row in rows])
                lines = []
            else:
                lines.append(line)
        if len(answers) != len(texts):
            raise SystemExit(f"denyut stopped at query {len(answers)}:\n{texts[len(answers)]}\n{run.stderr[-2000:]}")
        return answers


def ask_duckdb(texts):
    import duckdb

    connection = duckdb.connect()
    return [[[number(None if value is None else str(value)) for value in row] for row in connection.execute(text).fetchall()] for text in texts]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--kinds", default="asof,ends,quantile,sketch,window")
    parser.add_argument("--sql", type=Path)
    arguments = parser.parse_args()
    try:
        import duckdb  # noqa: F401
    except ImportError:
        raise SystemExit(subprocess.run([install(), __file__, *sys.argv[1:]]).returncode) from None
    print(f"seed {arguments.seed}", flush=True)
    maker = Maker(random.Random(arguments.seed))
    kinds = arguments.kinds.split(",")
    questions = [getattr(maker, kinds[place % len(kinds)])() for place in range(arguments.queries)]
    ours = ask_denyut(arguments.sql or program(), [question[0] for question in questions])
    theirs = ask_duckdb([question[1] for question in questions])
    failed = 0
    for place, ((mine, other, compare), left, right) in enumerate(zip(questions, ours, theirs)):
        if not compare(left, right):
            failed += 1
            print(f"query {place} ({kinds[place % len(kinds)]}) differs\ndenyut: {mine}\n  {left}\nDuckDB: {other}\n  {right}\n")
    print(f"{len(questions) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
