//! A JSON reader, for the metadata; in a project of your own this is serde_json.

use std::{iter::Peekable, str::Chars};

#[derive(Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn parse(text: &str) -> Result<Json, String> {
        let mut rest = text.chars().peekable();
        match (value(&mut rest), space(&mut rest)) {
            (Some(json), None) => Ok(json),
            _ => Err("the metadata is no JSON".into()),
        }
    }

    /// The value under a key; null where there is none.
    pub fn get(&self, key: &str) -> &Json {
        let Json::Object(pairs) = self else { return &Json::Null };
        pairs.iter().find(|(name, _)| name == key).map_or(&Json::Null, |(_, value)| value)
    }

    pub fn number(&self) -> Result<f64, String> {
        if let Json::Number(x) = self {
            Ok(*x)
        } else {
            Err(format!("{self:?} is no number"))
        }
    }

    pub fn list(&self) -> Option<&[Json]> {
        if let Json::List(items) = self {
            Some(items)
        } else {
            None
        }
    }

    pub fn text(&self) -> Option<&str> {
        if let Json::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }
}

/// Past white space; the next character.
fn space(rest: &mut Peekable<Chars>) -> Option<char> {
    while rest.next_if(|c| " \t\r\n".contains(*c)).is_some() {}
    rest.peek().copied()
}

fn value(rest: &mut Peekable<Chars>) -> Option<Json> {
    match space(rest)? {
        '{' => {
            let mut pairs = Vec::new();
            items(rest, '}', |rest| {
                space(rest)?;
                let key = string(rest)?;
                (space(rest)? == ':').then(|| rest.next())?;
                pairs.push((key, value(rest)?));
                Some(())
            })?;
            Some(Json::Object(pairs))
        }
        '[' => {
            let mut list = Vec::new();
            items(rest, ']', |rest| {
                list.push(value(rest)?);
                Some(())
            })?;
            Some(Json::List(list))
        }
        '"' => string(rest).map(Json::Text),
        _ => {
            let mut word = String::new();
            while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || "+-.".contains(*c)) {
                word.push(c);
            }
            match word.as_str() {
                "null" => Some(Json::Null),
                "true" => Some(Json::Bool(true)),
                "false" => Some(Json::Bool(false)),
                _ => word.parse().ok().map(Json::Number),
            }
        }
    }
}

/// What stands between an opening bracket and `close`, with commas between.
fn items(
    rest: &mut Peekable<Chars>,
    close: char,
    mut item: impl FnMut(&mut Peekable<Chars>) -> Option<()>,
) -> Option<()> {
    rest.next();
    if space(rest)? == close {
        rest.next();
        return Some(());
    }
    loop {
        item(rest)?;
        space(rest)?;
        match rest.next()? {
            ',' => continue,
            c if c == close => return Some(()),
            _ => return None,
        }
    }
}

fn string(rest: &mut Peekable<Chars>) -> Option<String> {
    let mut units: Vec<u16> = Vec::new(); // UTF-16: a \u escape may be half of a pair
    (rest.next()? == '"').then_some(())?;
    loop {
        let c = match rest.next()? {
            '"' => return String::from_utf16(&units).ok(),
            '\\' => match rest.next()? {
                'u' => {
                    let digits: String = rest.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).ok()?);
                    continue;
                }
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                c => c,
            },
            c => c,
        };
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
}
