"""Makes flights.csv.gz and weather.csv.gz from the nycflights13 files: python3 convert.py FOLDER_WITH_THE_ORIGINALS

Rows keep their order, all of them stay; columns that the command center does not use are dropped, and `NA` becomes empty.
"""

import csv
import gzip
import io
import pathlib
import sys
import zipfile

FLIGHTS = "time_hour minute carrier flight origin dest distance dep_delay arr_delay air_time".split()
WEATHER = "time_hour origin temp dewp humid wind_dir wind_speed wind_gust precip pressure visib".split()


def convert(source, target, columns):
    rows = 0
    # A fixed time and no name in the gzip header: the same input gives the same bytes.
    with open(target, "wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=9, mtime=0) as out:
        text = io.TextIOWrapper(out, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for row in csv.DictReader(source):
            writer.writerow("" if row[name] == "NA" else row[name] for name in columns)
            rows += 1
        text.flush()
        text.detach()
    print(f"{target}: {rows:,} rows, {pathlib.Path(target).stat().st_size:,} bytes")


def main():
    folder = pathlib.Path(sys.argv[1])
    here = pathlib.Path(__file__).parent
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open("flights.csv") as raw:
        convert(io.TextIOWrapper(raw, encoding="utf-8", newline=""), here / "flights.csv.gz", FLIGHTS)
    with open(folder / "weather.csv", encoding="utf-8", newline="") as source:
        convert(source, here / "weather.csv.gz", WEATHER)


if __name__ == "__main__":
    main()
