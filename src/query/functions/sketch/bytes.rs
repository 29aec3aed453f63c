//! What sketches look like when they are stored, and reading that back with distrust.
//!
//! ```text
//! "DnSk"  kind u8  version u8  0 u16  crc32 of what follows u32  what follows
//! ```
//!
//! All little-endian. Of percentiles there follow: counts of -inf and +inf (u64), count, min, max and sum of the finite
//! (f64), the number of centroids (u32), and of each its mean and weight (f64). Of distinct values: an HLL sketch in the
//! format of Apache DataSketches.

use datafusion::error::{DataFusionError, Result};
use datafusion_functions_aggregate_common::tdigest::{Centroid, TDigest};
use datasketches::hll::HllSketch;

/// Centroids that a digest aims at. They are within half a percent of the ranks, see the tests.
pub(super) const CENTROIDS: usize = 200;
/// Two to this many registers: a standard error of about 1.6 percent.
pub(super) const REGISTERS_LOG2: u8 = 12;

const MAGIC: [u8; 4] = *b"DnSk";
const HEADER_BYTES: usize = 12;
const VERSION: u8 = 1;
/// Merging leaves about as many as it aims at; more are not ours.
const CENTROIDS_MAX: usize = 4 * CENTROIDS;

/// Of the HLL format: where the mode is, its number for registers, theirs for whole bytes, where they are, and the most
/// that a hash gives.
const HLL_MODE_AT: usize = 7;
const HLL_MODE_REGISTERS: u8 = 2;
const HLL_REGISTERS_OF_BYTES: u8 = 2;
const HLL_REGISTERS_AT: usize = 40;
const HLL_REGISTER_MAX: u8 = 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Percentile = 1,
    Distinct = 2,
}

/// A sketch that was read.
#[derive(Debug)]
pub(super) enum Sketch {
    Percentile(Percentiles),
    Distinct(HllSketch),
}

/// A digest of the finite numbers, and how many are not.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Percentiles {
    pub(super) digest: TDigest,
    pub(super) below: u64,
    pub(super) above: u64,
}

pub(super) fn damaged(what: impl std::fmt::Display) -> DataFusionError {
    DataFusionError::Execution(format!(
        "the bytes are no sketch: {what}; give what percentile_sketch, distinct_sketch or sketch_merge made"
    ))
}

fn sealed(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend(MAGIC);
    bytes.extend([kind as u8, VERSION, 0, 0]);
    bytes.extend(crc32fast::hash(payload).to_le_bytes());
    bytes.extend(payload);
    bytes
}

impl Percentiles {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let digest = &self.digest;
        let mut payload = Vec::with_capacity(52 + 16 * digest.centroids().len());
        for count in [self.below, self.above] {
            payload.extend(count.to_le_bytes());
        }
        for number in [digest.count(), digest.min(), digest.max(), digest.sum()] {
            payload.extend(number.to_le_bytes());
        }
        payload.extend((digest.centroids().len() as u32).to_le_bytes());
        for centroid in digest.centroids() {
            payload.extend(centroid.mean().to_le_bytes());
            payload.extend(centroid.weight().to_le_bytes());
        }
        sealed(Kind::Percentile, &payload)
    }

    fn read(payload: &mut Payload<'_>) -> Result<Self> {
        let (below, above) = (payload.u64()?, payload.u64()?);
        let [count, min, max, sum] = [payload.f64()?, payload.f64()?, payload.f64()?, payload.f64()?];
        let number = payload.u32()? as usize;
        if number > CENTROIDS_MAX || payload.0.len() != 16 * number {
            return Err(damaged(format_args!("{number} centroids in {} bytes", payload.0.len())));
        }
        let mut centroids = Vec::with_capacity(number);
        let mut weights = 0.0;
        for _ in 0..number {
            let (mean, weight) = (payload.f64()?, payload.f64()?);
            if mean.is_nan() || !(weight.is_finite() && weight > 0.0) {
                return Err(damaged(format_args!("a centroid of mean {mean} and weight {weight}")));
            }
            weights += weight;
            centroids.push(Centroid::new(mean, weight));
        }
        // Weights are whole, but their sums round once they are beyond 2^53.
        if !(weights - count).abs().le(&(count.abs() * 1e-9)) || (number > 0 && !(min.is_finite() && max.is_finite())) {
            return Err(damaged(format_args!("weights of {weights} and a count of {count} from {min} to {max}")));
        }
        let digest = TDigest::try_from_parts(CENTROIDS, sum, count, max, min, centroids).map_err(damaged)?;
        Ok(Self { digest, below, above })
    }
}

pub(super) fn distinct_bytes(sketch: &HllSketch) -> Vec<u8> {
    sealed(Kind::Distinct, &sketch.serialize())
}

/// Reads what of a payload is left.
struct Payload<'a>(&'a [u8]);

impl Payload<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(|| damaged("they end too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn f64(&mut self) -> Result<f64> {
        self.take().map(f64::from_le_bytes)
    }
}

