//! What is refused by its text alone, before anything that recurses sees it.
//!
//! Parsing and planning recurse, take time that grows faster than the text, and nothing interrupts them. So the tokens
//! are counted here, in one pass without recursion:
//!
//! - depth: brackets, `CASE`, and prefixes such as `EXPLAIN`, that nest;
//! - chain: operators, which make trees as deep as the chain is long; a joined table or a subquery counts as ten, since
//!   planning those takes time that grows with more than the square of their number;
//! - tokens, where naming a common table expression counts as its body, since the planner copies it there: thirty
//!   lines that each join the one before with itself would be a plan of a billion nodes. A body inside of a body counts
//!   twice, since the planner visits it twice; what is in a `CUBE`, once for each of its grouping sets.
//!
//! Counting errs on the side of more.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Word};
use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::options::Options;

/// Checks `text` against the limits on SQL text and returns the words it begins with, for errors that name the statement.
pub(super) fn check(text: &str, options: &Options) -> Result<String> {
    let count = |what, limit, max: usize, found: usize| {
        if found > max { Err(Error::TooComplex { what, limit, max: max as u64, found: found as u64 }) } else { Ok(()) }
    };
    count("SQL text in bytes,", "query_text_bytes_max", options.query_text_bytes_max, text.len())?;
    let mut tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize()
        .map_err(|error| Error::Query { message: error.to_string() })?;
    tokens.retain(|token| !matches!(token, Token::Whitespace(_)));
    count("number of tokens", "query_tokens_max", options.query_tokens_max, tokens.len())?;
    let mut counter = Counter::default();
    for (index, token) in tokens.iter().enumerate() {
        counter.take(token, index.checked_sub(1).and_then(|before| tokens.get(before)), tokens.get(index + 1));
        count("depth of nesting", "query_depth_max", options.query_depth_max, counter.depth())?;
        count("number of operators", "query_chain_max", options.query_chain_max, counter.chain)?;
        count(
            "number of tokens, expressions after WITH copied in,",
            "query_tokens_max",
            options.query_tokens_max,
            counter.weight,
        )?;
    }
    Ok(opening(&tokens))
}

/// Operators that a join or a subquery counts as.
const JOIN_WEIGHT: usize = 10;

/// One open bracket, or the statement itself.
#[derive(Default)]
struct Frame {
    /// Between `FROM` and the clause after it, where a comma joins.
    in_from: bool,
    cases: usize,
    /// The name of the common table expression whose body this is, and what had been counted when it opened.
    body: Option<(String, usize)>,
    /// What had been counted when it opened, and its items, if it is of a `CUBE`.
    cube: Option<(usize, u32)>,
    /// The word before the bracket: the name, if this is a list of columns.
    before: Option<String>,
}

#[derive(Default)]
struct Counter {
    frames: Vec<Frame>,
    bottom: Frame,
    cases: usize,
    prefixes: usize,
    chain: usize,
    weight: usize,
    /// What a mention of each common table expression counts.
    bodies: HashMap<String, usize>,
    /// The word that `AS (` would name, and the one before the bracket closed last.
    name: Option<String>,
    closed: Option<String>,
}

impl Counter {
    fn depth(&self) -> usize {
        self.frames.len() + self.cases + self.prefixes
    }

    fn top(&mut self) -> &mut Frame {
        self.frames.last_mut().unwrap_or(&mut self.bottom)
    }

    fn take(&mut self, token: &Token, before: Option<&Token>, after: Option<&Token>) {
        self.weight = self.weight.saturating_add(1);
        match token {
            Token::Word(word) => self.take_word(word, before, after),
            Token::LParen | Token::LBracket | Token::LBrace => {
                let names_body = before.is_some_and(|token| is_keyword(token, &[Keyword::AS, Keyword::MATERIALIZED]));
                let body = if names_body { self.name.take().map(|name| (name, self.weight)) } else { None };
                let word =
                    before.and_then(|token| if let Token::Word(word) = token { Some(folded(word)) } else { None });
                // A subscript is a chain as much as a bracket: `a[1][1][1]` nests in the tree, not in the text.
                self.chain += usize::from(*token == Token::LBracket);
                if after.is_some_and(|token| is_keyword(token, &[Keyword::SELECT, Keyword::WITH])) {
                    self.chain += JOIN_WEIGHT;
                }
                let cube = before.is_some_and(|token| is_keyword(token, &[Keyword::CUBE])).then_some((self.weight, 1));
                self.frames.push(Frame { body, cube, before: word, ..Frame::default() });
            }
            Token::RParen | Token::RBracket | Token::RBrace => self.close(),
            Token::Comma if self.top().in_from => self.chain += JOIN_WEIGHT,
            Token::Comma => self.top().cube.iter_mut().for_each(|(_, items)| *items += 1),
            Token::SemiColon => self.top().in_from = false,
            Token::Number(..) | Token::Period | Token::Placeholder(_) | Token::EOF => {}
            other => self.chain += usize::from(!is_text(other)),
        }
    }

