//! Any tables as Parquet files, from sources that give their rows in the order in which they arrive.

use std::path::Path;
use std::sync::Arc;

use denyut::arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use denyut::arrow::compute::cast;
use denyut::arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use denyut::parquet::basic::{Compression, ZstdLevel};
use serde_json::{Value, json};
use workload::table::{Kind, Source, Table};

use super::{BATCH_ROWS, GROUP_ROWS, SORTED_GROUP_ROWS, dictionary_type, time_field, times, writer};
use crate::Outcome;

/// Rows that are sorted in memory at a time. A source is run again for each such part.
const PART_ROWS: usize = 8 << 20;

/// Rows in memory.
#[derive(Default)]
struct Rows {
    series: Vec<u32>,
    times: Vec<i64>,
    /// Those of a row together, NaN for null.
    values: Vec<f64>,
}

impl Rows {
    fn push(&mut self, series: u32, time: i64, values: &[f64]) {
        self.series.push(series);
        self.times.push(time);
        self.values.extend(values);
    }

    fn clear(&mut self) {
        self.series.clear();
        self.times.clear();
        self.values.clear();
    }
}

/// A tag's values, and which of them each series has.
struct Dictionary {
    values: Arc<StringArray>,
    keys: Vec<i32>,
}

/// A table's shape and tags, from which batches are made.
struct Shape {
    table: Table,
    schema: SchemaRef,
    dictionaries: Vec<Dictionary>,
}

impl Shape {
    fn new(table: Table, series: &[Vec<String>], text: &DataType) -> Self {
        let mut fields = vec![time_field()];
        fields.extend(table.tags.iter().map(|name| Field::new(*name, text.clone(), false)));
        let kind = |kind: Kind| if kind == Kind::F64 { DataType::Float64 } else { DataType::Int64 };
        fields.extend(table.fields.iter().map(|(name, of)| Field::new(*name, kind(*of), true)));
        let dictionary = |tag: usize| {
            let mut values: Vec<&str> = series.iter().map(|tags| tags[tag].as_str()).collect();
            values.sort_unstable();
            values.dedup();
            let key = |tags: &Vec<String>| values.binary_search(&tags[tag].as_str()).unwrap_or_default() as i32;
            let keys = series.iter().map(key).collect();
            Dictionary { values: Arc::new(StringArray::from(values)), keys }
        };
        let dictionaries = (0..table.tags.len()).map(dictionary).collect();
        Self { table, schema: Arc::new(Schema::new(fields)), dictionaries }
    }

