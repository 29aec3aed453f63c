//! Tags by series, frozen: what a snapshot gathers tag columns from.
//!
//! Values lie in chunks of a thousand series. A gathered column carries only the heaps of the chunks that its values over
//! 12 bytes refer to, because every operator counts a shared heap again for each batch.

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, AsArray, StringViewArray, UInt32Array};
use arrow::compute::take;
use hashbrown::HashMap;

use crate::error::{Error, Result};

/// Series in one chunk.
pub(crate) const CHUNK_SERIES: usize = 1_024;
/// Series up to which a gather numbers its rows through an array and not through a hash table.
const DENSE_MAX: usize = 64 << 10;

/// A snapshot of a table's series. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct SeriesView {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    count: usize,
    /// Per tag, its chunks, all but the last of [`CHUNK_SERIES`].
    tags: Vec<Vec<Arc<StringViewArray>>>,
    ranks: OnceLock<Arc<[u32]>>,
}

impl SeriesView {
    pub(crate) fn new(count: usize, tags: Vec<Vec<Arc<StringViewArray>>>) -> Self {
        Self { inner: Arc::new(Inner { count, tags, ranks: OnceLock::new() }) }
    }

    /// Series in it; their ids are below.
    pub(crate) fn len(&self) -> usize {
        self.inner.count
    }

    /// The value of tag number `tag` of a series; empty for an id that it does not have.
    pub(crate) fn value(&self, tag: usize, id: u32) -> &str {
        let (chunk, at) = (id as usize / CHUNK_SERIES, id as usize % CHUNK_SERIES);
        let chunk = self.inner.tags.get(tag).and_then(|chunks| chunks.get(chunk));
        chunk.filter(|chunk| at < chunk.len()).map_or("", |chunk| chunk.value(at))
    }

    /// The values of tag number `tag` for each of `ids`.
    ///
    /// Each distinct series is looked up once; the rows are then gathered from those by Arrow's `take`.
    pub(crate) fn tag_column(&self, tag: usize, ids: &[u32]) -> Result<StringViewArray> {
        let (distinct, index) = self.number(ids)?;
        let values = self.distinct_values(tag, &distinct)?;
        let column = take(&values, &index, None).map_err(|error| Error::batch("", error))?;
        Ok(column.as_string_view().clone())
    }

    /// The distinct ids, and for each of `ids` its place among them.
    fn number(&self, ids: &[u32]) -> Result<(Vec<u32>, UInt32Array)> {
        const NONE: u32 = u32::MAX;
        let unknown = |id: u32| Error::batch("", format!("row of series {id}, the snapshot has {}", self.len()));
        let mut distinct = Vec::new();
        let mut index = Vec::with_capacity(ids.len());
        if self.len() <= DENSE_MAX {
            let mut places = vec![NONE; self.len()];
            for &id in ids {
                let place = places.get_mut(id as usize).ok_or_else(|| unknown(id))?;
                if *place == NONE {
                    *place = u32::try_from(distinct.len()).unwrap_or(NONE);
                    distinct.push(id);
                }
                index.push(*place);
            }
        } else {
            let mut places = HashMap::with_capacity(ids.len().min(self.len()));
            for &id in ids {
                if id as usize >= self.len() {
                    return Err(unknown(id));
                }
                let place = *places.entry(id).or_insert_with(|| {
                    distinct.push(id);
                    u32::try_from(distinct.len() - 1).unwrap_or(NONE)
                });
                index.push(place);
            }
        }
        Ok((distinct, index.into()))
    }

    fn distinct_values(&self, tag: usize, ids: &[u32]) -> Result<StringViewArray> {
        const INLINE_MAX: u128 = 12;
        let chunks = self.inner.tags.get(tag).ok_or_else(|| Error::batch("", format!("no tag number {tag}")))?;
        let mut buffers = Vec::new();
        // Where each chunk's first buffer is in `buffers`.
        let mut bases: HashMap<usize, u32> = HashMap::new();
        let mut views = Vec::with_capacity(ids.len());
        for &id in ids {
            let (number, at) = (id as usize / CHUNK_SERIES, id as usize % CHUNK_SERIES);
            let chunk = chunks.get(number).filter(|chunk| at < chunk.len());
            let (chunk, view) = chunk
                .and_then(|chunk| Some((chunk, *chunk.views().get(at)?)))
                .ok_or_else(|| Error::batch("", format!("no series {id}")))?;
            if view & 0xFFFF_FFFF <= INLINE_MAX {
                views.push(view);
                continue;
            }
            let base = *bases.entry(number).or_insert_with(|| {
                let base = u32::try_from(buffers.len()).unwrap_or(u32::MAX);
                buffers.extend(chunk.data_buffers().iter().cloned());
                base
            });
            // The buffer's number is the view's third word.
            views.push(view + (u128::from(base) << 64));
        }
        StringViewArray::try_new(views.into(), buffers, None).map_err(|error| Error::batch("", error))
    }

    /// All tag columns of a range of series, for evaluating predicates over tags.
    #[cfg(feature = "sql")]
    pub(crate) fn columns(&self, ids: std::ops::Range<u32>) -> Result<Vec<arrow::array::ArrayRef>> {
        let ids: Vec<u32> = ids.collect();
        let column = |tag| Ok(Arc::new(self.distinct_values(tag, &ids)?) as _);
        (0..self.inner.tags.len()).map(column).collect()
    }

    /// Each series' place in the order of tags: what segments are sorted by. Computed once a view.
    pub(crate) fn ranks(&self) -> Arc<[u32]> {
        let compute = || {
            let mut order: Vec<u32> = (0..u32::try_from(self.len()).unwrap_or(u32::MAX)).collect();
            let tags = self.inner.tags.len();
            order.sort_unstable_by(|a, b| {
                let values = (0..tags).map(|tag| self.value(tag, *a).cmp(self.value(tag, *b)));
                values.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
            });
            let mut ranks = vec![0; order.len()];
            for (rank, id) in (0u32..).zip(order) {
                if let Some(place) = ranks.get_mut(id as usize) {
                    *place = rank;
                }
            }
            ranks.into()
        };
        self.inner.ranks.get_or_init(compute).clone()
    }
}
