//! Budgets, complaints, services and readings, each against figures worked out by hand.

use super::*;
use crate::feed::{budget_ceilings, budget_plan, budget_realisations, complaint_events, dimension, service_visits};

/// A store of a city seven hours ahead of UTC, whose offices are open from eight to four.
fn pontianak() -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = super::options().zone("Asia/Pontianak").open(dir.path().join("kota")).unwrap();
    let independence_day = [("key", Value::from("2026-08-17")), ("name", "Hari Kemerdekaan".into())];
    let rows = [Row::new(&independence_day)];
    store.load_dimension(&dimension::holiday(), at("2026-01-01T00:00:00Z"), &rows).unwrap();
    (store, dir)
}

/// Appends an event at a time of the city's clock.
fn event(store: &Store, (ticket, kind): (&str, &str), time: &str, event: &str, agency: &str) {
    let mut writer = store.table(complaint_events()).unwrap().writer().unwrap();
    let row = [
        ("agency", agency.into()),
        ("kind", kind.into()),
        ("event", event.into()),
        ("ticket", ticket.into()),
        ("reporter", "Siti Rahma, Jl. Gajah Mada 1".into()),
    ];
    writer.append_at(at(&format!("{time}:00+07:00")), Row::new(&row)).unwrap();
}

#[test]
fn filed_on_friday_at_four_with_five_working_days_over_a_monday_holiday() {
    let (store, _dir) = pontianak();
    event(&store, ("A-1", "complaint"), "2026-08-14T16:00", "received", "DESK");
    event(&store, ("A-2", "without_field_check"), "2026-08-14T16:00", "received", "DESK");
    event(&store, ("A-3", "with_field_check"), "2026-08-14T16:00", "received", "DESK");
    event(&store, ("A-4", "gossip"), "2026-08-14T16:00", "received", "DESK");
    let due = |when: &str| {
        let text = "SELECT ticket, CAST(first_answer_due AS VARCHAR), CAST(close_due AS VARCHAR), is_first_answer_late, \
                    is_overdue, overdue_agency FROM complaints";
        rows(&store, &format!("{text}('{when}') ORDER BY ticket"))
    };
    // Monday is off. Tuesday 18 is the first working day, Thursday 20 the third, Friday 21 the fourth, Monday 24 the fifth;
    // the fourteenth is Friday 4 September, and the sixtieth Monday 9 November.
    let expected = [
        "A-1|2026-08-20T16:00:00+07:00|2026-08-24T16:00:00+07:00|false|false|",
        "A-2|2026-08-20T16:00:00+07:00|2026-09-04T16:00:00+07:00|false|false|",
        "A-3|2026-08-20T16:00:00+07:00|2026-11-09T16:00:00+07:00|false|false|",
        "A-4|2026-08-20T16:00:00+07:00||false||",
    ];
    assert_eq!(due("2026-08-20T16:00:00+07:00"), expected);
    assert!(due("2026-08-20T16:00:01+07:00")[0].ends_with("|true|false|"));
    assert!(due("2026-08-24T16:00:00+07:00")[0].ends_with("|true|false|"));
    assert!(due("2026-08-24T16:00:01+07:00")[0].ends_with("|true|true|DESK"));
    // Another city's deadlines, as data.
    let members = [("key", Value::from("gossip")), ("first_answer_days", 1_i64.into()), ("close_days", 2_i64.into())];
    let known = at("2026-08-01T00:00:00Z");
    store.load_dimension(&dimension::complaint_deadline(), known, &[Row::new(&members)]).unwrap();
    assert_eq!(due("2026-08-15T00:00:00Z")[3], "A-4|2026-08-18T16:00:00+07:00|2026-08-19T16:00:00+07:00|false|false|");
}

/// The life of a ticket that was reassigned, paused, closed, reopened, and reassigned again.
fn reopened(store: &Store) {
    for (time, what, agency) in [
        ("2026-09-07T09:00", "received", "DESK"), // a Monday
        ("2026-09-07T09:30", "verified", "DESK"),
        ("2026-09-07T10:00", "passed_on", "PUPR"),
        ("2026-09-08T11:00", "answered", "PUPR"),
        ("2026-09-09T10:00", "paused", "PUPR"),
        ("2026-09-11T10:00", "resumed", "PUPR"),
        ("2026-09-11T14:00", "passed_on", "DLH"),
        ("2026-09-14T12:00", "closed", "DLH"),
        ("2026-09-16T09:00", "reopened", "DLH"),
        ("2026-09-17T09:00", "passed_on", "PUPR"),
    ] {
        event(store, ("B-1", "complaint"), time, what, agency);
    }
    // Sent twice, as it happens: it is one event.
    event(store, ("B-1", "complaint"), "2026-09-17T09:00", "passed_on", "PUPR");
}

