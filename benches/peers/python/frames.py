"""The city's and the real questions as polars' lazy frames, by name. `workload/src/*/questions.rs` says what they mean.
"""
import polars as pl

QUESTIONS = {}


def question(function):
    QUESTIONS[function.__name__.replace("_", "-")] = function
    return function


def moment(ns):
    return pl.lit(ns).cast(pl.Datetime("ns", "UTC"))


def within(rows, begin, end):
    return rows.filter((pl.col("time") >= moment(begin)) & (pl.col("time") < moment(end)))


def bin(every):
    return pl.col("time").dt.truncate(every).alias("bin")


def newest(fields):
    return [pl.col("time").max().alias("newest")] + [pl.col(field).sort_by("time").last() for field in fields]


def curve(rows, field, moments, seconds):
    """Means of bins, held over bins without rows; none of no rows."""
    step = seconds * 10**9
    means = within(rows, *moments).group_by(bin(f"{seconds}s")).agg(pl.col(field).mean().alias("held"))
    first = moments[0] // step * step
    bins = pl.LazyFrame({"bin": range(first, moments[1], step)}).select(pl.col("bin").cast(pl.Datetime("ns", "UTC")))
    held = bins.join(means, on="bin", how="left").filter(pl.col("held").is_not_null().any()).sort("bin")
    return held.with_columns(pl.col("held").forward_fill())


@question
def city_buses_now(tables, moments, texts):
    rows = tables["buses"].filter(pl.col("operator") == texts[0])
    return rows.group_by("bus").agg(newest(["lat", "lon", "speed_kmh", "delay_s"])).sort("bus")


@question
def city_jams(tables, moments, texts):
    lately, speed = pl.col("time") >= moment(moments[1]), pl.col("speed_kmh")
    means = speed.filter(lately).mean().alias("now"), speed.filter(~lately).mean().alias("before")
    roads = within(tables["loops"], moments[0], moments[2]).group_by("road").agg(means)
    return roads.filter(pl.col("now") < 0.7 * pl.col("before")).sort("road")


@question
def city_silent_loops(tables, moments, texts):
    rows = tables["loops"].filter(pl.col("time") < moment(moments[1]))
    return rows.group_by("sensor").agg(pl.col("time").max()).filter(pl.col("time") < moment(moments[0])).sort("sensor")


@question
def city_late_lines(tables, moments, texts):
    delay = pl.col("delay_s")
    rows = within(tables["buses"], *moments).group_by(bin("1h"), "line")
    late = (delay > 300).sum().alias("late")
    return rows.agg(pl.len(), delay.mean(), late).sort("bin", "line")


@question
def city_speed_in_rain(tables, moments, texts):
    loops = within(tables["loops"], moments[1], moments[2]).select("time", "district", "speed_kmh").sort("time")
    rain = within(tables["water"].filter(pl.col("kind") == "rain"), moments[0], moments[2])
    rain = rain.select("time", "district", "rain_mm").sort("time")
    joined = loops.join_asof(rain, on="time", by="district")
    return joined.group_by(pl.col("rain_mm").floor()).agg(pl.len(), pl.col("speed_kmh").mean()).sort("rain_mm")


@question
def city_air_limit(tables, moments, texts):
    pm25 = pl.col("pm25")
    rows = within(tables["air"], *moments).group_by("station")
    means = rows.agg(pm25.mean().alias("mean"), pm25.max().alias("max"), pl.col("no2").count())
    return means.filter(pl.col("mean") > 15).sort("station")


@question
def city_water_curve(tables, moments, texts):
    return curve(tables["water"].filter(pl.col("station") == texts[0]), "level_cm", moments, 300)


@question
def city_complaints_top(tables, moments, texts):
    rows = within(tables["complaints"].filter(pl.col("district") == texts[0]), *moments).group_by("category")
    hours = pl.col("hours_open")
    counts = rows.agg(hours.null_count().alias("opened"), hours.count().alias("closed"), hours.mean())
    return counts.sort("opened", "category", descending=[True, False]).limit(10)


@question
def city_budget_spent(tables, moments, texts):
    rows = tables["ledger"].filter(pl.col("time") < moment(moments[0])).group_by("agency", "fund")
    cents = pl.col("amount_cents")
    return rows.agg(cents.sum().alias("spent"), pl.len(), cents.max().alias("largest")).sort("agency", "fund")


