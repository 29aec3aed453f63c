//! The functions of complaints as SQL and the reference know them.

use super::{league, tickets, time_charged};
use crate::query::Entry;
use crate::query::extension::Function;

pub(in crate::feed) const COMPLAINTS: Function = Function {
    entry: Entry {
        name: "complaints",
        signature: "complaints([as_of])",
        summary: "Each ticket: where it is, its deadlines in working days, and whether they are kept. Without the reporter.",
        details: "A row a ticket with events in complaint_events until as_of: kind and agency as of its last event; status, \
                  which is that event; rounds, how often it was opened. first_answer_due is three working days after it was \
                  received, close_due so many after it was last opened as its kind has: information and complaint 5, \
                  without_field_check 14, with_field_check 60, or those of the dimension complaint_deadline; both are later \
                  by the working days of pauses (days after that of paused, until that of resumed, which counts), and have \
                  the time of day of their begin. Null for a kind that nobody gave days. is_first_answer_late and \
                  is_overdue: the answer, or the end of the last round, or as_of if there is none yet, is after it. \
                  overdue_agency is who was in charge when it fell due. An event that is there twice counts once. Working \
                  days are of the store's zone and days off. Cost: all events until as_of, sorted by ticket.",
        example: "SELECT ticket, agency, close_due FROM complaints() WHERE is_overdue AND closed_at IS NULL ORDER BY close_due",
    },
    plan: tickets,
};

pub(in crate::feed) const TIME_CHARGED: Function = Function {
    entry: Entry {
        name: "complaint_time",
        signature: "complaint_time([as_of])",
        summary: "How long each agency has had each ticket, in seconds of office hours.",
        details: "A row a ticket and agency that was in charge of it while its clock ran: neither paused nor closed. working_s \
                  counts office hours (Options::office_hours) on working days, from each event to the next, or to as_of. \
                  Cost: as complaints.",
        example: "SELECT agency, avg(working_s) / 3600 AS hours FROM complaint_time() GROUP BY agency ORDER BY hours DESC",
    },
    plan: time_charged,
};

pub(in crate::feed) const LEAGUE: Function = Function {
    entry: Entry {
        name: "complaint_league",
        signature: "complaint_league([as_of])",
        summary: "Agencies by how many tickets fell due in their charge and were not closed.",
        details: "A row an agency: rank; tickets, those that fell due in its charge and those in its charge that have not; open; \
                  overdue, by overdue_agency, also those closed since; overdue_open; overdue_share; and overdue_days_max, \
                  working days past due of the worst. Ranked by overdue, then by share. Cost: as complaints.",
        example: "SELECT rank, agency, overdue, overdue_share FROM complaint_league() ORDER BY rank, agency",
    },
    plan: league,
};