#[test]
fn a_reopened_and_reassigned_ticket_charges_each_agency_its_own_time() {
    let (store, _dir) = pontianak();
    reopened(&store);
    let ticket = |when: &str| {
        let text = "SELECT agency, status, rounds, paused_days, CAST(close_due AS VARCHAR), \
                    CAST(closed_at AT TIME ZONE 'Asia/Pontianak' AS VARCHAR), is_overdue, overdue_agency FROM complaints";
        rows(&store, &format!("{text}('{when}:00+07:00')"))
    };
    // The first round: five days and the two of the pause (Thursday, Friday) after Monday 7 are Wednesday 16.
    assert_eq!(ticket("2026-09-14T11:00"), ["DLH|passed_on|1|2|2026-09-16T09:00:00+07:00||false|"]);
    // In the middle of the pause, one of its days is over.
    assert_eq!(ticket("2026-09-10T12:00"), ["PUPR|paused|1|1|2026-09-15T09:00:00+07:00||false|"]);
    assert_eq!(
        ticket("2026-09-15T11:00"),
        ["DLH|closed|1|2|2026-09-16T09:00:00+07:00|2026-09-14T12:00:00+07:00|false|"]
    );
    // The second: five days after Wednesday 16 are Wednesday 23.
    assert_eq!(ticket("2026-09-18T10:00"), ["PUPR|passed_on|2|0|2026-09-23T09:00:00+07:00||false|"]);

    let charged = |when: &str| {
        let text = "SELECT agency, working_s / 3600 FROM complaint_time";
        rows(&store, &format!("{text}('{when}:00+07:00') ORDER BY agency"))
    };
    // DESK Monday 9 to 10. PUPR Monday 10 to 16, Tuesday 8 to 16, Wednesday 8 to 10, Friday 10 to 14: 6 + 8 + 2 + 4; then
    // Thursday 17 from 9 and Friday 18 to 10: 7 + 2. DLH Friday 14 to 16, Monday 8 to 12, Wednesday 16 from 9, Thursday 8 to 9:
    // 2 + 4 + 7 + 1. Nobody has the two days between closed and reopened, nor those of the pause.
    assert_eq!(charged("2026-09-18T10:00"), ["DESK|1.0", "DLH|14.0", "PUPR|29.0"]);
    assert_eq!(charged("2026-09-15T10:00"), ["DESK|1.0", "DLH|6.0", "PUPR|20.0"]);

    // It falls due in PUPR's charge; that DLH has it a day later does not make it DLH's.
    event(&store, ("B-1", "complaint"), "2026-09-24T09:00", "passed_on", "DLH");
    assert_eq!(ticket("2026-09-25T10:00"), ["DLH|passed_on|2|0|2026-09-23T09:00:00+07:00||true|PUPR"]);
}

#[test]
fn the_league_ranks_by_what_fell_due_and_nobody_sees_who_reported() {
    let (store, _dir) = pontianak();
    reopened(&store);
    for (ticket, agency) in [("C-1", "PUPR"), ("C-2", "DLH"), ("C-3", "DLH"), ("C-4", "DISHUB")] {
        event(&store, (ticket, "information"), "2026-09-14T09:00", "received", agency);
    }
    event(&store, ("C-2", "information"), "2026-09-22T09:00", "closed", "DLH");
    event(&store, ("C-3", "information"), "2026-09-18T09:00", "closed", "DLH");
    // C-1 and C-2 fell due on Monday 21, B-1 in PUPR's charge on Wednesday 23. On Thursday C-1 is three working days late.
    assert_eq!(
        rows(&store, "SELECT * FROM complaint_league('2026-09-24T10:00:00+07:00') ORDER BY rank"),
        ["1|PUPR|2|2|2|2|1.0|3", "2|DISHUB|1|1|1|1|1.0|3", "3|DLH|2|0|1|0|0.5|1"]
    );
    for text in ["complaints()", "complaint_time()", "complaint_league()"] {
        let answer = store.query(&format!("SELECT * FROM {text}")).unwrap();
        assert!(answer.schema().fields().iter().all(|field| !field.name().contains("reporter")), "{text}");
        assert!(!answer.to_string().contains("Siti"), "{text}");
        assert!(store.query(&format!("SELECT reporter FROM {text}")).is_err(), "{text}");
    }
    let (empty, _dir) = pontianak();
    for text in ["complaints()", "complaint_time()", "complaint_league()"] {
        assert_eq!(rows(&empty, &format!("SELECT * FROM {text}")), [""; 0]);
    }
}