/// The library takes any byte for a register, and shifts by it. Its states of few values hold none.
fn check_registers(payload: &[u8]) -> Result<()> {
    let Some(mode) = payload.get(HLL_MODE_AT) else { return Err(damaged("they end too early")) };
    if mode & 3 != HLL_MODE_REGISTERS {
        return Ok(());
    }
    let registers = payload.get(HLL_REGISTERS_AT..).unwrap_or_default();
    let others = mode >> 2 & 3 != HLL_REGISTERS_OF_BYTES || registers.len() != 1 << REGISTERS_LOG2;
    if others || registers.iter().any(|register| *register > HLL_REGISTER_MAX) {
        return Err(damaged(format_args!("{} registers, or one too large", registers.len())));
    }
    Ok(())
}

pub(super) fn read(bytes: &[u8]) -> Result<Sketch> {
    let mut header = Payload(bytes);
    if header.take::<4>()? != MAGIC {
        return Err(damaged("they do not begin as one"));
    }
    let [kind, version, _, _] = header.take()?;
    if version != VERSION {
        return Err(damaged(format_args!("version {version}, and {VERSION} is known")));
    }
    let sum = header.u32()?;
    let payload = header.0;
    if crc32fast::hash(payload) != sum {
        return Err(damaged("the checksum differs"));
    }
    if kind == Kind::Percentile as u8 {
        return Percentiles::read(&mut Payload(payload)).map(Sketch::Percentile);
    }
    if kind != Kind::Distinct as u8 {
        return Err(damaged(format_args!("kind {kind}")));
    }
    check_registers(payload)?;
    let sketch = HllSketch::deserialize(payload).map_err(damaged)?;
    if sketch.lg_config_k() != REGISTERS_LOG2 {
        return Err(damaged(format_args!("2^{} registers", sketch.lg_config_k())));
    }
    Ok(Sketch::Distinct(sketch))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use datasketches::hll::HllType;
    use proptest::prelude::*;

    fn sketches() -> Vec<Vec<u8>> {
        let digest = TDigest::new(CENTROIDS).merge_unsorted_f64((0..1_000).map(f64::from).collect());
        let mut bytes = vec![Percentiles { digest, below: 1, above: 2 }.to_bytes()];
        for values in [3_u64, 100, 20_000] {
            let mut sketch = HllSketch::new(REGISTERS_LOG2, HllType::Hll8).unwrap();
            (0..values).for_each(|value| sketch.update(value));
            bytes.push(distinct_bytes(&sketch));
        }
        bytes
    }

    #[test]
    fn what_was_written_is_read() {
        for bytes in sketches() {
            match (read(&bytes).unwrap(), read(&bytes).unwrap()) {
                (Sketch::Percentile(percentiles), _) => assert_eq!(percentiles.to_bytes(), bytes),
                // Few values come in any order.
                (Sketch::Distinct(sketch), Sketch::Distinct(again)) => {
                    assert_eq!(distinct_bytes(&sketch).len(), bytes.len());
                    assert!(sketch.estimate() > 2.9 && sketch.estimate() == again.estimate());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_change_is_seen(which in 0..4_usize, at in any::<prop::sample::Index>(), change in 1..=255_u8) {
            let mut bytes = sketches().swap_remove(which);
            let at = at.index(bytes.len());
            // The two bytes that are kept for later.
            prop_assume!(![6, 7].contains(&at));
            bytes[at] ^= change;
            prop_assert!(read(&bytes).is_err());
            bytes.truncate(at);
            prop_assert!(read(&bytes).is_err());
        }

        /// Somebody may mean harm, and compute the sum.
        #[test]
        fn forged_bytes_do_not_panic(
            which in 0..4_usize,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let bytes = sketches().swap_remove(which);
            let mut payload = bytes[HEADER_BYTES..].to_vec();
            // The fields at the begin are where it matters.
            for (at, byte) in changes {
                let near = if at.index(2) == 0 { payload.len() } else { payload.len().min(60) };
                payload[at.index(near)] = byte;
            }
            if let Some(cut) = cut {
                payload.truncate(cut.index(payload.len()));
            }
            let kind = if which == 0 { Kind::Percentile } else { Kind::Distinct };
            match read(&sealed(kind, &payload)) {
                Ok(Sketch::Percentile(percentiles)) => {
                    let _ = [0.0, 0.3, 0.5, 0.99, 1.0].map(|q| percentiles.digest.estimate_quantile(q));
                    let merged = TDigest::merge_digests([&percentiles.digest, &percentiles.digest]);
                    let _ = merged.merge_sorted_f64(&[1.0]);
                }
                Ok(Sketch::Distinct(sketch)) => {
                    let mut union = datasketches::hll::HllUnion::new(REGISTERS_LOG2).unwrap();
                    union.update(&sketch);
                    union.update_value(7_u64);
                    let _ = (sketch.estimate(), union.estimate(), union.to_sketch(HllType::Hll8).serialize());
                }
                Err(_) => {}
            }
        }
    }
}
