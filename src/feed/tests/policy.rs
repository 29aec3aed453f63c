//! Sessions under a policy: what these functions read is not theirs to see.

use super::*;
use crate::feed::{complaint_events, reference};
use crate::query::{Access, Policy};

#[test]
fn no_function_answers_a_session_under_a_policy() {
    let (store, _dir) = city(HOUR);
    store.table(complaint_events()).unwrap();
    store.table(Schema::new("water").tag("gate").f64("level_cm", "cm")).unwrap();
    let policy = Policy::new("public").table("water", Access::all());
    let session = store.session_for(&policy).unwrap();
    assert_eq!(session.query("SELECT * FROM water").unwrap().num_rows(), 0);
    for entry in reference() {
        let error = session.query(entry.example).unwrap_err().to_string();
        assert!(error.contains(&format!("table function '{}' not found", entry.name)), "{}: {error}", entry.name);
    }
}
