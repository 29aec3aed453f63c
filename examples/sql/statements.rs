//! Where one statement ends and the next begins.
//!
//! Only what may hide a semicolon is looked at: quotes and comments. What a statement means is the engine's affair.

/// A text cut at its semicolons.
pub(crate) struct Statements<'a> {
    /// Those that a semicolon ends, without it, and without those that are empty.
    pub(crate) whole: Vec<&'a str>,
    /// What follows the last semicolon; empty if there are only spaces and comments.
    pub(crate) rest: &'a str,
}

/// Cuts `text`.
pub(crate) fn split(text: &str) -> Statements<'_> {
    let mut whole = Vec::new();
    let mut begin = 0;
    // Whether anything but spaces and comments was seen since `begin`.
    let mut has_words = false;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        match (character, next) {
            ('\'' | '"', _) => {
                has_words = true;
                // A doubled quote ends one quotation and begins another, which comes to the same.
                characters.by_ref().find(|(_, other)| *other == character);
            }
            ('-', Some('-')) => {
                characters.by_ref().find(|(_, other)| *other == '\n');
            }
            ('/', Some('*')) => {
                characters.next();
                let mut depth = 1;
                while depth > 0
                    && let Some((_, character)) = characters.next()
                {
                    let next = characters.peek().map(|(_, next)| *next);
                    match (character, next) {
                        ('*', Some('/')) => depth -= 1,
                        ('/', Some('*')) => depth += 1,
                        _ => continue,
                    }
                    characters.next();
                }
            }
            (';', _) => {
                if has_words {
                    whole.push(text.get(begin..at).unwrap_or("").trim());
                }
                begin = at + 1;
                has_words = false;
            }
            _ => has_words |= !character.is_whitespace(),
        }
    }
    // Its end may be inside a quotation, so spaces there stay.
    let rest = if has_words { text.get(begin..).unwrap_or("").trim_start() } else { "" };
    Statements { whole, rest }
}
