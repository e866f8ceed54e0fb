//! The notation `dice(squared=true) + 0.5*focal(gamma=2)`: text to calls.
//!
//! ```text
//! spec  := ["-"] term (("+" | "-") term)*
//! term  := [number "*"] call
//! call  := name ["(" [key "=" value ("," key "=" value)*] ")"]
//! value := number ["/" number] | word | "[" number ("," number)* (";" …)* "]"
//! ```

/// A value in a spec string.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `0.5`, `1e-5`, `4/3`
    Number(f64),
    /// `true`, `square`, `none`
    Word(String),
    /// `[0, 1; 1, 0]`: rows of numbers
    List(Vec<Vec<f64>>),
    /// No value at all; no parameter accepts it.
    Nothing,
}

/// One `weight * name(key=value, …)`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) weight: f64,
    pub(crate) name: String,
    /// Byte position of the name.
    pub(crate) position: usize,
    pub(crate) arguments: Vec<(String, Value)>,
}

/// What was expected where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) position: usize,
    pub(crate) expected: &'static str,
}

/// Longest spec string that is read.
pub(crate) const LENGTH_MAX: usize = 1 << 16;

pub(crate) fn parse(text: &str) -> Result<Vec<Call>, SyntaxError> {
    if text.len() > LENGTH_MAX {
        return Err(SyntaxError { position: LENGTH_MAX, expected: "the end: a spec string has at most 65536 bytes" });
    }
    let mut reader = Reader { text, at: 0 };
    let mut calls = Vec::new();
    let mut sign = if reader.take('-') { -1.0 } else { 1.0 };
    loop {
        calls.push(reader.term(sign)?);
        sign = if reader.take('+') {
            1.0
        } else if reader.take('-') {
            -1.0
        } else if reader.rest().is_empty() {
            return Ok(calls);
        } else {
            return Err(reader.expected("+, - or the end"));
        };
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    /// What is left, without leading white space.
    fn rest(&mut self) -> &'t str {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed
    }
    fn expected(&self, expected: &'static str) -> SyntaxError {
        SyntaxError { position: self.at, expected }
    }
    fn take(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }
    fn must(&mut self, c: char, expected: &'static str) -> Result<(), SyntaxError> {
        if self.take(c) { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn term(&mut self, sign: f64) -> Result<Call, SyntaxError> {
        let mut weight = sign;
        let starts_number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        if starts_number(self.rest()) {
            weight *= self.number()?;
            self.must('*', "* and a loss after the factor")?;
        }
        self.rest();
        let position = self.at;
        let name = self.word("the name of a loss")?;
        let mut arguments: Vec<(String, Value)> = Vec::new();
        if self.take('(') && !self.take(')') {
            loop {
                self.rest();
                let at = self.at;
                let key = self.word("a key")?;
                if arguments.iter().any(|(known, _)| *known == key) {
                    return Err(SyntaxError { position: at, expected: "each key only once" });
                }
                self.must('=', "= after the key")?;
                arguments.push((key, self.value()?));
                if self.take(')') {
                    break;
                }
                self.must(',', ", or ) after the value")?;
            }
        }
        Ok(Call { weight, name, position, arguments })
    }

    fn word(&mut self, expected: &'static str) -> Result<String, SyntaxError> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.expected(expected));
        }
        self.at += end;
        Ok(rest[..end].to_string())
    }

    /// An unsigned or signed decimal number; never "inf" or "nan".
    fn number(&mut self) -> Result<f64, SyntaxError> {
        let rest = self.rest();
        let mut end = 0;
        for (i, c) in rest.char_indices() {
            let after_exponent = i > 0 && matches!(rest.as_bytes()[i - 1], b'e' | b'E');
            let sign = matches!(c, '+' | '-') && (i == 0 || after_exponent);
            if !(c.is_ascii_digit() || c == '.' || sign || (matches!(c, 'e' | 'E') && i > 0)) {
                break;
            }
            end = i + 1;
        }
        let number = rest[..end].parse::<f64>().ok().filter(|x| x.is_finite());
        let number = number.ok_or(self.expected("a finite number"))?;
        self.at += end;
        Ok(number)
    }

    fn value(&mut self) -> Result<Value, SyntaxError> {
        if self.take('[') {
            let mut rows = vec![Vec::new()];
            loop {
                let number = self.number()?;
                rows.last_mut().expect("there is a row").push(number);
                if self.take(']') {
                    return Ok(Value::List(rows));
                } else if self.take(';') {
                    rows.push(Vec::new());
                } else {
                    self.must(',', ", ; or ] in the list")?;
                }
            }
        }
        if self.rest().starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Ok(Value::Word(self.word("a value")?));
        }
        let at = self.at;
        let mut number = self.number()?;
        if self.take('/') {
            number /= self.number()?;
            if !number.is_finite() {
                return Err(SyntaxError { position: at, expected: "a finite fraction" });
            }
        }
        Ok(Value::Number(number))
    }
}