/// A budget in rupiah, revised in July.
fn budget(store: &Store) {
    let amount = |text: &str| text.replace('.', "").parse::<i128>().unwrap();
    let mut ceilings = store.table(budget_ceilings()).unwrap().writer().unwrap();
    for (time, ceiling, revision) in [
        ("2025-01-01T00:00:00+07:00", "8000000000.00", 0_i64),
        ("2026-01-01T00:00:00+07:00", "10000000000.00", 0),
        ("2026-07-15T00:00:00+07:00", "12500000000.10", 1),
    ] {
        let row = [
            ("agency", "PUPR".into()),
            ("program", "roads".into()),
            ("ceiling", Value::Decimal(amount(ceiling))),
            ("revision", revision.into()),
        ];
        ceilings.append_at(at(time), Row::new(&row)).unwrap();
    }
    let mut plan = store.table(budget_plan()).unwrap().writer().unwrap();
    for (time, planned) in
        [("2026-06-30T23:59:59+07:00", "4000000000.00"), ("2026-09-30T23:59:59+07:00", "7000000000.00")]
    {
        let row =
            [("agency", "PUPR".into()), ("program", "roads".into()), ("planned", Value::Decimal(amount(planned)))];
        plan.append_at(at(time), Row::new(&row)).unwrap();
    }
    let mut spent = store.table(budget_realisations()).unwrap().writer().unwrap();
    for (time, paid) in [
        ("2025-04-01T09:00:00+07:00", "2000000000.00"),
        ("2025-11-01T09:00:00+07:00", "4000000000.00"),
        // In UTC the year before.
        ("2026-01-01T06:00:00+07:00", "0.01"),
        ("2026-02-10T09:00:00+07:00", "1000000000.10"),
        ("2026-05-20T09:00:00+07:00", "2500000000.20"),
        ("2026-08-03T09:00:00+07:00", "3000000000.33"),
    ] {
        let row = [("agency", "PUPR".into()), ("program", "roads".into()), ("amount", Value::Decimal(amount(paid)))];
        spent.append_at(at(time), Row::new(&row)).unwrap();
    }
}

#[test]
fn a_budget_revised_in_the_middle_of_the_year_is_told_before_and_after() {
    let (store, _dir) = pontianak();
    budget(&store);
    let told = |arguments: &str| {
        let columns = "ceiling, revision, realised, round(absorption, 4), planned, against_plan, last_year_realised, \
                       last_year_absorption";
        rows(&store, &format!("SELECT {columns} FROM budget_absorption({arguments})"))
    };
    // Half a year: 0.01 + 1,000,000,000.10 + 2,500,000,000.20, of the original ceiling; 2,000 of 8,000 million last year.
    let june = "10000000000.00|0|3500000000.31|0.35|4000000000.00|-499999999.69|2000000000.00|0.25";
    assert_eq!(told("'2026-06-30T23:59:59+07:00'"), [june]);
    // September, and 3,000,000,000.33 more, of the revised ceiling: 6,500,000,000.64 of 12,500,000,000.10.
    let september = "12500000000.10|1|6500000000.64|0.52|7000000000.00|-499999999.36|2000000000.00|0.25";
    assert_eq!(told("'2026-09-30T23:59:59+07:00'"), [september]);
    // The same day of the ceiling before the revision; and June is what it was.
    let unrevised = "10000000000.00|0|6500000000.64|0.65|7000000000.00|-499999999.36|2000000000.00|0.25";
    assert_eq!(told("'2026-09-30T23:59:59+07:00', '2026-07-14T23:59:59+07:00'"), [unrevised]);
    assert_eq!(told("'2026-06-30T23:59:59+07:00'"), [june]);
    // A new year begins with nothing, and the whole of the last one until then.
    assert_eq!(told("'2027-01-01T07:00:00+07:00'"), ["||0.00||||0.01|1e-12"]);
    let answer = store.query("SELECT * FROM budget_absorption()").unwrap();
    assert!(answer.schema().field_with_name("realised").unwrap().data_type().to_string().starts_with("Decimal128"));
    let (empty, _dir) = pontianak();
    assert_eq!(rows(&empty, "SELECT * FROM budget_absorption()"), [""; 0]);
}

