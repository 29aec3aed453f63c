//! Small workloads of which every image is looked at: at each operation all subsets of unsynced sectors, lengths and names.
//! Where an operation has more than `DENYUT_SUBSETS` of them, so many are taken by chance, and the test says where.

use std::sync::{Arc, Mutex};

use super::images::{Examined, examine};
use super::ledger::After;
use super::*;
use crate::fs::sim::Take;

/// Workloads of a few rows that together take every step.
pub(super) const SCRIPTS: [(&str, &[Step]); 8] = [
    (
        "syncs",
        &[Step::Rows(0, 2), Step::Sync, Step::Rows(0, 1), Step::Batch(1, 3), Step::Sync, Step::Rows(1, 1), Step::Sync],
    ),
    ("a seal", &[Step::Batch(0, 3), Step::Seal, Step::Rows(0, 1), Step::Rows(1, 1), Step::Seal]),
    (
        "a merge",
        &[
            Step::Rows(0, 1),
            Step::Seal,
            Step::Overwrite(0, 4),
            Step::Seal,
            Step::Overwrite(1, 5),
            Step::Rows(0, 1),
            Step::Seal,
            Step::Rows(1, 1),
            Step::Maintain,
        ],
    ),
    ("retention", &[Step::Timed(5), Step::Seal, Step::Later(52 * HOUR_NS), Step::Timed(2), Step::Maintain, Step::Seal]),
    (
        "a field",
        &[Step::Rows(0, 1), Step::Field(0), Step::Batch(1, 2), Step::EndWriter(0), Step::Rows(0, 1), Step::Sync],
    ),
    (
        "lives",
        &[Step::Rows(0, 2), Step::Reopen, Step::Rows(0, 1), Step::SyncWriter(0), Step::Batch(0, 2), Step::Reopen],
    ),
    ("a copy", &[Step::Rows(0, 2), Step::Seal, Step::Batch(1, 2), Step::Backup, Step::Rows(0, 1), Step::Sync]),
    ("full blocks", &[Step::Rows(0, 900), Step::Sync, Step::Rows(0, 700), Step::Seal, Step::Rows(1, 1), Step::Sync]),
];

fn run(name: &'static str, steps: &[Step], subsets: u64) -> (Examined, u64) {
    let count = Arc::new(Mutex::new(Examined::default()));
    let mut chance = Chance(subsets);
    let fs = SimFs::new(1);
    let look: Look = {
        let count = count.clone();
        Box::new(move |fs, ledger, now_ns| {
            for (operation, killed, image) in fs.develop() {
                let after = if killed { After::Process } else { After::Machine };
                let mut count = count.lock().unwrap();
                let place = format!("{name}, operation {operation}, image {}, killed {killed}", count.images);
                examine(&image, ledger, (after, now_ns), &mut chance, &place, &mut count);
            }
        })
    };
    fs.film(1, Take::All(subsets));
    let mut world = World::new(fs.clone(), Durability::Process, look);
    for step in steps {
        world.take(*step).unwrap_or_else(|error| panic!("{name}, {step:?}: {error}"));
    }
    fs.shoot();
    world.seen(Ok(())).unwrap();
    let sampled = fs.sampled();
    drop(world);
    (Arc::into_inner(count).unwrap().into_inner().unwrap(), sampled)
}

#[test]
fn every_image_of_small_workloads_keeps_what_was_promised() {
    let subsets = setting("DENYUT_SUBSETS").unwrap_or(2);
    let mut images = 0;
    for (name, steps) in SCRIPTS {
        let (count, sampled) = run(name, steps, subsets);
        println!("{name}: {} images; {sampled} operations have more than {subsets}", count.images);
        images += count.images;
    }
    println!("{images} images in all");
}