    fn close(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        self.cases -= frame.cases;
        self.closed = frame.before;
        if let Some((start, items)) = frame.cube {
            let sets = 1_usize.checked_shl(items).unwrap_or(usize::MAX);
            self.weight = self.weight.saturating_add(sets.saturating_mul(self.weight - start));
        }
        if let Some((name, start)) = frame.body {
            let own = self.weight - start;
            self.weight = self.weight.saturating_add(own);
            let known = self.bodies.entry(name).or_default();
            *known = own.max(*known);
        }
    }

    fn take_word(&mut self, word: &Word, before: Option<&Token>, after: Option<&Token>) {
        use Keyword::{
            AND, AS, AT, BETWEEN, CASE, COLLATE, DESC, DESCRIBE, END, ESCAPE, EXCEPT, EXPLAIN, FROM, GROUP, HAVING,
            ILIKE, IN, INTERSECT, IS, JOIN, LIKE, LIMIT, MATERIALIZED, MINUS, NOT, OR, ORDER, OVERLAPS, PRIOR, QUALIFY,
            REGEXP, RLIKE, SELECT, SIMILAR, UNION, WHERE, WINDOW, XOR,
        };
        let qualifies = matches!(after, Some(Token::Period)) || matches!(before, Some(Token::Period));
        if !qualifies && let Some(body) = self.bodies.get(&folded(word)) {
            self.weight = self.weight.saturating_add(*body);
        }
        if word.quote_style.is_some() {
            return;
        }
        match word.keyword {
            AS => {
                let list = matches!(before, Some(Token::RParen));
                let named = if list { self.closed.take() } else { None };
                self.name = if let Some(Token::Word(name)) = before { Some(folded(name)) } else { named };
            }
            NOT if after.is_some_and(|token| is_keyword(token, &[MATERIALIZED])) => {}
            FROM => self.top().in_from = true,
            SELECT | WHERE | GROUP | HAVING | ORDER | LIMIT | WINDOW | QUALIFY => self.top().in_from = false,
            CASE => {
                self.cases += 1;
                self.top().cases += 1;
            }
            END if self.top().cases > 0 => {
                self.cases -= 1;
                self.top().cases -= 1;
            }
            EXPLAIN | DESCRIBE => self.prefixes += 1,
            DESC if before.is_none_or(|token| is_keyword(token, &[DESC, DESCRIBE, EXPLAIN])) => self.prefixes += 1,
            UNION | INTERSECT | EXCEPT | MINUS => {
                self.top().in_from = false;
                self.chain += 1;
            }
            JOIN => self.chain += JOIN_WEIGHT,
            AND | OR | XOR | NOT | IS | LIKE | ILIKE | RLIKE | REGEXP | SIMILAR | IN | BETWEEN | COLLATE | AT
            | OVERLAPS | ESCAPE | PRIOR => self.chain += 1,
            _ => {}
        }
    }
}

fn folded(word: &Word) -> String {
    word.value.to_lowercase()
}

fn is_keyword(token: &Token, keywords: &[Keyword]) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && keywords.contains(&word.keyword))
}

/// Whether a token is a literal's text; all that is neither this nor a word nor a bracket is an operator.
fn is_text(token: &Token) -> bool {
    matches!(
        token,
        Token::Char(_)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::TripleSingleQuotedByteStringLiteral(_)
            | Token::TripleDoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::TripleSingleQuotedRawStringLiteral(_)
            | Token::TripleDoubleQuotedRawStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
    )
}

/// The first word, and with it the object of those that have one: `CREATE EXTERNAL TABLE`, `DROP VIEW`, `COPY`.
fn opening(tokens: &[Token]) -> String {
    use Keyword::{ALTER, CREATE, DATABASE, DROP, EXTERNAL, FUNCTION, INDEX, SCHEMA, TABLE, TRUNCATE, VIEW};
    let mut words = tokens.iter().filter(|token| !matches!(token, Token::SemiColon)).peekable();
    while words.next_if(|token| is_keyword(token, &[Keyword::EXPLAIN, Keyword::ANALYZE, Keyword::VERBOSE])).is_some() {}
    let Some(Token::Word(first)) = words.next() else { return "an empty statement".into() };
    let mut text = first.value.to_uppercase().chars().take(40).collect::<String>();
    if matches!(first.keyword, CREATE | DROP | ALTER | TRUNCATE) {
        let objects = [EXTERNAL, TABLE, VIEW, SCHEMA, DATABASE, FUNCTION, INDEX];
        for token in words.take(4).filter(|token| is_keyword(token, &objects)) {
            text = format!("{text} {}", token.to_string().to_uppercase());
        }
    }
    text
}
