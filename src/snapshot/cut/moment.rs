//! The steps of a cut, over any blocks: see the module above.
//!
//! Written over traits, so that the models run this very code.

use crate::sync::Fences;

/// A block, as a cut sees it.
pub(crate) trait Counted {
    /// Rows that are there for everybody, loaded with acquire.
    fn rows(&self) -> usize;
    /// Has its writer's next append take the slow way.
    fn call_aside(&self);
    /// Lets its writer go on.
    fn let_go_on(&self);
}

/// Where the current view is.
pub(crate) trait Current {
    /// One view.
    type View;
    /// A block of it.
    type Block: Counted + 'static;

    /// The view as it is now.
    fn load(&self) -> Self::View;
    /// All blocks of a view.
    fn blocks(view: &Self::View) -> impl Iterator<Item = &Self::Block>;
    /// Whether the two are one and the same.
    fn same(one: &Self::View, other: &Self::View) -> bool;
}

/// Where writers that are called aside wait. A block joins the view while this is held.
pub(crate) trait Holding {
    /// The lock, held.
    type Held<'a>
    where
        Self: 'a;

    /// Waits for whoever holds it.
    fn hold(&self) -> Self::Held<'_>;
    /// Whether appends may go on.
    fn is_open(held: &Self::Held<'_>) -> bool;
}

/// Looks twice: what both looks agree on was so at the moment between them. Loads in a look must be acquire, so that the
/// second begins after the first.
pub(crate) fn agree<T: PartialEq>(mut look: impl FnMut() -> T) -> Option<T> {
    let first = look();
    (first == look()).then_some(first)
}

fn count<C: Current>(view: &C::View) -> Vec<usize> {
    C::blocks(view).map(Counted::rows).collect()
}

/// The published rows of each block of `view`, if they are those of one moment: one count always is.
pub(crate) fn look<C: Current>(view: &C::View) -> Option<Vec<usize>> {
    if C::blocks(view).nth(1).is_none() {
        return Some(count::<C>(view));
    }
    agree(|| count::<C>(view))
}

/// A view, and the published rows of each of its blocks at one moment.
pub(crate) fn take<C: Current, G: Holding, F: Fences>(cell: &C, gate: &G) -> (C::View, Vec<usize>) {
    let view = cell.load();
    if let Some(rows) = look::<C>(&view)
        && C::same(&view, &cell.load())
    {
        return (view, rows);
    }
    let held = gate.hold();
    // A block joins the view under the gate's lock, so this one has all that anybody may append to.
    let view = cell.load();
    C::blocks(&view).for_each(Counted::call_aside);
    F::everywhere();
    let rows = count::<C>(&view);
    if G::is_open(&held) {
        C::blocks(&view).for_each(Counted::let_go_on);
    }
    (view, rows)
}
