//! The functions of the scorecard as SQL and the reference know them.

use super::{completeness, feeds, maturity, members};
use crate::query::Entry;
use crate::query::extension::Function;

pub(in crate::feed) const FEEDS: Function = Function {
    entry: Entry {
        name: "feeds",
        signature: "feeds([as_of])",
        summary: "Each feed in force against its contract.",
        details: "A row a feed: last_row and age_s against cadence_s and lateness_s (in_cadence: the age is at most both \
                  together); series; expected, present and present_share: a series is expected once in each slot of one \
                  cadence, back from as_of, and present where it has a row; received, the rows; late, rows that came later \
                  than lateness (known of tables that keep ingest times) and rows in quarantine for it; duplicate, rows of \
                  a series and time beyond the first (none where the last write wins); quarantined; conforming and \
                  conform_share: rows whose values are in the contract's ranges, of those received and quarantined; \
                  keys_checked, keys_resolved and keys_share: values that are keys of their dimension at the time of the \
                  row. Rows are counted whose time is in the window that ends at as_of: the scorecard's, one cadence if \
                  that is longer, and not before the feed's first version. as_of is a constant; without it, now. Of a past \
                  moment, rows that came later are left out where the table keeps ingest times; quarantine counts by \
                  arrival, and for a contract with `rows` what names them as system.quarantine's JSON does: records that an \
                  import could not read do not. A share of nothing is null. Errors: an argument that is no time. Cost: the \
                  window's rows of each feed once, and its newest rows; of a past moment, where the table keeps ingest \
                  times, all of its rows until then.",
        example: "SELECT feed, agency, age_s, in_cadence, present_share FROM feeds() ORDER BY feed",
    },
    plan: feeds::plan,
};

pub(in crate::feed) const SILENT: Function = Function {
    entry: Entry {
        name: "silent_feeds",
        signature: "silent_feeds([as_of])",
        summary: "The feeds that are out of cadence, and for how long.",
        details: "Those rows of feeds(as_of) that are not in_cadence; overdue_s is their age beyond cadence and lateness, \
                  null for a feed without any row. Cost: that of feeds.",
        example: "SELECT feed, agency, owner, overdue_s FROM silent_feeds() ORDER BY overdue_s DESC NULLS FIRST",
    },
    plan: feeds::silent,
};

pub(in crate::feed) const CONTRACTS: Function = Function {
    entry: Entry {
        name: "feed_contracts",
        signature: "feed_contracts()",
        summary: "Every version of every contract.",
        details: "A row a version: feed, version, valid_from, declared, retired, agency, table_name, and the contract as \
                  TOML, which Feed::from_toml reads. In force at a moment is the highest version whose valid_from is not \
                  after it.",
        example: "SELECT feed, version, valid_from, contract FROM feed_contracts() ORDER BY feed, version",
    },
    plan: feeds::contracts,
};

pub(in crate::feed) const MATURITY: Function = Function {
    entry: Entry {
        name: "maturity",
        signature: "maturity([as_of])",
        summary: "The stage of each agency and of the city, every condition's figure, and what blocks the next stage.",
        details: "A row an agency, of those with feeds and those in the dimension agency, and one of the city, whose scope is \
                  'city' and whose agency is null. Stages: 0 ad hoc; 1 initiative: a feed arrives by itself, and a tenth of \
                  them; 2 scattered: half arrive by themselves and within cadence; 3 integrative: 80% do, 95% of rows \
                  conform, 90% of keys resolve; 4 smart: that, alert rules on 80% of feeds, 80% of alerts acknowledged in \
                  time, a feed with a baseline. An agency is at the highest stage all of whose conditions hold, with those \
                  below. The city is at the highest stage that 80% of agencies reach; its figures are of all feeds \
                  together. blockers names what holds back next_stage, with figures and feeds. The thresholds are options \
                  (Scorecard); they are this crate's and nobody's official ones. A figure of nothing is null and does not \
                  hold, but where no alert fired none was missed. A firing counts once it is acknowledged or its time to \
                  be is over. Cost: that of feeds.",
        example: "SELECT scope, agency, stage, next_stage, blockers FROM maturity() ORDER BY scope DESC, agency",
    },
    plan: maturity::plan,
};

pub(in crate::feed) const BLOCKERS: Function = Function {
    entry: Entry {
        name: "blockers",
        signature: "blockers([as_of])",
        summary: "Every condition that does not hold, by agency and stage.",
        details: "A row a condition: agency, stage, condition, its figure, what is needed, the feeds that hold it back, and \
                  is_next, whether the stage is the agency's next. No row of an agency and stage: nothing blocks it there. \
                  Cost: that of feeds.",
        example: "SELECT agency, condition, figure, needed, feeds FROM blockers() WHERE is_next ORDER BY agency, condition",
    },
    plan: maturity::blockers,
};

pub(in crate::feed) const DIMENSION: Function = Function {
    entry: Entry {
        name: "dimension",
        signature: "dimension('name' [, as_of])",
        summary: "The members of a dimension at a moment.",
        details: "A row a member: key, valid_from, valid_to (null while no later version is known), and its attributes. \
                  as_of is a constant; without it, now. To join each row with the member of its own time, use ASOF JOIN on \
                  the table itself. Errors: a table that is no dimension.",
        example: "SELECT key, name FROM dimension('agency') ORDER BY key",
    },
    plan: members::plan,
};

pub(in crate::feed) const HISTORY: Function = Function {
    entry: Entry {
        name: "dimension_history",
        signature: "dimension_history('name')",
        summary: "Every version of every member of a dimension.",
        details: "A row a version: key, valid_from, valid_to (null for the last), removed, and its attributes.",
        example: "SELECT key, valid_from, valid_to, name FROM dimension_history('agency') ORDER BY key, valid_from",
    },
    plan: members::history,
};

pub(in crate::feed) const COMPLETENESS: Function = Function {
    entry: Entry {
        name: "completeness",
        signature: "completeness('SELECT ..' [, as_of])",
        summary: "How complete the answer to a statement is: the feeds it reads, their last rows, the share that is there.",
        details: "A row a feed of each table that the statement reads, subqueries and views included: feed, agency, \
                  table_name, from_time and until_time, last_row and age_s at the range's end, expected, present and \
                  present_share as in feeds. The range is what the statement's predicates on time leave, until as_of at \
                  most; without a lower bound, the scorecard's window. A table without a feed has a row of nulls: nobody \
                  said what to expect of it; dimensions have none. The statement is planned and not run. Errors: a statement that cannot be \
                  planned, or does more than read. Cost: the range's rows of these feeds once.",
        example: "SELECT feed, age_s, present_share FROM completeness('SELECT max(level_cm) FROM water \
                  WHERE time >= now() - INTERVAL ''1 hour''')",
    },
    plan: completeness::plan,
};
