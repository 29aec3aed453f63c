//! Which ways to answer faster are on.

/// Ways to answer a query from less than all rows in its range. Each can be switched off; the answer is the same, save for
/// the order of rows that the query leaves open and the last digits of sums of floats; and for what rollups know of rows
/// that retention has dropped.
///
/// Of a store: [`Options::accelerations`](crate::Options::accelerations). Of a session that
/// [`Store::session`](crate::Store::session) gave: `SET denyut.accelerate_last = false`, and the like. `SHOW ALL` lists
/// them.
///
/// ```
/// use denyut::{Accelerations, Store};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("kota");
/// let store = Store::options().accelerations(Accelerations::all().last(false)).open(path)?;
/// # #[cfg(feature = "sql")]
/// # {
/// let rows = store.query("SHOW denyut.accelerate_last")?;
/// assert_eq!(rows.str(0, "value")?, Some("false"));
/// # }
/// # Ok::<(), denyut::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accelerations(u32);

macro_rules! accelerations {
    ($($name:ident $uses:ident $bit:literal $about:literal;)*) => {
        impl Accelerations {
            /// The setting's name, its bit, and what it is about.
            #[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "only SQL has settings"))]
            pub(crate) const EACH: &[(&str, u32, &str)] =
                &[$((concat!("accelerate_", stringify!($name)), 1 << $bit, $about)),*];

            $(
                #[doc = $about]
                #[must_use]
                pub fn $name(mut self, on: bool) -> Self {
                    self.set(1 << $bit, on);
                    self
                }

                #[allow(dead_code, reason = "only SQL asks")]
                pub(crate) fn $uses(self) -> bool {
                    self.has(1 << $bit)
                }
            )*
        }
    };
}

accelerations! {
    last uses_last 0 "Queries for the latest row of each series read those rows alone.";
    summaries uses_summaries 1 "Aggregates by time buckets are taken from summaries where there are any.";
    backward uses_backward 2 "`GROUP BY bucket ORDER BY bucket DESC LIMIT n` reads from where the newest n buckets begin.";
    rollups uses_rollups 3 "Aggregates by time buckets are taken from rollups, also of rows that retention dropped.";
}

impl Accelerations {
    /// All on, which is the default.
    pub const fn all() -> Self {
        Self(u32::MAX)
    }

    /// All off.
    pub const fn none() -> Self {
        Self(0)
    }

    pub(crate) fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }

    pub(crate) fn set(&mut self, bit: u32, on: bool) {
        if on {
            self.0 |= bit;
        } else {
            self.0 &= !bit;
        }
    }
}

impl Default for Accelerations {
    fn default() -> Self {
        Self::all()
    }
}