@question
def city_counters_served(tables, moments, texts):
    rows = within(tables["counters"], *moments).with_columns(bin("1h")).sort("counter", "time")
    served, previous = pl.col("served"), pl.col("served").shift(1).over("counter", "bin")
    rows = rows.with_columns(
        pl.when(previous.is_not_null()).then(pl.when(served >= previous).then(served - previous).otherwise(served))
        .alias("by")
    )
    by = pl.col("by")
    # As in SQL nothing but nulls add up to null.
    return rows.group_by("bin", "office").agg(pl.when(by.count() > 0).then(by.sum())).sort("bin", "office")


@question
def real_latest_weather(tables, moments, texts):
    rows = tables["weather"].filter(pl.col("time") < moment(moments[0])).group_by("airport")
    return rows.agg(newest(["precip_in", "visibility_mi"])).sort("airport")


@question
def real_departures_by_day(tables, moments, texts):
    day = pl.col("time").dt.convert_time_zone("America/New_York").dt.truncate("1d").alias("bin")
    rows = within(tables["flights"], *moments).group_by(day)
    return rows.agg(pl.len(), pl.col("dep_delay_min").null_count()).sort("bin")


@question
def real_hourly_delay(tables, moments, texts):
    rows = within(tables["flights"], *moments).group_by(bin("1h"), "origin")
    return rows.agg(pl.len(), pl.col("dep_delay_min").mean()).sort("bin", "origin")


@question
def real_top_carriers(tables, moments, texts):
    delay = pl.col("arr_delay_min")
    rows = within(tables["flights"], *moments).group_by("carrier")
    means = rows.agg(delay.count().alias("arrived"), delay.mean().alias("mean")).filter(pl.col("arrived") >= 100)
    return means.sort("mean", "carrier", descending=[True, False]).limit(5)


@question
def real_monthly_maxima(tables, moments, texts):
    rows = within(tables["weather"].filter(pl.col("airport").is_in(texts)), *moments)
    extremes = pl.col("temp_f").max(), pl.col("gust_mph").max(), pl.col("pressure_mbar").min()
    return rows.group_by(bin("1mo"), "airport").agg(extremes).sort("bin", "airport")


@question
def real_delay_by_wind(tables, moments, texts):
    flights = within(tables["flights"], *moments).select("time", "origin", "dep_delay_min").sort("time")
    weather = within(tables["weather"], *moments).select("time", "airport", "wind_mph").sort("time")
    joined = flights.join_asof(weather, on="time", by_left="origin", by_right="airport")
    wind = ((pl.col("wind_mph") / 10).floor() * 10).alias("wind")
    return joined.group_by(wind).agg(pl.len(), pl.col("dep_delay_min").mean()).sort("wind")


@question
def real_p90_delay(tables, moments, texts):
    delay = pl.col("arr_delay_min")
    rows = within(tables["flights"], *moments).filter(delay.is_not_null()).group_by("carrier")
    return rows.agg(delay.quantile(0.9, "linear").round(1), delay.count().alias("arrived")).sort("carrier")


@question
def real_speed_by_occupancy(tables, moments, texts):
    speed = within(tables["road_speed"], *moments).select("time", "detector", "speed_mph").sort("time")
    occupancy = within(tables["road_occupancy"], *moments).select("time", "detector", "occupancy_pct").sort("time")
    joined = speed.join_asof(occupancy, on="time", by="detector")
    occupied = ((pl.col("occupancy_pct") / 5).floor() * 5).alias("occupied")
    return joined.group_by(occupied).agg(pl.len(), pl.col("speed_mph").mean()).sort("occupied")


@question
def real_longest_jams(tables, moments, texts):
    time = pl.col("time")
    rows = within(tables["travel_time"].filter(pl.col("travel_s") > 500), *moments).sort("time")
    began = (time.diff() > pl.duration(hours=1)).fill_null(True).cum_sum().alias("began")
    jams = rows.with_columns(began).group_by("began")
    jams = jams.agg(time.min().alias("bin"), time.max().alias("newest"), pl.len(), pl.col("travel_s").max())
    length = (pl.col("newest") - pl.col("bin")).alias("length")
    return jams.with_columns(length).sort("length", "bin", descending=[True, False]).limit(10).drop("began", "length")


@question
def real_taxi_days(tables, moments, texts):
    passengers = pl.col("passengers")
    days = within(tables["taxi_demand"], *moments).group_by(bin("1d"))
    return days.agg(passengers.sum(), passengers.max().alias("max")).sort("bin")


@question
def real_road_curve(tables, moments, texts):
    return curve(tables["road_speed"].filter(pl.col("detector") == texts[0]), "speed_mph", moments, 1800)
