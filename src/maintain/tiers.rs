//! Which segments to compact together.
//!
//! Compaction is size-tiered with few tiers, so that a row is written few times: once by its seal, at most once into a
//! merge of its partition or out of an overlap segment, and once when its partition turns cold. A cold partition that gets
//! late rows is merged again only when those are as many as it has, so that all rewrites of it together write no more than
//! twice its rows. Hot partitions stay a list of merges, whose number the next tier would lessen for one more write of
//! every row.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashSet;

use crate::model::time::nanos_of;
use crate::options::Options;
use crate::snapshot::{Segment, TableState};
use crate::storage::edit::{SegmentMeta, Tier};

use super::partition::start;
use super::running::Kind;

/// Most segments that one merge or split reads.
const INPUTS_MAX: usize = 64;
/// Most segments of a partition that turn cold together.
const COOL_INPUTS_MAX: usize = 1_024;
/// Merged segments of less than this are small.
const SMALL_BYTES: u64 = 16 << 20;
/// Segments of a partition, in multiples of the fan-in, that are merged although that is one write of their rows more than
/// planned: small ones that many splits left, and new ones of a partition that would turn cold if they did not keep coming.
const MANY_FAN_INS: usize = 4;

/// Segments to be replaced by what they are merged to.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) kind: Kind,
    /// Start of the partition; `None` for a split.
    pub(crate) partition_ns: Option<i64>,
    pub(crate) tier: Tier,
    pub(crate) inputs: Vec<Arc<Segment>>,
}

/// The moment of a look at what is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Unix ns.
    pub(crate) now_ns: i64,
    pub(crate) at: Instant,
    /// Whether to do now what would be better done with more segments.
    pub(crate) eager: bool,
}

/// The partition that all rows of a segment are in, if they are in one.
pub(crate) fn home(meta: &SegmentMeta, width_ns: i64) -> Option<i64> {
    let first = start(meta.min_time, width_ns);
    (first == start(meta.max_time, width_ns)).then_some(first)
}

/// What to compact of `table` next, or else when to ask again. Segments that are `unfit` are left alone.
pub(crate) fn due(
    table: &TableState,
    unfit: &HashSet<u64>,
    options: &Options,
    moment: Moment,
) -> Result<Job, Option<Instant>> {
    let Some(width_ns) = table.partition_ns.filter(|width| *width > 0) else { return Err(None) };
    let mut partitions: BTreeMap<Option<i64>, Vec<&Arc<Segment>>> = BTreeMap::new();
    let is_fit = |segment: &&Arc<Segment>| segment.meta.rows > 0 && !unfit.contains(&segment.meta.id);
    for segment in table.segments.iter().filter(is_fit) {
        partitions.entry(home(&segment.meta, width_ns)).or_default().push(segment);
    }
    let overlaps = partitions.remove(&None).unwrap_or_default();
    let mut ask = Ask { moment, next: None };
    if let Some(job) = split(&overlaps, options, &mut ask) {
        return Ok(job);
    }
    for (start_ns, segments) in &partitions {
        let Some(start_ns) = *start_ns else { continue };
        let end_ns = start_ns.saturating_add(width_ns);
        let meets = |meta: &SegmentMeta| meta.min_time < end_ns && start_ns <= meta.max_time;
        let is_whole = !overlaps.iter().any(|overlap| meets(&overlap.meta));
        let job = cool(start_ns, end_ns, segments, is_whole, options, &mut ask);
        // What turns cold soon is not merged before, unless it becomes many.
        let is_old = end_ns.saturating_add(nanos_of(options.cold_after)) <= moment.now_ns;
        let fan_in = options.compact_fan_in * if is_old { MANY_FAN_INS } else { 1 };
        if let Some(job) = job.or_else(|| merge(start_ns, segments, fan_in, options)) {
            return Ok(job);
        }
    }
    Err(ask.next)
}

/// When something comes of age.
struct Ask {
    moment: Moment,
    next: Option<Instant>,
}

impl Ask {
    /// Whether `segment` has been there for a while, so that what came with it has come.
    fn is_settled(&mut self, segment: &Segment, options: &Options) -> bool {
        let at = segment.since + options.seal_after;
        if self.moment.eager || at <= self.moment.at {
            return true;
        }
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
        false
    }