    /// The rows that are `picked`, in this order.
    fn batch(&self, rows: &Rows, picked: &[u32]) -> Outcome<RecordBatch> {
        let each = || picked.iter().map(|row| *row as usize);
        let mut columns = vec![times(each().map(|row| rows.times[row]).collect())];
        for (at, dictionary) in self.dictionaries.iter().enumerate() {
            let keys = each().map(|row| dictionary.keys[rows.series[row] as usize]);
            let keys = Int32Array::from_iter_values(keys);
            let column = DictionaryArray::<Int32Type>::try_new(keys, dictionary.values.clone())?;
            columns.push(cast(&column, self.schema.field(at + 1).data_type())?);
        }
        let width = self.table.fields.len();
        for (at, (_, kind)) in self.table.fields.iter().enumerate() {
            let cells = each().map(|row| Some(rows.values[row * width + at]).filter(|value| !value.is_nan()));
            let column: ArrayRef = match kind {
                Kind::F64 => Arc::new(cells.collect::<Float64Array>()),
                Kind::I64 => Arc::new(cells.map(|cell| cell.map(|value| value as i64)).collect::<Int64Array>()),
            };
            columns.push(column);
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// Writes every table in both orders, below `dir`, and describes them.
pub fn write(sources: &[Box<dyn Source>], dir: &Path) -> Outcome<Vec<Value>> {
    let mut described = Vec::new();
    for source in sources {
        let table = source.table();
        let file = |end: &str| dir.join(format!("{}{end}.parquet", table.name));
        let (arrival, sorted) = (file(""), file("-sorted"));
        let counts = write_arrival(source.as_ref(), &arrival)?;
        write_sorted(source.as_ref(), &counts, PART_ROWS, &sorted)?;
        let fields: Vec<[&str; 2]> = table.fields.iter().map(|(name, kind)| [*name, kind.name()]).collect();
        described.push(json!({
            "name": table.name, "path": arrival, "sorted": sorted, "rows": counts.iter().sum::<usize>(),
            "series": counts.iter().filter(|count| **count > 0).count(), "tags": table.tags, "fields": fields,
            "order": table.order, "nullable": true,
        }));
    }
    Ok(described)
}

/// As they arrive. Gives how many rows each series has.
fn write_arrival(source: &dyn Source, path: &Path) -> Outcome<Vec<usize>> {
    let series = source.series();
    let shape = Shape::new(source.table(), &series, &dictionary_type());
    let mut writer = writer(path, &shape.schema, GROUP_ROWS, Compression::LZ4_RAW)?;
    let (mut rows, mut counts, mut result) = (Rows::default(), vec![0; series.len()], Ok(()));
    let mut flush = |rows: &mut Rows| -> Outcome<()> {
        let all: Vec<u32> = (0..rows.times.len() as u32).collect();
        writer.write(&shape.batch(rows, &all)?)?;
        rows.clear();
        Ok(())
    };
    source.rows(&mut |series, time, values| {
        counts[series as usize] += 1;
        rows.push(series, time, values);
        if rows.times.len() == BATCH_ROWS && result.is_ok() {
            result = flush(&mut rows);
        }
    });
    result?;
    flush(&mut rows)?;
    writer.close()?;
    Ok(counts)
}

/// Where each series comes in the order of a table, and how many rows each place has. Series that agree in the tags of
/// that order share a place, and are mixed by time.
fn places(table: &Table, series: &[Vec<String>], counts: &[usize]) -> (Vec<u32>, Vec<usize>) {
    let tags: Vec<usize> = table.order.iter().filter_map(|tag| table.tags.iter().position(|one| one == tag)).collect();
    let key = |number: usize| tags.iter().map(|at| series[number][*at].as_str()).collect::<Vec<_>>();
    let mut order: Vec<usize> = (0..series.len()).filter(|number| counts[*number] > 0).collect();
    order.sort_by_cached_key(|number| key(*number));
    let (mut places, mut sizes): (Vec<u32>, Vec<usize>) = (vec![u32::MAX; series.len()], Vec::new());
    for (at, number) in order.iter().enumerate() {
        if at == 0 || key(order[at - 1]) != key(*number) {
            sizes.push(0);
        }
        let place = sizes.len() - 1;
        sizes[place] += counts[*number];
        places[*number] = place as u32;
    }
    (places, sizes)
}

/// By the tags that the table is ordered by, and time.
fn write_sorted(source: &dyn Source, counts: &[usize], part_rows: usize, path: &Path) -> Outcome<()> {
    let series = source.series();
    let shape = Shape::new(source.table(), &series, &DataType::Utf8);
    let (places, sizes) = places(&shape.table, &series, counts);
    let mut writer = writer(path, &shape.schema, SORTED_GROUP_ROWS, Compression::ZSTD(ZstdLevel::try_new(3)?))?;
    let mut first = 0;
    while first < sizes.len() {
        let (mut end, mut size) = (first, 0);
        while end < sizes.len() && (end == first || size + sizes[end] <= part_rows) {
            size += sizes[end];
            end += 1;
        }
        let (part, mut rows) = (first as u32..end as u32, Rows::default());
        source.rows(&mut |series, time, values| {
            if part.contains(&places[series as usize]) {
                rows.push(series, time, values);
            }
        });
        let mut picked: Vec<u32> = (0..rows.times.len() as u32).collect();
        picked.sort_by_key(|row| (places[rows.series[*row as usize] as usize], rows.times[*row as usize]));
        for picked in picked.chunks(BATCH_ROWS) {
            writer.write(&shape.batch(&rows, picked)?)?;
        }
        first = end;
    }
    writer.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use denyut::arrow::array::{Array, AsArray};
    use denyut::arrow::datatypes::{Int64Type, TimestampNanosecondType};
    use workload::table::Take;

    use super::*;
    use crate::data::groups;

    /// Two sensors, one of which is two series: what comes last was measured first.
    struct Few;

    impl Source for Few {
        fn table(&self) -> Table {
            Table {
                name: "few",
                tags: &["line", "bus"],
                fields: &[("delay", Kind::I64), ("speed", Kind::F64)],
                order: &["bus"],
            }
        }

        fn series(&self) -> Vec<Vec<String>> {
            let tags = |line: &str, bus: &str| vec![line.to_string(), bus.to_string()];
            vec![tags("x", "b"), tags("x", "a"), tags("y", "a"), tags("z", "never")]
        }

        fn rows(&self, take: &mut Take<'_>) {
            for (series, time) in [(0, 5), (1, 4), (2, 3), (1, 2), (0, 1)] {
                take(series, time, &[time as f64, if time == 3 { f64::NAN } else { 0.5 }]);
            }
        }
    }

    type Seen = Vec<(String, String, i64, i64, bool)>;

    fn read(path: &Path) -> Seen {
        let mut seen = Seen::new();
        for batch in groups(path).unwrap().flat_map(Result::unwrap) {
            let text = |at: usize| cast(batch.column(at), &DataType::Utf8).unwrap();
            let (line, bus) = (text(1), text(2));
            for row in 0..batch.num_rows() {
                let of = |column: &ArrayRef| column.as_string::<i32>().value(row).to_string();
                let time = batch.column(0).as_primitive::<TimestampNanosecondType>().value(row);
                let delay = batch.column(3).as_primitive::<Int64Type>().value(row);
                seen.push((of(&line), of(&bus), time, delay, batch.column(4).is_null(row)));
            }
        }
        seen
    }

    #[test]
    fn rows_are_written_in_both_orders() {
        let dir = std::env::temp_dir().join(format!("peers-tables-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (arrival, sorted) = (dir.join("arrival"), dir.join("sorted"));
        let counts = write_arrival(&Few, &arrival).unwrap();
        assert_eq!(counts, [2, 2, 1, 0]);
        let times = |seen: &Seen| seen.iter().map(|row| row.2).collect::<Vec<_>>();
        assert_eq!(times(&read(&arrival)), [5, 4, 3, 2, 1]);
        // All at once, and a bus at a time.
        for part_rows in [100, 1] {
            write_sorted(&Few, &counts, part_rows, &sorted).unwrap();
            let seen = read(&sorted);
            assert_eq!(times(&seen), [2, 3, 4, 1, 5]);
            assert_eq!(seen[1], ("y".into(), "a".into(), 3, 3, true));
            assert!(seen.iter().all(|row| row.2 == row.3 && row.4 == (row.2 == 3)));
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