#[test]
fn waiting_throughput_and_completion_are_by_counter_and_service() {
    let (store, _dir) = pontianak();
    let mut visits = store.table(service_visits()).unwrap().writer().unwrap();
    // Twenty visits that waited 1 to 20 minutes, ten an hour and a counter; every fifth was given up.
    for number in 0..20_i64 {
        let row = [
            ("agency", "DISDUKCAPIL".into()),
            ("service", "ktp".into()),
            ("counter", if number < 10 { "1" } else { "2" }.into()),
            ("waiting_s", ((number + 1) as f64 * 60.0).into()),
            ("serving_s", 300.0.into()),
            ("outcome", if number % 5 == 4 { "abandoned" } else { "completed" }.into()),
        ];
        let ended = minutes(at("2026-03-02T08:00:00+07:00"), number * 6);
        visits.append_at(ended, Row::new(&row)).unwrap();
    }
    let text = "SELECT service, counter, visits, completed, completion_share, waiting_p50_s, round(waiting_p95_s, 3), serving_p50_s, \
                per_hour FROM service_performance('2026-03-02T07:00:00+07:00', '2026-03-02T16:00:00+07:00') \
                ORDER BY counter NULLS LAST";
    // Ranks from 0: the middle of 0 to 9 is 4.5, and 0.95 of it 8.55; of 0 to 19 they are 9.5 and 18.05.
    assert_eq!(
        rows(&store, text),
        [
            "ktp|1|10|8|0.8|330.0|573.0|300.0|8.0",
            "ktp|2|10|8|0.8|930.0|1173.0|300.0|8.0",
            "ktp||20|16|0.8|630.0|1143.0|300.0|8.0",
        ]
    );
    let (empty, _dir) = pontianak();
    assert_eq!(rows(&empty, "SELECT * FROM service_performance(now() - INTERVAL '1 day', now())"), [""; 0]);
}

#[test]
fn readings_are_told_against_normal_with_thresholds_that_differ_by_gate() {
    let (store, _dir) = pontianak();
    let mut water = store.table(Schema::new("water").tag("gate").f64("level_cm", "cm")).unwrap().writer().unwrap();
    for gate in ["Sei Wie", "Kuala", "Parit"] {
        // Mondays between nine and ten.
        for (day, level) in [("02", 100.0), ("09", 102.0), ("16", 98.0), ("23", 100.0), ("30", 160.0)] {
            let time = at(&format!("2026-03-{day}T09:30:00+07:00"));
            water.append_at(time, row! { gate: gate, level_cm: level }).unwrap();
        }
    }
    let text = "SELECT gate, value, age_s, normal, deviation, round(z, 2), watch, alert, danger, status FROM \
                now_against_normal('water', 'level_cm', '2026-03-30T09:40:00+07:00') ORDER BY gate";
    // The median of four Mondays is 100, the median of 0, 2, 2 and 0 is 1: 60 / 1.4826 = 40.47.
    let usual = "160.0|600.0|100.0|60.0|40.47";
    let unknown = ["Kuala", "Parit", "Sei Wie"].map(|gate| format!("{gate}|{usual}||||unknown"));
    assert_eq!(rows(&store, text), unknown);
    let member = |key: &'static str, bounds: [Option<f64>; 3], below: bool| {
        [
            ("key", Value::from(key)),
            ("watch", bounds[0].into()),
            ("alert", bounds[1].into()),
            ("danger", bounds[2].into()),
            ("below", below.into()),
        ]
    };
    let members = [
        member("water.level_cm", [Some(170.0), Some(190.0), Some(220.0)], false),
        member("water.level_cm/Sei Wie", [Some(120.0), Some(150.0), None], false),
        member("water.level_cm/Parit", [Some(200.0), Some(180.0), Some(160.0)], true),
    ];
    let members = [0, 1, 2].map(|n| Row::new(&members[n]));
    store.load_dimension(&dimension::threshold(), at("2026-01-01T00:00:00Z"), &members).unwrap();
    assert_eq!(
        rows(&store, text),
        [
            format!("Kuala|{usual}|170.0|190.0|220.0|normal"),
            format!("Parit|{usual}|200.0|180.0|160.0|danger"),
            format!("Sei Wie|{usual}|120.0|150.0|220.0|alert"),
        ]
    );
    let error = store.query("SELECT * FROM now_against_normal('water', 'gate')").unwrap_err().to_string();
    assert!(error.contains("no tag or field \"gate\"; it has gate, level_cm"), "{error}");
}

#[test]
fn the_page_names_every_function_and_their_examples_run() {
    let (store, _dir) = pontianak();
    store.table(Schema::new("water").tag("gate").f64("level_cm", "cm")).unwrap();
    store.load_dimension(&dimension::agency(), at("2026-01-01T00:00:00Z"), &[row! { key: "PUPR" }]).unwrap();
    let page = include_str!("../../docs/feeds.md");
    for entry in crate::feed::reference() {
        assert!(page.contains(entry.signature), "{} is not on the page", entry.signature);
        let _ = store.query(entry.example).unwrap_or_else(|error| panic!("{}: {error}", entry.name));
    }
}