    /// Whether the Unix ns `ns` is past.
    fn is_past(&mut self, ns: i64) -> bool {
        let left_ns = u64::try_from(ns.saturating_sub(self.moment.now_ns)).unwrap_or(0);
        if left_ns == 0 {
            return true;
        }
        if let Some(at) = self.moment.at.checked_add(std::time::Duration::from_nanos(left_ns)) {
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
        false
    }
}

/// Overlap segments, when there are some or they are old.
fn split(overlaps: &[&Arc<Segment>], options: &Options, ask: &mut Ask) -> Option<Job> {
    let oldest = overlaps.first()?;
    if overlaps.len() < options.compact_fan_in && !ask.is_settled(oldest, options) {
        return None;
    }
    let inputs = within(overlaps, INPUTS_MAX, options);
    Some(Job { kind: Kind::Split, partition_ns: None, tier: Tier::Merged, inputs })
}

/// All of a partition that is old.
fn cool(
    start_ns: i64,
    end_ns: i64,
    segments: &[&Arc<Segment>],
    is_whole: bool,
    options: &Options,
    ask: &mut Ask,
) -> Option<Job> {
    let is_cold = |segment: &&&Arc<Segment>| segment.meta.tier == Tier::Cold;
    let fresh: Vec<_> = segments.iter().filter(|segment| !is_cold(segment)).copied().collect();
    if fresh.is_empty() || !is_whole || !ask.is_past(end_ns.saturating_add(nanos_of(options.cold_after))) {
        return None;
    }
    // Each is asked, so that the next look is when the last has settled.
    if fresh.iter().filter(|segment| !ask.is_settled(segment, options)).count() > 0 {
        return None;
    }
    let rows = |segments: &[&Arc<Segment>]| segments.iter().map(|segment| segment.meta.rows).sum::<u64>();
    let bytes = |segments: &[&Arc<Segment>]| segments.iter().map(|segment| segment.meta.bytes).sum::<u64>();
    // What is as large as one may be is not touched again.
    let room = options.compact_bytes_max.saturating_sub(bytes(&fresh));
    let cold: Vec<_> = segments.iter().filter(is_cold).copied().collect();
    let again: Vec<_> = cold.iter().filter(|segment| segment.meta.bytes <= room).copied().collect();
    let few = if again.is_empty() { fresh.len() < options.compact_fan_in } else { rows(&fresh) < rows(&again) };
    if few && !cold.is_empty() {
        return None;
    }
    // Those that are not cold come first: what is chosen has one of them at least.
    let inputs = within(&[fresh, again].concat(), COOL_INPUTS_MAX, options);
    Some(Job { kind: Kind::Cool, partition_ns: Some(start_ns), tier: Tier::Cold, inputs })
}

/// Enough segments of one tier.
fn merge(start_ns: i64, segments: &[&Arc<Segment>], fan_in: usize, options: &Options) -> Option<Job> {
    let of = |tier: Tier, bytes_max: u64| -> Vec<&Arc<Segment>> {
        let wanted = |segment: &&&Arc<Segment>| segment.meta.tier == tier && segment.meta.bytes < bytes_max;
        segments.iter().filter(wanted).copied().collect()
    };
    let sealed = of(Tier::Sealed, options.compact_bytes_max);
    let small = of(Tier::Merged, SMALL_BYTES.min(options.compact_bytes_max));
    let enough = if sealed.len() >= fan_in {
        sealed
    } else if small.len() >= MANY_FAN_INS * options.compact_fan_in {
        small
    } else {
        return None;
    };
    let inputs = within(&enough, INPUTS_MAX, options);
    (inputs.len() > 1).then_some(Job { kind: Kind::Merge, partition_ns: Some(start_ns), tier: Tier::Merged, inputs })
}

/// The first of `segments`, one at least, that are not too many or too large together; in the order of their making.
fn within(segments: &[&Arc<Segment>], count_max: usize, options: &Options) -> Vec<Arc<Segment>> {
    let (mut bytes, mut rows) = (0, 0);
    let fits = |segment: &&&Arc<Segment>| {
        bytes += segment.meta.bytes;
        rows += segment.meta.rows;
        bytes <= options.compact_bytes_max && u32::try_from(rows).is_ok()
    };
    let fitting = segments.iter().take(count_max).take_while(fits).count();
    let mut chosen: Vec<_> = segments.iter().take(fitting.max(1)).map(|segment| Arc::clone(segment)).collect();
    chosen.sort_by_key(|segment| segment.meta.id);
    chosen
}
