//! Characters to tokens.

use super::Problem;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// `add`, `%r1`, `$L__BB0_2`, `_Z3foov`.
    Name(&'a str),
    /// `.f32`, `.L1::no_allocate`, without the dot.
    Dot(&'a str),
    Integer(u64),
    /// The bits of `0f3F800000`.
    Single(u32),
    /// The bits of `0d3FF0000000000000`, or of a decimal number.
    Double(u64),
    /// What is between two quotes.
    Text(&'a str),
    Symbol(char),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Lexeme<'a> {
    pub(super) token: Token<'a>,
    pub(super) line: u32,
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%')
}

pub(super) fn lex(text: &str) -> Result<Vec<Lexeme<'_>>, Problem> {
    let bytes = text.as_bytes();
    let mut lexemes = Vec::with_capacity(text.len() / 4);
    let (mut at, mut line) = (0, 1);
    let run = |from: usize, part: fn(u8) -> bool| from + bytes[from..].iter().take_while(|byte| part(**byte)).count();
    while at < bytes.len() {
        let start = at;
        let next = bytes.get(at + 1).copied().unwrap_or(0);
        let token = match bytes[at] {
            b'\n' => {
                line += 1;
                at += 1;
                continue;
            }
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'/' if next == b'/' => {
                at = run(at, |byte| byte != b'\n');
                continue;
            }
            b'/' if next == b'*' => {
                let length = text[at..].find("*/").ok_or(Problem::new(line, "a comment without an end"))? + 2;
                line += bytes[at..at + length].iter().filter(|byte| **byte == b'\n').count() as u32;
                at += length;
                continue;
            }
            b'"' => {
                let length = text[at + 1..].find('"').ok_or(Problem::new(line, "a string without an end"))?;
                at += length + 2;
                Token::Text(&text[start + 1..at - 1])
            }
            b'.' if is_name(next) => {
                at = run(at + 1, is_name);
                while bytes[at..].starts_with(b"::") {
                    at = run(at + 2, is_name);
                }
                Token::Dot(&text[start + 1..at])
            }
            byte if byte.is_ascii_digit() => {
                at = run(at, |byte| byte.is_ascii_alphanumeric());
                // `1.5`, and `1e-5`: decimal numbers are doubles.
                if bytes.get(at) == Some(&b'.') && !text[start..at].starts_with("0x") {
                    at = run(at + 1, |byte| byte.is_ascii_alphanumeric());
                    if matches!(bytes[at - 1], b'e' | b'E') && matches!(bytes.get(at), Some(b'-' | b'+')) {
                        at = run(at + 1, |byte| byte.is_ascii_digit());
                    }
                }
                number(&text[start..at])
                    .ok_or_else(|| Problem::new(line, format!("no number: {}", &text[start..at])))?
            }
            byte if is_name(byte) => {
                at = run(at, is_name);
                Token::Name(&text[start..at])
            }
            byte if byte.is_ascii() => {
                at += 1;
                Token::Symbol(byte as char)
            }
            _ => return Err(Problem::new(line, "a character outside of ASCII")),
        };
        lexemes.push(Lexeme { token, line });
    }
    Ok(lexemes)
}

fn number(text: &str) -> Option<Token<'_>> {
    let (head, tail) = text.split_at(text.len().min(2));
    match head {
        "0f" | "0F" => return u32::from_str_radix(tail, 16).ok().map(Token::Single),
        "0d" | "0D" => return u64::from_str_radix(tail, 16).ok().map(Token::Double),
        _ => {}
    }
    let whole = text.trim_end_matches(['U', 'u']);
    let tail = whole.get(2..).unwrap_or("");
    let integer = match head {
        "0x" | "0X" => u64::from_str_radix(tail, 16),
        "0b" | "0B" => u64::from_str_radix(tail, 2),
        _ if whole.len() > 1 && whole.starts_with('0') => u64::from_str_radix(&whole[1..], 8),
        _ => whole.parse(),
    };
    match integer {
        Ok(value) => Some(Token::Integer(value)),
        Err(_) => text.parse::<f64>().ok().map(|value| Token::Double(value.to_bits())),
    }
}
