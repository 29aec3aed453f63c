//! The series of one table: tags to id, and id to tags.

use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use arrow::array::StringViewArray;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::error::{Error, Result};
use crate::model::TableSchema;
use crate::options::Options;

use super::series_log::{Record, SeriesLog};
use super::series_view::{CHUNK_SERIES, SeriesView};

/// All series of one table. Lookups share a lock; a new series takes it alone, once.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    inner: RwLock<Inner>,
    hasher: DefaultHashBuilder,
}

#[derive(Debug)]
struct Inner {
    index: HashTable<u32>,
    count: u32,
    /// Per tag, the chunks that are full.
    full: Vec<Vec<Arc<StringViewArray>>>,
    /// Per tag, the values of the chunk that is not.
    tail: Vec<Vec<Box<str>>>,
    /// The last view given out, while no series was added.
    view: Option<SeriesView>,
}

impl Inner {
    fn value(&self, tag: usize, id: u32) -> Option<&str> {
        let (chunk, at) = (id as usize / CHUNK_SERIES, id as usize % CHUNK_SERIES);
        match self.full.get(tag)?.get(chunk) {
            Some(chunk) => Some(chunk.value(at)),
            None => self.tail.get(tag)?.get(at).map(|value| &**value),
        }
    }

    fn is(&self, id: u32, values: &[&str]) -> bool {
        values.iter().enumerate().all(|(tag, value)| self.value(tag, id) == Some(value))
    }

    fn push(&mut self, hasher: &DefaultHashBuilder, hash: u64, values: &[&str]) -> u32 {
        let id = self.count;
        for (tail, value) in self.tail.iter_mut().zip(values) {
            tail.push((*value).into());
        }
        self.count += 1;
        if (self.count as usize).is_multiple_of(CHUNK_SERIES) {
            for (tail, full) in self.tail.iter_mut().zip(&mut self.full) {
                full.push(Arc::new(StringViewArray::from_iter_values(tail.drain(..))));
            }
        }
        self.view = None;
        let mut index = std::mem::take(&mut self.index);
        index.insert_unique(hash, id, |id| self.hash(hasher, *id));
        self.index = index;
        id
    }

    fn hash(&self, hasher: &DefaultHashBuilder, id: u32) -> u64 {
        hasher.hash_one(Tags((0..self.tail.len()).map(|tag| self.value(tag, id).unwrap_or_default())))
    }
}

/// Hashes tag values one after the other, wherever they come from.
struct Tags<I>(I);

impl<'a, I: Iterator<Item = &'a str> + Clone> std::hash::Hash for Tags<I> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.clone().for_each(|value| value.hash(state));
    }
}

impl SeriesTable {
    pub(crate) fn new(tags: usize) -> Self {
        let inner = Inner {
            index: HashTable::new(),
            count: 0,
            full: vec![Vec::new(); tags],
            tail: vec![Vec::new(); tags],
            view: None,
        };
        Self { inner: RwLock::new(inner), hasher: DefaultHashBuilder::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Series so far.
    pub(crate) fn count(&self) -> u32 {
        self.read().count
    }

    /// The series of these tags, if it is one.
    pub(crate) fn find(&self, values: &[&str]) -> Option<u32> {
        let hash = self.hasher.hash_one(Tags(values.iter().copied()));
        let inner = self.read();
        inner.index.find(hash, |id| inner.is(*id, values)).copied()
    }

    /// The series of these tags, which becomes one if it is not yet.
    pub(crate) fn resolve(
        &self,
        schema: &TableSchema,
        log: &SeriesLog,
        options: &Options,
        values: &[&str],
    ) -> Result<u32> {
        let hash = self.hasher.hash_one(Tags(values.iter().copied()));
        let find = |inner: &Inner| inner.index.find(hash, |id| inner.is(*id, values)).copied();
        if let Some(id) = find(&self.read()) {
            return Ok(id);
        }
        check(schema, options, values)?;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = find(&inner) {
            return Ok(id);
        }
        if inner.count >= options.series_max {
            return Err(Error::LimitExceeded {
                limit: "series_max",
                max: options.series_max.into(),
                found: u64::from(inner.count) + 1,
                place: format!("table {:?}", schema.name),
            });
        }
        log.append(schema.id, inner.count, values)?;
        Ok(inner.push(&self.hasher, hash, values))
    }

    /// The tag values of series `id`, in the order of tags; `None` for one that is not there.
    pub(crate) fn tags_of(&self, id: u32) -> Option<Vec<String>> {
        let inner = self.read();
        (0..inner.tail.len()).map(|tag| inner.value(tag, id).map(str::to_string)).collect()
    }

    /// Takes a record of the log. Records come in the log's order, so ids are dense; `None` if this one is not.
    pub(crate) fn replay(&self, record: &mut Record<'_>) -> Option<()> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if record.first != inner.count {
            return None;
        }
        let tags = inner.tail.len();
        let mut values = Vec::with_capacity(tags);
        for _ in 0..record.count {
            values.clear();
            for _ in 0..tags {
                values.push(record.value()?);
            }
            let hash = self.hasher.hash_one(Tags(values.iter().copied()));
            inner.push(&self.hasher, hash, &values);
        }
        Some(())
    }

    /// All series of this moment.
    pub(crate) fn view(&self) -> SeriesView {
        if let Some(view) = &self.read().view {
            return view.clone();
        }
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let tags = inner.full.iter().zip(&inner.tail).map(|(full, tail)| {
            let mut chunks = full.clone();
            if !tail.is_empty() {
                chunks.push(Arc::new(StringViewArray::from_iter_values(tail)));
            }
            chunks
        });
        let view = SeriesView::new(inner.count as usize, tags.collect());
        inner.view = Some(view.clone());
        view
    }
}

/// The error for tag values that no series can have.
pub(crate) fn check(schema: &TableSchema, options: &Options, values: &[&str]) -> Result<()> {
    if values.len() != schema.tags.len() {
        let (expected, found) = (schema.tags.len(), values.len());
        return Err(Error::WrongArity { table: schema.name.clone(), what: "tags", expected, found });
    }
    for (tag, value) in schema.tags.iter().zip(values) {
        if value.is_empty() {
            return Err(Error::MissingTag { table: schema.name.clone(), tag: tag.clone(), row: 0 });
        }
        if value.len() > options.tag_bytes_max {
            return Err(Error::LimitExceeded {
                limit: "tag_bytes_max",
                max: options.tag_bytes_max as u64,
                found: value.len() as u64,
                place: format!("table {:?}, tag {tag:?}", schema.name),
            });
        }
    }
    Ok(())
}
